"""What a tokenizer could not read, and what it cut, said aloud.

A tokenizer accepts anything. Of a Chinese review an English vocabulary leaves a row of
``[UNK]``, of a novel its first page, and training runs all the same. The two shares are
measured here, and a `TextWarning` says so when they are large.

Left out on purpose: guessing the language. What counts is what this vocabulary makes of it.
"""

import warnings
from collections import defaultdict

from transformers import BatchEncoding, PreTrainedTokenizerBase

from course_utils.inputs import whole_number


class TextWarning(UserWarning):
    """Much of the texts does not reach the model."""


def within(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> int:
    """Return `max_tokens`, after checking that the encoder can read so many.

    Raises
    ------
    ValueError
        If the tokenizer's own marks leave no room for a word (it would then not cut at all),
        or the encoder has no position for the last token.
    """
    max_tokens = whole_number(max_tokens, "max_tokens")
    marks = tokenizer.num_special_tokens_to_add()
    if max_tokens <= marks:
        raise ValueError(
            f"max_tokens must be at least {marks + 1}, as {marks} tokens are the tokenizer's own "
            f"marks; got {max_tokens}"
        )
    if max_tokens > tokenizer.model_max_length:
        raise ValueError(
            f"max_tokens must be at most {tokenizer.model_max_length}, as the encoder reads no "
            f"more; got {max_tokens}"
        )
    return max_tokens


def lost_in_reading(
    encoded: BatchEncoding, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, float]:
    """Return how many texts were cut, and the share of words that the vocabulary does not know.

    A word is unknown if it became ``[UNK]``, as Chinese and emoji do, or was spelt in three or
    more single letters, as Russian and Arabic are: the model has hardly met it either way. The
    share is that of some thousand texts, evenly spread.

    Raises
    ------
    ValueError
        If a text has no token at all, so that there would be nothing to average.
    """
    if not encoded.encodings:
        raise ValueError("need a fast tokenizer (PreTrainedTokenizerFast): it says what it cut")
    if empty := [row for row, ids in enumerate(encoded["input_ids"]) if not ids]:
        raise ValueError(
            f"row {empty[0]} has no token: this tokenizer adds no marks, so drop empty texts"
        )
    words = unknown = 0
    for text in encoded.encodings[:: -(-len(encoded.encodings) // 1000)]:
        pieces: dict[int, list[str]] = defaultdict(list)
        for word, token in zip(text.word_ids, text.tokens, strict=True):
            if word is not None:
                pieces[word].append(token.removeprefix("##"))
        words += len(pieces)
        unknown += sum(
            tokenizer.unk_token in spelt or (len(spelt) > 2 and max(map(len, spelt)) == 1)
            for spelt in pieces.values()
        )
    return sum(bool(text.overflowing) for text in encoded.encodings), unknown / max(1, words)


def warn_of_losses(truncated: float, unknown: float, max_tokens: int) -> None:
    """Warn if more than a twentieth of the words is unknown, or of the texts is cut.

    In the course's four corpora, and in Python code, two words in ten thousand are unknown at
    most; in a language of another script it is more than half (Chinese reviews: 64%). Another
    language in Latin script is read in pieces, two a word, and is not noticed here. Of the
    course's own sentences, 64 tokens cut one in a hundred.
    """
    if unknown > 0.05:
        warnings.warn(
            f"{unknown:.0%} of the words are unknown to the tokenizer: its encoder was not "
            "trained on them (another language or script, emoji). Set COURSE_ENCODER to one that "
            "was, see the module `models`",
            TextWarning,
            stacklevel=3,  # the line that makes the dataset
        )
    if truncated > 0.05:
        warnings.warn(
            f"{truncated:.0%} of the texts have more than {max_tokens} tokens and were cut: what "
            "stood behind is not read. Raise max_tokens, or divide long texts",
            TextWarning,
            stacklevel=3,
        )
