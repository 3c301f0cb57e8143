"""What an exercise's check is: cases, call, verify; and `check`, which a student's notebook runs.

An `Item` says how to make **cases** (inputs from a seeded generator), how to **call** a student's
object on one, and what a right answer and the typical wrong answers are: a reference and
known-wrong variants, each an implementation like the student's. `verify` compares outcomes
with them and says why an answer is wrong. In a notebook all three parts run in place. The
grader runs cases and verify itself, with a secret seed, and only the call in the sandbox.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from course_utils.grading import compare
from course_utils.grading.calls import Call, Outcome, attempt, function
from course_utils.grading.wire import Plain

VISIBLE_SEED = 0  # of the cases in a student's notebook; the grader's seed is secret
IN_SANDBOX = "COURSE_GRADING"  # set where the grader runs a submission


@dataclass(frozen=True)
class Case:
    """Inputs of one call, as plain data in the order of the parameters."""

    name: str
    inputs: dict[str, Plain]


@dataclass(frozen=True)
class Trial:
    """One case, the right outcome, and the student's."""

    case: Case
    expected: Outcome
    outcome: Outcome


@dataclass(frozen=True)
class Diagnosis:
    """A typical mistake: how it is recognised, and what to say.

    Attributes
    ----------
    name : str
    message : str
        Why it is wrong, in words that fit every case (they are shown for hidden ones too).
    variant : object, optional
        A known-wrong implementation: an answer that equals its results on all cases is it.
    when : callable, optional
        Or a predicate over all trials.
    """

    name: str
    message: str
    variant: Any = None
    when: Callable[[Sequence[Trial]], bool] | None = None


@dataclass(frozen=True)
class Item:
    """One exercise.

    Attributes
    ----------
    name : str
        ``"01.softmax_gradient"``: the lesson, and the student's object that is called.
    title : str
    difficulty, importance : int
        From 1 to 5.
    minutes, points : int
    cases : callable
        From a NumPy generator to a list of cases. Edge cases belong in every list.
    reference : object
        A right answer.
    call : callable
        See `course_utils.grading.calls`.
    diagnoses : tuple of Diagnosis
        The most specific first.
    rtol, atol : float
    agree : callable, optional
        ``agree(case, expected, value)`` instead of comparing values, where many are right.
    may_change : tuple of str
        Inputs that a right answer may change in place.
    seconds : float
        For all calls together, in the grader.
    """

    name: str
    title: str
    difficulty: int
    importance: int
    minutes: int
    points: int
    cases: Callable[[np.random.Generator], list[Case]]
    reference: Any
    call: Call = function
    diagnoses: tuple[Diagnosis, ...] = field(default=())
    rtol: float = 1e-6
    atol: float = 1e-8
    agree: Callable[[Case, Plain, Plain], bool] | None = None
    may_change: tuple[str, ...] = ()
    seconds: float = 10.0

    @property
    def lesson(self) -> str:
        """The lesson's number, such as ``"01"``."""
        return self.name.split(".")[0]

    @property
    def target(self) -> str:
        """The name of the student's object, such as ``"softmax_gradient"``."""
        return self.name.split(".")[1]


@dataclass(frozen=True)
class Verdict:
    """What came of a check.

    Attributes
    ----------
    item : str
    passed : bool
    diagnosis : str
        Short name of what is wrong; empty if nothing is.
    message : str
        Why, in words that hold no number of any case.
    detail : str
        The case and its numbers: for the student's own notebook, never for hidden cases.
    """

    item: str
    passed: bool
    diagnosis: str = ""
    message: str = ""
    detail: str = ""


class CheckFailed(AssertionError):
    """The answer is not right yet; the message says why."""

    def _render_traceback_(self) -> list[str]:
        """Show only the message in a notebook: the traceback would be the checker's own."""
        return [str(self)]


def make_cases(item: Item, seed: int) -> list[Case]:
    """Return the item's cases; the same seed gives the same cases."""
    return item.cases(np.random.default_rng([seed, crc32(item.name.encode())]))


def expect(item: Item, cases: Sequence[Case]) -> list[Outcome]:
    """Return the right outcome of each case."""
    return [attempt(item.call, item.reference, case.inputs) for case in cases]


def verify(item: Item, trials: Sequence[Trial]) -> Verdict:
    """Judge the outcomes of all cases; only data is looked at, no student code runs."""
    wrong = [trial for trial in trials if not _right(item, trial)]
    if not wrong:
        return Verdict(item.name, passed=True)
    first = wrong[0]
    failed = sum(trial.outcome.failure is not None for trial in wrong)
    untouched = first.outcome.failure and first.outcome.failure.type_name == "NotImplementedError"
    if untouched and failed == len(trials):
        return Verdict(item.name, False, "not_attempted", "not attempted yet")
    detail = f"case: {first.case.name}"
    for diagnosis in item.diagnoses:
        if _explains(item, diagnosis, trials):
            return Verdict(item.name, False, diagnosis.name, diagnosis.message, detail)
    name, message, numbers = _general(item, first)
    return Verdict(item.name, False, name, message, f"{detail}\n{numbers}".strip())


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
    from course_utils.grading.items import find_item

    item = find_item(name)
    cases = make_cases(item, VISIBLE_SEED)
    outcomes = [attempt(item.call, answer, case.inputs) for case in cases]
    trials = [Trial(*each) for each in zip(cases, expect(item, cases), outcomes, strict=True)]
    verdict = verify(item, trials)
    if not verdict.passed:
        lines = [f"✗ {name}: {verdict.message}", *verdict.detail.splitlines()]
        raise CheckFailed("\n  ".join(line for line in lines if line))
    points = f"{item.points} point{'s' * (item.points != 1)}"
    print(f"✓ {name}: right on all {len(cases)} cases ({points})")


def _right(item: Item, trial: Trial) -> bool:
    """Return True if one outcome is right: its value, and no input changed."""
    if _changed_inputs(item, trial):
        return False
    if trial.expected.failure is not None or trial.outcome.failure is not None:
        return _same_outcome(item, trial.expected, trial.outcome)
    if item.agree is not None:
        try:
            return bool(item.agree(trial.case, trial.expected.value, trial.outcome.value))
        except Exception:  # an answer of a form it was not written for
            return False
    return compare.same(trial.expected.value, trial.outcome.value, item.rtol, item.atol)


def _changed_inputs(item: Item, trial: Trial) -> list[str]:
    """Return the names of inputs that the call changed and must not."""
    return [
        name
        for name, value in trial.expected.inputs.items()
        if name not in item.may_change
        and not compare.same(value, trial.outcome.inputs.get(name), 0.0, 0.0)
    ]


def _same_outcome(item: Item, one: Outcome, other: Outcome) -> bool:
    """Return True if two outcomes are the same value or the same kind of exception."""
    if one.failure is not None or other.failure is not None:
        names = [f.type_name if f else "" for f in (one.failure, other.failure)]
        return names[0] == names[1]
    return compare.same(one.value, other.value, max(item.rtol, 1e-6), item.atol)


def _explains(item: Item, diagnosis: Diagnosis, trials: Sequence[Trial]) -> bool:
    if diagnosis.when is not None:
        try:
            return bool(diagnosis.when(trials))
        except Exception:  # written for arrays, and the answer is something else
            return False
    if diagnosis.variant is None:
        return False
    for trial in trials:
        outcome = attempt(item.call, diagnosis.variant, trial.case.inputs)
        if not _same_outcome(item, outcome, trial.outcome):
            return False
        if _changed_inputs(item, Trial(trial.case, trial.expected, outcome)) != _changed_inputs(
            item, trial
        ):
            return False
    return True


def _general(item: Item, trial: Trial) -> tuple[str, str, str]:
    """Diagnose what can go wrong anywhere; return name, message, and this case's numbers."""
    outcome, expected = trial.outcome, trial.expected
    got = f"got {compare.show(outcome.value)}"
    if expected.failure is not None:
        got = f"got {outcome.failure.type_name}" if outcome.failure else got
        return "no_error", f"here a {expected.failure.type_name} must be raised", got
    if failure := outcome.failure:
        numbers = "\n".join([f"{failure.type_name}: {failure.message}", *failure.lines])
        return "error", "an exception was raised", numbers
    if item.agree is None:
        found = compare.difference(expected.value, outcome.value, item.rtol, item.atol)
        if found is not None:
            return found.name, found.message, found.detail
    if changed := _changed_inputs(item, trial):
        return "changed_input", f"an input is changed in place: {', '.join(changed)}", ""
    return "wrong_value", "the result is not right", got
