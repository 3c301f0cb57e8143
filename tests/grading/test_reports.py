"""What people and other programs get to read, from results made by hand: one of every status."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from dataclasses import replace

import pytest

from course_utils.grading.copies import Pair
from course_utils.grading.items import load_items
from course_utils.grading.pages import feedback_page, item_statistics, summary_page
from course_utils.grading.reports import write_reports
from course_utils.grading.results import STATUSES, UNGRADED, ItemResult, Result
from course_utils.grading.tables import canvas_csv, moodle_csv
from course_utils.grading.words import FORMULA, cell, clean, line

ITEMS = load_items("01")
SUM = "too large by a factor of B"


def result(student: str, status: str, solved: int = 0, **more) -> Result:
    items = tuple(
        ItemResult(item.name, item.points, item.points)
        if number < solved
        else ItemResult(item.name, 0, item.points, "missing_mean", SUM, only_hidden=number == 5)
        for number, item in enumerate(ITEMS)
    )
    return Result(student, "01", status, "why", items, **more)


CLASS = [
    result("Ada <Lovelace>", "ok", 6, platform_id="4711", file="01_gradients.ipynb"),
    *(result(f"student of {status}", status, 2) for status in STATUSES[1:5]),
    *(result(f"student of {status}", status) for status in STATUSES[5:]),
    result("=HYPERLINK(1)", "failed", cell_errors=("In code cell 3: E: </pre><script>",)),
]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("out") for _ in range(2)]
    for folder in folders:
        write_reports(CLASS, folder)
    one, two = (
        {str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in folders
    )
    assert one == two  # the same results, the same bytes
    return {name: raw.decode() for name, raw in one.items()}


def test_grades_have_a_row_for_everyone(written):
    table = rows(written["grades.csv"])
    assert [row["status"] for row in table] == [r.status for r in CLASS]
    assert set(STATUSES) == {row["status"] for row in table}
    assert table[0]["score"] == table[0]["max"] == str(sum(item.points for item in ITEMS))
    assert all(sum(int(row[i.name]) for i in ITEMS) == int(row["score"]) for row in table)
    assert all(row["detail"] == "why" for row in table)


def test_canvas_columns():
    lines = list(csv.reader(canvas_csv(CLASS).splitlines()))
    assert lines[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lesson 01"]
    assert lines[1] == ["    Points Possible", "", "", "", "", str(CLASS[0].most)]
    assert lines[2] == ["Ada <Lovelace>", "4711", "", "", "", str(CLASS[0].most)]
    assert len(lines) == 2 + len(CLASS)


def test_moodle_columns():
    table = rows(moodle_csv(CLASS))
    assert list(table[0]) == [
        *("Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade"),
        *("Grade can be changed", "Last modified (submission)", "Last modified (grade)"),
        "Feedback comments",
    ]
    assert table[0]["Identifier"] == "Participant 4711"
    assert table[1]["Identifier"] == ""
    assert [row["Grade"] for row in table] == [str(r.score) for r in CLASS]


def test_gradescope(written):
    found = [json.loads(text) for name, text in written.items() if name.startswith("gradescope/")]
    assert len(found) == len(CLASS)
    for content in found:
        assert content["score"] == sum(test["score"] for test in content["tests"])
        assert {test["status"] for test in content["tests"]} <= {"passed", "failed"}
        assert all(set(test) >= {"name", "max_score", "output"} for test in content["tests"])


def test_report_counts_everything(written):
    content = json.loads(written["report.json"])
    assert content["statuses"] == dict.fromkeys(STATUSES, 1) | {"failed": 2}
    assert len(content["results"]) == len(CLASS)
    # missing and corrupt notebooks say nothing about an item
    assert {row["graded"] for row in content["items"]} == {len(CLASS) - len(UNGRADED)}


def test_statistics_name_the_most_frequent_mistake():
    first, *_, last = item_statistics(CLASS)
    assert (first["solved"], last["solved"]) == (5, 1)
    assert last["diagnoses"] == {"missing_mean": len(CLASS) - len(UNGRADED) - 1}


def test_a_page_says_what_was_seen():
    page = feedback_page(CLASS[1])
    assert "raised an exception" in page
    assert SUM in page
    assert "The cases in your notebook pass".lower() in page.lower()
    assert all(item.title in page.replace("&#x27;", "'") for item in ITEMS)


def test_no_name_or_message_becomes_markup_or_a_formula(written):
    for name, text in written.items():
        if name.endswith(".html"):
            assert "<script>" not in text
            assert "<Lovelace>" not in text
        if name.endswith(".csv"):
            cells = [cell for line in csv.reader(text.splitlines()) for cell in line]
            assert not [cell for cell in cells if cell.lstrip().startswith(tuple(FORMULA))]


def test_summary_has_a_picture_with_words_and_whom_to_look_at():
    page = summary_page(CLASS)
    assert '<img alt="Histogram of the scores of 7 students' in page
    assert 'src="data:image/png;base64,' in page
    for status in ("timeout", "crashed", "out of memory", "corrupt", "missing", "tampered"):
        assert f"student of {status}: {status}. why" in page


def test_a_class_of_nobody_has_a_summary():
    assert "could be graded" in summary_page([result("ada", "missing")])


# -- text from others, wherever it is written ---------------------------------------------------

NASTY = (
    "\ud800lone",
    "nul\x00",
    "\x1b[2J\x1b]0;title\x07clear",
    "\x9b31mred",
    "user\u202egnp.exe",
    "a\u2066b\u200f",
    "line\u2028separator\x85\r\r\n",
    "=1+1",
    "＝1+1",
    "﹣1",
    "\t=1",
    " \r=1",
    "x;=1+1",
    "x;\t＠SUM(1)",
    'x,"=1',
    "x\n-2+3",
)
HARM = re.compile(
    "[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_text_is_harmless_in_every_report(text, tmp_path):
    """Through every field that holds a student's words: report.json of 0 bytes was seen."""
    for shown in (line(text), clean(text)):
        assert not HARM.search(shown)
    item = ItemResult("01.train", 0, 6, "error", line(text), error=clean(text))
    row = Result(line(text), "01", "failed", line(text), (item,), line(text), "", (clean(text),))
    write_reports(
        [row, result("ada", "ok", 6)], tmp_path, [Pair(line(text), "ada", ("01.train",), 1.0)]
    )
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            assert path.stat().st_size, path
            assert not HARM.search(path.read_text(encoding="utf-8")), path
    for path in tmp_path.glob("*.csv"):
        for separator in ",;\t|":
            for cells in csv.reader(
                path.read_text(encoding="utf-8").splitlines(), delimiter=separator
            ):
                assert not [c for c in cells if c.lstrip(' "').startswith(tuple(FORMULA))], path


def test_words_that_harm_nobody_stay():
    for text in ("José, Grüße, 王小明, O'Neil-Smith", "می‌خواهم", "👩‍🔬", "a\tb\nc", "x = -1"):
        assert clean(text) == text
    assert cell("a - b, c = 2; it's") == "a - b, c = 2; it's"


def test_a_report_is_whole_or_as_it_was(tmp_path, monkeypatch):
    """A disk that fills while a report is written."""
    write_reports(CLASS[:1], tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_reports(CLASS, tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_copies_are_listed_and_cost_nothing(tmp_path):
    """For the instructor's eyes; no student's page says a word."""
    pair = [Pair("ada", "<b>bob</b>", ("01.train",), 4.5)]
    write_reports([result("ada", "ok", 6)], tmp_path, pair)
    assert rows((tmp_path / "copies.csv").read_text()) == [
        {"student": "ada", "other": "<b>bob</b>", "items": "01.train", "weight": "4.5"}
    ]
    assert "ada and &lt;b&gt;bob&lt;/b&gt;: 01.train" in (tmp_path / "summary.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["copies"][0]["first"] == "ada"
    for path in (tmp_path / "feedback").iterdir():
        assert "bob" not in path.read_text()


def test_the_summary_names_who_was_graded_again():
    again = replace(result("ada", "ok", 6), again="timeout beside others")
    assert "ada: timeout beside others" in summary_page([again])
