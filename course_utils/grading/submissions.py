"""Find each student's notebook in what a learning platform lets you download.

Understood are a folder or a zip file with one folder per student (Moodle, nbgrader, Gradescope,
by hand) or with one file per student (Canvas); several attempts, of which the newest counts;
renamed copies such as ``name (1).ipynb``; a student's own zip file. Nothing is unpacked to disk,
links are not followed, and what cannot be read becomes a submission that says why.
"""

import contextlib
import csv
import io
import json
import os
import re
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MOST_NOTEBOOK = 32_000_000
MOST_ARCHIVE = 64_000_000  # of a zip file inside what was handed in
MOST_CODE = 1_000_000
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)$")
MOODLE = re.compile(r"^(?P<name>.+)_(?P<id>\d+)_assignsubmission_file_?$")
COPY = re.compile(r"(?: \((\d+)\)|-(\d+)| - Copy| copy)?$")
EXERCISE = re.compile(rb'"exercise"\s*:\s*"(\d\d)_\w+"')
CHECK = re.compile(rb'"check\(\\"(\d\d)\.\w+\\"')  # at the beginning of a line of a cell
IGNORED = {"__MACOSX", ".ipynb_checkpoints"}
NOTEBOOK = re.compile(r"\.ipynb(\.(json|txt))?$", re.IGNORECASE)  # browsers add an ending


class Corrupt(ValueError):
    """A file is not a notebook; the message says what it is."""


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one lesson.

    Attributes
    ----------
    student, lesson : str
    file : str
        Its name as found; empty if nothing was handed in.
    raw : bytes
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


@dataclass(frozen=True)
class Found:
    """One file: the folders it is in, its name, its time, its bytes or why there are none."""

    folders: tuple[str, ...]
    name: str
    time: float
    raw: bytes = field(default=b"", repr=False)
    problem: str = ""

    @property
    def lesson(self) -> str:
        """The lesson that its metadata, its checks or its name tell, in this order; or empty."""
        return lesson_of(self.raw, self.name)

    @property
    def order(self) -> tuple[float, int, str]:
        """Later attempts sort after earlier ones."""
        match = COPY.search(_stem(self.name))
        copy = next((int(n) for n in match.groups() if n), 0) if match else 0
        return (self.time, copy, "/".join((*self.folders, self.name)))


def lesson_of(raw: bytes, name: str) -> str:
    r"""Return the lesson of an exercise notebook: what it is counts before what it is called.

    Examples
    --------
    >>> lesson_of(b'"check(\\"03.attention\\", attention)"', "05_fine_tuning_bert.ipynb")
    '03'
    """
    if marked := EXERCISE.findall(raw):
        return str(marked[-1].decode())  # metadata stand after the cells
    if checked := Counter(CHECK.findall(raw)):  # another editor dropped the metadata
        return str(checked.most_common(1)[0][0].decode())
    named = re.search(r"(?<!\d)(\d\d)_[a-z]", name)
    return named[1] if named else ""


# --- reading files --------------------------------------------------------------------------


def find_files(source: Path) -> list[Found]:
    """Return the notebooks and other files of a folder or a zip file, sorted by place.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If it is a file and not a zip file.
    """
    if source.is_dir():
        found = list(_walk(source))
    elif source.is_file():
        if not zipfile.is_zipfile(source):
            raise ValueError(f"{source} is neither a folder nor a zip file")
        found = list(_unzip(source.read_bytes(), ()))
    else:
        raise FileNotFoundError(2, "no such folder or zip file", str(source))
    return sorted(found, key=lambda f: (f.folders, f.name))


def _walk(source: Path) -> Iterator[Found]:
    for folder, subfolders, names in os.walk(source):  # does not follow links
        subfolders[:] = sorted(set(subfolders) - IGNORED)
        inside = Path(folder).relative_to(source).parts
        linked = [name for name in subfolders if Path(folder, name).is_symlink()]
        for name in sorted(names) + linked:
            if name.startswith("."):
                continue
            path = Path(folder, name)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                yield Found(inside, name, 0.0, problem="a link or device, not a file")
            elif name.lower().endswith(".zip") and status.st_size <= MOST_ARCHIVE:
                yield from _unzip(path.read_bytes(), inside)
            elif not NOTEBOOK.search(name):
                yield Found(inside, name, status.st_mtime, problem="not a notebook")
            elif status.st_size > MOST_NOTEBOOK:
                yield Found(inside, name, status.st_mtime, problem=_too_large(status.st_size))
            else:
                yield Found(inside, name, status.st_mtime, path.read_bytes())
        if not names and not subfolders and inside:
            yield Found(inside, "", 0.0, problem="an empty folder")


def _unzip(raw: bytes, folders: tuple[str, ...], depth: int = 0) -> Iterator[Found]:
    """Read a zip file's members in memory; their paths serve as names and nothing else."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        yield Found(folders, "archive.zip", 0.0, problem=f"a damaged zip file: {error}")
        return
    for member in members:
        path = _member_name(member)
        parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".")]
        if not parts or IGNORED & set(parts) or parts[-1].startswith("."):
            continue
        suspicious = ".." in parts or ":" in parts[0] or path.startswith(("/", "\\"))
        inside = (*folders, *(part for part in parts[:-1] if part != ".."))
        time = _zip_time(member)
        name, size = parts[-1], member.file_size
        zipped = name.lower().endswith(".zip")
        if suspicious:
            yield Found(inside, name, time, problem="a path that leads out of its archive")
        elif stat.S_ISLNK(member.external_attr >> 16):
            yield Found(inside, name, time, problem="a link or device, not a file")
        elif not zipped and not NOTEBOOK.search(name):
            yield Found(inside, name, time, problem="not a notebook")
        elif size > (MOST_ARCHIVE if zipped else MOST_NOTEBOOK) or (zipped and depth):
            yield Found(inside, name, time, problem=_too_large(size))
        else:
            content = _member(archive, member, size)
            if isinstance(content, str):
                yield Found(inside, name, time, problem=content)
            elif zipped:
                yield from _unzip(content, inside, depth + 1)
            else:
                yield Found(inside, name, time, content)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> bytes | str:
    """Return a member's bytes, never more than it declares; or why there are none."""
    try:
        with archive.open(member) as file:
            return file.read(size)
    except Exception as error:  # zlib, encryption, truncated: what damaged archives raise
        return f"cannot be unpacked: {error}"


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return a member's path; UTF-8 that its writer did not declare is recognised."""
    if not member.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _zip_time(member: zipfile.ZipInfo) -> float:
    year, month, day, hour, minute, second = member.date_time
    return ((((year * 12 + month) * 31 + day) * 24 + hour) * 60 + minute) * 60.0 + second


def _too_large(size: int) -> str:
    return (
        f"{size / 1e6:.0f} MB, and {MOST_NOTEBOOK / 1e6:.0f} are allowed: clear its outputs "
        "(Kernel, Restart and Clear Outputs) and hand it in again"
    )


# --- who handed in what ---------------------------------------------------------------------


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
    """
    files = find_files(source)
    while files and _wrapped(files):
        files = [Found(f.folders[1:], f.name, f.time, f.raw, f.problem) for f in files]
    by_student: dict[tuple[str, str], list[Found]] = {}
    for file in files:
        by_student.setdefault(_student(file), []).append(file)
    names = [name for name, _ in by_student]
    submissions = []
    for (name, number), own in by_student.items():
        student = f"{name} ({number})" if names.count(name) > 1 else name
        for lesson in lessons:
            submissions.append(_choose(student, number, lesson, own, len(lessons) == 1))
    absent = [name for name in roster if name not in {s.student for s in submissions}]
    for name in absent:
        for lesson in lessons:
            submissions.append(Submission(name, lesson, problem="nothing was handed in"))
    return sorted(submissions, key=lambda s: (s.student, s.lesson))


def _wrapped(files: Sequence[Found]) -> bool:
    """Return True if all is in one folder that holds only folders: the download's own."""
    tops = {file.folders[:1] for file in files}
    return len(tops) == 1 and () not in tops and all(len(file.folders) > 1 for file in files)


def _student(file: Found) -> tuple[str, str]:
    """Return a student's name and, if the place tells it, number on the platform."""
    if file.folders:
        top = _tidy(file.folders[0])
        if match := MOODLE.match(top):
            return match["name"], match["id"]
        return top, ""
    if match := CANVAS.match(file.name):
        return _tidy(match["name"]), match["id"]
    stem = COPY.sub("", _stem(file.name))
    bare = re.sub(r"(?<!\d)\d\d_[a-z]+(?:_[a-z]+)*?(?=[_-][A-Z0-9]|[-]|$)", "", stem)
    return _tidy(bare.strip("_- ") or _stem(file.name)), ""


def _stem(name: str) -> str:
    """Return a file's name without its ending."""
    return NOTEBOOK.sub("", name) if NOTEBOOK.search(name) else PurePosixPath(name).stem


def _tidy(name: str) -> str:
    """Return a name in one form of Unicode, without control characters."""
    text = unicodedata.normalize("NFC", name)
    return "".join(c if c.isprintable() else "?" for c in text).strip()[:120] or "?"


def _choose(
    student: str, number: str, lesson: str, own: Sequence[Found], only_lesson: bool
) -> Submission:
    """Pick the attempt that counts."""
    notebooks = [f for f in own if NOTEBOOK.search(f.name)]
    fitting = sorted((f for f in notebooks if f.lesson == lesson), key=lambda f: f.order)
    notes: list[str] = []
    if not fitting and only_lesson and len(notebooks) == 1 and not notebooks[0].lesson:
        fitting = notebooks
        notes.append("neither its name nor its metadata say which lesson it is")
    if not fitting:
        others = sorted({_tidy(f.name) if f.name else f.problem for f in own})
        problem = f"no notebook of lesson {lesson}; found: {', '.join(others)[:200]}"
        if only_lesson and len(notebooks) == 1 and notebooks[0].lesson:
            problem = another_lesson(_tidy(notebooks[0].name), notebooks[0].lesson, lesson)
        return Submission(student, lesson, problem=problem, platform_id=number)
    newest = fitting[-1]
    file = "/".join(_tidy(part) for part in (*newest.folders[1:], newest.name))
    if len(fitting) > 1:
        notes.append(f"the newest of {len(fitting)} attempts counts: {file}")
    return Submission(
        student, lesson, file, newest.raw, newest.problem, tuple(notes), platform_id=number
    )


def another_lesson(name: str, lesson: str, expected: str) -> str:
    """Say that a notebook is not of the lesson that was asked for."""
    return f"{name} is the notebook of lesson {lesson}; lesson {expected} was expected"


def read_roster(path: Path) -> list[str]:
    """Return the first column of a CSV file; a heading ``student`` or ``name`` is left out."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = [_tidy(row[0]) for row in csv.reader(file) if row and row[0].strip()]
    return [n for i, n in enumerate(names) if i or n.lower() not in ("student", "name")]


# --- what is in a notebook --------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A code cell: its source, and nbgrader's mark if it has one."""

    source: str
    grade_id: str = ""
    locked: bool = False


def read_cells(raw: bytes) -> tuple[list[Cell], list[str]]:
    """Return a notebook's code cells, and notes on how it had to be read.

    Raises
    ------
    Corrupt
        If it is not a notebook.
    """
    text, notes = _decode(raw)
    try:
        content = json.loads(text)
        cells = content["cells"] if "cells" in content else content["worksheets"][0]["cells"]
        code = [_cell(cell) for cell in cells if cell.get("cell_type") == "code"]
    except RecursionError:
        raise Corrupt("not a notebook: nested too deep") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise Corrupt("not a notebook, or only part of one") from None
    if sum(len(cell.source) for cell in code) > MOST_CODE:
        raise Corrupt(f"more than {MOST_CODE:,} characters of code")
    return code, notes


def _decode(raw: bytes) -> tuple[str, list[str]]:
    if not raw.strip():
        raise Corrupt("an empty file")
    if len(raw) > MOST_NOTEBOOK:
        raise Corrupt(_too_large(len(raw)))
    for encoding in (
        ("utf-8-sig", "utf-16")
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        else (
            "utf-8-sig",
            "cp1252",
        )
    ):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text, [] if encoding == "utf-8-sig" else [f"read as {encoding}, it is not UTF-8"]
    raise Corrupt("not text in any encoding")


def _cell(cell: dict) -> Cell:
    source = cell.get("source", cell.get("input", ""))
    source = source if isinstance(source, str) else "".join(source)
    mark = cell.get("metadata", {}).get("nbgrader", {})
    # a lone surrogate can be written in JSON, and is no text
    source = source.encode("utf-8", "replace").decode()
    return Cell(source, str(mark.get("grade_id", "")), mark.get("locked") is True)
