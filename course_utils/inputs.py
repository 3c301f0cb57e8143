"""What comes from outside, checked before it is used.

A label that is not a number ends, unchecked, deep inside a loss, in words about tensors. Here
it ends where it came in: the error names the row, says what was expected and what came, and
what to do. What has only one meaning is taken as it is (a pandas Series, a torch tensor, a
generator, True and False); what could mean two things is refused.

The other modules use these functions for their arguments. Left out on purpose: types of
objects such as models and axes, where Python's own error says enough.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any

import numpy as np

# --- one number ---------------------------------------------------------------------------


def whole_number(value: object, name: str, *, least: int | None = None) -> int:
    """Return `value` as an int; NumPy's integers pass, bools, floats and strings do not.

    Raises
    ------
    ValueError
        If it is no whole number, or below `least`.

    Examples
    --------
    >>> whole_number(np.int64(3), "seed")
    3
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def finite_number(value: object, name: str, *, least: float | None = None) -> float:
    """Return `value` as a float; NaN, infinities, bools and strings are refused.

    Examples
    --------
    >>> finite_number(2, "price", least=0)
    2.0
    """
    if getattr(value, "ndim", None) == 0:  # an array or a tensor of one number
        value = value.item()  # type: ignore[attr-defined]
    if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(float(value)):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return float(value)


def above_0(value: object, name: str) -> float:
    """Return `value` as a finite float above 0.

    Examples
    --------
    >>> above_0(2, "weight")
    2.0
    """
    try:
        number = finite_number(value, name)
    except ValueError:
        number = 0.0
    if number <= 0:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}")
    return number


def between_0_and_1(value: object, name: str) -> float:
    """Return `value` as a float above 0 and below 1.

    Examples
    --------
    >>> between_0_and_1(0.95, "level")
    0.95
    """
    number = finite_number(value, name)
    if not 0 < number < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
    return number


# --- arrays -------------------------------------------------------------------------------


def as_array(values: Any, name: str) -> np.ndarray:
    """Return a list, generator, Series or tensor as an array of one dimension or more.

    Raises
    ------
    ValueError
        If it is no sequence of rows, if rows differ in length, or if a value is missing
        (None, NaN, masked).

    Examples
    --------
    >>> as_array((n * n for n in range(3)), "squares")
    array([0, 1, 4])
    """
    if values is None or isinstance(values, str | bytes | Mapping | Set | Real):
        raise ValueError(f"{name} must be an array with one value per row, got {_short(values)}")
    if hasattr(values, "detach"):  # a torch tensor, from whatever device and graph
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    elif not hasattr(values, "__len__") and isinstance(values, Iterable):
        values = list(values)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be one array; its rows differ in shape: {error}") from None
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array with one value per row, got {_short(values)}")
    missing = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else False
    if array.dtype == object:
        missing = missing | np.vectorize(_is_missing, otypes=[bool])(array)
    elif array.dtype.kind in "fc":
        missing = missing | np.isnan(array)
    if np.any(missing):
        row = int(np.argwhere(missing)[0][0])
        raise ValueError(
            f"{name} must be complete, but row {row} is missing ({_short(array[row])}). Drop such "
            "rows, or fill them in"
        )
    return array


def numbers(values: Any, name: str) -> np.ndarray:
    """Return `as_array(values)`, of finite numbers or bools.

    Examples
    --------
    >>> numbers([1, 2.5], "ratings")
    array([1. , 2.5])
    """
    array = as_array(values, name)
    if array.dtype == object and all(isinstance(value, Real) for value in array.flat):
        array = np.array(array.tolist())  # a pandas column of mixed numbers
    if array.size and array.dtype.kind not in "biuf":
        found = next((v for v in array.flat if not isinstance(v, Real)), array.flat[0])
        raise ValueError(f"{name} must be numbers, got {_short(found)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{name} must be finite numbers, but row {row} is {_short(array[row])}")
    return array


def vector(values: Any, name: str) -> np.ndarray:
    """Return `as_array(values)`, of shape (N,) with at least one row.

    Examples
    --------
    >>> vector(["b", "a"], "labels").shape
    (2,)
    """
    array = as_array(values, name)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} must have shape (N,) and a row or more, got {array.shape}")
    return array


def probabilities_of(values: Any, name: str = "probabilities") -> np.ndarray:
    """Return numbers from 0 to 1, a single one or an array of any shape.

    Examples
    --------
    >>> probabilities_of([0.2, 1]).tolist()
    [0.2, 1.0]
    """
    single = isinstance(values, Real) or getattr(values, "ndim", 1) == 0
    array = np.asarray(values) if single else numbers(values, name)
    if array.dtype.kind not in "biuf" or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"{name} must be numbers from 0 to 1, got {_short(values)}")
    return array


def class_numbers(labels: Any, num_classes: int, name: str = "labels") -> np.ndarray:
    """Return classes (N,) from 0 to C - 1 as int64.

    Raises
    ------
    ValueError
        If there is no row or a label is not such a class; the message names its row.

    Examples
    --------
    >>> class_numbers([0, 2, 1], 3)
    array([0, 2, 1])
    """
    most = whole_number(num_classes, "num_classes", least=1) - 1
    array = vector(labels, name)
    if array.dtype.kind not in "biu":
        raise ValueError(
            f"{name} must be whole classes from 0 to {most}, but row 0 is {_short(array[0])}"
        )
    wrong = np.flatnonzero((array < 0) | (array > most))
    if len(wrong):
        raise ValueError(
            f"{name} must be whole classes from 0 to {most}, but row {wrong[0]} is "
            f"{array[wrong[0]]}"
        )
    return array.astype(np.int64)


# --- texts and their labels ---------------------------------------------------------------


def read_rows(texts: Iterable[str], labels: Any = None) -> tuple[list[str], np.ndarray]:
    """Return texts as a list and their labels as an array, row by row.

    Parameters
    ----------
    texts : iterable of str
        A list, an array, a pandas Series or a generator. An empty string is a text.
    labels : array of shape (N,), optional
        Whole numbers or bools are classes and become int64. Floats are ratings and stay
        floats, also 1.0 and 2.0. None gives zeros.

    Raises
    ------
    ValueError
        If a text is no str, a label no finite number, or their numbers differ. The message
        names the row.

    Examples
    --------
    >>> read_rows(("fine", "dull"), [True, False])
    (['fine', 'dull'], array([1, 0]))
    """
    rows = _read_texts(texts)
    if labels is None:
        return rows, np.zeros(len(rows), dtype=np.int64)
    classes_or_ratings = _read_labels(labels)
    if len(classes_or_ratings) != len(rows):
        raise ValueError(
            f"one label per text: got {len(rows)} texts and {len(classes_or_ratings)} labels"
        )
    if _is_series(texts) and _is_series(labels) and not texts.index.equals(labels.index):  # type: ignore[attr-defined]
        raise ValueError(
            "texts and labels are two Series in different order (their indexes differ): take both "
            "from one data frame, or pass texts.to_numpy() and labels.to_numpy() if row 0 does "
            "belong to row 0"
        )
    return rows, classes_or_ratings


def _read_texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str | bytes):
        raise ValueError(
            f"texts must be a sequence of str, got one {type(texts).__name__}: {_short(texts)}. "
            "For a single text give [text]"
        )
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping | Set):
        raise ValueError(f"texts must be a sequence of str in order, got {type(texts).__name__}")
    if getattr(texts, "ndim", 1) != 1:
        raise ValueError(
            f"texts must have shape (N,), got {texts.shape}: choose one column"  # type: ignore[attr-defined]
        )
    rows = list(texts)
    if not rows:
        raise ValueError("a dataset needs at least one text, got none")
    for row, text in enumerate(rows):
        if not isinstance(text, str):
            raise ValueError(f"row {row} of texts must be a str, got {_short(text)}{_advice(text)}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"row {row} of texts holds half a character ({error.reason}) in {_short(text)}: "
                "its file was read with another encoding than it was written in"
            ) from None
    return [str(text) for text in rows]


def _advice(text: object) -> str:
    if isinstance(text, bytes):
        return ": decode it, text.decode('utf-8')"
    if _is_missing(text):
        return ": a missing value. Drop such rows together with their labels, or put '' there"
    if isinstance(text, Sequence):
        return ": join it, ' '.join(text)"
    return ": is this the right column?"


def _read_labels(labels: Any) -> np.ndarray:
    if isinstance(labels, Iterable) and not hasattr(labels, "__len__"):
        labels = list(labels)
    array = as_array(labels, "labels")
    if array.ndim != 1:
        raise ValueError(
            f"labels must have shape (N,), one per text, got {array.shape}. Of one column, take "
            "labels[:, 0]; of rows with a single 1, labels.argmax(axis=1). Several labels for one "
            "text need a loss and a dataset of your own"
        )
    if array.dtype.kind in "OUSMmcV":  # not numbers, or not yet
        # Not the array's own values: among strings, NumPy makes a string of every number.
        for row, label in enumerate(labels):
            if not isinstance(label, Real):
                raise ValueError(
                    f"row {row} of labels must be a number, got {_short(label)}. {_mapping(label)}"
                )
    array = numbers(array, "labels")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            large = np.flatnonzero(~np.isfinite(array.astype(np.float32)))
        if len(large):
            raise ValueError(
                f"row {large[0]} of labels is {array[large[0]]}: too large for 32-bit floats"
            )
        return array
    return array.astype(np.int64)


def _mapping(label: object) -> str:
    """Say how labels that are not numbers become numbers."""
    if isinstance(label, str | bytes):
        try:
            float(label)
        except ValueError:
            return (
                "Classes are whole numbers from 0: names = sorted(set(labels)), then "
                "[names.index(label) for label in labels]"
            )
        return "They were read as text: [int(label) for label in labels]"
    return "Classes are whole numbers from 0, ratings are floats"


def _is_series(values: object) -> bool:
    """Return True for a pandas Series, without needing pandas."""
    return hasattr(values, "to_numpy") and hasattr(values, "index")


def _is_missing(value: object) -> bool:
    """Return True for None, NaN, NaT and pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and bool(np.isnan(float(value)))


def _short(value: object) -> str:
    """Return a value and its type in a few words."""
    words = repr(value)
    words = words if len(words) <= 60 else f"{words[:57]}..."
    return f"{words} ({type(value).__name__})"
