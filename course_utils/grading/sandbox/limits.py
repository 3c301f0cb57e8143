"""What one submission may use, and the error that says it cannot be run safely here."""

import sys
from dataclasses import dataclass


class SandboxError(RuntimeError):
    """Student code cannot be run safely on this machine; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use, all its processes taken together.

    Attributes
    ----------
    seconds : float
        Wall-clock time for everything, starting Python included; and computing time.
    memory_gb : float
        Memory of all its processes together, with what they keep on memory disks.
    address_gb : float
        Address space of each process; importing torch takes 3.7.
    processes : int
        Processes and threads.
    disk_mb : int
        Size of each memory disk, and of any one file.
    files : int
        Files on each memory disk: empty ones take memory too.
    """

    seconds: float = 120.0
    memory_gb: float = 3.0
    address_gb: float = 8.0
    processes: int = 256
    disk_mb: int = 128
    files: int = 4096

    def resources(self, processes: int | None = None) -> dict[str, int]:
        """Return the limits that the kernel holds for each process, by their short names."""
        return {
            "as": int(self.address_gb * 1e9),
            "cpu": int(2 * self.seconds) + 1,
            "nproc": self.processes if processes is None else processes,
            "fsize": self.disk_mb * 1_000_000,
            "nofile": 256,
            "core": 0,
            "memlock": 0,
        }


def on_linux() -> bool:
    """Return True where there can be walls at all."""
    return sys.platform == "linux"
