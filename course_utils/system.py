"""What is asked of the operating system: cores, memory, files written whole, their hashes.

In one place, and without PyTorch: commands that only look, and the tools around the course, are
not to wait for it.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def usable_cores() -> int:
    """Return how many cores this process may use (a container may see fewer than exist)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def container_memory(total: int, group: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Return the limit of the container we run in and what is used of it, in bytes.

    Where there is no limit: `total`, and 0.
    """
    try:
        limit, used = [
            (group / f"memory.{name}").read_text().strip() for name in ("max", "current")
        ]
        return int(limit), int(used)
    except (OSError, ValueError):  # no such file, or the limit reads "max"
        return total, 0


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that its name always leads to a complete version of it: the old or the new.

    What is written goes into another file first, ``.NAME.PROCESS.partial`` in the same folder,
    which then takes the name. If writing fails, that file is deleted; if the process is killed
    meanwhile, it is all that is left behind.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    write : callable
        Gets the open binary file, such as ``lambda file: torch.save(weights, file)``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "a.txt"), lambda file: file.write(b"whole"))
    ...     Path(folder, "a.txt").read_text(), os.listdir(folder)
    ('whole', ['a.txt'])
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two processes, two files
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # on disk before the name points to it
        os.replace(partial, path)
    except BaseException:  # an interrupt too
        partial.unlink(missing_ok=True)
        raise
