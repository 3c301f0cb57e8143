"""Grading a class: `course grade` beside `nbgrader autograde`, in one run on the same notebooks.

    python -m benchmarks.grading                  # 40 honest notebooks, by all three
    python -m benchmarks.grading --mixed 200      # and a class of 200, hostile ones among them

Honest notebooks are lesson 01's solution with some answers left out, so that everyone is
different. `course grade` runs twice: with its nursery, and with a bubblewrap for each submission,
as where there can be no nursery. All get two cores. nbgrader has no parallelism of its own and
starts a kernel for each notebook; its time is that of ``autograde`` alone, without feedback. The
libraries both import are read once before, so that neither waits for a cold disk.
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


def with_course(submissions: Path, out: Path, *extra: str, way: str = "nursery") -> float:
    command = [sys.executable, "-m", "course_utils", "grade", str(submissions), "--lesson", "01"]
    os.environ["COURSE_SANDBOX"] = way
    return seconds([*command, "--out", str(out), *extra], ROOT)


def side_by_side(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hand_in(folder / "submitted", count)
        seconds([sys.executable, "-c", "import torch, matplotlib.figure, nbgrader.apps"], ROOT)
        taken = {}
        for way in ("nursery", "bubblewrap"):
            out = folder / way
            taken[way] = with_course(folder / "submitted", out, "--jobs", "2", way=way)
        tables = [(folder / way / "grades.csv").read_bytes() for way in taken]
        assert tables[0] == tables[1], "the two ways give different grades"
        taken["nbgrader autograde"] = with_nbgrader(folder)
    for grader, duration in taken.items():
        rate = 60 * count / duration
        ratio = taken["nbgrader autograde"] / duration
        print(f"{grader:<20} {duration:7.1f} s {rate:7.1f} notebooks a minute {ratio:6.1f} x")


# One item spoiled in a notebook that is otherwise right: its place among the items, and the cell.
WRONG = (
    (0, "def bce_gradient(z, y):\n    return 1 / (1 + np.exp(-z)) - y"),
    (1, "def log_sum_exp(z):\n    return np.log(np.exp(z).sum(axis=1))"),
    (2, "def softmax_gradient(z, y):\n    return np.zeros(z.shape)"),
    (3, "def finite_difference(f, x, epsilon):\n    return (f(x + epsilon) - f(x)) / epsilon"),
    (5, "def train(features, labels, lr, steps):\n    return torch.zeros(features.shape[1])"),
)
BROKEN = (b"", SOLUTION.read_bytes()[:5000], bytes(range(128, 256)) * 40, b"[" * 100_000)


def hand_in_mixed(folder: Path, count: int) -> None:
    """Three fifths honest, a fifth wrong in one item, a fifth hostile or broken."""
    from tests.grading.hostile import BANK, STUBS, notebook

    share = max(1, count // 5)
    given = "CANARIES, PORT = ['/etc/hostname'], 80\n"
    hand_in(folder, count - 2 * share)
    for number in range(share):
        wrong = nbformat.read(SOLUTION, 4)
        wrong.cells.append(nbformat.v4.new_code_cell(WRONG[number % len(WRONG)][1]))
        _put(folder / f"wrong{number:03}", nbformat.writes(wrong).encode())
        if number < len(BROKEN):
            _put(folder / f"hostile{number:03} broken", BROKEN[number])
            continue
        one = BANK[(number - len(BROKEN)) % len(BANK)]
        _put(folder / f"hostile{number:03} {one.name}", notebook(STUBS + given, one.cell))


def mixed_class(count: int) -> None:
    """Grade a mixed class, and look that everybody got what they earned."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hand_in_mixed(folder / "in", count)
        taken = with_course(folder / "in", folder / "out", "--timeout", "30", "--jobs", "2")
        rows = json.loads((folder / "out" / "report.json").read_text())["results"]
    assert len(rows) == count, f"{len(rows)} rows of {count}"
    print(f"{count} mixed submissions in {taken:.0f} s, {60 * count / taken:.0f} a minute")
    for kind in ("student", "wrong", "hostile"):
        own = [row for row in rows if row["student"].startswith(kind)]
        statuses = dict(Counter(row["status"] for row in own))
        print(
            f"{kind:<8} {len(own):3} rows, {sum(row['score'] for row in own):4} points: {statuses}"
        )
    for row in rows:
        points, most = ([item[key] for item in row["items"]] for key in ("points", "most"))
        wanted = _expected(row["student"], most)
        assert points == wanted, (row["student"], points, wanted, row["detail"])
    print("every submission got the points it earned, hostile ones none")


def _put(folder: Path, raw: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(raw)


def _expected(student: str, most: list[int]) -> list[int]:
    """Points by what was left out, or spoiled."""
    if student.startswith("hostile"):
        return [0] * len(most)
    number = int(student[-3:])
    if student.startswith("wrong"):
        lost = {WRONG[number % len(WRONG)][0]}
    else:
        lost = {place for place in range(len(most)) if number >> place & 1}
    return [0 if place in lost else points for place, points in enumerate(most)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=40, help="honest notebooks for both graders")
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
