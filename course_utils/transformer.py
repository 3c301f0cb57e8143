"""BERT from scratch: a stack of blocks with embeddings and a pooler, and public weights in it.

The encoder is that of J. Devlin et al., "BERT" (2019). Lesson 03 assembles it; filled with a
public checkpoint, it gives transformers' hidden states. With ``causal=True`` the same stack is
a GPT-style decoder, with `Config` values of your own it starts from random weights: lesson 04
does both.

Left out on purpose: the cache of keys and values for generating.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import cached_file

from course_utils.blocks import Block, Config, LayerNorm, allowed_keys
from course_utils.models import encoder_path

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
