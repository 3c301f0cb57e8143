r"""Large inputs made smaller before a layer is rounded, at the expense of its weights.

In eight bits the largest input sets the scale of all, and in a transformer it sits in the same few
places of the vector, text after text. Divided there and multiplied back in the weights, the layer
computes the same and loses less (G. Xiao et al., "SmoothQuant", 2023):

.. math:: \sum_i x_i W_{ji} = \sum_i \frac{x_i}{f_i} (f_i W_{ji}), \quad
          f_i = \frac{\max |x_i|^\alpha}{\max_j |W_{ji}|^{1 - \alpha}}

Left out on purpose: putting the division into the LayerNorm before. In BERT its output also goes
round the layer, undivided.
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
    model: SentenceClassifier, batches: Iterable[Batch], alpha: float = 0.5
) -> SentenceClassifier:
    """Return a copy of a classifier whose layers have inputs of more even size.

    Parameters
    ----------
    model : SentenceClassifier
        With a BERT as its encoder; left as it is.
    batches : iterable of Batch
        Texts like those that will be asked about: they say which inputs are large.
    alpha : float
        How much of it the weights take: 0 none, 1 all.

    Raises
    ------
    ValueError
        If there is no batch, or `alpha` is out of range.
    """
    alpha = between_0_and_1(alpha, "alpha")
    smoother = copy.deepcopy(model)
    bert: Any = smoother.encoder
    layers = bert.encoder.layer
    linears = {n: m for n, m in layers.named_modules() if isinstance(m, nn.Linear)}
    largest: dict[str, Tensor] = {}

    def watch(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            here = inputs[0].abs().flatten(0, -2).amax(dim=0)  # (D_in,)
            largest[name] = torch.maximum(largest.get(name, here), here)

        linears[name].register_forward_pre_hook(hook)

    for name in linears:
        watch(name)
    for batch in batches:
        forward(smoother, batch)
    if not largest:
        raise ValueError("need a batch to see how large inputs are, got none")
    for name, layer in linears.items():
        inputs, weights = largest[name].clamp(min=1e-5), layer.weight.abs().amax(dim=0)
        factors = inputs**alpha / weights.clamp(min=1e-5) ** (1 - alpha)
        parent, _, child = name.rpartition(".")
        setattr(layers.get_submodule(parent), child, SmoothLinear(layer, factors))
    return smoother
