"""Are two plain values equal and, if not, in what way? The general half of a diagnosis.

`difference` knows what goes wrong in any lesson: nothing returned, another shape, transposed,
a constant factor, not finite. What is typical for one exercise stands in that item's own table
of diagnoses and is asked first.
"""

import math
from dataclasses import dataclass

import numpy as np

from course_utils.grading.wire import Opaque, Plain, Tensor

# Factors that say something about a single number: twice, per cent, bits for nats.
TELLING = (2.0, 100.0, math.log(2))
VALUES = ("not_finite", "wrong_sign", "constant_factor", "wrong_value")  # of a single number


@dataclass(frozen=True)
class Difference:
    """How an answer differs.

    Attributes
    ----------
    name : str
    message : str
        The same words in every case, so that they give no hidden case away.
    detail : str
        Numbers of this case, for the student's own notebook.
    """

    name: str
    message: str
    detail: str = ""


def same(one: Plain, other: Plain, rtol: float = 1e-6, atol: float = 1e-9) -> bool:
    """Return True if two plain values are equal: the same kinds, shapes, and numbers.

    Float types of different width are equal, and so are 0-d arrays and plain numbers.
    """
    return difference(one, other, rtol, atol) is None


def difference(
    expected: Plain, got: Plain, rtol: float = 1e-6, atol: float = 1e-9
) -> Difference | None:
    """Say how `got` differs from `expected`; None if it does not.

    Examples
    --------
    >>> difference(np.array([1.0, 2.0]), np.array([2.0, 4.0])).message
    'off by a constant factor'
    >>> difference(np.zeros((2, 3)), np.zeros((3, 2))).name
    'transposed'
    >>> difference([1.0, np.array([2.0, 3.0])], [1.0, np.array([2.0, 5.0])]).detail
    'at [1][1] got 5, expected 3'
    >>> difference([0.5, 2.0], [2.0, 0.5]).message
    'the right numbers, in another order'
    """
    if got is None and expected is not None:
        return Difference("returned_none", "nothing was returned: is there a `return`?")
    if isinstance(expected, list | dict):
        return _container_difference(expected, got, rtol, atol)
    if isinstance(expected, str | bool | None):
        if type(got) is type(expected) and got == expected:
            return None
        return Difference("wrong_value", "another value is expected", f"got {show(got)}")
    one, other = _numbers(expected), _numbers(got)
    if kinds := _kind_difference(expected, got, other):
        return kinds
    assert one is not None  # its kind was compared
    assert other is not None
    return _shape_difference(one, other, rtol, atol) or _value_difference(one, other, rtol, atol)


def show(value: Plain) -> str:
    """Return a value in a few words.

    Examples
    --------
    >>> show(np.zeros((2, 3)))
    'array of shape (2, 3): 0, 0, 0, 0, ...'
    """
    numbers = _numbers(value)
    if numbers is None or numbers.ndim == 0:
        text = f"an object of type {value.type_name}" if isinstance(value, Opaque) else str(value)
        return text if len(text) < 80 else text[:77] + "..."
    kind = "tensor" if isinstance(value, Tensor) else "array"
    first = ", ".join(f"{x:.4g}" for x in numbers.ravel()[:4]) + ", ..." * (numbers.size > 4)
    return f"{kind} of shape {numbers.shape}: {first}"


def is_single(value: Plain) -> bool:
    """Return True for a plain number, also one in an array without dimensions."""
    numbers = _numbers(value)
    return numbers is not None and numbers.ndim == 0


def _numbers(value: Plain) -> np.ndarray | None:
    """Return the numbers of an array, a tensor or a plain number; None for all else."""
    if isinstance(value, Tensor):
        return value.values
    if isinstance(value, np.ndarray | int | float) and not isinstance(value, bool):
        return np.asarray(value)
    return None


def _container_difference(
    expected: list | dict, got: Plain, rtol: float, atol: float
) -> Difference | None:
    if type(got) is not type(expected):
        what = "dict" if isinstance(expected, dict) else _pair(expected) or "list or tuple"
        return Difference("wrong_type", f"a {what} is expected", f"got {show(got)}")
    if isinstance(expected, dict):
        if sorted(expected) != sorted(got):
            return Difference("wrong_keys", "the dict has other keys", f"got {sorted(got)}")
        pairs = [(expected[key], got[key], f"[{key!r}]") for key in expected]
    else:
        if len(expected) != len(got):
            if pair := _pair(expected):
                return Difference("wrong_length", f"a {pair} is expected", f"got {show(got)}")
            return Difference("wrong_length", "the list has another length", f"got {len(got)}")
        pairs = [(a, b, f"[{i}]") for i, (a, b) in enumerate(zip(expected, got, strict=True))]
    for number, (a, b, place) in enumerate(pairs):
        if b is None and a is not None and isinstance(expected, list) and len(expected) == 2:
            which = ("first", "second")[number]
            return Difference("returned_none", f"the {which} of the pair is None", f"at {place}")
        if found := difference(a, b, rtol, atol):
            if found.name in VALUES and (whole := _row_difference(expected, got, rtol, atol)):
                return whole
            # A place inside the place is written behind it, as Python would: at [1][0].
            inner = found.detail.removeprefix("at ")
            gap = "" if inner.startswith("[") else " "
            return Difference(found.name, found.message, f"at {place}{gap}{inner}".strip())
    return None


def _pair(expected: Plain) -> str:
    """Say of what a pair of unlike things consists; nothing of any other list."""
    if not isinstance(expected, list) or len(expected) != 2:
        return ""
    first, second = (_kind(each) for each in expected)
    return f"pair ({first}, {second})" if first != second else ""


def _kind(value: Plain) -> str:
    if isinstance(value, list | dict | str):
        return {list: "list", dict: "dict", str: "text"}[type(value)]
    if isinstance(value, bool | None):
        return "None" if value is None else "True or False"
    if is_single(value):
        return "number"
    return "tensor" if isinstance(value, Tensor) else "array"


def _row_difference(expected: Plain, got: Plain, rtol: float, atol: float) -> Difference | None:
    """Compare two lists of plain numbers as a whole; None if they are anything else."""
    if not isinstance(expected, list) or not isinstance(got, list):
        return None
    if not all(is_single(each) for each in (*expected, *got)):
        return None
    rows = [np.array([_numbers(each) for each in row]) for row in (expected, got)]
    return _value_difference(rows[0], rows[1], rtol, atol)


def _kind_difference(expected: Plain, got: Plain, numbers: np.ndarray | None) -> Difference | None:
    """Compare what the two are, before any number is looked at."""
    detail = f"got {show(got)}"
    if numbers is None:
        wanted = "a PyTorch tensor" if isinstance(expected, Tensor) else "a NumPy array or number"
        return Difference("wrong_type", f"{wanted} is expected", detail)
    scalar = numbers.ndim == 0
    if isinstance(expected, Tensor) != isinstance(got, Tensor) and not scalar:
        wanted = "PyTorch tensor" if isinstance(expected, Tensor) else "NumPy array"
        return Difference("wrong_type", f"a {wanted} is expected", detail)
    whole = np.asarray(_numbers(expected)).dtype.kind
    if whole == "f" and numbers.dtype.kind != "f" and not (scalar and isinstance(got, int)):
        return Difference(
            "wrong_dtype",
            "the result holds whole numbers where fractions belong: mind the dtype",
            f"dtype {numbers.dtype}",
        )
    return None


def _shape_difference(
    expected: np.ndarray, got: np.ndarray, rtol: float, atol: float
) -> Difference | None:
    if expected.shape == got.shape:
        return None
    detail = f"got shape {got.shape}, expected {expected.shape}"
    if got.ndim == 2 and got.T.shape == expected.shape:
        return Difference("transposed", "rows and columns are exchanged", detail)
    if got.size == expected.size and np.allclose(got.ravel(), expected.ravel(), rtol, atol):
        return Difference(
            "extra_dimension", "the numbers are right, in an array of another shape", detail
        )
    if got.ndim < expected.ndim:
        return Difference("lost_dimension", "a dimension was lost: summed too far?", detail)
    if got.ndim > expected.ndim:
        return Difference(
            "gained_dimension", "a dimension too many: a sum left out, or a broadcast?", detail
        )
    return Difference("wrong_shape", "the result has another shape", detail)


def _value_difference(
    expected: np.ndarray, got: np.ndarray, rtol: float, atol: float
) -> Difference | None:
    kind = expected.dtype.kind
    expected, got = expected.astype(float), got.astype(float)
    with np.errstate(all="ignore"):
        close = np.isclose(got, expected, rtol, atol, equal_nan=True)
        if close.all():
            return None
        place = tuple(int(i) for i in np.argwhere(~close)[0])
        detail = f"at {list(place)} " if place else ""
        detail += f"got {got[place]:.6g}, expected {expected[place]:.6g}"
        if not np.isfinite(got[np.isfinite(expected)]).all():
            message = "the result holds inf or nan: an overflow, or a division by zero?"
            return Difference("not_finite", message, detail)
        if np.allclose(got, -expected, rtol, atol):
            return Difference("wrong_sign", "the sign is the wrong way round", detail)
        if kind == "f" and (ratio := _factor(expected, got, atol)):
            return Difference(
                "constant_factor", "off by a constant factor", f"{detail}: factor {ratio:.4g}"
            )
        square = expected.ndim == 2 and expected.shape[0] == expected.shape[1]
        if square and np.allclose(got.T, expected, rtol, atol):
            return Difference("transposed", "rows and columns are exchanged", detail)
        offset = got - expected
        if expected.size > 1 and np.allclose(offset, offset.ravel()[0], rtol=1e-4):
            return Difference(
                "constant_offset", "off by a constant", f"{detail}: {offset.ravel()[0]:+.4g}"
            )
        distinct = expected.ndim == 1 and len(np.unique(expected)) == len(expected)
        if kind != "b" and distinct and np.allclose(np.sort(got), np.sort(expected), rtol, atol):
            return Difference("other_order", "the right numbers, in another order", detail)
    return Difference("wrong_value", "the numbers differ", detail)


def _factor(expected: np.ndarray, got: np.ndarray, atol: float) -> float:
    """Return the one factor between all numbers; 0 if there is none, or it says nothing.

    Any single number is some multiple of any other, so that only a factor with a meaning counts.
    """
    largest = np.abs(expected).argmax()
    ratio = float(got.ravel()[largest] / expected.ravel()[largest])
    if not np.isfinite(ratio) or not np.allclose(got, ratio * expected, rtol=1e-4, atol=atol):
        return 0.0
    if np.count_nonzero(expected) > 1:
        return ratio
    known = any(math.isclose(ratio, f, rel_tol=1e-4) for t in TELLING for f in (t, 1 / t))
    return ratio if known else 0.0
