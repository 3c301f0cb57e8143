"""Behaviour tests, attacks, groups, abstaining: each on models that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from course_utils.behaviour import (
    BehaviourTest,
    attack,
    gap_interval,
    rate_gaps,
    risk_coverage,
    share_interval,
    typos,
    with_typos,
)
from course_utils.cards import MEASURED, PEOPLE, model_card, with_measurements

WEIGHTS = {"good": 2.0, "fine": 1.0, "dull": -1.0, "awful": -3.0}


def bag(texts):
    """A model that adds up its words' weights; a word with a slip in it is a stranger to it."""
    return np.array([sum(WEIGHTS.get(word, 0.0) for word in text.split()) for text in texts])


def silent(texts):
    """A model that has learned nothing."""
    return np.zeros(len(texts))


# --- tests of one capability ------------------------------------------------------------------


def test_minimum_functionality_needs_the_sign():
    test = BehaviourTest("words", "minimum", ["a good film", "awful", "no word of it"], sign=1)
    assert test.failed(bag).tolist() == [False, True, True]
    assert test.failed(silent).all()  # who says nothing has not answered


def test_invariance_looks_at_the_side_and_not_at_the_number():
    test = BehaviourTest(
        "added", "invariance", ["good", "good", "dull"], ["good fine", "good awful", "dull awful"]
    )
    assert test.failed(bag).tolist() == [False, True, False]
    assert not test.failed(silent).any()  # why no such test stands alone


@pytest.mark.parametrize("sign", [1, -1])
def test_direction_may_stay_and_must_not_go_back(sign):
    test = BehaviourTest("more", "direction", ["good"] * 3, ["good fine", "good", "good dull"])
    turned = BehaviourTest("more", "direction", test.texts, test.changed, sign)
    assert turned.failed(bag).tolist() == ([False, False, True] if sign == 1 else [True, False, 0])


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "invariance", "texts": ["a"]},
        {"kind": "minimum", "texts": ["a"], "changed": ["b"]},
        {"kind": "direction", "texts": ["a", "b"], "changed": ["b"]},
        {"kind": "minimum", "texts": []},
        {"kind": "minimum", "texts": ["a"], "sign": 0},
        {"kind": "other", "texts": ["a"]},
        {"kind": "minimum", "texts": "a"},
    ],
)
def test_a_test_that_asks_nothing_is_refused(settings):
    with pytest.raises(ValueError, match=r"got|need"):
        BehaviourTest("x", **settings)


def test_a_model_that_answers_for_fewer_texts_is_refused():
    test = BehaviourTest("x", "minimum", ["a", "b"])
    with pytest.raises(ValueError, match="one score for each text"):
        test.failed(lambda texts: np.ones(1))
    with pytest.raises(ValueError, match="finite"):
        test.failed(lambda texts: np.array([1.0, np.inf]))


def test_the_interval_of_a_share_covers_it_nineteen_times_in_twenty():
    generator, covered = np.random.default_rng(0), []
    for _ in range(2000):
        found = share_interval(generator.random(40) < 0.1)
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.92 < np.mean(covered) < 0.98
    assert share_interval(np.ones(24, dtype=bool)).low == pytest.approx(24 / (24 + 1.96**2), 1e-3)
    with pytest.raises(ValueError, match="True or False"):
        share_interval(np.array([0, 1]))


# --- typing errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["good", "wonderful", "film", "aaaa", "Ärger"])
def test_a_slip_is_one_and_stays_inside(word):
    found = typos(word)
    assert word not in found
    assert len(set(found)) == len(found)
    for slip in found:
        assert (slip[0], slip[-1]) == (word[0], word[-1])
        assert abs(len(slip) - len(word)) <= 1


@pytest.mark.parametrize("word", ["", "a", "bad", "can't", "good,", "2026"])
def test_what_has_no_slip(word):
    assert typos(word) == []


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_so_many_words_have_a_slip_and_the_rest_is_left_alone(count):
    text = "the story is wonderful and the actors are dull"
    found = with_typos(text, count, np.random.default_rng(0))
    changed = [new for old, new in zip(text.split(), found.split(), strict=True) if old != new]
    assert len(changed) == min(count, 4)  # story, wonderful, actors, dull
    assert found == with_typos(text, count, np.random.default_rng(0))


# --- the attack -------------------------------------------------------------------------------


def test_the_attack_takes_the_word_that_matters_most_first():
    found = attack(["a fine good film"], bag, budget=2)
    assert found.margins.tolist() == [[3.0, 1.0, 0.0]]  # good is worth 2, fine 1
    assert found.success().tolist() == [0.0, 0.0, 1.0]
    words = found.texts[0].split()
    assert (words[0], words[3]) == ("a", "film")
    assert words[1] in typos("fine")
    assert words[2] in typos("good")


def test_the_attack_works_on_both_sides_and_leaves_no_worse_margin():
    texts = ["good dull", "awful fine", "dull and awful and dull", "good good good"]
    found = attack(texts, bag, budget=4)
    assert (np.diff(found.margins, axis=1) <= 0).all()
    assert found.margins[:, 0].tolist() == [1.0, 2.0, 5.0, 6.0]
    assert (np.diff(found.success()) >= 0).all()
    assert found.success()[-1] == 1.0
    assert bag(found.texts).tolist() == (found.margins[:, -1] * [1, -1, -1, 1]).tolist()


def test_the_budget_is_kept_and_what_cannot_change_stays():
    texts = ["good fine awful dull bad", "bad"]
    found = attack(texts, lambda t: bag(t) - 1, budget=1)
    changed = [a != b for a, b in zip(texts[0].split(), found.texts[0].split(), strict=True)]
    assert sum(changed) <= 1
    assert found.texts[1] == "bad"
    assert found.margins[1].tolist() == [1.0, 1.0]


def test_who_has_won_changes_no_more_words():
    found = attack(["fine good dull dull"], bag, budget=3)
    assert found.margins.tolist() == [[1.0, -1.0, -1.0, -1.0]]
    assert found.texts[0].split()[0] == "fine"


def test_queries_are_counted_as_they_are_asked():
    asked = []

    def counting(texts):
        asked.extend(texts)
        return bag(texts)

    found = attack(["a good film", "awful", "dull and fine"], counting, budget=2)
    assert found.queries == len(asked)


def test_a_model_that_ignores_words_cannot_be_attacked():
    found = attack(["a good film"], lambda texts: np.ones(len(texts)), budget=3)
    assert found.success().tolist() == [0.0] * 4
    assert found.texts == ["a good film"]


# --- groups -----------------------------------------------------------------------------------


def test_the_gap_is_welchs():
    generator = np.random.default_rng(0)
    first, second = generator.normal(1, 1, 12), generator.normal(0, 3, 9)
    found, mirrored = gap_interval(first, second), gap_interval(second, first)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    p = stats.ttest_ind(first, second, equal_var=False).pvalue
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    ours = gap_interval(first, second, level=0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    at_p = gap_interval(first, second, level=1 - p)  # one end of it touches zero
    assert min(abs(at_p.low), abs(at_p.high)) == pytest.approx(0, abs=1e-9)


def test_a_gap_needs_two_members_and_may_be_exact():
    with pytest.raises(ValueError, match="two members"):
        gap_interval(np.array([1.0]), np.array([1.0, 2.0]))
    found = gap_interval(np.ones(3), np.zeros(4))
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)
    nearly = gap_interval(1 + np.arange(3) * 1e-16, np.array([0.0, 1e-16, 0.0]))
    assert nearly.low == pytest.approx(1.0)


def test_rate_gaps_count_within_a_label():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    group = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    predictions = np.array([1, 1, 1, 0, 0, 1, 1, 1])
    assert rate_gaps(labels, predictions, group) == (-0.5, 0.5)
    assert rate_gaps(labels, predictions, 1 - group) == (0.5, -0.5)
    assert rate_gaps(labels, labels, group) == (0.0, 0.0)
    assert np.isnan(rate_gaps(labels, predictions, np.zeros(8))[0])


def test_a_card_gets_what_was_measured_once():
    card = model_card("m-1", ["rating"], {"seed": 0})
    found = with_measurements(card, {"right": share_interval(np.ones(9, dtype=bool)), "b": 0.25})
    assert "- right: 1.000 (95% interval 0.701 to 1.000)\n- b: 0.25\n" in found
    assert (
        found.index("What made it") < found.index("What was measured") < found.index("cannot know")
    )
    assert found.replace(found[found.index(MEASURED) : found.index(PEOPLE)], "") == card
    for broken, rows in ((found, {"b": 1}), (card, {}), ("# another text", {"b": 1})):
        with pytest.raises(ValueError, match="need measurements"):
            with_measurements(broken, rows)


# --- abstaining -------------------------------------------------------------------------------


def test_risk_against_coverage():
    generator = np.random.default_rng(0)
    wrong = generator.random(200) < 0.3
    knows = generator.normal(0, 0.1, 200) - wrong
    coverage, risk = risk_coverage(knows, wrong)
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx(wrong.mean())
    assert (
        risk[int(200 * (1 - wrong.mean())) - 1] == 0.0
    )  # a perfect confidence asks at the right time
    _, turned = risk_coverage(-knows, wrong)
    assert turned[9] == 1.0
    assert risk_coverage(np.zeros(4), np.array([True, False, False, False]))[1][0] == 1.0
