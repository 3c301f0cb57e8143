"""Judge answers: an item's rules, the key to one set of its cases, and `verify`.

An `Exercise` says how an item is called and compared. A `Key` is what one set of cases is judged
by: the cases, the right outcome of each, and the typical mistakes. `verify` compares outcomes
with a key and says why an answer is wrong. It looks at plain data only; no student code runs.

Keys come from two places. Those to the cases in a student's notebook are data that the course
ships (`visible`); those to the grader's secret cases are made from the answer book (`items`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from course_utils.grading import compare
from course_utils.grading.calls import Call, Outcome, function
from course_utils.grading.wire import Plain
from course_utils.grading.withheld import LIBRARY_CALLED

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


Predicate = Callable[[Sequence[Trial]], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Exercise:
    """How an item is called and judged: all that is known of it outside of the answer book.

    Attributes
    ----------
    name : str
        ``"01.softmax_gradient"``: the lesson, and the student's object that is called.
    points : int
    call : callable
        See `course_utils.grading.calls`.
    rtol, atol : float
    agree : callable, optional
        ``agree(case, expected, value)`` instead of comparing values, where many are right.
    together : callable, optional
        A predicate over all trials that must hold too: what no case shows by itself, such as
        that a seed gives the same draw twice.
    observe : callable, optional
        From the plain data of a value to what is judged of it.
    may_change : tuple of str
        Inputs that a right answer may change in place.
    apart : bool
        The grader makes each call in a process of its own: nothing is remembered between cases.
    withheld : tuple of str
        The library's own solutions, which an answer must not call: ``"package.module.name"``.
    """

    name: str
    points: int
    call: Call = function
    rtol: float = 1e-6
    atol: float = 1e-8
    agree: Callable[[Case, Plain, Plain], bool] | None = None
    together: Predicate | None = None
    observe: Callable[[Plain], Plain] | None = None
    may_change: tuple[str, ...] = ()
    apart: bool = False
    withheld: tuple[str, ...] = ()

    @property
    def lesson(self) -> str:
        """The lesson's number, such as ``"01"``."""
        return self.name.split(".")[0]

    @property
    def target(self) -> str:
        """The name of the student's object, such as ``"softmax_gradient"``."""
        return self.name.split(".")[1]


@dataclass(frozen=True)
class Known:
    """A typical mistake, recognised by its results.

    Attributes
    ----------
    name : str
    message : str
        Why it is wrong, in words that fit every case (they are shown for hidden ones too).
    outcomes : tuple of callable
        For each known-wrong answer, a function that returns its outcome on every case.
    ordinary : bool
        Compare only where no exception is due.
    """

    name: str
    message: str
    outcomes: tuple[Callable[[], Sequence[Outcome]], ...]
    ordinary: bool = False


@dataclass(frozen=True)
class Seen:
    """A typical mistake, recognised by a predicate over all trials."""

    name: str
    message: str
    when: Predicate


@dataclass(frozen=True)
class Key:
    """What judges the answers to an item on one set of cases; the most specific mistake first."""

    exercise: Exercise
    cases: Sequence[Case]
    expected: Sequence[Outcome]
    mistakes: Sequence[Known | Seen]


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


def verify(key: Key, outcomes: Sequence[Outcome]) -> Verdict:
    """Judge the outcomes of all cases."""
    item = key.exercise
    trials = [
        Trial(case, _observed(item, expected), _observed(item, outcome))
        for case, expected, outcome in zip(key.cases, key.expected, outcomes, strict=True)
    ]
    wrong = [trial for trial in trials if not _right(item, trial)]
    if not wrong and _holds(item.together, trials, otherwise=True):
        return Verdict(item.name, passed=True)
    types = [trial.outcome.failure.type_name if trial.outcome.failure else "" for trial in trials]
    if set(types) == {"NotImplementedError"}:
        return Verdict(item.name, False, "not_attempted", "not attempted yet")
    first = wrong[0] if wrong else trials[0]
    detail = f"case: {first.case.name}" if wrong else ""
    if LIBRARY_CALLED in types:
        return Verdict(item.name, False, "library_call", library_message(item), detail)
    for mistake in key.mistakes:
        if _recognised(item, mistake, trials):
            return Verdict(item.name, False, mistake.name, mistake.message, detail)
    if not wrong:
        return Verdict(item.name, False, "not_together", "each case is right, all of them are not")
    name, message, numbers = _general(item, wrong)
    return Verdict(item.name, False, name, message, f"{detail}\n{numbers}".strip())


def library_message(item: Exercise) -> str:
    """Say that an answer calls what it is to re-implement."""
    names = ", ".join(f"`{name}`" for name in item.withheld)
    return f"this calls the library's own solution ({names}): write it yourself"


def _observed(item: Exercise, outcome: Outcome) -> Outcome:
    """Return an outcome with what is judged of its value."""
    if item.observe is None or outcome.failure is not None:
        return outcome
    try:
        return replace(outcome, value=item.observe(outcome.value))
    except Exception:  # a value of a form it was not written for
        return outcome


def _holds(predicate: Predicate | None, trials: Sequence[Trial], otherwise: bool = False) -> bool:
    """Return what a predicate says; False where it was written for answers of another form."""
    if predicate is None:
        return otherwise
    try:
        return bool(predicate(trials))
    except Exception:
        return False


def _right(item: Exercise, trial: Trial) -> bool:
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


def _changed_inputs(item: Exercise, trial: Trial) -> list[str]:
    """Return the names of inputs that the call changed and must not."""
    return [
        name
        for name, value in trial.expected.inputs.items()
        if name not in item.may_change
        and not compare.same(value, trial.outcome.inputs.get(name), 0.0, 0.0)
    ]


def _same_outcome(item: Exercise, one: Outcome, other: Outcome) -> bool:
    """Return True if two outcomes are the same value or the same kind of exception."""
    if one.failure is not None or other.failure is not None:
        names = [f.type_name if f else "" for f in (one.failure, other.failure)]
        return names[0] == names[1]
    return compare.same(one.value, other.value, max(item.rtol, 1e-6), item.atol)


def _recognised(item: Exercise, mistake: Known | Seen, trials: Sequence[Trial]) -> bool:
    """Return True if the trials show this mistake."""
    if isinstance(mistake, Seen):
        return _holds(mistake.when, trials)
    return any(_equal(item, trials, found(), mistake.ordinary) for found in mistake.outcomes)


def _equal(
    item: Exercise, trials: Sequence[Trial], outcomes: Sequence[Outcome], ordinary: bool
) -> bool:
    """Return True if the trials' outcomes are these, changed inputs included."""
    for trial, known in zip(trials, outcomes, strict=True):
        if ordinary and trial.expected.failure is not None:
            continue
        wrong = Trial(trial.case, trial.expected, _observed(item, known))
        if not _same_outcome(item, wrong.outcome, trial.outcome):
            return False
        if _changed_inputs(item, wrong) != _changed_inputs(item, trial):
            return False
    return True


def _without_factor(item: Exercise, trial: Trial) -> bool:
    """Return True if a single number is off, but by no factor: then that of others says nothing."""
    if not compare.is_single(trial.expected.value) or trial.outcome.failure is not None:
        return False
    found = compare.difference(trial.expected.value, trial.outcome.value, item.rtol, item.atol)
    return found is not None and found.name != "constant_factor"


def _general(item: Exercise, wrong: Sequence[Trial]) -> tuple[str, str, str]:
    """Diagnose what can go wrong anywhere; return name, message, and the first case's numbers."""
    trial = wrong[0]
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
            if found.name == "constant_factor" and any(_without_factor(item, t) for t in wrong):
                return "wrong_value", "the numbers differ", found.detail.partition(": factor")[0]
            return found.name, found.message, found.detail
    if changed := _changed_inputs(item, trial):
        return "changed_input", f"an input is changed in place: {', '.join(changed)}", ""
    return "wrong_value", "the result is not right", got
