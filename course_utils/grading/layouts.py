r"""Who handed in what: read from the outermost name of a place, as each platform writes it.

| platform | name | from |
|---|---|---|
| Canvas | ``lovelaceada_LATE_4711_9001_01_gradients-1.ipynb`` | name, user, upload, file |
| Canvas, anonymous | ``anon_x7Kp2_9001_01_gradients.ipynb`` | |
| Moodle | ``Ada Lovelace_4711_assignsubmission_file_/01_gradients.ipynb`` | or one flat name |
| Gradescope | ``submission_9001/`` | names in ``submission_metadata.yml`` beside it |
| nbgrader, by hand | ``ada/ps1/01_gradients.ipynb`` | the folder's name |
| by hand | ``ada_01_gradients.ipynb``, ``ada.zip`` | what is left of the file's name |

Canvas: ``content_zipper.rb`` of canvas-lms; Moodle: ``mod/assign/classes/downloader.php``. Both
take care that a user's name cannot look like the number behind it, so the first match is the
platform's and all after it may be the student's.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from course_utils.grading.files import NOTEBOOK, Found
from course_utils.grading.words import line

CANVAS = re.compile(r"(?P<name>.+?)_(?P<late>LATE_)?(?P<id>\d+)_(?P<upload>\d+)_(?P<file>.+)", re.S)
ANONYMOUS = re.compile(r"(?P<late>LATE_)?(?P<name>anon_[A-Za-z0-9]+)_(?P<upload>\d+)_(?P<file>.+)")
TYPED = re.compile(r"(?P<name>.+?)_(?P<late>LATE_)?(?P<id>\d+)_(?P<file>text|link)\.html")
MOODLE = re.compile(
    r"(?P<name>.+?)(?:_(?P<id>\d+))?_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?", re.S
)
GRADESCOPE = re.compile(r"submission_(?P<id>\d+)")
METADATA = "submission_metadata.yml"
BROWSER = re.compile(r"(?: \(\d+\)| - Copy| copy)+$")  # names of copies that nobody chose
COPY = re.compile(r"(?: \((\d+)\)|-(\d+)| - Copy| copy)?$")
LESSON = re.compile(r"(?<!\d)\d\d_[a-z]+(?:_[a-z]+)*?(?=[_-][A-Z0-9]|[-]|$)")


@dataclass(frozen=True)
class Owner:
    """Whose a place is.

    Attributes
    ----------
    key : str
        Equal for one student and for nobody else.
    name : str
        As it is shown; others may have the same.
    platform_id : str
        The student's number on the platform, where the name tells it.
    """

    key: str
    name: str
    platform_id: str = ""


def owner(place: Found, names: Mapping[str, str]) -> Owner:
    """Return whose a place is; what a student packed into it is not looked at.

    `names` are those of Gradescope's folders, see `download`.
    """
    outermost = place.folders[0] if place.folders else place.name
    if match := _platform(outermost, bool(place.folders)):
        fields = match.groupdict()
        return _owner(fields["name"], fields.get("id") or "")
    if place.folders:
        plain = _owner(outermost)
        return replace(plain, name=names.get(outermost, plain.name))
    stem = BROWSER.sub("", stem_of(outermost))
    bare = LESSON.sub("", stem).strip("_- ")
    return _owner(bare or stem_of(outermost))


def _platform(name: str, is_folder: bool) -> re.Match[str] | None:
    """Match a name as Moodle or, if it is a file's, as Canvas writes it."""
    if match := MOODLE.fullmatch(name):
        return match
    if is_folder and not (NOTEBOOK.search(name) or name.lower().endswith(".zip")):
        return None
    return ANONYMOUS.fullmatch(name) or CANVAS.fullmatch(name) or TYPED.fullmatch(name)


def _owner(name: str, number: str = "") -> Owner:
    whole = unicodedata.normalize("NFC", name)
    return Owner(f"{whole}\0{number}", line(whole, 120) or "?", number)


def is_late(place: Found) -> bool:
    """Return True if Canvas marks the place as handed in late."""
    match = _platform(place.folders[0] if place.folders else place.name, bool(place.folders))
    return bool(match and match.groupdict().get("late"))


def order(found: Found) -> tuple[object, ...]:
    """Return what sorts one student's attempts, the last of which counts.

    What the platform says comes first: number of the upload, time, number of the copy. Then a
    notebook as it is before one in an archive. Times inside an archive are the student's own
    word, and decide among the files of that archive only.
    """
    upload = 0
    if not found.folders and (match := _platform(found.name, False)):
        upload = int(match.groupdict().get("upload") or 0)
    outside = (upload, found.time, _copy(found.name), not found.inside)
    path = "/".join((*found.folders, found.name))
    return (*outside, path, found.packed_at, _copy(found.own_name), found.inside)


def _copy(name: str) -> int:
    match = COPY.search(stem_of(name))
    return next((int(n[:9]) for n in match.groups() if n), 0) if match else 0


def stem_of(name: str) -> str:
    """Return a file's name without its ending."""
    return NOTEBOOK.sub("", name) if NOTEBOOK.search(name) else PurePosixPath(name).stem


def download(
    files: Sequence[Found], known: Collection[str] = ()
) -> tuple[list[Found], dict[str, str]]:
    """Return the files without the folders a download was wrapped in, and Gradescope's names.

    A folder is a wrapping if everything is in it, and in folders in it; not if it is a student's,
    who is `known` or named as a platform names students.
    """
    while tops := {file.folders[:1] for file in files}:
        top = next(iter(tops))
        student = top and (line(top[0]) in known or _platform(top[0], True))
        deeper = all(len(f.folders) > 1 or f.name == METADATA for f in files)
        if len(tops) > 1 or not top or student or GRADESCOPE.fullmatch(top[0]) or not deeper:
            break
        files = [replace(file, folders=file.folders[1:]) for file in files]
    names: dict[str, str] = {}
    for file in files:
        if not file.folders and file.name == METADATA:
            names = _submitters(file)
    return [file for file in files if file.folders or file.name != METADATA], names


def _submitters(file: Found) -> dict[str, str]:
    """Return the names of those who handed in together, by folder; none if it cannot be read."""
    import yaml

    try:
        content = yaml.load(file.read(), yaml.CBaseLoader)
        return {
            folder: ", ".join(line(one[":name"]) for one in entry[":submitters"])
            for folder, entry in content.items()
            if GRADESCOPE.fullmatch(folder)
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeError):
        return {}
