"""What came out: scores with intervals, what more labels would buy, errors to read.

The test set is asked here, once. Everything that is chosen, and every error that is shown, is of
the validation set: whoever reads the test's errors and mends the data by them has used it up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from course_utils.intervals import Interval
from course_utils.metrics import class_scores, expected_calibration_error, reliability_bins
from course_utils.own_data.decisions import Decision, gain, headline, with_intervals
from course_utils.own_data.goals import Goal
from course_utils.own_data.parts import Part

MODEL, LINEAR, SAME = "fine-tuned", "counted words", "always the same"


@dataclass(frozen=True)
class CurvePoint:
    """Scores on validation after training on so many rows; no model if time was short."""

    rows: int
    linear: float
    model: float | None


@dataclass(frozen=True)
class ClassRow:
    """One class or tag on the test set."""

    name: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Mistake:
    """A validation row that the model judges otherwise than its label; `sure` says how surely."""

    row: int
    text: str
    label: str
    said: str
    sure: float


@dataclass(frozen=True)
class Outcome:
    """What the test set said.

    Attributes
    ----------
    rows : int
    scores : dict of str to dict of str to Interval
        For each model, for each score.
    better : Interval
        Headline score of the fine-tuned model less that of the counted words.
    classes : tuple of ClassRow
    confusion : ndarray of shape (C, C), or None
    reliability : dict of str to list, or None
        Of `metrics.ReliabilityBins`: what was said and what was true.
    calibration : dict of str to float
        Expected calibration error before and after the temperature.
    coverage : tuple of (float, float)
        Share of texts answered, the surest first, and accuracy among them.
    """

    rows: int
    scores: dict[str, dict[str, Interval]]
    better: Interval
    classes: tuple[ClassRow, ...]
    confusion: np.ndarray | None
    reliability: dict[str, list[float]] | None
    calibration: dict[str, float]
    coverage: tuple[tuple[float, float], ...]


def outcome(
    goal: Goal, test: Part, logits: np.ndarray, decision: Decision, others: Mapping[str, np.ndarray]
) -> Outcome:
    """Judge a model, and what others decided about the same rows, on the opened test set.

    Parameters
    ----------
    goal : Goal
    test : Part
    logits : ndarray of shape (N, C)
        Of the fine-tuned model.
    decision : Decision
    others : mapping of str to ndarray
        Decisions of the linear model and of saying always the same.
    """
    probabilities = decision.probabilities(goal, logits)
    said = decision.decide(goal, probabilities)
    scores = {
        name: with_intervals(goal, test.targets, each)
        for name, each in {MODEL: said, **others}.items()
    }
    sure, right = certainty(goal, probabilities, said, test.targets)
    raw = certainty(goal, Decision().probabilities(goal, logits), said, test.targets)[0]
    known = goal.kind != "rating"
    bins = reliability_bins(sure, right) if known else None
    return Outcome(
        rows=len(test),
        scores=scores,
        better=gain(goal, test.targets, said, others[LINEAR]),
        classes=_class_rows(goal, test.targets, said),
        confusion=class_scores(test.targets, said, len(goal.names)).confusion
        if goal.kind == "classes"
        else None,
        reliability={k: np.nan_to_num(v).tolist() for k, v in vars(bins).items()} if bins else None,
        calibration={
            "before": expected_calibration_error(raw, right),
            "after": expected_calibration_error(sure, right),
        }
        if known
        else {},
        coverage=_coverage(sure, right) if goal.kind == "classes" else (),
    )


def certainty(
    goal: Goal, probabilities: np.ndarray, said: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of what was said, and whether it was true (each tag by itself)."""
    if goal.kind == "classes":
        return probabilities[np.arange(len(said)), said], (said == targets).astype(int)
    if goal.kind == "tags":
        flat = probabilities.ravel()
        return np.where(said.ravel(), flat, 1 - flat), (said == targets).ravel().astype(int)
    return np.zeros(len(said)), np.zeros(len(said), dtype=int)


def mistakes(
    goal: Goal, part: Part, probabilities: np.ndarray, said: np.ndarray, most: int = 20
) -> tuple[Mistake, ...]:
    """Return the errors of which the model was surest, of ratings the farthest ones."""
    if goal.kind == "rating":
        size = np.abs(part.targets - said)
        order = np.argsort(-size)[:most]
        sure = size
    else:
        wrong = said != part.targets
        sure, _ = certainty(goal, probabilities, said, part.targets)
        if goal.kind == "tags":  # the surest wrong tag of each text
            sure = np.where(wrong, sure.reshape(wrong.shape), 0).max(axis=1)
            wrong = wrong.any(axis=1)
        order = np.array(
            [i for i in np.argsort(-sure, kind="stable") if wrong[i]][:most], dtype=int
        )
    return tuple(
        Mistake(
            part.rows[i],
            part.texts[i],
            goal.words(part.targets[i]),
            goal.words(said[i]),
            float(sure[i]),
        )
        for i in order
    )


def _class_rows(goal: Goal, targets: np.ndarray, said: np.ndarray) -> tuple[ClassRow, ...]:
    if goal.kind == "rating":
        return ()
    places = list(range(len(goal.names)))
    columns = precision_recall_fscore_support(targets, said, labels=places, zero_division=0.0)
    return tuple(
        ClassRow(name, int(rows), float(precision), float(recall), float(f1))
        for name, precision, recall, f1, rows in zip(goal.names, *columns, strict=True)
    )


def _coverage(sure: np.ndarray, right: np.ndarray) -> tuple[tuple[float, float], ...]:
    order = np.argsort(-sure, kind="stable")
    shares = (1.0, 0.9, 0.8, 0.6, 0.4)
    return tuple((s, float(right[order[: max(1, round(s * len(sure)))]].mean())) for s in shares)


# --- in words -----------------------------------------------------------------------------


def verdict(goal: Goal, better: Interval) -> str:
    """Return the sentence that a reader should take away.

    Examples
    --------
    >>> goal = Goal("classes", ("a", "b"), "")
    >>> print(verdict(goal, Interval(0.01, -0.02, 0.04)))
    No difference to counted words can be shown on this test set (macro F1 +0.010, 95% interval \
-0.020 to +0.040). The linear model is smaller and faster: use it, or test on more rows.
    """
    name, _ = headline(goal)
    by = f"{name} {better.value:+.3f}, 95% interval {better.low:+.3f} to {better.high:+.3f}"
    if better.low > 0:
        return f"The fine-tuned model is better than counted words ({by})."
    if better.high < 0:
        return (
            f"The fine-tuned model is worse than counted words ({by}). Use the linear model: here "
            "single words decide, or the encoder does not know this kind of text."
        )
    return (
        f"No difference to counted words can be shown on this test set ({by}). The linear model is "
        "smaller and faster: use it, or test on more rows."
    )


def what_more_buys(points: Sequence[CurvePoint], last: Interval | None, who: str) -> str:
    """Return what the learning curve says about more labels.

    Parameters
    ----------
    points : sequence of CurvePoint
        From few rows to all.
    last : Interval, optional
        What the last doubling of the training rows gained, on the validation set.
    who : str
        Whose curve it is.
    """
    if last is None or len(points) < 2:
        return "There are too few rows for a learning curve."
    half, full = points[-2].rows, points[-1].rows
    gained = f"{last.value:+.3f} (95% interval {last.low:+.3f} to {last.high:+.3f})"
    found = f"From {half:,} to {full:,} training rows, {who} gained {gained} on validation."
    if last.low > 0:
        return (
            f"{found} More labels will pay: twice as many ({2 * full:,}) can be expected to bring "
            "as much again at best, and usually somewhat less."
        )
    if last.high < 0.02:
        return (
            f"{found} More labels of this kind would buy next to nothing: better ones might, or "
            "clearer rules for the doubtful cases."
        )
    return (
        f"{found} Whether more labels would help cannot be told from so few validation rows: the "
        "interval holds no gain at all, and a useful one."
    )
