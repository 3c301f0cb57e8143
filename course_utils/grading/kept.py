"""What one run leaves for the next: results, each under what it depends on, and the secret seed.

Every file is written aside, whole, and then put in its place: whoever kills the grader, fills its
disk or starts two at once finds each file as it was before or as it is after, and never half of
it.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from course_utils.grading.items import answer_book
from course_utils.grading.results import ItemResult, Result, Settings
from course_utils.grading.submissions import Submission
from course_utils.system import write_atomically

OLD_S = 60.0  # nobody writes one file for so long, on this machine or on another that shares it
# They do not change a result.
LOOKS = {"command.py", "reports.py", "tables.py", "pages.py", "copies.py"}


def library_hash() -> str:
    """Return a hash of all that a result depends on besides its submission: library and answers."""
    digest = hashlib.sha256()
    for package in (Path(__file__).resolve().parent.parent, Path(*answer_book().__path__)):
        for path in sorted(package.rglob("*.py")):
            if path.name not in LOOKS:
                digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprints(
    submissions: Sequence[Submission], settings: Settings, library: str | None = None
) -> list[str]:
    """Return what each result depends on, as a hash: equal means it need not be made again."""
    library, keys = library or library_hash(), []
    for submission in submissions:
        words = asdict(submission)
        raw = hashlib.sha256(words.pop("raw")).hexdigest()
        content = [words, raw, asdict(replace(settings, hidden=())), library]
        keys.append(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())
    return keys


def result_path(folder: Path, submission: Submission) -> Path:
    """Return where a result is kept; any name makes a good file name."""
    name = f"{submission.lesson}_{submission.student}"
    readable = re.sub(r"[^\w-]+", "_", name, flags=re.ASCII)[:60]
    return folder / f"{readable}_{hashlib.sha256(name.encode()).hexdigest()[:10]}.json"


def load_result(path: Path, key: str | None) -> Result | None:
    """Return a kept result, unless what it depends on has changed (no key: even if it has)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("key") != key and key is not None:
            return None
        items = tuple(ItemResult(**item) for item in content.pop("items"))
        errors = tuple(content.pop("cell_errors"))
        return Result(**content, items=items, cell_errors=errors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save_result(path: Path, key: str, result: Result) -> None:
    """Keep a result: whole, or not at all."""
    write_whole(path, json.dumps({"key": key} | asdict(result), indent=1))


def seed(path: Path) -> int:
    """Return this grading's secret seed, drawn at its first run and kept for the next.

    Of several graders that start at once, one draws it and the others read it. An empty file is one
    that was never written: nothing was graded with it.

    Raises
    ------
    ValueError
        If the file holds something else than a number.
    """
    if not path.exists() or not path.read_bytes().strip():
        drawn = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        write_atomically(drawn, lambda file: file.write(b"%d\n" % secrets.randbits(62)))
        try:
            drawn.chmod(0o600)
            _link_once(drawn, path)
        finally:
            drawn.unlink(missing_ok=True)
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal():
        raise ValueError(f"{path} holds no number: put back the one that was there, or pass --seed")
    return int(text)


def _link_once(drawn: Path, path: Path) -> None:
    """Give a finished file its name, unless another process was first."""
    try:
        os.link(drawn, path)
    except FileExistsError:
        if not path.read_bytes().strip():
            os.replace(drawn, path)
    except OSError:  # a disk without hard links
        if not path.exists():
            os.replace(drawn, path)


def write_whole(path: Path, text: str) -> None:
    """Write a text file: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode(errors="replace")))


def sweep(folder: Path) -> None:
    """Remove what killed graders had begun to write: old files of processes that are gone."""
    for path in folder.rglob(".*.partial"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > OLD_S:
                    path.unlink()
