"""Which words made the model say that? Attributions, and a test that tells which can be believed.

An attribution gives each token a number: how much it moved the output, and which way. Gradient
times input and integrated gradients (M. Sundararajan et al., "Axiomatic Attribution for Deep
Networks", 2017) look at the slope, occlusion (M. Zeiler and R. Fergus, 2014) takes a token away,
attention looks where the model looked. All give a picture; J. DeYoung et al., "ERASER" (2020), say
how to find out whether it is true: delete what was called important and see what is left.

The output explained is a number before any softmax: a logit or a rating. A probability close to 1
has hardly a slope whatever the words are, and an argmax has none at all.

Left out on purpose: SHAP and LIME, which fit a small model to hundreds of deletions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.inputs import between_0_and_1, vector, whole_number
from course_utils.models import SentenceClassifier, mean_pool

Output = Callable[[Tensor], Tensor]

# --- a model as a function of word vectors --------------------------------------------------


def word_vectors(model: SentenceClassifier, ids: Sequence[int]) -> Tensor:
    """Return the rows of the embedding table that the ids name, (T, D), without a gradient."""
    table: Any = model.encoder.get_input_embeddings()
    return table(torch.tensor(list(ids), device=table.weight.device)).detach()


def output_of(model: SentenceClassifier, output: int = 0) -> Output:
    """Return a function from word vectors (B, T, D) to one output of the model, (B,).

    No padding: all B texts have T tokens. Positions are added inside, as for token ids.

    Raises
    ------
    ValueError
        If the model has no such output, or is in training mode: dropout would explain itself.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode, got one in training mode: model.eval()")
    if not 0 <= whole_number(output, "output") < model.classifier.out_features:
        raise ValueError(f"output must be below {model.classifier.out_features}, got {output}")

    def function(vectors: Tensor) -> Tensor:
        mask = torch.ones(vectors.shape[:2], dtype=torch.long, device=vectors.device)
        hidden = model.encoder(inputs_embeds=vectors, attention_mask=mask).last_hidden_state
        return model.classifier(mean_pool(hidden, mask))[:, output]  # (B,)

    return function


# --- attributions ---------------------------------------------------------------------------


def gradient_at(function: Output, vectors: Tensor) -> Tensor:
    """Return the gradient of each row's output by its word vectors, (B, T, D).

    Examples
    --------
    >>> gradient_at(lambda x: (x**2).sum(dim=(1, 2)), torch.tensor([[[3.0], [1.0]]]))
    tensor([[[6.],
             [2.]]])
    """
    vectors = vectors.detach().requires_grad_()
    return torch.autograd.grad(function(vectors).sum(), vectors)[0]


def gradient_times_input(function: Output, vectors: Tensor) -> Tensor:
    r"""Return :math:`x \cdot \partial f / \partial x` for each token, (T,).

    Parameters
    ----------
    function : callable
        From (B, T, D) to (B,).
    vectors : Tensor of shape (T, D)
    """
    return (gradient_at(function, vectors[None])[0] * vectors).sum(dim=-1)


def integrated_gradients(
    function: Output, vectors: Tensor, baseline: Tensor, steps: int = 32
) -> Tensor:
    r"""Return what each token adds on the straight way from the baseline to the text, (T,).

    .. math:: (x - x') \cdot \frac{1}{m} \sum_{k=1}^{m}
        \nabla f\Bigl(x' + \tfrac{k - 1/2}{m} (x - x')\Bigr)

    Complete: the sum over the tokens is f(x) - f(x'), up to the error of the sum over steps.

    Parameters
    ----------
    function : callable
        From (B, T, D) to (B,).
    vectors, baseline : Tensors of shape (T, D)
    steps : int
        Points on the way, each in the middle of its piece.

    Raises
    ------
    ValueError
        If the baseline has another shape.

    Examples
    --------
    >>> product = lambda x: x[:, 0, 0] * x[:, 1, 0]  # neither factor does anything alone
    >>> integrated_gradients(product, torch.tensor([[2.0], [3.0]]), torch.zeros(2, 1))
    tensor([3., 3.])
    """
    if baseline.shape != vectors.shape:
        raise ValueError(f"need a baseline of {tuple(vectors.shape)}, got {tuple(baseline.shape)}")
    steps = whole_number(steps, "steps", least=1)
    shares = (torch.arange(steps, device=vectors.device) + 0.5) / steps
    way = baseline + shares[:, None, None].to(vectors.dtype) * (vectors - baseline)
    return (gradient_at(function, way).mean(dim=0) * (vectors - baseline)).sum(dim=-1)


@torch.no_grad()
def occlusion(function: Output, vectors: Tensor, blank: Tensor) -> Tensor:
    """Return by how much the output falls when a token is replaced by `blank` (D,), (T,).

    Examples
    --------
    >>> total = lambda x: x.sum(dim=(1, 2))
    >>> occlusion(total, torch.tensor([[2.0], [-3.0]]), torch.zeros(1))
    tensor([ 2., -3.])
    """
    T = len(vectors)
    without = vectors.repeat(T, 1, 1)  # (T, T, D)
    without[range(T), range(T)] = blank
    return function(vectors[None]) - function(without)


@torch.no_grad()
def attention_received(model: SentenceClassifier, ids: Sequence[int]) -> Tensor:
    """Return the attention each token gets, (T,): the mean over layers, heads and lookers.

    Raises
    ------
    ValueError
        If the encoder's attention is computed by a kernel that gives no weights.
    """
    row = torch.tensor([list(ids)], device=next(model.parameters()).device)
    found = model.encoder(row, torch.ones_like(row), output_attentions=True).attentions
    if not found or found[0] is None:
        raise ValueError("need attention weights, got none: load the encoder with 'eager'")
    return torch.stack(found).mean(dim=(0, 1, 2, 3))  # (L, B, H, T, T) -> (T,)


# --- are they true? -------------------------------------------------------------------------


@dataclass(frozen=True)
class Deletion:
    """What a model's output loses by deletions (DeYoung et al., 2020).

    Attributes
    ----------
    comprehensiveness : float
        Lost when the tokens called important are blanked: high if they were.
    sufficiency : float
        Lost when all others are: low if what was kept is enough.
    """

    comprehensiveness: float
    sufficiency: float


@torch.no_grad()
def deletion(
    function: Output,
    vectors: Tensor,
    importance: Sequence[float] | Tensor | np.ndarray,
    blank: Tensor,
    share: float = 0.2,
) -> Deletion:
    """Blank the tokens that were called important, then all others, and see what is lost.

    Losses count towards zero: on a text with a negative output, the output must rise. So give
    importance for the side the model took: for signed attributions, times the output's sign.

    Parameters
    ----------
    function : callable
        From (B, T, D) to (B,).
    vectors : Tensor of shape (T, D)
        First and last token are the tokenizer's marks: they are never blanked.
    importance : array of shape (T,)
    blank : Tensor of shape (D,)
    share : float
        How many of the tokens between the marks count as the important ones; at least one does.

    Raises
    ------
    ValueError
        If there is not one importance for each token, no token between the marks, or `share` is
        not between 0 and 1.

    Examples
    --------
    >>> total = lambda x: x.sum(dim=(1, 2))
    >>> x = torch.tensor([[0.0], [5.0], [1.0], [0.0]])
    >>> deletion(total, x, [0, 9, 2, 0], torch.zeros(1), share=0.5)
    Deletion(comprehensiveness=5.0, sufficiency=1.0)
    """
    order = np.argsort(-vector(importance, "importance")[1:-1], kind="stable") + 1
    T = len(vectors)
    if len(order) != T - 2 or T < 3:
        raise ValueError(f"need one importance per token and a token between marks, got {T} tokens")
    count = max(1, round(between_0_and_1(share, "share") * len(order)))
    removed = vectors.repeat(2, 1, 1)  # (2, T, D)
    removed[0, order[:count]] = blank
    removed[1, order[count:]] = blank
    whole = function(vectors[None])
    lost = (whole - function(removed)) * torch.sign(whole)  # (2,)
    return Deletion(*lost.tolist())
