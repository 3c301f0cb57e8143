"""Has a stream gone down? Charts that add up small evidence, with a known rate of false alarms.

One bad editorial says little, twenty in a row say much. CUSUM (E. Page, "Continuous Inspection
Schemes", 1954) adds what lies below an allowance and forgets at zero; EWMA (S. Roberts, "Control
Chart Tests Based on Geometric Moving Averages", 1959) is a mean that fades. Either gives an alarm
at a limit, and the limit is set on quiet history: drawn again with replacement, how long does it
take until a false alarm, on average? That is the *average run length*.

Unlike `monitoring`, which compares whole windows, these look at every value as it comes.
Left out on purpose: streams whose values depend on those before. A limit set by single draws
promises too much there; draw blocks.
"""

from typing import Any

import numpy as np

from course_utils.inputs import above_0, finite_number, numbers, whole_number


def standardised(values: Any, quiet: Any) -> np.ndarray:
    """Return values in standard deviations of the quiet history, from its mean.

    Raises
    ------
    ValueError
        If the history has fewer than two values, or all are equal.

    Examples
    --------
    >>> standardised([5.0], [1.0, 3.0]).tolist()
    [3.0]
    """
    history = numbers(quiet, "quiet")
    if history.ndim != 1 or len(history) < 2 or np.ptp(history) == 0:
        raise ValueError("the quiet history needs two values or more that differ")
    return (numbers(values, "values") - history.mean()) / history.std()


def cusum(z: Any, allowance: float = 0.5) -> np.ndarray:
    r"""Return how much evidence for a fall has gathered at each place.

    .. math:: S_t = \max(0,\; S_{t-1} - z_t - k), \quad S_0 = 0

    Parameters
    ----------
    z : array of shape (..., T)
        Standardised values; several streams at once are rows.
    allowance : float
        k, in standard deviations: half of the fall that is to be found soonest.

    Examples
    --------
    >>> cusum([0.0, -2.0, -1.0, 3.0], allowance=0.5).tolist()
    [0.0, 1.5, 2.0, 0.0]
    """
    z, k = numbers(z, "z").astype(float), finite_number(allowance, "allowance", least=0)
    sums, total = np.empty_like(z), np.zeros(z.shape[:-1])
    for t in range(z.shape[-1]):
        total = np.maximum(0, total - z[..., t] - k)
        sums[..., t] = total
    return sums


def ewma(z: Any, weight: float = 0.1) -> np.ndarray:
    r"""Return minus the fading mean at each place, so that a fall is a large value, as in `cusum`.

    .. math:: E_t = (1 - \lambda) E_{t-1} - \lambda z_t, \quad E_0 = 0

    Parameters
    ----------
    z : array of shape (..., T)
    weight : float
        Above 0, at most 1; 1 looks at the last value alone.

    Examples
    --------
    >>> ewma([-1.0, -1.0], weight=0.5).tolist()
    [0.5, 0.75]
    """
    z, share = numbers(z, "z").astype(float), above_0(weight, "weight")
    if share > 1:
        raise ValueError(f"weight must be above 0 and at most 1, got {weight}")
    means, mean = np.empty_like(z), np.zeros(z.shape[:-1])
    for t in range(z.shape[-1]):
        mean = (1 - share) * mean - share * z[..., t]
        means[..., t] = mean
    return means


def first_alarm(chart: Any, limit: float) -> np.ndarray:
    """Return when each stream first passes the limit, counted from 1; T + 1 if it does not.

    Parameters
    ----------
    chart : array of shape (..., T)

    Examples
    --------
    >>> first_alarm([[0.0, 2.0, 5.0], [0.0, 0.0, 1.0]], limit=1.5).tolist()
    [2, 4]
    """
    beyond = numbers(chart, "chart") > finite_number(limit, "limit")
    return np.where(beyond.any(axis=-1), beyond.argmax(axis=-1), beyond.shape[-1]) + 1


def quiet_streams(quiet: Any, streams: int, length: int, seed: int) -> np.ndarray:
    """Return streams drawn from quiet history with replacement, shape (streams, length)."""
    generator = np.random.default_rng(whole_number(seed, "seed", least=0))
    return generator.choice(numbers(quiet, "quiet"), (streams, length))


def run_length(chart: Any, limit: float) -> float:
    """Return the average run length of streams without a change, until an alarm.

    Alarms come at random, so the time that was watched over the number of alarms is the mean
    wait for one, also where many streams end without: the usual estimate for censored times.

    Examples
    --------
    >>> run_length([[0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], limit=1.0)  # 2 + 4 for one alarm
    6.0
    """
    chart = numbers(chart, "chart")
    times, length = first_alarm(chart, limit), chart.shape[-1]
    alarms = int((times <= length).sum())
    return float(np.minimum(times, length).sum() / alarms) if alarms else float("inf")


def limit_for(chart: Any, wanted: float) -> float:
    """Return the lowest limit with at least the wanted average run length on quiet streams.

    Parameters
    ----------
    chart : array of shape (streams, T)
        A chart of quiet streams, several times as long as `wanted`.
    wanted : float
        At least 1: how many values there shall be on average until a false alarm.

    Raises
    ------
    ValueError
        If no limit that the charts reach makes false alarms so rare.

    Examples
    --------
    >>> limit_for([[1.0, 2.0, 1.0, 3.0]], wanted=4)  # above 2, the first alarm is at the fourth
    2.0
    """
    chart, wanted = numbers(chart, "chart"), finite_number(wanted, "wanted", least=1)
    levels = np.unique(chart)
    low, high = 0, len(levels) - 1
    if run_length(chart, levels[-2] if high else levels[0]) < wanted:
        raise ValueError(f"the quiet streams are too short or too few for one in {wanted:g} values")
    while low < high:  # the run length grows with the limit
        middle = (low + high) // 2
        if run_length(chart, levels[middle]) >= wanted:
            high = middle
        else:
            low = middle + 1
    return float(levels[low])
