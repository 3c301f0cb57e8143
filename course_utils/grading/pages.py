"""Pages for people: feedback for each student, and a summary of the class for the instructor.

All that students wrote is escaped. Feedback shows a student's own exceptions, from the visible
cases, and the diagnosis; it holds no hidden case and no right answer, because results hold none.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from html import escape

from course_utils.grading.copies import Pair
from course_utils.grading.items import load_items
from course_utils.grading.results import STATUSES, UNGRADED, ItemResult, Result
from course_utils.grading.tables import STATUS_WORDS, explanation

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .6rem; text-align: left }
tr { border-bottom: 1px solid #ccc } pre { background: #f4f4f4; padding: .6rem; overflow-x: auto }
.full { color: #05603a } .none { color: #a11 }
"""


def item_statistics(results: Sequence[Result]) -> list[dict[str, object]]:
    """Return for each item how many solved it, and the most frequent diagnoses."""
    items: dict[str, list[ItemResult]] = {}
    for result in results:
        for item in result.items if result.status not in UNGRADED else ():
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


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


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
            f"<td>{escape(explanation(item))}{error}</td></tr>"
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


def summary_page(results: Sequence[Result], copies: Sequence[Pair] = ()) -> str:
    """Return the page for the instructor: statuses, items, scores, whom and what to look at."""
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
        unusual = [r for r in own if r.status not in ("ok", "failed")]
        body += _listed("To look at", [f"{r.student}: {r.status}. {r.detail}" for r in unusual])
        again = [f"{r.student}: {r.again}" for r in own if r.again]
        body += _listed("Stopped beside others", again)
    alike = [f"{pair.first} and {pair.second}: {', '.join(pair.items)}" for pair in copies]
    body += _listed("Same code, but for names and formatting", alike)
    return _page("Class summary", "\n".join(body))


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    """Return a heading and a list, if there is anything to list."""
    points = [f"<li>{escape(line)}</li>" for line in lines]
    return [f"<h3>{title}</h3><ul>", *points, "</ul>"] if lines else []


def _scores_picture(results: Sequence[Result]) -> str:
    """Return a histogram of the scores as an image inside the page."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no screen

    graded = [r for r in results if r.status not in UNGRADED]
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
