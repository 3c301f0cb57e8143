"""Grading a class: `course grade` beside `nbgrader autograde`, in one run on the same notebooks.

    python -m benchmarks.grading                  # 24 honest notebooks, both graders
    python -m benchmarks.grading --mixed 200      # and a class of 200, hostile ones among them

Honest notebooks are lesson 01's solution with some answers left out, so that everyone is
different. Both graders get two cores. nbgrader has no parallelism of its own and starts a
kernel for each notebook; its time is that of ``autograde`` alone, without feedback.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
SOLUTION = ROOT / "solutions" / "01_gradients.ipynb"
EXERCISE = ROOT / "exercises" / "01_gradients.ipynb"
NAME = SOLUTION.name


def honest(number: int) -> nbformat.NotebookNode:
    """A notebook with some answers: which, is told by the bits of its number."""
    solved = nbformat.read(SOLUTION, 4)
    answers = {cell.id: cell.source for cell in solved.cells}
    notebook = nbformat.read(EXERCISE, 4)
    parts = [cell for cell in notebook.cells if "NotImplementedError" in cell.source]
    for bit, cell in enumerate(c for c in parts if c.cell_type == "code"):
        if not number >> bit & 1:
            cell.source = answers[cell.id]
    return notebook


def hand_in(folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"student{number:03}" / "ps1"
        place.mkdir(parents=True)
        nbformat.write(honest(number), place / NAME)


def seconds(command: list[str], cwd: Path) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return time.perf_counter() - start


def with_nbgrader(folder: Path) -> float:
    (folder / "nbgrader_config.py").write_text("c = get_config()\n")
    (folder / "source" / "ps1").mkdir(parents=True)
    shutil.copy(SOLUTION, folder / "source" / "ps1")
    command = [sys.executable, "-m", "nbgrader"]
    seconds([*command, "generate_assignment", "ps1"], folder)
    return seconds([*command, "autograde", "ps1"], folder)


def with_course(submissions: Path, out: Path, *extra: str) -> float:
    command = [sys.executable, "-m", "course_utils", "grade", str(submissions), "--lesson", "01"]
    return seconds([*command, "--out", str(out), *extra], ROOT)


def side_by_side(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hand_in(folder / "submitted", count)
        ours = with_course(folder / "submitted", folder / "out", "--jobs", "2")
        theirs = with_nbgrader(folder)
    for grader, taken in (("course grade", ours), ("nbgrader autograde", theirs)):
        print(f"{grader:<20} {taken:7.1f} s  {60 * count / taken:6.1f} notebooks a minute")
    print(f"ratio {theirs / ours:.1f}")


def mixed_class(count: int) -> None:
    """Nine in ten honest, and one hostile after another."""
    from tests.grading.hostile import BANK, STUBS, notebook

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hostile = max(1, count // 5)
        hand_in(folder / "in", count - hostile)
        for number in range(hostile):
            one = BANK[number % len(BANK)]
            place = folder / "in" / f"hostile{number:03} {one.name}"
            place.mkdir(parents=True)
            given = "CANARIES, PORT = ['/etc/hostname'], 80\n"
            (place / NAME).write_bytes(notebook(STUBS + given, one.cell))
        taken = with_course(folder / "in", folder / "out", "--timeout", "60", "--jobs", "2")
        rows = json.loads((folder / "out" / "report.json").read_text())["results"]
    assert len(rows) == count, f"{len(rows)} rows of {count}"
    bad = [row for row in rows if row["student"].startswith("hostile")]
    fine = [row for row in rows if row not in bad]
    print(f"{count} mixed submissions in {taken:.0f} s, {60 * count / taken:.0f} a minute")
    print(f"honest: {dict(Counter(row['status'] for row in fine))}")
    print(f"hostile: {dict(Counter(row['status'] for row in bad))}")
    print(f"points gained by hostile submissions: {sum(row['score'] for row in bad)}")
    for row in fine:
        bits = int(row["student"][-3:])
        points = [i["points"] for i in row["items"]]
        wanted = _expected(bits, [i["most"] for i in row["items"]])
        assert points == wanted, (row["student"], points, wanted, row["detail"])
    print("every honest submission got the points it earned")


def _expected(number: int, most: list[int]) -> list[int]:
    """Points by the answers left out; the engine of item 5 is one cell."""
    return [0 if number >> bit & 1 else points for bit, points in enumerate(most)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=24, help="honest notebooks for both graders")
    parser.add_argument("--mixed", type=int, default=0, help="size of a class with hostile ones")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # alembic
    if options.count:
        side_by_side(options.count)
    if options.mixed:
        mixed_class(options.mixed)


if __name__ == "__main__":
    main()
