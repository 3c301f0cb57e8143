"""A class in which some try to stop, change or hide others: everybody has the row they earned."""

from __future__ import annotations

import csv
import json
import resource

import pytest

from course_utils.grading import sandbox
from course_utils.grading.grade import grade_all
from course_utils.grading.pages import feedback_page
from course_utils.grading.reports import write_reports
from course_utils.grading.results import Settings
from course_utils.grading.sandbox import Limits
from course_utils.grading.submissions import collect
from tests.grading.hostile import SOLUTION, STUBS, notebook
from tests.grading.hostile_rows import ROWS, UNLUCKY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]
ALONE = 1_500_000  # kilobytes: a class of these in a grader that has imported all it needs


@pytest.fixture(scope="module")
def graded(walls, tmp_path_factory):
    place = tmp_path_factory.mktemp("rows")

    def hand_in(student: str, raw: bytes) -> None:
        (place / "in" / student).mkdir(parents=True)
        (place / "in" / student / "01_gradients.ipynb").write_bytes(raw)

    for hostile in ROWS:
        hand_in(hostile.name, notebook(STUBS, hostile.cell))
    for name, cells in UNLUCKY.items():
        hand_in(name, notebook(STUBS, *cells))
    hand_in("an honest student", SOLUTION.read_bytes())
    hand_in("zz an honest student", SOLUTION.read_bytes())
    sandbox.probe()
    settings = Settings(987_654_321, Limits(seconds=60, memory_gb=2))
    results = grade_all(collect(place / "in", ["01"]), settings, place / "results", jobs=2)
    write_reports(results, place / "out")
    return {"rows": {r.student: r for r in results}, "out": place / "out"}


@pytest.mark.parametrize("hostile", ROWS, ids=lambda hostile: hostile.name)
def test_it_has_its_own_row_and_no_points(graded, hostile):
    row = graded["rows"][hostile.name]
    assert row.score == 0
    assert row.status in hostile.statuses, row
    page = feedback_page(row)
    for words in hostile.never:
        assert words not in page


def test_what_was_odd_is_said(graded):
    details = {name: row.detail for name, row in graded["rows"].items()}
    assert "number: inf" in details["a cell whose number is infinite"]
    assert "999 messages could not be read" in details["lines that cannot be read"]
    assert "1 messages could not be read" in details["a line that is small and becomes large"]
    assert "1500 exceptions in cells" in details["a flood of exceptions"]
    assert "300 exceptions in cells" in details["three hundred failing cells"]


@pytest.mark.parametrize("student", UNLUCKY)
def test_bad_luck_is_no_accusation(graded, student):
    row = graded["rows"][student]
    assert row.status in ("ok", "failed", "crashed", "timeout")
    assert "forged" not in row.detail


def test_the_honest_lose_nothing(graded):
    for student in ("an honest student", "zz an honest student"):
        row = graded["rows"][student]
        assert (row.score, row.status) == (row.most, "ok"), row


def test_every_report_is_whole(graded):
    out = graded["out"]
    names = {*(hostile.name for hostile in ROWS), *UNLUCKY}
    with (out / "grades.csv").open(newline="", encoding="utf-8") as file:
        assert names < {row["student"] for row in csv.DictReader(file)}
    assert len(json.loads((out / "report.json").read_text(encoding="utf-8"))["results"]) == (
        len(names) + 2
    )
    for path in out.rglob("*"):
        assert path.is_dir() or path.stat().st_size


def test_the_grader_did_not_grow(graded):
    """Seen: 560 MB from a flood of messages."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < ALONE
