"""Have the texts changed? Alarms with a known rate of false ones.

A model is trained on yesterday's texts. When today's differ (another product, another language, a
new way to write) its answers get worse, and nothing reports an error. What can be watched without
labels is whether numbers about the texts still come from where they came from: scores, lengths,
the share of unknown tokens. `DriftDetector` compares a window of them with a reference, by the
largest distance between the two distribution functions (Kolmogorov, 1933; Smirnov, 1939). How far
is too far, a permutation test says (Fisher, 1935): mix both and deal them out again, many times.

Left out on purpose: whether a change matters. That takes labels, or a person who reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_utils.inputs import between_0_and_1, numbers, whole_number

CHUNK = 256  # draws at a time, so that many of them need little memory


@dataclass(frozen=True)
class Drift:
    """What was found in a window.

    Attributes
    ----------
    distances : dict of str to float
        For each signal the largest distance between the distribution functions, from 0 to 1.
    limits : dict of str to float
        What it may be. Over all signals together, a window from where the reference comes
        exceeds its limits with the chosen probability.
    """

    distances: dict[str, float]
    limits: dict[str, float]

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the signals beyond their limits, the farthest first."""
        beyond = {
            name: self.distances[name] / limit if limit else np.inf
            for name, limit in self.limits.items()
            if self.distances[name] > limit
        }
        return tuple(sorted(beyond, key=lambda name: -beyond[name]))

    @property
    def alarm(self) -> bool:
        """Return whether any signal changed."""
        return bool(self.changed)


def ks_distance(first: Any, second: Any) -> float:
    """Return the largest distance between two samples' distribution functions.

    Examples
    --------
    >>> ks_distance([1, 2, 3, 4], [3, 4, 5, 6])  # half of the first lie below all of the second
    0.5
    """
    first, second = np.sort(numbers(first, "first")), np.sort(numbers(second, "second"))
    places = np.concatenate([first, second])
    below = [np.searchsorted(part, places, side="right") / len(part) for part in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


class DriftDetector:
    """Compares windows of signals with a reference.

    How far a window may lie is not taken from a formula, which holds for one signal without ties.
    Lengths are whole numbers, most texts have no unknown token, and signals depend on each other.
    So window and reference are mixed and dealt out again, all signals of a text together. If
    nothing changed, the window is one deal among the others, and lies farther than all but a
    share of them with a probability of that share: exactly, for any signals. Each signal is
    measured in units of what it reaches by chance, and one limit is set on the largest of them
    (Westfall and Young, "Resampling-Based Multiple Testing", 1993).

    Parameters
    ----------
    reference : mapping of str to array of shape (N,)
        Signals of texts on which the model is known to do well; row i of each is text i.
    false_alarm : float
        Probability that a window from where the reference comes gives an alarm. With one window a
        day and 0.01: every hundred days.
    draws : int
        How often the texts are dealt out.
    seed : int
        Of the dealing.

    Raises
    ------
    ValueError
        If the signals differ in length or there are too few draws for the rate.
    """

    def __init__(
        self,
        reference: Mapping[str, Any],
        false_alarm: float = 0.01,
        draws: int = 2000,
        seed: int = 0,
    ) -> None:
        self.reference = _signals(reference, "reference")
        self.false_alarm = between_0_and_1(false_alarm, "false_alarm")
        self.draws = whole_number(draws, "draws", least=1)
        if self.draws * self.false_alarm < 10:
            raise ValueError(
                f"with {draws} draws a rate of {false_alarm} is set by fewer than ten of them; "
                f"take {int(np.ceil(10 / self.false_alarm))} or more"
            )
        self.generator = np.random.default_rng(whole_number(seed, "seed", least=0))

    def check(self, window: Mapping[str, Any]) -> Drift:
        """Compare a window with the reference.

        Parameters
        ----------
        window : mapping of str to array of shape (n,)
            The same signals, of today's texts.

        Raises
        ------
        ValueError
            If it has other signals than the reference.
        """
        found = _signals(window, "window")
        if set(found) != set(self.reference):
            raise ValueError(f"expected the signals {sorted(self.reference)}, got {sorted(found)}")
        n = len(next(iter(found.values())))
        pooled = {name: np.append(found[name], known) for name, known in self.reference.items()}
        distances = self._distances(pooled, n)  # the first is the window's own
        units = {name: _upper(values, self.false_alarm) for name, values in distances.items()}
        largest = np.max(
            [np.divide(distances[name], unit or 1.0) for name, unit in units.items()], axis=0
        )
        factor = _upper(largest, self.false_alarm)
        own = {name: float(values[0]) for name, values in distances.items()}
        return Drift(own, {name: (unit or 1.0) * factor for name, unit in units.items()})

    def _distances(self, pooled: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
        """Return the distance of the first n texts from the others, and that of each deal."""
        size = len(next(iter(pooled.values())))
        orders = {name: np.argsort(values, kind="stable") for name, values in pooled.items()}
        reached: dict[str, list[np.ndarray]] = {name: [] for name in pooled}
        for start in range(0, 1 + self.draws, CHUNK):
            keys = self.generator.random((min(CHUNK, 1 + self.draws - start), size))
            if start == 0:
                keys[0] = np.arange(size)
            dealt = keys.argpartition(n - 1, axis=1)[:, :n]  # any n of all texts
            inside = np.zeros(keys.shape, dtype=bool)
            np.put_along_axis(inside, dealt, True, axis=1)
            for name, order in orders.items():
                values = pooled[name][order]
                reached[name].append(_distances_of(inside[:, order], values, n))
        return {name: np.concatenate(parts) for name, parts in reached.items()}


def _distances_of(inside: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Return each deal's distance; `inside` (draws, N) says which of the sorted values it has."""
    inner = inside.cumsum(axis=1)
    outer = np.arange(1, len(values) + 1) - inner
    last = np.append(values[1:] != values[:-1], True)  # of equal values, only after the last
    return np.abs(inner / n - outer / (len(values) - n))[:, last].max(axis=1)


def _upper(values: np.ndarray, share: float) -> float:
    """Return a number that at most this share of values exceeds.

    Examples
    --------
    >>> _upper(np.arange(1.0, 11.0), 0.2)
    8.0
    """
    return float(np.sort(values)[int(np.ceil((1 - share) * len(values) - 1e-9)) - 1])


def _signals(signals: Mapping[str, Any], what: str) -> dict[str, np.ndarray]:
    if not isinstance(signals, Mapping) or not signals:
        raise ValueError(f"the {what} must be named signals, such as {{'tokens': [...]}}")
    arrays = {name: numbers(values, f"{what}[{name!r}]") for name, values in signals.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or next(iter(shapes)) == (0,):
        raise ValueError(f"the signals of the {what} must have one value per text, got {shapes}")
    return arrays
