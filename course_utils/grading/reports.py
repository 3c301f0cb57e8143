"""From results to what people read: tables, feedback pages, a class summary, platform formats.

Every file is a function of the results alone: the same results give the same bytes. Names and
messages come from students, so they are escaped in HTML, and in tables nothing begins as a
spreadsheet formula would.

Feedback shows a student's own exceptions, from the visible cases, and the diagnosis. It holds no
hidden case and no right answer, because results hold none.
"""

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from course_utils.grading.grade import STATUSES, ItemResult, Result, result_path
from course_utils.grading.items import load_items
from course_utils.grading.submissions import Submission

FORMULA = ("=", "+", "-", "@", "\t", "\r")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .6rem; text-align: left }
tr { border-bottom: 1px solid #ccc } pre { background: #f4f4f4; padding: .6rem; overflow-x: auto }
.full { color: #05603a } .none { color: #a11 }
"""
STATUS_WORDS = {
    "ok": "Your notebook ran from top to bottom.",
    "failed": "Your notebook ran; some of it raised an exception.",
    "timeout": "Something in your notebook took too long and was stopped.",
    "crashed": "The process that ran your notebook ended before it was done.",
    "out of memory": "Your notebook used more memory than there is.",
    "corrupt": "What you handed in could not be read as a notebook.",
    "missing": "Nothing was handed in.",
    "tampered": "Cells that are given were changed. Your teacher will look at it.",
}


def write_reports(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write every report into a folder and return the files, in the order they matter."""
    files = {
        "grades.csv": grades_csv(results),
        "summary.html": summary_page(results),
        "report.json": report_json(results),
        "canvas.csv": canvas_csv(results),
    }
    for lesson in sorted({result.lesson for result in results}):
        own = [result for result in results if result.lesson == lesson]
        files[f"moodle_{lesson}.csv"] = moodle_csv(own)
    for result in results:
        name = result_path(Path(), Submission(result.student, result.lesson)).stem
        files[f"feedback/{name}.html"] = feedback_page(result)
        files[f"gradescope/{name}/results.json"] = gradescope_json(result)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in files]


# --- tables -----------------------------------------------------------------------------------


def _table(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, safe to open in a spreadsheet."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in rows:
        safe = [f"'{v}" if isinstance(v, str) and v.startswith(FORMULA) else v for v in row]
        writer.writerow(safe)
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
    return _table(rows)


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
    return _table(rows)


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
    return _table(rows)


def gradescope_json(result: Result) -> str:
    """Return what a Gradescope autograder leaves in ``results.json``."""
    tests = [
        {
            "name": item.name,
            "score": item.points,
            "max_score": item.most,
            "status": "passed" if item.points == item.most else "failed",
            "output": _explanation(item),
        }
        for item in result.items
    ]
    content = {"score": result.score, "output": STATUS_WORDS[result.status], "tests": tests}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def report_json(results: Sequence[Result]) -> str:
    """Return everything, for other programs."""
    rows = [{"score": result.score, "max": result.most} | asdict(result) for result in results]
    statuses = Counter(result.status for result in results)
    content = {
        "statuses": {status: statuses[status] for status in STATUSES},
        "items": item_statistics(results),
        "results": rows,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _by_student(results: Sequence[Result]) -> dict[str, list[Result]]:
    grouped: dict[str, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.student, []).append(result)
    return grouped


def item_statistics(results: Sequence[Result]) -> list[dict[str, object]]:
    """Return for each item how many solved it, and the most frequent diagnoses."""
    items: dict[str, list[ItemResult]] = {}
    for result in results:
        for item in result.items if result.status not in ("missing", "corrupt") else ():
            items.setdefault(item.name, []).append(item)
    return [
        {
            "item": name,
            "graded": len(own),
            "solved": sum(item.points == item.most for item in own),
            "diagnoses": dict(
                sorted(
                    Counter(i.diagnosis for i in own if i.diagnosis).items(),
                    key=lambda pair: (-pair[1], pair[0]),
                )
            ),
        }
        for name, own in items.items()
    ]


# --- pages ------------------------------------------------------------------------------------


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _explanation(item: ItemResult) -> str:
    """Say in one sentence what came of an item."""
    if item.points == item.most:
        return "right"
    hidden = " (the cases in your notebook pass; others, of the same kind, do not)"
    return item.message + hidden * item.only_hidden


def feedback_page(result: Result) -> str:
    """Return the page a student gets."""
    titles = {item.name: item.title for item in load_items(result.lesson)}
    rows = []
    for item in result.items:
        full = item.points == item.most
        error = f"<pre>{escape(item.error)}</pre>" if item.error else ""
        rows.append(
            f"<tr><td>{escape(item.name)}<br>{escape(titles.get(item.name, ''))}</td>"
            f'<td class="{"full" if full else "none"}">{item.points} of {item.most}</td>'
            f"<td>{escape(_explanation(item))}{error}</td></tr>"
        )
    errors = "".join(f"<pre>{escape(error)}</pre>" for error in result.cell_errors)
    body = (
        f"<h1>Lesson {escape(result.lesson)}: {result.score} of {result.most} points</h1>\n"
        f"<p>{escape(result.student)}{', ' + escape(result.file) if result.file else ''}</p>\n"
        f"<p>{STATUS_WORDS[result.status]} {escape(result.detail)}</p>\n"
        "<table><tr><th>Item</th><th>Points</th><th>What we saw</th></tr>\n"
        + "\n".join(rows)
        + "\n</table>\n"
        + (f"<h2>Exceptions in your cells</h2>\n{errors}" if errors else "")
    )
    return _page(f"Lesson {result.lesson}, {result.student}", body)


def summary_page(results: Sequence[Result]) -> str:
    """Return the page for the instructor: statuses, items, scores, whom to look at."""
    body = ["<h1>Class summary</h1>"]
    for lesson in sorted({result.lesson for result in results}):
        own = [result for result in results if result.lesson == lesson]
        body.append(f"<h2>Lesson {escape(lesson)}: {len(own)} students</h2>")
        counts = Counter(result.status for result in own)
        body.append("<p>" + ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s]) + "</p>")
        body.append(_scores_picture(own))
        body.append("<table><tr><th>Item</th><th>Solved</th><th>Most frequent mistakes</th></tr>")
        for row in item_statistics(own):
            found: dict[str, int] = row["diagnoses"]  # type: ignore[assignment]
            mistakes = ", ".join(f"{name} ({n})" for name, n in list(found.items())[:3])
            body.append(
                f"<tr><td>{escape(str(row['item']))}</td><td>{row['solved']} of {row['graded']}"
                f"</td><td>{escape(mistakes)}</td></tr>"
            )
        body.append("</table>")
        if unusual := [r for r in own if r.status not in ("ok", "failed")]:
            body.append("<h3>To look at</h3><ul>")
            body += [
                f"<li>{escape(r.student)}: {r.status}. {escape(r.detail)}</li>" for r in unusual
            ]
            body.append("</ul>")
    return _page("Class summary", "\n".join(body))


def _scores_picture(results: Sequence[Result]) -> str:
    """Return a histogram of the scores as an image inside the page."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no screen

    graded = [r for r in results if r.status not in ("missing", "corrupt")]
    if not graded:
        return "<p>Nobody's notebook could be graded.</p>"
    most = max(result.most for result in graded)
    counts = Counter(result.score for result in graded)
    figure = Figure(figsize=(6, 2.5), layout="constrained")
    ax = figure.subplots()
    ax.bar(range(most + 1), [counts[score] for score in range(most + 1)])
    ax.set(xlabel="points", ylabel="students", xlim=(-0.6, most + 0.6))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    mean = sum(result.score for result in graded) / len(graded)
    words = f"Histogram of the scores of {len(graded)} students, mean {mean:.1f} of {most}."
    source = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
    return f'<img alt="{words}" src="{source}">'
