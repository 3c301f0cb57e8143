"""What labels are, which rows can be used, and what an audit points out: each with its rows."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from course_utils.models import load_tokenizer
from course_utils.own_data.audit import audit
from course_utils.own_data.cleaning import Row, drop_rare, usable_rows, what_stops
from course_utils.own_data.goals import Goal, read_labels
from course_utils.own_data.label_looks import shared_between_groups
from course_utils.own_data.parts import OwnSplits
from course_utils.splits import SealedTestError
from tests.own_tables import reviews

BINARY = Goal("classes", ("bad", "good"), "")
MANY_TAGS = ["cheap;fast", "fast", "cheap", "slow;cheap", "slow", "fast;slow", "cheap;fast;slow"]


# --- goals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind", "names"),
    [
        (["good", "bad", " good "], "classes", ("bad", "good")),
        (["1", "0", "1"], "classes", ("0", "1")),
        (["10", "9", "8"], "classes", ("8", "9", "10")),  # by value, not by letters
        (["1.5", "2", "3,25"], "rating", ("rating",)),
        ([str(i) for i in range(30)], "rating", ("rating",)),
        ([["a", "b"], ["a"], []], "tags", ("a", "b")),
        (MANY_TAGS, "tags", ("cheap", "fast", "slow")),
        (["New York, NY", "Paris, TX", "Rome, GA", "New York, NY"], "classes", None),
        (["good"] * 10 + ["bad"] * 9 + ["good;plot"], "tags", ("bad", "good", "plot")),
        (["Paris"] * 10 + ["Rome"] * 9 + ["Paris, TX"], "classes", ("Paris", "Paris, TX", "Rome")),
        (["yes; of course", "no", "yes; of course"], "classes", ("no", "yes; of course")),
        (["cafe\u0301", "caf\u00e9", "tea"], "classes", ("café", "tea")),
    ],
)
def test_what_labels_are_is_found_out(cells, kind, names):
    goal, labels = read_labels(cells)
    assert goal.kind == kind
    assert names is None or goal.names == names
    assert len(labels) == len(cells)


def test_what_was_asked_for_is_taken():
    assert read_labels(["1", "2", "3", "4"], "rating")[1] == [1.0, 2.0, 3.0, 4.0]
    assert read_labels(["1.5", "2.5", "1.5"], "classes")[0].names == ("1.5", "2.5")
    goal, labels = read_labels(["a b", "b", None, "a"], "tags", separator=" ")
    assert goal.names == ("a", "b")
    assert labels == [("a", "b"), ("b",), None, ("a",)]
    assert "--kind rating" in read_labels(["1", "2", "3"])[0].why
    assert "--kind" not in read_labels(["0", "1", "0"])[0].why


@pytest.mark.parametrize(
    ("cells", "how", "sentence"),
    [
        ([None, None], {}, "label column is empty in every row"),
        (["a", "a"], {}, "only one class, 'a'"),
        ([[], []], {}, "no tag in any row"),
        (["1", "2", "x"], {"kind": "rating"}, "row 3 has the label 'x', where ratings are numbers"),
        (["1", "1", "2"], {"kind": "rating"}, "three values or more"),
        ([["a", "b"], ["a"]], {"kind": "classes"}, "row 1 has 2 labels .a, b.*--kind tags"),
        (["a", "b"], {"merge": {"aa": "b"}}, "no label 'aa' to merge; did you mean 'a'"),
        (["1.5", "2", "3"], {"merge": {"2": "3"}}, "nothing to merge"),
        (["a", "b"], {"kind": "classes", "separator": ";"}, "separator belongs to --kind tags"),
    ],
)
def test_labels_that_cannot_be_are_refused(cells, how, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_labels(cells, **how)


# --- cleaning -----------------------------------------------------------------------------


def test_ratings_of_one_text_are_averaged_and_tags_compared_as_sets():
    rating = Goal("rating", ("rating",), "")
    rows, _ = usable_rows(["Fine.", "fine", "dull"], [1.0, 2.0, 5.0], rating)
    assert [(row.number, row.label) for row in rows] == [(1, 1.5), (3, 5.0)]
    tags = Goal("tags", ("a", "b"), "")
    rows, findings = usable_rows(["x", "X!", "y", "y"], [("a", "b"), ("b", "a"), ("a",), ()], tags)
    assert [row.number for row in rows] == [1]
    assert [(f.title, f.rows) for f in findings] == [
        ("repeated texts", (2,)),
        ("conflicting labels", (3, 4)),
    ]


def test_a_column_of_lists_is_no_column_of_texts():
    with pytest.raises(ValueError, match="row 1 of the text column is a list"):
        usable_rows([["a"]], ["x"], BINARY)
    with pytest.raises(ValueError, match="none of the 2 rows has both"):
        usable_rows([None, "a"], ["x", None], BINARY)


def rows_of(pairs: list[tuple[str, str]], group=lambda i: f"row {i}") -> list[Row]:
    return [Row(i, text, label, group(i)) for i, (text, label) in enumerate(pairs, start=1)]


def named(*counts: int) -> tuple[list[Row], Goal]:
    """Rows with so many of each class."""
    labels = [f"c{i}" for i, count in enumerate(counts) for _ in range(count)]
    names = tuple(f"c{i}" for i in range(len(counts)))
    return rows_of([(f"text {i}", label) for i, label in enumerate(labels)]), Goal(
        "classes", names, ""
    )


@pytest.mark.parametrize(
    ("counts", "title", "sentence"),
    [
        ((6, 6), "too few rows", "12 usable rows, where .* need 50 or more"),
        ((60, 0), "one class", "all usable rows have one class, 'c0'"),
        ((60, 5), "rare classes", r"'c1' \(5\)"),
        ((1,) * 60, "too many labels", "60 different labels in 60 rows: are these classes"),
    ],
)
def test_what_cannot_work_is_said(counts, title, sentence):
    rows, goal = named(*counts)
    found = {f.title: f for f in what_stops(rows, goal)}
    assert title in found
    assert all(f.weight == "stop" for f in found.values())
    assert re.search(sentence, found[title].sentence)


def test_what_can_work_is_not_stopped():
    assert what_stops(*named(42, 8)) == []


def test_rare_labels_can_be_left_out():
    rows, goal = drop_rare(*named(50, 3, 20))
    assert goal.names == ("c0", "c2")
    assert {row.label for row in rows} == {"c0", "c2"}
    tags = Goal("tags", ("a", "b"), "")
    many = [Row(i, f"t {i}", ("a", "b") if i < 3 else ("a",), "") for i in range(60)]
    rows, goal = drop_rare(many, tags)
    assert goal.names == ("a",)
    assert len(rows) == 60
    assert all(row.label == ("a",) for row in rows)


# --- looks --------------------------------------------------------------------------------


def titles(rows: list[Row], goal: Goal = BINARY, **how) -> dict[str, tuple[int, ...]]:
    found = audit(rows, goal, load_tokenizer(), total=len(rows), **how)
    return {finding.title: finding.rows for finding in found.findings}


def test_sound_data_give_no_warning():
    assert set(titles(rows_of(reviews(500)))) == set()


def replaced(text: str | None = None, label: str | None = None) -> list[Row]:
    """Sound rows, but for the last: row 500."""
    pairs = reviews(500)
    pairs[-1] = (text or pairs[-1][0], label or pairs[-1][1])
    return rows_of(pairs)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("unreadable texts", "这个产品非常好用我很喜欢"),
        ("cut texts", "word " * 300),
        ("very long texts", "word " * 2000),
        ("empty of words", "?! ..."),
        ("spoilt letters", "Le cafÃ© Ã©tait bon"),
        ("spoilt letters", "The caf\ufffd was fine"),
        ("HTML", "Salt &amp; pepper <br/> fine"),
    ],
)
def test_odd_texts_are_found_with_their_row(title, text):
    rows = replaced(text)
    assert titles(rows[-100:])[title] == (500,)
    assert title not in titles(rows[-100:-1])


def test_a_chinese_table_is_said_to_be_unreadable():
    pairs = [(f"这个产品非常好用第{i}次购买很喜欢", ("good", "bad")[i % 2]) for i in range(100)]
    found = audit(rows_of(pairs), BINARY, load_tokenizer(), total=100)
    [finding] = [f for f in found.findings if f.title == "unreadable texts"]
    assert finding.weight == "warning"
    assert len(finding.rows) == 100
    assert "COURSE_ENCODER" in finding.remedy
    assert found.unknown > 0.5


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Good", "near-equal labels"),
        ("goood", "near-equal labels"),
        ("N/A", "a label, or none?"),
        ("other", None),
    ],
)
def test_doubtful_labels_are_found_with_their_row(name, title):
    rows = replaced(label=name)
    found = titles(rows, Goal("classes", ("bad", "good", name), ""))
    assert found["rare classes"] == (500,)
    assert {t: r for t, r in found.items() if t in ("near-equal labels", "a label, or none?")} == (
        {title: (500,)} if title else {}
    )


def test_numbered_classes_are_no_typing_errors():
    goal = Goal("classes", ("10001", "10002"), "")
    pairs = [(text, "10001" if i < 490 else "10002") for i, (text, _) in enumerate(reviews(500))]
    assert "near-equal labels" in titles(rows_of(pairs), goal)  # a rare one is worth a look
    pairs = [(text, "10001" if i % 2 else "10002") for i, (text, _) in enumerate(reviews(500))]
    assert "near-equal labels" not in titles(rows_of(pairs), goal)


def test_answers_in_the_texts_imbalance_and_few_rows():
    told = [(f"[{label}] {text}", label) for text, label in reviews(500)]
    assert "answers in the texts" in titles(rows_of(told))
    rare = [(text, "good" if i < 450 else "bad") for i, (text, _) in enumerate(reviews(500))]
    assert "imbalance" in titles(rows_of(rare))
    assert "few rows" in titles(rows_of(reviews(100)))


def test_a_column_of_numbers_is_no_text():
    rows = rows_of([(str(1000 + i), "ab"[i % 2]) for i in range(60)])
    found = audit(rows, Goal("classes", ("a", "b"), ""), load_tokenizer(), total=60)
    assert [f.title for f in found.stops] == ["no text"]
    codes = rows_of([("xyz"[i % 3], "ab"[i % 2]) for i in range(60)])
    assert "hardly any text" in titles(codes, Goal("classes", ("a", "b"), ""))
    chinese = rows_of([(f"这个产品非常好用{i}", "ab"[i % 2]) for i in range(60)])
    assert "hardly any text" not in titles(chinese, Goal("classes", ("a", "b"), ""))


def test_groups_few_large_and_leaking():
    rows = rows_of(reviews(500), group=lambda i: f"group {i % 5}")
    assert "few groups" in titles(rows)
    rows = rows_of(reviews(500), group=lambda i: f"group {max(0, i - 300)}")
    found = titles(rows)
    assert "one large group" in found
    assert "few groups" not in found
    [finding] = shared_between_groups(["Fine.", "fine", "dull", "dull", None], list("abccd"))
    assert finding.rows == (1, 2)
    assert shared_between_groups(["a", "b"], ["x", "y"]) == []


def test_thousands_of_labels_are_refused_at_once():
    rows = [Row(i, f"text {i}", f"label {i}", f"row {i}") for i in range(5000)]
    goal = Goal("classes", tuple(row.label for row in rows), "")
    began = time.perf_counter()
    assert "too many labels" in titles(rows, goal)
    assert time.perf_counter() - began < 30  # each pair of names compared would take an hour


def test_what_stops_comes_first():
    found = audit(*named(6, 6), load_tokenizer(), total=12)
    assert found.findings[0].weight == "stop"
    assert found.max_tokens == 32


# --- parts --------------------------------------------------------------------------------


def test_no_text_and_no_group_is_in_two_parts():
    rows = rows_of(reviews(400), group=lambda i: f"group {i // 5}")
    splits = OwnSplits(rows, BINARY, seed=1)
    parts = [splits.train, splits.validation, splits.unseal("a test")]
    assert sorted(n for part in parts for n in part.rows) == list(range(1, 401))
    groups = [{number // 5 for number in part.rows} for part in parts]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    shares = [part.targets.mean() for part in parts]
    assert np.ptp(shares) < 0.1
    assert [len(part) / 400 for part in parts] == pytest.approx([0.6, 0.15, 0.25], abs=0.03)


def test_the_test_set_is_sealed_and_opens_once():
    splits = OwnSplits(rows_of(reviews(100)), BINARY)
    with pytest.raises(SealedTestError):
        _ = splits.sealed.test
    splits.unseal("a report")
    with pytest.raises(SealedTestError, match="already spoken"):
        splits.unseal("another look")


def test_a_split_is_a_function_of_the_seed():
    rows = rows_of(reviews(100))
    first, again, other = (OwnSplits(rows, BINARY, seed).train.rows for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_every_beginning_of_the_training_rows_has_every_class():
    rows, goal = named(400, 40, 12)
    train = OwnSplits(rows, goal).train
    counts = np.bincount(train.targets)
    for size in (len(train) // 4, len(train) // 2):
        expected = counts * size / len(train)
        assert np.abs(np.bincount(train.first(size).targets, minlength=3) - expected).max() <= 1.5


@pytest.mark.parametrize("kind", ["tags", "rating"])
def test_tags_and_ratings_get_their_shares_too(kind):
    draw = np.random.default_rng(0)
    if kind == "tags":
        goal = Goal("tags", ("a", "b", "c"), "")
        labels = [tuple(t for t, p in zip("abc", (0.5, 0.1, 0.05), strict=True) if draw.random() < p) for _ in range(600)]  # fmt: skip # noqa: E501
    else:
        goal, labels = Goal("rating", ("rating",), ""), draw.normal(size=600).tolist()
    rows = [Row(i, f"text {i}", label, f"row {i}") for i, label in enumerate(labels)]
    splits = OwnSplits(rows, goal)
    test = splits.unseal("a test").targets
    assert np.abs(splits.train.targets.mean(axis=0) - test.mean(axis=0)).max() < 0.06
    assert len(test) == pytest.approx(150, abs=12)


def test_a_class_in_one_group_cannot_be_divided():
    rows = [Row(i, f"text {i}", "good" if i < 20 else "bad", f"group {max(0, i - 18)}") for i in range(80)]  # fmt: skip # noqa: E501
    with pytest.raises(ValueError, match="would have no row of 'good': it occurs in too few"):
        OwnSplits(rows, BINARY)


@pytest.mark.parametrize(("groups", "words"), [(1, "in 1 group cannot"), (2, "in 2 groups cannot")])
def test_too_few_groups_cannot_be_divided(groups, words):
    rows = rows_of(reviews(80), group=lambda i: f"group {i % groups}")
    with pytest.raises(ValueError, match=f"80 rows {words} be divided: validation would be empty"):
        OwnSplits(rows, BINARY)
