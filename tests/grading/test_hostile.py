"""A class in which most want no good, graded in one batch: no point gained, nothing harmed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from course_utils.grading import sandbox
from course_utils.grading.items import load_items, make_cases
from course_utils.grading.pages import feedback_page
from course_utils.grading.sandbox import Limits
from course_utils.grading.wire import dumps, loads
from tests.grading.grade_class import SEED, load
from tests.grading.hostile import (
    BANK,
    EXERCISE,
    ROOT,
    SOLUTION,
    STUBS,
    malicious_zip,
    notebook,
)
from tests.grading.hostile_rows import ROWS
from tests.grading.hostile_walls import WALLS
from tests.grading.users import adopting_orphans, as_ordinary_user

ROOT_USER = os.geteuid() == 0
# The way a submission is started, and who grades: each with the whole class.
WAYS = [(way, "root") for way in ("nursery", "bubblewrap") if ROOT_USER]
WAYS += [(way, "ordinary") for way in ("nursery", "bubblewrap")]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]


def library_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted((ROOT / "course_utils" / "grading").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def changed(change) -> bytes:
    content = json.loads(SOLUTION.read_text(encoding="utf-8"))
    change(content["cells"])
    return json.dumps(content).encode()


def is_check(cell):
    return "".join(cell["source"]).startswith("check(")


def delete_checks(cells):
    cells[:] = [cell for cell in cells if not is_check(cell)]


def duplicate_checks(cells):
    cells += [cell for cell in cells if is_check(cell)]


def edit_checks(cells):
    for cell in filter(is_check, cells):
        cell["source"] = "print('✓')"


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def graded(walls, request):
    """The whole class: hostile and honest, and what was there to be harmed."""
    way, user = request.param
    place = Path(tempfile.mkdtemp(prefix="class"))
    place.chmod(0o755)
    submissions, out = place / "submissions", place / "out"
    out.mkdir()
    canary = place / "seed.txt"
    canary.write_text("CANARY")
    canaries = [str(p) for p in (canary, SOLUTION, ROOT / "answer_book/lesson_01.py")]
    canaries += [str(submissions / "an honest student" / "01_gradients.ipynb")]
    listening = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{place.name}")
    abstract.listen()
    given = f"CANARIES, PORT = {canaries!r}, {listening.getsockname()[1]}\n"
    given += f"ABSTRACT = {place.name!r}\n"

    def hand_in(student: str, raw: bytes, name: str = "01_gradients.ipynb", to="submissions"):
        (place / to / student).mkdir(parents=True, exist_ok=True)
        (place / to / student / name).write_bytes(raw)

    for number, hostile in enumerate((*BANK, *WALLS, *ROWS), start=100_000):
        own = given + f"mark = 'MARKER-{number}'\n"
        to = "endless" if hostile.forever else "submissions"
        hand_in(hostile.name, notebook(STUBS + own, hostile.cell), to=to)
    hand_in("an honest student", SOLUTION.read_bytes())
    hand_in("zz another honest student", SOLUTION.read_bytes(), "01_gradients (1).ipynb")
    hand_in("untouched", EXERCISE.read_bytes())
    hand_in("empty", b"")
    hand_in("half a file", SOLUTION.read_bytes()[:5000])
    hand_in("noise", bytes(range(128, 256)) * 40)
    hand_in("not an object", b"[1, 2, 3]")
    hand_in("nested", b"[" * 100_000)
    hand_in("fifty megabytes", b'{"cells": ["' + b"x" * 50_000_000 + b'"]}')
    hand_in("other encoding", SOLUTION.read_text(encoding="utf-8").encode("utf-16"))
    hand_in("deleted cells", changed(delete_checks))
    hand_in("duplicated cells", changed(duplicate_checks))
    hand_in("edited cells", changed(edit_checks))
    hand_in("=cmd|' /C calc'!A0", notebook(STUBS))
    hand_in("<script>alert(1)</script>".replace("/", "⁄"), notebook(STUBS))
    (submissions / "nothing").mkdir()
    (submissions / "linked").mkdir()
    (submissions / "linked" / "01_gradients.ipynb").symlink_to(SOLUTION)
    hand_in("visible cases only", notebook(STUBS, visible_answers()))
    (place / "archive.zip").write_bytes(malicious_zip())
    before, children = library_hash(), set(psutil.Process().children(recursive=True))
    command = [sys.executable, "-m", "tests.grading.grade_class", str(place)]
    if user == "ordinary":
        command = as_ordinary_user(command, place)
    canary_in_environment = {"CANARY_IN_ENVIRONMENT": "CANARY_IN_ENVIRONMENT"}
    with adopting_orphans():
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | canary_in_environment | {"COURSE_SANDBOX": way},
            capture_output=True,
            text=True,
        )
        left = set(psutil.Process().children(recursive=True)) - children
        _, alive = psutil.wait_procs(left, timeout=10)  # the kernel ends a tree in its own time
    listening.close()
    abstract.close()
    assert done.returncode == 0, done.stderr[-4000:]
    slower, results = load(place)
    assert slower == ""
    yield {
        "results": {result.student: result for result in results},
        "rows": results,
        "library_unchanged": before == library_hash(),
        "canary": canary.read_text(),
        "alive": alive,
        "out": out,
    }
    shutil.rmtree(place)


def visible_answers() -> str:
    """What a student who looked at the visible cases could hard-code, for the first item."""
    item = load_items("01")[0]
    table = {}
    for case in make_cases(item, 0):
        table[case.inputs["logits"].tobytes().hex()] = item.reference(**case.inputs).tolist()
    return (
        f"TABLE = {table!r}\ndef bce_gradient(logits, labels):\n"
        "    return np.array(TABLE.get(logits.tobytes().hex(), np.zeros(len(logits))))\n"
    )


@pytest.mark.parametrize("hostile", [*BANK, *WALLS, *ROWS], ids=lambda hostile: hostile.name)
def test_gains_nothing(graded, hostile):
    result = graded["results"][hostile.name]
    assert result.score == 0, result
    assert result.status in hostile.statuses, result
    page = feedback_page(result)
    shown = page.split("</h1>")[1]
    for words in hostile.never:
        assert words not in shown


def test_honest_neighbours_lose_nothing(graded):
    for student in ("an honest student", "zz another honest student", "other encoding"):
        result = graded["results"][student]
        assert (result.score, result.status) == (result.most, "ok"), result
    assert "not UTF-8" in graded["results"]["other encoding"].detail


def test_untouched_scores_nothing_and_says_so(graded):
    result = graded["results"]["untouched"]
    assert (result.score, result.status) == (0, "ok")
    assert {item.diagnosis for item in result.items} == {"not_attempted"}


@pytest.mark.parametrize(
    ("student", "status"),
    [
        ("empty", "corrupt"),
        ("half a file", "corrupt"),
        ("noise", "corrupt"),
        ("not an object", "corrupt"),
        ("nested", "corrupt"),
        ("fifty megabytes", "corrupt"),
        ("linked", "corrupt"),
        ("linker", "corrupt"),
        ("bomber", "corrupt"),
        ("nothing", "missing"),
    ],
)
def test_what_cannot_be_read_says_why(graded, student, status):
    result = graded["results"][student]
    assert (result.score, result.status) == (0, status)
    assert result.detail


@pytest.mark.parametrize(
    ("student", "status"),
    [("deleted cells", "ok"), ("duplicated cells", "ok"), ("edited cells", "tampered")],
)
def test_changed_checks_change_nothing_and_are_reported(graded, student, status):
    """Only a check that was replaced by its own tick is no accident."""
    result = graded["results"][student]
    assert (result.score, result.status) == (result.most, status)
    assert "the check of 01.train" in result.detail


def test_hard_coded_visible_cases_earn_nothing(graded):
    result = graded["results"]["visible cases only"]
    assert result.score == 0
    assert result.items[0].only_hidden


def test_every_submission_has_exactly_one_row(graded):
    names = [result.student for result in graded["rows"]]
    assert len(names) == len(set(names))
    assert {hostile.name for hostile in (*BANK, *WALLS)} < set(names)
    lines = (graded["out"] / "grades.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(names)


def test_nothing_outside_was_touched(graded):
    assert graded["library_unchanged"]
    assert graded["canary"] == "CANARY"
    for path in ("/escaped", "/usr/escaped", "/etc/escaped", "/tmp/pwned"):
        assert not Path(path).exists()


def test_nobody_was_left_behind(graded):
    assert graded["alive"] == []


def test_feedback_holds_no_hidden_case(graded):
    """Every number of every hidden case, as Python would print it, against every page."""
    numbers = set()
    for item in load_items("01"):
        visible = {str(v) for case in make_cases(item, 0) for v in _numbers(case)}
        hidden = {str(v) for case in make_cases(item, SEED) for v in _numbers(case)}
        numbers |= {text for text in hidden - visible if len(text) > 5}
    assert len(numbers) > 100
    for path in (graded["out"] / "feedback").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not [number for number in numbers if number in text], path


def _numbers(case):
    for value in case.inputs.values():
        array = getattr(value, "values", value)
        yield from getattr(array, "ravel", lambda a=array: [a])().__iter__()


def test_names_are_harmless_in_tables_and_pages(graded):
    table = (graded["out"] / "grades.csv").read_text(encoding="utf-8")
    assert "\n=cmd" not in table
    assert "'=cmd" in table
    for page in [*graded["out"].glob("feedback/*.html"), graded["out"] / "summary.html"]:
        assert "<script>" not in page.read_text(encoding="utf-8")


# -- the walls themselves ------------------------------------------------------------------------


def test_without_bubblewrap_it_refuses(monkeypatch, tmp_path):
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "bwrap" else real(name))
    with pytest.raises(sandbox.SandboxError, match="apt install bubblewrap"):
        sandbox.probe()


def test_who_never_listens_is_still_watched():
    """A megabyte of cases is sent to a process that says it is ready for them and hoards memory."""
    cell = """
import os, sys
frame = sys._getframe()
while "send" not in frame.f_locals: frame = frame.f_back
frame.f_locals["send"]("cells_done")
hoard = [bytearray(b"x" * 10_000_000) for _ in range(1000)]
"""
    limits = Limits(seconds=60, memory_gb=1)
    with sandbox.Session(limits) as session:
        session.send(dumps({"cells": [cell], "cell_seconds": 60.0}))
        for line in session.lines():
            if loads(line)["kind"] == "cells_done":
                session.send(b"x" * 1_000_000)
    assert session.ending.reason == "memory"


def test_a_grader_killed_outright_leaves_nothing_behind():
    script = """
from course_utils.grading import sandbox, wire
session = sandbox.Session(sandbox.Limits(seconds=300))
session.send(wire.dumps({"cells": ["import time; time.sleep(1000)"], "cell_seconds": 500.0}))
for line in session.lines(): print("ready", flush=True)
"""
    grader = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert grader.stdout.readline() == "ready\n"
    started = psutil.Process(grader.pid).children(recursive=True)
    assert len(started) >= 3  # timeout, bubblewrap, the runner
    grader.kill()
    grader.wait()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


def test_the_command_refuses_unless_told_otherwise(tmp_path):
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "01_gradients.ipynb").write_bytes(notebook(STUBS))
    command = [sys.executable, "-m", "course_utils", "grade", str(tmp_path / "in"), "--lesson"]
    command += ["01", "--out", str(tmp_path / "out"), "--seed", "5"]
    bare = tmp_path / "bin"
    bare.mkdir()  # a PATH without bubblewrap
    environment = os.environ | {"PATH": str(bare)}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 1
    assert "bwrap" in refused.stderr
    assert "--no-sandbox" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()
    allowed = subprocess.run(
        [*command, "--no-sandbox"], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert allowed.returncode == 0, allowed.stderr
    assert "UNPROTECTED" in allowed.stderr
    assert "ada,01,0,0,0,0,0,0,0,16,failed," in (tmp_path / "out" / "grades.csv").read_text()
