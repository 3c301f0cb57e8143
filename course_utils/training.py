"""The training loop, in plain sight.

`training_steps` is the loop of lesson 05: a generator that takes an optimiser step and yields a
record of it. `fit` is a plain ``for`` over these records with what a real run needs around it:
periodic validation, the best weights kept, a progress bar, and checkpoints from which a killed
run continues as if nothing had happened, bit for bit on a CPU (see `checkpoints`).

Left out on purpose: a trainer object. Whoever wants another loop writes the ``for`` and keeps
the rest.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from course_utils.batching import Batch, EpochSampler, Example, TokenizedDataset
from course_utils.checkpoints import RunFolder
from course_utils.distributed import TeamPrecision, join
from course_utils.history import EpochRecord, EvalRecord, History, RunDisplay, StepRecord
from course_utils.inputs import whole_number
from course_utils.labels import check_labels, count_outputs
from course_utils.optimization import MixedPrecision, make_optimizer, make_schedule
from course_utils.recipe import Recipe, setup
from course_utils.runtime import memory_kept

Item = TypeVar("Item")
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, and logits (N, C) with labels (N,) in the order of the dataset."""

    loss: float
    logits: torch.Tensor
    labels: torch.Tensor


# --- losses -------------------------------------------------------------------------------


def rating_loss(logits: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error between logits (B, 1) and ratings (B,)."""
    return nn.functional.mse_loss(logits.squeeze(1), ratings)


# --- the loop -----------------------------------------------------------------------------


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` consecutive items; the last list may be shorter.

    Examples
    --------
    >>> list(grouped("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def forward(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the model's logits for a batch, shape (B, C), in 32-bit floats."""
    output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    return output.logits.float()


def training_steps(
    model: nn.Module,
    loader: Iterable[Batch],
    loss_fn: LossFunction,
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
    precision: MixedPrecision | None = None,
    *,
    accumulate: int = 1,
    max_norm: float = 1.0,
) -> Iterator[StepRecord]:
    """Train on every batch of the loader once; yield a record after each optimiser step.

    A generator does nothing until it is iterated over, and goes on only when asked: between two
    steps the caller may look at the model, or leave the loop.

    Parameters
    ----------
    model : nn.Module
        Takes ``input_ids`` and ``attention_mask``, gives an output with ``logits``. It trains
        where its parameters are, and is put into training mode before each step.
    loader : iterable of Batch
    loss_fn : callable
        Takes logits (B, C) and labels (B,); gives the mean over the batch.
    optimizer, schedule
        Stepped once per group of `accumulate` batches.
    precision : MixedPrecision, optional
        float32 if not given.
    accumulate : int
        Batches per optimiser step. Their gradients add up to that of one large batch: each
        loss is weighted by its share of the group's examples. A last, shorter group counts.
    max_norm : float
        Gradients whose total norm exceeds this are scaled down to it.

    Yields
    ------
    StepRecord
        Steps are numbered by the schedule, which a resumed run restores.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the weights are still those of the step before.
    """
    device = next(model.parameters()).device
    precision = precision or MixedPrecision(model, "float32")
    for group in grouped(loader, accumulate):
        model.train()
        optimizer.zero_grad()
        examples, total = sum(len(batch) for batch in group), torch.zeros((), device=device)
        for batch in group:
            batch = batch.to(device)
            with precision.autocast():
                logits = forward(model, batch)
            loss = loss_fn(logits, batch.labels) * len(batch) / examples
            precision.backward(loss)
            total += loss.detach()
        step_loss = total.item()  # a GPU is waited for here, once a step
        if not math.isfinite(step_loss):  # before it reaches the weights
            raise FloatingPointError(f"the loss became {step_loss}: try a lower lr")
        precision.unscale(optimizer)  # clip true gradients, not scaled ones
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        lr = float(schedule.get_last_lr()[0])
        precision.step(optimizer)
        schedule.step()
        yield StepRecord(schedule.last_epoch, step_loss, lr, examples)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[Batch],
    loss_fn: LossFunction,
    device: torch.device | None = None,
) -> Evaluation:
    """Return the loss over all rows (not a mean of batch means) and the logits in order.

    The model is left in the mode, training or evaluation, in which it came.
    """
    device = device or next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits, labels, index = [], [], []
    for batch in loader:
        batch = batch.to(device)
        logits.append(forward(model, batch))
        labels.append(batch.labels)
        index.append(batch.index)
    model.train(was_training)
    order = torch.cat(index).argsort()
    all_logits, all_labels = torch.cat(logits)[order], torch.cat(labels)[order]
    loss = loss_fn(all_logits, all_labels).item()  # on `device`, where class weights may be
    return Evaluation(loss, all_logits.cpu(), all_labels.cpu())


# --- a whole run --------------------------------------------------------------------------


@memory_kept()
def fit(
    model: nn.Module,
    train_loader: DataLoader[Example],
    validation_loader: DataLoader[Example],
    loss_fn: LossFunction = nn.functional.cross_entropy,
    recipe: Recipe = Recipe(),
    *,
    optimizer: torch.optim.Optimizer | None = None,
    device: torch.device | str | None = None,
    should_stop: Callable[[Sequence[EvalRecord]], bool] | None = None,
    on_epoch_end: Callable[[EpochRecord], None] | None = None,
    folder: Path | str | None = None,
    save_every: int = 100,
    resume: bool = False,
    log_folder: Path | str | None = None,
    progress: bool = True,
) -> History:
    """Fine-tune `model`, keep the weights with the lowest validation loss.

    In a script started by ``torchrun`` the processes train one model together, see `distributed`:
    each batch is divided among them, and the first one writes the files and shows the bar.

    Parameters
    ----------
    model : nn.Module
        Changed in place; ends on `device`, in evaluation mode, with the best weights.
    train_loader, validation_loader : DataLoader
        From `batching.train_loader` and `batching.eval_loader`.
    loss_fn : callable
        Takes logits (B, C) and labels (B,); gives the mean over the batch.
    recipe : Recipe
        Epochs, learning rate, warm-up, precision: what is decided about the run.
    optimizer : Optimizer, optional
        Your own, with its own rates, instead of `make_optimizer(model, lr, weight_decay)`.
    device : optional
        See `runtime.pick_device`.
    should_stop : callable, optional
        Gets all evaluations so far after each new one; True ends training.
    on_epoch_end : callable, optional
        Gets the record of each epoch when it ends; under ``torchrun``, in every process.
    folder : path, optional
        Where ``last.pt`` (everything) and ``best.pt`` (weights) are kept.
    save_every : int
        Optimiser steps between two checkpoints in `folder`.
    resume : bool
        Continue the run in `folder` if there is one. The continued run takes the same steps
        as one that was never interrupted.
    log_folder : path, optional
        Write loss and learning rate for TensorBoard here.
    progress : bool
        Show a bar with the loss and examples per second.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an argument is out of range or contradicts another one, if labels are none of the
        head's, if `folder` already holds a run and `resume` is False, or if the run to be
        resumed was another one.
    FloatingPointError
        If the loss is no longer finite.
    """
    sampler = _check(train_loader, recipe, optimizer, folder, save_every, resume)
    team = join(device)
    model.to(team.device)
    _check_labels(model, loss_fn, train_loader, validation_loader)
    functions = {"loss": loss_fn, "optimizer": optimizer, "stopping": should_stop}
    settings = setup(recipe, model, train_loader, validation_loader, **functions)
    run = RunFolder(folder, settings, resume=resume, writes=team.first)
    team.begin(model, found=run.found is not None)
    optimizer = optimizer or make_optimizer(model, *recipe.rates)
    steps_per_epoch = math.ceil(len(sampler) / recipe.accumulate)
    total = recipe.epochs * steps_per_epoch
    schedule = make_schedule(optimizer, total, recipe.warmup)
    limits: dict[str, Any] = {"accumulate": recipe.accumulate, "max_norm": recipe.max_norm}
    precision = TeamPrecision(model, recipe.precision, team)
    history, best_weights = History(), dict[str, torch.Tensor]()
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    parts |= {"precision": precision, "history": history}
    if run.found:
        run.restore(parts)
        best_weights = run.load_best() if history.evaluations else best_weights
    shown = (log_folder, progress) if team.first else (None, False)
    with RunDisplay(recipe.epochs * sampler.size, history, *shown) as display:
        while len(history.epochs) < recipe.epochs and not history.stopped_early:
            epoch, started = len(history.epochs), time.perf_counter()
            first = epoch * steps_per_epoch
            display.epoch(epoch + 1, recipe.epochs)
            sampler.seek(epoch, first_batch=(len(history.steps) - first) * recipe.accumulate)
            for record in training_steps(
                model, team.share(train_loader), loss_fn, optimizer, schedule, precision, **limits
            ):
                record, step = team.whole(record), record.step
                history.steps.append(record)
                display.step(record)
                at_end = step == first + steps_per_epoch
                if at_end or (recipe.validate_every and step % recipe.validate_every == 0):
                    found = evaluate(model, team.deal(validation_loader), loss_fn)
                    look = EvalRecord(step, team.loss_of(found, loss_fn))
                    history.evaluations.append(look)
                    display.evaluation(look)
                    if history.best is look:
                        best_weights = {k: v.cpu().clone() for k, v in model.state_dict().items()}
                        run.save_best(best_weights)
                    stop = should_stop and should_stop(history.evaluations)
                    history.stopped_early = team.agree(bool(stop))
                if at_end or history.stopped_early:
                    history.close_epoch(epoch + 1, first, time.perf_counter() - started)
                    if on_epoch_end:
                        on_epoch_end(history.epochs[-1])
                if step % save_every == 0 or step == total or history.stopped_early:
                    display.flush()  # the log reaches as far as the checkpoint, whatever comes
                    run.save_last(parts)
                if history.stopped_early:
                    break
    optimizer.zero_grad()  # gradients are as large as the model, and nobody needs them now
    model.eval().load_state_dict(best_weights)
    return history


def _check(
    loader: DataLoader[Example],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer | None,
    folder: Path | str | None,
    save_every: int,
    resume: bool,
) -> EpochSampler:
    """Refuse arguments that cannot be meant; return the loader's sampler."""
    whole_number(save_every, "save_every", least=1)
    if resume and not folder:
        raise ValueError("resume=True needs the folder of the run to continue")
    if optimizer and (recipe.lr, recipe.weight_decay) != (None, None):
        raise ValueError(
            "an optimizer of your own has its own rates: leave lr and weight_decay out of the "
            f"recipe, which says lr={recipe.lr} and weight_decay={recipe.weight_decay}"
        )
    if not isinstance(loader.batch_sampler, EpochSampler):
        raise ValueError("train_loader needs an EpochSampler: build it with batching.train_loader")
    return loader.batch_sampler


def _check_labels(model: nn.Module, loss_fn: LossFunction, *loaders: DataLoader[Example]) -> None:
    """Refuse labels that the model's head or the loss cannot take, before training begins."""
    for loader in loaders:
        if isinstance(data := loader.dataset, TokenizedDataset):
            check_labels(data.labels, count_outputs(model, data), loss_fn)
