"""Rare classes: weights, focal loss, sampling, thresholds, and the way back to probabilities.

Most remedies for imbalance change one of two things: what the model learns (the loss, the
rows, the questions it is asked) or where its answer is cut. C. Elkan, "The Foundations of
Cost-Sensitive Learning" (2001), showed how close the two are: a class weight of w multiplies
the learned odds by w, so it can be undone, or replaced, by a threshold.

Left out on purpose: synthetic rows (SMOTE, Chawla et al. 2002). They interpolate between
feature vectors, and there is no sentence half-way between two sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from course_utils.batching import EpochSampler, cut
from course_utils.inputs import above_0, class_numbers, finite_number, probabilities_of, vector
from course_utils.metrics import paired_vectors

# --- losses -------------------------------------------------------------------------------


def class_weights(labels: np.ndarray, num_classes: int) -> torch.Tensor:
    """Return weights that let every class count the same: N / (C x rows of the class).

    Parameters
    ----------
    labels : int array of shape (N,)
    num_classes : int
        C

    Returns
    -------
    FloatTensor of shape (C,)
        For ``cross_entropy(..., weight=weights)``. Averaged over the rows they are 1.

    Raises
    ------
    ValueError
        If a class has no rows: no weight makes up for that.

    Examples
    --------
    >>> class_weights(np.array([0, 0, 0, 1]), 2)  # 4 / (2 x 3) and 4 / (2 x 1)
    tensor([0.6667, 2.0000])
    """
    counts = np.bincount(class_numbers(labels, num_classes), minlength=num_classes)
    if (counts == 0).any():
        raise ValueError(f"each of {num_classes} classes needs rows, got counts {counts.tolist()}")
    return torch.tensor(len(labels) / (num_classes * counts), dtype=torch.float32)


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    r"""Return the mean of $-(1-p)^\gamma \log p$, with p the probability of the true class.

    A row that is already right with p = 0.9 counts a hundredth at gamma 2; gamma 0 is the
    cross-entropy (T.-Y. Lin et al., "Focal Loss for Dense Object Detection", 2017).

    Parameters
    ----------
    logits : Tensor of shape (B, C)
    labels : LongTensor of shape (B,)
    gamma : float
        At least 0.

    Examples
    --------
    >>> focal_loss(torch.zeros(1, 2), torch.tensor([1]))  # (1 - 1/2)^2 x ln 2
    tensor(0.1733)
    """
    gamma = finite_number(gamma, "gamma", least=0)
    log_p = log_softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)  # (B,)
    missing = -torch.expm1(log_p.clamp(max=-1e-12))  # 1 - p, exact near 1 and never quite 0
    return (-(missing**gamma) * log_p).mean()


def cascade_loss(
    logits: torch.Tensor, ratings: torch.Tensor, cuts: Sequence[float]
) -> torch.Tensor:
    """Return the loss of a chain of yes-or-no questions, each harder than the one before.

    Stage k asks "is the rating at most cuts[k]?", and only of rows whose answer to all stages
    before was yes. The sum is the negative log-likelihood of the whole chain, known as the
    continuation-ratio model.

    Parameters
    ----------
    logits : Tensor of shape (B, K)
    ratings : Tensor of shape (B,)
    cuts : sequence of float, length K
        Falling, for example ``(-0.5, -2.5)``.

    Examples
    --------
    >>> cascade_loss(torch.zeros(2, 2), torch.tensor([1.0, -3.0]), (-0.5, -2.5))  # 3/2 x ln 2
    tensor(1.0397)
    """
    falling = all(a > b for a, b in pairwise([np.inf, *cuts]))
    if not falling or logits.shape[1:] != (len(cuts),):
        raise ValueError(f"need one falling cut per logit, got {cuts} for {tuple(logits.shape)}")
    yes = (ratings.unsqueeze(1) <= ratings.new_tensor(cuts)).float()  # (B, K)
    asked = torch.cat([torch.ones_like(yes[:, :1]), yes[:, :-1]], dim=1)  # (B, K)
    losses = binary_cross_entropy_with_logits(logits, yes, reduction="none")
    return (losses * asked).sum() / len(ratings)


def cascade_probability(logits: torch.Tensor) -> torch.Tensor:
    """Return the probability of a yes to every stage: (B, K) to (B,).

    Examples
    --------
    >>> cascade_probability(torch.zeros(1, 2))  # 1/2 x 1/2
    tensor([0.2500])
    """
    return logits.sigmoid().prod(dim=1)


# --- sampling -----------------------------------------------------------------------------


def undersample(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return rows in which every class is as frequent as the rarest, the rest left out.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> rows = undersample(labels, np.random.default_rng(0))
    >>> np.bincount(labels[rows]).tolist(), len(set(rows.tolist()))
    ([2, 2], 4)
    """
    rows = _rows_by_class(labels)
    size = min(len(of_class) for of_class in rows)
    return np.concatenate([generator.permutation(of_class)[:size] for of_class in rows])


def oversample(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return rows in which every class is as frequent as the commonest, rare rows repeated.

    Every row is kept, and within a class no row occurs more than once more often than
    another. For training rows only, after the split: a copy on the other side is an answer
    given away.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> oversample(labels, np.random.default_rng(0)).tolist().count(5)
    2
    """
    rows = _rows_by_class(labels)
    size = max(len(of_class) for of_class in rows)
    return np.concatenate([np.resize(generator.permutation(of_class), size) for of_class in rows])


def _rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """Return the row numbers of each class that occurs; refuse fewer than two classes."""
    labels = vector(labels, "labels")
    rows = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    if len(rows) < 2:
        raise ValueError(f"need labels (N,) of two classes or more, got {len(rows)}")
    return rows


class BalancedSampler(EpochSampler):
    """Shuffled batches in which all classes are equally frequent on average.

    Parameters
    ----------
    labels : int array of shape (N,)
    batch_size : int
    seed : int
    how : {"over", "under"}
        Repeat rows of the rare classes, or leave out rows of the common ones. Either draw is
        made anew in every epoch, so "under" shows other common rows each time.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        seed: int = 0,
        how: Literal["over", "under"] = "over",
    ) -> None:
        if how not in ("over", "under"):
            raise ValueError(f"how must be over or under, got {how!r}")
        self.labels = vector(labels, "labels")
        self.draw = oversample if how == "over" else undersample
        size = len(self.draw(self.labels, np.random.default_rng(seed)))
        super().__init__(size, batch_size, seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of one epoch, in order."""
        generator = self.generator(epoch)
        rows = generator.permutation(self.draw(self.labels, generator))
        return cut(rows.tolist(), self.batch_size)


# --- thresholds ---------------------------------------------------------------------------


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
    labels, probabilities = paired_vectors(labels, probabilities)
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


# --- the way back to probabilities --------------------------------------------------------


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
