"""Tasks that come one after another: what is forgotten, and what helps against it.

A model trained on one task and then on another loses some of the first (M. McCloskey and N.
Cohen, 1989). Rehearsal mixes old rows into the new ones. Elastic weight consolidation, EWC (J.
Kirkpatrick et al., 2017), pulls each weight back to where it was, the harder the more the old task
needs it; how much it does, the diagonal of the Fisher information says.

Left out on purpose: methods that grow the network, and gradient projections.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from course_utils.batching import Batch
from course_utils.inputs import numbers, whole_number
from course_utils.training import LossFunction, forward

Weights = dict[str, torch.Tensor]


def fisher_diagonal(model: nn.Module, examples: Iterable[Batch], loss_fn: LossFunction) -> Weights:
    r"""Return the mean squared gradient of single examples, for each trained parameter.

    .. math:: F_i = \frac{1}{N} \sum_n \left(\frac{\partial L_n}{\partial \theta_i}\right)^2

    The square is taken of each example's gradient and then averaged. Squaring the gradient of a
    batch, which is a mean already, is the usual slip: near the optimum that mean is about zero.

    Parameters
    ----------
    model : nn.Module
        Left in the mode it came in; dropout is off meanwhile.
    examples : iterable of Batch
        Batches of one row each.
    loss_fn : callable
        Minus the log-likelihood of a row.

    Raises
    ------
    ValueError
        If there is no batch, or one has more than one row.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in trained.items()}
    was_training, count = model.training, 0
    model.eval()
    for batch in examples:
        if len(batch) != 1:
            raise ValueError(f"need batches of one row, got one of {len(batch)}: see the formula")
        loss = loss_fn(forward(model, batch), batch.labels)
        gradients = torch.autograd.grad(loss, list(trained.values()))
        for name, gradient in zip(trained, gradients, strict=True):
            total[name] += gradient**2
        count += 1
    model.train(was_training)
    if not count:
        raise ValueError("need an example or more, got none")
    return {name: value / count for name, value in total.items()}


@dataclass(frozen=True)
class Anchor:
    """Where the weights were after a task, and how much that task needs each of them."""

    weights: Weights
    fisher: Weights


def anchor(model: nn.Module, fisher: Weights) -> Anchor:
    """Remember a model's weights, by value, beside their importance."""
    return Anchor({name: model.get_parameter(name).detach().clone() for name in fisher}, fisher)


def ewc_penalty(model: nn.Module, anchors: Sequence[Anchor]) -> torch.Tensor:
    r"""Return what moving away from the anchors costs; the strength is the caller's.

    .. math:: \frac{1}{2} \sum_\text{tasks} \sum_i F_i (\theta_i - \theta^*_i)^2
    """
    total = torch.zeros(())
    for old in anchors:
        for name, importance in old.fisher.items():
            moved = model.get_parameter(name) - old.weights[name]
            total = total + 0.5 * (importance * moved**2).sum()
    return total


def rehearsal_rows(
    new: int, old: Sequence[int], share: float, generator: np.random.Generator
) -> np.ndarray:
    """Return rows to train on: all of the new task's, and old ones so that they make up a share.

    Parameters
    ----------
    new : int
        Rows of the new task; they lie first, from 0.
    old : sequence of int
        How many rows of each earlier task were kept; they lie after the new ones, in this order.
    share : float
        Of all rows returned, from 0 to below 1. Old rows are repeated where they do not suffice.
    generator : numpy.random.Generator

    Raises
    ------
    ValueError
        If the share is out of range.

    Examples
    --------
    >>> rows = rehearsal_rows(6, [2], 0.25, np.random.default_rng(0))
    >>> len(rows), sorted(set(rows.tolist())) == [0, 1, 2, 3, 4, 5, 6, 7]
    (8, True)
    """
    new = whole_number(new, "new", least=1)
    if not 0 <= share < 1:
        raise ValueError(f"share must be from 0 to below 1, got {share}")
    kept, wanted = sum(old), round(new * share / (1 - share))
    if not kept or not wanted:
        return generator.permutation(new)
    rounds = [generator.permutation(kept) for _ in range(-(-wanted // kept))]
    return generator.permutation(np.append(np.arange(new), new + np.concatenate(rounds)[:wanted]))


# --- what is left -------------------------------------------------------------------------


def task_matrix(scores: np.ndarray) -> np.ndarray:
    """Return scores as an array (K, K), after checking that they are one, K at least 2."""
    scores = numbers(scores, "scores")
    if scores.ndim != 2 or len(scores) < 2 or len(scores) != scores.shape[1]:
        raise ValueError(f"need a row and a column for each of two tasks or more: {scores.shape}")
    return scores


def average_at_end(scores: np.ndarray) -> float:
    """Return the mean over tasks after the last one; `scores` as in `forgetting`."""
    return float(task_matrix(scores)[-1].mean())


def forgetting(scores: np.ndarray) -> float:
    """Return how far the earlier tasks fell from when they were best to the end, on average.

    A. Chaudhry et al., "Riemannian Walk for Incremental Learning" (2018).

    Parameters
    ----------
    scores : array of shape (K, K), K at least 2
        Row: after training on this task. Column: tested on that one.

    Examples
    --------
    >>> round(forgetting(np.array([[0.8, 0.1], [0.5, 0.9]])), 3)  # the first fell from 0.8 to 0.5
    0.3
    """
    scores = task_matrix(scores)
    return float(np.mean(scores[:-1, :-1].max(axis=0) - scores[-1, :-1]))
