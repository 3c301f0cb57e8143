"""Tables in text files: CSV, TSV, JSON lines; a broken line is named, never repaired.

The standard library's `csv` and `json` read them, strictly: they know the number of the line in
which something is wrong, and a person who gets that number mends it in a minute.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DELIMITERS = (",", ";", "\t", "|")
DOUBLED: dict[str, Any] = {"doublequote": True}  # "" is a quotation mark in a quoted cell
ESCAPED: dict[str, Any] = {"doublequote": False, "escapechar": "\\"}  # \" is one
NONE: dict[str, Any] = {"quoting": csv.QUOTE_NONE}  # every one is


@dataclass(frozen=True)
class Content:
    """All rows of a file, before columns are chosen.

    Attributes
    ----------
    columns : list of str
    rows : list of list
        Cells as the file has them; a row may end early.
    form : str
        What kind of file it is, in words.
    encoding : str
        Of a text file.
    notes : tuple of str
        What was assumed.
    """

    columns: list[str]
    rows: list[list[Any]]
    form: str
    encoding: str = ""
    notes: tuple[str, ...] = ()


def read_delimited(text: str, path: Path, wanted: Sequence[str], delimiter: str | None) -> Content:
    """Read CSV or TSV, its delimiter given or found out; see `tables.read_table`."""
    delimiter = delimiter or find_delimiter(text, wanted)
    if len(delimiter) != 1:
        raise ValueError(f"a delimiter is one character, got {delimiter!r}")
    refusals = []
    for quoting in _quotings(text, delimiter):
        try:
            columns, rows, short = _parse(text, delimiter, quoting)
        except ValueError as error:
            refusals.append(error)
            continue
        lines = "1 line has" if short == 1 else f"{short:,} lines have"
        notes = [f"{lines} fewer cells than the first: the rest is empty"] * bool(short)
        if quoting is NONE:
            notes.append("quotation marks were taken as part of the texts")
        name = "TSV" if delimiter == "\t" else f"CSV, separated by {delimiter!r}"
        return Content(columns, rows, name, notes=tuple(notes))
    raise ValueError(f"{path.name}, {refusals[0]}")


def _quotings(text: str, delimiter: str) -> list[dict[str, Any]]:
    """Return the ways in which quotation marks may be meant, the usual one first."""
    ways = [DOUBLED]
    # csv does not check these: a mark that is not escaped must begin or end a cell.
    inside = re.compile(rf'(?<![\\\r\n{re.escape(delimiter)}])"(?![\r\n{re.escape(delimiter)}]|$)')
    if '\\"' in text and not inside.search(text):
        ways.append(ESCAPED)
    return [*ways, NONE] if delimiter == "\t" else ways


def find_delimiter(text: str, wanted: Sequence[str]) -> str:
    r"""Return the character that separates the cells.

    It is the one with which the first line holds the wanted columns; if there is none, the one
    that makes most columns of it.

    Examples
    --------
    >>> find_delimiter("text;label\nGood, really;1", ["text", "label"])
    ';'
    """
    heads = {d: _head(text, d) for d in DELIMITERS}
    found = {d: (len(set(wanted) & set(head)), len(head)) for d, head in heads.items()}
    return max(found, key=lambda d: found[d])


def _head(text: str, delimiter: str) -> list[str]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    with _long_cells():  # a quotation mark that is not closed: the head is all of the file
        return [name.strip() for name in next((row for row in lines if row), [])]


def _parse(
    text: str, delimiter: str, quoting: dict[str, Any]
) -> tuple[list[str], list[list[str]], int]:
    """Return column names, rows, and how many rows were too short."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, **quoting)
    rows, columns, short, started = list[list[str]](), list[str](), 0, 1
    with _long_cells():
        try:
            for row in reader:
                if not columns:
                    columns = [name.strip() for name in row]
                elif len(row) > len(columns):
                    raise ValueError(
                        f"line {started}: {len(row)} cells, where the first line has "
                        f"{len(columns)}. A text that holds the separator {delimiter!r} must stand "
                        f'in quotation marks: "..."'
                    )
                elif row:
                    rows.append(row)
                    short += len(row) < len(columns)
                started = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f"line {started}: the quotation marks do not fit ({error}). A quotation mark "
                'inside of a quoted text is written twice: "a ""good"" film"'
            ) from None
    return columns, rows, short


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let a cell be as long as a book; the csv module's own limit is 131,072 letters."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_json(text: str, path: Path, wanted: Sequence[str], delimiter: str | None) -> Content:
    """Read a JSON object in each line, or one list of objects."""
    records: list[Any] = []
    if text.lstrip().startswith("["):
        try:
            records = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path.name} is no JSON: {error}") from None
        form = "JSON, a list"
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    records.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(
                        f"{path.name}, line {number} is no JSON: {error}. JSON lines have one "
                        'object in each line: {"text": "...", "label": "..."}'
                    ) from None
        form = "JSON lines"
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise ValueError(
                f"{path.name}, row {number} must be an object with names and values, "
                f'{{"text": "...", "label": "..."}}, got {type(record).__name__}'
            )
    columns = list(dict.fromkeys(name for record in records for name in record))
    return Content(columns, [[r.get(name) for name in columns] for r in records], form)
