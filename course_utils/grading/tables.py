"""Tables and files for grade books: ours, Canvas's, Moodle's, Gradescope's.

Names and messages come from students: in a table nothing begins as a spreadsheet formula would.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence

from course_utils.grading.results import ItemResult, Result
from course_utils.grading.words import cell

STATUS_WORDS = {
    "ok": "Your notebook ran from top to bottom.",
    "failed": "Your notebook ran; some of it raised an exception.",
    "timeout": "Something in your notebook took too long and was stopped.",
    "crashed": "The process that ran your notebook ended before it was done.",
    "out of memory": "Your notebook used more memory than there is.",
    "corrupt": "What you handed in could not be read as a notebook.",
    "missing": "Nothing was handed in.",
    "tampered": "Something in your notebook answered in the place of your code. Your teacher will "
    "look at it.",
    "internal error": "Your notebook was not graded, through no fault of yours. Your teacher will "
    "look at it.",
}


def explanation(item: ItemResult) -> str:
    """Say in one sentence what came of an item."""
    if item.points == item.most:
        return "right"
    hidden = " (the cases in your notebook pass; others, of the same kind, do not)"
    return item.message + hidden * item.only_hidden


def table(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, safe to open in a spreadsheet."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in rows:
        writer.writerow([cell(value) if isinstance(value, str) else value for value in row])
    return file.getvalue()


def grades_csv(results: Sequence[Result]) -> str:
    """Return one row per student and lesson: points of every item, score, status, detail."""
    names = list(dict.fromkeys(item.name for result in results for item in result.items))
    rows: list[list[object]] = [["student", "lesson", *names, "score", "max", "status", "detail"]]
    for result in results:
        points = {item.name: item.points for item in result.items}
        own = [points.get(name, "") for name in names]
        score = [result.score, result.most, result.status, result.detail]
        rows.append([result.student, result.lesson, *own, *score])
    return table(rows)


def canvas_csv(results: Sequence[Result]) -> str:
    """Return Canvas's grade-book columns: one row per student, one column per lesson."""
    most = {result.lesson: result.most for result in results}
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    rows: list[list[object]] = [
        [*head, *(f"Lesson {lesson}" for lesson in sorted(most))],
        ["    Points Possible", "", "", "", "", *(most[lesson] for lesson in sorted(most))],
    ]
    for student, own in _by_student(results).items():
        scores = {result.lesson: result.score for result in own}
        number = next((r.platform_id for r in own if r.platform_id), "")
        rows.append([student, number, "", "", "", *(scores.get(k, "") for k in sorted(most))])
    return table(rows)


MOODLE_COLUMNS = (
    *("Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade"),
    *("Grade can be changed", "Last modified (submission)", "Last modified (grade)"),
    "Feedback comments",
)


def moodle_csv(results: Sequence[Result]) -> str:
    """Return Moodle's offline grading worksheet of one lesson (an assignment there)."""
    rows: list[Sequence[object]] = [MOODLE_COLUMNS]
    for result in results:
        identifier = f"Participant {result.platform_id}" if result.platform_id else ""
        comments = [f"{i.name}: {i.message}" for i in result.items if i.message]
        words = " ".join([STATUS_WORDS[result.status], *comments])
        score = [result.status, result.score, result.most, "Yes", "", "", words]
        rows.append([identifier, result.student, "", *score])
    return table(rows)


def gradescope_json(result: Result) -> str:
    """Return what a Gradescope autograder leaves in ``results.json``."""
    tests = [
        {
            "name": item.name,
            "score": item.points,
            "max_score": item.most,
            "status": "passed" if item.points == item.most else "failed",
            "output": explanation(item),
        }
        for item in result.items
    ]
    content = {"score": result.score, "output": STATUS_WORDS[result.status], "tests": tests}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _by_student(results: Sequence[Result]) -> dict[str, list[Result]]:
    grouped: dict[str, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.student, []).append(result)
    return grouped
