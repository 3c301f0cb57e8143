"""A class on a bad day: killed three times, on a disk that fills once. Is the table the same?

    python -m benchmarks.grading_faults --count 300

The class is the mixed one of `benchmarks.grading`: three fifths honest, a fifth wrong in one item,
a fifth hostile or broken. It is graded once in peace, and once with `SIGKILL` when a sixth, a
third and two thirds of the rows are kept, and with no room left on the disk in between. As root
the disk is a small memory disk; otherwise files are not allowed to grow, which fails in the same
place.

How a hostile submission ends may depend on the moment (out of memory, or out of time?), also in
peace. So the rows of all others must be the same to the letter, and of these the points.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.grading import ROOT, hand_in_mixed

KILLED_AT = (1 / 6, 1 / 3, 2 / 3)
FULL_AT = 1 / 2  # of the rows; there is room for a few more


class BadDay:
    """One grading that is disturbed again and again.

    Parameters
    ----------
    submissions, out : Path
    count : int
        Rows there will be.
    options : sequence of str
        Of `course grade`.
    """

    def __init__(self, submissions: Path, out: Path, count: int, options: list[str]) -> None:
        self.out, self.count = out, count
        self.command = [sys.executable, "-m", "course_utils", "grade", str(submissions)]
        self.command += ["--lesson", "01", "--out", str(out), *options]

    def kept(self) -> int:
        """Return how many results are kept."""
        return len(list((self.out / "results").glob("*.json")))

    def killed_at(self, rows: int) -> int:
        """Kill a run as soon as so many rows are kept; return how many are."""
        with open(os.devnull, "w") as nowhere:
            grader = subprocess.Popen(self.command, cwd=ROOT, stdout=nowhere, stderr=nowhere)
            while self.kept() < rows:
                if grader.poll() is not None:
                    raise SystemExit(f"it ended by itself, with code {grader.returncode}")
                time.sleep(0.01)
            grader.send_signal(signal.SIGKILL)
            grader.wait()
        return self.kept()

    def run(self, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever that is."""
        return subprocess.run(
            self.command, cwd=ROOT, capture_output=True, text=True, preexec_fn=before
        )


def may_mount() -> bool:
    """Return True if this process may put a memory disk somewhere."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", name]
        if subprocess.run(mount, capture_output=True).returncode:
            return False
        subprocess.run(["umount", name], check=True)
    return True


def resize(disk: Path, size: int) -> None:
    options = f"remount,size={size}"
    subprocess.run(["mount", "-o", options, "none", str(disk)], check=True)


def no_large_files() -> None:
    """Let no file grow beyond a kilobyte; what the sandbox sets for itself is not touched."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))


def disturbed(day: BadDay, disk: Path | None) -> list[str]:
    """Grade on a bad day and say what happened; the last run goes through."""
    story = []
    for share in KILLED_AT[:2]:
        story.append(f"killed with {day.killed_at(int(share * day.count))} rows kept")
    if disk is not None:
        used = sum(path.stat().st_blocks * 512 for path in disk.rglob("*"))
        resize(disk, used + 4096 * max(4, int(day.count * (FULL_AT - KILLED_AT[1]))))
    full = day.run(None if disk is not None else no_large_files)
    assert full.returncode == 1, full
    assert "No space left" in full.stderr or "File too large" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    assert not (day.out / "grades.csv").exists()
    story.append(f"no room: it stopped with {day.kept()} rows kept")
    if disk is not None:
        resize(disk, 1 << 30)
    story.append(f"killed with {day.killed_at(int(KILLED_AT[2] * day.count))} rows kept")
    last = day.run()
    assert last.returncode in (0, 3), last.stderr
    assert all(path.stat().st_size for path in day.out.rglob("*") if path.is_file())
    return story


def compare(place: Path, count: int, options: list[str]) -> tuple[list[str], list[str]]:
    """Grade a class twice; return what happened, and which hostile rows ended in another way.

    Raises
    ------
    AssertionError
        If the two tables differ in anything else.
    """
    hand_in_mixed(place / "in", count)
    peace = BadDay(place / "in", place / "peace", count, options)
    done = peace.run()
    assert done.returncode in (0, 3), done.stderr
    disk = place / "disk"
    disk.mkdir()
    mounted = may_mount()
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(disk)], check=True)
    try:
        day = BadDay(place / "in", disk / "out", count, options)
        story = disturbed(day, disk if mounted else None)
        tables = [_rows(out / "grades.csv") for out in (peace.out, day.out)]
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
    assert [len(table) for table in tables] == [count, count]
    otherwise = []
    for student, row in tables[0].items():
        other = tables[1][student]
        assert row["score"] == other["score"], (row, other)
        if row != other:
            assert student.startswith("hostile"), (row, other)
            otherwise.append(f"{student}: {row['status']}, then {other['status']}")
    return story, otherwise


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=300, help="size of the class")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        grading = ["--seed", "9", "--timeout", "20", "--jobs", "2"]
        story, otherwise = compare(Path(name), options.count, grading)
    print(*story, sep="\n")
    print(
        f"{options.count} rows, the same table, in {time.perf_counter() - begun:.0f} s altogether"
    )
    print(f"{len(otherwise)} hostile rows ended in another way, with the same points")
    print(*otherwise, sep="\n")


if __name__ == "__main__":
    main()
