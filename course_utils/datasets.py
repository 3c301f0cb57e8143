"""Real reviews: load, clean, and say what the model is to predict.

The four corpora come from C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text", ICWSM 2014: English sentences, each
rated by about 20 people from -4 (most negative) to +4 (most positive). They are part of
the source distribution of the PyPI package vaderSentiment 3.3.2 (MIT).

Left out on purpose: a data frame. A tuple of typed rows is enough for ten thousand
sentences, and a student sees what is in it.
"""

import html
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, overload

import numpy as np

from course_utils.sources import REVIEWS, fetch

CORPORA = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}
Target = Literal["binary", "three_class", "rating"]
CLASS_NAMES = {
    "binary": ("negative", "positive"),
    "three_class": ("negative", "neutral", "positive"),
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rated sentence.

    Attributes
    ----------
    id : str
        Unique within its corpus; ``"12_3"`` is sentence 3 of document 12.
    document : str
        What must not be divided between training and test.
    text : str
    rating : float
        Mean of about 20 people's ratings, from -4 to +4.
    """

    id: str
    document: str
    text: str
    rating: float


@dataclass(frozen=True)
class Corpus(Sequence[Sentence]):
    """The sentences of one corpus, in file order, and what cleaning changed.

    Attributes
    ----------
    name : str
    sentences : tuple of Sentence
    cleaned : dict of str to int
        How many sentences had HTML entities decoded, and white space mended.
    """

    name: str
    sentences: tuple[Sentence, ...] = field(repr=False)
    cleaned: dict[str, int]

    def __len__(self) -> int:
        return len(self.sentences)

    @overload
    def __getitem__(self, index: int) -> Sentence: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sentence, ...]: ...
    def __getitem__(self, index: int | slice) -> Sentence | tuple[Sentence, ...]:
        return self.sentences[index]


def clean_text(text: str) -> str:
    """Decode HTML entities and reduce every run of white space to one blank.

    Examples
    --------
    >>> clean_text(" salt &amp;  pepper &lt;3 ")
    'salt & pepper <3'
    """
    return mend_spaces(decode_entities(text))


def decode_entities(text: str) -> str:
    """Decode HTML entities, also the ones that were encoded twice on their way here.

    Examples
    --------
    >>> decode_entities("great &amp;#38; &lt;cheap&gt;")
    'great & <cheap>'
    """
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return text


def mend_spaces(text: str) -> str:
    """Reduce every run of white space to one blank, and drop it at both ends."""
    return re.sub(r"\s+", " ", text).strip()


def load_corpus(name: str, *, clean: bool = True, cache: Path | None = None) -> Corpus:
    """Load one of the four corpora, fetching it on first use.

    Parameters
    ----------
    name : {"movies", "tweets", "amazon", "nyt"}
    clean : bool
        Decode HTML entities and mend white space (`clean_text`).
    cache : Path, optional
        See `sources.fetch`.

    Raises
    ------
    ValueError
        If there is no such corpus.
    DataError
        If the data cannot be fetched or verified.
    """
    if not isinstance(name, str) or name not in CORPORA:
        raise ValueError(f"unknown corpus {name!r}: choose from {', '.join(CORPORA)}")
    with tarfile.open(fetch(REVIEWS, cache)) as archive:
        file = archive.extractfile(f"hutto_ICWSM_2014/{CORPORA[name]}")
        assert file is not None  # the hash was checked: the file is there
        lines = file.read().decode("utf-8").splitlines()
    sentences, cleaned = [], Counter(entities=0, white_space=0)
    for line in lines:
        id_, rating, text = line.split("\t")
        decoded = decode_entities(text) if clean else text
        tidy = mend_spaces(decoded) if clean else decoded
        cleaned["entities"] += decoded != text
        cleaned["white_space"] += tidy != decoded
        sentences.append(Sentence(id_, id_.split("_")[0], tidy, float(rating)))
    return Corpus(name, tuple(sentences), dict(cleaned))


def targets(sentences: Sequence[Sentence], target: Target = "binary") -> np.ndarray:
    """Return what the model is to predict, one value per sentence.

    Parameters
    ----------
    sentences : sequence of Sentence, length N
    target : {"binary", "three_class", "rating"}
        ``"binary"``: 1 if the mean rating is above zero, else 0.
        ``"three_class"``: 0 if the rating is at most -0.5, 2 if at least +0.5, else 1.
        ``"rating"``: the mean rating itself, from -4 to +4.

    Returns
    -------
    ndarray of shape (N,)
        int64 for classes, float32 for ratings.

    Raises
    ------
    ValueError
        If there is no such target, or a rating is missing or infinite.

    Examples
    --------
    >>> rows = [Sentence("1", "1", "fine", 0.4), Sentence("2", "2", "dreadful", -2.5)]
    >>> targets(rows, "binary"), targets(rows, "three_class")
    (array([1, 0]), array([1, 0]))
    """
    ratings = np.array([sentence.rating for sentence in sentences], dtype=np.float32)
    if not np.isfinite(ratings).all():  # NaN > 0 is False: it would become a class without a word
        first = sentences[int(np.flatnonzero(~np.isfinite(ratings))[0])]
        raise ValueError(f"sentence {first.id!r} has no rating: {first.rating}")
    if target == "rating":
        return ratings
    if target == "binary":
        return (ratings > 0).astype(np.int64)
    if target == "three_class":
        return np.digitize(ratings, [-0.5 + 1e-6, 0.5 - 1e-6])
    raise ValueError(f"unknown target {target!r}: choose from binary, three_class, rating")
