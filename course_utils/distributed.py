"""Several processes train one model: what each computes, and how it becomes one again.

``torchrun`` starts a script several times, on the GPUs of one machine or of several, and tells each
process its number. `training.fit` then joins them. All hold the same weights. Each computes its
share of the rows of every batch, and the gradients are added up before they are clipped: so all
take the same step, the one that a single process would have taken on the whole batch (but for
rounding, and for dropout, whose masks are drawn for each share). A recipe means the same on one GPU
and on eight, and a run that was begun on one may be continued on the other.

The gradient of the whole batch is the sum over processes of (rows of the share / rows of the batch)
x (gradient of the share's mean loss): a plain mean over the processes is wrong as soon as their
shares differ by a row.

Left out on purpose: sending while the backward pass still computes, which
``DistributedDataParallel`` does, and weights divided among processes, ``fully_shard``. Lesson 12a
builds on both and says what they gain.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from course_utils.batching import Batch, EpochSampler, Example
from course_utils.history import StepRecord
from course_utils.optimization import MixedPrecision, Precision
from course_utils.runtime import pick_device

Value = TypeVar("Value")
LOST = (
    "another process of this run has ended, so this one cannot go on; its own message stands "
    "elsewhere in this output. The same command with resume=True continues from the last checkpoint"
)


@dataclass(frozen=True)
class Share(Batch):
    """One process's rows of a batch.

    Attributes
    ----------
    parts : int
        What it counts for, and so its ``len``: each row of the whole batch is as many parts as
        there are processes. A batch with fewer rows than processes is computed by all of them, and
        each answers for one part of every row.
    """

    parts: int = 1

    def __len__(self) -> int:
        return self.parts

    def to(self, device: torch.device | str) -> "Share":
        """Return the share on `device`."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in tensors.items()}
        return replace(self, **moved)


def is_first() -> bool:
    """Return True in the one process that writes and prints: always, when there is only one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


@contextmanager
def _others_there() -> Iterator[None]:
    """Say what it means when another process does not answer."""
    try:
        yield
    except RuntimeError as error:  # what all of torch.distributed's errors are
        raise RuntimeError(LOST) from error


class Team:
    """The processes that train one model. Alone, every method hands back what it was given.

    Parameters
    ----------
    device : torch.device
        Where this process computes.
    rank, size : int
        This process's number, and how many there are.
    """

    def __init__(self, device: torch.device, rank: int = 0, size: int = 1) -> None:
        self.device, self.rank, self.size = device, rank, size
        self.first = rank == 0
        self._own = self._all = 0  # parts of the step that is being computed
        self._judges = True

    def agree(self, value: Value) -> Value:
        """Return the first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        with _others_there():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def begin(self, model: nn.Module, found: bool) -> None:
        """Give all processes the first one's weights; check that all see the same run folder.

        Raises
        ------
        ValueError
            In all of them, if one has found a run to continue and another has not.
        """
        if self.size == 1:
            return
        if len(set(self._gather(found))) > 1:
            raise ValueError(
                "some processes have found a run in their folder and some have not: it must lie on "
                "a disk that all machines share"
            )
        with torch.no_grad(), _others_there():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def share(self, loader: DataLoader[Example]) -> Iterable[Batch]:
        """Return this process's rows of each batch, for training.

        PyTorch's generator is set before each batch by (seed, epoch, batch, process), as the order
        of the batches is by (seed, epoch): processes draw different dropout masks, and a run that
        is continued draws those of one that was never interrupted.
        """
        return cast(Iterable[Batch], loader) if self.size == 1 else self._shares(loader)

    def _shares(self, loader: DataLoader[Example]) -> Iterator[Batch]:
        sampler = _sampler(loader)
        epoch, first = sampler.epoch, sampler.first_batch
        for number, rows in enumerate(sampler, start=first):
            key = np.random.SeedSequence([sampler.seed, epoch, number, self.rank])
            torch.manual_seed(int(key.generate_state(1)[0]))
            few = len(rows) < self.size
            own = rows if few else rows[self.rank :: self.size]
            parts = len(rows) if few else len(own) * self.size
            self._own, self._all = self._own + parts, self._all + len(rows) * self.size
            yield Share(**vars(_collate(loader, own)), parts=parts)

    def add_up(self, model: nn.Module) -> None:
        """Make every gradient that of the whole batch, by adding those of the shares."""
        if self.size == 1:
            return
        share = self._own / self._all
        with _others_there():
            waits = [
                dist.all_reduce(p.grad.mul_(share), async_op=True)
                for p in model.parameters()
                if p.grad is not None
            ]
            for wait in waits:
                wait.wait()

    def whole(self, record: StepRecord) -> StepRecord:
        """Return the record of the whole step for that of this process's share."""
        if self.size == 1:
            return record
        share, rows = self._own / self._all, self._all // self.size
        self._own = self._all = 0
        loss = torch.tensor(record.loss * share, device=self.device)
        with _others_there():
            dist.all_reduce(loss)
        return replace(record, loss=loss.item(), examples=rows)

    def deal(self, loader: DataLoader[Example]) -> Iterable[Batch]:
        """Return this process's batches, whole ones, for evaluation: each row is read once."""
        if self.size == 1:
            return cast(Iterable[Batch], loader)
        batches = list(_sampler(loader))
        self._judges = self.rank < len(batches)  # else there is none left for this process
        return (_collate(loader, rows) for rows in batches[self.rank :: self.size] or batches[:1])

    def loss_of(self, found: Any, loss_fn: Callable[[torch.Tensor, torch.Tensor], Any]) -> float:
        """Return the loss over all rows, for what each process found on its own.

        Parameters
        ----------
        found : Evaluation
            Of the batches that `deal` gave.
        loss_fn : callable
        """
        if self.size == 1:
            return found.loss
        parts = self._gather((found.logits, found.labels) if self._judges else None)
        logits, labels = (
            torch.cat(each).to(self.device) for each in zip(*filter(None, parts), strict=True)
        )
        return self.agree(loss_fn(logits, labels).item())

    def _gather(self, value: Any) -> list[Any]:
        values = [None] * self.size
        with _others_there():
            dist.all_gather_object(values, value)
        return values


class TeamPrecision(MixedPrecision):
    """`MixedPrecision` whose gradients are the whole team's from `unscale` on.

    That is after the last backward pass of a step and before its gradients are clipped. An overflow
    in one process makes the sum infinite in all, so that all skip the step.
    """

    def __init__(self, model: nn.Module, precision: Precision, team: Team) -> None:
        super().__init__(model, precision)
        self.model, self.team = model, team

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the gradients up, then make them true again."""
        self.team.add_up(self.model)
        super().unscale(optimizer)


def join(device: torch.device | str | None = None) -> Team:
    """Return the team that ``torchrun`` has started, or one of this process alone.

    Under ``torchrun`` each process takes the GPU of its number on its machine; they talk through
    NCCL on GPUs, through Gloo on CPUs.

    Parameters
    ----------
    device : optional
        See `runtime.pick_device`.

    Raises
    ------
    ValueError
        If there are more processes on this machine than GPUs, or the device is none on which
        processes can talk.
    """
    here = pick_device(device if device is None else str(device))
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if not launched and not (dist.is_available() and dist.is_initialized()):
        return Team(here)
    if here.type == "cuda":
        here = _own_gpu(here)
    elif here.type != "cpu":
        raise ValueError(f"several processes need CUDA or the CPU, got {here}: pass device='cpu'")
    if not dist.is_initialized():
        dist.init_process_group()
        atexit.register(_leave)
    return Team(here, dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    """Say goodbye to the others, but not after an error: they may not be there to answer."""
    if dist.is_initialized() and not hasattr(sys, "last_value"):
        dist.destroy_process_group()


def _own_gpu(wanted: torch.device) -> torch.device:
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= count:
        raise ValueError(
            f"process {local} of this machine has no GPU, there are {count}: start at most one "
            "process for each, or pass device='cpu'"
        )
    if wanted.index not in (None, local):
        raise ValueError(f"process {local} computes on GPU {local}, not on {wanted}: leave it out")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _sampler(loader: DataLoader[Example]) -> EpochSampler:
    if not isinstance(loader.batch_sampler, EpochSampler):
        raise ValueError(
            "several processes divide the batches of an EpochSampler: build the loader with "
            "batching.train_loader or batching.eval_loader"
        )
    return loader.batch_sampler


def _collate(loader: DataLoader[Example], rows: list[int]) -> Batch:
    return cast(Batch, loader.collate_fn([loader.dataset[row] for row in rows]))
