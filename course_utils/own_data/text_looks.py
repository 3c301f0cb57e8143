"""Looks at the texts: whether the encoder can read them, to their end, and they are texts.

Each function looks for one thing and returns what it found, with the rows to look at.
"""

import re
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from course_utils.own_data.cleaning import Finding, Row, rows_of
from course_utils.own_data.goals import number
from course_utils.reading import lost_in_reading, within

SPOILT = re.compile("\ufffd|Ã[\u0080-\u00bf¡-ÿ]|â€|Ð[\u0080-\u00bf]|ï»¿")  # UTF-8 read as another
MARKUP = re.compile(r"&(amp|lt|gt|quot|nbsp|#\d+);|<(br|p|div|span|a|b|i)\b[^>]*>", re.I)


# --- what the model will read -------------------------------------------------------------


def suitable_length(tokens: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the shortest of some usual lengths at which hardly any text is cut.

    Twice the length costs more than twice the time, so 256 is the most that is chosen unasked.
    """
    usual = [n for n in (32, 64, 128, 256) if n <= tokenizer.model_max_length]
    enough = [n for n in usual if len(tokens) == 0 or np.mean(tokens > n) <= 0.02]
    return within(tokenizer, (enough or usual[-1:] or [tokenizer.model_max_length])[0])


def unknown_shares(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[int, float]:
    """Return the share of unknown words of a thousand texts at most, evenly spread, by place."""
    places = range(0, len(texts), max(1, len(texts) // 1000))
    return {
        place: lost_in_reading(tokenizer([texts[place][:5000]], verbose=False), tokenizer)[1]
        for place in places
    }


def unreadable(rows: Sequence[Row], shares: dict[int, float]) -> list[Finding]:
    """Find texts most of whose words the vocabulary does not know."""
    bad = [rows[place].number for place, share in shares.items() if share > 0.3]
    if not bad:
        return []
    all_in_all = len(bad) / len(shares)
    words = float(np.mean(list(shares.values())))
    said = (
        f"{words:.0%} of all words are unknown to the encoder, and {all_in_all:.0%} of the texts "
        "are unreadable to it (another language or script, emoji, codes)"
    )
    remedy = "Set COURSE_ENCODER to a model of this language, such as bert-base-chinese."
    weight = "warning" if all_in_all > 0.02 else "note"
    return [Finding(weight, "unreadable texts", said, tuple(bad), remedy)]  # type: ignore[arg-type]


def cut_texts(rows: Sequence[Row], tokens: np.ndarray, max_tokens: int) -> list[Finding]:
    """Find texts whose end the model will not read."""
    cut = [row.number for row, length in zip(rows, tokens, strict=True) if length > max_tokens]
    if not cut:
        return []
    said = (
        f"{rows_of(cut)} more than {max_tokens} tokens and will be cut there: what stands behind "
        "is not read"
    )
    remedy = "Raise --max-tokens if the end matters, or divide long texts (and give --group)."
    weight = "warning" if len(cut) > 0.05 * len(rows) else "note"
    return [Finding(weight, "cut texts", said, tuple(cut), remedy)]  # type: ignore[arg-type]


# --- texts --------------------------------------------------------------------------------


def no_words(rows: Sequence[Row]) -> list[Finding]:
    """Find a column that holds no texts: numbers, or one code in each row."""
    if not rows:
        return []
    if all(number(row.text) is not None for row in rows):
        said = "every text is a number: there is nothing to read"
        return [Finding("stop", "no text", said, remedy="Choose another column with --text.")]
    # Chinese and Japanese have no blanks, so one "word" may be a whole sentence: count letters too.
    if np.median([len(row.text.split()) for row in rows]) <= 1 and (
        np.median([len(row.text) for row in rows]) < 4
    ):
        said = "most texts are one short word: is this the column of texts?"
        return [Finding("warning", "hardly any text", said)]
    return []


def odd_lengths(rows: Sequence[Row]) -> list[Finding]:
    """Find texts that are much shorter or longer than the others."""
    if not rows:
        return []
    lengths = np.array([len(row.text) for row in rows])
    usual, found = float(np.median(lengths)), []
    short = [row.number for row in rows if not re.search(r"\w", row.text)]
    if short:
        said = f"{rows_of(short)} no letter and no digit in its text: a model sees marks only"
        found.append(Finding("warning", "empty of words", said, tuple(short)))
    long = [row.number for row, n in zip(rows, lengths, strict=True) if n > max(20 * usual, 2000)]
    if long:
        said = (
            f"{rows_of(long)} a text more than twenty times as long as is usual here "
            f"({usual:,.0f} letters): is a quotation mark missing, so that it swallowed others?"
        )
        found.append(Finding("warning", "very long texts", said, tuple(long)))
    return found


def spoilt_letters(rows: Sequence[Row]) -> list[Finding]:
    """Find letters spoilt by a wrong encoding, and marks of HTML."""
    spoilt = [row.number for row in rows if SPOILT.search(row.text)]
    marked = [row.number for row in rows if MARKUP.search(row.text)]
    found = []
    if spoilt:
        example = next(row.text for row in rows if row.number == spoilt[0])
        said = f"{rows_of(spoilt)} letters spoilt by a wrong encoding, such as {example[:40]!r}"
        remedy = "Export the file again as UTF-8, or name its encoding: --encoding NAME."
        found.append(Finding("warning", "spoilt letters", said, tuple(spoilt), remedy))
    if marked:
        said = f"{rows_of(marked)} marks of HTML in its text; the model reads them as words"
        remedy = "Harmless if the texts it will judge have them too."
        found.append(Finding("note", "HTML", said, tuple(marked), remedy))
    return found
