"""Inside the sandbox: run a submission's cells, then its answers on the cases, and tell.

Started as ``python -m course_utils.grading.runner``. It reads one line, the cells, from standard
input; runs them in order, each to its end or its first error; and says so. Only then is it sent
the visible cases of all items, and when these are done the hidden ones: what students get to read
was said before the hidden ones were here. Each item is called in a fork of this process, so
that one which hangs or dies takes no other with it. All messages are plain data (`wire`).

Nothing here is trusted: student code shares this process and may rewrite any of it. What that
could gain is settled outside, where results are compared with answers that never come here.
"""

import ast
import builtins
import contextlib
import gc
import linecache
import os
import random
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from course_utils.grading.calls import CELL, Failure, attempt, describe
from course_utils.grading.wire import MOST_BYTES, Tensor, WireError, dumps, loads

NOT_DEFINED = "NotDefined"
TIME_LIMIT = "TimeLimit"
CALLED = 73  # the exit code of a fork that got to its end: a student's os._exit(0) is another
Send = Callable[..., None]


class TimeLimit(BaseException):
    """A cell or an item took too long. Not an Exception, so that ``except Exception`` lets go."""


PATIENCE = 2  # wall-clock seconds allowed for each second of computing: the machine may be busy


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeLimit` in the body after so many seconds of computing, or twice as many of any."""

    def stop(*_: Any) -> None:
        raise TimeLimit(f"stopped after {seconds:g} s")

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    for timer, number in timers.items():
        signal.signal(number, stop)
        limit = seconds if timer == signal.ITIMER_PROF else PATIENCE * seconds
        signal.setitimer(timer, limit, 1.0)  # again each second, if it is caught
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def without_magics(source: str) -> str:
    r"""Return a cell as Python: IPython's magics and shell lines are left out.

    Examples
    --------
    >>> without_magics("%matplotlib inline\nx = 7 % 2")
    'pass\nx = 7 % 2'
    """
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    lines = source.split("\n")
    if lines[0].lstrip().startswith("%%"):
        timing = lines[0].lstrip().startswith(("%%time", "%%capture", "%%prun"))
        return without_magics("\n".join(["pass", *lines[1:]])) if timing else "pass"
    for number, line in enumerate(lines):
        bare = line.lstrip()
        if bare.startswith(("%", "!", "?")) or bare.endswith("?"):
            lines[number] = line[: len(line) - len(bare)] + "pass"
    return "\n".join(lines)


def run_cell(source: str, number: int, namespace: dict[str, Any]) -> None:
    """Execute one cell; its lines are kept for tracebacks."""
    name = f"{CELL} {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(without_magics(source), name, "exec"), namespace)


def run_cells(cells: list[str], seconds: float, namespace: dict[str, Any], send: Send) -> None:
    """Run all cells in order, and send word of each one that fails."""
    for number, source in enumerate(cells, start=1):
        try:
            with time_limit(seconds):
                run_cell(source, number, namespace)
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: go on
            send("cell", number=number, failure=_words(error))


def call_item(job: dict[str, Any], namespace: dict[str, Any], send: Send) -> None:
    """Call one item's target on each of its cases, and send each outcome."""
    call = getattr(import_module(job["module"]), job["call"])
    target = namespace.get(job["target"], namespace)
    for index, inputs in enumerate(job["cases"]):
        report = {"item": job["item"], "case": index, "value": None, "inputs": inputs}
        try:
            if target is namespace:
                failure: Any = [NOT_DEFINED, f"{job['target']} is not defined", []]
            else:
                with time_limit(job["seconds"]):
                    outcome = attempt(call, target, inputs)
                report |= {"value": outcome.value, "inputs": outcome.inputs}
                failure = _listed(outcome.failure) if outcome.failure else None
        except BaseException as error:
            failure = _words(error)
        try:
            send("outcome", **report, failure=failure)
        except WireError as error:
            report |= {"value": None, "inputs": inputs}
            send("outcome", **report, failure=["TooLarge", str(error), []])
        if failure and failure[0] == TIME_LIMIT:
            break


def call_in_fork(job: dict[str, Any], namespace: dict[str, Any], send: Send) -> None:
    """Call one item in a child process, and send word if that dies or does not end."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            call_item(job, namespace, send)
            code = CALLED
        os._exit(code)
    end = time.monotonic() + PATIENCE * job["seconds"] + 5
    while True:
        pid, code = os.waitpid(child, os.WNOHANG)
        if pid == child:
            if os.waitstatus_to_exitcode(code) != CALLED:
                send("lost", item=job["item"], reason="died")
            return
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            send("lost", item=job["item"], reason="time")
            return
        time.sleep(0.002)


def _has_tensor(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_has_tensor(v) for v in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, Tensor)


def _words(error: BaseException) -> list[Any]:
    return _listed(describe(error))


def _listed(failure: Failure) -> list[Any]:
    return [failure.type_name, failure.message, list(failure.lines)]


def _read_line(file: Any) -> dict[str, Any]:
    content = loads(file.readline(4 * MOST_BYTES).rstrip(b"\n"))
    assert isinstance(content, dict)
    return content


def main() -> None:
    """Read cells, run them; read items, call them."""
    jobs, results = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what students print goes nowhere, however much it is
        os.dup2(nowhere, stream)
    sys.stdin = open(os.devnull)  # noqa: SIM115

    token = ""  # of the work in hand: who answers without it has not read the question

    def send(kind: str, **content: Any) -> None:
        line = dumps({"kind": kind, "token": token} | content) + b"\n"
        while line:
            line = line[os.write(results, line) :]

    gc.set_threshold(100_000)  # importing torch takes a fifth less time without full searches
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where pickle and dataclasses look for students' classes
    namespace = vars(module)
    namespace |= {"__builtins__": builtins, "display": print}
    send("ready")  # if this never comes, no student is to blame
    job = _read_line(jobs)
    token = job.get("token", "")
    random.seed(0)
    run_cells(job["cells"], job["cell_seconds"], namespace, send)
    send("cells_done")
    for _ in range(2):  # visible cases, hidden cases
        job = _read_line(jobs)
        token = job.get("token", "")
        for item in job["items"]:
            if item["target"] in namespace and _has_tensor(item["cases"]):
                with contextlib.suppress(Exception):
                    import_module("torch")  # once, and not in each fork
            call_in_fork(item, namespace, send)
        send("items_done")
    os._exit(0)  # no exit handlers: they are student code too


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(1)  # student threads may never end
