"""Make the keys to the visible cases, which students' installations have, from the answer book.

    python -m tools.keys build        # whatever changed
    python -m tools.keys build 01     # this lesson
    python -m tools.keys check        # are they what the answer book gives? changes nothing

A file is written anew only if it differs by more than other processors do: numbers are compared
as answers are, to the item's tolerance.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from course_utils.grading import compare
from course_utils.grading.items import VISIBLE_SEED, load_items, make_key
from course_utils.grading.items import lessons as lessons_of_the_book
from course_utils.grading.visible import to_line
from course_utils.grading.wire import loads
from tools.notebooks import ROOT, write_if_changed

FOLDER = ROOT / "course_utils" / "grading" / "keys"


def path_of(lesson: str) -> Path:
    return FOLDER / f"lesson_{lesson}.jsonl"


def made(lesson: str) -> list[bytes]:
    """The lines that the answer book gives, one for each item."""
    return [to_line(make_key(item, VISIBLE_SEED)) for item in load_items(lesson)]


def differing(lesson: str, lines: list[bytes]) -> list[str]:
    """Which items of the file are not what these lines say; a missing file is all of them."""
    items = load_items(lesson)
    if not path_of(lesson).exists():
        return [item.name for item in items]
    before = path_of(lesson).read_bytes().splitlines()
    if len(before) != len(lines):
        return [item.name for item in items]
    return [
        item.name
        for item, one, other in zip(items, before, lines, strict=True)
        if one != other and not _same(loads(one), loads(other), item)
    ]


def _same(one: Any, other: Any, item: Any) -> bool:
    return compare.same(one, other, max(item.rtol, 1e-6), item.atol)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=["build", "check"])
    parser.add_argument("lessons", nargs="*", help="such as 01; all if none")
    options = parser.parse_args(arguments)
    failed = 0
    for lesson in options.lessons or lessons_of_the_book():
        lines = made(lesson)
        names = differing(lesson, lines)
        if names and options.command == "build":
            write_if_changed(path_of(lesson), b"\n".join([*lines, b""]).decode())
        failed += bool(names) and options.command == "check"
        words = f"{', '.join(names)}: {'written' if options.command == 'build' else 'differ'}"
        print(f"{lesson}  {words if names else 'in step'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
