"""Grade a class from the command line, as whoever runs it: the endless ones with less patience.

    python -m tests.grading.grade_class FOLDER

The folder has ``submissions``, ``endless``, and afterwards ``out`` with reports and results.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from course_utils.grading import sandbox
from course_utils.grading.grade import grade_all
from course_utils.grading.reports import write_reports
from course_utils.grading.results import ItemResult, Result, Settings
from course_utils.grading.sandbox import Limits
from course_utils.grading.submissions import collect

SEED = 987_654_321
LIMITS = Limits(seconds=120, memory_gb=2)
IMPATIENT = Limits(seconds=12, memory_gb=2)


def main() -> None:
    place = Path(sys.argv[1]).resolve()
    hidden = (str(place / "submissions"), str(place / "out"))
    slower = sandbox.probe(hidden=hidden)
    results = []
    for folder, limits, jobs in (("endless", IMPATIENT, 4), ("submissions", LIMITS, 2)):
        settings = Settings(SEED, limits, hidden=hidden)
        there = collect(place / folder, ["01"])
        if folder == "submissions":
            there += collect(place / "archive.zip", ["01"])
        results += grade_all(there, settings, place / "out" / "results", jobs=jobs)
    write_reports(results, place / "out")
    content = {"slower": slower, "results": [asdict(result) for result in results]}
    (place / "out" / "results.json").write_text(json.dumps(content), encoding="utf-8")


def load(place: Path) -> tuple[str, list[Result]]:
    """Read what `main` wrote: why there was no nursery, and the results."""
    content = json.loads((place / "out" / "results.json").read_text(encoding="utf-8"))
    results = []
    for row in content["results"]:
        items = tuple(ItemResult(**item) for item in row.pop("items"))
        errors = tuple(row.pop("cell_errors"))
        results.append(Result(**row, items=items, cell_errors=errors))
    return content["slower"], results


if __name__ == "__main__":
    main()
