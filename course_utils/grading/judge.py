"""What came of one item: its outcomes compared with references that never leave this process."""

from collections.abc import Sequence
from dataclasses import replace

from course_utils.grading import checks, runner
from course_utils.grading.calls import Outcome
from course_utils.grading.checks import Key, Verdict
from course_utils.grading.items import VISIBLE_SEED, Item, make_key
from course_utils.grading.results import ItemResult
from course_utils.grading.run import Run
from course_utils.grading.sources import library_calls


def judge(item: Item, run: Run, cells: list[str]) -> ItemResult:
    """Judge an item on its hidden cases; explain with words, and with visible cases' errors.

    An answer whose code, among these cells, calls the library's own solution gains nothing.
    """
    result = _judge(item, run)
    if result.points and library_calls(cells, item.target, item.withheld):
        words = checks.library_message(item)
        return replace(result, points=0, diagnosis="library_call", message=words)
    return result


def _judge(item: Item, run: Run) -> ItemResult:
    result = ItemResult(item.name, 0, item.points)
    verdicts: dict[str, Verdict] = {}
    visible_outcomes: list[Outcome] = []
    for stage, seed in (("visible", VISIBLE_SEED), ("hidden", run.settings.seed)):
        cases = run.cases[stage, item.name]
        came = [run.outcomes.get((stage, item.name, index)) for index in range(len(cases))]
        answered = [outcome for outcome in came if outcome is not None]
        types = {o.failure.type_name for o in answered if o.failure}
        if runner.NOT_DEFINED in types:
            message = f"there is no `{item.target}` after the last cell"
            return replace(result, diagnosis="not_defined", message=message)
        if len(answered) < len(cases) or runner.TIME_LIMIT in types:
            return _lost(result, item, run, runner.TIME_LIMIT in types)
        visible_outcomes = answered if stage == "visible" else visible_outcomes
        verdicts[stage] = _verdict(make_key(item, seed), answered)
    hidden, visible = verdicts["hidden"], verdicts["visible"]
    if hidden.passed:
        return replace(result, points=item.points)
    failures = [f for outcome in visible_outcomes if (f := outcome.failure)]
    error = ""
    if failures and hidden.diagnosis == "error":
        error = "\n".join([f"{failures[0].type_name}: {failures[0].message}", *failures[0].lines])
    return replace(
        result,
        diagnosis=hidden.diagnosis,
        message=hidden.message,
        only_hidden=visible.passed,
        error=error,
    )


def _verdict(key: Key, outcomes: Sequence[Outcome]) -> Verdict:
    try:
        return checks.verify(key, outcomes)
    except Exception as error:  # made of data nobody thought of: wrong, and said so
        return Verdict(key.exercise.name, False, "unjudged", f"not judged: {type(error).__name__}")


def _lost(result: ItemResult, item: Item, run: Run, stopped: bool) -> ItemResult:
    """Say why there are no results of an item."""
    if stopped or run.lost.get(item.name) == "time":
        message = f"no result after {item.seconds:g} s: does it end?"
        return replace(result, diagnosis="timeout", message=message)
    if item.name in run.lost:
        return replace(result, diagnosis="crashed", message="the process ended during the call")
    message = f"not reached: {run.reasons[0]}" if run.reasons else "no result came back"
    return replace(result, diagnosis="not_reached", message=message)
