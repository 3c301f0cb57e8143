"""Every item of every lesson: right answers pass, each known-wrong one is named for what it is."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from course_utils.grading import CheckFailed, calls, check
from course_utils.grading.calls import attempt
from course_utils.grading.checks import verify
from course_utils.grading.compare import same
from course_utils.grading.items import find_item, lessons, load_items, make_cases, make_key
from course_utils.grading.wire import Tensor, dumps, loads

SEEDS = (0, 20_251_123)
ITEMS = [item for lesson in lessons() for item in load_items(lesson)]
WRONG = [(item, d, wrong) for item in ITEMS for d in item.diagnoses for wrong in d.wrong]


def more_wrong_answers():
    """What lessons add in ``wrong_NN.py``: wrong answers that are no item's variant."""
    for path in sorted(Path(__file__).parent.glob("wrong_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield from module.WRONG


def name_of(value):
    """Name a parameter without an address in memory: every worker must count the same tests."""
    return getattr(value, "name", None) or getattr(value, "__name__", str(value))


def judge(item, answer, seed):
    key = make_key(item, seed)
    return verify(key, [attempt(item.call, answer, case.inputs) for case in key.cases])


def unwritten(*arguments, **keywords):
    raise NotImplementedError


@pytest.mark.parametrize("lesson", lessons())
def test_a_lesson_has_three_to_six_items(lesson):
    items = load_items(lesson)
    assert 3 <= len(items) <= 6
    assert len({item.name for item in items}) == len(items)
    assert all(item.lesson == lesson for item in items)
    assert sum(len(item.diagnoses) for item in items) >= 3 * len(items)
    assert sum(item is own for own, *_ in WRONG for item in items) >= 5, "known-wrong variants"


@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_item_is_complete(item):
    assert 1 <= item.difficulty <= 5
    assert 1 <= item.importance <= 5
    assert item.minutes > 0
    assert item.points > 0
    assert len({d.name for d in item.diagnoses}) >= 3, "name at least three typical mistakes"
    assert inspect.getmodule(item.call).__name__.startswith(calls.__name__), "a call is sent there"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_reference_passes(item, seed):
    assert all(e.failure is None or item.agree is None for e in make_key(item, 0).expected)
    assert judge(item, item.reference, seed).passed


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("item", "diagnosis", "wrong"), WRONG, ids=name_of)
def test_known_wrong_answer_is_named(item, diagnosis, wrong, seed):
    verdict = judge(item, wrong, seed)
    assert not verdict.passed
    assert (verdict.diagnosis, verdict.message) == (diagnosis.name, diagnosis.message)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "diagnosis", "answer"), list(more_wrong_answers()), ids=name_of)
def test_other_wrong_answer_is_named(name, diagnosis, answer, seed):
    verdict = judge(find_item(name), answer, seed)
    assert (verdict.passed, verdict.diagnosis) == (False, diagnosis)


def test_a_factor_that_one_case_has_by_accident_is_not_named():
    """Twice the number in the first case only: that says nothing; in all cases, it does."""
    item = find_item("15.membership_auc")
    key = make_key(item, 0)
    for others, name in ((2.0, "constant_factor"), (1.7, "wrong_value")):
        given = [replace(e, value=others * e.value) for e in key.expected]
        given[0] = replace(given[0], value=2 * key.expected[0].value)
        verdict = verify(key, given)
        assert verdict.diagnosis == name
        assert ("factor" in verdict.message + verdict.detail) == (name == "constant_factor")


def without_numbers(value):
    """The same thing with nan for every number: no comparison may take that for right."""
    if isinstance(value, list):
        return [without_numbers(v) for v in value]
    if isinstance(value, dict):
        return {key: without_numbers(v) for key, v in value.items()}
    if isinstance(value, Tensor):
        return Tensor(np.full(value.values.shape, np.nan), "float64", value.requires_grad)
    if isinstance(value, np.ndarray):
        return np.full(value.shape, np.nan)
    return np.nan if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_nan_is_never_right(item):
    key = make_key(item, 0)
    given = [replace(outcome, value=without_numbers(outcome.value)) for outcome in key.expected]
    if all(same(e.value, g.value) for e, g in zip(key.expected, given, strict=True)):
        pytest.skip("its answers hold no numbers")
    assert not verify(key, given).passed


@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_nothing_useful_scores_nothing(item):
    useless = [unwritten, None, 0, object(), type("Any", (), {"__eq__": lambda *_: True})]
    useless += [lambda *a: None, lambda *a: 0.0, lambda *a: a[0], lambda *a: np.zeros(())]
    for answer in useless:
        verdict = judge(item, answer, 0)
        assert not verdict.passed
        assert verdict.message
    assert judge(item, unwritten, 0).diagnosis in ("not_attempted", "error", "no_error")


@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_cases_are_a_function_of_the_seed(item):
    lines = [[dumps(case.inputs) for case in make_cases(item, seed)] for seed in (1, 1, 2)]
    assert lines[0] == lines[1] != lines[2]
    assert all(dumps(loads(line)) == line for line in lines[0])  # they cross the border whole


@pytest.mark.parametrize("item", ITEMS, ids=name_of)
def test_messages_hold_no_numbers_of_a_case(item):
    """They are shown for hidden cases too, so they must be written beforehand."""
    first, second = (judge(item, lambda *a: None, seed) for seed in SEEDS)
    assert first.message == second.message


def test_check_says_right():
    item = find_item("01.bce_gradient")
    assert check(item.name, item.reference) is None


def test_check_says_why(capsys):
    item = find_item("01.bce_gradient")
    with pytest.raises(CheckFailed, match="too large by a factor of B") as caught:
        check(item.name, item.diagnoses[0].wrong[0])
    assert "case: a batch of" in str(caught.value)
    # what IPython prints instead of the checker's own traceback
    assert caught.value._render_traceback_() == [str(caught.value)]


def test_check_shows_where_an_exception_came_from():
    with pytest.raises(CheckFailed, match="ZeroDivisionError: division by zero"):
        check("01.bce_gradient", lambda logits, labels: 1 / 0)


def test_check_is_silent_where_verdicts_are_made_outside(monkeypatch):
    monkeypatch.setenv("COURSE_GRADING", "1")
    assert check("01.bce_gradient", None) is None


def test_unknown_items_are_named():
    with pytest.raises(ValueError, match=r"no item '01.bce'"):
        check("01.bce", None)
    with pytest.raises(ValueError, match="no exercises for lesson '99'"):
        check("99.x", None)


def test_calls_know_no_answer():
    """The part that goes into the sandbox must not import the part that stays out."""
    for module in (calls, *(inspect.getmodule(item.call) for item in ITEMS)):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            names = [a.name for a in getattr(node, "names", [])] + [getattr(node, "module", "")]
            assert not any("items" in str(name) or "answer" in str(name) for name in names)
