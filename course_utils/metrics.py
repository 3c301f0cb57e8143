"""Numbers that judge a model: typed results over scikit-learn and SciPy.

Every average over classes says which average it is. Every number on a finite test set has
an interval: `bootstrap_interval` draws test rows with replacement and asks how much the
number moves (B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979).

Left out on purpose: our own formulas. Lesson 06 computes each metric by hand once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn import metrics as sk


@dataclass(frozen=True)
class ClassScores:
    """How well classes were predicted.

    Attributes
    ----------
    accuracy : float
    f1_macro : float
        F1 averaged over classes, each class counting the same.
    f1_weighted : float
        F1 averaged over classes, each counting by its number of rows.
    f1 : ndarray of shape (C,)
        F1 of each class alone.
    confusion : ndarray of shape (C, C)
        Row: true class. Column: predicted class.
    """

    accuracy: float
    f1_macro: float
    f1_weighted: float
    f1: np.ndarray
    confusion: np.ndarray


@dataclass(frozen=True)
class RatingScores:
    """How well ratings were predicted: Pearson's r, Spearman's rho, mean absolute error."""

    pearson: float
    spearman: float
    mean_absolute_error: float


@dataclass(frozen=True)
class Interval:
    """A number and the range in which it would probably lie on another sample of rows."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.level:.0%} interval {self.low:.3f} to {self.high:.3f})"


def class_scores(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> ClassScores:
    """Score predicted classes against true ones.

    Parameters
    ----------
    labels, predictions : int arrays of shape (N,)
        Classes from 0 to C - 1.
    num_classes : int
        C; a class that never occurs still has its row in the confusion matrix.

    Raises
    ------
    ValueError
        If the shapes differ, a class is out of range, or there is no row.

    Examples
    --------
    >>> scores = class_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    >>> scores.accuracy, scores.confusion.tolist()
    (0.75, [[1, 1], [0, 2]])
    """
    labels, predictions = _vectors(labels, predictions)
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.dtype.kind not in "biu" or values.min() < 0 or values.max() >= num_classes:
            raise ValueError(f"{name} must be whole classes from 0 to {num_classes - 1}")
    classes = list(range(num_classes))
    f1 = sk.f1_score(labels, predictions, labels=classes, average=None, zero_division=0.0)
    support = np.bincount(labels, minlength=num_classes)
    return ClassScores(
        accuracy=float(sk.accuracy_score(labels, predictions)),
        f1_macro=float(f1.mean()),
        f1_weighted=float(np.average(f1, weights=support)),
        f1=f1,
        confusion=sk.confusion_matrix(labels, predictions, labels=classes),
    )


def rating_scores(ratings: np.ndarray, predictions: np.ndarray) -> RatingScores:
    """Score predicted ratings against the mean of the human ratings.

    Parameters
    ----------
    ratings, predictions : arrays of shape (N,), N at least 2

    Raises
    ------
    ValueError
        If the shapes differ, as those of ratings (N,) and logits (N, 1) do.

    Examples
    --------
    >>> rating_scores(np.array([-1.0, 0.0, 2.0]), np.array([-0.5, 0.5, 2.5])).mean_absolute_error
    0.5
    """
    ratings, predictions = _vectors(ratings, predictions)
    return RatingScores(
        pearson=float(stats.pearsonr(ratings, predictions).statistic),
        spearman=float(stats.spearmanr(ratings, predictions).statistic),
        mean_absolute_error=float(np.abs(ratings - predictions).mean()),
    )


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: np.ndarray,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of a sample with its percentile bootstrap interval.

    Parameters
    ----------
    statistic : callable
        Takes as many arrays as given here and returns a number.
    *arrays : arrays with the same first dimension N
        Resampled together: row i of one always travels with row i of the others.
    level : float
        Between 0 and 1.
    resamples : int
    seed : int

    Raises
    ------
    ValueError
        If the arrays differ in length or are empty, or `level` or `resamples` is out of range.

    Examples
    --------
    >>> interval = bootstrap_interval(np.mean, np.array([1.0, 1.0, 0.0, 1.0]))
    >>> interval.value, interval.low <= 0.75 <= interval.high
    (0.75, True)
    """
    arrays = _paired(*arrays)
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"need a level between 0 and 1 and at least 1 resample, got {level} and {resamples}"
        )
    generator = np.random.default_rng(seed)
    size = len(arrays[0])
    draws = np.empty(resamples)
    for i in range(resamples):
        rows = generator.integers(size, size=size)
        draws[i] = statistic(*(array[rows] for array in arrays))
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(statistic(*arrays)), float(low), float(high), level)


def seed_interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean over training seeds with its Student-t interval.

    Parameters
    ----------
    values : array of shape (S,), S at least 2
        One number per seed.
    level : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or `level` is out of range.

    Examples
    --------
    >>> str(seed_interval(np.array([0.80, 0.82, 0.84])))
    '0.820 (95% interval 0.770 to 0.870)'
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"need one number per seed and at least two seeds, got {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    mean = float(values.mean())
    return Interval(mean, float(mean - half), float(mean + half), level)


def _paired(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the inputs as arrays, after checking that they have the same rows."""
    found = tuple(np.asarray(array) for array in arrays)
    if len({len(array) for array in found}) != 1 or len(found[0]) == 0:
        raise ValueError(f"need the same number of rows, at least 1; got {[len(a) for a in found]}")
    return found


def _vectors(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the inputs as arrays, after checking that each has shape (N,)."""
    found = _paired(*arrays)
    if any(array.ndim != 1 for array in found):
        raise ValueError(f"need arrays of shape (N,), got {[array.shape for array in found]}")
    return found
