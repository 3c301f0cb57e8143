"""Try the walls before any student code is run, each by trying what it must not let through."""

import contextlib
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from course_utils.grading.sandbox import attempts, births, bubblewrap, filesystem
from course_utils.grading.sandbox.limits import Limits, SandboxError, on_linux
from course_utils.grading.sandbox.session import Session
from course_utils.grading.wire import dumps, loads

ADVICE = "Grade on Linux with bubblewrap, or pass --no-sandbox to run student code unprotected."
EXPECTED = ["ready", "cells_done", "items_done", "items_done"]


def probe(limits: Limits | None = None, hidden: Sequence[str] = ()) -> str:
    """Try the walls, of the nursery first and, if these do not hold, of a bubblewrap for each.

    Parameters
    ----------
    limits : Limits, optional
    hidden : sequence of str
        What submissions must not see: see `Session`.

    Returns
    -------
    str
        Empty, or why there is no nursery, so that grading takes longer.

    Raises
    ------
    SandboxError
        If something is missing or forbidden; the message says what to do.
    """
    if not on_linux():
        raise SandboxError(f"there is no sandbox on {sys.platform}. {ADVICE}")
    if missing := [tool for tool in bubblewrap.TOOLS if shutil.which(tool) is None]:
        raise SandboxError(
            f"{', '.join(missing)} not found (Debian, Ubuntu: apt install bubblewrap). {ADVICE}"
        )
    limits = limits or Limits()
    folders = filesystem.hidden_folders(hidden)
    if births.NURSERIES.get(folders) is not None:
        try:
            _try(limits, hidden)
            return ""
        except SandboxError as error:
            births.NURSERIES.refuse(folders, str(error))
    _try(limits, hidden)
    return births.NURSERIES.why_not(folders)


def _try(limits: Limits, hidden: Sequence[str]) -> None:
    """Send the attempts into a session and read what they found."""
    code = Path(attempts.__file__).read_text(encoding="utf-8")
    name = f"course-probe-{secrets.token_hex(8)}"
    door = f"{code}\ndoor = open_door({name + '-neighbour'!r})\n"
    with (
        _outside(limits, hidden, name) as outside,
        Session(limits, hidden=hidden) as neighbour,
        Session(limits, hidden=hidden) as session,
    ):
        neighbour.send(dumps({"cells": [door], "cell_seconds": 20.0}))
        told_next_door = neighbour.lines()
        at_home = [loads(next(told_next_door, b"null")) for _ in range(2)]
        code += f"\nif found := problems({outside!r}):\n    raise SystemExit(', '.join(found))\n"
        session.send(dumps({"cells": [code], "cell_seconds": 20.0}))
        for _ in range(2):
            session.send(dumps({"items": []}))
        messages = [loads(line) for line in session.lines()]
    if [message.get("kind") for message in messages] != EXPECTED or None in at_home:
        told = [m["failure"][1] for m in messages if m.get("kind") == "cell"]
        ended = session.ending
        said_nothing = f"it said nothing, and ended with code {ended.code} {ended.reason}".strip()
        reason = "; ".join(told) or ended.words.strip() or said_nothing
        raise SandboxError(f"the sandbox does not hold: {reason[-600:]}. {ADVICE}")


@contextlib.contextmanager
def _outside(limits: Limits, hidden: Sequence[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield what the attempts are made on, while it is there."""
    shown = filesystem.shown_folders()
    secret = {}
    for folder in filesystem.hidden_folders(hidden):
        inside = [place for place in shown if place.is_relative_to(folder) and place != folder]
        secret[str(folder)] = [place.relative_to(folder).parts[0] for place in inside]
    with contextlib.ExitStack() as open_ones:
        port = open_ones.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = open_ones.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + name)
        abstract.listen()
        yield {
            "port": port.getsockname()[1],
            "abstract_name": name,
            "neighbour": name + "-neighbour",
            "answers": filesystem.ANSWERS,
            "hidden": secret,
            "grader": _started(os.getpid()),
            "disks": filesystem.WRITABLE,
            "disk_bytes": limits.disk_mb * 1_000_000,
            "limits": limits.resources(),
        }


def _started(pid: int) -> tuple[int, str]:
    """Return a process's number and when it started, which together name it."""
    return pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
