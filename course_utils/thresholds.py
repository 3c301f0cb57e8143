"""Where to cut a probability: every threshold's counts, costs, and the way back from a weight.

C. Elkan, "The Foundations of Cost-Sensitive Learning" (2001), showed how close the remedies
for a rare class are: a class weight of w multiplies the learned odds by w, so it can be
undone, or replaced, by a threshold.
"""

from dataclasses import dataclass

import numpy as np

from course_utils.inputs import above_0, finite_number, probabilities_of
from course_utils.metrics import paired_vectors


@dataclass(frozen=True)
class ThresholdTable:
    """What happens at every threshold; a row is flagged if its probability is at least that.

    Attributes
    ----------
    thresholds : ndarray of shape (K,)
        Rising: each probability that occurs, and last infinity, which flags nothing.
    caught, missed : ndarray of shape (K,)
        Rare rows that are flagged, and those that are not.
    false_alarms : ndarray of shape (K,)
        Common rows that are flagged.
    """

    thresholds: np.ndarray
    caught: np.ndarray
    missed: np.ndarray
    false_alarms: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """Share of rare rows among the flagged; 0 where nothing is flagged."""
        return self.caught / np.maximum(self.caught + self.false_alarms, 1)

    @property
    def recall(self) -> np.ndarray:
        """Share of flagged rows among the rare."""
        return self.caught / (self.caught + self.missed)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall."""
        return 2 * self.caught / (2 * self.caught + self.missed + self.false_alarms)

    def cost(self, miss: float, false_alarm: float = 1.0) -> np.ndarray:
        """Return the total cost at every threshold, given that of each kind of error."""
        miss = finite_number(miss, "miss", least=0)
        false_alarm = finite_number(false_alarm, "false_alarm", least=0)
        return miss * self.missed + false_alarm * self.false_alarms

    def place(self, threshold: float) -> int:
        """Return the index that holds what happens at any threshold, such as a slider's."""
        if not threshold <= np.inf:
            raise ValueError(f"threshold must be a number, got {threshold!r}")
        return int(np.searchsorted(self.thresholds, threshold))

    def best_f1(self) -> float:
        """Return the threshold with the highest F1."""
        return float(self.thresholds[self.f1.argmax()])

    def cheapest(self, miss: float, false_alarm: float = 1.0) -> float:
        """Return the threshold with the lowest cost."""
        return float(self.thresholds[self.cost(miss, false_alarm).argmin()])


def threshold_table(labels: np.ndarray, probabilities: np.ndarray) -> ThresholdTable:
    """Count hits and errors at every threshold that makes a difference.

    Parameters
    ----------
    labels : array of shape (N,)
        1 for the rare class, else 0.
    probabilities : array of shape (N,)
        Or any score that is higher for the rare class.

    Raises
    ------
    ValueError
        If shapes differ, there is no rare row, or a score is not a number.

    Examples
    --------
    >>> table = threshold_table(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]))
    >>> table.thresholds.tolist(), table.caught.tolist(), table.false_alarms.tolist()
    ([0.1, 0.4, 0.6, 0.8, inf], [2, 2, 1, 1, 0], [2, 1, 1, 0, 0])
    >>> table.best_f1(), table.cheapest(miss=1, false_alarm=10)
    (0.4, 0.8)
    """
    labels, probabilities = paired_vectors(labels=labels, probabilities=probabilities)
    if not set(np.unique(labels)) <= {0, 1} or not (labels == 1).any():
        raise ValueError("labels must be 0 and 1, with at least one 1")
    thresholds = np.append(np.unique(probabilities), np.inf)
    rare, common = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    missed = np.searchsorted(rare, thresholds)  # scores below the threshold
    return ThresholdTable(
        thresholds=thresholds,
        caught=len(rare) - missed,
        missed=missed,
        false_alarms=len(common) - np.searchsorted(common, thresholds),
    )


def undo_weight(probabilities: np.ndarray, weight: float) -> np.ndarray:
    r"""Return the probabilities that training without a weight would have aimed at.

    A rare class that counted `weight` times as much as the common one has its odds multiplied
    by it; $p / (p + w (1 - p))$ divides them again (Elkan 2001; King and Zeng 2001).

    Parameters
    ----------
    probabilities : array
        Of the rare class.
    weight : float
        Above 0. Rare weight over common weight; for balanced sampling, common rows over rare.

    Examples
    --------
    >>> undo_weight(np.array([0.0, 0.5, 1.0]), 9.0).tolist()  # even odds become 1 to 9
    [0.0, 0.1, 1.0]
    """
    probabilities, weight = probabilities_of(probabilities), above_0(weight, "weight")
    return probabilities / (probabilities + weight * (1 - probabilities))


def cost_threshold(miss: float, false_alarm: float = 1.0) -> float:
    """Return the cheapest threshold for calibrated probabilities.

    Flag a row when leaving it costs more: p x miss >= (1 - p) x false_alarm.

    Examples
    --------
    >>> cost_threshold(miss=9)
    0.1
    """
    miss, false_alarm = (finite_number(cost, "costs", least=0) for cost in (miss, false_alarm))
    if miss + false_alarm == 0:
        raise ValueError("costs must be at least 0, and not both 0")
    return false_alarm / (miss + false_alarm)
