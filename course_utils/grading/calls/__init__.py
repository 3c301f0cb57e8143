"""Call: run a student's object on one case. The only part of a check that goes into the sandbox.

A call gets the student's object and the case's inputs, a dictionary in the order of the
parameters, and returns what is to be judged. Most items need only `function`; what a lesson
needs besides is in ``lesson_NN.py`` beside this file. A call knows no expected value: the
references are in `answer_book`, which does not exist inside the sandbox.
"""

import inspect
import linecache
import random
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_utils.grading.wire import Plain, live, plain

Call = Callable[[Any, dict[str, Any]], Any]
CELL = "<cell"  # how the file names of notebook cells begin, here and in IPython's tracebacks
MOST_CHARACTERS = 600


@dataclass(frozen=True)
class Failure:
    """An exception, as words: its type, its message, and the student's lines it went through."""

    type_name: str
    message: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of calling a student's object on one case.

    Attributes
    ----------
    value : plain data
        What was returned.
    inputs : dict of str to plain data
        The inputs as they are after the call: a difference is a side effect.
    failure : Failure, optional
        The exception, if one was raised; `value` is then None.
    """

    value: Plain
    inputs: dict[str, Plain]
    failure: Failure | None = None


def function(target: Any, inputs: dict[str, Any]) -> Any:
    """Call a function with the inputs by position, so that parameters may be renamed."""
    return target(*inputs.values())


def attempt(call: Call, target: Any, inputs: dict[str, Plain]) -> Outcome:
    """Run one call on fresh copies of the inputs; an exception becomes a `Failure`.

    Random generators start at the same point, so that equal answers give equal results. An async
    function is called and awaited.

    Examples
    --------
    >>> attempt(function, lambda x: x / 0, {"x": 1}).failure.type_name
    'ZeroDivisionError'
    """
    return attempt_on(call, target, {name: live(value) for name, value in inputs.items()})


def attempt_on(call: Call, target: Any, given: dict[str, Any]) -> Outcome:
    """Run one call on these objects themselves, which it may change."""
    reset(0)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = plain(call(awaited(target), given))
    except Exception as error:
        return Outcome(None, plain(given), describe(error))
    return Outcome(value, plain(given))


def reset(state: int) -> None:
    """Put the global random generators at one of several starting points."""
    random.seed(state)
    np.random.seed(state)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(state)


def as_rows(value: Any) -> list[int]:
    """Return row numbers as a plain list, whatever kind of sequence they are in."""
    if value is None:
        raise TypeError("row numbers are expected and None came: is there a `return`?")
    return [int(row) for row in value]


def awaited(target: Any) -> Any:
    """Return an async function as one that waits for its result; anything else as it is.

    Examples
    --------
    >>> async def double(x):
    ...     return 2 * x
    >>> awaited(double)(4)
    8
    """
    if not (inspect.isfunction(target) and inspect.iscoroutinefunction(inspect.unwrap(target))):
        return target

    def call(*given: Any, **named: Any) -> Any:
        result = target(*given, **named)
        return wait_for(result) if inspect.isawaitable(result) else result

    return call


def wait_for(awaitable: Any) -> Any:
    """Return what an awaitable gives, also inside a notebook, whose event loop is running."""
    import asyncio
    from concurrent.futures import Future
    from threading import Thread

    async def whole() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole())
    future: Future[Any] = Future()

    def run() -> None:  # a loop cannot wait for itself: this one gets a thread of its own
        try:
            future.set_result(asyncio.run(whole()))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result()


def describe(error: BaseException) -> Failure:
    """Put an exception into words, with the lines of notebook cells it went through."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(CELL) or "ipykernel" in frame.filename:
            source = linecache.getline(frame.filename, frame.lineno or 0).strip()
            place = frame.filename.strip("<>") if frame.filename.startswith(CELL) else frame.name
            lines.append(f"{place}, line {frame.lineno}: {source}"[:MOST_CHARACTERS])
    try:
        message = str(error)
        if isinstance(error, SyntaxError):
            message = f"{error.msg} (line {error.lineno})"
    except Exception:
        message = "(its message cannot be shown)"
    return Failure(type(error).__name__[:80], message[:MOST_CHARACTERS], tuple(lines[-8:]))
