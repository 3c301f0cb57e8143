"""Several short texts in one row, and none of them reads another.

A batch of texts of many lengths is padded to the longest, and padding is computed like words.
Packed rows have next to none: the mask then says not only whether there is a token but whose it
is. Every example's positions begin anew, and a token sees the earlier tokens of its own example
only, a block-diagonal causal mask. M. Krell et al., "Efficient Sequence Packing without
Cross-contamination" (2021). Lesson 10c builds it and shows what forgetting the blocks costs.

Left out on purpose: kernels that skip the masked part of a row. Here it is computed and thrown
away, which costs little while rows are a few hundred tokens long.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils.instructions import IGNORED, Example, LabelledBatch
from course_utils.llama import Llama
from course_utils.llama_blocks import rotary_waves


def collate_packed(
    rows: Sequence[Sequence[Example]], pad_id: int, *, only_answers: bool = True
) -> LabelledBatch:
    """Write the examples of each row one after the other, padded on the right.

    Parameters
    ----------
    rows : sequence of rows of examples
        As `instructions.pack` makes them.
    pad_id : int
    only_answers : bool
        Ask for the answers, or for everything.

    Returns
    -------
    LabelledBatch
        Its attention mask says whose a token is: 1 for a row's first example, 2 for the second,
        0 for padding. The first token of an example is never asked for: what stands before it is
        another example's.

    Raises
    ------
    ValueError
        If there is no row, or one without an example.

    Examples
    --------
    >>> batch = collate_packed([[Example([5, 6, 2], 1), Example([7, 2], 1)]], pad_id=0)
    >>> batch.attention_mask.tolist(), batch.labels.tolist()
    ([[1, 1, 1, 2, 2]], [[-100, 6, 2, -100, 2]])
    """
    if not rows or not all(rows):
        raise ValueError(f"need rows of one example or more, got {[len(row) for row in rows]}")
    T = max(sum(len(example.input_ids) for example in row) for row in rows)
    ids = torch.full((len(rows), T), pad_id)
    members, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, examples in enumerate(rows):
        start = 0
        for number, example in enumerate(examples, start=1):
            end = start + len(example.input_ids)
            first = start + max(example.answer_start if only_answers else 0, 1)
            ids[row, start:end] = torch.tensor(example.input_ids)
            members[row, start:end] = number
            labels[row, first:end] = ids[row, first:end]
            start = end
    return LabelledBatch(ids, members, labels)


def places_within(members: Tensor) -> Tensor:
    """Count each token's place from the beginning of its own example.

    Parameters
    ----------
    members : LongTensor of shape (B, T)
        Whose each token is.

    Returns
    -------
    LongTensor of shape (B, T)

    Examples
    --------
    >>> places_within(torch.tensor([[1, 1, 1, 2, 2, 0]])).tolist()
    [[0, 1, 2, 0, 1, 0]]
    """
    place = torch.arange(members.size(1), device=members.device).expand_as(members)
    begins = torch.ones_like(members, dtype=torch.bool)
    begins[:, 1:] = members[:, 1:] != members[:, :-1]
    return place - place.where(begins, 0).cummax(dim=1).values


def allowed_within(members: Tensor) -> Tensor:
    """Let each token look at the earlier ones of its own example, and at itself.

    Parameters
    ----------
    members : LongTensor of shape (B, T)

    Returns
    -------
    bool Tensor of shape (B, 1, T, T)
        The same for all heads. Padding sees padding: a query that saw nothing would see all.

    Examples
    --------
    >>> allowed_within(torch.tensor([[1, 1, 2]]))[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    same = members[:, None, :, None] == members[:, None, None, :]  # (B, 1, T, T)
    return same.tril()


def through_blocks(
    llama: Llama, x: Tensor, members: Tensor, start: int = 0, end: int | None = None
) -> Tensor:
    """Take vectors through some of a decoder's blocks, each example for itself.

    Parameters
    ----------
    llama : Llama
    x : Tensor of shape (B, T, D)
        What block `start` reads: word vectors, or what this function returned for the blocks
        below. Frozen blocks need be read only once for a whole training.
    members : LongTensor of shape (B, T)
    start, end : int
        The first block, and the one after the last; all of them if not given.

    Returns
    -------
    Tensor of shape (B, T, D)
    """
    size = llama.config.hidden_size // llama.config.heads
    waves = rotary_waves(places_within(members), size, llama.config.base)
    allowed = allowed_within(members)
    for block in llama.blocks[start:end]:
        x, _ = block(x, allowed, waves)
    return x


class PackedLlama(nn.Module):
    """A decoder that reads packed rows; called like the decoder itself."""

    def __init__(self, llama: Llama) -> None:
        super().__init__()
        self.llama = llama

    def forward(self, input_ids: Tensor, members: Tensor) -> tuple[Tensor, tuple[()]]:
        """Return logits (B, T, V); nothing is kept for a next token.

        Parameters
        ----------
        input_ids : LongTensor of shape (B, T)
        members : LongTensor of shape (B, T)
            A packed batch's attention mask.
        """
        x = through_blocks(self.llama, self.llama.words(input_ids), members)
        return self.llama.head(self.llama.norm(x)), ()
