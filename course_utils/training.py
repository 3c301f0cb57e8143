"""The training loop, in plain sight.

`train_one_epoch` is the loop of lesson 05. `fit` puts around it what a real run needs:
periodic validation, the best weights kept, a progress bar, and checkpoints from which a
killed run continues as if nothing had happened, bit for bit on a CPU (see `checkpoints`).

The recipe is that of J. Devlin et al., "BERT" (2019): AdamW, linear warm-up and decay,
clipping at norm 1, no weight decay on biases and LayerNorm. Why the warm-up and the bias
correction matter on small data: T. Zhang et al., arXiv:2006.05987.

Left out on purpose: callbacks and configuration objects. What varies is an argument: the
loss, the sampler (in the loader), the optimiser, the stopping rule.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from course_utils.batching import Batch, EpochSampler, Example
from course_utils.checkpoints import RunFolder, set_random_state
from course_utils.runtime import computes_in_bfloat16, pick_device

Item = TypeVar("Item")
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


# --- records ------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step: mean loss over its examples, and the learning rate it used."""

    step: int
    loss: float
    lr: float
    examples: int


@dataclass(frozen=True)
class EvalRecord:
    """One look at the validation set."""

    step: int
    loss: float


@dataclass(frozen=True)
class EpochRecord:
    """One pass over the training data: mean loss over all its examples, and its duration."""

    epoch: int
    train_loss: float
    validation_loss: float
    examples: int
    seconds: float


@dataclass
class History:
    """What happened during `fit`.

    Attributes
    ----------
    steps : list of StepRecord
    evaluations : list of EvalRecord
    epochs : list of EpochRecord
    stopped_early : bool
    """

    steps: list[StepRecord] = field(default_factory=list)
    evaluations: list[EvalRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)
    stopped_early: bool = False

    @property
    def best(self) -> EvalRecord:
        """The evaluation with the lowest loss; its weights are those `fit` leaves behind."""
        return min(self.evaluations, key=lambda record: record.loss)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "History":
        """Rebuild a history from ``dataclasses.asdict(history)``."""
        return cls(
            steps=[StepRecord(**record) for record in content["steps"]],
            evaluations=[EvalRecord(**record) for record in content["evaluations"]],
            epochs=[EpochRecord(**record) for record in content["epochs"]],
            stopped_early=content["stopped_early"],
        )


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


# --- optimiser and schedule ---------------------------------------------------------------


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Divide trainable parameters into those that decay and those that do not.

    Decay pulls weights towards zero. For a bias or a LayerNorm gain (vectors, one
    dimension) zero is not a neutral value, so only matrices decay.

    Examples
    --------
    >>> groups = parameter_groups(nn.Linear(3, 2), 0.01)
    >>> [(group["weight_decay"], len(group["params"])) for group in groups]
    [(0.01, 1), (0.0, 1)]
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(
    model: nn.Module, lr: float = 2e-5, weight_decay: float = 0.01
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter, 2019) with decay on matrices only.

    The fused version updates all parameters in one kernel where the device has one.
    """
    groups = [group for group in parameter_groups(model, weight_decay) if group["params"]]
    if not groups:
        raise ValueError("no parameter is trainable: everything is frozen")
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def warmup_then_decay(step: int, total: int, warmup: int) -> float:
    """Return the factor on the learning rate before optimiser step `step`, counted from 0.

    It climbs linearly to 1 over `warmup` steps, then falls linearly to reach 0 at `total`.

    Examples
    --------
    >>> [warmup_then_decay(step, total=6, warmup=2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


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


def train_one_epoch(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
    loss_fn: LossFunction,
    *,
    device: torch.device,
    accumulate: int = 1,
    max_norm: float = 1.0,
    autocast: AbstractContextManager[Any] | None = None,
    scaler: torch.amp.GradScaler | None = None,
    after_step: Callable[[float, float, int], bool] | None = None,
) -> None:
    """Train on every batch of the loader once.

    Parameters
    ----------
    model : nn.Module
        Takes ``input_ids`` and ``attention_mask``, gives an output with ``logits``. It is
        left in training mode.
    loader : iterable of Batch
    optimizer, schedule
        Stepped once per group of `accumulate` batches.
    loss_fn : callable
        Takes logits (B, C) and labels (B,); gives the mean over the batch.
    device : torch.device
    accumulate : int
        Batches per optimiser step. Their gradients add up to that of one large batch: each
        loss is weighted by its share of the group's examples. A last, shorter group counts.
    max_norm : float
        Gradients whose total norm exceeds this are scaled down to it.
    autocast, scaler : optional
        See `mixed_precision`.
    after_step : callable, optional
        Gets the step's mean loss, its learning rate and its number of examples; a return
        value of True ends the epoch.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the weights are still those of the step before.
    """
    autocast, scaler = autocast or nullcontext(), scaler or torch.amp.GradScaler(enabled=False)
    model.train()
    for group in grouped(loader, accumulate):
        examples = sum(len(batch) for batch in group)
        step_loss = 0.0
        optimizer.zero_grad()
        for batch in group:
            batch = batch.to(device)
            with autocast:
                logits = forward(model, batch)
            loss = loss_fn(logits, batch.labels) * len(batch) / examples
            if not math.isfinite(loss.item()):  # before it reaches the weights
                raise FloatingPointError(f"the loss became {loss.item()}: try a lower lr")
            scaler.scale(loss).backward()
            step_loss += loss.item()
        scaler.unscale_(optimizer)  # clip true gradients, not scaled ones
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        lr = float(schedule.get_last_lr()[0])
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        if after_step and after_step(step_loss, lr, examples):
            break


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


def mixed_precision(
    device: torch.device, precision: Precision = "auto"
) -> tuple[AbstractContextManager[Any], torch.amp.GradScaler]:
    """Return the autocast context and the gradient scaler for a device.

    ``"auto"`` means bfloat16 on a GPU or CPU with hardware for it, else float16 on CUDA,
    else float32: without hardware, it only gets slower. So does our small encoder on a
    large GPU (benchmarks/README.md): there ask for float32. float16 has so small a range that
    gradients vanish; the scaler multiplies the loss to keep them representable.
    """
    if precision == "auto":
        if computes_in_bfloat16(device):
            precision = "bfloat16"
        else:
            precision = "float16" if device.type == "cuda" else "float32"
    if precision not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"precision must be auto, float32, bfloat16 or float16, got {precision!r}")
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    if precision == "float32":
        return nullcontext(), scaler
    return torch.autocast(device.type, dtype=getattr(torch, precision)), scaler


# --- a whole run --------------------------------------------------------------------------


def fit(
    model: nn.Module,
    train_loader: DataLoader[Example],
    validation_loader: DataLoader[Example],
    loss_fn: LossFunction = nn.functional.cross_entropy,
    *,
    epochs: int = 2,
    lr: float = 2e-5,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    accumulate: int = 1,
    max_norm: float = 1.0,
    optimizer: torch.optim.Optimizer | None = None,
    precision: Precision = "auto",
    device: torch.device | str | None = None,
    validate_every: int | None = None,
    should_stop: Callable[[Sequence[EvalRecord]], bool] | None = None,
    on_epoch_end: Callable[[EpochRecord], None] | None = None,
    folder: Path | str | None = None,
    save_every: int = 100,
    resume: bool = False,
    log_folder: Path | str | None = None,
    progress: bool = True,
) -> History:
    """Fine-tune `model`, keep the weights with the lowest validation loss.

    Parameters
    ----------
    model : nn.Module
        Changed in place; ends on `device`, in evaluation mode, with the best weights.
    train_loader, validation_loader : DataLoader
        From `batching.train_loader` and `batching.eval_loader`.
    loss_fn : callable
        Takes logits (B, C) and labels (B,); gives the mean over the batch.
    epochs : int
    lr : float
        Peak learning rate, reached after the warm-up.
    weight_decay : float
    warmup : float
        Share of all optimiser steps over which the rate climbs.
    accumulate, max_norm
        See `train_one_epoch`.
    optimizer : Optimizer, optional
        Your own, instead of `make_optimizer(model, lr, weight_decay)`.
    precision, device
        See `mixed_precision` and `runtime.pick_device`.
    validate_every : int, optional
        Optimiser steps between two looks at the validation set, besides the one at the end
        of every epoch.
    should_stop : callable, optional
        Gets all evaluations so far after each new one; True ends training.
    on_epoch_end : callable, optional
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
        If an argument is out of range, if `folder` already holds a run and `resume` is
        False, or if the run to be resumed had other settings.
    FloatingPointError
        If the loss is no longer finite.
    """
    if epochs < 1 or accumulate < 1 or save_every < 1 or not 0 <= warmup < 1 or lr <= 0:
        raise ValueError(
            "need epochs, accumulate and save_every of at least 1, warmup from 0 to below 1 and "
            f"lr above 0, got {epochs}, {accumulate}, {save_every}, {warmup} and {lr}"
        )
    if validate_every is not None and validate_every < 1:
        raise ValueError(f"validate_every must be at least 1, or None; got {validate_every}")
    if resume and not folder:
        raise ValueError("resume=True needs the folder of the run to continue")
    sampler = train_loader.batch_sampler
    if not isinstance(sampler, EpochSampler):
        raise ValueError("train_loader needs an EpochSampler: build it with batching.train_loader")
    device = torch.device(device) if device else pick_device()
    model.to(device)
    optimizer = optimizer or make_optimizer(model, lr, weight_decay)
    steps_per_epoch = -(-len(sampler) // accumulate)
    total = epochs * steps_per_epoch
    schedule = LambdaLR(optimizer, lambda i: warmup_then_decay(i, total, round(warmup * total)))
    autocast, scaler = mixed_precision(device, precision)
    stateful: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "schedule": schedule,
        "scaler": scaler,
    }
    history, best_weights = History(), dict[str, torch.Tensor]()

    run = None
    if folder:
        recipe: dict[str, Any] = {
            "epochs": epochs,
            "lr": lr,
            "weight_decay": weight_decay,
            "warmup": warmup,
        }
        recipe |= {"accumulate": accumulate, "max_norm": max_norm, "validate_every": validate_every}
        recipe |= {"examples": sampler.size, "batch_size": sampler.batch_size, "seed": sampler.seed}
        recipe |= {"sampler": type(sampler).__name__, "precision": precision}
        run = RunFolder(Path(folder), recipe, resume=resume)
    if run and run.found:
        for name, part in stateful.items():
            part.load_state_dict(run.found["state"][name])
        history = History.from_dict(run.found["state"]["history"])
        best_weights = run.load_best() if history.evaluations else best_weights
        set_random_state(run.found["random"])

    def validate() -> None:
        result = evaluate(model, _batches(validation_loader), loss_fn, device)
        history.evaluations.append(EvalRecord(len(history.steps), result.loss))
        if history.best is history.evaluations[-1]:
            best_weights.update({k: v.cpu().clone() for k, v in model.state_dict().items()})
            if run:
                run.save_best(best_weights)
        if writer:
            writer.add_scalar("loss/validation", result.loss, len(history.steps))
        history.stopped_early = bool(should_stop and should_stop(history.evaluations))

    def after_step(loss: float, rate: float, examples: int) -> bool:
        step = len(history.steps) + 1
        history.steps.append(StepRecord(step, loss, rate, examples))
        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        bar.update(examples)
        if writer:
            writer.add_scalar("loss/train", loss, step)
            writer.add_scalar("lr", rate, step)
        if step % steps_per_epoch == 0 or (validate_every and step % validate_every == 0):
            validate()
        if step % steps_per_epoch == 0 or history.stopped_early:
            history.epochs.append(_epoch_record(history, epoch, steps_per_epoch, started))
            if on_epoch_end:
                on_epoch_end(history.epochs[-1])
        if run and (step % save_every == 0 or step == total or history.stopped_early):
            if writer:
                writer.flush()  # the log reaches as far as the checkpoint, whatever happens next
            state = {name: part.state_dict() for name, part in stateful.items()}
            run.save_last(state | {"history": asdict(history)})
        return history.stopped_early

    writer = _summary_writer(log_folder, len(history.steps)) if log_folder else None
    bar = tqdm(total=epochs * sampler.size, unit="ex", file=sys.stdout, disable=not progress)
    bar.update(sum(record.examples for record in history.steps))
    try:
        for epoch in range(len(history.steps) // steps_per_epoch, epochs):
            if history.stopped_early:
                break
            bar.set_description(f"epoch {epoch + 1}/{epochs}")
            sampler.seek(epoch, first_batch=(len(history.steps) % steps_per_epoch) * accumulate)
            started = time.perf_counter()
            train_one_epoch(
                model,
                _batches(train_loader),
                optimizer,
                schedule,
                loss_fn,
                device=device,
                accumulate=accumulate,
                max_norm=max_norm,
                autocast=autocast,
                scaler=scaler,
                after_step=after_step,
            )
    finally:  # an interrupt, too, leaves a whole log
        bar.close()
        if writer:
            writer.close()
    optimizer.zero_grad()  # gradients are as large as the model, and nobody needs them now
    model.load_state_dict(best_weights)
    model.eval()
    return history


def _epoch_record(history: History, epoch: int, length: int, started: float) -> EpochRecord:
    """Summarise the steps of one epoch; its loss is the mean over examples."""
    steps = history.steps[epoch * length :]
    examples = sum(record.examples for record in steps)
    return EpochRecord(
        epoch=epoch + 1,
        train_loss=sum(record.loss * record.examples for record in steps) / examples,
        validation_loss=history.evaluations[-1].loss,
        examples=examples,
        seconds=time.perf_counter() - started,
    )


def _batches(loader: DataLoader[Example]) -> Iterable[Batch]:
    """Tell the type checker what `collate` makes of a loader's examples."""
    return cast(Iterable[Batch], loader)


def _summary_writer(folder: Path | str, steps_done: int) -> Any:
    """Open a TensorBoard log; a resumed run hides what it is about to do again."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import, rarely wanted

    return SummaryWriter(str(folder), purge_step=steps_done + 1 if steps_done else None)
