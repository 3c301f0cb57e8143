"""Teaching a language model to answer: dialogues as tokens, losses on answers, preferences.

A dialogue becomes one text with markers, the model's chat template. Supervised fine-tuning asks
for the answer's tokens, the end token among them, and not for the question's. Preference
tuning shows two answers and asks that the better one gain more than the other, measured from
where the model started: R. Rafailov et al., "Direct Preference Optimization" (2023).
Lesson 10a builds both.

Left out on purpose: dialogues of several turns, rewards, and reinforcement learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from course_utils.inputs import above_0

IGNORED = -100  # the label of a position that is not asked


@dataclass(frozen=True)
class Example:
    """A question and its answer as tokens.

    Attributes
    ----------
    input_ids : list of int
        All of it.
    answer_start : int
        Where the answer begins; it ends with the end token.
    """

    input_ids: list[int]
    answer_start: int


@dataclass(frozen=True)
class LabelledBatch:
    """Texts with the tokens that are asked for.

    Attributes
    ----------
    input_ids, attention_mask : LongTensors of shape (B, T)
    labels : LongTensor of shape (B, T)
        The token that stands there where it is asked for, else -100; not moved by one.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def chat_example(tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> Example:
    """Return a question in the model's chat template, its answer, and the end token.

    Raises
    ------
    ValueError
        If the tokenizer has no chat template: the model has never seen a dialogue.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template: not a model for dialogues")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    before = tokenizer(asked, add_special_tokens=False)["input_ids"]
    after = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return Example([*before, *after, tokenizer.eos_token_id], len(before))


def collate_examples(
    examples: Sequence[Example], pad_id: int, *, only_answers: bool = True
) -> LabelledBatch:
    """Pad on the right; ask for the answers, or for everything that is there.

    What is padding, the lengths say and not the token: the padding token is often the end token,
    and a model that is never asked for that never learns to stop.

    Raises
    ------
    ValueError
        If there is no example.

    Examples
    --------
    >>> batch = collate_examples([Example([5, 6, 2], 1), Example([7, 8, 9, 2], 2)], pad_id=2)
    >>> batch.labels.tolist()
    [[-100, 6, 2, -100], [-100, -100, 9, 2]]
    """
    if not examples:
        raise ValueError("a batch needs at least one example, got none")
    T = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), T), pad_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        end, start = len(example.input_ids), example.answer_start if only_answers else 0
        ids[row, :end] = torch.tensor(example.input_ids)
        mask[row, :end] = 1
        labels[row, start:end] = ids[row, start:end]
    return LabelledBatch(ids, mask, labels)


def answer_log_probs(model: nn.Module, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Return the summed log-probability of each row's asked tokens (B,), and their number (B,).

    Parameters
    ----------
    model : nn.Module
        `llama.Llama`, or any decoder as `generation.Wrapped`.
    batch : LabelledBatch
    """
    logits, _ = model(batch.input_ids, batch.attention_mask)
    asked, labels = batch.labels[:, 1:] != IGNORED, batch.labels[:, 1:]
    log_p = torch.zeros(asked.shape, dtype=logits.dtype, device=logits.device)
    chosen = nn.functional.cross_entropy(logits[:, :-1][asked], labels[asked], reduction="none")
    log_p[asked] = -chosen  # the token at t is answered by the vector at t - 1
    return log_p.sum(dim=1), asked.sum(dim=1)


def answer_loss(model: nn.Module, batch: LabelledBatch) -> Tensor:
    """Return the mean cross-entropy over all asked tokens of the batch."""
    log_p, counts = answer_log_probs(model, batch)
    return -log_p.sum() / counts.sum()


def dpo_loss(
    better: Tensor, worse: Tensor, better_before: Tensor, worse_before: Tensor, beta: float = 0.1
) -> Tensor:
    r"""Ask that the better answer gain more log-probability than the worse one.

    .. math:: -\log \sigma\big(\beta\,[\log(\pi_w / \pi^0_w) - \log(\pi_l / \pi^0_l)]\big)

    Parameters
    ----------
    better, worse : Tensors of shape (B,)
        Log-probabilities of both answers under the model that is trained.
    better_before, worse_before : Tensors of shape (B,)
        The same under the reference, the model as it was.
    beta : float
        Above 0: how soon a gain is enough. Small values let the model drift further.

    Returns
    -------
    Tensor
        The mean over pairs.

    Examples
    --------
    >>> even = torch.zeros(1)
    >>> round(dpo_loss(even, even, even, even).item(), 4)  # nothing moved yet: log 2
    0.6931
    """
    margin = (better - better_before) - (worse - worse_before)  # (B,)
    return -nn.functional.logsigmoid(above_0(beta, "beta") * margin).mean()


def pack(examples: Sequence[Example], length: int) -> list[list[Example]]:
    """Put examples together into rows of at most `length` tokens: first fit, longest first.

    `packing.collate_packed` writes such rows, and keeps each example from seeing its neighbours.

    Raises
    ------
    ValueError
        If an example is longer than a row.

    Examples
    --------
    >>> rows = pack([Example([1] * n, 0) for n in (2, 5, 3, 4)], length=7)
    >>> [[len(example.input_ids) for example in row] for row in rows]
    [[5, 2], [4, 3]]
    """
    rows: list[list[Example]] = []
    free: list[int] = []
    for example in sorted(examples, key=lambda each: -len(each.input_ids)):
        size = len(example.input_ids)
        if size > length:
            raise ValueError(f"an example of {size} tokens does not fit into a row of {length}")
        place = next((i for i, left in enumerate(free) if left >= size), len(rows))
        if place == len(rows):
            rows.append([])
            free.append(length)
        rows[place].append(example)
        free[place] -= size
    return rows
