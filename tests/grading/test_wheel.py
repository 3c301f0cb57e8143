"""What students install: no answer in it, and every visible check works from it alone."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
import zipfile

import pytest

from answer_book import lesson_01
from course_utils.grading.items import lessons, load_items
from tests.grading.hostile import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.network]  # building fetches hatchling, if not cached
# The clone, which this environment's editable installation puts into the path, is taken out.
AWAY = f"import sys\nsys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n"
CHECKS = """
import importlib.util, json, sys
assert importlib.util.find_spec("answer_book") is None
import course_utils
assert course_utils.__file__.startswith(sys.argv[1]), course_utils.__file__
from course_utils.grading import CheckFailed, check
namespace, told = {"display": print}, []
exec("from course_utils.grading import check", namespace)
def noted(name, answer):
    try:
        check(name, answer)
        told.append([name, ""])
    except CheckFailed as error:
        told.append([name, str(error)])
for source in json.load(open(sys.argv[2])):
    namespace["check"] = noted
    source = source.replace("from course_utils.grading import check", "pass")
    try:
        exec(compile(source, "cell", "exec"), namespace)
    except Exception as error:
        print("a cell raised", type(error).__name__, error, file=sys.stderr)
print("\\n" + json.dumps(told))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, and a folder that it alone is installed in."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(place), str(ROOT)]
    made = subprocess.run(build, capture_output=True, text=True, cwd=place)
    assert made.returncode == 0, made.stderr
    [wheel] = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return wheel, place / "site"


def test_no_reference_is_in_it(installed):
    wheel, _ = installed
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        python = [archive.read(name).decode() for name in names if name.endswith(".py")]
    assert "course_utils/grading/keys/lesson_01.jsonl" in names
    assert not [name for name in names if "answer_book" in name or "solution" in name]
    assert not any("tests/" in name for name in names)
    shipped = "\n".join(ast.unparse(ast.parse(text)) for text in python)
    for item in (item for lesson in lessons() for item in load_items(lesson)):
        assert statements_of(item.reference) not in shipped, item.name


def statements_of(answer):
    """The code of a function or class without its docstring, in one style of writing."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(answer))).body
    told = ast.get_docstring(definition) is not None
    return textwrap.dedent("\n".join(ast.unparse(s) for s in definition.body[told:]))


def run(site, notebook, tmp_path):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    (tmp_path / "cells.json").write_text(json.dumps(sources), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "-c", AWAY + CHECKS, str(site), str(tmp_path / "cells.json")],
        env=os.environ | {"PYTHONPATH": str(site), "MPLBACKEND": "agg"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1])), done.stderr


@pytest.mark.parametrize("lesson", lessons())
def test_visible_checks_work_from_the_wheel_alone(installed, lesson, tmp_path):
    _, site = installed
    [solution] = (ROOT / "solutions").glob(f"{lesson}_*.ipynb")
    [exercise] = (ROOT / "exercises").glob(f"{lesson}_*.ipynb")
    names = [item.name for item in load_items(lesson)]
    told, errors = run(site, solution, tmp_path)
    assert told == dict.fromkeys(names, ""), errors
    told, errors = run(site, exercise, tmp_path)
    assert list(told) == names, errors
    assert all(words == f"✗ {name}: not attempted yet" for name, words in told.items()), told


def test_grading_without_the_answer_book_says_what_is_missing(installed, tmp_path):
    _, site = installed
    program = "from course_utils.__main__ import main\nsys.exit(main())"
    arguments = ["grade", str(tmp_path), "--lesson", "01", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", AWAY + program, *arguments],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the answer book is not installed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_book_is_found_in_a_clone():
    assert lesson_01.__file__ == str(ROOT / "answer_book" / "lesson_01.py")
