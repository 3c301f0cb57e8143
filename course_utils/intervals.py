"""How sure a number is: intervals over test rows, over seeds, and a test for two models.

Every number on a finite test set has an interval: `bootstrap_interval` draws test rows with
replacement and asks how much the number moves (B. Efron, "Bootstrap Methods: Another Look at
the Jackknife", 1979).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from course_utils.inputs import between_0_and_1, finite_number, numbers, whole_number
from course_utils.metrics import paired_rows, paired_vectors


@dataclass(frozen=True)
class Interval:
    """A number and the range in which it would probably lie on another sample of rows.

    Raises
    ------
    ValueError
        If one of the three is no finite number.
    """

    value: float
    low: float
    high: float
    level: float = 0.95

    def __post_init__(self) -> None:
        if not np.isfinite([self.value, self.low, self.high]).all():
            raise ValueError(
                f"an interval needs finite numbers, got {self.value} from {self.low} to "
                f"{self.high}: the statistic has no value on some draw of rows, as when a class is "
                "missing from it"
            )

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.level:.0%} interval {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Disagreement:
    """Rows that only one of two models got right, and how surprising their imbalance is."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> Disagreement:
    """Test whether two models err equally often, on the same rows (Q. McNemar, 1947).

    Rows on which both are right, or both wrong, say nothing. Of the others, each model should
    win half by chance: an exact two-sided binomial test.

    Parameters
    ----------
    first_right, second_right : bool arrays of shape (N,)
        Whether each model was right about each row.

    Examples
    --------
    >>> mcnemar(np.array([1, 1, 1, 1, 0, 1]) == 1, np.array([0, 0, 0, 0, 1, 1]) == 1)
    Disagreement(only_first=4, only_second=1, p_value=0.375)
    """
    first, second = paired_vectors(first_right=first_right, second_right=second_right)
    if first.dtype != bool or second.dtype != bool:
        raise ValueError("need True where a model was right: pass predictions == labels")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p_value = stats.binomtest(only_first, differing).pvalue if differing else 1.0
    return Disagreement(only_first, only_second, float(p_value))


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
        At least 100: the ends of an interval are rare draws.
    seed : int

    Raises
    ------
    ValueError
        If the arrays differ in length, have fewer than two rows (of one row, every sample is
        the same) or a missing value, if `level` or `resamples` is out of range, or if the
        statistic is not a finite number on some resample.

    Examples
    --------
    >>> interval = bootstrap_interval(np.mean, np.array([1.0, 1.0, 0.0, 1.0]))
    >>> interval.value, interval.low <= 0.75 <= interval.high
    (0.75, True)
    """
    arrays = paired_rows(*arrays, least=2)
    tail = (1 - between_0_and_1(level, "level")) / 2
    resamples = whole_number(resamples, "resamples", least=100)
    generator = np.random.default_rng(whole_number(seed, "seed", least=0))
    value, size = finite_number(statistic(*arrays), "the statistic"), len(arrays[0])
    draws = np.empty(resamples)
    for i in range(resamples):
        rows = generator.integers(size, size=size)
        draws[i] = statistic(*(array[rows] for array in arrays))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high), level)


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
    values = numbers(values, "values").astype(float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"need one number per seed and at least two seeds, got {values.shape}")
    level = between_0_and_1(level, "level")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    mean = float(values.mean())
    return Interval(mean, float(mean - half), float(mean + half), level)
