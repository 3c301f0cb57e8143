"""A class: every row graded once, kept as soon as it is there, and nobody's at another's cost.

Interrupted grading goes on where it stopped. What was stopped beside others may have been starved
by them, so it is graded again alone before it costs a point.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from course_utils.grading import kept, workers
from course_utils.grading.results import NOT_STARTED, Result, Settings
from course_utils.grading.sandbox import SandboxError
from course_utils.grading.submissions import Submission

STARVED = ("timeout", "crashed", "internal error")  # what a busy machine can do to anybody
MOST_ALONE = 10  # times the limit of one submission: for all that is graded again alone


def grade_all(
    submissions: Sequence[Submission],
    settings: Settings,
    folder: Path,
    *,
    jobs: int = 1,
    dask: str = "",
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Grade a class, in the order of `submissions`.

    Parameters
    ----------
    submissions : sequence of Submission
    settings : Settings
    folder : Path
        Where results are kept, and found by the next run.
    jobs : int
        How many at a time on this machine.
    dask : str
        Address of a Dask scheduler, to grade on its workers instead.
    on_result : callable
        Told of each result, in the order they come.

    Raises
    ------
    SandboxError
        If not one sandbox started.
    """
    done: dict[int, Result] = {}
    keys = kept.fingerprints(submissions, settings)
    paths = [kept.result_path(folder, submission) for submission in submissions]
    for index, (path, key) in enumerate(zip(paths, keys, strict=True)):
        if known := kept.load_result(path, key):
            done[index] = known
            on_result(known)

    def finish(index: int, result: Result) -> None:
        if result.status != "internal error":  # the next run tries that again
            kept.save_result(paths[index], keys[index], result)
        done[index] = result
        on_result(result)

    grade = workers.on_cluster(dask) if dask else workers.on_this_machine(jobs)
    todo = [(index, one) for index, one in enumerate(submissions) if index not in done]
    beside_others = len(todo) > 1 and (bool(dask) or jobs > 1)
    starved: dict[int, Result] = {}
    with contextlib.closing(grade(todo, settings)) as work:
        for index, result in work:  # whatever is raised here, nothing goes on behind our back
            if beside_others and result.status in STARVED:
                starved[index] = result
            else:
                finish(index, result)
    _grade_alone(starved, submissions, settings, grade, finish)
    graded = [done[index] for index, _ in todo]
    if graded and all(result.detail == NOT_STARTED for result in graded):
        raise SandboxError(graded[0].traceback.strip().splitlines()[-1])
    return [done[index] for index in range(len(submissions))]


def _grade_alone(
    starved: dict[int, Result],
    submissions: Sequence[Submission],
    settings: Settings,
    grade: workers.Grader,
    finish: Callable[[int, Result], None],
) -> None:
    """Grade again, one at a time, what was stopped beside others, as long as there is time.

    Those that used up all their time come last: they need the most again.
    """
    end = time.monotonic() + MOST_ALONE * settings.limits.seconds
    for index in sorted(starved, key=lambda i: (starved[i].detail.startswith("stopped"), i)):
        before = starved[index]
        if time.monotonic() > end:
            words = "stopped beside others and, for lack of time, not graded again alone"
            finish(index, replace(before, again=words))
            continue
        with contextlib.closing(grade([(index, submissions[index])], settings)) as work:
            after = next(result for _, result in work)
        if (after.score, after.status) != (before.score, before.status):
            words = f"{before.status} beside others, with {before.score} points; graded again alone"
            after = replace(after, again=words)
        finish(index, after if after.score >= before.score else before)


def kept_rows(
    submissions: Sequence[Submission], settings: Settings, folder: Path
) -> tuple[list[Result], int]:
    """Return what earlier runs graded of these, and how many of it with other options.

    A row that was graded stays until it is graded again, whatever has changed since.
    """
    rows, older = [], 0
    keys = kept.fingerprints(submissions, settings)
    for one, key in zip(submissions, keys, strict=True):
        path = kept.result_path(folder, one)
        if row := kept.load_result(path, None):
            rows.append(row)
            older += kept.load_result(path, key) is None
    return rows, older
