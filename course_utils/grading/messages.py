"""What a submission's process may say: six kinds of message, each field of one type.

Student code shares the process that sends them, so a message may hold anything. What cannot be
read is a `WireError`: two processes that write at once garble each other, which happens to honest
work that forks. What can be read and is no message of this protocol is a `NotAMessage`: no
accident writes that. Words are cleaned here and nowhere else; values stay as they are, to be
compared and never shown.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from course_utils.grading.calls import Failure
from course_utils.grading.wire import Budget, Plain, loads
from course_utils.grading.words import clean

MOST_NUMBER = 100_000  # of cells and cases


class NotAMessage(ValueError):
    """Plain data, but nothing that the runner sends."""


@dataclass(frozen=True)
class Message:
    """One message; which fields say something depends on its kind, see `FORMS`.

    Attributes
    ----------
    kind : str
    token : str
        What the grader sent with the work that this answers.
    number, case : int
        Of a cell, of a case.
    item, reason : str
    value : plain data
        What the student's object returned.
    inputs : dict of str to plain data
        The inputs after the call.
    failure : Failure, optional
    """

    kind: str
    token: str = ""
    number: int = 0
    case: int = 0
    item: str = ""
    reason: str = ""
    value: Plain = None
    inputs: dict[str, Plain] = field(default_factory=dict)
    failure: Failure | None = None


def read(line: bytes, budget: Budget | None = None) -> Message:
    """Read one message, believing nothing about its form.

    Raises
    ------
    WireError
        If it cannot be read.
    NotAMessage
        If it is something else.

    Examples
    --------
    >>> read(b'{"dict": {"kind": "cells_done", "token": "x"}}').kind
    'cells_done'
    >>> read(b'{"dict": {"kind": "cell", "token": "", "number": Infinity, "failure": null}}')
    Traceback (most recent call last):
        ...
    course_utils.grading.messages.NotAMessage: number: inf
    """
    content = loads(line, budget)
    kind = content.get("kind") if type(content) is dict else None
    if type(kind) is not str or kind not in FORMS:
        raise NotAMessage("no kind of message")
    form = FORMS[kind] | {"kind": _text, "token": _text}
    if set(content) != set(form):
        raise NotAMessage(f"{kind}: {len(content)} fields, not those of its kind")
    fields = {}
    for name, convert in form.items():
        try:
            fields[name] = convert(content[name])
        except (TypeError, ValueError):
            raise NotAMessage(f"{name}: {_shown(content[name])}") from None
    return Message(**fields)


def _shown(value: Any) -> str:
    """Return a number as it is, and of anything else the name of its type."""
    return repr(value) if type(value) in (bool, float) else type(value).__name__


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > 200:
        raise TypeError
    return clean(value, 200)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST_NUMBER:
        raise ValueError
    return value


def _named(value: Any) -> dict[str, Plain]:
    if type(value) is not dict:
        raise TypeError
    return value


def _failure(value: Any) -> Failure:
    if type(value) is not list or len(value) != 3:
        raise TypeError
    name, message, lines = value
    if type(lines) is not list or not all(type(text) is str for text in (name, message, *lines)):
        raise TypeError
    return Failure(clean(name, 80), clean(message), tuple(clean(line, 600) for line in lines[:8]))


def _failure_if_any(value: Any) -> Failure | None:
    return None if value is None else _failure(value)


def _anything(value: Any) -> Plain:
    return value


FORMS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "ready": {},
    "cell": {"number": _count, "failure": _failure},
    "cells_done": {},
    "outcome": {
        "item": _text,
        "case": _count,
        "value": _anything,
        "inputs": _named,
        "failure": _failure_if_any,
    },
    "lost": {"item": _text, "reason": _text},
    "items_done": {},
}
