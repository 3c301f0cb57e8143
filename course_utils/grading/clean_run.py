"""A clean run of a notebook for ``course check``: its cells in a new process, then its checks.

`run_clean` starts ``python -m course_utils.grading.clean_run`` in an empty folder, and `main` is
what runs there. It does what the grader does, with the visible cases, on a student's own machine:
without walls, and without forks, which Windows does not have. As in grading there is no network,
and this is not Colab. One line of JSON goes in; lines of JSON come out, and what begins is said
before it does, so that it is known where a run got stuck.
"""

import builtins
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_utils.grading.checks import IN_SANDBOX
from course_utils.grading.execution import TimeLimit, run_cells, time_limit, words
from course_utils.grading.visible import CheckFailed, check

CHILD = ["-m", "course_utils.grading.clean_run"]
ITEM_SECONDS = 10.0  # for all cases of an item, as in grading
LOOPBACK = ("127.", "::1", "localhost")


@dataclass
class Heard:
    """What a clean run told."""

    failures: dict[int, str] = field(default_factory=dict)  # of cells
    lines: dict[int, list[str]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    cell: int = 0  # the last that began
    item: str = ""
    done: bool = False
    ended: str = ""  # why it did not get to its end


def run_clean(sources: list[str], items: list[str], seconds: float) -> Heard:
    """Run cells and items in a new process, once more for what is left if an item ends it."""
    heard = Heard()
    end = time.monotonic() + seconds
    while True:
        left = [name for name in items if name not in heard.verdicts]
        again = Heard(verdicts=heard.verdicts)
        _talk({"cells": sources, "seconds": seconds / 4, "items": left}, end, again)
        heard = again
        if heard.done or not heard.item or time.monotonic() > end:
            return heard
        why = "the process ended during the call"
        heard.verdicts[heard.item] = {"state": "wrong", "why": why, "lines": []}


def _talk(job: dict[str, Any], end: float, heard: Heard) -> None:
    """Start one process and take down what it tells."""
    from course_utils.sources import CACHE_VARIABLE, cache_folder

    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}
    own[CACHE_VARIABLE] = str(cache_folder().absolute())
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty,
        subprocess.Popen(
            [sys.executable, *CHILD],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=empty,
            env=os.environ | own,
            start_new_session=True,
        ) as process,
    ):
        line, stopped = json.dumps(job).encode() + b"\n", False
        try:
            out, err = process.communicate(line, max(end - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            stopped = True
            _end(process)
            out, err = process.communicate()
        except BaseException:  # interrupted: nothing goes on behind our back
            _end(process)
            raise
    for line in out.splitlines():
        _take(json.loads(line), heard)
    if not heard.cell and not heard.done and job["cells"]:
        words = err.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"Python does not start: {words[-1] if words else process.returncode}")
    if not heard.done:
        where = heard.item or f"code cell {heard.cell}"
        how = "took too long and was stopped" if stopped else "ended its process"
        heard.ended = f"{where} {how}: nothing after it was reached"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and, where that can be done, what it has started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _take(message: dict[str, Any], heard: Heard) -> None:
    kind = message["kind"]
    if kind == "begin":
        heard.cell = message["number"]
    elif kind == "cell":
        name, text, lines = message["failure"]
        heard.failures[message["number"]] = f"{name}: {text}"
        heard.lines[message["number"]] = lines
    elif kind == "item":
        heard.item = message["name"]
    elif kind == "verdict":
        heard.verdicts[message["name"]] = message
    elif kind == "done":
        heard.done = True


# --- inside the new process ---------------------------------------------------------------------


def judge(name: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Check one answer; return its state, why, and the lines that explain it."""
    target = name.split(".")[1]
    if target not in namespace:
        return {"state": "not defined", "why": "", "lines": []}
    try:
        with time_limit(ITEM_SECONDS), contextlib.redirect_stdout(io.StringIO()):
            check(name, namespace[target])
    except CheckFailed as failed:
        first, *lines = str(failed).splitlines()
        why = first.removeprefix(f"✗ {name}: ")
        state = "not attempted" if why == "not attempted yet" else "wrong"
        return {"state": state, "why": why, "lines": [line.strip() for line in lines]}
    except TimeLimit:
        why = f"no result after {ITEM_SECONDS:g} s: does it end?"
        return {"state": "wrong", "why": why, "lines": []}
    except BaseException as error:  # an answer that raises SystemExit, say
        kind, message, lines = words(error)
        return {"state": "wrong", "why": f"{kind}: {message}", "lines": lines}
    return {"state": "right", "why": "", "lines": []}


def no_network(event: str, given: tuple[Any, ...]) -> None:
    """Refuse to reach another machine (an audit hook)."""
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    address = given[1] if event == "socket.connect" else given
    host = str(address[0]) if isinstance(address, tuple) and address[0] else "localhost"
    if not host.startswith(LOOPBACK):
        raise ConnectionError(f"there is no network when a notebook is graded ({host})")


def main() -> None:
    """Run the cells, check the items, tell."""
    job = json.loads(sys.stdin.buffer.readline())
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def send(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind} | content), file=results, flush=True)

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where pickle and dataclasses look for students' classes
    namespace = vars(module)
    namespace["__builtins__"] = builtins
    sys.addaudithook(no_network)
    sys.modules["google.colab"] = None  # type: ignore[assignment]  # not there, says `find_spec`
    random.seed(0)
    os.environ[IN_SANDBOX] = "1"  # checks in the notebook say nothing now
    run_cells(
        job["cells"], job["seconds"], namespace, send, lambda number: send("begin", number=number)
    )
    os.environ.pop(IN_SANDBOX)
    for name in job["items"]:
        send("item", name=name)
        send("verdict", name=name, **judge(name, namespace))
    send("done")
    os._exit(0)


if __name__ == "__main__":
    words_of_python = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    try:
        main()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=words_of_python, flush=True)
    finally:
        os._exit(1)  # threads of the notebook may never end
