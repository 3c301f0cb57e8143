"""From texts to batches: tokenise once, group by length, pad to the longest of the batch.

Padding is wasted arithmetic: a batch padded to 64 tokens costs the same whether its
sentences have 60 tokens or 6. Two ideas remove most of it. Dynamic padding pads a batch
only to its own longest sentence; length buckets put sentences of similar length together.

A batch sampler here is a pure function of (seed, epoch). That is what lets a run that was
killed in the middle of an epoch continue with exactly the batches it had not yet seen.

Left out on purpose: worker processes. Tokenised short texts are ready in memory, so they
would cost more than they save, and they behave differently on Windows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from course_utils.inputs import numbers, read_rows, whole_number
from course_utils.reading import lost_in_reading, warn_of_losses, within

Items = TypeVar("Items", list[int], np.ndarray)


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    Attributes
    ----------
    input_ids : LongTensor of shape (B, T)
        Token ids; T is the longest sentence of this batch.
    attention_mask : LongTensor of shape (B, T)
        1 for a token, 0 for padding.
    labels : Tensor of shape (B,)
        int64 classes or float32 ratings.
    index : LongTensor of shape (B,)
        Each row's place in its dataset, so that results can be put back in order.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on `device`."""
        return replace(self, **{name: t.to(device) for name, t in vars(self).items()})


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised sentence: its place, its token ids (unpadded), its label."""

    index: int
    input_ids: list[int]
    label: int | float


class TokenizedDataset(Dataset[Example]):
    """Texts tokenised once, kept unpadded.

    Parameters
    ----------
    texts : iterable of str, length N
        A list, an array, a pandas Series, a generator. An empty string stays a row, read as
        nothing between the tokenizer's marks: who predicts for a file wants all its rows back.
    labels : array of shape (N,), optional
        Classes (integers, bools) or ratings (floats); zeros if not given.
    tokenizer : PreTrainedTokenizerBase
        A fast one, which says what it cut.
    max_tokens : int
        Longer texts are cut here.

    Attributes
    ----------
    truncated : int
        How many texts were cut.
    unknown : float
        Share of words that the vocabulary does not know, see `reading.lost_in_reading`.

    Raises
    ------
    ValueError
        If there is no text, a row is no text or has no token, a label is no number, their
        numbers differ, or `max_tokens` is out of the encoder's range.

    Warns
    -----
    TextWarning
        If the vocabulary cannot read the texts, or many of them were cut.
    """

    def __init__(
        self,
        texts: Iterable[str],
        labels: Any,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int = 128,
    ) -> None:
        rows, self.labels = read_rows(texts, labels)
        encoded = tokenizer(rows, truncation=True, max_length=within(tokenizer, max_tokens))
        self.input_ids: list[list[int]] = encoded["input_ids"]
        self.truncated, self.unknown = lost_in_reading(encoded, tokenizer)
        warn_of_losses(self.truncated / len(rows), self.unknown, max_tokens)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> Example:
        return Example(index, self.input_ids[index], self.labels[index].item())

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each text, shape (N,)."""
        return np.array([len(ids) for ids in self.input_ids])


def collate(examples: Sequence[Example], pad_id: int = 0) -> Batch:
    """Pad examples to the longest of them and stack them.

    Examples
    --------
    >>> batch = collate([Example(0, [101, 7, 102], 1), Example(1, [101, 102], 0)])
    >>> batch.input_ids.tolist(), batch.attention_mask.tolist()
    ([[101, 7, 102], [101, 102, 0]], [[1, 1, 1], [1, 1, 0]])
    """
    longest = max(len(example.input_ids) for example in examples)
    rows = [e.input_ids + [pad_id] * (longest - len(e.input_ids)) for e in examples]
    mask = [[1] * len(e.input_ids) + [0] * (longest - len(e.input_ids)) for e in examples]
    return Batch(
        input_ids=torch.tensor(rows),
        attention_mask=torch.tensor(mask),
        labels=torch.tensor([example.label for example in examples]),
        index=torch.tensor([example.index for example in examples]),
    )


class EpochSampler(Sampler[list[int]]):
    """Batches of dataset indices as a pure function of (seed, epoch).

    Subclasses say in `batches` how an epoch is ordered. Each iteration is the next epoch;
    `seek` sets where the next one starts, which is all that resuming needs.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0) -> None:
        self.size = whole_number(size, "size", least=1)
        self.batch_size = whole_number(batch_size, "batch_size", least=1)
        self.seed = whole_number(seed, "seed", least=0)
        self.epoch, self.first_batch = 0, 0

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of one epoch, in order."""
        raise NotImplementedError

    def seek(self, epoch: int, first_batch: int = 0) -> None:
        """Make the next iteration yield `epoch`, from its batch `first_batch` on."""
        self.epoch = whole_number(epoch, "epoch", least=0)
        self.first_batch = whole_number(first_batch, "first_batch", least=0)

    def generator(self, epoch: int) -> np.random.Generator:
        """Return the random generator that belongs to one epoch."""
        return np.random.default_rng([self.seed, epoch])

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first_batch = self.epoch, self.first_batch
        self.seek(epoch + 1)
        yield from self.batches(epoch)[first_batch:]

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)  # ceiling: the last batch may be smaller


class SequentialSampler(EpochSampler):
    """Dataset order, or a fixed order of your own; the same in every epoch."""

    def __init__(self, order: Sequence[int], batch_size: int) -> None:
        self.order = [whole_number(row, "a row of the order", least=0) for row in order]
        super().__init__(len(self.order), batch_size)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return consecutive slices of the order."""
        return cut(self.order, self.batch_size)


class RandomSampler(EpochSampler):
    """A new permutation in every epoch."""

    def batches(self, epoch: int) -> list[list[int]]:
        """Return consecutive slices of a permutation."""
        return cut(self.generator(epoch).permutation(self.size).tolist(), self.batch_size)


class BucketSampler(EpochSampler):
    """Batches of sentences of similar length, in random order.

    A permutation is cut into buckets of `bucket_batches` batches; each bucket is sorted by
    length and cut into batches, and all batches are shuffled. One bucket over everything
    pads least, but then the same sentences meet in every epoch.

    Parameters
    ----------
    lengths : sequence of int, length N
    batch_size : int
    seed : int
    bucket_batches : int
        Batches per bucket.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int = 0, bucket_batches: int = 50
    ) -> None:
        super().__init__(len(lengths), batch_size, seed)
        self.lengths = numbers(lengths, "lengths")
        self.bucket_batches = whole_number(bucket_batches, "bucket_batches", least=1)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of one epoch, in order."""
        generator = self.generator(epoch)
        order = generator.permutation(self.size)
        batches: list[list[int]] = []
        for bucket in cut(order, self.batch_size * self.bucket_batches):
            by_length = bucket[np.argsort(self.lengths[bucket], kind="stable")]
            batches += cut(by_length.tolist(), self.batch_size)
        return [batches[i] for i in generator.permutation(len(batches))]


def cut(items: Items, size: int) -> list[Items]:
    """Cut `items` into consecutive pieces of `size`; the last may be smaller.

    Examples
    --------
    >>> cut([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    """
    return [items[start : start + size] for start in range(0, len(items), size)]


def train_loader(
    dataset: TokenizedDataset,
    batch_size: int,
    *,
    seed: int = 0,
    pad_id: int = 0,
    sampler: EpochSampler | None = None,
) -> DataLoader[Example]:
    """Return a loader of shuffled, length-bucketed batches, or of `sampler`'s batches.

    The generator is explicit: a loader without one draws from PyTorch's global generator
    each time it is iterated, and would shift every random number after it.

    Raises
    ------
    ValueError
        If `batch_size` or `seed` is out of range, or `sampler` is not one of this dataset.
    """
    if sampler is None:
        sampler = BucketSampler(_lengths(dataset).tolist(), batch_size, seed)
    if not isinstance(sampler, EpochSampler):
        raise ValueError(f"sampler must be an EpochSampler, got {type(sampler).__name__}")
    last = max(max(rows) for rows in sampler.batches(0))
    if last >= len(dataset):
        raise ValueError(
            f"the sampler asks for row {last} of a dataset of {len(dataset)}: it was made for "
            "another one"
        )
    return _loader(dataset, sampler, pad_id)


def eval_loader(
    dataset: TokenizedDataset, batch_size: int = 64, *, pad_id: int = 0
) -> DataLoader[Example]:
    """Return a loader that visits every row once, sorted by length (no padding to speak of).

    `Batch.index` says where each row belongs; `training.evaluate` puts results in order.
    """
    order = np.argsort(_lengths(dataset), kind="stable").tolist()
    return _loader(dataset, SequentialSampler(order, batch_size), pad_id)


def _lengths(dataset: TokenizedDataset) -> np.ndarray:
    if not hasattr(dataset, "lengths"):
        raise ValueError(f"need a TokenizedDataset, got {type(dataset).__name__}")
    return dataset.lengths()


def _loader(dataset: TokenizedDataset, sampler: EpochSampler, pad_id: int) -> DataLoader[Example]:
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=lambda examples: collate(examples, pad_id),
        generator=torch.Generator().manual_seed(sampler.seed),
    )


def padding_share(lengths: np.ndarray, batches: Sequence[Sequence[int]]) -> float:
    """Return the share of positions that hold padding when these batches are padded.

    Raises
    ------
    ValueError
        If there is no batch, or no token in it.

    Examples
    --------
    >>> padding_share(np.array([2, 4]), [[0, 1]])
    0.25
    """
    lengths = numbers(lengths, "lengths")
    positions = sum(len(batch) * lengths[list(batch)].max() for batch in batches if len(batch))
    if not positions:
        raise ValueError("need a batch with a token in it, got none")
    return float(1 - sum(lengths[list(batch)].sum() for batch in batches) / positions)
