"""What a process and all it started use, as seen from outside: memory, disks, computing time.

Inside their process namespace the orphans of a submission are taken over by its first process, so
that the tree below that one is always all of them.

Memory is what only they have: anonymous pages, page tables, swapped pages, and what is on the
memory disks, whether or not it is mapped by anybody. Files of the system do not count. A fork
shares its pages with its parent until one of them writes: the quick sum counts these twice, and
only where that is too much is the exact one taken, which reads every page table.
"""

import contextlib
import os
from pathlib import Path

from course_utils.grading.sandbox.filesystem import WRITABLE

PER_FILE = 1536  # bytes of kernel memory that an empty file on a memory disk takes
PER_SOCKET = 425_984  # the most that waits in one socket, by Linux's default
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def descendants(pid: int) -> list[int]:
    """Return a process and all it started, parents first (only itself without Linux's /proc)."""
    found = [pid]
    for parent in found:  # grows while we walk it
        with contextlib.suppress(OSError):  # it has just ended
            for task in os.listdir(f"/proc/{parent}/task"):
                with contextlib.suppress(OSError):
                    children = Path(f"/proc/{parent}/task/{task}/children").read_text()
                    found += [int(child) for child in children.split()]
    return found


class Watch:
    """The use of a process and its descendants.

    Parameters
    ----------
    pid : int
    disk_bytes : int
        The size of each memory disk, by which they are known.
    """

    def __init__(self, pid: int, disk_bytes: int) -> None:
        self.pid, self.disk_bytes = pid, disk_bytes
        self.computed: dict[tuple[int, str], float] = {}  # also of those that have ended

    def memory(self, most: float) -> float:
        """Return the bytes in use; more exact where it would be more than `most`."""
        pids = descendants(self.pid)
        kept = self.disks(pids) + self.sockets(pids)
        quick = {pid: _fields(pid, "status", ("RssAnon", "VmPTE", "VmSwap")) for pid in pids}
        if kept + sum(quick.values()) <= most:
            return kept + sum(quick.values())
        for pid in pids:
            if exact := _fields(pid, "smaps_rollup", ("Pss_Anon", "SwapPss")):
                quick[pid] = exact + _fields(pid, "status", ("VmPTE",))
        return kept + sum(quick.values())

    def disks(self, pids: list[int]) -> float:
        """Return what is on the memory disks, each file counted with what the kernel keeps of it.

        Which disks these are is told by their size: while the walls are being built, the first
        processes still see others.
        """
        for pid in reversed(pids):
            with contextlib.suppress(OSError):
                used = 0.0
                for disk in WRITABLE:
                    seen = os.statvfs(f"/proc/{pid}/root{disk}")
                    if seen.f_blocks * seen.f_frsize < self.disk_bytes + (1 << 20):
                        used += (seen.f_blocks - seen.f_bfree) * seen.f_frsize
                        used += (seen.f_files - seen.f_ffree) * PER_FILE
                return used
        return 0.0

    def sockets(self, pids: list[int]) -> float:
        """Return what may wait in the sockets of their network namespace."""
        with contextlib.suppress(OSError, IndexError):
            if os.readlink(f"/proc/{pids[-1]}/ns/net") != os.readlink("/proc/self/ns/net"):
                table = Path(f"/proc/{pids[-1]}/net/unix").read_bytes()
                return max(0, table.count(b"\n") - 1) * PER_SOCKET
        return 0.0

    def seconds(self) -> float:
        """Return the computing time of all that run, and of those that have ended.

        That of an ended one is known from its parent if that waited for it, and from an earlier
        look if not; one that neither was waited for nor seen is missed.
        """
        own = inherited = 0.0
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                user, system, waited_user, waited_system = map(int, fields[11:15])
                self.computed[pid, fields[19]] = (user + system) / TICKS
                own += (user + system) / TICKS
                inherited += (waited_user + waited_system) / TICKS
        return max(own + inherited, sum(self.computed.values()))


def _fields(pid: int, file: str, names: tuple[str, ...]) -> int:
    """Return the sum of some lines ``Name:   12 kB`` of a process's file, in bytes."""
    total = 0
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                total += 1024 * int(rest.split()[0])
    return total
