"""From a folder to a table: partial credit, resuming, the same bytes, the command, a cluster."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from course_utils.grading import grade, kept, row, sandbox, workers
from course_utils.grading.grade import grade_all
from course_utils.grading.items import lessons
from course_utils.grading.pages import feedback_page
from course_utils.grading.reports import write_reports
from course_utils.grading.results import Settings
from course_utils.grading.row import grade_one
from course_utils.grading.sandbox import Limits
from course_utils.grading.submissions import Submission, collect
from tests.grading.hostile import ROOT, STUBS, notebook

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]
SETTINGS = Settings(seed=77, limits=Limits(seconds=240))
BCE = "def bce_gradient(logits, labels):\n    return (1 / (1 + np.exp(-logits)) - labels)"


def submission(*cells: str, student: str = "ada") -> Submission:
    return Submission(student, "01", "01_gradients.ipynb", notebook(STUBS, *cells))


def points(result):
    return {item.name.split(".")[1]: item.points for item in result.items}


def diagnoses(result):
    return {item.name.split(".")[1]: item.diagnosis for item in result.items}


@pytest.fixture
def hurried(monkeypatch):
    """Less patience with an endless loop."""
    items = tuple(replace(item, seconds=2.0) for item in row.load_items("01"))
    monkeypatch.setattr(row, "load_items", lambda lesson: items)


def test_an_error_in_one_item_does_not_lose_the_others(hurried):
    result = grade_one(
        submission(
            "1 / 0",
            BCE + " / len(logits)",
            "def log_sum_exp(logits): return logits.no_such_thing",
            "def softmax_gradient(logits, labels):\n    while True: pass",
            "this is not Python",
            "%matplotlib inline\n!ls\nx = 3",
            "def finite_difference(f, x, epsilon): raise NotImplementedError",
            "assert x == 3",
        ),
        Settings(seed=77, limits=Limits(seconds=240)),
    )
    assert points(result)["bce_gradient"] == 2
    assert result.score == 2
    assert result.status == "timeout"  # the loop
    assert diagnoses(result) == {
        "bce_gradient": "",
        "log_sum_exp": "error",
        "softmax_gradient": "timeout",
        "finite_difference": "not_attempted",
        "Value": "not_attempted",
        "train": "not_defined",
    }
    assert [error.split(":")[0] for error in result.cell_errors] == [
        "In code cell 2",
        "In code cell 6",
    ]
    page = feedback_page(result)
    assert "ZeroDivisionError: division by zero\ncell 2, line 1: 1 / 0" in page
    assert "no_such_thing" in page
    assert "does it end?" in page


def test_the_diagnosis_reaches_the_feedback():
    result = grade_one(submission(BCE), SETTINGS)
    assert diagnoses(result)["bce_gradient"] == "missing_mean"
    assert "too large by a factor of B" in feedback_page(result)


@pytest.fixture
def folder(tmp_path):
    """Five students, without torch, so that they take a second each."""
    for number, student in enumerate(["ada", "bob", "carl", "dora", "eve"]):
        path = tmp_path / "in" / student / "01_gradients.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(notebook(STUBS, *[BCE + " / len(logits)"] * (number % 2)))
    return tmp_path


def bytes_of(out: Path) -> dict[str, bytes]:
    names = [p for p in out.rglob("*") if p.is_file() and "results/" not in f"{p.parent}/"]
    return {str(p.relative_to(out)): p.read_bytes() for p in names}


def write(results, out):
    write_reports(results, out)
    return bytes_of(out)


def test_same_inputs_and_seed_give_the_same_bytes(folder):
    collected = collect(folder / "in", ["01"])
    one, two = (
        write(grade_all(collected, SETTINGS, folder / f"r{n}", jobs=n), folder / f"out{n}")
        for n in (1, 2)
    )
    assert one == two
    rows = list(csv.DictReader(one["grades.csv"].decode().splitlines()))
    assert [row["score"] for row in rows] == ["0", "2", "0", "2", "0"]
    assert [row["student"] for row in rows] == ["ada", "bob", "carl", "dora", "eve"]
    content = json.loads(one["report.json"])
    assert content["items"][0]["solved"] == 2


def test_interrupted_grading_goes_on_and_gives_the_same_table(folder, monkeypatch):
    collected = collect(folder / "in", ["01"])
    whole = write(grade_all(collected, SETTINGS, folder / "whole"), folder / "out1")
    seen = []

    def stop_after_two(result):
        seen.append(result.student)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade_all(collected, SETTINGS, folder / "kept", on_result=stop_after_two)
    graded = []
    real = workers.grade_or_say_why

    def counted(submission, *rest):
        graded.append(submission.student)
        return real(submission, *rest)

    monkeypatch.setattr(workers, "grade_or_say_why", counted)
    rest = write(grade_all(collected, SETTINGS, folder / "kept"), folder / "out2")
    assert rest == whole
    assert not set(graded) & set(seen)
    assert len(graded) == 3
    graded.clear()
    grade_all(collected, SETTINGS, folder / "kept")
    assert graded == []
    grade_all(collected, Settings(78, SETTINGS.limits), folder / "kept")
    assert len(graded) == 5  # another seed, other cases


def test_a_change_of_the_library_grades_again(folder, monkeypatch):
    collected = collect(folder / "in", ["01"])[:1]
    [before] = kept.fingerprints(collected, SETTINGS)
    monkeypatch.setattr(kept, "library_hash", lambda: "another")
    assert kept.fingerprints(collected, SETTINGS) != [before]


def test_a_sandbox_that_does_not_start_is_no_students_fault(monkeypatch):
    started = []

    def broken(*given):
        started.append(given)
        return ["sh", "-c", "echo bwrap: no permission >&2; exit 1"]

    monkeypatch.setenv("COURSE_SANDBOX", "bubblewrap")
    monkeypatch.setattr(sandbox.bubblewrap, "command", broken)
    with pytest.raises(sandbox.SandboxError, match="does not start: bwrap: no permission"):
        grade_one(submission(), SETTINGS)
    assert len(started) == 3


def test_an_error_outside_ends_what_still_runs(folder):
    for student in ("ada", "bob"):
        (folder / "in" / student / "01_gradients.ipynb").write_bytes(
            notebook(STUBS, "import time; time.sleep(600)" if student == "ada" else "")
        )

    def fail(result):
        raise OSError("the disk is full")

    begun, processes = time.monotonic(), set(psutil.Process().children())
    with pytest.raises(OSError, match="disk"):
        grade_all(
            collect(folder / "in", ["01"])[:2], SETTINGS, folder / "r", jobs=2, on_result=fail
        )
    assert time.monotonic() - begun < 60
    assert set(psutil.Process().children()) <= processes


def test_a_damaged_result_is_made_again(folder):
    collected = collect(folder / "in", ["01"])[:1]
    first = grade_all(collected, SETTINGS, folder / "kept")
    [path] = (folder / "kept").glob("*.json")
    path.write_text(path.read_text()[:50])
    assert grade_all(collected, SETTINGS, folder / "kept") == first


# -- the command ---------------------------------------------------------------------------------


def course(*arguments: object, **keywords):
    command = [sys.executable, "-m", "course_utils", "grade", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **keywords)


def test_command(folder):
    out = folder / "out"
    dry = course(folder / "in", "--lesson", "01", "--out", out, "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.splitlines()[0].split("\t")[:3] == ["ada", "01", "01_gradients.ipynb"]
    assert not out.exists()
    one = course(folder / "in", "--lesson", "01", "--out", out, "--student", "bob")
    assert one.returncode == 0, one.stderr
    assert "grading" in one.stderr
    seed = (out / "seed.txt").read_text()
    assert (out / "seed.txt").stat().st_mode & 0o077 == 0
    (folder / "in" / "zoe").mkdir()
    everyone = course(folder / "in", "--lesson", "01", "--out", out)
    assert everyone.returncode == 3  # zoe handed in nothing
    assert (out / "seed.txt").read_text() == seed
    table = (out / "grades.csv").read_bytes()
    bob = course(folder / "in", "--lesson", "01", "--out", out, "--student", "bob")
    assert bob.returncode == 3, bob.stderr
    assert (out / "grades.csv").read_bytes() == table  # the others keep their rows
    rows = list(csv.DictReader((out / "grades.csv").read_text().splitlines()))
    assert {(row["student"], row["status"]) for row in rows} == {
        *((name, "failed") for name in ("ada", "bob", "carl", "dora", "eve")),
        ("zoe", "missing"),
    }


def test_all_lessons(folder):
    """One student, every lesson: those not handed in have a row too."""
    listed = course(
        folder / "in", "--all", "--out", folder / "out", "--dry-run", "--student", "ada"
    )
    assert [line.split("\t")[1] for line in listed.stdout.splitlines()] == lessons()
    assert listed.stdout.count("no notebook of lesson") == len(lessons()) - 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere", "--lesson", "01"), 1, "no such folder"),
        (("in", "--lesson", "77"), 1, "no exercises for lesson '77'"),
        (("in", "--lesson", "01", "--student", "zoe"), 1, "no student 'zoe'"),
        (("empty", "--lesson", "01"), 1, "no submissions"),
        (("in",), 2, "usage"),
        (("in", "--lesson", "01", "--all"), 2, "usage"),
        (("in", "--lesson", "01", "--timeout", "0"), 2, "usage"),
        (("in", "--lesson", "01", "--jobs", "0"), 2, "usage"),
        (("in", "--lesson", "01", "--roster", "nowhere.csv"), 1, "nowhere.csv"),
    ],
)
def test_command_errors(folder, arguments, code, words):
    (folder / "empty").mkdir()
    done = course(folder / arguments[0], *arguments[1:], "--out", folder / "out")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_outright_it_goes_on_where_it_stopped(folder):
    command = [sys.executable, "-m", "course_utils", "grade", str(folder / "in"), "--lesson", "01"]
    command += ["--seed", "9", "--jobs", "1", "--out"]
    whole, broken = folder / "whole", folder / "broken"
    assert subprocess.run([*command, str(whole)], cwd=ROOT, capture_output=True).returncode == 0
    process = subprocess.Popen([*command, str(broken)], cwd=ROOT, stderr=subprocess.DEVNULL)
    while len(kept := list(broken.glob("results/*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert not (broken / "grades.csv").exists()
    assert subprocess.run([*command, str(broken)], cwd=ROOT, capture_output=True).returncode == 0
    assert bytes_of(broken) == bytes_of(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == times  # not graded again


def test_interrupt_ends_everything_at_once(folder):
    path = folder / "in" / "ada" / "01_gradients.ipynb"
    path.write_bytes(notebook(STUBS, "time.sleep(600)"))
    command = [sys.executable, "-m", "course_utils", "grade", str(folder / "in"), "--lesson"]
    command += ["01", "--out", str(folder / "out"), "--jobs", "1", "--timeout", "600"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job hands on that interrupts are ignored; a person's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (folder / "out" / "seed.txt").exists():  # after the probe
        assert process.poll() is None
        time.sleep(0.2)
    while not (started := psutil.Process(process.pid).children()):
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "run it again to continue" in errors
    assert "Traceback" not in errors
    assert not [p for p in started if p.is_running() and p.status() != "zombie"]


# -- a cluster -----------------------------------------------------------------------------------


def test_cluster_gives_the_same_and_survives_a_killed_worker(folder, monkeypatch):
    distributed = pytest.importorskip("distributed")
    collected = collect(folder / "in", ["01"])
    alone = grade_all(collected, SETTINGS, folder / "alone")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        seen = []

        def kill_one(result):
            seen.append(result.student)
            if len(seen) == 1:
                victim = next(iter(cluster.workers.values()))
                os.kill(victim.process.process.pid, signal.SIGKILL)

        spread = grade_all(
            collected,
            SETTINGS,
            folder / "spread",
            dask=cluster.scheduler_address,
            on_result=kill_one,
        )
        monkeypatch.setattr(workers, "library_hash", lambda: "of another version")
        with pytest.raises(sandbox.SandboxError, match="another version of the course"):
            grade_all(collected[:1], SETTINGS, folder / "x", dask=cluster.scheduler_address)
    assert len(seen) == len(collected)
    assert spread == alone


# -- the walls, for an ordinary user --------------------------------------------------------------


def test_the_command_line_of_an_ordinary_user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command = sandbox.command(Limits())
    assert "--unshare-all" in command
    assert not [argument for argument in command if "uid" in argument]
    assert "--cap-add" not in command


# -- nobody stops, changes or hides another -----------------------------------------------------


def test_an_internal_error_is_one_row_and_is_tried_again(folder, monkeypatch):
    """Whatever goes wrong with one submission, the class goes on; the next run mends it."""
    collected = collect(folder / "in", ["01"])
    whole = grade_all(collected, SETTINGS, folder / "whole")
    real = row.grade_one

    def broken(submission, *rest):
        if submission.student == "bob":
            raise RecursionError("something nobody thought of")
        return real(submission, *rest)

    monkeypatch.setattr(row, "grade_one", broken)
    rows = grade_all(collected, SETTINGS, folder / "kept", jobs=2)
    assert [r.status for r in rows] == ["failed", "internal error", "failed", "failed", "failed"]
    assert "nobody thought of" in rows[1].traceback
    monkeypatch.setattr(row, "grade_one", real)
    assert grade_all(collected, SETTINGS, folder / "kept") == whole


def test_a_sandbox_that_starts_for_nobody_stops_the_run(folder, monkeypatch):
    broken = ["sh", "-c", "echo no room >&2; exit 1"]
    monkeypatch.setenv("COURSE_SANDBOX", "bubblewrap")
    monkeypatch.setattr(sandbox.bubblewrap, "command", lambda *given: broken)
    with pytest.raises(sandbox.SandboxError, match="does not start: no room"):
        grade_all(collect(folder / "in", ["01"]), SETTINGS, folder / "kept", jobs=2)


def timed_out(result):
    items = tuple(replace(item, points=0, diagnosis="timeout") for item in result.items)
    return replace(result, status="timeout", items=items, detail="a cell took too long")


def starving(monkeypatch, who):
    """Make some time out whenever another sandbox is there; return how often each was graded."""
    real, running, calls = workers.grade_or_say_why, [], []

    def grade_beside_others(submission, *rest):
        running.append(submission.student)
        calls.append(submission.student)
        time.sleep(0.05)
        crowded = len(running) > 1 or len(calls) <= 5
        try:
            result = real(submission, *rest)
            return timed_out(result) if crowded and submission.student in who else result
        finally:
            running.remove(submission.student)

    monkeypatch.setattr(workers, "grade_or_say_why", grade_beside_others)
    return calls


def test_the_starved_are_graded_again_alone(folder, monkeypatch):
    """Seen: a neighbour of 14 spinning processes lost 3 of 16 points."""
    collected = collect(folder / "in", ["01"])
    whole = grade_all(collected, SETTINGS, folder / "whole")
    calls = starving(monkeypatch, {"bob", "dora"})
    told = []
    rows = grade_all(collected, SETTINGS, folder / "kept", jobs=5, on_result=told.append)
    assert [r.score for r in rows] == [r.score for r in whole] == [0, 2, 0, 2, 0]
    assert sorted(calls[5:]) == ["bob", "dora"]  # once each, and nobody else
    assert len(told) == 5
    assert rows[1].again == "timeout beside others, with 0 points; graded again alone"
    page = write(rows, folder / "out")["summary.html"].decode()
    assert "bob: timeout beside others" in page
    assert [r.again for r in whole] == [""] * 5
    assert write(rows, folder / "o1")["grades.csv"] == write(whole, folder / "o2")["grades.csv"]


def test_grading_again_is_bounded_and_what_was_not_is_said(folder, monkeypatch):
    collected = collect(folder / "in", ["01"])
    calls = starving(monkeypatch, {"ada", "bob", "carl", "dora", "eve"})
    monkeypatch.setattr(grade, "MOST_ALONE", 0)
    rows = grade_all(collected, SETTINGS, folder / "kept", jobs=5)
    assert len(calls) == 5
    assert all("not graded again alone" in r.again for r in rows)
    assert all(r.status == "timeout" for r in rows)


def test_alone_from_the_start_nothing_is_graded_twice(folder, monkeypatch):
    collected = collect(folder / "in", ["01"])
    calls = starving(monkeypatch, {"bob"})
    rows = grade_all(collected, SETTINGS, folder / "kept", jobs=1)
    assert len(calls) == 5
    assert (rows[1].status, rows[1].again) == ("timeout", "")


def test_a_timeout_beside_others_is_not_kept_before_it_is_final(folder, monkeypatch):
    """Killed in between, the next run must not take it for the last word."""
    collected = collect(folder / "in", ["01"])
    starving(monkeypatch, {"bob"})

    def killed(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(grade, "_grade_alone", killed)
    with pytest.raises(KeyboardInterrupt):
        grade_all(collected, SETTINGS, folder / "kept", jobs=5)
    assert len(list((folder / "kept").glob("*.json"))) == 4


# -- what one run leaves for the next -----------------------------------------------------------


def test_one_student_with_other_options_leaves_the_others(folder):
    """Seen: --student X --timeout 300 dropped eleven other rows."""
    out = folder / "out"
    assert course(folder / "in", "--lesson", "01", "--out", out).returncode == 0
    before = list(csv.DictReader((out / "grades.csv").read_text().splitlines()))
    again = course(
        *(folder / "in", "--lesson", "01", "--out", out, "--student", "bob"),
        *("--timeout", "300", "--memory", "2"),
    )
    assert again.returncode == 0, again.stderr
    assert "4 rows of others stay as they were graded" in again.stderr
    assert list(csv.DictReader((out / "grades.csv").read_text().splitlines())) == before
    same = course(folder / "in", "--lesson", "01", "--out", out, "--student", "bob")
    assert "rows of others" not in same.stderr


SEEDS = """
import sys
from pathlib import Path
from course_utils.grading import kept
sys.stdin.read(1)
print(kept.seed(Path(sys.argv[1])))
"""


def test_graders_that_start_at_once_have_one_seed(tmp_path):
    path = tmp_path / "seed.txt"
    graders = [
        subprocess.Popen(
            [sys.executable, "-c", SEEDS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(6)
    ]
    time.sleep(2)
    for grader in graders:
        grader.stdin.write("x")
        grader.stdin.flush()
    seeds = {grader.communicate(timeout=60)[0] for grader in graders}
    assert seeds == {path.read_text()}
    assert [p.name for p in tmp_path.iterdir()] == ["seed.txt"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_empty_seed(tmp_path, monkeypatch):
    path, real = tmp_path / "seed.txt", os.fsync

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        kept.seed(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "fsync", real)
    first = kept.seed(path)
    assert kept.seed(path) == first
    path.write_text("")  # as older versions left it
    second = kept.seed(path)
    assert kept.seed(path) == second
    path.write_text("seven")
    with pytest.raises(ValueError, match="holds no number"):
        kept.seed(path)


def test_a_disk_without_hard_links(tmp_path, monkeypatch):
    def no_links(*given):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert kept.seed(tmp_path / "seed.txt") == kept.seed(tmp_path / "seed.txt")


def test_what_a_killed_grader_had_begun_is_removed(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from course_utils.grading import kept
os.replace = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
kept.write_whole(Path(sys.argv[1]), "text")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "results" / "a.json")]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    [left] = (tmp_path / "results").iterdir()
    mine = tmp_path / f".b.json.{os.getpid()}.partial"
    mine.touch()
    kept.sweep(tmp_path)
    assert left.exists()  # another machine may be writing it
    for path in (left, mine):
        os.utime(path, (1000, 1000))
    kept.sweep(tmp_path)
    assert not left.exists()
    assert mine.exists()  # its grader lives


@pytest.mark.parametrize(
    ("source", "out"), [("in", "in/out"), ("in", "in"), ("in", "."), ("in", "in/../in/x")]
)
def test_reports_among_submissions_are_refused(folder, source, out):
    done = course(folder / source, "--lesson", "01", "--out", folder / out)
    assert done.returncode == 1
    assert "--out must be apart from the submissions" in done.stderr
    assert not (folder / out / "grades.csv").exists()


def test_reports_beside_a_zip_file_are_not(folder):
    shutil.make_archive(str(folder / "work"), "zip", folder / "in")
    done = course(folder / "work.zip", "--lesson", "01", "--out", folder, "--dry-run")
    assert done.returncode == 0, done.stderr
