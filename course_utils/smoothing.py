r"""Large inputs made smaller before a layer is rounded, at the expense of its weights.

In eight bits the largest input sets the scale of all, and in a transformer it sits in the same few
places of the vector, text after text. Divided there and multiplied back in the weights, the layer
computes the same and loses less (G. Xiao et al., "SmoothQuant", 2023):

.. math:: \sum_i x_i W_{ji} = \sum_i \frac{x_i}{f_i} (f_i W_{ji}), \quad
          f_i = \frac{\max |x_i|^\alpha}{\max_j |W_{ji}|^{1 - \alpha}}

Alpha says how much of the unevenness the weights take: half for layers that read a LayerNorm. What
GELU gives is more uneven, and its reader's weights take more of it. (Chosen with lesson 13's
model, on validation reviews and product sentences; another model may want other values.)

Left out on purpose: the layer that reads attention's sums, which gained nothing; and putting the
division into the LayerNorm before, since in BERT its output also goes round the layer, undivided.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from course_utils.batching import Batch
from course_utils.inputs import between_0_and_1
from course_utils.models import SentenceClassifier
from course_utils.training import forward

QKV = ("attention.self.query", "attention.self.key", "attention.self.value")
AFTER_NORM, AFTER_GELU = ("intermediate.dense",), ("output.dense",)


class SmoothLinear(nn.Module):
    """A linear layer that divides its inputs by factors and has them in its weights.

    Parameters
    ----------
    layer : nn.Linear
    factors : Tensor of shape (D_in,)
        Above 0.

    Examples
    --------
    >>> layer, x = nn.Linear(3, 2), torch.tensor([[1.0, -2.0, 50.0]])
    >>> smooth = SmoothLinear(layer, torch.tensor([1.0, 1.0, 16.0]))
    >>> torch.allclose(smooth(x), layer(x), atol=1e-5)
    True
    """

    def __init__(self, layer: nn.Linear, factors: Tensor) -> None:
        super().__init__()
        self.inverse: Tensor
        self.weight = nn.Parameter(layer.weight.detach() * factors)
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.register_buffer("inverse", 1 / factors)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b, shape (..., D_out)."""
        return linear(x * self.inverse, self.weight, self.bias)


@torch.no_grad()
def smooth(
    model: SentenceClassifier,
    batches: Iterable[Batch],
    alpha: float = 0.5,
    alpha_after_gelu: float = 0.8,
) -> SentenceClassifier:
    """Return a copy of a classifier whose layers have inputs of more even size.

    Parameters
    ----------
    model : SentenceClassifier
        With a BERT as its encoder; left as it is.
    batches : iterable of Batch
        Texts like those that will be asked about: they say which inputs are large.
    alpha, alpha_after_gelu : float
        Between 0 and 1; towards 1 the weights take all of it.

    Raises
    ------
    ValueError
        If there is no batch, or an alpha is out of range.
    """
    alpha = between_0_and_1(alpha, "alpha")
    after_gelu = between_0_and_1(alpha_after_gelu, "alpha_after_gelu")
    groups = {QKV: alpha, AFTER_NORM: alpha, AFTER_GELU: after_gelu}  # a group reads the same
    smoother = copy.deepcopy(model)
    bert: Any = smoother.encoder
    places = [(block, names) for block in bert.encoder.layer for names in groups]
    largest: dict[int, Tensor] = {}

    def watch(number: int, layer: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            here = inputs[0].abs().flatten(0, -2).amax(dim=0)  # (D_in,)
            largest[number] = torch.maximum(largest.get(number, here), here)

        layer.register_forward_pre_hook(hook)

    for number, (block, names) in enumerate(places):
        watch(number, block.get_submodule(names[0]))
    for batch in batches:
        forward(smoother, batch)
    if not largest:
        raise ValueError("need a batch to see how large inputs are, got none")
    for number, (block, names) in enumerate(places):
        layers = [block.get_submodule(name) for name in names]
        weights = torch.cat([layer.weight for layer in layers]).abs().amax(dim=0)
        inputs = largest[number].clamp(min=1e-5)
        factors = inputs ** groups[names] / weights.clamp(min=1e-5) ** (1 - groups[names])
        for name, layer in zip(names, layers, strict=True):
            block.set_submodule(name, SmoothLinear(layer, factors))
    return smoother
