"""Run a function in a process of its own: to kill it, to race it, or to take its rights away.

Python's fork server imports the heavy packages once and forks a clean child for every call, so
that a dozen real processes cost less than a second each.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn

METHODS = multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
if "forkserver" in METHODS:
    CONTEXT.set_forkserver_preload(["pytest", "course_utils.training", "tests.tiny"])
KILLED = -signal.SIGKILL if hasattr(signal, "SIGKILL") else 9  # what Windows calls it


class Running:
    """A function that runs in another process; `result` waits for what it returns or raises."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.receiver, sender = CONTEXT.Pipe(duplex=False)
        told = (sender, dict(os.environ), function, args)
        self.process = CONTEXT.Process(target=_call, args=told, daemon=True)
        self.process.start()
        sender.close()  # ours; the child's end closes when it ends, and `recv` then returns

    def result(self) -> Any:
        try:
            value = self.receiver.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"ended with exit code {self.process.exitcode}") from None
        self.process.join()
        if isinstance(value, BaseException):
            raise value
        return value

    def exit_code(self) -> int | None:
        self.process.join()
        return self.process.exitcode


def die(*_: object, **__: object) -> NoReturn:
    """End this process as `kill -9` does: no handler, no `finally`, no flushed file."""
    os.kill(os.getpid(), -KILLED if KILLED < 0 else KILLED)
    raise AssertionError("survived SIGKILL")


def give_up_rights() -> None:
    """Become a user whom file permissions bind; root is above them."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def _call(
    sender: Connection,
    environment: dict[str, str],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    os.environ.clear()  # the fork server has that of the first test that used it
    os.environ.update(environment)
    try:
        sender.send(function(*args))
    except BaseException as error:
        sender.send(error)
