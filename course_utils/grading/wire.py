"""Plain data: all that may cross the border between student code and the grader.

Allowed are None, True and False, numbers, strings, lists, dictionaries with string keys, NumPy
arrays of numbers, and `Tensor`, a PyTorch tensor's numbers without PyTorch. On the border they
are JSON, arrays as base64 of their bytes. Nothing that arrives is ever executed, and what is
too large, too deep or malformed is refused with a `WireError`.

Left out on purpose: pickle, which runs code of the sender's choice while it is read.
"""

import base64
import binascii
import json
import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_BYTES = 16_000_000  # of one message
MOST_VALUES = 200_000  # numbers in arrays are not counted
MOST_MARKS = 6 * MOST_VALUES  # brackets and commas: what makes JSON large once it is read
MOST_DEPTH = 16
DTYPES = {"?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class WireError(ValueError):
    """A message is not plain data, or too large."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A PyTorch tensor as plain data.

    Attributes
    ----------
    values : ndarray
    dtype : str
        PyTorch's name, such as ``"float32"``; bfloat16 travels in float32 values.
    requires_grad : bool
    """

    values: np.ndarray
    dtype: str = ""
    requires_grad: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.dtype or str(self.values.dtype))


@dataclass(frozen=True)
class Opaque:
    """What is left of an object that is not data: the name of its type."""

    type_name: str


Plain = Any  # None | bool | int | float | str | list | dict | np.ndarray | Tensor | Opaque


# --- between live objects and plain data, beside student code -------------------------------


def plain(value: Any, depth: int = 0) -> Plain:
    """Return a value's numbers and strings; what has none becomes `Opaque`.

    Examples
    --------
    >>> plain((1, np.float64(2.0), {"a": None}))
    [1, array(2.), {'a': None}]
    >>> plain(open)
    Opaque(type_name='builtin_function_or_method')
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if depth > MOST_DEPTH:
        return Opaque("too deep")
    if kind in (list, tuple):
        return [plain(v, depth + 1) for v in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: plain(v, depth + 1) for key, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        array = np.array(value)  # a copy: later changes do not reach it
        return array if array.dtype.kind in "?biuf" else Opaque(f"array of {array.dtype}")
    torch = sys.modules.get("torch")  # where it was never imported there is no tensor
    if torch is not None and isinstance(value, torch.Tensor):
        return _plain_tensor(value)
    return Opaque(kind.__name__[:80])


def _plain_tensor(value: Any) -> Plain:
    """Copy a tensor of numbers from whatever device it is on."""
    dtype = str(value.dtype).removeprefix("torch.")
    if value.is_complex() or value.is_sparse or value.is_quantized:
        return Opaque(f"tensor of {dtype}")
    numbers = value.detach().cpu()
    numbers = numbers.float() if dtype == "bfloat16" else numbers
    return Tensor(np.array(numbers.numpy()), dtype, bool(value.requires_grad))


def live(value: Plain) -> Any:
    """Return what student code gets: copies of arrays, and `Tensor` as a PyTorch tensor."""
    if isinstance(value, list):
        return [live(v) for v in value]
    if isinstance(value, dict):
        return {key: live(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Tensor):
        import torch

        tensor = torch.tensor(value.values, dtype=getattr(torch, value.dtype))
        return tensor.requires_grad_(value.requires_grad)
    return value


# --- between plain data and bytes -------------------------------------------------------------


def dumps(value: Plain) -> bytes:
    """Return plain data as one line of JSON.

    Raises
    ------
    WireError
        If it is not plain data, or too large to be read back.
    """
    try:
        line = json.dumps(_encode(value, Budget(), 0)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"not plain data: {error}") from None
    _check_size(line)
    return line


def _check_size(line: bytes) -> None:
    """Refuse what would need far more memory than it has bytes, before it is read."""
    if len(line) > MOST_BYTES:
        raise WireError(f"{len(line):,} bytes, more than {MOST_BYTES:,}")
    if sum(map(line.count, (b"[", b"{", b","))) > MOST_MARKS:
        raise WireError(f"more than {MOST_MARKS:,} brackets and commas")


def loads(line: bytes, budget: "Budget | None" = None) -> Plain:
    """Read one line of JSON, trusting nothing in it.

    Parameters
    ----------
    line : bytes
    budget : Budget, optional
        What may still be read of several lines together.

    Raises
    ------
    WireError
        If it is malformed or exceeds a limit.

    Examples
    --------
    >>> loads(dumps({"x": np.array([1.0, 2.0]), "n": 3}))
    {'x': array([1., 2.]), 'n': 3}
    >>> loads(b"[" * 1000)
    Traceback (most recent call last):
        ...
    course_utils.grading.wire.WireError: not JSON
    """
    _check_size(line)
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise WireError("not JSON") from None
    return _decode(content, budget or Budget(), 0)


@dataclass
class Budget:
    """How many values may still be written or read, each at most so deep inside others."""

    values: int = MOST_VALUES

    def spend(self, depth: int) -> None:
        """Count one value.

        Raises
        ------
        WireError
            If it is one too many, or nested too deep.
        """
        self.values -= 1
        if self.values < 0:
            raise WireError(f"more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH + 4:
            raise WireError("nested too deep")


def _encode(value: Plain, budget: Budget, depth: int) -> Any:
    budget.spend(depth)
    if isinstance(value, list | tuple):
        return [_encode(v, budget, depth + 1) for v in value]
    if isinstance(value, dict):
        return {"dict": {str(key): _encode(v, budget, depth + 1) for key, v in value.items()}}
    if isinstance(value, np.ndarray):
        return {"array": _encode_array(value)}
    if isinstance(value, Tensor):
        return {"tensor": [_encode_array(value.values), value.dtype, value.requires_grad]}
    if isinstance(value, Opaque):
        return {"opaque": value.type_name}
    return value


def _encode_array(array: np.ndarray) -> list[Any]:
    """Return type, shape and base64 of the bytes in little-endian C order."""
    array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    dtype = array.dtype.str.lstrip("<|").replace("b1", "?")
    if dtype not in DTYPES:
        raise WireError(f"not plain data: array of {array.dtype}")
    return [dtype, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _decode(content: Any, budget: Budget, depth: int) -> Plain:
    budget.spend(depth)
    if content is None or isinstance(content, bool | int | float | str):
        return content
    if isinstance(content, list):
        return [_decode(v, budget, depth + 1) for v in content]
    match content:
        case {"dict": dict(items), **rest} if not rest:
            return {key: _decode(v, budget, depth + 1) for key, v in items.items()}
        case {"array": array, **rest} if not rest:
            return _decode_array(array)
        case {"tensor": [array, str(dtype), bool(requires_grad)], **rest} if not rest:
            return Tensor(_decode_array(array), dtype[:20], requires_grad)
        case {"opaque": str(name), **rest} if not rest:
            return Opaque(name[:80])
    raise WireError("not one of the known forms")


def _decode_array(content: Any) -> np.ndarray:
    match content:
        case [str(dtype), list(shape), str(data)] if dtype in DTYPES and len(shape) <= 8:
            pass
        case _:
            raise WireError("not an array")
    if not all(type(n) is int and 0 <= n <= MOST_BYTES for n in shape):
        raise WireError(f"not a shape: {str(shape)[:60]}")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise WireError("not base64") from None
    kind = np.dtype("<" + dtype if dtype not in ("?", "i1", "u1") else dtype)
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise WireError(f"{len(raw)} bytes for shape {shape} of {kind}")
    return np.frombuffer(raw, kind).reshape(shape).copy()
