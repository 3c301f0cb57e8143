"""What is to be predicted: one of several classes, any number of tags, or a rating.

The labels of a column say it themselves, nearly always: numbers with decimals are ratings, lists
are tags, all else is classes. Where they could mean two things (stars from 1 to 5), the simpler
reading is taken and the sentence says how to ask for the other one.
"""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from course_utils.datasets import mend_spaces
from course_utils.own_data.tables import Cell
from course_utils.serving.rules import Kind

Label = str | tuple[str, ...] | float
MOST_NUMBERED_CLASSES = 20  # more whole numbers than that are a scale, not names


@dataclass(frozen=True)
class Goal:
    """What a model predicts for a text.

    Attributes
    ----------
    kind : {"classes", "tags", "rating"}
        One class for each text, any number of tags, or one number.
    names : tuple of str
        What each output of the model means: the classes, the tags, or ``("rating",)``.
    why : str
        Why the labels were read so, in a sentence.
    """

    kind: Kind
    names: tuple[str, ...]
    why: str

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return self.kind == "classes" and len(self.names) == 2

    def encode(self, labels: Sequence[Label]) -> np.ndarray:
        """Return labels as numbers: classes (N,), ratings (N,), tags (N, C) of 0 and 1.

        Examples
        --------
        >>> Goal("tags", ("cheap", "fast"), "").encode([("fast",), (), ("cheap", "fast")]).tolist()
        [[0, 1], [0, 0], [1, 1]]
        """
        if self.kind == "rating":
            return np.array(labels, dtype=np.float32)
        places = {name: place for place, name in enumerate(self.names)}
        if self.kind == "classes":
            return np.array([places[label] for label in labels], dtype=np.int64)  # type: ignore[index]
        encoded = np.zeros((len(labels), len(self.names)), dtype=np.int64)
        for row, tags in enumerate(labels):
            encoded[row, [places[tag] for tag in tags]] = 1  # type: ignore[union-attr]
        return encoded

    def words(self, target: np.ndarray | float) -> str:
        """Return one encoded label in words.

        Examples
        --------
        >>> Goal("tags", ("cheap", "fast"), "").words(np.array([1, 1]))
        'cheap, fast'
        """
        if self.kind == "rating":
            return f"{float(target):.2f}"
        if self.kind == "classes":
            return self.names[int(target)]
        on = [name for name, tag in zip(self.names, np.asarray(target), strict=True) if tag]
        return ", ".join(on) or "(no tag)"


def tidy(label: str) -> str:
    """Return a label without the differences nobody sees: Unicode forms, white space around it.

    Examples
    --------
    >>> tidy(" very  good ") == "very good", tidy("cafe\u0301") == "caf\u00e9"
    (True, True)
    """
    return mend_spaces(unicodedata.normalize("NFC", label))


def read_labels(
    cells: Sequence[Cell],
    kind: Kind | None = None,
    *,
    separator: str | None = None,
    merge: Mapping[str, str] | None = None,
) -> tuple[Goal, list[Label | None]]:
    """Say what the labels of a column are, and return them; None where a cell is empty.

    Parameters
    ----------
    cells : sequence of (str, list of str, or None)
    kind : {"classes", "tags", "rating"}, optional
        Found out if not given.
    separator : str, optional
        What stands between the tags in one cell.
    merge : mapping of str to str, optional
        Labels to be read as other ones: typing errors, classes too rare to be learned.

    Raises
    ------
    ValueError
        If there is no label, one does not fit the kind, or there is nothing to tell apart.

    Examples
    --------
    >>> goal, labels = read_labels(["good", "bad", None, "Good "], merge={"Good": "good"})
    >>> goal.names, labels
    (('bad', 'good'), ['good', 'bad', None, 'good'])
    """
    found = [cell for cell in cells if cell is not None]
    if not found:
        raise ValueError("the label column is empty in every row: is it the right column?")
    kind, separator, why = _kind_of(found, kind, separator)
    if kind == "rating":
        if merge:
            raise ValueError("ratings are numbers: there is nothing to merge")
        return _ratings(cells, why)
    split_cells = [_parts(cell, separator if kind == "tags" else None) for cell in cells]
    renamed = _renaming(merge or {}, {name for parts in split_cells for name in parts or ()})
    labels: list[Label | None] = []
    for row, parts in enumerate(split_cells, start=1):
        named = None if parts is None else tuple(renamed.get(name, name) for name in parts)
        if kind == "tags" or named is None:
            labels.append(named and tuple(dict.fromkeys(named)))
            continue
        if len(named) != 1:
            raise ValueError(
                f"row {row} has {len(named)} labels ({', '.join(named)}), where each text has one "
                "class: --kind tags is for texts with several"
            )
        labels.append(named[0])
    given = [(label,) if isinstance(label, str) else label for label in labels if label]
    used = {name for tags in given if isinstance(tags, tuple) for name in tags}
    names = tuple(sorted(used, key=_natural))
    if len(names) < (1 if kind == "tags" else 2):
        only = f"only one class, {names[0]!r}" if names else "no tag in any row"
        raise ValueError(
            f"there is {only}: a model learns to tell things apart, so it needs examples of two "
            "or more"
        )
    return Goal(kind, names, why), labels


def _kind_of(
    found: Sequence[str | list[str]], kind: Kind | None, separator: str | None
) -> tuple[Kind, str | None, str]:
    """Return kind, separator, and why."""
    lists = any(isinstance(cell, list) for cell in found)
    if kind == "tags" or (kind is None and (lists or separator)):
        separator = separator or (None if lists else _separator(found) or ",")
        between = f", separated by {separator!r}" if separator else ""
        return "tags", separator, f"each text has any number of tags{between}"
    if separator:
        raise ValueError(f"a separator belongs to --kind tags, got --kind {kind}")
    if kind is not None:
        return kind, None, f"{kind}, as was asked for"
    texts = [cell for cell in found if isinstance(cell, str)]
    values = [number(text) for text in texts]
    distinct = {value for value in values if value is not None}
    if None not in values:
        whole = all(float(value).is_integer() for value in distinct)
        if not whole or len(distinct) > MOST_NUMBERED_CLASSES:
            return "rating", None, "the labels are numbers, so a number is predicted"
        few = f"the labels are {len(distinct)} whole numbers, read as classes"
        more = ". Is 4 nearer to 5 than to 1? Then say --kind rating" if len(distinct) > 2 else ""
        return "classes", None, few + more
    if guessed := _separator(found):
        why = f"{guessed!r} separates tags in many labels; if it does not, say --kind classes"
        return "tags", guessed, why
    return "classes", None, "each text has one label of a few"


def _separator(found: Sequence[str | list[str]]) -> str | None:
    """Return what separates tags: it stands in many cells, and its parts recur in others.

    They also do if each such cell has a part that is all of another cell. (Of commas that is no
    sign: names and places have them.)
    """
    cells = Counter(cell for cell in found if isinstance(cell, str))
    for mark in (";", "|", ","):
        marked = sum(count for cell, count in cells.items() if mark in cell)
        parts = {tidy(part) for cell in cells for part in cell.split(mark)}
        recur = 2 * len(parts) <= len(cells) + 1 > 3
        alone = mark != "," and all(
            any(tidy(part) in cells for part in cell.split(mark)) for cell in cells if mark in cell
        )
        if marked >= 0.05 * cells.total() and (recur or alone):
            return mark
    return None


def _parts(cell: Cell, separator: str | None) -> tuple[str, ...] | None:
    if cell is None:
        return None
    pieces = cell if isinstance(cell, list) else cell.split(separator) if separator else [cell]
    return tuple(name for name in map(tidy, pieces) if name)


def _renaming(merge: Mapping[str, str], names: set[str]) -> dict[str, str]:
    renamed = {tidy(old): tidy(new) for old, new in merge.items()}
    for old in renamed:
        if old not in names:
            near = difflib.get_close_matches(old, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"there is no label {old!r} to merge{hint}")
    return renamed


def _ratings(cells: Sequence[Cell], why: str) -> tuple[Goal, list[Label | None]]:
    ratings: list[Label | None] = []
    for row, cell in enumerate(cells, start=1):
        value = number(cell) if isinstance(cell, str) else None
        if cell is not None and value is None:
            raise ValueError(
                f"row {row} has the label {cell!r}, where ratings are numbers: empty the cell, or "
                "say --kind classes"
            )
        ratings.append(value)
    if len({value for value in ratings if value is not None}) < 3:
        raise ValueError("ratings need three values or more: for two, say --kind classes")
    return Goal("rating", ("rating",), why), ratings


def number(text: str) -> float | None:
    """Return the number that a text is, also with a decimal comma; None if it is none.

    Examples
    --------
    >>> number("3,5"), number(" 4 "), number("four"), number("nan")
    (3.5, 4.0, None, None)
    """
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _natural(name: str) -> tuple[int, float, str]:
    """Sort numbers by value, before words."""
    value = number(name)
    return (1, 0.0, name) if value is None else (0, value, name)
