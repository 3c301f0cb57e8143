"""Learning from few labels by comparing: pairs of sentences, alike or not.

Eight labelled sentences of each of two classes are 16 examples for a classifier, but 120 pairs,
each of which says "these two belong together" or "these do not". L. Tunstall et al., "Efficient
Few-Shot Learning Without Prompts" (SetFit, 2022) train the encoder on such pairs, and then a
linear model on its vectors. Where the pairs are questions with their answers, the other answers of
the batch are the wrong ones: `info_nce`.

Left out on purpose: hard-negative mining and large batches, which matter with many labels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss, normalize

from course_utils.inputs import above_0, numbers, whole_number


def contrastive_pairs(
    labels: Sequence[int] | np.ndarray, rounds: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows: in each round, for every row one of its own class and one of another.

    Parameters
    ----------
    labels : ints of shape (N,)
        At least two classes, each with two rows or more.
    rounds : int
    generator : numpy.random.Generator

    Returns
    -------
    pairs : int array of shape (2 * rounds * N, 2)
        In random order; a row is never paired with itself.
    alike : float array of shape (2 * rounds * N,)
        1 for a pair of one class, 0 for others.

    Raises
    ------
    ValueError
        If there is only one class, or a class has only one row.

    Examples
    --------
    >>> pairs, alike = contrastive_pairs([0, 0, 1, 1], 1, np.random.default_rng(0))
    >>> pairs.shape, float(alike.mean())
    ((8, 2), 0.5)
    """
    classes, counts = np.unique(numbers(labels, "labels"), return_counts=True)
    labels = np.asarray(labels)
    if len(classes) < 2 or counts.min() < 2:
        raise ValueError("need two classes or more, with two rows or more each, to make pairs of")
    pairs, alike = [], []
    for _ in range(whole_number(rounds, "rounds", least=1)):
        for row, label in enumerate(labels):
            friends = np.flatnonzero(labels == label)
            pairs.append((row, generator.choice(friends[friends != row])))
            pairs.append((row, generator.choice(np.flatnonzero(labels != label))))
            alike += [1.0, 0.0]
    order = generator.permutation(len(pairs))
    return np.array(pairs)[order], np.array(alike)[order]


def pair_loss(first: torch.Tensor, second: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    r"""Return the mean squared error of cosine similarities.

    .. math:: \frac{1}{B} \sum_b (\cos(u_b, v_b) - a_b)^2

    Parameters
    ----------
    first, second : Tensors of shape (B, D)
    alike : Tensor of shape (B,)
        1 where the two belong together, else 0.

    Examples
    --------
    >>> pair_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]))
    tensor(0.)
    """
    return mse_loss(cosine_similarity(first, second, dim=1), alike)


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float = 0.05) -> torch.Tensor:
    r"""Return the loss of finding each one's partner among all of the batch, in both directions.

    .. math:: -\frac{1}{2B} \sum_b \log \frac{e^{s_{bb}/\tau}}{\sum_c e^{s_{bc}/\tau}}
              + \log \frac{e^{s_{bb}/\tau}}{\sum_c e^{s_{cb}/\tau}},
              \quad s_{bc} = \cos(u_b, v_c)

    A. van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018).
    Two rows with the same answer in one batch are told that theirs is wrong: keep copies apart.

    Parameters
    ----------
    first, second : Tensors of shape (B, D)
        Row b of one belongs to row b of the other.
    temperature : float
        Above 0: how much closer the partner must be. Small values look at the nearest wrong one.

    Examples
    --------
    >>> u = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> round(info_nce(u, u, temperature=1.0).item(), 4)  # -log(e / (e + 1))
    0.3133
    """
    cosines = normalize(first, dim=1) @ normalize(second, dim=1).T  # (B, B)
    scores = cosines / above_0(temperature, "temperature")
    own = torch.arange(len(scores), device=scores.device)
    return (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2


def confident(probabilities: np.ndarray, share: float) -> np.ndarray:
    """Return the rows to give a pseudo-label: the surest share of each predicted class.

    Taken class by class: a model that is surer of one class would otherwise feed on that one alone.

    Parameters
    ----------
    probabilities : array of shape (N, C)
    share : float
        Above 0, at most 1; at least one row of each predicted class is taken.

    Examples
    --------
    >>> confident(np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]), 0.5).tolist()
    [0, 3]
    """
    probabilities = numbers(probabilities, "probabilities")
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    said, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    chosen: list[int] = []
    for label in np.unique(said):
        rows = np.flatnonzero(said == label)
        count = max(1, round(share * len(rows)))
        chosen += rows[np.argsort(-sure[rows], kind="stable")[:count]].tolist()
    return np.sort(chosen)
