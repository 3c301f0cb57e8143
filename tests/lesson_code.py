"""The code of a lesson, executed as it is or with a mistake in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from course_utils.claims import ClaimError
from tools.notebooks import ROOT, code_cells, tags, to_notebook


def code_of(lesson: str) -> list[str]:
    """The code cells of a lesson, without those that are meant to fail."""
    source = ROOT / "notebooks" / "source" / f"{lesson}.md"
    cells = code_cells(to_notebook(source.read_text(encoding="utf-8")))
    return [cell.source for cell in cells if "raises-exception" not in tags(cell)]


def between(cells: Sequence[str], first: str, last: str) -> list[str]:
    """The cells from the first one that has `first` to the first one that has `last`."""
    start = next(n for n, cell in enumerate(cells) if first in cell)
    end = next(n for n, cell in enumerate(cells) if last in cell)
    return list(cells[start : end + 1])


def with_mistake(cells: Sequence[str], correct: str, broken: str) -> list[str]:
    """The cells with one piece of code replaced; it must stand there exactly once."""
    found = sum(cell.count(correct) for cell in cells)
    assert found == 1, f"{correct!r} is there {found} times: bring this test up to date"
    return [cell.replace(correct, broken) for cell in cells]


def run(cells: Sequence[str], names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Execute cells in order, with some names known before; return all names."""
    names = {"__name__": "lesson"} | (names or {})
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"In [{number}]", "exec", dont_inherit=True), names)
    return names


def failing_claim(cells: Sequence[str], names: dict[str, Any] | None = None) -> str:
    """What the claim says that fails when the cells are executed; one has to."""
    with pytest.raises(ClaimError, match="not true here") as failure:
        run(cells, names)
    return str(failure.value)
