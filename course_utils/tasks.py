"""Several tasks for one model: what it is asked of each corpus, and how corpora are mixed.

The four corpora of C. J. Hutto and E. Gilbert (2014) are four tasks with the same question: how
does this sentence sound, from -4 to +4? So they can share one model, and a model of one can be
asked about another. Mixing by temperature: N. Arivazhagan et al., "Massively Multilingual Neural
Machine Translation in the Wild" (2019).

Left out on purpose: a head for each task. Where the questions differ it is needed; here it would
hide what one task does to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import pearsonr
from sklearn.metrics import f1_score
from torch.nn.functional import cross_entropy

from course_utils.batching import EpochSampler, cut
from course_utils.inputs import above_0, numbers, whole_number
from course_utils.metrics import paired_vectors
from course_utils.training import rating_loss

CUT = 0.5  # ratings from -CUT to +CUT are neutral
EDGES = torch.tensor([-CUT + 1e-6, CUT - 1e-6])  # -0.5 itself is negative, +0.5 positive


def rating_and_class_loss(outputs: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
    """Return the loss of lesson 05's two heads: squared error plus cross-entropy.

    Parameters
    ----------
    outputs : Tensor of shape (B, 4)
        The rating, then the logits of negative, neutral and positive.
    ratings : Tensor of shape (B,)

    Examples
    --------
    >>> outputs = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    >>> rating_and_class_loss(outputs, torch.tensor([1.0]))  # 1 + ln 3
    tensor(2.0986)
    """
    classes = torch.bucketize(ratings, EDGES.to(ratings.device))
    return rating_loss(outputs[:, :1], ratings) + cross_entropy(outputs[:, 1:], classes)


@dataclass(frozen=True)
class Score:
    """How well one corpus was judged: weighted F1 of three classes, and Pearson's r."""

    f1: float
    r: float


def three_classes(ratings: np.ndarray) -> np.ndarray:
    """Return 0 for a rating of at most -0.5, 2 for one of at least +0.5, else 1; shape (N,).

    Examples
    --------
    >>> three_classes(np.array([-0.5, 0.0, 0.5])).tolist()
    [0, 1, 2]
    """
    return np.digitize(numbers(ratings, "ratings"), EDGES.numpy())


def score(ratings: np.ndarray, predicted: np.ndarray) -> Score:
    """Judge predicted ratings against human ones; the classes are both cut at -0.5 and +0.5.

    Parameters
    ----------
    ratings, predicted : arrays of shape (N,), N at least 2

    Raises
    ------
    ValueError
        If the shapes differ, or a value is missing or infinite.

    Examples
    --------
    >>> found = score(np.array([-2.0, 0.0, 2.0]), np.array([-0.2, 0.0, 0.2]))
    >>> round(found.r, 6)  # order kept, scale not
    1.0
    """
    ratings, predicted = paired_vectors(ratings, predicted, least=2)
    f1 = f1_score(three_classes(ratings), three_classes(predicted), average="weighted")
    constant = np.ptp(predicted) == 0 or np.ptp(ratings) == 0  # r has no value then
    r = 0.0 if constant else pearsonr(ratings, predicted).statistic
    return Score(float(f1), float(r))


# --- mixing -------------------------------------------------------------------------------


def mixing_shares(sizes: Sequence[int], temperature: float = 1.0) -> np.ndarray:
    r"""Return the share of the training batches that each task gets.

    .. math:: p_i = n_i^{1/\tau} / \sum_j n_j^{1/\tau}

    Temperature 1 mixes in proportion to size, a very high one gives all tasks the same.

    Parameters
    ----------
    sizes : sequence of int
        Sentences n of each task.
    temperature : float
        At least 1, or infinity.

    Returns
    -------
    ndarray of shape (tasks,)
        Adds up to 1.

    Raises
    ------
    ValueError
        If a task has no sentence, or the temperature is below 1.

    Examples
    --------
    >>> mixing_shares([100, 400]).tolist(), mixing_shares([100, 400], float("inf")).tolist()
    ([0.2, 0.8], [0.5, 0.5])
    >>> mixing_shares([100, 400], temperature=2).round(3).tolist()
    [0.333, 0.667]
    """
    counts = numbers(sizes, "sizes").astype(float)
    if counts.ndim != 1 or not counts.size or counts.min() < 1:
        raise ValueError(f"each task needs a sentence or more, got sizes {list(sizes)}")
    if not temperature >= 1:
        raise ValueError(f"temperature must be at least 1, got {temperature}")
    scaled = (counts / counts.max()) ** (1 / temperature)  # divided: no overflow
    return scaled / scaled.sum()


class MixedSampler(EpochSampler):
    """Batches of rows of several tasks, each task with its share of them.

    The tasks' rows lie one task after the other in the dataset. A task that is drawn more often
    than it has rows goes through them again, in a new order.

    Parameters
    ----------
    sizes : sequence of int
        Rows of each task.
    shares : array of shape (tasks,)
        From `mixing_shares`.
    batch_size : int
    steps : int
        Batches in an epoch.
    seed : int
    """

    def __init__(
        self, sizes: Sequence[int], shares: np.ndarray, batch_size: int, steps: int, seed: int = 0
    ) -> None:
        super().__init__(whole_number(steps, "steps", least=1) * batch_size, batch_size, seed)
        self.sizes, self.shares = list(sizes), numbers(shares, "shares")
        if len(self.sizes) != len(self.shares):
            raise ValueError(f"{len(self.sizes)} sizes need as many shares, got {len(self.shares)}")
        above_0(self.shares.sum(), "the sum of the shares")

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of one epoch, in order."""
        generator = self.generator(epoch)
        tasks = generator.choice(len(self.sizes), self.size, p=self.shares / self.shares.sum())
        rows = np.empty(self.size, dtype=int)
        for task, size in enumerate(self.sizes):
            places = np.flatnonzero(tasks == task)
            rounds = -(-len(places) // size)
            order = [generator.permutation(size) for _ in range(rounds)]
            if rounds:
                rows[places] = sum(self.sizes[:task]) + np.concatenate(order)[: len(places)]
        return cut(rows.tolist(), self.batch_size)
