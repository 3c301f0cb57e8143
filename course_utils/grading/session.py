"""What only the open session had: a notebook's file compared with what a clean run of it did.

A kernel remembers what was run, in the order in which it was run; a file holds what is there now,
in the order in which it stands. Deleted cells, moved cells and forgotten imports work until the
kernel is restarted. This module finds them from the sources, the execution counts and the outputs
that were saved.
"""

import contextlib
import json
import re
import symtable
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import pairwise

IMPORTS = {
    "F": "import torch.nn.functional as F",
    "check": "from course_utils.grading import check",
    "nn": "from torch import nn",
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
}
CHECK = re.compile(r"check\(\"\d\d\.\w+\", (\w+)\)$")
MISSING_NAME = re.compile(r"name '(\w+)' is not defined")
MISSING_MODULE = re.compile(r"No module named '([\w.]+)'")
DEFINITION = re.compile(r"^(?:(?:async )?def |class )?(\w+)(?=\(|:| *=[^=])", re.MULTILINE)
RUNS_CODE = re.compile(r"^([ \t]*)%{1,2}(?:time|timeit|prun|capture)\b[ \t]*", re.MULTILINE)
OTHER_MAGIC = re.compile(r"^([ \t]*)[%!?].*", re.MULTILINE)


@dataclass(frozen=True)
class SavedCell:
    """A cell as it is in the file.

    Attributes
    ----------
    source : str
    kind : str
        ``"code"``, ``"markdown"`` or ``"raw"``.
    count : int, optional
        When it was last run: the number in brackets.
    output : str
        What it printed.
    failed : bool
        An exception is among its outputs.
    """

    source: str
    kind: str
    count: int | None = None
    output: str = ""
    failed: bool = False


def saved_cells(raw: bytes, sources: Sequence[str]) -> list[SavedCell]:
    """Return all cells of a notebook whose code cells have these sources.

    An old or odd file that grading can read tells perhaps no more than the sources.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        cells = [_saved(cell) for cell in json.loads(raw.decode("utf-8-sig"))["cells"]]
        if [cell.source for cell in cells if cell.kind == "code"] == list(sources):
            return cells
    return [SavedCell(source, "code") for source in sources]


def _saved(cell: dict) -> SavedCell:
    outputs = cell.get("outputs") or []
    return SavedCell(
        "".join(cell.get("source", "")),
        str(cell.get("cell_type")),
        cell.get("execution_count"),
        "".join("".join(output.get("text", "")) for output in outputs),
        any(output.get("output_type") == "error" for output in outputs),
    )


def bound_names(source: str) -> set[str]:
    r"""Return the names that a cell defines at its top level.

    Examples
    --------
    >>> sorted(bound_names("import numpy as np\n%time x = np.zeros(3)\ndef f(y): z = y"))
    ['f', 'np', 'x']
    """
    python = OTHER_MAGIC.sub(r"\1pass", RUNS_CODE.sub(r"\1", source).lstrip())
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        symbols = symtable.symtable(python, "cell", "exec").get_symbols()
        return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    return set(DEFINITION.findall(source))  # it does not run; what was it meant to define?


def name_of_cell(number: int, source: str) -> str:
    r"""Return words by which a person finds a code cell: its number and how it begins.

    Examples
    --------
    >>> name_of_cell(3, "# the data\nx = load()")
    'code cell 3 (`x = load()`)'
    """
    lines = [line.strip() for line in source.splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "")
    shown = first if len(first) <= 48 else f"{first[:45]}..."
    return f"code cell {number} (`{shown}`)" if shown else f"code cell {number}"


class File:
    """A notebook's code cells, and which of them failed in a clean run.

    Parameters
    ----------
    cells : sequence of SavedCell
    failures : dict of int to str
        By number of the code cell, from 1: the exception, as ``"NameError: name ..."``.
    """

    def __init__(self, cells: Sequence[SavedCell], failures: dict[int, str]) -> None:
        self.code = [cell for cell in cells if cell.kind == "code"]
        self.prose = [cell for cell in cells if cell.kind != "code"]
        self.failures = failures
        self.bound = [bound_names(cell.source) for cell in self.code]

    def called(self, number: int) -> str:
        """Return a code cell's number and beginning."""
        return name_of_cell(number, self.code[number - 1].source)

    def binding(self, name: str) -> list[int]:
        """Return the numbers of the cells that define a name."""
        return [number for number, names in enumerate(self.bound, start=1) if name in names]

    def why_missing(self, name: str, before: int | None = None) -> str:
        """Say why a name is not there in a clean run, in cell `before` or after the last cell."""
        defining = self.binding(name)
        above = [number for number in defining if before is None or number < before]
        if stopped := [number for number in above if number in self.failures]:
            return f"{self.called(stopped[0])}, which defines `{name}`, stops with an error"
        if above:
            return f"`{name}` is defined above, and then deleted, or its line is not reached"
        if defining and defining[0] == before:
            return f"`{name}` is used before the line of its own cell that defines it"
        if defining:
            return (
                f"`{name}` is defined further down, in {self.called(defining[0])}: the open "
                "session ran the cells in another order. Move that cell up"
            )
        if statement := self._import_of(name):
            return f"only the open session has imported it: add `{statement}` to a cell above"
        if any(re.search(rf"\b(?:def|class) {name}\b", cell.source) for cell in self.prose):
            return f"the cell that defines `{name}` is not a code cell any more"
        every = set().union(*self.bound)
        close = get_close_matches(name, every, 1, 0.75)
        hint = f" (`{close[0]}` is there: was it renamed?)" if close else ""
        return f"no cell of the file defines `{name}`: its cell was deleted or changed{hint}"

    @staticmethod
    def _import_of(name: str) -> str:
        if name in IMPORTS:
            return IMPORTS[name]
        with contextlib.suppress(ValueError):
            known = name in sys.stdlib_module_names or find_spec(name) is not None
            return f"import {name}" if known else ""
        return ""

    def explain(self, error: str, number: int | None = None) -> str:
        """Say what a clean run lacks that the session may have had; empty if this is not it."""
        if found := MISSING_NAME.search(error):
            return self.why_missing(found[1], number)
        if error.startswith("FileNotFoundError"):
            return "grading has none of your files: make in the notebook what it reads"
        if (found := MISSING_MODULE.search(error)) and find_spec(found[1].split(".")[0]) is None:
            return (
                f"`{found[1]}` is not installed with the course. If it is a file of yours, put its "
                "code into a cell: grading has none of your files"
            )
        return ""

    def out_of_order(self) -> str:
        """Say it if the cells were last run in another order than they stand in."""
        run = [
            (cell.count, number)
            for number, cell in enumerate(self.code, start=1)
            if cell.count is not None
        ]
        for (before, upper), (after, lower) in pairwise(run):
            if after < before:
                return (
                    "the cells were last run in another order than they stand in (code cell "
                    f"{lower} before code cell {upper}); a clean run goes from top to bottom"
                )
        return ""

    def asks_for_what_is_lost(self, number: int) -> bool:
        """Return True if a cell is a check that stops because there is no answer to check."""
        check = CHECK.match(self.code[number - 1].source.strip())
        return bool(check and self.failures[number].startswith(f"NameError: name '{check[1]}'"))

    def passed_in_session(self, item: str) -> bool:
        """Return True if a saved output says that the item's check was passed."""
        return any(f"✓ {item}: right" in cell.output for cell in self.code)

    def check_changed(self, item: str) -> str:
        """Say it if an item's check cell is not there as it was given."""
        given = f'check("{item}", {item.split(".")[1]})'
        if any(given in (line.strip() for line in cell.source.splitlines()) for cell in self.code):
            return ""
        return f"its check cell was changed or deleted (nothing is lost by that): {given}"
