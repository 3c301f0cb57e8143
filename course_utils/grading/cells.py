"""Execute a notebook's cells as JupyterLab would, each to its end or its first error.

Used inside the sandbox, where student code shares the process: nothing here is trusted.
"""

import ast
import contextlib
import linecache
import signal
from collections.abc import Callable, Iterator
from typing import Any

from course_utils.grading.calls import CELL, Failure, describe

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
            send("cell", number=number, failure=words(error))


def words(error: BaseException) -> list[Any]:
    """Return an exception as plain data."""
    return listed(describe(error))


def listed(failure: Failure) -> list[Any]:
    """Return a failure as plain data."""
    return [failure.type_name, failure.message, list(failure.lines)]
