"""Execute a notebook's cells as JupyterLab would, each to its end or its first error.

Top-level ``await`` runs on one event loop that lives as long as the notebook, as a kernel's does;
magics and the like are `shell`'s part. Used inside the sandbox, where student code shares the
process: nothing here is trusted.
"""

import contextlib
import inspect
import linecache
import re
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from course_utils.grading.calls import CELL, Failure, describe
from course_utils.grading.shell import WRAPPERS, Shell, captured

Send = Callable[..., None]
Drive = Callable[[Coroutine[Any, Any, None]], None]
CELL_MAGIC = re.compile(r"\s*^%%(\w+)[ \t]*(.*)\n?", re.MULTILINE)
PATIENCE = 2  # wall-clock seconds allowed for each second of computing: the machine may be busy


class TimeLimit(BaseException):
    """A cell or an item took too long. Not an Exception, so that ``except Exception`` lets go."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeLimit` in the body after so many seconds of computing, or twice as many of any."""
    if not hasattr(signal, "setitimer"):  # on Windows `course check` ends the process instead
        yield
        return

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
        for timer, number in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, signal.SIG_IGN)  # also if `setitimer` was replaced


async def run_cell(source: str, number: int, shell: Shell) -> None:
    """Execute one cell; its lines are kept for tracebacks."""
    name = f"{CELL} {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    if source.strip():  # an empty cell is not counted
        shell.begin(source)
        await _run(source, name, shell)


async def _run(source: str, name: str, shell: Shell, above: int = 0) -> None:
    """Execute Python and magics that stand below so many lines of their cell."""
    found = CELL_MAGIC.match(source)
    if found is None:
        for code in shell.compile_parts("\n" * above + shell.to_python(source), name):
            value = eval(code, shell.user_ns)
            if code.co_flags & inspect.CO_COROUTINE:
                await value
        return
    magic, line, body = found[1], found[2].strip(), source[found.end() :]
    if magic not in WRAPPERS:
        shell.show(shell.run_cell_magic(magic, line, body))
        return
    with captured(line, shell.user_ns) if magic == "capture" else contextlib.nullcontext():
        await _run(body, name, shell, above + found[0].count("\n"))


def run_cells(
    cells: list[str],
    seconds: float,
    namespace: dict[str, Any],
    send: Send,
    begin: Callable[[int], None] = lambda number: None,
) -> None:
    """Run all cells in order; send word of each one that fails, `begin` is told of each."""
    shell = Shell(namespace)
    shell.lend()
    if any("IPython" in source for source in cells):
        shell.lend_to_ipython()
    drive = _on_a_loop() if any(re.search("async|await", s) for s in cells) else _without_a_loop
    for number, source in enumerate(cells, start=1):
        begin(number)
        try:
            with time_limit(seconds):
                drive(run_cell(source, number, shell))
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: go on
            if isinstance(error.__cause__, StopIteration):  # no coroutine lets one out as it is
                error = error.__cause__
            send("cell", number=number, failure=words(error))


def _without_a_loop(cell: Coroutine[Any, Any, None]) -> None:
    """Run a cell that waits for nothing: importing asyncio takes 0.03 s."""
    try:
        cell.send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits, and there is no event loop")


def _on_a_loop() -> Drive:
    """Return a driver whose loop runs while a cell does; tasks outlive the cell, as in a kernel."""
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def drive(cell: Coroutine[Any, Any, None]) -> None:
        task = loop.create_task(cell)
        try:
            loop.run_until_complete(task)
        except BaseException:  # it came while the loop was waiting, so the cell still is
            task.cancel()
            raise

    return drive


def words(error: BaseException) -> list[Any]:
    """Return an exception as plain data."""
    return listed(describe(error))


def listed(failure: Failure) -> list[Any]:
    """Return a failure as plain data."""
    return [failure.type_name, failure.message, list(failure.lines)]
