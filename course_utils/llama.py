"""A decoder from scratch: a stack of today's blocks, and public weights in it.

Filled with a public checkpoint of the Llama family, it gives transformers' logits, and it keeps
the keys and values of what was read. Lesson 10 assembles it.

Left out on purpose: other families; `generation.Wrapped` lets transformers' own models be
called in the same way.
"""

import json

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils.blocks import allowed_keys
from course_utils.decoders import decoder_path
from course_utils.llama_blocks import DecoderBlock, DecoderConfig, RMSNorm, rotary_waves
from course_utils.transformer import checkpoint_file

Past = tuple[tuple[Tensor, Tensor], ...]  # of each block: keys and values, (B, G, P, D/H)


class Llama(nn.Module):
    """A word table, L blocks, a last norm, and the word table backwards."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.epsilon)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.words.weight

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, past: Past | None = None, last: int = 0
    ) -> tuple[Tensor, Past]:
        """Return logits, and all keys and values so far.

        Parameters
        ----------
        input_ids : LongTensor of shape (B, T)
            Tokens not read yet.
        attention_mask : LongTensor of shape (B, P + T)
            1 for a token, 0 for padding; with `past`, of what was read before as well.
        past : Past, optional
            What an earlier call returned for the first P tokens.
        last : int
            If above 0, logits are computed for that many last positions only.

        Returns
        -------
        tuple
            Logits (B, T or `last`, V), and keys and values of every block.
        """
        T = input_ids.size(1)
        # A token's place is counted in tokens: padding on the left moves nobody.
        positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -T:]  # (B, T)
        size = self.config.hidden_size // self.config.heads
        waves = rotary_waves(positions, size, self.config.base)
        allowed = allowed_keys(attention_mask, causal=True)[:, :, -T:]  # (B, 1, T, P + T)
        x, present = self.words(input_ids), []
        for i, block in enumerate(self.blocks):
            x, kept = block(x, allowed, waves, past[i] if past else None)
            present.append(kept)
        return self.head(self.norm(x[:, -last:])), tuple(present)


# --- weights ------------------------------------------------------------------------------


def read_decoder_config(folder: str) -> DecoderConfig:
    """Read a Llama checkpoint's ``config.json``; `folder` may also be a hub name.

    Raises
    ------
    ValueError
        If it is not the architecture of this module.
    """
    found = json.loads(checkpoint_file(folder, "config.json").read_text())
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    kind = (found.get("model_type"), rope.get("rope_type", "default"))
    if kind != ("llama", "default") or found.get("attention_bias"):
        raise ValueError(f"this module is a plain llama, the checkpoint is {kind[0]}, {kind[1]}")
    return DecoderConfig(
        vocab_size=found["vocab_size"],
        hidden_size=found["hidden_size"],
        heads=found["num_attention_heads"],
        groups=found["num_key_value_heads"],
        layers=found["num_hidden_layers"],
        feed_forward_size=found["intermediate_size"],
        epsilon=found["rms_norm_eps"],
        base=rope.get("rope_theta") or found.get("rope_theta", 10_000.0),
        tied=found.get("tie_word_embeddings", False),
    )


THEIR_NAMES = {
    "words.": "model.embed_tokens.",
    "blocks.": "model.layers.",
    "attention_norm.": "input_layernorm.",
    "feed_forward_norm.": "post_attention_layernorm.",
    "attention.query.": "self_attn.q_proj.",
    "attention.key.": "self_attn.k_proj.",
    "attention.value.": "self_attn.v_proj.",
    "attention.output.": "self_attn.o_proj.",
    "feed_forward.": "mlp.",
    "gate.": "gate_proj.",
    "up.": "up_proj.",
    "down.": "down_proj.",
}


def their_name(ours: str) -> str:
    """Return the name a weight of ours has in public checkpoints.

    Examples
    --------
    >>> their_name("blocks.3.attention.key.weight")
    'model.layers.3.self_attn.k_proj.weight'
    """
    named = {"norm.weight": "model.norm.weight", "head.weight": "lm_head.weight"}
    if ours in named:
        return named[ours]
    for mine, theirs in THEIR_NAMES.items():
        ours = ours.replace(mine, theirs)
    return ours


def load_llama(folder: str | None = None) -> Llama:
    """Return our decoder with a public checkpoint's weights, in float32 and evaluation mode.

    Parameters
    ----------
    folder : str, optional
        A folder or a hub name; `decoders.decoder_path()` if not given.

    Raises
    ------
    ValueError
        If the checkpoint is of another family.
    KeyError
        If a weight of ours is not in it.
    """
    folder = folder or decoder_path()
    config = read_decoder_config(folder)
    tensors = load_file(checkpoint_file(folder, "model.safetensors"))
    with torch.device("meta"):  # no random weights for what is about to be replaced
        llama = Llama(config)
    tied = {"head.weight"} if config.tied else set()
    state = {
        ours: tensors[their_name(ours)].float() for ours in llama.state_dict() if ours not in tied
    }
    llama.load_state_dict(state, strict=False, assign=True)
    if config.tied:
        llama.head.weight = llama.words.weight
    return llama.eval()
