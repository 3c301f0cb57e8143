"""What students' installations have of the items: data, in step with the answer book."""

from __future__ import annotations

import pytest

from course_utils.grading import calls
from course_utils.grading.checks import verify
from course_utils.grading.items import VISIBLE_SEED, lessons, load_items, make_key
from course_utils.grading.visible import (
    read_keys,
    rule_from_plain,
    rule_to_plain,
    visible_lessons,
)
from tools import keys

ITEMS = [item for lesson in lessons() for item in load_items(lesson)]


def name_of(item):
    return item.name


def test_every_lesson_has_a_file():
    assert visible_lessons() == lessons()


@pytest.mark.parametrize("lesson", lessons())
def test_in_step(lesson):
    """If not: ``python -m tools.keys build``, and commit."""
    assert keys.differing(lesson, keys.made(lesson)) == []


@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_a_shipped_key_judges_as_the_answer_book(item):
    """The reference passes and each known-wrong answer gets its diagnosis, by data alone."""
    [shipped] = [key for key in read_keys(item.lesson) if key.exercise.name == item.name]
    made = make_key(item, VISIBLE_SEED)
    assert verify(shipped, made.expected).passed
    for answer in [wrong for each in item.diagnoses for wrong in each.wrong]:
        outcomes = [calls.attempt(item.call, answer, case.inputs) for case in made.cases]
        assert verify(shipped, outcomes) == verify(made, outcomes)
        assert not verify(shipped, outcomes).passed


def test_a_change_of_the_book_is_noticed(monkeypatch, tmp_path):
    lines = keys.made("01")
    assert keys.differing("01", lines) == []
    assert keys.differing("01", [lines[0].replace(b"too large", b"too small"), *lines[1:]])
    assert len(keys.differing("01", lines[1:])) == len(lines)
    monkeypatch.setattr(keys, "FOLDER", tmp_path)
    assert len(keys.differing("01", lines)) == len(lines)
    assert keys.main(["check", "01"]) == 1
    assert keys.main(["build", "01"]) == 0
    assert keys.main(["check", "01"]) == 0


def test_rules_are_named_and_found():
    for item in ITEMS:
        for each in item.diagnoses:
            if hasattr(each, "when"):
                plain = rule_to_plain(item.lesson, each.when)
                again = rule_from_plain(item.lesson, plain)
                assert rule_to_plain(item.lesson, again) == plain


def test_a_rule_that_is_not_shipped_is_refused():
    with pytest.raises(ValueError, match=r"is not in course_utils\.grading\.rules\.lesson_00"):
        rule_to_plain("00", lambda trials: True)
