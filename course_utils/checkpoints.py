"""Files from which a killed run continues: written whole or not at all.

A checkpoint holds everything the next step depends on: weights, optimiser moments, the
schedule's position, the loss scaler, and every random state. Leave one out and the resumed
run is another run. The order of the batches needs no saving: it is a function of
(seed, epoch), see `batching.EpochSampler`.

Left out on purpose: keeping many checkpoints. `last.pt` is for resuming, `best.pt` is the
model.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course_utils.system import write_atomically


def random_state() -> dict[str, Any]:
    """Return the state of every random generator, as plain data and tensors."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, cached),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put every random generator back into a state that `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


def without_numpy(content: Any) -> Any:
    """Return data with Python's numbers for NumPy's, which a checkpoint could not be read with.

    What holds none, such as a model's weights, comes back as it is and not as a copy.

    Examples
    --------
    >>> without_numpy({"lr": np.float64(0.5), "betas": (0.9, np.float32(0.5))})
    {'lr': 0.5, 'betas': (0.9, 0.5)}
    """
    if isinstance(content, np.generic):
        return content.item()
    if isinstance(content, dict):
        mended = {name: without_numpy(value) for name, value in content.items()}
        same = all(mended[name] is value for name, value in content.items())
        return content if same else mended
    if isinstance(content, list | tuple):
        values = [without_numpy(value) for value in content]
        same = all(one is other for one, other in zip(values, content, strict=True))
        return content if same else type(content)(values)
    return content


def save_atomically(content: Any, path: Path) -> None:
    """Write a file so that its name always leads to a complete version of it."""
    for left_behind in path.parent.glob(".*.pt.*.partial"):  # by a process that was killed
        left_behind.unlink()
    write_atomically(path, lambda file: torch.save(content, file))


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Say what differs between two dictionaries, entry by entry, also inside of entries.

    Examples
    --------
    >>> differences({"lr": 0.1, "head": {"bias": [2]}}, {"lr": 0.1, "head": {"bias": [3]}})
    ['head bias was [2], is [3]']
    """
    found = []
    for name in dict.fromkeys([*theirs, *ours]):
        old, new = theirs.get(name), ours.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{name} {inner}" for inner in differences(old, new)]
        elif old != new:
            found.append(f"{name} was {old}, is {new}")
    return found


def refuse_another_run(
    path: Path, theirs: dict[str, Any], ours: dict[str, Any], advice: str = ""
) -> None:
    """Refuse to continue a run with settings that are not its own.

    Raises
    ------
    ValueError
        If they differ; it says in what, and ends with the advice.
    """
    if changed := differences(theirs, ours):
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        what = f"{', '.join(changed[:4])}{more}"
        raise ValueError(f"the run in {path} was another one: {what}{advice}")


class RunFolder:
    """The two files of one training run, and the settings that belong to them.

    Parameters
    ----------
    path : path, optional
        Made if it does not exist. None keeps nothing and finds nothing.
    settings : dict
        What must be equal for the run to be continued.
    resume : bool
    writes : bool
        False reads only: of several processes with one folder, one writes.

    Raises
    ------
    ValueError
        If a run is there that must not be continued: `resume` is False, its settings
        differ, or its file cannot be read. Nothing is overwritten.
    """

    def __init__(
        self,
        path: Path | str | None,
        settings: dict[str, Any],
        *,
        resume: bool,
        writes: bool = True,
    ) -> None:
        self.found: dict[str, Any] | None = None
        self.writes = writes and path is not None
        self.settings, self.path = settings, None if path is None else Path(path)
        if self.path is None:
            return
        self.last, self.best = self.path / "last.pt", self.path / "best.pt"
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.last.exists():
            return
        if not resume:
            raise ValueError(f"{self.path} already holds a run: pass resume=True or another folder")
        self.found = self._read(self.last, "settings", "state", "random")
        refuse_another_run(self.path, self.found["settings"], settings)

    def restore(self, parts: dict[str, Any]) -> None:
        """Put a run that was found back into its parts, and every random generator with it."""
        assert self.found is not None
        for name, part in parts.items():
            part.load_state_dict(self.found["state"][name])
        set_random_state(self.found["random"])

    def save_last(self, parts: dict[str, Any]) -> None:
        """Write everything needed to continue from here: the parts' states, the random ones."""
        if not self.writes:
            return
        state = {name: part.state_dict() for name, part in parts.items()}
        content = {"settings": self.settings, "state": state, "random": random_state()}
        save_atomically(without_numpy(content), self.last)

    def save_best(self, weights: dict[str, torch.Tensor]) -> None:
        """Write the weights with the lowest validation loss so far."""
        if self.writes:
            save_atomically(weights, self.best)

    def load_best(self) -> dict[str, torch.Tensor]:
        """Read the weights that `save_best` wrote."""
        return self._read(self.best)

    @staticmethod
    def _read(path: Path, *keys: str) -> dict[str, Any]:
        try:
            # weights_only: a file from elsewhere can hold data, but cannot run code
            content = torch.load(path, map_location="cpu", weights_only=True)
            if not set(keys) <= set(content):
                raise KeyError(keys)
            return content
        except Exception as error:
            raise ValueError(
                f"cannot read the checkpoint {path} ({type(error).__name__}): it is damaged or "
                "not a checkpoint of this course; move it away to start again"
            ) from error
