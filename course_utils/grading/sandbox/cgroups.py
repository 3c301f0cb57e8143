"""A control group for each submission, where one can be made: the kernel counts the whole tree.

Only version 2, and what its place in the machine's hierarchy allows: limits need the controllers to
be handed down to there (systemd does that at the top), computing time is summed in any. Root
can make one nearly everywhere, an ordinary user where the session manager delegates. Where there
is none, `watch` and `cores` do what can be done from outside.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from course_utils.grading.sandbox.limits import Limits

PREFIX = "course-grading"
# Run a command inside of a group: the shell moves itself there, and becomes the command.
INSIDE = ("sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec "$@"')


class Group:
    """A control group.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def limit(self, limits: Limits) -> None:
        """Set the limits whose controllers there are."""
        values = {
            "memory.max": int(limits.memory_gb * 1e9),
            "memory.swap.max": 0,
            "memory.oom.group": 1,  # end all of it, not one process
            "pids.max": limits.processes,
            "cpu.max": "100000 100000",  # microseconds in each 100,000: one core
        }
        for name, value in values.items():
            if (self.folder / name).exists():
                with contextlib.suppress(OSError):
                    (self.folder / name).write_text(str(value))

    def add(self, pid: int) -> None:
        """Move a process in, with what it starts from now on."""
        with contextlib.suppress(OSError):  # not allowed: then the others' limits do without
            (self.folder / "cgroup.procs").write_text(str(pid))

    def seconds(self) -> float:
        """Return the computing time of all that ran in it."""
        return self._number("cpu.stat", "usage_usec") / 1e6

    def out_of_memory(self) -> bool:
        """Return True if the kernel ended something for want of memory."""
        return self._number("memory.events", "oom_kill") > 0

    def _number(self, file: str, name: str) -> int:
        with contextlib.suppress(OSError):
            for line in (self.folder / file).read_text().splitlines():
                if line.split()[0] == name:
                    return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove it, when what was in it has ended."""
        for _ in range(20):
            try:
                self.folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:  # the last of it is just ending
                time.sleep(0.02)


def places() -> list[Path]:
    """Return where a group might be made, where controllers are the likeliest first."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tops = [Path(line[1]) for line in mounts if line[2] == "cgroup2"]
    own = Path("/proc/self/cgroup").read_text().splitlines()
    mine = next((line[3:] for line in own if line.startswith("0::/")), None)
    if not tops or mine is None:
        return []
    place = tops[0] / mine.lstrip("/")
    return list(dict.fromkeys([tops[0], place.parent, place] if place != tops[0] else tops[:1]))


@contextlib.contextmanager
def one_group(limits: Limits) -> Iterator[Group | None]:
    """Yield a new group with these limits, and remove it at the end; None where there is none."""
    group = None
    with contextlib.suppress(OSError):
        for place in sorted(places(), key=_lacks_controllers):
            folder = place / f"{PREFIX}-{os.getpid()}-{threading.get_native_id()}"
            with contextlib.suppress(OSError):
                folder.mkdir()
                group = Group(folder)
                break
    if group is None:
        yield None
        return
    try:
        group.limit(limits)
        yield group
    finally:
        group.remove()


def _lacks_controllers(place: Path) -> bool:
    try:
        return "memory" not in (place / "cgroup.subtree_control").read_text().split()
    except OSError:
        return True
