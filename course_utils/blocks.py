"""One block of a transformer: attention with heads and masks, LayerNorm, GELU, a small network.

The block is that of A. Vaswani et al., "Attention Is All You Need" (2017), with J. Devlin's
GELU ("BERT", 2019). Lesson 03 builds every piece and checks it against PyTorch;
`transformer` stacks them.

Shapes, at the end of a line, in the course's symbols: B batch, T tokens, D hidden size,
H heads.

Left out on purpose: fused attention kernels (which give no weights to look at), and every
variant of the block since 2019.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """The numbers that define a transformer.

    Attributes
    ----------
    vocab_size : int
        Word pieces in the vocabulary.
    hidden_size : int
        D, the length of every token's vector.
    heads : int
        H; each works in D / H dimensions.
    layers : int
        L, the number of blocks.
    feed_forward_size : int
        Width inside a block's feed-forward part; 4 D in BERT.
    max_tokens : int
        Rows of the position table: the longest text the model can read.
    segments : int
        Rows of the segment table (first or second text of a pair).
    dropout : float
        Probability of zeroing a number while training, in hidden vectors and attention.
    epsilon : float
        Added to the variance in LayerNorm.
    causal : bool
        A token sees only itself and those before it, as in GPT.

    Raises
    ------
    ValueError
        If the heads do not divide the hidden size.

    Examples
    --------
    >>> Config(vocab_size=100, hidden_size=8, heads=2, layers=1, feed_forward_size=32).causal
    False
    """

    vocab_size: int
    hidden_size: int
    heads: int
    layers: int
    feed_forward_size: int
    max_tokens: int = 512
    segments: int = 2
    dropout: float = 0.1
    epsilon: float = 1e-12
    causal: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide hidden size {self.hidden_size}")


def attention(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""Mix values by how well each query fits each key.

    .. math:: \mathrm{softmax}(Q K^\top / \sqrt{d})\, V

    Parameters
    ----------
    query, key, value : Tensor of shape (..., T, d)
    allowed : bool Tensor that broadcasts to (..., T, T)
        False where a query (row) must not look at a key (column).
    dropout : float
        Probability of dropping a weight.

    Returns
    -------
    tuple of Tensor
        The mixed values (..., T, d) and the weights (..., T, T), before dropout.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> attention(x, x, x, allowed=torch.eye(2, dtype=torch.bool))[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # (..., T, T)
    # not -inf: a row in which nothing is allowed would become NaN
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    return nn.functional.dropout(weights, dropout) @ value, weights


def allowed_keys(attention_mask: Tensor, causal: bool = False) -> Tensor:
    """Say which keys each query may look at: no padding and, if causal, nothing later.

    Parameters
    ----------
    attention_mask : Tensor of shape (B, T)
        1 for a token, 0 for padding.

    Returns
    -------
    bool Tensor of shape (B, 1, 1, T), or (B, 1, T, T) if causal
        The same for all heads, and without `causal` for all queries.

    Examples
    --------
    >>> allowed_keys(torch.tensor([[1, 1, 0]]), causal=True)[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    """
    allowed = attention_mask.bool()[:, None, None, :]  # (B, 1, 1, T)
    if causal:
        T = attention_mask.size(1)
        earlier = torch.ones(T, T, dtype=torch.bool, device=allowed.device).tril()  # (T, T)
        allowed = allowed & earlier  # (B, 1, T, T)
    return allowed


class SelfAttention(nn.Module):
    """H attentions side by side: every token asks, every token answers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.hidden_size
        self.heads, self.dropout = config.heads, config.dropout
        self.query, self.key, self.value = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.output = nn.Linear(D, D)

    def split(self, x: Tensor) -> Tensor:
        """Cut each token's vector into H pieces."""
        B, T, D = x.shape
        return x.view(B, T, self.heads, D // self.heads).transpose(1, 2)  # (B, H, T, D/H)

    def forward(self, x: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed vectors (B, T, D) and the weights (B, H, T, T)."""
        query, key = self.split(self.query(x)), self.split(self.key(x))  # (B, H, T, D/H)
        value = self.split(self.value(x))  # (B, H, T, D/H)
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attention(query, key, value, allowed, dropout)
        joined = mixed.transpose(1, 2).flatten(2)  # (B, T, D)
        return self.output(joined), weights


class LayerNorm(nn.Module):
    """Give each token's vector mean 0 and variance 1, then a learned scale and shift.

    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization" (2016).
    """

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., D), normalised over its last dimension."""
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
        return centred / (variance + self.epsilon).sqrt() * self.weight + self.bias


def gelu(x: Tensor) -> Tensor:
    r"""Let x through by the share of a standard normal that lies below it.

    .. math:: x\,\Phi(x) = x\,(1 + \mathrm{erf}(x / \sqrt{2})) / 2

    D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units" (2016).

    Examples
    --------
    >>> gelu(torch.tensor([-10.0, 0.0, 10.0])).abs().tolist()
    [0.0, 0.0, 10.0]
    """
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


class FeedForward(nn.Module):
    """Two layers applied to each token by itself."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.contract = nn.Linear(config.feed_forward_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors of the shape that came, (B, T, D)."""
        return self.contract(gelu(self.expand(x)))


class Block(nn.Module):
    """Attention between tokens, then work on each token; each added to what came, then normed."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = LayerNorm(config.hidden_size, config.epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new vectors (B, T, D) and the attention weights (B, H, T, T)."""
        mixed, weights = self.attention(x, allowed)
        x = self.attention_norm(x + self.dropout(mixed))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights
