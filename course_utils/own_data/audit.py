"""A look at the data before any training: what a careful colleague would point out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from course_utils.own_data import label_looks, text_looks
from course_utils.own_data.cleaning import Finding, Row, class_counts, what_stops
from course_utils.own_data.goals import Goal
from course_utils.reading import within


@dataclass(frozen=True)
class Audit:
    """What was found in a table.

    Attributes
    ----------
    total, used : int
        Rows in the file, and those that can be used.
    counts : dict of str to int
        Usable rows of each class or tag.
    tokens : ndarray of shape (used,)
        Length of each usable text, uncut.
    max_tokens : int
        Where texts will be cut.
    unknown : float
        Share of words that the encoder's vocabulary does not know.
    findings : tuple of Finding
        What stops first, then warnings, then notes.
    """

    total: int
    used: int
    counts: dict[str, int]
    tokens: np.ndarray
    max_tokens: int
    unknown: float
    findings: tuple[Finding, ...]

    @property
    def stops(self) -> tuple[Finding, ...]:
        """The reasons why nothing can be trained."""
        return tuple(finding for finding in self.findings if finding.weight == "stop")


def audit(
    rows: Sequence[Row],
    goal: Goal,
    tokenizer: PreTrainedTokenizerBase,
    *,
    total: int,
    max_tokens: int | None = None,
    already: Sequence[Finding] = (),
) -> Audit:
    """Look at usable rows from all sides.

    Parameters
    ----------
    rows : sequence of Row
        From `cleaning.usable_rows`.
    goal : Goal
    tokenizer : PreTrainedTokenizerBase
    total : int
        Rows in the file.
    max_tokens : int, optional
        Where texts are cut; `text_looks.suitable_length` if not given.
    already : sequence of Finding
        What was found before.
    """
    texts = [row.text for row in rows]
    encoded = tokenizer(texts, verbose=False)["input_ids"] if texts else []
    tokens = np.array([len(ids) for ids in encoded], dtype=int)
    if max_tokens is None:
        max_tokens = text_looks.suitable_length(tokens, tokenizer)
    longest = within(tokenizer, max_tokens)
    shares = text_looks.unknown_shares(texts, tokenizer)
    looks = (
        what_stops(rows, goal),
        text_looks.no_words(rows),
        text_looks.unreadable(rows, shares),
        text_looks.cut_texts(rows, tokens, longest),
        text_looks.odd_lengths(rows),
        text_looks.spoilt_letters(rows),
        label_looks.near_equal_labels(rows, goal),
        label_looks.labels_for_missing(rows, goal),
        label_looks.answers_in_texts(rows, goal),
        label_looks.balance(rows, goal),
        label_looks.few_groups(rows, goal),
    )
    order = {"stop": 0, "warning": 1, "note": 2}
    found = [*already, *(finding for look in looks for finding in look)]
    return Audit(
        total=total,
        used=len(rows),
        counts=class_counts(rows, goal),
        tokens=tokens,
        max_tokens=longest,
        unknown=float(np.mean(list(shares.values()))) if shares else 0.0,
        findings=tuple(sorted(found, key=lambda finding: order[finding.weight])),
    )
