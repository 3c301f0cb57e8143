"""The grader's side of the nursery: start one, and have submissions' processes born in it."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from course_utils.grading.sandbox import bubblewrap
from course_utils.grading.sandbox.cgroups import Group
from course_utils.grading.sandbox.limits import Limits, SandboxError
from course_utils.grading.sandbox.nursery import BORN, GO
from course_utils.grading.sandbox.start import Started
from course_utils.grading.sandbox.watch import descendants

CHOICE = "COURSE_SANDBOX"  # set to "bubblewrap": no nursery, for comparison
FIRST_S = 120.0  # patience with the import of PyTorch on a busy machine
BIRTH_S = 30.0  # and with a fork


class Nursery:
    """A nursery that runs.

    Parameters
    ----------
    command : sequence of str
        What starts it: `bubblewrap.nursery_command`.

    Raises
    ------
    SandboxError
        If it does not start.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                env={"PATH": os.environ["PATH"]},
            )
        self.requests.settimeout(FIRST_S)
        with contextlib.suppress(ImportError):  # the references need it, and later it would cost
            import_module("torch")  # as long again: now both are imported at once
        try:
            if self.requests.recv(len(BORN)) == BORN:
                return
        except OSError:
            pass
        words = self.close().decode("utf-8", "replace").strip()
        raise SandboxError(f"the nursery does not start: {words[-600:] or 'it said nothing'}")

    @property
    def lives(self) -> bool:
        """True until it ends, for whatever reason."""
        return self.process.poll() is None

    def close(self) -> bytes:
        """End it, and all that was born in it; return what it said on its standard error."""
        self.requests.close()  # at which it ends; if it does not:
        try:
            return self.process.communicate(timeout=5)[1]
        except subprocess.TimeoutExpired:
            for pid in reversed(descendants(self.process.pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            return self.process.communicate()[1]


class Born(Started):
    """A submission's process, forked in the nursery.

    Raises
    ------
    SandboxError
        If it was not born.
    """

    def __init__(
        self, nursery: Nursery, limits: Limits, core: int | None, group: Group | None
    ) -> None:
        request = {
            "user": bubblewrap.free_user() if bubblewrap.is_root() else None,
            "limits": limits.resources(bubblewrap.process_limit(limits, everywhere=False)),
            "disk": limits.disk_mb * 1_000_000,
            "files": limits.files,
        }
        self._code: int | None = None
        self.control, their_control = socket.socketpair()
        self.control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.control.settimeout(BIRTH_S)
        their_in, self.inlet = os.pipe()
        self.out, their_out = os.pipe()
        self.err, their_err = os.pipe()
        theirs = [their_in, their_out, their_err, their_control.detach()]
        try:
            socket.send_fds(nursery.requests, [json.dumps(request).encode()], theirs)
        except OSError:
            pass  # it has ended: then nobody answers below
        finally:
            for file in theirs:
                os.close(file)
        try:
            self.pid = self._number()
            if core is not None:
                os.sched_setaffinity(self.pid, {core})
            if group is not None:
                group.add(self.pid)
            self.control.send(GO)
        except (OSError, ValueError):
            self.control.close()
            super().close()
            raise SandboxError("the nursery forked no process") from None

    def _number(self) -> int:
        """Return the newborn's process number as seen from here: the kernel tells it."""
        word, extra, _, _ = self.control.recvmsg(len(BORN), socket.CMSG_SPACE(12))
        if word != BORN:
            raise ValueError("not born")
        pid: int = struct.unpack("iii", extra[0][2])[0]  # then user and group
        return pid

    @property
    def code(self) -> int | None:
        """See `Started`."""
        return self._code

    def ended(self, seconds: float) -> bool:
        """See `Started`."""
        if self._code is None:
            self.control.settimeout(seconds)
            try:
                self._code = int(self.control.recv(16) or 128 + signal.SIGKILL)
            except (BlockingIOError, TimeoutError):
                return False
        return True

    def close(self) -> None:
        """See `Started`."""
        self.control.close()
        super().close()


class Nurseries:
    """The nurseries of this process, by the command that starts them; started when asked for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[tuple[str, ...], Nursery] = {}
        self.refused: dict[tuple[str, ...], str] = {}  # why it cannot be had

    def get(self, hidden: Sequence[Path]) -> Nursery | None:
        """Return a nursery with these folders hidden, or None where there cannot be one."""
        if os.environ.get(CHOICE) == "bubblewrap":
            return None
        command = tuple(bubblewrap.nursery_command(hidden))
        with self.lock:
            if command in self.refused:
                return None
            nursery = self.running.get(command)
            if nursery is None or not nursery.lives:
                try:
                    nursery = self.running[command] = Nursery(command)
                except SandboxError as error:
                    self.refused[command] = str(error)
                    return None
            return nursery

    def refuse(self, hidden: Sequence[Path], reason: str) -> None:
        """Remember that there cannot be one."""
        command = tuple(bubblewrap.nursery_command(hidden))
        with self.lock:
            self.refused[command] = reason
            if nursery := self.running.pop(command, None):
                nursery.close()

    def why_not(self, hidden: Sequence[Path]) -> str:
        """Say why there is none; empty if there may be one."""
        return self.refused.get(tuple(bubblewrap.nursery_command(hidden)), "")


NURSERIES = Nurseries()  # a process cannot have them per session: sharing them is their point
