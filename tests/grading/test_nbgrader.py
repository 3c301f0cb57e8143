"""A school that has nbgrader can use the same files: it makes the same exercises, and for honest
work the same points. (For dishonest work it does not: see the hostile bank.)"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.grading.items import load_items
from tests.grading.hostile import EXERCISE, ROOT, SOLUTION
from tools.notebooks import code_cells, read_notebook

pytest.importorskip("nbgrader")
pytestmark = pytest.mark.slow
NAME = SOLUTION.stem
SOLUTIONS = sorted(SOLUTION.parent.glob("*.ipynb"))


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nbgrader(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments, f"--course-dir={folder}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},  # alembic
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_its_menus_do_not_come_with_our_jupyterlab(tmp_path, monkeypatch):
    """As JupyterLab and its server read the settings that `make lab` leaves."""
    make = load("make", ROOT / "make.py")
    monkeypatch.setattr(make, "venv_folder", lambda: tmp_path)
    # This environment's settings, without those of an earlier `make lab` or of a person.
    settings = tmp_path / "etc" / "jupyter"
    ours = shutil.ignore_patterns("zz-course*", "jupyter_server_config.json", "page_config.json")
    shutil.copytree(Path(sys.prefix, "etc", "jupyter"), settings, ignore=ours)
    script = f"""
from jupyter_core import paths
paths.ENV_CONFIG_PATH[:] = [{str(settings)!r}]
from jupyter_server.serverapp import ServerApp
from jupyterlab_server.config import get_page_config
app = ServerApp()
app.initialize(argv=[], new_httpserver=False, find_extensions=True)
print([name for name, on in app.jpserver_extensions.items() if on and "nbgrader" in name])
print("@jupyter/nbgrader" in get_page_config([]).get("disabledExtensions", {{}}))
"""
    seen = []
    for step in (lambda: None, make.write_lab_settings, make.write_lab_settings):
        step()
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        seen.append(done.stdout.splitlines()[-2:])
        assert done.returncode == 0, done.stderr
    assert "nbgrader.server_extensions.formgrader" in seen[0][0], "what is switched off is there"
    assert seen[1:] == [["[]", "True"]] * 2


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A course of one assignment, in which a solution, the exercise, and a half are handed in."""
    folder = tmp_path_factory.mktemp("school")
    (folder / "nbgrader_config.py").write_text("c = get_config()\n")
    (folder / "source" / "ps1").mkdir(parents=True)
    shutil.copy(SOLUTION, folder / "source" / "ps1")
    nbgrader(folder, "generate_assignment", "ps1")
    half = read_notebook(EXERCISE)
    solved = {cell.id: cell.source for cell in code_cells(read_notebook(SOLUTION))}
    for cell in code_cells(half)[:5]:  # the first two items
        cell.source = solved[cell.id]
    for student in ("ada", "bob", "carl"):
        place = folder / "submitted" / student / "ps1"
        place.mkdir(parents=True)
        if student == "carl":
            import nbformat

            nbformat.write(half, place / f"{NAME}.ipynb")
        else:
            shutil.copy({"ada": SOLUTION, "bob": EXERCISE}[student], place)
    nbgrader(folder, "autograde", "ps1")
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Every lesson's solution as one assignment, which nbgrader turns into exercises."""
    folder = tmp_path_factory.mktemp("released")
    (folder / "nbgrader_config.py").write_text("c = get_config()\n")
    (folder / "source" / "all").mkdir(parents=True)
    for path in SOLUTIONS:
        shutil.copy(path, folder / "source" / "all")
    nbgrader(folder, "generate_assignment", "all")
    return folder / "release" / "all"


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_generate_assignment_makes_our_exercise(released, path):
    theirs = read_notebook(released / path.name)
    ours = read_notebook(EXERCISE.parent / path.name)
    assert [c.source for c in code_cells(theirs)] == [c.source for c in code_cells(ours)]
    for their_cell, our_cell in zip(code_cells(theirs), code_cells(ours), strict=True):
        mark = dict(their_cell.metadata.get("nbgrader", {}))
        mark.pop("checksum", None)
        mark.pop("cell_type", None)
        assert mark == our_cell.metadata.get("nbgrader", {})


def test_autograde_gives_honest_work_the_same_points(school):
    query = """
        select submitted_assignment.student_id, sum(coalesce(grade.manual_score, grade.auto_score))
        from grade
        join submitted_notebook on grade.notebook_id = submitted_notebook.id
        join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
        group by submitted_assignment.student_id
    """
    with sqlite3.connect(school / "gradebook.db") as book:
        scores = dict(book.execute(query).fetchall())
    items = load_items("01")
    assert scores == {
        "ada": sum(item.points for item in items),
        "bob": 0,
        "carl": sum(item.points for item in items[:2]),
    }


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_mark_is_valid_schema_3(path):
    from nbgrader.nbgraderformat import MetadataValidator

    for place in (path, EXERCISE.parent / path.name):
        notebook = read_notebook(place)
        MetadataValidator().validate_nb(notebook)
        ids = [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]
        assert len(ids) == len(set(ids))
