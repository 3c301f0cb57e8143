"""People's own files, read as they are: CSV, TSV, JSON lines, Parquet, Excel, in any encoding.

What a file is, its first bytes say better than its name. Every cell comes as text: a label ``NA``
stays one (a missing value is an empty cell and nothing else), ``1`` and ``1.0`` of a spreadsheet
are ``1``. No file is ever written to.

Left out on purpose: repairing. A line with a cell too many, a quote that is not closed, bytes that
are no text: any repair is a guess at what somebody meant, so the error says where it stands.
"""

import difflib
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from course_utils.own_data.encodings import decode
from course_utils.own_data.textfiles import Content, read_delimited, read_json

Cell = str | list[str] | None  # a list where the file has one: several labels for a text
EXTRA = 'pip install "fine-tuning-from-scratch[tables]"'


@dataclass(frozen=True)
class Table:
    """The columns that were asked for, and where they came from.

    Attributes
    ----------
    cells : dict of str to list of (str, list of str, or None)
        Each column's cells, N each, in file order. None is an empty cell.
    path : Path
    sha256 : str
        Of the file, as it was read.
    form : str
        Such as ``"CSV, separated by ';'"``.
    encoding : str
        Of a text file; empty for others.
    columns : tuple of str
        All columns of the file.
    notes : tuple of str
        What was assumed in reading it, for a person to check.
    """

    cells: dict[str, list[Cell]] = field(repr=False)
    path: Path
    sha256: str
    form: str
    encoding: str
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.cells.values())))


def read_table(
    path: Path | str,
    wanted: Sequence[str],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> Table:
    """Read some columns of a table, whatever kind of file it is in.

    Parameters
    ----------
    path : path
    wanted : sequence of str
        Names of columns, as the file's first line has them.
    encoding, delimiter : str, optional
        Of a text file; found out if not given.
    sheet : str, optional
        Of a workbook; the first that has the columns, if not given.

    Raises
    ------
    ValueError
        If the file is not there, cannot be read, or has no such column. The message says what
        was expected, what came, and where.
    ImportError
        If a package for this kind of file is missing.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {what}: give the file that holds the table{_near(path)}")
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"{path.name} is empty")
    kind = kind_of(content, path.suffix.lower())
    if kind == "parquet":
        found = _read_parquet(content, path)
    elif kind == "excel":
        found = _read_excel(content, path, wanted, sheet)
    else:
        text, encoding, notes = decode(content, path.name, encoding)
        read = read_json if kind == "json" else read_delimited
        found = read(text, path, wanted, delimiter)
        notes = (*notes, *found.notes)
        found = Content(found.columns, found.rows, found.form, encoding, notes)
    check_columns(wanted, found.columns, path.name)
    places = {name: found.columns.index(name) for name in wanted}
    cells = {
        name: [
            as_cell(row[place] if place < len(row) else None, number, name)
            for number, row in enumerate(found.rows, start=1)
        ]
        for name, place in places.items()
    }
    if not found.rows:
        raise ValueError(f"{path.name} has a line of column names and no row below it")
    columns = tuple(found.columns)
    digits = hashlib.sha256(content).hexdigest()
    return Table(cells, path, digits, found.form, found.encoding, columns, found.notes)


def kind_of(content: bytes, suffix: str) -> str:
    """Return ``"parquet"``, ``"excel"``, ``"json"`` or ``"delimited"``, by the first bytes.

    Raises
    ------
    ValueError
        If it is a kind of file that is not read here; the message says what to do.

    Examples
    --------
    >>> kind_of(b'{"text": "fine"}', ".txt"), kind_of(b"text,label", ".csv")
    ('json', 'delimited')
    """
    if content.startswith(b"PAR1"):
        return "parquet"
    if content.startswith(b"PK\x03\x04"):  # a zip file: what a workbook is
        return "excel"
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError(
            "this is a workbook in Excel's old format, or one with a password: open it, and save "
            "it as .xlsx or CSV without a password"
        )
    packed = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"%PDF": "PDF"}
    for start, name in packed.items():
        if content.startswith(start):
            raise ValueError(f"this is a {name} file: unpack or convert it to CSV first")
    opens = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    return "json" if opens or suffix in (".json", ".jsonl", ".ndjson") else "delimited"


# --- other files --------------------------------------------------------------------------


def _read_parquet(content: bytes, path: Path) -> Content:
    try:
        frame = pd.read_parquet(io.BytesIO(content), engine="pyarrow")
    except ImportError:
        raise ImportError(f"{path.name} is a Parquet file, which needs pyarrow: {EXTRA}") from None
    except Exception as error:  # pyarrow's own, of many kinds
        raise ValueError(f"{path.name} cannot be read as Parquet: {error}") from None
    return Content([str(c) for c in frame.columns], _rows(frame), "Parquet")


def _read_excel(content: bytes, path: Path, wanted: Sequence[str], sheet: str | None) -> Content:
    try:
        sheets = pd.read_excel(
            io.BytesIO(content), sheet_name=None, dtype=object, keep_default_na=False,
            engine="openpyxl",
        )  # fmt: skip
    except ImportError:
        raise ImportError(f"{path.name} is a workbook, which needs openpyxl: {EXTRA}") from None
    except Exception as error:  # openpyxl's own, of many kinds
        raise ValueError(f"{path.name} cannot be read as a workbook: {error}") from None
    sheets = {name: frame for name, frame in sheets.items() if sheet in (None, name)}
    if not sheets:
        raise ValueError(f"{path.name} has no sheet {sheet!r}")
    heads = {name: [str(c).strip() for c in frame.columns] for name, frame in sheets.items()}
    fits = [name for name, head in heads.items() if set(wanted) <= set(head)]
    chosen = fits[0] if fits else max(heads, key=lambda name: len(heads[name]))
    others, many = ", ".join(map(repr, fits[1:])), len(fits) > 2
    said = f"sheet{'s' * many} {others} {'have' if many else 'has'} these columns too, not read"
    notes = (f"{said}: --sheet NAME chooses",) if len(fits) > 1 else ()
    frame, columns = sheets[chosen], heads[chosen]
    return Content(columns, _rows(frame), f"Excel, sheet {chosen!r}", notes=notes)


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    return [list(row) for row in frame.astype(object).itertuples(index=False, name=None)]


# --- cells and columns --------------------------------------------------------------------


def as_cell(value: Any, row: int, column: str) -> Cell:
    """Return a cell as text, a list of texts, or None if it is empty.

    Raises
    ------
    ValueError
        If it is neither text nor number nor a list of them; the message names the row.

    Examples
    --------
    >>> as_cell(2.0, 1, "label"), as_cell(float("nan"), 1, "label"), as_cell(["a", "b"], 1, "x")
    ('2', None, ['a', 'b'])
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, list | tuple | set | np.ndarray):
        found = [as_cell(item, row, column) for item in value]
        return [item for item in found if isinstance(item, str)]
    if isinstance(value, dict | bytes):
        raise ValueError(
            f"row {row} of column {column!r} must be a text, a number or a list of them, got "
            f"{type(value).__name__}: {str(value)[:60]}"
        )
    if value is None or pd.isna(value):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def check_columns(wanted: Sequence[str], columns: Sequence[str], name: str) -> None:
    """Refuse names of columns that are not there, or that stand twice.

    Raises
    ------
    ValueError
        It lists the columns that there are, and the nearest one.

    Examples
    --------
    >>> check_columns(["Text"], ["text", "stars"], "a.csv")
    Traceback (most recent call last):
    ValueError: a.csv has no column 'Text': its columns are 'text', 'stars'. Did you mean 'text'?
    """
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"the columns must be different ones, got {', '.join(map(repr, wanted))}")
    for column in wanted:
        if columns.count(column) > 1:
            raise ValueError(
                f"{name} has {columns.count(column)} columns {column!r}: rename all but one"
            )
        if column not in columns:
            names = {c.casefold(): c for c in columns}
            near = difflib.get_close_matches(column.casefold(), names, n=1)
            hint = (
                f". Did you mean {names[near[0]]!r}?" if near else ". Its first line must name them"
            )
            shown = ", ".join(repr(c[:40]) for c in columns[:30])
            raise ValueError(f"{name} has no column {column!r}: its columns are {shown}{hint}")


def _near(path: Path) -> str:
    """Name a file that may have been meant."""
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f". Did you mean {near[0]}?" if near else ""
