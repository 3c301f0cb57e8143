"""One submission's time behind the walls: send it lines, read the lines it sends, watch it."""

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from course_utils.grading.sandbox import births, bubblewrap, filesystem, start
from course_utils.grading.sandbox.cgroups import Group, one_group
from course_utils.grading.sandbox.cores import one_core
from course_utils.grading.sandbox.limits import Limits, SandboxError
from course_utils.grading.sandbox.watch import Watch
from course_utils.grading.wire import MOST_BYTES

MOST_OUTPUT = 8 * MOST_BYTES  # of all messages of one submission
POLL_S = 0.2


@dataclass
class Ending:
    """How a session ended: killed by whom, or with which code, and its last words."""

    reason: str = ""  # "time", "memory", "output", "stopped", or empty
    code: int | None = None
    words: str = ""


class Session:
    """One submission's process: send it lines, iterate over the lines it sends.

    Parameters
    ----------
    limits : Limits
    protected : bool
        False runs student code without walls, with this user's rights.
    stop : threading.Event, optional
        Ends the session when it is set.
    hidden : sequence of str
        Folders and files it must not see, besides the course's own: submissions, results.
    """

    def __init__(
        self,
        limits: Limits,
        protected: bool = True,
        stop: threading.Event | None = None,
        hidden: Sequence[str] = (),
    ) -> None:
        self.limits, self.ending, self.stop = limits, Ending(), stop
        self.unsent, self.closed = bytearray(), False
        self.kept = contextlib.ExitStack()  # what is given back at the end
        try:
            core = self.kept.enter_context(one_core())
            self.group = self.kept.enter_context(one_group(limits))
            self.process = _start(limits, protected, hidden, core, self.group)
        except BaseException:
            self.kept.close()
            raise
        self.watch = Watch(self.process.pid, limits.disk_mb * 1_000_000)
        self.deadline = time.monotonic() + limits.seconds + 1

    def __enter__(self) -> "Session":
        return self

    def send(self, line: bytes) -> None:
        """Send one line, as fast as the process reads while `lines` is iterated over.

        It may never read, so waiting for it would be waiting for a student's consent.
        """
        self.unsent += line + b"\n"

    def _write(self, selector: selectors.BaseSelector) -> None:
        """Write what the pipe takes now; a process that no longer listens is noticed elsewhere."""
        try:
            del self.unsent[: os.write(self.process.inlet, self.unsent[:65536])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.unsent.clear()
        if not self.unsent:
            selector.unregister(self.process.inlet)

    def lines(self) -> Iterator[bytes]:
        """Yield lines as they come, until the process ends or exceeds a limit."""
        inlet, out, err = self.process.inlet, self.process.out, self.process.err
        unfinished: list[bytes] = []  # pieces of one line
        words, total, length, last_look = b"", 0, 0, time.monotonic()
        with selectors.DefaultSelector() as selector:
            for pipe in (inlet, out, err):
                os.set_blocking(pipe, False)
            for pipe in (out, err):
                selector.register(pipe, selectors.EVENT_READ)
            while _reads(selector) and not self.ending.reason:
                if self.unsent and inlet not in selector.get_map():
                    selector.register(inlet, selectors.EVENT_WRITE)
                for key, _ in selector.select(POLL_S):
                    if key.fileobj == inlet:
                        self._write(selector)
                        continue
                    data = os.read(key.fd, 1 << 20)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj == err:
                        words = (words + data)[-4000:]
                    else:
                        total += len(data)
                        *ends, rest = data.split(b"\n")
                        for end in ends:
                            yield b"".join([*unfinished, end])
                            unfinished, length = [], 0
                        unfinished.append(rest)
                        length += len(rest)
                now = time.monotonic()
                if self.stop is not None and self.stop.is_set():
                    self.ending.reason = "stopped"
                elif total > MOST_OUTPUT or length > MOST_BYTES:
                    self.ending.reason = "output"
                elif now > self.deadline:
                    self.ending.reason = "time"
                elif now - last_look > POLL_S:
                    last_look = now
                    self.ending.reason = self._exceeded()
        if self.group is not None and self.group.out_of_memory():
            self.ending.reason = "memory"
        self.close()
        self.ending.code = self.process.code
        self.ending.words = words.decode("utf-8", "replace")
        if self.ending.code in (124, 137) and now > self.deadline - 2:  # `timeout` ended it
            self.ending.reason = self.ending.reason or "time"

    def _exceeded(self) -> str:
        """Say which limit it has exceeded, all its processes taken together."""
        most = self.limits.memory_gb * 1e9
        if self.watch.memory(most) > most:
            return "memory"
        computed = max(self.watch.seconds(), self.group.seconds() if self.group else 0.0)
        return "time" if computed > self.limits.seconds else ""

    def close(self) -> None:
        """End the process and everything inside; harmless when it has ended."""
        if self.closed:
            return
        self.closed = True
        # it may be about to exit by itself, and its exit code tells something
        if not self.process.ended(0 if self.ending.reason else 0.5):
            self.process.kill()
            self.process.ended(60)
        self.process.close()
        self.kept.close()

    def __exit__(self, *_: Any) -> None:
        self.close()


def _start(
    limits: Limits,
    protected: bool,
    hidden: Sequence[str],
    core: int | None,
    group: Group | None,
) -> start.Started:
    """Start the runner in the best way there is."""
    if not protected:
        return start.unprotected()
    bubblewrap.compile_library()
    filesystem.make_readable()
    folders = filesystem.hidden_folders(hidden)
    for _ in range(2):  # it may have ended since the last submission
        nursery = births.NURSERIES.get(folders)
        if nursery is None:
            break
        with contextlib.suppress(SandboxError):
            return births.Born(nursery, limits, core, group)
    return start.in_bubblewrap(limits, folders, core, group)


def _reads(selector: selectors.BaseSelector) -> bool:
    """Return True while there is a pipe that something may come from."""
    return any(key.events == selectors.EVENT_READ for key in selector.get_map().values())
