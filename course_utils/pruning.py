"""Parts of an encoder taken out: heads of attention, by how much the loss would miss them.

A head that is multiplied by a gate of 1 changes nothing, and the gradient by that gate says how
the loss would move if the head were turned down (P. Michel, O. Levy and G. Neubig, "Are Sixteen
Heads Really Better than One?", 2019).

Left out on purpose: single weights set to zero. A matrix of zeros takes as long to multiply by as
any other; only what is taken out makes a model faster.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.batching import Batch
from course_utils.inputs import whole_number
from course_utils.models import SentenceClassifier
from course_utils.training import LossFunction, forward


def head_importance(
    model: SentenceClassifier, batches: Iterable[Batch], loss_fn: LossFunction
) -> Tensor:
    """Return the mean size of the loss's gradient by each head's gate, shape (layers, H).

    Parameters
    ----------
    model : SentenceClassifier
        With a BERT as its encoder; left as it is.
    batches : iterable of Batch
    loss_fn : callable
        From outputs (B, C) and labels (B,) to the mean loss.
    """
    bert: Any = model.encoder
    layers, H = bert.encoder.layer, bert.config.num_attention_heads
    gates = torch.ones(len(layers), H, requires_grad=True)
    handles = [
        layer.attention.output.dense.register_forward_pre_hook(_gated(gates[i]))
        for i, layer in enumerate(layers)
    ]
    total, count = torch.zeros(len(layers), H), 0
    try:
        for batch in batches:
            loss = loss_fn(forward(model, batch), batch.labels)
            (gradient,) = torch.autograd.grad(loss, gates, retain_graph=True)
            total, count = total + gradient.abs(), count + 1
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise ValueError("need a batch to judge heads by, got none")
    return total / count


def _gated(gate: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs  # (B, T, D): the heads side by side
        return ((x.unflatten(-1, (len(gate), -1)) * gate[:, None]).flatten(-2),)

    return hook


def without_heads(
    model: SentenceClassifier, heads: Mapping[int, Sequence[int]]
) -> SentenceClassifier:
    """Return a copy of a classifier without some heads: its matrices are smaller.

    Parameters
    ----------
    model : SentenceClassifier
        With a BERT as its encoder; left as it is.
    heads : mapping of int to sequence of int
        For a layer, the heads to take out. One of each layer must stay.

    Raises
    ------
    ValueError
        If a layer or a head is not there, or a layer would lose all.
    """
    smaller = copy.deepcopy(model)
    bert: Any = smaller.encoder
    layers, H = bert.encoder.layer, bert.config.num_attention_heads
    for place, gone in heads.items():
        out = {whole_number(head, "a head", least=0) for head in gone}
        if not 0 <= place < len(layers) or (out and max(out) >= H) or len(out) == H:
            raise ValueError(
                f"layers are 0 to {len(layers) - 1}, heads 0 to {H - 1} and one must stay; got "
                f"heads {sorted(out)} of layer {place}"
            )
        attention = layers[place].attention
        each = attention.self.attention_head_size
        rows = torch.cat([torch.arange(h * each, (h + 1) * each) for h in range(H) if h not in out])
        for name in ("query", "key", "value"):
            setattr(attention.self, name, _cut(getattr(attention.self, name), rows, 0))
        attention.output.dense = _cut(attention.output.dense, rows, 1)
        attention.self.num_attention_heads = H - len(out)
        attention.self.all_head_size = len(rows)
    return smaller


def _cut(linear: nn.Linear, kept: Tensor, dim: int) -> nn.Linear:
    """Return a linear layer with some of its outputs (dim 0) or inputs (dim 1) alone."""
    weight = linear.weight.detach().index_select(dim, kept)
    smaller = nn.Linear(weight.shape[1], weight.shape[0])
    smaller.weight = nn.Parameter(weight)
    bias = linear.bias.detach()
    smaller.bias = nn.Parameter((bias[kept] if dim == 0 else bias).clone())
    return smaller
