"""A small real problem: movie reviews, a vocabulary of their commonest words, a BERT of 2 layers.

Everything in it is what the lessons use, only smaller, so that a training run takes a moment.
"""

from __future__ import annotations

import warnings
from collections import Counter
from functools import cache

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from course_utils.batching import Batch, TokenizedDataset, collate, eval_loader, train_loader
from course_utils.datasets import Sentence, load_corpus, targets
from course_utils.reading import TextWarning

WORDS = 300


@cache
def reviews(count: int = 200) -> tuple[Sentence, ...]:
    return load_corpus("movies")[:count]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; what is not among the commonest words is unknown."""
    words = Counter(word for review in reviews() for word in review.text.lower().split())
    vocabulary = ["[PAD]", "[UNK]", *(word for word, _ in words.most_common(WORDS - 2))]
    words_to_ids = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    words_to_ids.normalizer = normalizers.Lowercase()
    words_to_ids.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words_to_ids, pad_token="[PAD]", unk_token="[UNK]"
    )


def dataset(start: int, stop: int, target: str = "binary") -> TokenizedDataset:
    rows = reviews()[start:stop]
    texts = [review.text for review in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextWarning)  # so small a vocabulary knows half the words
        return TokenizedDataset(texts, targets(rows, target), tokenizer(), max_tokens=32)


def model(num_outputs: int = 2, *, dropout: float = 0.1, seed: int = 0):
    """A real BertForSequenceClassification, from random weights."""
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_labels=num_outputs,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertForSequenceClassification(config).eval()


def loaders(
    train: int = 26, validation: int = 10, batch_size: int = 4, target: str = "binary"
) -> tuple[DataLoader, DataLoader]:
    return (
        train_loader(dataset(0, train, target), batch_size, seed=1),
        eval_loader(dataset(train, train + validation, target), batch_size=3),
    )


def batches(*sizes: int, target: str = "binary") -> list[Batch]:
    """Consecutive reviews in batches of these sizes."""
    data = dataset(0, sum(sizes), target)
    ends = np.cumsum(sizes)
    return [
        collate([data[i] for i in range(end - size, end)])
        for size, end in zip(sizes, ends, strict=True)
    ]


def weights(of: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in of.state_dict().items()}
