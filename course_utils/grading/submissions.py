"""From files to submissions: exactly one for each student and lesson, also where there is none.

Of several attempts the newest counts, and the grades say so. A submission holds the code of its
notebook and not its outputs, so that a class of thousands fits into memory.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_utils.grading.cells import Corrupt, only_code, read_cells
from course_utils.grading.files import EMPTY, NOT_A_NOTEBOOK, NOTEBOOK, Found, find_files
from course_utils.grading.layouts import Owner, download, is_late, order, owner
from course_utils.grading.words import line


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one lesson.

    Attributes
    ----------
    student, lesson : str
    file : str
        Its name as found; empty if nothing was handed in.
    raw : bytes
        The notebook, from `collect` its code cells only.
    problem : str
        Why there is nothing to read, if so.
    notes : tuple of str
        What the reader of the grades should know, such as which attempt counts.
    platform_id : str
        The student's number on the platform, where the name of the file tells it.
    """

    student: str
    lesson: str
    file: str = ""
    raw: bytes = b""
    problem: str = ""
    notes: tuple[str, ...] = ()
    platform_id: str = ""


def collect(source: Path, lessons: Sequence[str], roster: Sequence[str] = ()) -> list[Submission]:
    """Return exactly one submission per student and lesson, also where nothing was handed in.

    Parameters
    ----------
    source : Path
        A folder or a zip file.
    lessons : sequence of str
        Such as ``["01"]``.
    roster : sequence of str
        All students, so that those of whom there is no trace appear too.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If it is a file and no zip file, or a folder that holds nothing but a zip file.
    """
    with find_files(source) as found:
        files, names = download(found, roster)
        _refuse_a_wrapped_download(source, files)
        everyone: dict[str, tuple[Owner, list[Found]]] = {}
        for file in files:
            whose = owner(file, names)
            everyone.setdefault(whose.key, (whose, []))[1].append(file)
        shown = shown_names([whose for whose, _ in everyone.values()])
        submissions = [
            _choose(shown[whose.key], whose.platform_id, lesson, own, len(lessons) == 1)
            for whose, own in everyone.values()
            for lesson in lessons
        ]
    there = set(shown.values()) | {whose.name for whose, _ in everyone.values()}
    submissions += [
        Submission(name, lesson, problem="nothing was handed in")
        for name in dict.fromkeys(roster)
        if name not in there
        for lesson in lessons
    ]
    return sorted(submissions, key=lambda s: (s.student, s.lesson))


def _refuse_a_wrapped_download(source: Path, files: Sequence[Found]) -> None:
    """Refuse a folder in which there is only one zip file: is it a class's or one student's."""
    places = {(file.folders, file.name) for file in files}
    if source.is_dir() and len(places) == 1 and files[0].inside and not files[0].folders:
        if owner(files[0], {}).platform_id:
            return  # named by a platform: one student's
        raise ValueError(
            f"in {source} there is only {line(files[0].name)}: pass that file itself if it is a "
            "platform's download, or put it into a folder with the student's name"
        )


def shown_names(owners: Sequence[Owner]) -> dict[str, str]:
    """Return a name for each key that nobody else has: with the platform's number, or counted."""
    count = Counter(one.name for one in owners)
    names: dict[str, str] = {}
    taken: set[str] = {name for name, often in count.items() if often == 1}
    for one in sorted(owners, key=lambda one: one.key):
        name = one.name
        if count[name] > 1:
            name = f"{name} ({one.platform_id})" if one.platform_id else name
            number = 1
            while name in taken:
                number += 1
                name = f"{one.name} [{number}]"
            taken.add(name)
        names[one.key] = name
    return names


def _choose(
    student: str, number: str, lesson: str, own: Sequence[Found], only_lesson: bool
) -> Submission:
    """Pick the attempt that counts."""
    notebooks = [f for f in own if NOTEBOOK.search(f.own_name)]
    fitting = sorted((f for f in notebooks if f.lesson == lesson), key=order)
    notes: list[str] = []
    if not fitting and only_lesson and len(notebooks) == 1 and not notebooks[0].lesson:
        fitting = notebooks
        notes.append("neither its name nor its metadata say which lesson it is")
    if not fitting:
        others = sorted({_described(f) for f in own})
        problem = f"no notebook of lesson {lesson}; found: {', '.join(others)[:200]}"
        unread = [f for f in own if f.problem not in ("", NOT_A_NOTEBOOK, EMPTY) and not f.lesson]
        if only_lesson and len(notebooks) == 1 and notebooks[0].lesson:
            problem = another_lesson(line(notebooks[0].own_name), notebooks[0].lesson, lesson)
        file = line(unread[0].own_name) or unread[0].folders[-1] if unread else ""
        return Submission(student, lesson, file, problem=problem, platform_id=number)
    newest = fitting[-1]
    file = "/".join(
        line(part) for part in (*newest.folders[1:], newest.name, newest.inside) if part
    )
    if len(fitting) > 1:
        notes.append(f"the newest of {len(fitting)} attempts counts: {file}")
    if is_late(newest):
        notes.append("marked as late")
    raw, problem = b"", newest.problem
    if not problem:
        try:
            cells, how = read_cells(newest.read())
            raw = only_code(cells)
            notes += how
        except (Corrupt, OSError) as error:
            problem = str(error)
    return Submission(student, lesson, file, raw, problem, tuple(notes), platform_id=number)


def another_lesson(name: str, lesson: str, expected: str) -> str:
    """Say that a notebook is not of the lesson that was asked for."""
    return f"{name} is the notebook of lesson {lesson}; lesson {expected} was expected"


def _described(file: Found) -> str:
    """Return a file's name, and what is wrong with it if that is more than its ending."""
    name = line(file.own_name)
    if not name:
        return file.problem
    return name if file.problem in ("", NOT_A_NOTEBOOK) else f"{name} ({file.problem})"


def read_roster(path: Path) -> list[str]:
    """Return the first column of a CSV file; a heading ``student`` or ``name`` is left out."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = [line(row[0], 120) for row in csv.reader(file) if row and row[0].strip()]
    return [n for i, n in enumerate(names) if i or n.lower() not in ("student", "name")]
