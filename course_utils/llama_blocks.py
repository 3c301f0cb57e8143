"""One block of a decoder as they are built today: the Llama family's, from scratch.

Five things have changed since lesson 03's block, each small: RMSNorm instead of LayerNorm and
before the work instead of after it, positions as rotations of queries and keys, fewer keys and
values than queries, a gate in the feed-forward part, no biases. The design is that of
H. Touvron et al., "LLaMA" (2023) and "Llama 2" (2023). Lesson 10 builds every piece;
`llama` stacks them.

Shapes, at the end of a line, in the course's symbols: B batch, T tokens, D hidden size, H
heads, V tokens in the vocabulary; and G groups of heads, P tokens read before.

Left out on purpose: scaled rotations for longer texts, experts, and every other family.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_utils.blocks import attention

Waves = tuple[Tensor, Tensor]  # cosines and sines, (B, 1, T, D/H/2)


@dataclass(frozen=True)
class DecoderConfig:
    """The numbers that define a decoder of this family.

    Attributes
    ----------
    vocab_size, hidden_size, heads, layers, feed_forward_size : int
        V, D, H, L and F, as in `blocks.Config`.
    groups : int
        G: heads of one group share keys and values.
    epsilon : float
        Added to the mean square in RMSNorm.
    base : float
        The slowest rotation takes about this many tokens to turn by one radian.
    tied : bool
        The word table is used backwards to read the answer.

    Raises
    ------
    ValueError
        If the heads do not divide the hidden size into even parts, or the groups the heads.
    """

    vocab_size: int
    hidden_size: int
    heads: int
    groups: int
    layers: int
    feed_forward_size: int
    epsilon: float = 1e-5
    base: float = 10_000.0
    tied: bool = True

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.heads) or self.heads % self.groups:
            raise ValueError(
                f"hidden size {self.hidden_size} must be even for each of {self.heads} heads, and "
                f"{self.groups} groups must divide the heads"
            )


class RMSNorm(nn.Module):
    r"""Bring each token's vector to mean square 1, then a learned scale; no mean, no shift.

    .. math:: x \,/\, \sqrt{\mathrm{mean}(x^2) + \epsilon} \cdot w

    B. Zhang and R. Sennrich, "Root Mean Square Layer Normalization" (2019).
    """

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(size)), epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., D), scaled over its last dimension."""
        mean_square = x.square().mean(dim=-1, keepdim=True)  # (..., 1)
        return x * (mean_square + self.epsilon).rsqrt() * self.weight


def rotary_waves(positions: Tensor, size: int, base: float) -> Waves:
    """Return the cosines and sines of every position's angles, fast pairs first.

    Parameters
    ----------
    positions : LongTensor of shape (B, T)
    size : int
        D/H, the length of a query.
    base : float

    Returns
    -------
    tuple of Tensor of shape (B, 1, T, D/H/2)
        The same for all heads.
    """
    speed = base ** (-torch.arange(0, size, 2, device=positions.device) / size)  # (D/H/2,)
    angle = positions[:, None, :, None] * speed  # (B, 1, T, D/H/2)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, waves: Waves) -> Tensor:
    """Turn each pair of numbers (first half with second half) by its position's angle.

    J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).

    Examples
    --------
    >>> quarter = torch.tensor([[[[0.0]]]]), torch.tensor([[[[1.0]]]])  # cosine 0, sine 1
    >>> rotate(torch.tensor([[[[3.0, 4.0]]]]), quarter).flatten().tolist()
    [-4.0, 3.0]
    """
    cos, sin = waves
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D/H/2) each
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class GroupedAttention(nn.Module):
    """H queries side by side, but only G keys and values: each serves H / G heads.

    J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models" (2023).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        D, self.size = config.hidden_size, config.hidden_size // config.heads
        self.shared = config.heads // config.groups
        narrow = config.groups * self.size
        self.query, self.output = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        self.key, self.value = nn.Linear(D, narrow, bias=False), nn.Linear(D, narrow, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """Cut each token's vector into pieces, one for each head or group."""
        return x.unflatten(-1, (-1, self.size)).transpose(1, 2)  # (B, H or G, T, D/H)

    def forward(
        self, x: Tensor, allowed: Tensor, waves: Waves, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the mixed vectors (B, T, D), and keys and values, those of `past` first."""
        query, key = (
            rotate(self.split(self.query(x)), waves),
            rotate(self.split(self.key(x)), waves),
        )
        value = self.split(self.value(x))  # (B, G, T, D/H)
        if past is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(past, (key, value), strict=True))
        every_key, every_value = (
            each.repeat_interleave(self.shared, dim=1) for each in (key, value)
        )  # (B, H, P + T, D/H)
        mixed, _ = attention(query, every_key, every_value, allowed)
        return self.output(mixed.transpose(1, 2).flatten(2)), (key, value)


class SwiGLU(nn.Module):
    r"""A feed-forward part in which one layer opens gates for another.

    .. math:: W_\text{down}\,\big(\mathrm{silu}(W_\text{gate}\, x) \odot W_\text{up}\, x\big)

    N. Shazeer, "GLU Variants Improve Transformer" (2020).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        D, F = config.hidden_size, config.feed_forward_size
        self.gate, self.up = nn.Linear(D, F, bias=False), nn.Linear(D, F, bias=False)
        self.down = nn.Linear(F, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors of the shape that came, (B, T, D)."""
        gate = self.gate(x)  # (B, T, F)
        return self.down(gate * gate.sigmoid() * self.up(x))


class DecoderBlock(nn.Module):
    """Attention, then work on each token; each reads a normed copy and adds to what came."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.epsilon)
        self.attention = GroupedAttention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.epsilon)
        self.feed_forward = SwiGLU(config)

    def forward(
        self, x: Tensor, allowed: Tensor, waves: Waves, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the new vectors (B, T, D), and this block's keys and values."""
        mixed, present = self.attention(self.attention_norm(x), allowed, waves, past)
        x = x + mixed
        return x + self.feed_forward(self.feed_forward_norm(x)), present
