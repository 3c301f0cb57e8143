"""Ways to start a submission's process: in a bubblewrap of its own, or unprotected.

Each gives the same, as does the nursery (`births`): a process's number, three pipes, and a way to
learn of its end and to bring that about. `Session` sees nothing of what differs between them.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from course_utils.grading.sandbox import bubblewrap
from course_utils.grading.sandbox.cgroups import INSIDE, Group
from course_utils.grading.sandbox.limits import Limits
from course_utils.grading.sandbox.syscalls import system_call_filter
from course_utils.grading.sandbox.watch import descendants


class Started:
    """A process that was started, with pipes to its standard streams.

    Attributes
    ----------
    pid : int
    inlet, out, err : int
        Open files.
    """

    pid: int
    inlet: int
    out: int
    err: int

    def ended(self, seconds: float) -> bool:
        """Wait for its end, at most so long."""
        raise NotImplementedError

    @property
    def code(self) -> int | None:
        """Its exit code, when it has ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the pipes, after the end."""
        for pipe in (self.inlet, self.out, self.err):
            os.close(pipe)

    def kill(self) -> None:
        """End the process and all it started.

        The first process of a namespace takes all others with it, and is gone only after them.
        Those outside of the namespace then end by themselves, so that waiting for these is
        waiting for all: until then the next submission's process limit counts them.
        """
        pids = descendants(self.pid)
        for pid in [pid for pid in pids if _is_first(pid)] or pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


class Spawned(Started):
    """A process of its own, from a command."""

    def __init__(self, command: Sequence[str], files: Sequence[int], protected: bool) -> None:
        ours = {"PYTHONPATH", "COURSE_CACHE", "HOME", "PATH"}
        outside = {k: v for k, v in bubblewrap.environment().items() if k not in ours}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/" if protected else None,
            pass_fds=files,
            # bubblewrap's own environment can be read inside, in /proc/1
            env={"PATH": os.environ["PATH"]} if protected else os.environ | outside,
        )
        pipes = (self.process.stdin, self.process.stdout, self.process.stderr)
        self.inlet, self.out, self.err = (os.dup(pipe.fileno()) for pipe in pipes if pipe)
        for pipe in pipes:
            if pipe:
                pipe.close()
        self.pid = self.process.pid

    @property
    def code(self) -> int | None:
        """See `Started`."""
        return self.process.returncode

    def ended(self, seconds: float) -> bool:
        """See `Started`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def unprotected() -> Started:
    """Start the runner without walls, with this user's rights."""
    return Spawned([sys.executable, *bubblewrap.RUNNER], (), protected=False)


def in_bubblewrap(
    limits: Limits, hidden: Sequence[Path], core: int | None, group: Group | None
) -> Started:
    """Start the runner in a bubblewrap of its own."""
    filter_file = _open_filter()
    try:
        command = bubblewrap.command(limits, hidden, filter_file, core)
        if group is not None:
            command = [*INSIDE, str(group.folder), *command]
        return Spawned(command, () if filter_file is None else (filter_file,), protected=True)
    finally:
        if filter_file is not None:
            os.close(filter_file)


def _open_filter() -> int | None:
    """Return a file that holds the filter, for one bubblewrap to read."""
    program = system_call_filter()
    if not program:
        return None
    reading, writing = os.pipe()
    os.write(writing, program)
    os.close(writing)
    return reading


def _is_first(pid: int) -> bool:
    """Return True for the first process of a process namespace inside of ours."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[-1] == "1" and len(line.split()) > 2
    return False
