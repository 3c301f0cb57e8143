"""Plain data crosses the border whole; everything else is refused."""

from __future__ import annotations

import base64
import json
import math
import os
import pickle

import numpy as np
import pytest

from course_utils.grading import wire
from course_utils.grading.compare import difference, same, show
from course_utils.grading.wire import Opaque, Tensor, WireError, dumps, live, loads, plain


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        0.1,
        math.inf,
        "é\n\x00",
        [],
        [1, [2.0, None]],
        {"a": {"b": []}},
        {"array": [1]},
        {"dict": {"opaque": "x"}},
        np.zeros((0, 3)),
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.array(1.5),
        np.array([True, False]),
        np.array([np.nan, -np.inf], dtype=np.float16),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">f8"),
        Tensor(np.ones((2, 1), np.float32), "bfloat16", True),
        Opaque("Thing"),
    ],
    ids=repr,
)
def test_round_trip(value):
    back = loads(dumps(value))
    assert type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert back.shape == value.shape
        assert back.dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back, value)
    elif isinstance(value, Tensor):
        np.testing.assert_array_equal(back.values, value.values)
        assert (back.dtype, back.requires_grad) == (value.dtype, value.requires_grad)
    else:
        assert back == value


def array(dtype="f8", shape=(1,), data=b"\0" * 8):
    return json.dumps({"array": [dtype, list(shape), base64.b64encode(data).decode()]}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 5000,
        b"[" * 30 + b"]" * 30,
        b'{"x": 1}',
        b'{"dict": [1]}',
        b'{"dict": {}, "array": []}',
        b'{"opaque": 3}',
        b'{"tensor": [1, 2, 3]}',
        array(dtype="O"),
        array(dtype="V8"),
        array(dtype="U2"),
        array(shape=(2,)),
        array(shape=(-1,)),
        array(shape=(True,)),
        array(shape=(1 << 40,)),
        array(shape=(1 << 62, 1 << 62, 0)),
        array(shape=(1,) * 9),
        array(data=b""),
        b'{"array": ["f8", [1], "not base64!!"]}',
        b'{"array": ["f8", [1], 5]}',
        b"1" * 5000,
        json.dumps([0] * (wire.MOST_VALUES + 1)).encode(),
        b" " * (wire.MOST_BYTES + 1),
        pickle.dumps(os.system),
    ],
    ids=lambda line: repr(line[:24]),
)
def test_what_is_not_plain_data_is_refused(line):
    with pytest.raises(WireError):
        loads(line)


def test_too_large_to_send_is_refused():
    with pytest.raises(WireError, match="more than"):
        dumps(np.zeros(wire.MOST_BYTES))


def test_live_objects_become_plain():
    class Sneaky(float):
        def __float__(self):
            raise RuntimeError

    loop: list = []
    loop.append(loop)
    assert plain((1, 2)) == [1, 2]
    assert plain(Sneaky()) == Opaque("Sneaky")
    assert plain({1: 2}) == Opaque("dict")
    assert plain(np.array(["a"])) == Opaque("array of <U1")
    assert plain(np.array([None])) == Opaque("array of object")
    assert "too deep" in str(plain(loop))
    dumps(plain(loop))


def test_tensors_keep_what_they_are():
    torch = pytest.importorskip("torch")
    sent = plain(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
    assert (sent.dtype, sent.requires_grad, sent.values.dtype) == ("bfloat16", True, np.float32)
    back = live(loads(dumps(sent)))
    assert back.dtype == torch.bfloat16
    assert back.requires_grad
    assert plain(torch.ones(1, dtype=torch.complex64)) == Opaque("tensor of complex64")


def test_a_sent_array_does_not_change_later():
    array = np.zeros(2)
    sent, given = plain(array), live(array)
    array += 1
    assert sent.tolist() == given.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("expected", "got", "name"),
    [
        (np.ones(3), None, "returned_none"),
        (np.ones(3), Opaque("Thing"), "wrong_type"),
        (np.ones(3), "ones", "wrong_type"),
        (np.ones(3), [1.0, 1.0, 1.0], "wrong_type"),
        (np.ones(3), Tensor(np.ones(3)), "wrong_type"),
        (Tensor(np.ones(3)), np.ones(3), "wrong_type"),
        (np.ones(3), np.ones(3, int), "wrong_dtype"),
        (np.ones((2, 3)), np.ones((3, 2)), "transposed"),
        (np.arange(4.0).reshape(2, 2), np.arange(4.0).reshape(2, 2).T, "transposed"),
        (np.ones(3), np.ones((3, 1)), "extra_dimension"),
        (np.ones(3), np.ones((3, 3)), "gained_dimension"),
        (np.ones((3, 2)), np.ones(3), "lost_dimension"),
        (np.ones(3), np.ones(4), "wrong_shape"),
        (np.ones(3), np.array([1, np.nan, 1]), "not_finite"),
        (np.arange(3.0), -np.arange(3.0), "wrong_sign"),
        (np.arange(3.0), 5 * np.arange(3.0), "constant_factor"),
        (np.arange(3.0), np.arange(3.0) + 1, "constant_offset"),
        (np.zeros(2), np.ones(2), "constant_offset"),
        (np.arange(3.0), np.array([0.0, 1, 3]), "wrong_value"),
        (1.0, 2.0, "constant_factor"),
        (0.3, 30.0, "constant_factor"),  # per cent
        (0.3, 0.3 / np.log(2), "constant_factor"),  # bits for nats
        (0.3, 0.4, "wrong_value"),  # any number is some multiple of any other
        (np.array([0.0, 0.3]), np.array([0.0, 0.4]), "wrong_value"),
        ([0.3, 0.6, 1.5], [0.1, 0.2, 0.5], "constant_factor"),
        ([0.3, 0.6, 1.5], [0.1, 0.2, 0.4], "wrong_value"),
        ([1.0, 2.0], [1.0, 4.0], "wrong_value"),  # one of them twice as large
        ([0.25, 0.5], [0.5, 0.25], "other_order"),  # a pair exchanged
        (np.array([0.25, 0.5]), np.array([0.5, 0.25]), "other_order"),
        ([2, 0, 1], [0, 1, 2], "other_order"),
        (np.array([2, 0, 1]), np.array([0, 1, 2]), "other_order"),
        (np.array([0, 1, 1]), np.array([1, 0, 1]), "wrong_value"),  # labels, and no order
        (1, 2, "wrong_value"),  # whole numbers: no factor says anything
        ([1, 2], [2, 4], "wrong_value"),
        (np.array([1, 2]), np.array([2, 4]), "wrong_value"),
        ([[0.5, 1.0], 4], [[0.5, 1.0], 8], "wrong_value"),
        ([[0.5, 1.0, 2.0], 4], [[0.5, 1.0, 2.0], None], "returned_none"),
        ([[0.5, 1.0, 2.0], 4], [0.5, 1.0, 2.0], "wrong_length"),
        ([1, 2], [1], "wrong_length"),
        ([1, 2], {"a": 1}, "wrong_type"),
        ({"a": 1}, {"b": 1}, "wrong_keys"),
        ({"a": np.ones(2)}, {"a": -np.ones(2)}, "wrong_sign"),
        ("positive", "negative", "wrong_value"),
        (True, 1, "wrong_value"),
    ],
    ids=str,
)
def test_differences_are_named(expected, got, name):
    found = difference(expected, got)
    assert found is not None
    assert found.name == name
    assert not any(c.isdigit() for c in found.message.replace("0-d", ""))
    assert show(got)


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ([[0.5], None], "the second of the pair is None"),
        ([None, 4], "the first of the pair is None"),
        ([0.5, 1.0, 2.0], "a pair (list, number) is expected"),
        (4, "a pair (list, number) is expected"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_pair_is_said(got, message):
    assert difference([[0.5], 4], got).message == message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1.0, np.array(1.0)),
        (np.float32(0.1) * np.ones(2), 0.1 * np.ones(2)),
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf])),
        (Tensor(np.array(2.0)), 2.0),
        ([np.ones(2), {"a": "b"}], [np.ones(2), {"a": "b"}]),
        (np.zeros(0), np.zeros(0)),
    ],
)
def test_what_counts_as_the_same(one, other):
    assert same(one, other)
