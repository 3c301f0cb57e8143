"""Say what grading would see in a notebook: ``course check``.

The file is run from top to bottom in a new process (`clean_run`), the answers are checked on the
visible cases, and what goes wrong is compared with what the file tells of the open session
(`session`). Needs no sandbox: it is a student's own code on a student's own machine. The notebook
is only read.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from course_utils.grading.cells import Corrupt, read_cells
from course_utils.grading.clean_run import Heard, run_clean
from course_utils.grading.files import lesson_named, lesson_told
from course_utils.grading.session import File, saved_cells
from course_utils.grading.submissions import another_lesson
from course_utils.grading.visible import read_keys, visible_lessons

SECONDS = 120.0  # for a whole notebook, as in grading; a cell gets a quarter
MARKS = {"right": "✓", "not attempted": "○"}


class NotAnExercise(ValueError):
    """A file cannot be checked; the message says what it is."""


@dataclass(frozen=True)
class ItemSeen:
    """One item of a notebook, as grading would see it.

    Attributes
    ----------
    name : str
    most : int
        Its points.
    state : str
        ``"right"``, ``"wrong"``, ``"not attempted"``, ``"not defined"`` or ``"not reached"``.
    why : str
    lines : tuple of str
        What explains it: the case, the exception, what only the session had.
    """

    name: str
    most: int
    state: str = "not reached"
    why: str = ""
    lines: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """Points that grading would give, if its own cases agree with the visible ones."""
        return self.most if self.state == "right" else 0


@dataclass(frozen=True)
class NotebookSeen:
    """What came of a clean run."""

    lesson: str
    items: tuple[ItemSeen, ...]
    remarks: tuple[str, ...] = ()
    untouched: bool = False

    @property
    def points(self) -> int:
        """Points reached."""
        return sum(item.points for item in self.items)

    @property
    def most(self) -> int:
        """Points there are."""
        return sum(item.most for item in self.items)

    @property
    def solved(self) -> int:
        """How many items are right."""
        return sum(item.state == "right" for item in self.items)


def points_of(lesson: str) -> dict[str, int]:
    """Return the items of a lesson and their points."""
    return {key.exercise.name: key.exercise.points for key in read_keys(lesson)}


def read_exercise(path: Path, expected: str = "") -> tuple[bytes, str]:
    """Return an exercise notebook's bytes and its lesson.

    Raises
    ------
    NotAnExercise
        If it is a folder, not there, not a notebook, not an exercise, or of another lesson.
    """
    if path.is_dir():
        raise NotAnExercise("a folder: name its notebooks, or use `course progress FOLDER`")
    try:
        raw = path.read_bytes()
        cells, _ = read_cells(raw)
    except FileNotFoundError:
        raise NotAnExercise("there is no such file") from None
    except OSError as error:
        raise NotAnExercise(f"it cannot be read: {error.strerror}") from None
    except Corrupt as error:
        unsaved = "" if raw.strip() else ": save the notebook, and check again"
        raise NotAnExercise(f"{error}{unsaved}") from None
    lesson = lesson_told(raw) or lesson_named(path.name)
    if expected and lesson and lesson != expected:
        raise NotAnExercise(another_lesson(path.name, lesson, expected))
    if b'"exercise"' not in raw and not any("check(" in cell.source for cell in cells):
        where = f"the exercises of lesson {lesson} are exercises/{lesson}_..." if lesson else ""
        raise NotAnExercise("; ".join(["a notebook without exercises", where]).strip("; "))
    if not lesson:
        raise NotAnExercise("neither its metadata nor its checks say which lesson it is of")
    if lesson not in visible_lessons():
        raise NotAnExercise(f"this version of the course has no exercises of lesson {lesson}")
    return raw, lesson


def look(raw: bytes, lesson: str, seconds: float = SECONDS) -> NotebookSeen:
    """Run a notebook from top to bottom and say what grading would see."""
    sources = [cell.source for cell in read_cells(raw)[0]]
    most = points_of(lesson)
    heard = run_clean(sources, list(most), seconds)
    file = File(saved_cells(raw, sources), heard.failures)
    items = tuple(_item(name, points, heard, file) for name, points in most.items())
    remarks = [*_cells_that_failed(heard, file), heard.ended, file.out_of_order()]
    right = any(item.state == "right" for item in items)
    untouched = not right and all(cell.count is None for cell in file.code)
    return NotebookSeen(lesson, items, tuple(text for text in remarks if text), untouched)


def _item(name: str, points: int, heard: Heard, file: File) -> ItemSeen:
    """Put one item's verdict together with what the file tells."""
    found = heard.verdicts.get(name)
    seen = ItemSeen(name, points)
    if found is None:
        return replace(seen, why="not reached")
    target, lines = name.split(".")[1], list(found["lines"])
    why = found["why"]
    if found["state"] == "not defined":
        why = f"there is no `{target}` after the last cell"
        lines.append(file.why_missing(target))
    elif found["state"] == "wrong":
        lines += filter(None, (file.explain(line) for line in [why, *lines]))
    if found["state"] != "right" and file.passed_in_session(name):
        lines.append("its check was passed in the open session: the file is not what ran there")
    if changed := file.check_changed(name):
        lines.append(changed)
    return replace(seen, state=found["state"], why=why, lines=tuple(dict.fromkeys(lines)))


def _cells_that_failed(heard: Heard, file: File) -> Iterator[str]:
    """Say which cells a clean run stops in, unless they do so in the session too, and why."""
    for number, error in heard.failures.items():
        if error.startswith("NotImplementedError") or file.asks_for_what_is_lost(number):
            continue  # said where the item is
        text = f"{file.called(number)} stops with {error.splitlines()[0]}"
        if error.startswith("TimeLimit"):
            text = f"{file.called(number)} does not end: it was {error.split(': ', 1)[1]}"
        cell = file.code[number - 1]
        if reason := file.explain(error, number):
            text += f"\n{reason}"
        elif cell.count is not None and not cell.failed:
            text += "\nit ran in the open session: restart the kernel and run all to see it"
        yield text


# --- words --------------------------------------------------------------------------------------


def report(name: str, seen: NotebookSeen, saved: float) -> str:
    """Return what ``course check`` prints about one notebook."""
    lines = [f"{name}: lesson {seen.lesson}, saved {_ago(time.time() - saved)}"]
    width = max(len(item.name) for item in seen.items)
    for item in seen.items:
        mark = MARKS.get(item.state, "✗")
        points = f"{item.points} of {item.most}"
        words = item.state if item.state in ("right", "not attempted") else item.why
        lines.append(f"  {mark} {item.name:<{width}}  {points}  {words}")
        lines += [f"      {line}" for line in item.lines]
    for remark in seen.remarks:
        first, *rest = remark.splitlines()
        lines += [f"  ! {first}", *(f"      {line}" for line in rest)]
    if seen.untouched:
        lines.append(
            "  ! No cell was ever run in this file. If you have worked on it, save it: Ctrl+S."
        )
    lines.append(f"  {seen.points} of {seen.most} points, {seen.solved} of {len(seen.items)} items")
    return "\n".join(lines)


def _ago(seconds: float) -> str:
    """Return a time span as a person would say it.

    Examples
    --------
    >>> [_ago(s) for s in (3, 70, 7200, 200_000)]
    ['just now', '1 minute ago', '2 hours ago', '2 days ago']
    """
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n} {unit}{'s' * (n != 1)} ago"
    return "just now"


def run(paths: Sequence[Path], lesson: str = "", seconds: float = SECONDS) -> int:
    """Check notebooks and print what is seen; return 0 if all of it would get its points."""
    good = True
    for path in paths:
        try:
            raw, found = read_exercise(path, lesson)
            seen = look(raw, found, seconds)
        except NotAnExercise as error:
            print(f"course: {path}: {error}", file=sys.stderr)
            good = False
            continue
        print(report(path.name, seen, path.stat().st_mtime), flush=True)
        good &= seen.points == seen.most
    if good:
        print("Grading uses other cases of the same kind: what computes its answer passes them.")
    return 0 if good else 1
