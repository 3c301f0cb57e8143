"""What is in a notebook file: its code cells, and whether the given ones are as they were given."""

import ast
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from course_utils.grading.items import Item
from course_utils.grading.words import line

MOST_NOTEBOOK = 32_000_000
MOST_OBJECTS, MOST_COMMAS = 500_000, 8_000_000  # in its JSON: these need memory, text does not
MOST_CODE = 1_000_000
MOST_CELLS = 5_000
TICK = "✓"  # what a check that passes prints


class Corrupt(ValueError):
    """A file is not a notebook; the message says what it is."""


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
    if text.count("[") + text.count("{") > MOST_OBJECTS or text.count(",") > MOST_COMMAS:
        raise Corrupt(f"more than {MOST_OBJECTS:,} lists and objects in it: clear its outputs")
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
    if len(code) > MOST_CELLS:
        raise Corrupt(f"more than {MOST_CELLS:,} code cells")
    return code, notes


def only_code(cells: Sequence[Cell]) -> bytes:
    """Return a notebook of these cells: what is kept of a file, whose outputs may be large."""
    made = [
        {
            "cell_type": "code",
            "source": cell.source,
            "metadata": {"nbgrader": {k: v for k, v in asdict(cell).items() if k != "source"}},
        }
        for cell in cells
    ]
    return json.dumps({"cells": made}).encode()


def too_large(size: int) -> str:
    """Say that a file is too large, and what to do about it."""
    return (
        f"{size / 1e6:.0f} MB, and {MOST_NOTEBOOK / 1e6:.0f} are allowed: clear its outputs "
        "(Kernel, Restart and Clear Outputs) and hand it in again"
    )


def _decode(raw: bytes) -> tuple[str, list[str]]:
    if not raw.strip():
        raise Corrupt("an empty file")
    if len(raw) > MOST_NOTEBOOK:
        raise Corrupt(too_large(len(raw)))
    wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-8-sig", "utf-16" if wide else "cp1252"):
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
    return Cell(source, line(str(mark.get("grade_id", ""))), mark.get("locked") is True)


def given_cells_changed(cells: Sequence[Cell], items: Sequence[Item]) -> tuple[list[str], bool]:
    """Say which check cells are not as they were given, and whether that was meant to deceive.

    Nothing depends on these cells, and people copy them, delete them and turn them into text. Only
    one thing is no accident: a check that no longer checks and shows the tick of one that passed.
    """
    marked = [cell for cell in cells if cell.grade_id]
    if not marked:
        return [], False  # another editor dropped the marks
    found, forged = [], False
    for item in items:
        own = [cell for cell in marked if cell.grade_id == f"check_{item.target}"]
        expected = f'check("{item.name}", {item.target})'
        if len(own) != 1:
            found.append(f"the check of {item.name} is there {len(own)} times")
        elif not _same_code(own[0].source, expected):
            found.append(f"the check of {item.name} was changed")
        forged |= any(TICK in cell.source and "check(" not in cell.source for cell in own)
    return found, forged


def _same_code(source: str, expected: str) -> bool:
    """Return True if two cells differ at most in spaces, quotes and comments."""
    if source.strip() == expected:
        return True
    try:
        return ast.dump(ast.parse(source)) == ast.dump(ast.parse(expected))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
