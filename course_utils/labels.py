"""Do labels, head and loss agree? Asked before training, not after its first step.

A label 2 for a head of two outputs ends, unchecked, in PyTorch's "Target 2 is out of bounds";
on a GPU, in the end of the process. Ratings in a loss for classes, or a loss for one output
on a head of three, end no clearer, or do not end: some shapes are silently broadcast.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from course_utils.batching import Example, TokenizedDataset, collate
from course_utils.inputs import numbers


def count_outputs(model: nn.Module, dataset: TokenizedDataset) -> int:
    """Return how many outputs a model has for each text, C, by letting it read the first one.

    The model is left in the mode and the random generators in the state in which they came.

    Examples
    --------
    >>> from course_utils.models import load_classifier, load_tokenizer
    >>> data = TokenizedDataset(["fine"], None, load_tokenizer())
    >>> count_outputs(load_classifier(3), data)
    3
    """
    batch = collate([dataset[0]]).to(next(model.parameters()).device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    model.train(was_training)
    return int(output.logits.shape[-1])


def check_labels(
    labels: np.ndarray,
    num_outputs: int,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    """Refuse labels that a loss cannot take from a head, before training has begun.

    The loss itself is asked, on the CPU: each label that occurs is put before it once, with
    logits of zero. So it need not be one that we know. What it refuses is only an error here
    if another label, another kind of number or another head would have passed: a loss that
    wants, say, batches of one size is not judged.

    Parameters
    ----------
    labels : array of shape (N,)
        Integers are classes, floats are ratings, as in `TokenizedDataset.labels`.
    num_outputs : int
        C, the width of the logits.
    loss_fn : callable
        Takes logits (B, C) and labels (B,).

    Raises
    ------
    ValueError
        If a label is no class of this head (the first such row is named), if ratings meet a
        loss for classes or classes one for ratings, or if the loss is for another head.

    Examples
    --------
    >>> check_labels(np.array([0, 1, 2]), 2, nn.functional.cross_entropy)
    Traceback (most recent call last):
    ValueError: row 2 of labels is 2, no class of a head of 2 outputs: they are 0 to 1. In labels \
are 0, 1, 2: count them from 0, or make the head larger
    """
    values, rows = np.unique(numbers(labels, "labels"), return_index=True)
    is_class, loss_fn = values.dtype.kind in "biu", _on_cpu(loss_fn)
    refuses = partial(_refusal, loss_fn, num_outputs)
    refused = refuses(values)
    if refused is None and not (is_class and num_outputs == 1 and _is_distance(loss_fn)):
        return
    if refused and "target size" in refused.lower():  # PyTorch may only warn, and broadcast
        raise ValueError(
            f"the loss wants logits and labels of one shape, but they are (B, {num_outputs}) and "
            "(B,): for ratings use a head of 1 output and training.rating_loss"
        )
    takes_classes, takes_ratings = (refuses(np.array([label])) is None for label in (0, 0.5))
    if takes_classes and not is_class:
        raise ValueError(
            f"labels are floats ({values.dtype}), which are ratings, and the loss is one for "
            "classes: give whole numbers, labels.astype(int), or use training.rating_loss"
        )
    wrong = [bool(refused and refuses(values[i : i + 1])) for i in range(len(values))]
    if takes_classes and any(wrong):
        row = rows[wrong].min()
        found = ", ".join(map(str, values[:10])) + (", ..." if len(values) > 10 else "")
        raise ValueError(
            f"row {row} of labels is {labels[row]}, no class of a head of {num_outputs} outputs: "
            f"they are 0 to {num_outputs - 1}. In labels are {found}: count them from 0, or make "
            "the head larger"
        )
    if takes_ratings and is_class:
        raise ValueError(
            f"labels are whole numbers ({values.dtype}), which are classes, and the loss is one "
            "for ratings: give floats, labels.astype('float32')"
        )
    if num_outputs > 1 and _refusal(loss_fn, 1, values) is None:
        raise ValueError(f"the loss is for a head of 1 output, this one has {num_outputs}")


def _refusal(
    loss_fn: Callable[..., torch.Tensor], num_outputs: int, labels: np.ndarray
) -> str | None:
    """Return what the loss says against so many outputs and such labels; None if nothing."""
    few = labels[:: -(-len(labels) // 1000)] if labels.dtype.kind == "f" else labels
    rows = max(len(few), 3)  # one row, or as many as outputs, could match by accident
    rows += rows == num_outputs
    examples = [Example(i, [0], label.item()) for i, label in enumerate(np.resize(few, rows))]
    batch = collate(examples)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Using a target size")
        try:
            loss_fn(torch.zeros(rows, num_outputs), batch.labels)
        except Exception as error:  # whatever a loss of one's own may raise
            return str(error) or type(error).__name__
    return None


def _is_distance(loss_fn: Callable[..., torch.Tensor]) -> bool:
    """Return True for a loss that is 0 where logit and label are equal and grows between them."""
    if _refusal(loss_fn, 1, np.arange(3.0)) is not None:
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        logits, ratings = torch.zeros(3, 1), torch.arange(3.0)
        zero, near, far = (float(loss_fn(logits, rating.expand(3)).mean()) for rating in ratings)
    return zero == 0 < near < far


def _on_cpu(loss_fn: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return the loss with its class weights on the CPU.

    A label out of range is an exception there. On a GPU it ends the whole process.
    """
    if isinstance(loss_fn, partial):
        given = loss_fn.keywords.items()
        moved = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in given}
        return partial(_on_cpu(loss_fn.func), *loss_fn.args, **moved)
    return copy.deepcopy(loss_fn).cpu() if isinstance(loss_fn, nn.Module) else loss_fn
