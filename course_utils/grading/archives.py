"""Zip files, read in memory and never unpacked: members' paths serve as names and nothing else.

A zip file is small and what is in it may be large, or says so and is not; its list of members
alone can fill a memory. So members are counted before the list is read, each is read up to the
size that it declares and no further, and the two ways of packing that everybody uses are the only
ones known.
"""

import contextlib
import io
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from course_utils.grading.words import line

NOT_A_FILE = "a link or device, not a file"
KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes to unpack
ENTRY = b"PK\x01\x02"  # each member's entry in the list begins so


@dataclass(frozen=True)
class Member:
    """One file of a folder or an archive, not read yet; a folder has no name.

    Attributes
    ----------
    folders : tuple of str
    name : str
    time : float
    size : int
        In bytes, as declared.
    problem : str
        Why it cannot be read, if so.
    read : callable
        Returns so many bytes at most, or raises an OSError that says why not.
    """

    folders: tuple[str, ...]
    name: str
    time: float = 0.0
    size: int = 0
    problem: str = ""
    read: Callable[[int], bytes] = field(default=bytes, repr=False, compare=False)


def open_archive(raw: bytes, most: int) -> zipfile.ZipFile:
    """Open a student's own zip file.

    Raises
    ------
    OSError
        If it is damaged or has more than `most` members.
    """
    if raw.count(ENTRY) > most:
        raise OSError(f"a zip file of more than {most:,} files")
    try:
        return zipfile.ZipFile(io.BytesIO(raw))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise OSError(f"a damaged zip file: {line(str(error))}") from None


def members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Yield an archive's members in their order there."""
    for info in archive.infolist():
        path = _path(info)
        parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".")]
        if not parts:
            continue
        leads_out = ".." in parts or ":" in parts[0] or path.startswith(("/", "\\"))
        name = "" if info.is_dir() else parts.pop()
        folders = tuple(part for part in parts if part != "..")
        problem = ""
        if leads_out:
            problem = "a path that leads out of its archive"
        elif stat.S_ISLNK(info.external_attr >> 16):
            problem = NOT_A_FILE
        elif info.compress_type not in KNOWN:
            problem = "packed in a way that is not deflate"
        yield Member(folders, name, _time(info), info.file_size, problem, _reader(archive, info))


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        try:
            with archive.open(info) as file:
                return file.read(min(info.file_size, most))
        except Exception as error:  # zlib, encryption, truncated: what damaged archives raise
            raise OSError(f"cannot be unpacked: {line(str(error))}") from None

    return read


def _path(info: zipfile.ZipInfo) -> str:
    """Return a member's path; UTF-8 that its writer did not declare is recognised."""
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode("utf-8")
    return info.filename


def _time(info: zipfile.ZipInfo) -> float:
    year, month, day, hour, minute, second = info.date_time
    return ((((year * 12 + month) * 31 + day) * 24 + hour) * 60 + minute) * 60.0 + second
