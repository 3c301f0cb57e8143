"""Rules of lesson 00: draws that repeat and harm nobody; how a spied-on model was called."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from course_utils.grading import compare
from course_utils.grading.checks import Case, Trial
from course_utils.grading.wire import Opaque, Plain


def is_pair(trials: Sequence[Trial]) -> bool:
    """Return True if what came is what ``tensor.max(dim=1)`` returns."""
    return all(t.outcome.value == Opaque("max") for t in trials)


# --- a draw ----------------------------------------------------------------------------------


def rows_of(trial: Trial) -> list[int]:
    """Return the rows that were drawn."""
    rows = trial.outcome.value["rows"]
    assert isinstance(rows, list)
    return rows


def by_labels(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Return the trials with the same labels together: they differ in their seeds."""
    groups: dict[bytes, list[Trial]] = {}
    for t in trials:
        groups.setdefault(t.case.inputs["labels"].values.tobytes(), []).append(t)
    return list(groups.values())


def pairs_again(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Trial]]:
    """Yield what was called twice with the same arguments, from different global states."""
    for group in by_labels(trials):
        first = {t.case.inputs["seed"]: t for t in group if t.case.inputs["state"] == 1}
        for t in group:
            if t.case.inputs["state"] == 2:
                yield first[t.case.inputs["seed"]], t


def class_counts(case: Case, rows: list[int]) -> list[int]:
    """Return how many of the rows are of each class."""
    labels = case.inputs["labels"].values
    return np.bincount(labels[rows], minlength=labels.max() + 1).tolist()


def good_draw(case: Case, expected: Plain, value: Any) -> bool:
    """Return True if a draw is balanced, without repeats, and moved no global generator."""
    rows = value["rows"]
    return (
        class_counts(case, rows) == class_counts(case, expected["rows"])
        and len(set(rows)) == len(rows)
        and min(rows) >= 0
        and compare.same(expected["next"], value["next"])
    )


def repeats_and_varies(trials: Sequence[Trial]) -> bool:
    """Return True if a seed gives its rows again, and most seeds give others."""
    return not never_repeats(trials) and all(
        len({tuple(sorted(rows_of(t))) for t in group}) > len(group) // 3
        for group in by_labels(trials)
    )


def not_rows(trials: Sequence[Trial]) -> bool:
    """Return True if a number is none of a row."""
    return any(
        not set(rows_of(t)) <= set(range(len(t.case.inputs["labels"].values))) for t in trials
    )


def never_repeats(trials: Sequence[Trial]) -> bool:
    """Return True if the same seed gave other rows the second time."""
    return any(rows_of(one) != rows_of(other) for one, other in pairs_again(trials))


def disturbs(trials: Sequence[Trial]) -> bool:
    """Return True if a global generator moved."""
    return any(not compare.same(t.expected.value["next"], t.outcome.value["next"]) for t in trials)


def ignores_seed(trials: Sequence[Trial]) -> bool:
    """Return True if all seeds gave the same rows."""
    return all(len({tuple(sorted(rows_of(t))) for t in group}) == 1 for group in by_labels(trials))


def of_wrong_size(trials: Sequence[Trial]) -> bool:
    """Return True if no draw has ``per_class`` rows of each class in total."""
    return all(len(rows_of(t)) != len(t.expected.value["rows"]) for t in trials)


def are_places(trials: Sequence[Trial]) -> bool:
    """Return True if each third or half of every draw lies within the size of its class."""
    for t in trials:
        n = t.case.inputs["per_class"]
        for c, size in enumerate(np.bincount(t.case.inputs["labels"].values)):
            if any(row >= size for row in rows_of(t)[c * n : (c + 1) * n]):
                return False
    return True


def has_repeats(trials: Sequence[Trial]) -> bool:
    """Return True if a row was drawn twice."""
    return any(len(set(rows_of(t))) < len(rows_of(t)) for t in trials)


def is_unbalanced(trials: Sequence[Trial]) -> bool:
    """Return True if the classes are not equally frequent in a draw."""
    return any(len(set(class_counts(t.case, rows_of(t)))) > 1 for t in trials)


# --- a prediction loop -----------------------------------------------------------------------

BUGS = ("training", "unmasked", "unordered")


def bugs_left(trials: Sequence[Trial]) -> set[str]:
    """Return which bugs the spied-on model has seen, and whether rows are out of place."""
    found = set()
    for t in trials:
        right, value = t.expected.value, t.outcome.value
        found |= {bug for bug in ("training", "unmasked") if value[bug]}
        names, came = (np.asarray(v["logits"].values)[:, 2] for v in (right, value))
        if len(names) == len(came) and not np.array_equal(names, came):
            found.add("unordered")
    return found


def same_logits(case: Case, expected: Plain, value: Any) -> bool:
    """Return True if the logits are right; how the model was called is for the diagnosis."""
    return compare.same(expected["logits"], value["logits"], 1e-4, 1e-5)


def of_wrong_shape(trials: Sequence[Trial]) -> bool:
    """Return True if the logits are not of shape (N, C)."""
    return any(
        t.outcome.value["logits"].values.shape != t.expected.value["logits"].values.shape
        for t in trials
    )


def leaves(name: str, trials: Sequence[Trial]) -> bool:
    """Return True where exactly the bugs of this diagnosis are left."""
    return bugs_left(trials) == (set(BUGS) if name == "untouched" else set(name.split("_and_")))
