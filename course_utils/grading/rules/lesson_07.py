"""Rules of lesson 07: gradients that overflow, and what may be wrong with an over-sampled fold."""

from collections.abc import Sequence

import numpy as np

from course_utils.grading import compare
from course_utils.grading.checks import Case, Trial
from course_utils.grading.wire import Plain


def right_but_for_large(trials: Sequence[Trial]) -> bool:
    """Tell whether all is right, except where logits are large and the result is not finite."""
    wrong = []
    for trial in trials:
        if not compare.same(trial.expected.value, trial.outcome.value):
            wrong.append(trial)
    return bool(wrong) and all(
        np.abs(trial.case.inputs["logits"]).max() > 100
        and not np.isfinite(trial.outcome.value).all()
        for trial in wrong
    )


def row_numbers(value: Plain) -> np.ndarray:
    """Return an answer as whole numbers of shape (K,), K at least 1.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    rows = np.asarray(value)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) == 0:
        raise ValueError("not row numbers")
    return rows


def fold_faults(inputs: dict[str, Plain], value: Plain) -> list[str]:
    """Return all that is wrong with an over-sampled fold; empty if nothing is."""
    labels, train, rows = inputs["labels"], inputs["train"], row_numbers(value)
    if not np.isin(rows, train).all():
        inside = len(rows) and rows.min() >= 0 and rows.max() < len(train)
        if inside and not fold_faults(inputs, train[rows]):
            return ["positions"]
        return ["leak"]
    sizes = np.bincount(labels[rows], minlength=labels.max() + 1)
    before = np.bincount(labels[train], minlength=labels.max() + 1)
    times = np.bincount(rows, minlength=len(labels))
    faults = []
    if len(rows) < len(train) and (sizes == before.min()).all():
        faults.append("undersampled")
    if np.array_equal(np.sort(rows), np.sort(train)) and len(set(before.tolist())) > 1:
        faults.append("unchanged")
    if (times[train] == 0).any():
        faults.append("lost_rows")
    if (sizes != before.max()).any():
        faults.append("not_balanced")
    if any(np.ptp(times[train[labels[train] == name]]) > 1 for name in np.unique(labels[train])):
        faults.append("uneven")
    return faults


def fold_agrees(case: Case, expected: Plain, value: Plain) -> bool:
    """Accept every draw that keeps the rules."""
    return not fold_faults(case.inputs, value)


def first_fault(name: str, trials: Sequence[Trial]) -> bool:
    """Return True if in the first case that has a fault, this one comes first."""
    found = [fold_faults(trial.case.inputs, trial.outcome.value) for trial in trials]
    return next(faults[0] for faults in found if faults) == name
