"""What happened during a training run: records, and the places where they are shown.

A record is made once and never changed. `History` collects them, is saved with every
checkpoint, and is all that `plotting` needs.
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm


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
    """What happened during `training.fit`.

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

    def close_epoch(self, epoch: int, first_step: int, seconds: float) -> EpochRecord:
        """Sum up an epoch whose steps begin at index `first_step`; keep and return its record."""
        steps = self.steps[first_step:]
        examples = sum(record.examples for record in steps)
        record = EpochRecord(
            epoch=epoch,
            train_loss=sum(step.loss * step.examples for step in steps) / examples,
            validation_loss=self.evaluations[-1].loss,
            examples=examples,
            seconds=seconds,
        )
        self.epochs.append(record)
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.steps = [StepRecord(**record) for record in state["steps"]]
        self.evaluations = [EvalRecord(**record) for record in state["evaluations"]]
        self.epochs = [EpochRecord(**record) for record in state["epochs"]]
        self.stopped_early = state["stopped_early"]


class RunDisplay:
    """A progress bar on the page, and a TensorBoard log if a folder is given for one.

    As a context manager it closes both, whatever happens, so that an interrupt leaves a whole log.

    Parameters
    ----------
    examples : int
        Of all epochs together.
    done : History
        What a resumed run has behind it. Its log hides the steps that are about to be done again.
    log_folder : path, optional
    progress : bool
    """

    def __init__(
        self, examples: int, done: History, log_folder: Path | str | None, progress: bool
    ) -> None:
        self.writer = _summary_writer(log_folder, len(done.steps)) if log_folder else None
        self.bar = tqdm(total=examples, unit="ex", file=sys.stdout, disable=not progress)
        self.bar.update(sum(record.examples for record in done.steps))

    def epoch(self, number: int, of: int) -> None:
        """Say which epoch begins."""
        self.bar.set_description(f"epoch {number}/{of}")

    def step(self, record: StepRecord) -> None:
        """Show an optimiser step."""
        self.bar.set_postfix_str(f"loss {record.loss:.3f}", refresh=False)
        self.bar.update(record.examples)
        if self.writer:
            self.writer.add_scalar("loss/train", record.loss, record.step)
            self.writer.add_scalar("lr", record.lr, record.step)

    def evaluation(self, record: EvalRecord) -> None:
        """Show a look at the validation set."""
        if self.writer:
            self.writer.add_scalar("loss/validation", record.loss, record.step)

    def flush(self) -> None:
        """Write the log as far as it goes: call it before a checkpoint that it must reach."""
        if self.writer:
            self.writer.flush()

    def __enter__(self) -> "RunDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()


def _summary_writer(folder: Path | str, steps_done: int) -> Any:
    """Open a TensorBoard log; a resumed run hides what it is about to do again."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import, rarely wanted

    return SummaryWriter(str(folder), purge_step=steps_done + 1 if steps_done else None)
