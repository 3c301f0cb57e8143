"""Rare classes: what a model learns from them, by class weights, focal loss and sampling.

Most remedies for imbalance change one of two things: what the model learns (the loss, the
rows, the questions it is asked), as here, or where its answer is cut: `thresholds`.

Left out on purpose: synthetic rows (SMOTE, Chawla et al. 2002). They interpolate between
feature vectors, and there is no sentence half-way between two sentences.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from course_utils.batching import EpochSampler, cut
from course_utils.inputs import class_numbers, finite_number, vector

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
