"""Inside the sandbox: run a submission's cells, then its answers on the cases, and tell.

Started as ``python -m course_utils.grading.runner``. It reads one line, the cells, from standard
input; runs them in order, each to its end or its first error; and says so. Only then is it sent
the visible cases of all items, and when these are done the hidden ones: what students get to read
was said before the hidden ones were here. Each item is called in a fork of this process, so
that one which hangs or dies takes no other with it. All messages are plain data (`wire`).

Nothing here is trusted: student code shares this process and may rewrite any of it. What that
could gain is settled outside, where results are compared with answers that never come here.
"""

import builtins
import contextlib
import gc
import os
import random
import signal
import sys
import time
import types
from importlib import import_module
from typing import Any

import numpy as np

from course_utils.grading.calls import attempt_on
from course_utils.grading.execution import PATIENCE, Send, listed, run_cells, time_limit, words
from course_utils.grading.wire import MOST_BYTES, Tensor, WireError, dumps, live, loads
from course_utils.grading.withheld import withhold

NOT_DEFINED = "NotDefined"
TIME_LIMIT = "TimeLimit"
CALLED = 73  # the exit code of a fork that got to its end: a student's os._exit(0) is another


def call_item(job: dict[str, Any], namespace: dict[str, Any], send: Send) -> None:
    """Call one item's target on each of its cases, and send each outcome.

    Of the inputs nothing is kept here but what the target gets: whether it changed them is seen
    from outside, beside a copy that never came here.
    """
    call = getattr(import_module(job["module"]), job["call"])
    target = namespace.get(job["target"], namespace)
    for index, inputs in enumerate(job["cases"], start=job.get("first", 0)):
        report: dict[str, Any] = {"item": job["item"], "case": index, "value": None, "inputs": {}}
        try:
            if target is namespace:
                failure: Any = [NOT_DEFINED, f"{job['target']} is not defined", []]
            else:
                with time_limit(job["seconds"]), withhold(job.get("withheld", ())):
                    given = {name: live(inputs.pop(name)) for name in list(inputs)}
                    outcome = attempt_on(call, target, given)
                report |= {"value": outcome.value, "inputs": outcome.inputs}
                failure = listed(outcome.failure) if outcome.failure else None
        except BaseException as error:
            failure = words(error)
        try:
            send("outcome", **report, failure=failure)
        except WireError as error:
            report |= {"value": None, "inputs": {}}
            send("outcome", **report, failure=["TooLarge", str(error), []])
        if failure and failure[0] == TIME_LIMIT:
            break


def parts(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is called in one process: all cases, or where they are kept apart each alone."""
    if not job.get("apart"):
        return [job]
    return [job | {"cases": [case], "first": index} for index, case in enumerate(job["cases"])]


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
    namespace["__builtins__"] = builtins
    send("ready")  # if this never comes, no student is to blame
    job = _read_line(jobs)
    token = job.get("token", "")
    random.seed(0)
    np.random.seed(0)  # in the nursery all children have one state, which nobody knows
    run_cells(job["cells"], job["cell_seconds"], namespace, send)
    send("cells_done")
    for _ in range(2):  # visible cases, hidden cases
        job = _read_line(jobs)
        token = job.get("token", "")
        for item in job["items"]:
            if item["target"] in namespace and _has_tensor(item["cases"]):
                with contextlib.suppress(Exception):
                    import_module("torch")  # once, and not in each fork
            for part in parts(item):
                call_in_fork(part, namespace, send)
        send("items_done")
    os._exit(0)  # no exit handlers: they are student code too


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(1)  # student threads may never end
