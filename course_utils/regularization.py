"""Remedies for few labels: when to stop, other words, noise that hurts, slower lower layers.

A model with millions of parameters can learn two hundred reviews by heart. What is here makes
that harder, or ends training before it has happened. Dropout and weight decay are not here:
they are an argument of `models.load_classifier` and of `optimization.make_optimizer`.

From L. Prechelt, "Early Stopping - But When?" (1998); J. Wei and K. Zou, "EDA" (2019); T.
Miyato et al., "Adversarial Training Methods for Semi-Supervised Text Classification" (2017);
J. Howard and S. Ruder, "Universal Language Model Fine-tuning" (2018).

Left out on purpose: augmentation that needs a second model, such as translation there and back.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_utils.history import EvalRecord
from course_utils.inputs import above_0, finite_number, whole_number
from course_utils.optimization import parameter_groups

# Words that turn a sentence round: without them a text may say the opposite.
TURNING = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nothing",
        "nor",
        "neither",
        "without",
        "hardly",
        "but",
        "though",
    ]
)


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the validation loss has not fallen for `patience` looks in a row.

    It is a pure function of the evaluations so far, for ``fit(..., should_stop=...)``: a run
    that was killed and resumed stops where it would have stopped.

    Parameters
    ----------
    patience : int
        At least 1.
    min_gain : float
        A fall by no more than this does not count.

    Examples
    --------
    >>> stop, looks = EarlyStopping(patience=2), [0.6, 0.5, 0.7, 0.6]
    >>> [stop([EvalRecord(0, loss) for loss in looks[:n]]) for n in (1, 2, 3, 4)]
    [False, False, False, True]
    """

    patience: int = 2
    min_gain: float = 0.0

    def __post_init__(self) -> None:
        whole_number(self.patience, "patience", least=1)
        finite_number(self.min_gain, "min_gain", least=0)

    def __call__(self, evaluations: Sequence[EvalRecord]) -> bool:
        """Return True if training should end now."""
        best, waited = float("inf"), 0
        for record in evaluations:
            if record.loss < best - self.min_gain:
                best, waited = record.loss, 0
            else:
                waited += 1
        return waited >= self.patience


# --- augmentation -------------------------------------------------------------------------


def turns(word: str) -> bool:
    """Return True for a word that turns a sentence round, such as "not" or "isn't".

    Examples
    --------
    >>> [turns(word) for word in ("Not", "isn't", "n't", "but,", "note")]
    [True, True, True, True, False]
    """
    bare = re.sub(r"[^\w']", "", word.lower())
    return bare in TURNING or bare.endswith("n't")


def vary(text: str, generator: np.random.Generator, drop: float = 0.1, swaps: int = 1) -> str:
    """Return a text with a few words dropped and a few neighbours exchanged.

    Words that turn a sentence round are never dropped, and never exchanged: the label is meant
    to hold for what comes out. At least one word is kept.

    Parameters
    ----------
    text : str
    generator : numpy.random.Generator
    drop : float
        Probability of losing a word, from 0 to below 1.
    swaps : int
        How many times a random pair of neighbours changes places.

    Examples
    --------
    >>> vary("not a bad film", np.random.default_rng(0), drop=0.0, swaps=0)
    'not a bad film'
    >>> vary("not good but not bad", np.random.default_rng(0), drop=0.99, swaps=0)
    'not but not'
    """
    if not 0 <= drop < 1 or swaps < 0:
        raise ValueError(f"need drop from 0 to below 1 and swaps of at least 0: {drop}, {swaps}")
    words = text.split()
    kept = [word for word in words if turns(word) or generator.random() >= drop]
    kept = kept or words[:1]
    for _ in range(swaps if len(kept) > 1 else 0):
        i = int(generator.integers(len(kept) - 1))
        if not turns(kept[i]) and not turns(kept[i + 1]):
            kept[i], kept[i + 1] = kept[i + 1], kept[i]
    return " ".join(kept)


# --- adversarial training -----------------------------------------------------------------


def adversarial_noise(gradient: Tensor, epsilon: float) -> Tensor:
    r"""Return for each example the step of length `epsilon` that raises its loss fastest.

    .. math:: r = \epsilon\, g / \lVert g \rVert_2

    Parameters
    ----------
    gradient : Tensor of shape (B, ...)
        Of the loss, by what an example is made of, such as its token vectors (B, T, D).
    epsilon : float

    Returns
    -------
    Tensor of the same shape
        Zero for an example whose gradient is zero.

    Examples
    --------
    >>> adversarial_noise(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), epsilon=1.0).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norm = gradient.flatten(1).norm(dim=1)  # (B,): each example has its own
    scale = finite_number(epsilon, "epsilon") / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    return gradient * scale.view(-1, *[1] * (gradient.ndim - 1))


@contextmanager
def perturbed(weight: nn.Parameter, epsilon: float) -> Iterator[None]:
    """Move a weight by `epsilon` along its gradient; on the way out, put it back, bit for bit.

    For the embedding table this is the fast gradient method (FGM): ``loss.backward()``, then
    inside this block once more forward and ``backward()``, so that the two gradients add up,
    then the optimiser's step, outside.

    Parameters
    ----------
    weight : Parameter
        Of any shape; the length is taken over all of it. Without a gradient it stays.
    epsilon : float

    Examples
    --------
    >>> weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> weight.grad = torch.tensor([0.0, 2.0])
    >>> with perturbed(weight, 0.5):
    ...     weight.tolist()
    [1.0, 1.5]
    >>> weight.tolist()
    [1.0, 1.0]
    """
    saved = weight.detach().clone()  # subtracting the noise again would leave rounding errors
    if weight.grad is not None:
        weight.data.add_(adversarial_noise(weight.grad.unsqueeze(0), epsilon).squeeze(0))
    try:
        yield
    finally:
        weight.data.copy_(saved)


# --- layer-wise learning rates ------------------------------------------------------------


def layerwise_groups(
    parts: Sequence[nn.Module], lr: float, factor: float, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Return parameter groups whose learning rate shrinks from the head down.

    The top part gets `lr`, the one below `lr` times `factor`, and so on. Lower layers hold what
    is common to all texts, and two hundred reviews have little to add to that.

    Parameters
    ----------
    parts : sequence of Module
        From the bottom to the top; frozen parts take a place and have no group.
    lr : float
        Of the top part.
    factor : float
        Above 0, at most 1.
    weight_decay : float
        On matrices only, see `optimization.parameter_groups`.

    Raises
    ------
    ValueError
        If `factor` is out of range, nothing is trainable, or parts share a parameter.

    Examples
    --------
    >>> groups = layerwise_groups([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)], 0.4, 0.5)
    >>> [group["lr"] for group in groups]  # a matrix and a vector in each part
    [0.1, 0.1, 0.2, 0.2, 0.4, 0.4]
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor must be above 0 and at most 1, got {factor}")
    lr = above_0(lr, "lr")
    found: list[dict[str, Any]] = []
    for depth, part in enumerate(reversed(parts)):
        groups = [group for group in parameter_groups(part, weight_decay) if group["params"]]
        found = [group | {"lr": lr * factor**depth} for group in groups] + found
    names = [id(parameter) for group in found for parameter in group["params"]]
    if not names or len(set(names)) < len(names):
        raise ValueError("parts must have trainable parameters, and share none")
    return found
