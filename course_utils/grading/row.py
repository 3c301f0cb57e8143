"""From one submission to its row: run it in a sandbox of its own, judge what comes out.

`grade_one` is a pure function of a submission, a seed and limits: it runs in any thread, or on any
machine of a cluster, and the same inputs give the same result. This process never imports or
executes student code. It sends cells and cases into the sandbox and compares the plain data that
comes back with references that never leave.
"""

import threading
from dataclasses import replace

from course_utils.grading.cells import Corrupt, given_cells_changed, read_cells
from course_utils.grading.items import load_items
from course_utils.grading.judge import judge
from course_utils.grading.results import Result, Settings, blank, internal_error
from course_utils.grading.run import Run
from course_utils.grading.sandbox import SandboxError
from course_utils.grading.submissions import Submission

# References are run here, and random generators and imports are the whole process's.
JUDGING = threading.Lock()
STARTS = 3  # a sandbox that does not start is no student's fault


def grade_one(
    submission: Submission, settings: Settings, stop: threading.Event | None = None
) -> Result:
    """Grade one submission.

    Raises
    ------
    SandboxError
        If the sandbox does not start, before any student code has run.
    """
    items = tuple(load_items(submission.lesson))
    if not submission.file:
        return blank(submission, items, "missing", submission.problem)
    try:
        if submission.problem:
            raise Corrupt(submission.problem)
        cells, notes = read_cells(submission.raw)
    except Corrupt as error:
        detail = "; ".join([str(error), *submission.notes])
        return blank(submission, items, "corrupt", detail)
    changed, faked = given_cells_changed(cells, items)
    for _ in range(STARTS):
        run = Run(items, settings)
        ended = run.play([cell.source for cell in cells], stop)
        if run.stage != "start":
            break
    else:
        words = ended.words.strip() or f"it ended with code {ended.code}"
        raise SandboxError(f"the sandbox does not start: {words[-600:]}")
    with JUDGING:
        code = [cell.source for cell in cells]
        results = tuple(judge(item, run, code) for item in items)
    status = run.status(results)
    if faked or run.forged:
        status = "tampered"
    detail = "; ".join([*run.reasons, *run.notes(), *changed, *submission.notes, *notes])
    row = blank(submission, items, status, detail)
    return replace(row, items=results, cell_errors=tuple(run.cell_errors))


def grade_or_say_why(
    submission: Submission, settings: Settings, stop: threading.Event | None = None
) -> Result:
    """Grade one submission; whatever happens, a row comes back."""
    try:
        return grade_one(submission, settings, stop)
    except Exception as error:
        return internal_error(submission, tuple(load_items(submission.lesson)), error)
