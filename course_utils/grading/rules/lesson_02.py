"""Rules of lesson 02: texts mended, splits and batches as they should be, pieces, label types."""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from course_utils.grading.checks import Case, Predicate, Trial
from course_utils.grading.wire import Plain, Tensor

# --- cleaning --------------------------------------------------------------------------------


def texts_of(trials: Sequence[Trial]) -> list[str]:
    """Return all cleaned texts."""
    return [text for t in trials for text in t.outcome.value[0]]


def entities_left(trials: Sequence[Trial]) -> bool:
    """Return True if some text still holds an entity."""
    return any(html.unescape(text) != text for text in texts_of(trials))


def spaces_left(trials: Sequence[Trial]) -> bool:
    """Return True if some text still holds needless white space."""
    return any(re.search(r"^\s|\s\s|[^\S ]|\s$", text) for text in texts_of(trials))


def record_wrong(trials: Sequence[Trial]) -> bool:
    """Return True if only the record is wrong."""
    return all(t.outcome.value[0] == t.expected.value[0] for t in trials)


# --- draws with seeds ------------------------------------------------------------------------


def by_inputs(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Return the trials with the same inputs but for the seed together, in their order.

    Raises
    ------
    ValueError
        If an exception was raised: then there is nothing to compare.
    """
    if any(t.outcome.failure for t in trials):
        raise ValueError("an exception")
    groups: dict[int, list[Trial]] = {}
    for t in trials:
        groups.setdefault(len(next(iter(t.case.inputs.values()))), []).append(t)
    return list(groups.values())


def pairs_again(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Trial]]:
    """Yield what was called twice with the same arguments, from different global states."""
    for group in by_inputs(trials):
        first = {t.case.inputs["seed"]: t for t in group if t.case.inputs["state"] == 1}
        for t in group:
            if t.case.inputs["state"] == 2:
                yield first[t.case.inputs["seed"]], t


def some(true_of: Callable[[Case, Any], bool]) -> Predicate:
    """Return a predicate over trials: it holds for some of them."""
    return lambda trials: any(true_of(t.case, t.outcome.value) for t in trials)


def every(true_of: Callable[[Case, Any], bool]) -> Predicate:
    """Return a predicate over trials: it holds for all of them."""
    return lambda trials: all(true_of(t.case, t.outcome.value) for t in trials)


def not_repeated(trials: Sequence[Trial]) -> bool:
    """Return True if the same seed gave something else the second time."""
    return any(one.outcome.value != other.outcome.value for one, other in pairs_again(trials))


def seed_ignored(trials: Sequence[Trial]) -> bool:
    """Return True if all seeds gave the same."""
    return all(
        t.outcome.value == group[0].outcome.value for group in by_inputs(trials) for t in group
    )


# --- a split ---------------------------------------------------------------------------------

ROWS_OFF = 4  # rows of a class; two are asked for, but a right answer can have bad luck


def counts_off(case: Case, rows: Sequence[int], share: float | None = None) -> float:
    """Return how many rows the worst class is away from its share."""
    labels, wanted = case.inputs["labels"], share or case.inputs["share"]
    held = np.bincount(labels[list(rows)], minlength=labels.max() + 1)
    return float(np.abs(held - wanted * np.bincount(labels)).max())


def divides(case: Case, rows: Sequence[int]) -> bool:
    """Return True if a document lies on both sides."""
    documents = case.inputs["documents"]
    held = set(rows)
    inside = {documents[row] for row in held}
    return any(documents[row] in inside for row in range(len(documents)) if row not in held)


def rows_once(case: Case, rows: Sequence[int]) -> bool:
    """Return True if these are different row numbers."""
    return len(set(rows)) == len(rows) and set(rows) <= set(range(len(case.inputs["labels"])))


def good_hold_out(case: Case, expected: Plain, value: Any) -> bool:
    """Return True if a split is whole, and in proportion."""
    return (
        rows_once(case, value) and not divides(case, value) and counts_off(case, value) <= ROWS_OFF
    )


def repeats_and_varies(trials: Sequence[Trial]) -> bool:
    """Return True if a seed gives its rows again, and every seed others."""
    for group in by_inputs(trials):
        seeds = {t.case.inputs["seed"] for t in group}
        if len({tuple(sorted(t.outcome.value)) for t in group}) != len(seeds):
            return False
    return not not_repeated(trials)


not_rows = some(lambda case, rows: not rows_once(case, rows))
some_divide = some(divides)
some_unbalanced = some(lambda case, rows: counts_off(case, rows) > ROWS_OFF)
the_rest = every(lambda case, rows: counts_off(case, rows, 1 - case.inputs["share"]) <= ROWS_OFF)

# --- pieces ----------------------------------------------------------------------------------


def is_right(trial: Trial) -> bool:
    """Return True if the pieces are right."""
    return bool(trial.outcome.value == trial.expected.value)


def too_long(trials: Sequence[Trial]) -> bool:
    """Return True if there are more than max_tokens pieces."""
    return any(len(t.outcome.value) > t.case.inputs["max_tokens"] for t in trials)


def unframed(trials: Sequence[Trial]) -> bool:
    """Return True if a mark is missing, in front or at the end."""
    return any([*t.outcome.value[:1], *t.outcome.value[-1:]] != ["[CLS]", "[SEP]"] for t in trials)


def unknown_wrong(trials: Sequence[Trial]) -> bool:
    """Return True if words with an unknown letter are wrong, and other words right."""
    uncut = [t for t in trials if len(t.expected.value) < t.case.inputs["max_tokens"]]
    unknown = ["[UNK]" in t.expected.value for t in uncut]
    return [not is_right(t) for t in uncut] == unknown and any(unknown)


# --- a batch ---------------------------------------------------------------------------------


def with_label_type(value: Plain) -> Plain:
    """Add of what kind a batch's labels are: float types of other width compare as equal."""
    labels = value.get("labels")
    return value | {"dtype of labels": labels.dtype if isinstance(labels, Tensor) else None}


# --- batches of similar length ---------------------------------------------------------------

Batches = list[list[int]]
MOST_PADDING = 0.06
MOST_COMPANY = 0.8


def padding(case: Case, batches: Batches) -> float:
    """Return the share of positions that hold padding."""
    lengths = case.inputs["lengths"]
    positions = sum(len(batch) * lengths[batch].max() for batch in batches)
    return float(1 - lengths.sum() / positions)


def loses(case: Case, batches: Batches) -> bool:
    """Return True if not every row is there once."""
    rows = sorted(row for batch in batches for row in batch)
    return rows != list(range(len(case.inputs["lengths"])))


def wrong_size(case: Case, batches: Batches) -> bool:
    """Return True if a batch is too large, or more than one of them too small."""
    size = case.inputs["batch_size"]
    return max(map(len, batches)) > size or sum(len(batch) < size for batch in batches) > 1


def in_order(case: Case, batches: Batches) -> bool:
    """Return True if the batches come by length, short or long ones first."""
    means = [case.inputs["lengths"][batch].mean() for batch in batches]
    return abs(float(np.corrcoef(means, np.arange(len(means)))[0, 1])) > 0.7


def meet_again(one: Batches, other: Batches) -> float:
    """Return the share of pairs in a batch that are together in another epoch too."""
    first, second = (
        {pair for batch in batches for pair in combinations(sorted(batch), 2)}
        for batches in (one, other)
    )
    return len(first & second) / max(1, len(first))


def same_company(trials: Sequence[Trial]) -> bool:
    """Return True if the same rows share a batch with another seed too."""
    return any(
        meet_again(group[0].outcome.value, group[1].outcome.value) >= MOST_COMPANY
        for group in by_inputs(trials)
    )


def good_batches(case: Case, expected: Plain, value: Any) -> bool:
    """Return True if an epoch is complete, hardly padded and shuffled."""
    return (
        not (loses(case, value) or wrong_size(case, value) or in_order(case, value))
        and padding(case, value) <= MOST_PADDING
    )


def repeats_and_mixes(trials: Sequence[Trial]) -> bool:
    """Return True if a seed gives its batches again, and another seed other company."""
    return not not_repeated(trials) and not same_company(trials)


some_lose = some(loses)
some_wrong_size = some(wrong_size)
some_padded = some(lambda case, batches: padding(case, batches) > MOST_PADDING)
some_in_order = some(in_order)
