"""Run a command as an ordinary user, where the tests run as root; learn what it leaves behind."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_utils.grading.sandbox import namespaces

ROOT = Path(__file__).resolve().parents[2]
ORDINARY = 54_321
ADOPT_ORPHANS = 36  # prctl's PR_SET_CHILD_SUBREAPER


def as_ordinary_user(command: list[str], home: Path) -> list[str]:
    """Return the command, given to another user; `home` becomes theirs.

    Where the interpreter lies in a folder that only root may enter, it is mounted again for them
    in a mount namespace that ends with the command.
    """
    if os.geteuid() != 0:
        return command
    lines = ["set -e"]
    private = {p for place in (Path(sys.base_prefix), ROOT) for p in place.parents if closed(p)}
    for folder in sorted(private, key=lambda path: len(path.parts)):
        needed = [p for p in (Path(sys.base_prefix), ROOT) if p.is_relative_to(folder)]
        for number, place in enumerate(needed):
            lines += [f"mkdir -p {home}/{number}", f"mount --bind {place} {home}/{number}"]
        lines += [f"mount -t tmpfs -o mode=755 none {folder}"]
        for number, place in enumerate(needed):
            lines += [f"mkdir -p {place}", f"mount --bind {home}/{number} {place}"]
    user = f"--reuid={ORDINARY} --regid={ORDINARY} --clear-groups"
    lines += [f"exec setpriv {user} env HOME={home} {shlex.join(command)}"]
    for path in (home, *home.rglob("*")):
        if not path.is_symlink():
            os.chown(path, ORDINARY, ORDINARY)
    return ["unshare", "-m", "bash", "-c", "\n".join(lines)]


def closed(folder: Path) -> bool:
    """Return True if others may not pass through a folder."""
    return not folder.stat().st_mode & 0o001


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of every descendant whose own parent ends, instead of the first process.

    So what a grading run leaves behind can be told from what another run does at the same time.
    """
    namespaces._prctl(ADOPT_ORPHANS, 1)
    yield
    namespaces._prctl(ADOPT_ORPHANS, 0)
