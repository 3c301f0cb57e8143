"""People's own data: what has one meaning is taken, and what is wrong is named with its row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course_utils.batching import TokenizedDataset
from course_utils.inputs import (
    as_array,
    class_numbers,
    finite_number,
    numbers,
    probabilities_of,
    read_rows,
    vector,
    whole_number,
)
from course_utils.models import load_tokenizer

pandas = pytest.importorskip("pandas")
TEXTS = ["fine", "dull", "a good film"]
NAN = float("nan")


# --- texts and labels that are taken ----------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pandas.Series(TEXTS, index=[7, 7, 2]),
        pandas.Series(TEXTS, dtype="string"),
        (text for text in TEXTS),
        dict.fromkeys(TEXTS).keys().__iter__(),
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_any_sequence_of_texts_is_taken_in_its_order(texts):
    rows, labels = read_rows(texts)
    assert rows == TEXTS
    assert {type(row) for row in rows} == {str}, "also where NumPy has a str of its own"
    assert labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "expected", "kind"),
    [
        ([2, 0, 1], [2, 0, 1], "i"),
        ((2, 0, 1), [2, 0, 1], "i"),
        (range(3), [0, 1, 2], "i"),
        (iter([2, 0, 1]), [2, 0, 1], "i"),
        (np.array([2, 0, 1], dtype=np.uint8), [2, 0, 1], "i"),
        (np.array([2, 0, 1], dtype=object), [2, 0, 1], "i"),
        (torch.tensor([2, 0, 1]), [2, 0, 1], "i"),
        ([True, False, True], [1, 0, 1], "i"),
        (torch.tensor([True, False, True]), [1, 0, 1], "i"),
        (pandas.Series([2, 0, 1], index=[1, 2, 0]), [2, 0, 1], "i"),
        (pandas.Series([2, 0, 1], dtype="Int64"), [2, 0, 1], "i"),
        (pandas.Series(["b", "a", "c"], dtype="category").cat.codes, [1, 0, 2], "i"),
        ([2.0, 0.0, 1.0], [2.0, 0.0, 1.0], "f"),  # floats are ratings, whole or not
        ([2, 0, 0.5], [2.0, 0.0, 0.5], "f"),
        (np.array([2, 0, 0.5], dtype=object), [2.0, 0.0, 0.5], "f"),
        (np.float32([2.5, 0, 1]), [2.5, 0, 1], "f"),
        (torch.tensor([2.5, 0, 1], requires_grad=True), [2.5, 0, 1], "f"),
        (torch.tensor([2.5, 0, 1], dtype=torch.bfloat16), [2.5, 0, 1], "f"),
        (np.ma.masked_array([2, 0, 1], mask=[0, 0, 0]), [2, 0, 1], "i"),
    ],
)
def test_labels_with_one_meaning_are_taken(labels, expected, kind):
    _, found = read_rows(TEXTS, labels)
    assert found.tolist() == expected
    assert found.dtype.kind == kind
    assert kind == "f" or found.dtype == np.int64


def test_32_bit_ratings_stay_32_bit():
    assert read_rows(TEXTS, np.float32([1.5, 2, 3]))[1].dtype == np.float32


def test_two_series_of_one_frame_belong_together_in_any_order():
    frame = pandas.DataFrame({"text": TEXTS, "label": [0, 1, 2]}).iloc[[2, 0, 1]]
    assert read_rows(frame.text, frame.label)[1].tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="two Series in different order"):
        read_rows(frame.text, frame.label.sort_index())
    by_place = read_rows(frame.text.to_numpy(), frame.label.sort_index().to_numpy())
    assert by_place[1].tolist() == [0, 1, 2]


def test_an_empty_text_stays_a_row():
    data = TokenizedDataset(["fine", "", " \n"], [1, 0, 1], load_tokenizer())
    assert data.lengths().tolist() == [3, 2, 2]
    assert data.labels.tolist() == [1, 0, 1]


# --- texts and labels that are refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one text, got none"),
        (np.array([]), "at least one text, got none"),
        (iter([]), "at least one text, got none"),
        ("fine", r"a sequence of str, got one str: 'fine' .* give \[text\]"),
        (b"fine", "a sequence of str, got one bytes"),
        (None, "in order, got NoneType"),
        (3, "in order, got int"),
        ({"a": "fine"}, "in order, got dict"),
        ({"fine", "dull"}, "in order, got set"),
        (np.array("fine"), r"shape \(N,\), got \(\)"),
        (np.array([["a", "b"]]), r"shape \(N,\), got \(1, 2\): choose one column"),
        (pandas.DataFrame({"text": TEXTS}), r"shape \(N,\), got \(3, 1\): choose one column"),
        (["fine", None], "row 1 of texts must be a str, got None .* missing value"),
        (["fine", NAN], "row 1 of texts must be a str, got nan .* missing value"),
        (pandas.Series(["fine", None]), "row 1 of texts must be a str, got .* missing value"),
        (pandas.Series(["fine", pandas.NA]), "row 1 of texts must be a str, got .* missing value"),
        (["fine", b"dull"], r"row 1 of texts must be a str, got b'dull' .*decode\('utf-8'\)"),
        (["fine", 4], "row 1 of texts must be a str, got 4 .*right column"),
        (np.arange(3), "row 0 of texts must be a str, got .*right column"),
        (["fine", ["a", "b"]], r"row 1 of texts must be a str, got \['a', 'b'\].*join"),
        ([("a", "b")], r"row 0 of texts must be a str, got \('a', 'b'\).*join"),
        (["fine", "caf\udce9"], "row 1 of texts holds half a character .*another encoding"),
    ],
)
def test_texts_that_are_none_are_named_with_their_row(texts, message):
    with pytest.raises(ValueError, match=message):
        TokenizedDataset(texts, None, load_tokenizer())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["pos", "neg", "pos"],
            r"row 0 of labels must be a number, got 'pos' \(str\).*names.index",
        ),
        ([1, 0, "neg"], r"row 2 of labels must be a number, got 'neg' \(str\).*names.index"),
        (["1", "0", "1"], r"row 0 of labels .* got '1' \(str\).*read as text: \[int\(label\)"),
        (np.array(["pos", "neg", "pos"]), r"row 0 of labels must be a number.*names.index"),
        (pandas.Series(["a", "b", "a"]), r"row 0 of labels must be a number.*names.index"),
        (pandas.Categorical(["a", "b", "a"]), r"row 0 of labels must be a number.*names.index"),
        ([b"1", b"0", b"1"], "row 0 of labels must be a number"),
        ("101", "labels must be an array with one value per row, got '101'"),
        (1, "labels must be an array with one value per row, got 1"),
        ({0: 1}, "labels must be an array with one value per row"),
        (torch.tensor(1), "labels must be an array with one value per row"),
        ([1, None, 0], "labels must be complete, but row 1 is missing"),
        ([1, 0, NAN], r"labels must be complete, but row 2 is missing \(.*nan"),
        ([1, 0, np.float32("nan")], "labels must be complete, but row 2 is missing"),
        (torch.tensor([1, NAN, 0]), "labels must be complete, but row 1 is missing"),
        (pandas.Series([1, None, 0]), "labels must be complete, but row 1 is missing"),
        (pandas.Series([1, None, 0], dtype="Int64"), "must be complete, but row 1"),
        (np.ma.masked_array([1, 0, 1], mask=[0, 0, 1]), "labels must be complete, but row 2"),
        (np.ma.masked_array([1, NAN, 1], mask=[0, 0, 0]), "labels must be complete, but row 1"),
        ([1, float("inf"), 0], "labels must be finite numbers, but row 1 is .*inf"),
        ([1.5, 1e300, 0], "row 1 of labels is 1e.300: too large for 32-bit"),
        ([1 + 2j, 0, 1], "row 0 of labels must be a number"),
        (np.array(["2020-01-01"] * 3, dtype="M8[D]"), "row 0 of labels must be a number"),
        ([[1], [0], [1]], r"shape \(N,\), one per text, got \(3, 1\).*labels\[:, 0\]"),
        (np.eye(3), r"shape \(N,\), one per text, got \(3, 3\).*argmax"),
        ([[1, 2], [0], [1]], "labels must be one array; its rows differ in shape"),
        (pandas.DataFrame({"label": [1, 0, 1]}), r"shape \(N,\), one per text, got \(3, 1\)"),
        ([1, 0], "one label per text: got 3 texts and 2 labels"),
        ([], "one label per text: got 3 texts and 0 labels"),
    ],
)
def test_labels_that_are_none_are_named_with_their_row(labels, message):
    with pytest.raises(ValueError, match=message):
        TokenizedDataset(TEXTS, labels, load_tokenizer())


def test_an_error_quotes_a_little_of_a_long_value():
    with pytest.raises(ValueError, match=r"row 0") as error:
        read_rows([["word"] * 10_000])
    assert len(str(error.value)) < 200


# --- one number, one array --------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_whole_numbers_of_every_make_are_taken(value):
    assert whole_number(value, "seed") == 3
    assert type(whole_number(value, "seed")) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], NAN])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="size must be a whole number, got"):
        whole_number(value, "size")


def test_limits_are_inclusive():
    assert whole_number(1, "size", least=1) == 1
    assert finite_number(0, "price", least=0) == 0.0
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        whole_number(0, "size", least=1)
    with pytest.raises(ValueError, match="price must be at least 0, got -1"):
        finite_number(-1, "price", least=0)


@pytest.mark.parametrize("value", [NAN, float("inf"), "1", None, True, [1.0], 1j])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="price must be a finite number, got"):
        finite_number(value, "price")


@pytest.mark.parametrize(
    ("check", "values", "message"),
    [
        (as_array, None, "an array with one value per row"),
        (as_array, ["a", None], "row 1 is missing"),
        (as_array, [[1.0, 2.0], [3.0, NAN]], "row 1 is missing"),
        (numbers, ["a", "b"], "must be numbers, got"),
        (numbers, [[1.0, np.inf]], "must be finite numbers, but row 0 is"),
        (numbers, np.array([1, "a"], dtype=object), "must be numbers, got 'a'"),
        (vector, [], r"shape \(N,\) and a row or more, got \(0,\)"),
        (vector, [[1]], r"shape \(N,\) and a row or more, got \(1, 1\)"),
        (probabilities_of, [0.5, 1.01], "numbers from 0 to 1"),
        (probabilities_of, -0.1, "numbers from 0 to 1"),
        (probabilities_of, NAN, "numbers from 0 to 1"),
        (probabilities_of, "0.5", "one value per row"),
    ],
)
def test_arrays_that_are_wrong_are_refused(check, values, message):
    with pytest.raises(ValueError, match=message):
        check(values, "values")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "from 0 to 1, but row 2 is 2"),
        ([0, -1], "from 0 to 1, but row 1 is -1"),
        ([0.0, 1.0], "from 0 to 1, but row 0 is"),
        (["a", "b"], "from 0 to 1, but row 0 is"),
        ([], "a row or more"),
        ([0, None], "row 1 is missing"),
    ],
)
def test_classes_are_whole_and_within_their_number(labels, message):
    with pytest.raises(ValueError, match=message):
        class_numbers(labels, 2)
    with pytest.raises(ValueError, match="num_classes must be"):
        class_numbers([0, 1], 0)
