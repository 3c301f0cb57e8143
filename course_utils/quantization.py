r"""Weights in four bits: blocks of codes, and a layer that computes with them.

A block of weights has one scale, and each of its weights a code of four bits, which stands for
one of sixteen levels:

.. math:: \hat w = \text{scale} \cdot \text{level}[\text{code}] + \text{low}

Q4_1, the form in GGUF files, has the levels 0 to 15, and `low` is the smallest weight of a block
of 32. NF4 has levels that are dense where a normal distribution is, and `low` is zero (T. Dettmers
et al., "QLoRA", 2023). Lesson 09a builds both and holds Q4_1 against a file's own blocks.

Left out on purpose: kernels that multiply codes without unpacking them, which need a compiler, and
scales that are themselves quantised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy.stats import norm
from torch import Tensor, nn

from course_utils.inputs import whole_number

Kind = Literal["q4_1", "nf4"]
BLOCK = {"q4_1": 32, "nf4": 64}  # weights in a block


@dataclass(frozen=True)
class Blocks:
    """A matrix in four bits.

    Attributes
    ----------
    packed : uint8 Tensor of shape (N, block / 2)
        Two codes in a byte: number j in the lower half of byte j, number j + block / 2 above it.
    scale, low : float16 Tensor of shape (N,)
    levels : Tensor of shape (16,)
    shape : tuple of int
        Of the matrix.
    """

    packed: Tensor
    scale: Tensor
    low: Tensor
    levels: Tensor
    shape: tuple[int, ...]


def nf4_levels() -> Tensor:
    """Return NF4's sixteen levels, from -1 to 1: quantiles of a normal distribution, and zero.

    Zero must be among them, so seven levels lie below it and eight above.

    Examples
    --------
    >>> nf4_levels()[[0, 7, 15]].tolist()
    [-1.0, 0.0, 1.0]
    """
    most = (1 - 1 / 32 + 1 - 1 / 30) / 2  # the outermost quantile; infinity would be no level
    above = norm.ppf(torch.linspace(0.5, most, 9)[1:])
    below = -norm.ppf(torch.linspace(most, 0.5, 8)[:-1])
    levels = torch.tensor([*below, 0.0, *above], dtype=torch.float64)
    return (levels / levels.max()).float()


def pack(codes: Tensor) -> Tensor:
    """Put two codes of 0 to 15 into each byte: (N, block) becomes (N, block / 2).

    Examples
    --------
    >>> pack(torch.tensor([[1, 2, 3, 4]])).tolist()  # 1 + 16 * 3, 2 + 16 * 4
    [[49, 66]]
    """
    half = codes.shape[1] // 2
    codes = codes.to(torch.uint8)
    return codes[:, :half] | codes[:, half:] << 4


def unpack(packed: Tensor) -> Tensor:
    """Return the codes again: (N, block / 2) bytes become (N, block)."""
    return torch.cat([packed & 15, packed >> 4], dim=1)


def inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and zero where the scale is: a block of equal weights has none.

    Examples
    --------
    >>> inverse(torch.tensor([4.0, 0.0])).tolist()
    [0.25, 0.0]
    """
    return torch.where(scale == 0, 0.0, 1 / scale)


def quantize(weights: Tensor, kind: Kind = "q4_1", block: int | None = None) -> Blocks:
    """Round weights to four bits, block by block along the last dimension.

    Parameters
    ----------
    weights : Tensor
        Its number of elements, row by row, must be a multiple of the block.
    kind : {"q4_1", "nf4"}
    block : int, optional
        32 for Q4_1 and 64 for NF4 if not given.

    Raises
    ------
    ValueError
        If `kind` is neither, or blocks do not fit into a row.

    Examples
    --------
    >>> weights = torch.linspace(0, 3, 32)
    >>> (dequantize(quantize(weights)) - weights).abs().max() < 0.101  # half of 3 / 15
    tensor(True)
    """
    if kind not in BLOCK:
        raise ValueError(f"kind must be q4_1 or nf4, got {kind!r}")
    block = BLOCK[kind] if block is None else whole_number(block, "block", least=2)
    if block % 2 or weights.shape[-1] % block:
        raise ValueError(f"rows of {weights.shape[-1]} do not divide into even blocks of {block}")
    rows = weights.detach().float().reshape(-1, block)
    if kind == "q4_1":
        levels, low = torch.arange(16.0), rows.amin(dim=1)
        scale = (rows.amax(dim=1) - low) / 15
        steps = (rows - low[:, None]) * inverse(scale)[:, None]
        codes = (steps + 0.5).floor().clamp(0, 15)  # as ggml rounds: a half goes up
    else:
        levels, scale = nf4_levels(), rows.abs().amax(dim=1)
        low = torch.zeros_like(scale)
        between = (levels[1:] + levels[:-1]) / 2
        codes = torch.bucketize(rows * inverse(scale)[:, None], between.to(rows.device))
    levels = levels.to(rows.device)
    return Blocks(pack(codes), scale.half(), low.half(), levels, tuple(weights.shape))


def dequantize(blocks: Blocks) -> Tensor:
    """Return the weights that the codes stand for, in float32."""
    values = blocks.levels[unpack(blocks.packed).long()]  # (N, block)
    return (values * blocks.scale.float()[:, None] + blocks.low.float()[:, None]).view(blocks.shape)


class FourBitLinear(nn.Module):
    """A frozen linear layer whose weights are four bits each.

    They are made numbers again whenever they are needed, one layer at a time, on the way forward
    and once more on the way back: kept in between, they would take the memory that was saved.

    Parameters
    ----------
    linear : nn.Linear
    kind, block
        See `quantize`.

    Examples
    --------
    >>> layer = FourBitLinear(nn.Linear(64, 8))
    >>> layer(torch.ones(2, 64)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 8]), 0)
    """

    packed: Tensor
    scale: Tensor
    low: Tensor
    levels: Tensor

    def __init__(self, linear: nn.Linear, kind: Kind = "nf4", block: int | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        blocks = quantize(linear.weight, kind, block)
        self.shape = blocks.shape
        for name in ("packed", "scale", "low", "levels"):
            self.register_buffer(name, getattr(blocks, name))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def numbers(self) -> Tensor:
        """Return the weights as numbers, shape (D_out, D_in)."""
        return dequantize(Blocks(self.packed, self.scale, self.low, self.levels, self.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b, shape (..., D_out)."""
        y = CodedProduct.apply(x, self)
        return y if self.bias is None else y + self.bias


class CodedProduct(torch.autograd.Function):
    """x times the weights, which are unpacked anew for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear) -> Tensor:
        """Multiply; remember the layer, not its numbers."""
        ctx.layer = layer
        return x @ layer.numbers().to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by x; the weights have none."""
        (gradient,) = gradients
        return gradient @ ctx.layer.numbers().to(gradient.dtype), None


def quantize_linears(
    model: nn.Module,
    kind: Kind = "nf4",
    *,
    block: int | None = None,
    skip: Sequence[str] = ("lm_head",),
) -> list[str]:
    """Put four-bit layers in the place of a model's linear layers; return their names.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    kind, block
        See `quantize`.
    skip : sequence of str
        Ends of names that are left alone: the last layer, which often shares its weights with the
        word vectors.
    """
    linears = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    chosen = [(name, m) for name, m in linears if not name.endswith(tuple(skip))]
    for name, linear in chosen:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, FourBitLinear(linear, kind, block))
    return [name for name, _ in chosen]
