"""``course check`` and ``course progress``: real solutions, spoiled as students spoil them."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from course_utils.grading import visible
from course_utils.grading.notebook_check import look, points_of, report
from course_utils.grading.progress import library_hash
from course_utils.grading.results import Settings
from course_utils.grading.row import grade_one
from course_utils.grading.sandbox import Limits
from course_utils.grading.session import File, SavedCell, saved_cells
from course_utils.grading.submissions import Submission
from course_utils.grading.visible import visible_lessons
from tests.grading.hostile import EXERCISE, ROOT, SOLUTION

LESSON = "06"  # its cells need no torch, so a clean run takes a second
[SOLVED] = SOLUTION.parent.glob(f"{LESSON}_*.ipynb")
[GIVEN] = EXERCISE.parent.glob(f"{LESSON}_*.ipynb")
pytestmark = pytest.mark.slow


# -- what students do to notebooks ---------------------------------------------------------------


def place(notebook, text):
    return next(
        i for i, c in enumerate(notebook.cells) if c.cell_type == "code" and text in c.source
    )


def change(notebook, cell, old, new):
    found = notebook.cells[place(notebook, cell)]
    assert old in found.source
    found.source = found.source.replace(old, new)


def nothing(notebook):
    pass


def a_deleted_cell(notebook):
    del notebook.cells[place(notebook, "def auc(")]


def a_renamed_answer(notebook):
    change(notebook, "def auc(", "def auc(", "def auc_(")


def a_cell_that_is_text_now(notebook):
    index = place(notebook, "def auc(")
    notebook.cells[index] = new_markdown_cell(notebook.cells[index].source)


def a_syntax_error(notebook):
    change(notebook, "def auc(", "def auc(", "def auc((")


def a_forgotten_import(notebook):
    change(notebook, "import math", "import math", "")


def a_helper_of_the_session(notebook):
    """Defined in a cell that was deleted afterwards."""
    change(notebook, "def auc(", "### BEGIN", "prepare_scores(scores)\n    ### BEGIN")


def another_order(notebook):
    """The session ran the lower cell first; from top to bottom, `auc` is never defined."""
    change(notebook, "def auc(", "def auc(", "LEVEL + 1\ndef auc(")
    notebook.cells[place(notebook, "def auc(")]["execution_count"] = 90
    notebook.cells.append(new_code_cell("LEVEL = 0.5", execution_count=89))


def another_order_that_does_no_harm(notebook):
    notebook.cells[place(notebook, "def auc(")]["execution_count"] = 90


def a_changed_check_cell(notebook):
    change(notebook, 'check("06.auc"', 'check("06.auc", auc)', 'print("skip")')


def a_deleted_check_cell(notebook):
    del notebook.cells[place(notebook, 'check("06.auc"')]


def a_cell_that_does_not_end(notebook):
    """And whose answer stands below the loop."""
    change(notebook, "def auc(", "def auc(", "while True: pass\ndef auc(")


def an_answer_that_does_not_end(notebook):
    notebook.cells.append(new_code_cell("def auc(*given):\n    while True: pass"))


def an_answer_that_ends_the_process(notebook):
    notebook.cells.append(new_code_cell("import os\ndef auc(*given): os._exit(0)"))


def a_cell_that_ends_the_process(notebook):
    notebook.cells.insert(place(notebook, "def auc("), new_code_cell("import os\nos._exit(0)"))


def an_item_not_attempted(notebook):
    notebook.cells.append(new_code_cell("def auc(*given): raise NotImplementedError()"))


def a_wrong_answer(notebook):
    notebook.cells.append(new_code_cell("wrong = auc\ndef auc(*given): return 1 - wrong(*given)"))


def a_file_of_ones_own(notebook):
    change(notebook, "def auc(", "def auc(", "rows = open('mine.csv')\ndef auc(")


def a_module_of_ones_own(notebook):
    change(notebook, "def auc(", "def auc(", "import my_metrics\ndef auc(")


def the_network(notebook):
    change(
        notebook, "def auc(", "def auc(",
        "import urllib.request\nurllib.request.urlopen('http://example.org')\ndef auc(",
    )  # fmt: skip


def await_and_magics(notebook):
    """Honest: every answer a coroutine function, every answer's cell timed."""
    names = "|".join(name.split(".")[1] for name in points_of(LESSON))
    for cell in notebook.cells:
        if cell.cell_type == "code" and "BEGIN SOLUTION" in cell.source:
            made = re.sub(rf"^def (?=({names})\()", "async def ", cell.source, flags=re.M)
            cell.source = f"%%time\n{made}"
    notebook.cells.insert(0, new_code_cell("%matplotlib inline\n!pip list\nimport asyncio"))
    notebook.cells.append(
        new_code_cell("await asyncio.sleep(0)\ndisplay(await auc([0, 1], [0, 1]))")
    )


HONEST = {nothing, another_order_that_does_no_harm, a_changed_check_cell, a_deleted_check_cell}
EDITS = {  # each with words that must be said, below the item or as a remark
    nothing: [],
    a_deleted_cell: ["there is no `auc` after", "no cell of the file defines `auc`", "passed in"],
    a_renamed_answer: ["no cell of the file defines `auc`", "(`auc_` is there: was it renamed?)"],
    a_cell_that_is_text_now: ["the cell that defines `auc` is not a code cell any more"],
    a_syntax_error: ["(`def auc((labels, scores):`), which defines `auc`, stops with an error"],
    a_forgotten_import: ["only the open session has imported it: add `import math`"],
    a_helper_of_the_session: ["no cell of the file defines `prepare_scores`"],
    another_order: [
        "which defines `auc`, stops with an error",
        "`LEVEL` is defined further down, in code cell 14 (`LEVEL = 0.5`)",
        "another order than they stand in (code cell 5 before code cell 4)",
    ],
    another_order_that_does_no_harm: ["(code cell 5 before code cell 4)"],
    a_changed_check_cell: ["its check cell was changed or deleted", 'check("06.auc", auc)'],
    a_deleted_check_cell: ["its check cell was changed or deleted", 'check("06.auc", auc)'],
    a_cell_that_does_not_end: ["does not end: it was stopped after 3 s", "`auc`, stops"],
    an_answer_that_does_not_end: ["no result after 10 s: does it end?"],
    an_answer_that_ends_the_process: ["the process ended during the call"],
    a_cell_that_ends_the_process: ["ended its process: nothing after it was reached"],
    an_item_not_attempted: ["not attempted"],
    a_wrong_answer: ["case: "],
    a_file_of_ones_own: ["grading has none of your files", "`auc`, stops with an error"],
    a_module_of_ones_own: ["`my_metrics` is not installed with the course"],
    the_network: ["no network when a notebook is graded (example.org)"],
    await_and_magics: [],
}
HONEST |= {await_and_magics}


def edited(edit, path=SOLVED) -> bytes:
    notebook = nbformat.read(path, as_version=4)
    edit(notebook)
    return nbformat.writes(notebook).encode()


def course(*arguments, folder: Path | None = None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "course_utils", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | environment,
        timeout=300,
    )


@functools.cache
def looked_at(edit):
    """The edited notebook, its time, and what was seen in it: run once for two tests."""
    raw, patience = edited(edit), 12.0 if edit is a_cell_that_does_not_end else 120.0
    return raw, patience, look(raw, LESSON, patience)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_what_is_said_and_how_many_points(edit):
    _, _, seen = looked_at(edit)
    said = report("06_evaluation.ipynb", seen, time.time())
    lost = 0 if edit in HONEST else 3 if edit is a_forgotten_import else 2
    points = 0 if edit is a_cell_that_ends_the_process else 14 - lost
    assert said.splitlines()[-1].startswith(f"  {points} of 14 points"), said
    for words in EDITS[edit]:
        assert words in said
    if not EDITS[edit]:
        assert "!" not in said
        assert said.count("✓") == 5


# That endless answers end is the grader's own test, and takes half a minute.
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize(
    "edit",
    [edit for edit in EDITS if edit is not an_answer_that_does_not_end],
    ids=lambda edit: edit.__name__,
)
def test_grading_sees_the_same(edit):
    """Item by item: this is what the command promises."""
    raw, patience, seen = looked_at(edit)
    submission = Submission("ada", LESSON, SOLVED.name, raw)
    result = grade_one(submission, Settings(seed=5, limits=Limits(seconds=patience)))
    assert {i.name: i.points for i in seen.items} == {i.name: i.points for i in result.items}


@pytest.mark.parametrize(
    ("edit", "points", "code"), [(nothing, 14, 0), (a_deleted_cell, 12, 1)], ids=["right", "lost"]
)
def test_the_command_says_it_and_leaves_the_notebook_alone(edit, points, code, tmp_path):
    path = tmp_path / "06_evaluation.ipynb"
    path.write_bytes(raw := edited(edit))
    shown = course("check", path)
    assert (shown.returncode, shown.stderr) == (code, "")
    assert shown.stdout.startswith("06_evaluation.ipynb: lesson 06, saved just now\n")
    assert f"  {points} of 14 points" in shown.stdout
    assert ("Grading uses other cases" in shown.stdout) == (code == 0)
    assert path.read_bytes() == raw
    assert list(tmp_path.iterdir()) == [path]


def test_the_guide_shows_what_is_printed():
    def spoil(notebook):
        a_deleted_cell(notebook)
        change(notebook, "import math", "import math\n", "")

    said = report(SOLVED.name, look(edited(spoil), LESSON), time.time() - 130)
    assert f"```\n{said}\n```" in (ROOT / "docs" / "students.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("lesson", visible_lessons())
def test_every_solution_is_right_and_every_exercise_is_not(lesson):
    [solved] = SOLUTION.parent.glob(f"{lesson}_*.ipynb")
    [given] = EXERCISE.parent.glob(f"{lesson}_*.ipynb")
    seen = look(solved.read_bytes(), lesson)
    assert (seen.points, seen.remarks) == (seen.most, ())
    assert not seen.untouched
    seen = look(given.read_bytes(), lesson)
    assert seen.points == 0
    assert seen.untouched
    assert not seen.remarks


# -- files that are no exercise ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        (b"", "an empty file: save the notebook, and check again"),
        (SOLVED.read_bytes()[:5000], "not a notebook, or only part of one"),
        (b"# Notes", "not a notebook, or only part of one"),
        ((ROOT / "notebooks" / SOLVED.name).read_bytes(), "a notebook without exercises; the"),
    ],
    ids=["absent", "empty", "cut", "text", "lesson"],
)
def test_a_file_that_is_no_exercise_is_one_clear_line(content, words, tmp_path):
    path = tmp_path / "06_evaluation.ipynb"
    if content is not None:
        path.write_bytes(content)
    shown = course("check", path)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith(f"course: {path}: ")
    assert words in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_a_folder_and_another_lesson_are_refused_and_the_rest_is_checked(tmp_path):
    shown = course("check", tmp_path, EXERCISE, SOLVED, "--lesson", LESSON)
    assert shown.returncode == 1
    folder, other = shown.stderr.splitlines()
    assert "a folder: name its notebooks, or use `course progress FOLDER`" in folder
    assert "01_gradients.ipynb is the notebook of lesson 01; lesson 06 was expected" in other
    assert "14 of 14 points, 5 of 5 items" in shown.stdout


def test_a_file_that_was_never_saved_says_so():
    shown = course("check", GIVEN)
    assert shown.returncode == 1
    assert shown.stdout.count("not attempted") >= 4
    assert "No cell was ever run in this file. If you have worked on it, save it" in shown.stdout


@pytest.mark.skipif(os.name == "nt", reason="there the process is only ended")
def test_when_time_is_up_what_the_notebook_started_ends_too(tmp_path):
    path, note = tmp_path / "06_x.ipynb", tmp_path / "pid"
    started = "import subprocess, time\np = subprocess.Popen(['sleep', '600'])\n" + (
        f"open({str(note)!r}, 'w').write(str(p.pid))\n"
        "while True:\n    try: time.sleep(600)\n    except BaseException: pass"
    )
    path.write_bytes(edited(lambda notebook: notebook.cells.append(new_code_cell(started))))
    shown = course("check", path, "--timeout", "8")
    assert "took too long and was stopped: nothing after it was reached" in shown.stdout
    assert "0 of 14 points" in shown.stdout
    pid, end = int(note.read_text()), time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.1)  # until somebody has taken note of its end
    assert not psutil.pid_exists(pid)


# -- why a name is missing -----------------------------------------------------------------------


def code(*sources, **saved):
    return [SavedCell(source, "code", **saved) for source in sources]


@pytest.mark.parametrize(
    ("sources", "failed", "before", "words"),
    [
        (["x = y", "y = 1"], {1}, 1, "defined further down, in code cell 2 (`y = 1`)"),
        (["y + 1\ny = 1"], {1}, 1, "used before the line of its own cell"),
        (["1 / 0\ny = 1", "y"], {1, 2}, 2, "code cell 1 (`1 / 0`), which defines `y`, stops"),
        (["y = 1", "del y", "y"], {3}, 3, "`y` is defined above, and then deleted"),
        (["y = = 1", "y"], {1, 2}, 2, "which defines `y`, stops"),
        (["def f(): y = 1", "y"], {2}, 2, "no cell of the file defines `y`"),
        (["import a.y", "import z as y"], set(), 1, "further down, in code cell 2"),
        (["%time y = 1", "y"], {1, 2}, 2, "code cell 1 (`%time y = 1`), which defines `y`"),
    ],
)
def test_why_a_name_is_missing(sources, failed, before, words):
    file = File(code(*sources), dict.fromkeys(failed, "an error"))
    assert words in file.why_missing("y", before)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_a_file_in_another_encoding_is_read_as_grading_does(encoding):
    content = {"cells": [{"cell_type": "code", "source": "é = 1", "outputs": [None]}]}
    raw = json.dumps(content, ensure_ascii=False).encode(encoding)
    assert saved_cells(raw, ["é = 1"]) == code("é = 1")


# -- progress ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    exercises = tmp_path / "exercises"
    exercises.mkdir()
    (exercises / GIVEN.name).write_bytes(edited(a_wrong_answer))
    [other] = EXERCISE.parent.glob("07_*.ipynb")
    (exercises / other.name).write_bytes(other.read_bytes())
    (exercises / "notes.ipynb").write_bytes(b"{}")
    os.utime(exercises / GIVEN.name, (1_700_000_000, 1_700_000_000))
    return tmp_path


def progress(folder, *arguments):
    return course("progress", *arguments, folder=folder, COURSE_CACHE=str(folder / "cache"))


def test_progress_is_a_table_and_immediate_the_second_time(folder):
    first = progress(folder)
    assert first.returncode == 0, first.stderr
    assert "running 06_evaluation.ipynb" in first.stderr
    rows = [re.split(r"  +", line) for line in first.stdout.splitlines()]
    assert rows[0] == ["lesson", "notebook", "solved", "points", "last changed"]
    assert rows[1][:4] == ["06", "06_evaluation", "4 of 5", "12 of 14"]
    assert rows[1][4].startswith("2023-11-1")
    assert rows[2] == ["07", "07_class_imbalance", "0 of 6", "0 of 15", "not begun"]
    assert rows[3] == ["", "all", "4 of 11", "12 of 29"]
    assert rows[4][0].startswith("left out: notes.ipynb: not a notebook")
    second = progress(folder)
    assert second.stdout == first.stdout
    assert second.stderr == ""  # nothing was run


def test_progress_runs_again_what_has_changed_and_all_when_asked(folder):
    progress(folder)
    (folder / "exercises" / GIVEN.name).write_bytes(SOLVED.read_bytes())
    again = progress(folder)
    assert again.stderr.splitlines() == ["running 06_evaluation.ipynb ..."]
    assert "5 of 5   14 of 14" in again.stdout
    assert len(progress(folder, "exercises", "--check").stderr.splitlines()) == 2


def test_a_corrected_item_is_another_library(tmp_path):
    """It changes the cases that come as data, and no line of code."""
    package = shutil.copytree(Path(visible.__file__).parents[1], tmp_path / "course_utils")
    before = library_hash(package)
    [key] = (package / "grading" / "keys").glob("lesson_06.jsonl")
    key.write_bytes(key.read_bytes().replace(b'"points": 3', b'"points": 4', 1))
    assert library_hash(package) != before == library_hash()


def test_a_damaged_kept_result_is_made_again(folder):
    first = progress(folder)
    for kept in (folder / "cache" / "progress").glob("*.json"):
        kept.write_text(kept.read_text()[:40])
    assert progress(folder).stdout == first.stdout


def test_without_notebooks_progress_says_what_to_do(tmp_path):
    shown = progress(tmp_path)
    assert shown.returncode == 1
    assert shown.stderr.startswith("course: no notebooks here, nor in exercises/: name the folder")
