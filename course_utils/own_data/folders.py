"""The folder of a run: claimed once, never overwritten, continued only by the same run.

Left out on purpose: deleting what a person may want. Checkpoints go when the report is written,
since the artefact holds the weights; all else stays until somebody deletes the folder.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from course_utils.checkpoints import refuse_another_run
from course_utils.system import write_atomically

LOOKS = {"audit.html", "audit.json", ".lock"}  # an earlier look at the data: may be renewed
SETTINGS, RESULTS, CHECKPOINTS = "settings.json", "results.json", "checkpoints"


class RunOfOwnData:
    """A folder with everything that one ``course finetune`` writes.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    settings : dict
        Plain data that decide the result: they must be equal for the run to be continued.
    resume : bool

    Raises
    ------
    ValueError
        If the folder holds something else, a finished run, a run and `resume` is False, a run
        with other settings, or one that another process is working on. Nothing is changed then.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, resume: bool) -> None:
        self.path, self.settings = path, as_plain(settings)
        found = self.refuse_if_taken(path, resume=resume)
        if found:
            advice = ". Give the same options, data and course, or choose another --out"
            refuse_another_run(path, found, self.settings, advice)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another process is at work in {path}") from None
        self.write(SETTINGS, self.settings)

    @staticmethod
    def refuse_if_taken(path: Path, *, resume: bool) -> dict[str, Any] | None:
        """Return the settings of the run that is there, None if there is none; see above."""
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file, where a folder for the results is needed: --out")
        names = {file.name for file in path.iterdir()} if path.is_dir() else set()
        if names <= LOOKS:
            return None
        if SETTINGS not in names:
            raise ValueError(
                f"{path} holds other things ({', '.join(sorted(names)[:3])}): nothing is "
                "overwritten, so choose another folder with --out"
            )
        if RESULTS in names:
            raise ValueError(
                f"{path} holds a finished run, see report.html there: nothing is overwritten, so "
                "choose another folder with --out"
            )
        if not resume:
            raise ValueError(
                f"{path} holds a run that did not end: --resume continues it, --out begins "
                "another one"
            )
        return json.loads((path / SETTINGS).read_text(encoding="utf-8"))

    def write(self, name: str, content: Any) -> None:
        """Write a file of this folder, see `write_file`."""
        write_file(self.path / name, content)

    def remembered(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return plain data from a file; what is not there yet is made, and written."""
        file = self.path / name
        if not file.exists():
            self.write(name, make())
        return json.loads(file.read_text(encoding="utf-8"))

    def checkpoints(self, name: str) -> Path:
        """Return the folder for the checkpoints of one fine-tune."""
        return self.path / CHECKPOINTS / name

    def finish(self, results: Any) -> None:
        """Write the results, which end the run, and delete its checkpoints."""
        self.write(RESULTS, results)
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()


def write_file(path: Path, content: Any) -> None:
    """Write a file whole or not at all: text as it is, all else as JSON."""
    text = content if isinstance(content, str) else json.dumps(as_plain(content), indent=1)
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def as_plain(value: Any) -> Any:
    """Return data as JSON has them: dataclasses as dicts, arrays and tuples as lists.

    Examples
    --------
    >>> as_plain({"a": (1, np.float32(0.5)), "b": np.array([1, 2]), "c": Path("x")})
    {'a': [1, 0.5], 'b': [1, 2], 'c': 'x'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value
