"""The student's `check`: judge an answer in its notebook, on cases that everybody may see.

Of each item the course ships the key to one set of cases, as data in ``keys/lesson_NN.jsonl``, a
line for an item: inputs, right outcomes, and those of the typical mistakes. No answer is among
them. ``python -m tools.keys build`` makes these files from the answer book, and a test compares.
"""

import functools
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

from course_utils.grading.calls import Failure, Outcome, attempt
from course_utils.grading.checks import (
    IN_SANDBOX,
    Case,
    Exercise,
    Key,
    Known,
    Seen,
    verify,
)
from course_utils.grading.wire import Plain, dumps, loads
from course_utils.grading.withheld import withhold

DEFAULTS = Exercise(name="", points=0)
PLAIN = ("name", "points", "rtol", "atol", "may_change", "apart", "withheld")
RULES = ("agree", "together", "observe")


class CheckFailed(AssertionError):
    """The answer is not right yet; the message says why."""

    def _render_traceback_(self) -> list[str]:
        """Show only the message in a notebook: the traceback would be the checker's own."""
        return [str(self)]


def check(name: str, answer: Any) -> None:
    """Check an answer on the visible cases and say what is wrong with it, if anything is.

    Parameters
    ----------
    name : str
        The item, such as ``"01.softmax_gradient"``.
    answer : object
        Your function or class.

    Raises
    ------
    CheckFailed
        If it is not right yet.
    """
    if os.environ.get(IN_SANDBOX):
        return  # the verdict is made outside, where no answer can reach it
    key = visible_key(name)
    item = key.exercise
    with withhold(item.withheld):
        outcomes = [attempt(item.call, answer, case.inputs) for case in key.cases]
    verdict = verify(key, outcomes)
    if not verdict.passed:
        lines = [f"✗ {name}: {verdict.message}", *verdict.detail.splitlines()]
        raise CheckFailed("\n  ".join(line for line in lines if line))
    points = f"{item.points} point{'s' * (item.points != 1)}"
    print(f"✓ {name}: right on all {len(key.cases)} cases ({points})")


def visible_lessons() -> list[str]:
    """Return the numbers of the lessons that have items."""
    names = [path.name for path in files(__package__).joinpath("keys").iterdir()]
    return sorted(n[len("lesson_") :].removesuffix(".jsonl") for n in names if n[:7] == "lesson_")


def visible_key(name: str) -> Key:
    """Return the key to an item's visible cases.

    Raises
    ------
    ValueError
        If there is no such item.
    """
    lesson = name.split(".")[0]
    if lesson not in visible_lessons():
        there = ", ".join(visible_lessons())
        raise ValueError(f"no exercises for lesson {lesson!r}: there are {there}")
    known = {key.exercise.name: key for key in read_keys(lesson)}
    if name not in known:
        raise ValueError(f"no item {name!r}: lesson {lesson} has {', '.join(known)}")
    return known[name]


@functools.cache
def read_keys(lesson: str) -> list[Key]:
    """Return the keys to a lesson's visible cases, in the order of its notebook."""
    path = files(__package__).joinpath("keys", f"lesson_{lesson}.jsonl")
    return [from_plain(loads(line)) for line in path.read_bytes().splitlines()]


# --- a key as plain data ----------------------------------------------------------------------


def to_line(key: Key) -> bytes:
    """Return a key as one line; known-wrong answers are run for their outcomes."""
    return dumps(to_plain(key))


def to_plain(key: Key) -> Plain:
    """Return a key as plain data; what is as by default is left out."""
    item = key.exercise
    content: dict[str, Plain] = {"call": _place(item.call)}
    for field in PLAIN:
        value = getattr(item, field)
        if value != getattr(DEFAULTS, field):
            content[field] = list(value) if isinstance(value, tuple) else value
    for field in RULES:
        if rule := getattr(item, field):
            content[field] = rule_to_plain(item.lesson, rule)
    content["cases"] = [{"name": case.name, "inputs": case.inputs} for case in key.cases]
    content["expected"] = [
        _outcome_to_plain(case, outcome)
        for case, outcome in zip(key.cases, key.expected, strict=True)
    ]
    content["mistakes"] = [_mistake_to_plain(key, mistake) for mistake in key.mistakes]
    return content


def from_plain(content: dict[str, Any]) -> Key:
    """Return a key from plain data."""
    lesson = content["name"].split(".")[0]
    given = {field: content[field] for field in PLAIN if field in content}
    given |= {field: tuple(v) for field, v in given.items() if isinstance(v, list)}
    rules = {f: rule_from_plain(lesson, content[f]) for f in RULES if f in content}
    module, name = content["call"]
    call = getattr(import_module(f"course_utils.grading.{module}"), name)
    cases = [Case(case["name"], case["inputs"]) for case in content["cases"]]
    expected = [
        _outcome_from_plain(case, outcome)
        for case, outcome in zip(cases, content["expected"], strict=True)
    ]
    mistakes = [
        _mistake_from_plain(lesson, cases, expected, mistake) for mistake in content["mistakes"]
    ]
    return Key(Exercise(**given, **rules, call=call), cases, expected, mistakes)


def _place(call: Callable[..., Any]) -> list[str]:
    return [call.__module__.removeprefix("course_utils.grading."), call.__name__]


def rule_to_plain(lesson: str, rule: Any) -> Plain:
    """Return a rule's name in the lesson's module of rules; of a partial, its arguments too.

    Raises
    ------
    ValueError
        If it is not there: students' installations would not have it.
    """
    bare, arguments = rule, []
    if isinstance(rule, functools.partial):
        bare, arguments = rule.func, list(rule.args)
    module = import_module(f"course_utils.grading.rules.lesson_{lesson}")
    for name, value in vars(module).items():
        if value is bare:
            return [name, *arguments]
    raise ValueError(f"{bare!r} is not in course_utils.grading.rules.lesson_{lesson}")


def rule_from_plain(lesson: str, content: list[Any]) -> Any:
    """Return the rule that `rule_to_plain` gave the name of."""
    module = import_module(f"course_utils.grading.rules.lesson_{lesson}")
    name, *arguments = content
    rule = getattr(module, name)
    return functools.partial(rule, *arguments) if arguments else rule


def _mistake_to_plain(key: Key, mistake: Known | Seen) -> Plain:
    content = {"name": mistake.name, "message": mistake.message}
    if isinstance(mistake, Seen):
        return content | {"when": rule_to_plain(key.exercise.lesson, mistake.when)}
    right = [_outcome_to_plain(*pair) for pair in zip(key.cases, key.expected, strict=True)]
    results = []
    for found in mistake.outcomes:
        wrong = [_outcome_to_plain(*pair) for pair in zip(key.cases, found(), strict=True)]
        pairs = zip(right, wrong, strict=True)
        results.append([None if dumps(a) == dumps(b) else b for a, b in pairs])  # None: is right
    return content | {"outcomes": results} | ({"ordinary": True} if mistake.ordinary else {})


def _mistake_from_plain(
    lesson: str, cases: Sequence[Case], expected: Sequence[Outcome], content: dict[str, Any]
) -> Known | Seen:
    name, message = content["name"], content["message"]
    if "when" in content:
        return Seen(name, message, rule_from_plain(lesson, content["when"]))
    results = [
        [
            right if wrong is None else _outcome_from_plain(case, wrong)
            for case, right, wrong in zip(cases, expected, found, strict=True)
        ]
        for found in content["outcomes"]
    ]
    outcomes = tuple(functools.partial(_itself, found) for found in results)
    return Known(name, message, outcomes, content.get("ordinary", False))


def _itself(outcomes: list[Outcome]) -> list[Outcome]:
    return outcomes


def _outcome_to_plain(case: Case, outcome: Outcome) -> Plain:
    """Return an outcome; of an exception its type, of inputs those that are not as they were."""
    if outcome.failure is not None:
        content: dict[str, Plain] = {"failure": outcome.failure.type_name}
    else:
        content = {"value": outcome.value}
    changed = {
        name: value
        for name, value in outcome.inputs.items()
        if dumps(value) != dumps(case.inputs[name])
    }
    return content | ({"changed": changed} if changed else {})


def _outcome_from_plain(case: Case, content: dict[str, Any]) -> Outcome:
    failure = Failure(content["failure"], "") if "failure" in content else None
    inputs = case.inputs | content.get("changed", {})
    return Outcome(content.get("value"), inputs, failure)
