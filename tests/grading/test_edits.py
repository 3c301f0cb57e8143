"""Known-wrong answers as edits: exactly one place, closures refused, combinations of bugs."""

from __future__ import annotations

import functools
import math

import pytest

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.items import Mistake


def helper(x):
    return 2 * x


def right(x):
    return helper(x) + 1


class Right:
    def __init__(self, start):
        self.start = start

    def again(self):
        return type(self)(self.start + 1), Right


def doubled(function):
    @functools.wraps(function)
    def outer(x):
        return 2 * function(x)

    return outer


@doubled
def decorated(x):
    return math.floor(x) + 1


def closure():
    number = 3

    def inner(x):
        return x + number

    return inner


def test_one_text_is_replaced():
    assert edit(right, "+ 1", "- 1")(5) == 9
    assert right(5) == 11


def test_several_texts_are_replaced_at_once():
    """Each is looked for in the source as it is, so that their order makes no difference."""
    assert edit(right, "+ 1", "- helper(x)", "helper(x)", "7")(5) == 7 - 10


def test_a_helper_is_edited_for_the_copy_alone():
    assert edit(right, "2 * x", "3 * x", within=(helper,))(5) == 16
    assert right(5) == 11
    assert helper(5) == 10


def test_a_class_is_edited():
    wrong = edit(Right, "+ 1", "+ 2")
    other, named = wrong(1).again()
    assert (other.start, type(other), named) == (3, wrong, wrong)
    assert Right(1).again()[0].start == 2


def test_a_decorator_stays():
    assert decorated(2.5) == 6
    assert edit(decorated, "+ 1", "+ 3")(2.5) == 10


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("+ 2", ""), "occurs 0 times, not once: '\\+ 2'"),
        (("x", "y"), "occurs 2 times, not once"),
        (("helper(x)", "1", "(x) +", "2 +"), "overlap"),
        (("+ 1",), "an old text and a new one"),
        ((), "an old text and a new one"),
    ],
)
def test_what_is_no_edit_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        edit(right, *texts)


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="move it to the top"):
        edit(closure(), "x", "y")


def test_every_set_of_bugs_is_named():
    bugs = {"more": ("too much", "+ 1", "+ 2"), "less": ("too little", "helper(x)", "x")}
    found = remaining(right, bugs)
    assert all(isinstance(each, Mistake) for each in found)
    told = [(each.name, each.message, each.wrong[0](5)) for each in found]
    assert told == [
        ("untouched", "all two bugs are still there", 7),
        ("more", "too much", 12),
        ("less", "too little", 6),
    ]


def test_a_bug_that_a_repair_may_add():
    bugs = {
        "a": ("mend a", "+ 1", "+ 2"),
        "b": ("mend b", "helper(x)", "x"),
        "c": ("mend c", "return", "return -"),
    }
    found = remaining(right, bugs, given=("a", "b"), never=(("a", "c"),))
    assert [each.name for each in found] == ["untouched", "b_and_c", "a", "b", "c"]
    assert found[1].message == "two bugs are left. First: mend b. Then: mend c"
