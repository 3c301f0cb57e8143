"""An encoder cut in two: the lower blocks read each text once, the upper ones are trained.

Lower layers change least in fine-tuning and cost as much as upper ones. Frozen, they give the same
vectors in every epoch and every run: so they are computed once and kept, and what is left to train
is a small model whose input is those vectors. Ten runs then cost little more than one did.

Left out on purpose: dropout below the cut. The kept vectors are those of evaluation.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from course_utils.batching import Batch, TokenizedDataset, eval_loader
from course_utils.blocks import allowed_keys
from course_utils.inputs import whole_number
from course_utils.transformer import Bert, Output, load_bert


class LowerBlocks(nn.Module):
    """The embeddings and the blocks below the cut, frozen, in evaluation mode."""

    def __init__(self, bert: Bert, cut: int) -> None:
        super().__init__()
        _check_cut(bert, cut)
        self.embeddings = bert.encoder.embeddings
        self.blocks = bert.encoder.blocks[:cut]
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return one vector per token, (B, T, D)."""
        x, allowed = self.embeddings(input_ids), allowed_keys(attention_mask)
        for block in self.blocks:
            x, _ = block(x, allowed)
        return x


class UpperBlocks(nn.Module):
    """A copy of the blocks above the cut; it takes the place of an encoder in a classifier.

    Parameters
    ----------
    bert : Bert
        Its own blocks stay as they are.
    cut : int
        How many blocks lie below.
    """

    def __init__(self, bert: Bert, cut: int) -> None:
        super().__init__()
        _check_cut(bert, cut)
        self.config, self.blocks = bert.config, deepcopy(bert.encoder.blocks[cut:])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Output:
        """Go on from vectors (B, T, D), which stand in the place of token ids."""
        x, allowed = input_ids, allowed_keys(attention_mask)
        for block in self.blocks:
            x, _ = block(x, allowed)
        return Output((x,), ())


def read_once(
    lower: LowerBlocks, texts: Sequence[str], labels: Any, tokenizer: PreTrainedTokenizerBase
) -> Batch:
    """Read texts with the lower blocks; return one large batch of vectors in the texts' order.

    Returns
    -------
    Batch
        ``input_ids`` of shape (N, T, D) holds vectors, zero at padding.
    """
    data = TokenizedDataset(texts, labels, tokenizer)
    N, T = len(data), int(data.lengths().max())
    mask = torch.zeros(N, T, dtype=torch.long)
    vectors = torch.zeros(N, T, lower.embeddings.words.embedding_dim)
    for batch in eval_loader(data):
        length = batch.input_ids.size(1)
        vectors[batch.index, :length] = lower(batch.input_ids, batch.attention_mask)
        mask[batch.index, :length] = batch.attention_mask
    vectors *= mask[:, :, None]
    return Batch(vectors, mask, torch.as_tensor(data.labels), torch.arange(N))


def take(part: Batch, rows: torch.Tensor | Sequence[int]) -> Batch:
    """Return some rows of a large batch, cut to the longest of them."""
    rows = torch.as_tensor(rows)
    T = int(part.attention_mask[rows].sum(dim=1).max())
    vectors, mask = part.input_ids[rows, :T], part.attention_mask[rows, :T]
    return Batch(vectors, mask, part.labels[rows], part.index[rows])


def in_batches(part: Batch, size: int = 64) -> Iterator[Batch]:
    """Yield all rows, those of similar length together; `Batch.index` says where they belong."""
    for rows in part.attention_mask.sum(dim=1).argsort().split(size):
        yield take(part, rows)


def joined(parts: Sequence[Batch]) -> Batch:
    """Put large batches one after the other, padded to the longest, rows counted anew."""
    T = max(part.attention_mask.size(1) for part in parts)
    vectors = [nn.functional.pad(p.input_ids, (0, 0, 0, T - p.input_ids.size(1))) for p in parts]
    masks = [nn.functional.pad(p.attention_mask, (0, T - p.attention_mask.size(1))) for p in parts]
    labels = torch.cat([part.labels for part in parts])
    return Batch(torch.cat(vectors), torch.cat(masks), labels, torch.arange(len(labels)))


def cut_encoder(cut: int, *, dropout: float = 0.1) -> tuple[LowerBlocks, Bert]:
    """Return the blocks below the cut, and the whole encoder for `UpperBlocks` to copy from."""
    bert = load_bert(dropout=dropout)
    return LowerBlocks(bert, cut), bert


def _check_cut(bert: Bert, cut: int) -> None:
    layers = len(bert.encoder.blocks)
    if not 0 <= whole_number(cut, "cut") < layers:
        raise ValueError(f"cut must leave a block above it: from 0 to {layers - 1}, got {cut}")
