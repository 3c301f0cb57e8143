"""From results to files that people and other programs read.

Every file is a function of what is given: the same results give the same bytes.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from course_utils.grading.copies import Pair
from course_utils.grading.kept import result_path, write_whole
from course_utils.grading.pages import feedback_page, item_statistics, summary_page
from course_utils.grading.results import STATUSES, Result
from course_utils.grading.submissions import Submission
from course_utils.grading.tables import canvas_csv, grades_csv, gradescope_json, moodle_csv, table


def write_reports(
    results: Sequence[Result], folder: Path, copies: Sequence[Pair] = ()
) -> list[Path]:
    """Write every report into a folder and return the files, in the order they matter."""
    files = {
        "grades.csv": grades_csv(results),
        "summary.html": summary_page(results, copies),
        "report.json": report_json(results, copies),
        "copies.csv": copies_csv(copies),
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
        write_whole(folder / name, text)
    return [folder / name for name in files]


def report_json(results: Sequence[Result], copies: Sequence[Pair] = ()) -> str:
    """Return everything, for other programs."""
    rows = [{"score": result.score, "max": result.most} | asdict(result) for result in results]
    statuses = Counter(result.status for result in results)
    content = {
        "statuses": {status: statuses[status] for status in STATUSES},
        "items": item_statistics(results),
        "copies": [asdict(pair) for pair in copies],
        "results": rows,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def copies_csv(copies: Sequence[Pair]) -> str:
    """Return a row for each pair of students who gave the same code, and for which items."""
    rows = [[pair.first, pair.second, ", ".join(pair.items), f"{pair.weight:g}"] for pair in copies]
    return table([["student", "other", "items", "weight"], *rows])
