"""What came of one item: its outcomes compared with references that never leave this process."""

from collections.abc import Sequence
from dataclasses import replace

from course_utils.grading import checks, runner
from course_utils.grading.checks import Item, Trial, Verdict
from course_utils.grading.results import ItemResult
from course_utils.grading.run import Run


def judge(item: Item, run: Run) -> ItemResult:
    """Judge an item on its hidden cases; explain with words, and with visible cases' errors."""
    result = ItemResult(item.name, 0, item.points)
    trials: dict[str, list[Trial]] = {}
    for stage in ("visible", "hidden"):
        cases = run.cases[stage, item.name]
        outcomes = [run.outcomes.get((stage, item.name, index)) for index in range(len(cases))]
        answered = [outcome for outcome in outcomes if outcome is not None]
        types = {o.failure.type_name for o in answered if o.failure}
        if runner.NOT_DEFINED in types:
            message = f"there is no `{item.target}` after the last cell"
            return replace(result, diagnosis="not_defined", message=message)
        if len(answered) < len(cases) or runner.TIME_LIMIT in types:
            return _lost(result, item, run, runner.TIME_LIMIT in types)
        expected = checks.expect(item, cases)
        trials[stage] = [Trial(*each) for each in zip(cases, expected, answered, strict=True)]
    hidden, visible = _verdict(item, trials["hidden"]), _verdict(item, trials["visible"])
    if hidden.passed:
        return replace(result, points=item.points)
    failures = [f for trial in trials["visible"] if (f := trial.outcome.failure)]
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


def _verdict(item: Item, trials: Sequence[Trial]) -> Verdict:
    try:
        return checks.verify(item, trials)
    except Exception as error:  # made of data nobody thought of: wrong, and said so
        return Verdict(item.name, False, "unjudged", f"not judged: {type(error).__name__}")


def _lost(result: ItemResult, item: Item, run: Run, stopped: bool) -> ItemResult:
    """Say why there are no results of an item."""
    if stopped or run.lost.get(item.name) == "time":
        message = f"no result after {item.seconds:g} s: does it end?"
        return replace(result, diagnosis="timeout", message=message)
    if item.name in run.lost:
        return replace(result, diagnosis="crashed", message="the process ended during the call")
    message = f"not reached: {run.reasons[0]}" if run.reasons else "no result came back"
    return replace(result, diagnosis="not_reached", message=message)
