"""Sentiment by looking words up: the lexicon of VADER, and the simplest of its rules.

The lexicon is that of C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text" (2014): about 7,500 words, slang and emoticons, each rated
by ten people from -4 to +4. It comes in the same archive as the reviews. Nothing in it was learned
from a labelled sentence, which is what makes it a baseline worth beating.

Left out on purpose: VADER's rules on degree words, capitals, exclamation marks and "but".
"""

import math
import tarfile
from collections.abc import Mapping
from pathlib import Path

from course_utils.sources import REVIEWS, fetch

NEGATIONS = {"not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "cannot"}
NEGATED = -0.74  # VADER's measured factor: "not good" is bad, but less than "good" is good
REACH = 3  # a negation turns the words up to three places after it


def load_lexicon(cache: Path | None = None) -> dict[str, float]:
    """Return the mean human rating of each word, slang or emoticon, from -4 to +4.

    Raises
    ------
    DataError
        If the archive cannot be fetched or verified.
    """
    with tarfile.open(fetch(REVIEWS, cache)) as archive:
        file = archive.extractfile("hutto_ICWSM_2014/vader_sentiment_lexicon.txt")
        assert file is not None  # the hash was checked: the file is there
        lines = file.read().decode("latin-1").split("\n")  # an emoticon is not valid UTF-8
    rows = [line.split("\t") for line in lines if line.strip()]
    return {row[0].strip().lower(): float(row[1]) for row in rows}


def bare(word: str, lexicon: Mapping[str, float]) -> str:
    """Take punctuation off a word, but not off an emoticon."""
    return word if word in lexicon else word.strip(".,;:!?\"'()[]*-")


def negates(word: str) -> bool:
    """Return True for "not", "never" and the like."""
    return word in NEGATIONS or word.endswith("n't")


def lexicon_score(text: str, lexicon: Mapping[str, float]) -> float:
    r"""Return how positive a text is, from -1 to +1, by the words in it.

    The ratings :math:`v` of its words, turned round after a negation, are added and squashed:

    .. math:: s / \sqrt{s^2 + 15}, \quad s = \sum v

    Examples
    --------
    >>> lexicon = {"good": 1.9, "dull": -1.7}
    >>> round(lexicon_score("Good, and never dull!", lexicon), 2)
    0.63
    >>> lexicon_score("A film.", lexicon)
    0.0
    """
    words = [bare(word, lexicon) for word in text.lower().split()]
    total = 0.0
    for place, word in enumerate(words):
        turned = any(negates(before) for before in words[max(0, place - REACH) : place])
        total += lexicon.get(word, 0.0) * (NEGATED if turned else 1.0)
    return total / math.sqrt(total * total + 15)
