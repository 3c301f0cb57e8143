"""What an item of the answer book is, and the keys that are made from it.

An `Item` adds to an exercise how to make **cases** (inputs from a seeded generator), a right
answer, the **reference**, and the typical mistakes: known-wrong answers, each an implementation
like the student's (`Mistake`), or predicates over the results (`Symptom`).

The items themselves are the answer book, the package `answer_book` beside this one. Students'
installations do not have it, and neither has the sandbox in which submissions run.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, TypedDict
from zlib import crc32

import numpy as np

from course_utils.grading.calls import Outcome, attempt
from course_utils.grading.checks import Case, Exercise, Key, Known, Predicate, Seen

VISIBLE_SEED = 0  # of the cases in a student's notebook; the grader's seed is secret
BOOK = "answer_book"


@dataclass(frozen=True, init=False)
class Mistake:
    """A typical mistake, recognised by its results: those of a known-wrong answer.

    Parameters
    ----------
    name : str
    message : str
        Why it is wrong, in words that fit every case (they are shown for hidden ones too).
    *wrong : object
        Known-wrong answers: one that equals any of them on all cases is it.
    ordinary : bool
        Compare only where no exception is due.
    """

    name: str
    message: str
    wrong: tuple[Any, ...]
    ordinary: bool

    def __init__(self, name: str, message: str, *wrong: Any, ordinary: bool = False) -> None:
        for field, value in zip(
            ("name", "message", "wrong", "ordinary"), (name, message, wrong, ordinary), strict=True
        ):
            object.__setattr__(self, field, value)


@dataclass(frozen=True, init=False)
class Symptom:
    """A typical mistake, recognised by a predicate over all trials.

    Parameters
    ----------
    name, message : str
    when : callable
        A rule of `course_utils.grading.rules`, or a `functools.partial` of one with plain
        arguments: students' installations have it too, so it gives no answer away.
    *wrong : object
        Examples for the tests: known-wrong answers that must be recognised by it.
    """

    name: str
    message: str
    when: Predicate
    wrong: tuple[Any, ...]

    def __init__(self, name: str, message: str, when: Predicate, *wrong: Any) -> None:
        for field, value in zip(
            ("name", "message", "when", "wrong"), (name, message, when, wrong), strict=True
        ):
            object.__setattr__(self, field, value)


Diagnosis = Mistake | Symptom


class Rating(TypedDict):
    """An item's numbers, for one line: ``Item(..., **Rating(difficulty=2, ...))``."""

    difficulty: int
    importance: int
    minutes: int
    points: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Item(Exercise):
    """One exercise, with its answers.

    Attributes
    ----------
    title : str
    difficulty, importance : int
        From 1 to 5.
    minutes : int
    cases : callable
        From a NumPy generator to a list of cases. Edge cases belong in every list.
    reference : object
        A right answer.
    diagnoses : tuple of Mistake or Symptom
        The most specific first.
    seconds : float
        For all calls together, in the grader.
    """

    title: str
    difficulty: int
    importance: int
    minutes: int
    cases: Callable[[np.random.Generator], list[Case]]
    reference: Any
    diagnoses: tuple[Diagnosis, ...] = ()
    seconds: float = 10.0


def make_cases(item: Item, seed: int) -> list[Case]:
    """Return the item's cases; the same seed gives the same cases."""
    return item.cases(np.random.default_rng([seed, crc32(item.name.encode())]))


@functools.lru_cache(maxsize=64)
def make_key(item: Item, seed: int) -> Key:
    """Return the key to the item's cases of a seed. Known-wrong answers are run when asked for."""
    cases = make_cases(item, seed)

    def outcomes(answer: Any) -> list[Outcome]:
        return [attempt(item.call, answer, case.inputs) for case in cases]

    mistakes = [
        Seen(each.name, each.message, each.when)
        if isinstance(each, Symptom)
        else Known(
            each.name,
            each.message,
            tuple(functools.cache(functools.partial(outcomes, wrong)) for wrong in each.wrong),
            each.ordinary,
        )
        for each in item.diagnoses
    ]
    return Key(item, cases, outcomes(item.reference), mistakes)


# --- the answer book --------------------------------------------------------------------------


def answer_book() -> ModuleType:
    """Return the package `answer_book`.

    Raises
    ------
    ImportError
        If it is not installed; the message says where it is.
    """
    try:
        return import_module(BOOK)
    except ModuleNotFoundError as error:
        if error.name != BOOK:
            raise
        raise ImportError(
            "the answer book is not installed: grading needs a clone of the course's repository "
            "(`make env` there), where the package answer_book lies beside course_utils"
        ) from None


def lessons() -> list[str]:
    """Return the numbers of the lessons that have items, such as ``["01", "02"]``."""
    names: list[str] = answer_book().lessons()
    return names


def load_items(lesson: str) -> tuple[Item, ...]:
    """Return the items of a lesson, in the order of its notebook.

    Raises
    ------
    ValueError
        If the lesson has no items.
    """
    if lesson not in lessons():
        raise ValueError(f"no exercises for lesson {lesson!r}: there are {', '.join(lessons())}")
    items: tuple[Item, ...] = import_module(f"{BOOK}.lesson_{lesson}").ITEMS
    return items


def find_item(name: str) -> Item:
    """Return one item, such as ``"01.softmax_gradient"``.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    lesson = name.split(".")[0]
    items = {item.name: item for item in load_items(lesson)}
    if name not in items:
        raise ValueError(f"no item {name!r}: lesson {lesson} has {', '.join(items)}")
    return items[name]
