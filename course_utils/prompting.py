"""A language model as a classifier: put the text into a prompt, compare label words after it.

Nothing is trained. The classes are words, and the class of a text is the word that the model
finds likelier next. Examples put into the prompt teach without a gradient (T. Brown et al.,
"Language Models are Few-Shot Learners", 2020); what the prompt alone prefers can be taken out
again (T. Zhao et al., "Calibrate Before Use", 2021). Lesson 10 measures both.

Left out on purpose: label words of several tokens, and searching for prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from course_utils.inputs import read_rows
from course_utils.llama import Past


@dataclass(frozen=True)
class Prompt:
    """What stands around a text, and one word for each class.

    Attributes
    ----------
    words : tuple of str
        As they follow the prompt, with the space before them if there is one. Only the first
        token of each is compared.
    before, after : str
        Around the text.
    shots : str
        What comes first and is the same for all texts, such as solved examples. It is read once.

    Examples
    --------
    >>> Prompt((" bad", " good"), before="Review: ", after=" Verdict:").around("A bore.")
    'Review: A bore. Verdict:'
    """

    words: tuple[str, ...]
    before: str = ""
    after: str = ""
    shots: str = ""

    def around(self, text: str) -> str:
        """Return the text with what stands around it, without the shots."""
        return self.before + text + self.after

    def solved(self, text: str, label: int) -> str:
        """Return the text as an example whose answer is there."""
        return self.around(text) + self.words[label]


def word_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[int]:
    """Return the first token of each label word.

    Raises
    ------
    ValueError
        If two words begin with the same token: they could not be told apart.
    """
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
    if len(set(ids)) < len(ids):
        raise ValueError(f"label words must begin with different tokens, got {tuple(words)}")
    return ids


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return token ids (B, T) with padding on the left, and the attention mask (B, T).

    Examples
    --------
    >>> ids, mask = pad_left([[5], [6, 7]], pad_id=0)
    >>> ids.tolist(), mask.tolist()
    ([[0, 5], [6, 7]], [[0, 1], [1, 1]])
    """
    T = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (T - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (T - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def repeat_past(past: Past, rows: int) -> Past:
    """Return the keys and values of one text, seen by so many rows; nothing is copied."""
    return tuple(
        (key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1)) for key, value in past
    )


@torch.inference_mode()
def label_scores(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompt: Prompt,
    batch_size: int = 16,
) -> np.ndarray:
    """Return the log-probability of each label word after each text, (N, C).

    Parameters
    ----------
    model : nn.Module
        `llama.Llama`, or any decoder as `generation.Wrapped`; used in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
    texts : sequence of str
    prompt : Prompt
        Its shots are read once, and their keys and values shared by all texts.
    batch_size : int

    Raises
    ------
    ValueError
        If two label words begin with the same token, or there is no text.
    """
    texts, _ = read_rows(texts)
    asked = word_ids(tokenizer, prompt.words)
    rows = [tokenizer(prompt.around(text), add_special_tokens=False)["input_ids"] for text in texts]
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    shots, past = tokenizer(prompt.shots, add_special_tokens=False)["input_ids"], None
    if shots:
        read = torch.tensor([shots], device=device)
        _, past = model(read, torch.ones_like(read), None, last=1)
    scores = np.empty((len(rows), len(asked)))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # little padding
    for start in range(0, len(rows), batch_size):
        chosen = order[start : start + batch_size]
        ids, mask = (x.to(device) for x in pad_left([rows[i] for i in chosen], 0))
        before = torch.ones(len(chosen), len(shots), dtype=mask.dtype, device=device)
        logits, _ = model(
            ids,
            torch.cat([before, mask], dim=1),
            repeat_past(past, len(chosen)) if past else None,
            last=1,
        )
        scores[chosen] = logits[:, -1].log_softmax(dim=-1)[:, asked].cpu()
    model.train(was_training)
    return scores


def calibrate(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""Take out what the prompt prefers by itself: divide by its probabilities of an empty text.

    .. math:: \log p(y \mid x) - \log p(y \mid \text{empty}), \text{ then normalised}

    Parameters
    ----------
    scores : array of shape (N, C)
        Log-probabilities of label words.
    reference : array of shape (M, C)
        The same for texts without content, such as "N/A"; their probabilities are averaged.

    Returns
    -------
    array of shape (N, C)
        Log-probabilities; each row's exponentials sum to 1.

    Examples
    --------
    >>> always_yes = np.log([[0.2, 0.8], [0.4, 0.6]])
    >>> np.exp(calibrate(always_yes, reference=np.log([[0.2, 0.8]]))).round(3).tolist()
    [[0.5, 0.5], [0.727, 0.273]]
    """
    moved = scores - np.log(normalise(reference).mean(axis=0))
    return np.log(normalise(moved))


def normalise(scores: np.ndarray) -> np.ndarray:
    """Return probabilities from logarithms of numbers proportional to them, row by row."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
