"""BERT from scratch: attention, block, encoder, pooler, and the names of its weights.

The transformer is that of A. Vaswani et al., "Attention Is All You Need" (2017), the
encoder that of J. Devlin et al., "BERT" (2019). Lesson 03 builds every piece below and checks
it against PyTorch and transformers; filled with a public checkpoint, the whole gives
transformers' hidden states. With ``causal=True`` the same stack is a GPT-style decoder, with
`Config` values of your own it starts from random weights: lesson 04 does both.

Shapes, at the end of a line, in the course's symbols: B batch, T tokens, D hidden size,
H heads.

Left out on purpose: fused attention kernels (which give no weights to look at), the cache
of keys and values for generating, and every variant of the block since 2019.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import cached_file

from course_utils.models import encoder_path

# --- the numbers that define a model ------------------------------------------------------


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


def read_config(folder: str) -> Config:
    """Read a BERT checkpoint's ``config.json``; `folder` may also be a hub name.

    Raises
    ------
    ValueError
        If it is not the architecture of this module.
    """
    found = json.loads(checkpoint_file(folder, "config.json").read_text())
    if found.get("model_type") != "bert" or found["hidden_act"] != "gelu":
        kind = f"{found.get('model_type')} with {found.get('hidden_act')}"
        raise ValueError(f"this module is a BERT with exact GELU, the checkpoint is a {kind}")
    return Config(
        vocab_size=found["vocab_size"],
        hidden_size=found["hidden_size"],
        heads=found["num_attention_heads"],
        layers=found["num_hidden_layers"],
        feed_forward_size=found["intermediate_size"],
        max_tokens=found["max_position_embeddings"],
        segments=found["type_vocab_size"],
        dropout=found["hidden_dropout_prob"],
        epsilon=found["layer_norm_eps"],
    )


# --- attention ----------------------------------------------------------------------------


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


# --- the block ----------------------------------------------------------------------------


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


# --- the whole ----------------------------------------------------------------------------


class Embeddings(nn.Module):
    """What the token is, where it stands, which text it belongs to: three tables, added."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, D)
        self.positions = nn.Embedding(config.max_tokens, D)
        self.segments = nn.Embedding(config.segments, D)
        self.norm, self.dropout = LayerNorm(D, config.epsilon), nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Return one vector per token, (B, T, D); without `segment_ids` all are segment 0."""
        if input_ids.size(1) > len(self.positions.weight):
            longest = len(self.positions.weight)
            raise ValueError(f"at most {longest} tokens fit, got {input_ids.size(1)}")
        segment_ids = torch.zeros_like(input_ids) if segment_ids is None else segment_ids
        places = torch.arange(input_ids.size(1), device=input_ids.device)  # (T,)
        x = self.words(input_ids) + self.segments(segment_ids) + self.positions(places)
        return self.dropout(self.norm(x))


@dataclass(frozen=True)
class Output:
    """What a model computed.

    Attributes
    ----------
    hidden : tuple of L + 1 Tensors of shape (B, T, D)
        The embeddings, then the result of each block. Rows at padding mean nothing.
    attention : tuple of L Tensors of shape (B, H, T, T)
        The weights of each block; row: query, column: key.
    pooled : Tensor of shape (B, D), optional
    """

    hidden: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]
    pooled: Tensor | None = None

    @property
    def last_hidden_state(self) -> Tensor:
        """The last of `hidden`, (B, T, D), under the name transformers gives it."""
        return self.hidden[-1]


class Transformer(nn.Module):
    """Embeddings and L blocks: an encoder or, if causal, a decoder."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.apply(initialise)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor | None = None
    ) -> Output:
        """Encode token ids (B, T); `attention_mask` (B, T) is 1 for a token, 0 for padding."""
        allowed = allowed_keys(attention_mask, self.config.causal)
        hidden, maps = [self.embeddings(input_ids, segment_ids)], []
        for block in self.blocks:
            x, weights = block(hidden[-1], allowed)
            hidden.append(x)
            maps.append(weights)
        return Output(tuple(hidden), tuple(maps))


class Bert(nn.Module):
    """The encoder, and a pooler that makes one vector of the text from its first token.

    It can take the place of transformers' encoder in `models.SentenceClassifier`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.encoder = config, Transformer(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        initialise(self.pooler)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor | None = None
    ) -> Output:
        """Return hidden states, attention weights, and one vector per text (B, D)."""
        output = self.encoder(input_ids, attention_mask, segment_ids)
        first = output.last_hidden_state[:, 0]  # (B, D), the vector of [CLS]
        return replace(output, pooled=self.pooler(first).tanh())


# --- weights ------------------------------------------------------------------------------


def initialise(module: nn.Module) -> None:
    """Draw BERT's random start: weights from N(0, 0.02), biases zero. Use with `apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def checkpoint_names(config: Config) -> dict[str, str]:
    """Return for each part of `Bert` that has weights its name in public checkpoints."""
    names = {
        "encoder.embeddings.words": "embeddings.word_embeddings",
        "encoder.embeddings.positions": "embeddings.position_embeddings",
        "encoder.embeddings.segments": "embeddings.token_type_embeddings",
        "encoder.embeddings.norm": "embeddings.LayerNorm",
        "pooler": "pooler.dense",
    }
    for i in range(config.layers):
        ours, theirs = f"encoder.blocks.{i}", f"encoder.layer.{i}"
        names |= {
            f"{ours}.attention.query": f"{theirs}.attention.self.query",
            f"{ours}.attention.key": f"{theirs}.attention.self.key",
            f"{ours}.attention.value": f"{theirs}.attention.self.value",
            f"{ours}.attention.output": f"{theirs}.attention.output.dense",
            f"{ours}.attention_norm": f"{theirs}.attention.output.LayerNorm",
            f"{ours}.feed_forward.expand": f"{theirs}.intermediate.dense",
            f"{ours}.feed_forward.contract": f"{theirs}.output.dense",
            f"{ours}.feed_forward_norm": f"{theirs}.output.LayerNorm",
        }
    return names


def load_weights(bert: Bert, tensors: Mapping[str, Tensor]) -> None:
    """Fill a BERT with a checkpoint's tensors; what it has no place for is left out.

    Raises
    ------
    KeyError
        If a weight of ours is not among the tensors.
    """
    names, state = checkpoint_names(bert.config), {}
    for ours in bert.state_dict():
        part, kind = ours.rsplit(".", 1)  # kind: weight or bias
        state[ours] = tensors[f"{names[part]}.{kind}"]
    bert.load_state_dict(state)


def load_bert(folder: str | None = None, *, dropout: float = 0.1) -> Bert:
    """Return our BERT with a public checkpoint's weights, in evaluation mode.

    Parameters
    ----------
    folder : str, optional
        A folder or a hub name; `models.encoder_path()` if not given.
    dropout : float
        Probability while training.
    """
    folder = folder or encoder_path()
    bert = Bert(replace(read_config(folder), dropout=dropout))
    load_weights(bert, read_tensors(folder))
    return bert.eval()


def checkpoint_file(folder: str, name: str) -> Path:
    """Find a checkpoint's file in a local folder or, for a hub name, in the hub's cache.

    Raises
    ------
    OSError
        If it is nowhere.
    """
    found = cached_file(folder, name)
    assert found is not None
    return Path(found)


def read_tensors(folder: str) -> dict[str, Tensor]:
    """Read a BERT checkpoint's weights by name; `folder` may also be a hub name.

    Old checkpoints put ``bert.`` before every name and call LayerNorm's parameters gamma and
    beta; here they have the names of newer ones.
    """
    tensors = load_file(checkpoint_file(folder, "model.safetensors"))
    newer = {"bert.": "", "LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
    for old, new in newer.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors
