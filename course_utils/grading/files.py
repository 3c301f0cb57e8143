"""The files that were handed in: found in a folder or a zip file, read one at a time.

Nothing is unpacked to disk and links are not followed. What cannot be read (a damaged archive, a
folder without permission, a pipe with a notebook's name) is found too, with the reason. A file
has a *place*, which the platform or the instructor named, and what a student packed is *inside*
it: who a student is comes from the place alone. Bytes are read when they are asked for and never
all at once, so the grader's memory does not depend on what was handed in.
"""

import contextlib
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from course_utils.grading.archives import NOT_A_FILE, Member, members, open_archive
from course_utils.grading.cells import MOST_NOTEBOOK, too_large
from course_utils.grading.words import line

MOST_ARCHIVE = 64_000_000  # bytes of a student's own zip file, and of all that is read from it
MOST_MEMBERS = 10_000  # of a student's own zip file
MOST_OTHERS = 20  # of its files that are no notebooks: they are only named
MOST_FOLDERS = 40  # one inside the other
EXERCISE = re.compile(rb'"exercise"\s*:\s*"(\d\d)_\w+"')
CHECK = re.compile(rb'"check\(\\"(\d\d)\.\w+\\"')  # at the beginning of a line of a cell
IGNORED = {"__MACOSX", ".ipynb_checkpoints"}
NOTEBOOK = re.compile(r"\.ipynb(\.(json|txt))?$", re.IGNORECASE)  # browsers add an ending
EMPTY = "an empty folder"
NOT_A_NOTEBOOK = "not a notebook"


@dataclass(frozen=True)
class Found:
    """One file that was handed in, or one place where there is none.

    Attributes
    ----------
    folders : tuple of str
        Those it is in, outermost first, without the source itself.
    name : str
        Of the file, or of the student's own archive that it is in; empty for an empty folder.
    time : float
        When the place was last changed: the platform's word, never a packed file's.
    problem : str
        Why there is nothing to read, if so.
    inside : str
        Its path in the student's own archive, if it is in one.
    packed_at : float
        Its time there, which counts among the files of that archive only.
    marked : str
        The lesson its metadata tell, such as ``"01"``.
    read : callable
        Returns its bytes, or raises an OSError that says why not.
    """

    folders: tuple[str, ...]
    name: str
    time: float = 0.0
    problem: str = ""
    inside: str = ""
    packed_at: float = 0.0
    marked: str = ""
    read: Callable[[], bytes] = field(default=bytes, repr=False, compare=False)

    @property
    def own_name(self) -> str:
        """The file's own name."""
        return self.inside.split("/")[-1] or self.name

    @property
    def lesson(self) -> str:
        """The lesson that its metadata, its checks or its name tell, in this order; or empty."""
        return self.marked or lesson_named(self.own_name)


def lesson_told(raw: bytes) -> str:
    r"""Return the lesson that a notebook's own content tells; empty if it tells none.

    Examples
    --------
    >>> lesson_told(b'"check(\\"03.attention\\", attention)"')
    '03'
    """
    if marked := EXERCISE.findall(raw):
        return str(marked[-1].decode())  # metadata stand after the cells
    if checked := Counter(CHECK.findall(raw)):  # another editor dropped the metadata
        return str(checked.most_common(1)[0][0].decode())
    return ""


def lesson_named(name: str) -> str:
    """Return the lesson that a file's name tells; empty if it tells none."""
    named = re.search(r"(?<!\d)(\d\d)_[a-z]", name)
    return named[1] if named else ""


@contextlib.contextmanager
def find_files(source: Path) -> Iterator[list[Found]]:
    """Find the files of a folder or a zip file, sorted by place; they can be read in the body.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If it is a file and not a zip file.
    """
    with contextlib.ExitStack() as opened:
        if source.is_dir():
            places = _walk(source)
        elif source.is_file():
            if not zipfile.is_zipfile(source):
                raise ValueError(f"{source} is neither a folder nor a zip file")
            places = _download(opened.enter_context(zipfile.ZipFile(source)))
        else:
            raise FileNotFoundError(2, "no such folder or zip file", str(source))
        found = [each for place in places for each in _look(place)]
        yield sorted(found, key=lambda f: (f.folders, f.name, f.inside))


# --- places ---------------------------------------------------------------------------------


def _walk(source: Path) -> Iterator[Member]:
    """Go through a folder, which may be deep, unreadable, or full of anything but files."""
    waiting: list[tuple[Path, tuple[str, ...]]] = [(source, ())]
    while waiting:
        folder, inside = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if not inside:
                raise
            yield Member(inside, "", problem=_unreadable(error))
            continue
        entries = [e for e in entries if not _ignored(e.name)]
        if not entries and inside:
            yield Member(inside, "", problem=EMPTY)
        for entry in entries:
            path = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                yield _file(path, inside)
            elif len(inside) < MOST_FOLDERS:
                waiting.append((path, (*inside, entry.name)))
            else:
                yield Member(inside, entry.name, problem="folders nested too deep")


def _file(path: Path, inside: tuple[str, ...]) -> Member:
    try:
        status = path.lstat()
    except OSError as error:
        return Member(inside, path.name, problem=_unreadable(error))
    if not stat.S_ISREG(status.st_mode):
        return Member(inside, path.name, problem=NOT_A_FILE)

    def read(most: int) -> bytes:
        """Read it, unless a link or a pipe that never ends was put there since."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(NOT_A_FILE)
            return file.read(most)

    return Member(inside, path.name, status.st_mtime, status.st_size, read=read)


def _download(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Go through a platform's own zip file; its empty folders are places too."""
    everything = [_up_to_litter(member) for member in members(archive)]
    full = {m.folders[:end] for m in everything if m.name for end in range(len(m.folders) + 1)}
    for member in everything:
        if member.name or member.problem:
            yield member
        elif member.folders and member.folders not in full:
            full.add(member.folders)
            yield replace(member, problem=EMPTY)


def _up_to_litter(member: Member) -> Member:
    """Return a member, or of one that is ignored the folder that it leaves a trace of."""
    parts = (*member.folders, member.name)
    kept = next((end for end, part in enumerate(parts) if _ignored(part)), None)
    return member if kept is None else Member(parts[:kept], "")


def _ignored(name: str) -> bool:
    return name in IGNORED or name.startswith(".")


def _unreadable(error: OSError) -> str:
    """Say why; an OSError of ours says it itself."""
    return f"cannot be read: {line(error.strerror)}" if error.strerror else str(error)


# --- what is at a place -----------------------------------------------------------------------


def _look(place: Member) -> Iterator[Found]:
    """Yield what is at a place: one file or, of a student's own archive, those in it."""
    found = Found(place.folders, place.name, place.time)
    if place.problem or not place.name.lower().endswith(".zip"):
        yield _read_once(found, place, lambda: place.read(MOST_NOTEBOOK + 1))
    elif place.size > MOST_ARCHIVE:
        yield replace(found, problem=f"a zip file of more than {MOST_ARCHIVE / 1e6:.0f} MB")
    else:
        try:
            inside = list(_unpack(found, place))
        except OSError as error:
            inside = [replace(found, problem=_unreadable(error))]
        yield from inside or [replace(found, problem="an empty zip file")]


def _read_once(found: Found, member: Member, again: Callable[[], bytes]) -> Found:
    """Read a file for the lesson that its metadata tell; `again` reads it later."""
    problem = member.problem or _refused(member)
    if problem:
        return replace(found, problem=problem, read=again)
    try:
        marked = lesson_told(member.read(MOST_NOTEBOOK + 1))
    except OSError as error:
        return replace(found, problem=_unreadable(error))
    return replace(found, marked=marked, read=again)


def _refused(member: Member) -> str:
    """Say why a file is not looked into, if so."""
    if member.name.lower().endswith(".zip"):
        return "a zip file in a zip file"
    if not NOTEBOOK.search(member.name):
        return NOT_A_NOTEBOOK
    return too_large(member.size) if member.size > MOST_NOTEBOOK else ""


def _unpack(bare: Found, place: Member) -> Iterator[Found]:
    """Yield the files of a student's own archive, reading no more of it than is allowed."""
    left, others = MOST_ARCHIVE, 0
    with open_archive(place.read(MOST_ARCHIVE), MOST_MEMBERS) as archive:
        for number, member in enumerate(members(archive)):
            hidden = any(map(_ignored, (*member.folders, member.name)))
            if hidden or not (member.name or member.problem):
                continue
            inside = "/".join((*member.folders, member.name))
            found = replace(bare, inside=inside, packed_at=member.time)
            if member.problem or _refused(member):
                others += 1
                if others <= MOST_OTHERS:
                    yield _read_once(found, member, bytes)
            elif member.size > left:
                yield replace(found, problem=f"after {MOST_ARCHIVE / 1e6:.0f} MB of this zip file")
            else:
                left -= member.size
                yield _read_once(found, member, _later(place, number))


def _later(place: Member, number: int) -> Callable[[], bytes]:
    """Return what reads one member of a student's archive, which is opened again for it."""

    def read() -> bytes:
        with open_archive(place.read(MOST_ARCHIVE), MOST_MEMBERS) as archive:
            for index, member in enumerate(members(archive)):
                if index == number:
                    return member.read(MOST_NOTEBOOK + 1)
        raise OSError("the zip file has changed")

    return read
