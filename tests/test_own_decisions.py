"""Decisions against scikit-learn and by hand; baselines; plans to a budget; what is then said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from course_utils.intervals import Interval
from course_utils.metrics import expected_calibration_error
from course_utils.own_data.baselines import fit_baseline, linear_logits, linear_model, majority
from course_utils.own_data.decisions import Decision, choose, f1_of, scores_of
from course_utils.own_data.goals import Goal
from course_utils.own_data.outcome import (
    LINEAR,
    MODEL,
    CurvePoint,
    mistakes,
    outcome,
    verdict,
    what_more_buys,
)
from course_utils.own_data.parts import Part
from course_utils.own_data.plans import make_plan
from course_utils.own_data.tuning import tag_loss
from course_utils.serving.rules import rules_of
from tests.own_tables import reviews

BINARY = Goal("classes", ("bad", "good"), "")
THREE = Goal("classes", ("a", "b", "c"), "")
TAGS = Goal("tags", ("a", "b", "c"), "")
RATING = Goal("rating", ("rating",), "")


def part(count: int, seed: int = 0) -> Part:
    rows = reviews(count, seed)
    targets = BINARY.encode([label for _, label in rows])
    return Part(tuple(range(1, count + 1)), tuple(text for text, _ in rows), targets)


def test_f1_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    for _ in range(20):
        targets, said = draw.integers(0, 2, (2, 30, 4)) * [1, 1, 1, 0]  # nobody has the last tag
        found = f1_of(targets, said)
        for average in ("micro", "macro"):
            expected = f1_score(targets, said, average=average, zero_division=0.0)
            assert getattr(found, average) == pytest.approx(expected)
        classes, guesses = draw.integers(0, 2, (2, 30))
        expected = f1_score(classes, guesses, labels=[0, 1, 2], average="macro", zero_division=0.0)
        assert scores_of(THREE)["macro F1"](classes, guesses) == pytest.approx(expected)


def overconfident(rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two classes three times too large for how often they are right."""
    draw = np.random.default_rng(seed)
    margin = draw.normal(size=rows)
    labels = (draw.random(rows) < 1 / (1 + np.exp(-margin))).astype(int)
    return np.stack([np.zeros(rows), 3 * margin], axis=1), labels


def test_the_temperature_is_found_and_repairs_calibration():
    logits, labels = overconfident()
    decision = choose(BINARY, logits, labels)
    assert decision.temperature == pytest.approx(3, abs=0.35)
    gaps = [
        expected_calibration_error(d.probabilities(BINARY, logits)[:, 1], labels)
        for d in (Decision(), decision)
    ]
    assert gaps[1] < 0.03 < 0.1 < gaps[0]
    tags = choose(TAGS, np.tile(logits[:, 1:], 3), np.tile(labels[:, None], 3))
    assert tags.temperature == pytest.approx(3, abs=0.35)


def test_a_rare_class_gets_a_threshold_of_its_own():
    draw = np.random.default_rng(0)
    labels = (draw.random(2000) < 0.05).astype(int)
    logits = np.stack([np.zeros(2000), draw.normal(size=2000) + 1.5 * labels - 3], axis=1)
    decision = choose(BINARY, logits, labels)
    assert decision.positive == 1
    assert decision.threshold < 0.4
    score = scores_of(BINARY)["macro F1"]
    found = decision.probabilities(BINARY, logits)
    halved = Decision(decision.temperature, 0.5, 1)
    assert score(labels, decision.decide(BINARY, found)) > 0.05 + score(
        labels, halved.decide(BINARY, found)
    )
    swapped = choose(BINARY, logits[:, ::-1], 1 - labels)  # the rare class is now the first
    assert swapped.positive == 0
    assert swapped.threshold == pytest.approx(decision.threshold, abs=0.01)


def test_a_threshold_stays_at_one_half_if_moving_gains_nothing():
    logits, labels = overconfident()
    assert choose(BINARY, logits, labels).threshold == 0.5
    assert choose(THREE, np.hstack([logits, logits[:, :1] - 9]), labels).threshold is None
    assert choose(RATING, logits[:, 1:], labels).temperature == 1.0


def test_a_few_rows_all_right_do_not_make_a_model_certain():
    logits = np.array([[0.0, 2.0], [2.0, 0.0]] * 6)
    probabilities = choose(BINARY, logits, np.array([1, 0] * 6)).probabilities(BINARY, logits)
    assert probabilities.max() < 0.999


def test_a_dear_miss_lowers_the_threshold():
    logits, labels = overconfident()
    dear, cheap = (choose(BINARY, logits, labels, miss=price).threshold for price in (9, 1 / 9))
    assert dear == pytest.approx(0.1, abs=0.06)  # p x 9 = (1 - p) x 1
    assert cheap == pytest.approx(0.9, abs=0.06)
    for goal in (THREE, TAGS, RATING):
        with pytest.raises(ValueError, match="price of a miss needs two classes"):
            choose(goal, logits, labels, miss=2)


def test_a_class_never_worth_saying_gets_a_threshold_that_can_be_written():
    """The rare rows look least like it: saying it never is best, which is infinity in a table."""
    labels = np.repeat([1, 0], [5, 95])
    margins = np.concatenate([np.full(5, -5.0), np.linspace(-4, 2, 95)])
    logits = np.stack([np.zeros(100), margins], axis=1)
    decision = choose(BINARY, logits, labels)
    assert (decision.threshold, decision.positive) == (1.0, 1)
    assert decision.use(BINARY, 32)["threshold"] == 1.0
    assert not decision.decide(BINARY, decision.probabilities(BINARY, logits)).any()
    cheap = choose(BINARY, logits, labels, miss=0.001)  # a miss costs next to nothing
    assert cheap.use(BINARY, 32)["threshold"] == 1.0


@pytest.mark.parametrize(
    ("goal", "decision"),
    [
        (BINARY, Decision(2.0, 0.3, 0)),
        (BINARY, Decision(0.7, 0.8, 1)),
        (THREE, Decision(3.0)),
        (TAGS, Decision(1.5, 0.2)),
        (RATING, Decision()),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_the_service_says_what_was_decided(goal, decision):
    """`Decision` decides for a table, `Rules` for a text: one and the same thing."""
    logits = np.random.default_rng(0).normal(scale=2, size=(200, len(goal.names)))
    probabilities = decision.probabilities(goal, logits)
    decided = decision.decide(goal, probabilities)
    use = json.loads(json.dumps(decision.use(goal, 32)))  # as the record on disk has it
    rules = rules_of(goal.names, use)
    assert rules.max_tokens == 32
    for row, shares, target in zip(torch.from_numpy(logits), probabilities, decided, strict=True):
        said = rules.say(row)
        if goal.kind == "rating":
            assert said.rating == pytest.approx(target)
            continue
        assert list(said.probabilities.values()) == pytest.approx(shares.tolist())
        label = said.label if said.tags is None else ", ".join(said.tags) or "(no tag)"
        assert label == goal.words(target)


def test_a_record_that_the_service_would_refuse_is_not_written():
    with pytest.raises(ValueError, match="a threshold is for tags, or for one of two classes"):
        Decision(1.0, 0.5, 0).use(THREE, 32)
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        Decision().use(THREE, 0)


# --- baselines ----------------------------------------------------------------------------


def test_counted_words_learn_what_one_word_decides():
    train, validation, test = part(120), part(40, seed=1), part(60, seed=2)
    linear = fit_baseline(BINARY, train, validation)
    accuracy = scores_of(BINARY)["accuracy"]
    assert accuracy(test.targets, linear.decide(BINARY, test)) > 0.9
    assert accuracy(test.targets, majority(BINARY, train, len(test))) == 0.5
    shuffled = Part(train.rows, train.texts, np.random.default_rng(0).permutation(train.targets))
    nothing = fit_baseline(BINARY, shuffled, validation)
    assert accuracy(test.targets, nothing.decide(BINARY, test)) < 0.8


def test_chinese_is_read_by_letters():
    good, bad = ("很好用", "非常满意", "推荐购买"), ("质量太差", "不推荐", "很失望")
    draw = np.random.default_rng(0)

    def rows(count: int) -> Part:
        targets = np.arange(count) % 2
        texts = tuple(
            f"这个东西{draw.choice(good if t else bad)}第{i}次了"
            for i, t in enumerate(targets)
        )  # fmt: skip
        return Part(tuple(range(count)), texts, targets)

    linear = fit_baseline(BINARY, rows(80), rows(40))
    assert "letters" in linear.chosen
    test = rows(40)
    assert scores_of(BINARY)["accuracy"](test.targets, linear.decide(BINARY, test)) > 0.9


def test_texts_without_words_are_read_by_letters():
    targets = np.arange(40) % 2
    texts = tuple(("🙂 !" if t else "🙁 ?") + " " * (i % 5) for i, t in enumerate(targets))
    rows = Part(tuple(range(40)), texts, targets)
    linear = fit_baseline(BINARY, rows, rows)
    assert "letters" in linear.chosen
    assert linear.decide(BINARY, rows).tolist() == targets.tolist()


def test_a_class_that_a_small_sample_lacks_is_never_said():
    train = part(40)
    for goal in (THREE, Goal("classes", ("x", "bad", "good"), "")):
        shift = goal.names.index("bad") if "bad" in goal.names else 0
        moved = Part(train.rows, train.texts, train.targets + shift)
        pipeline = linear_model(goal, "word", 3.0).fit(moved.texts, moved.targets)
        logits = linear_logits(pipeline, goal, moved.texts)
        assert logits.shape == (40, 3)
        assert set(logits.argmax(axis=1)) <= set(moved.targets.tolist())


def test_always_the_same():
    tags = Part((1, 2, 3), ("a", "b", "c"), np.array([[1, 0], [1, 0], [0, 1]]))
    assert majority(TAGS, tags, 2).tolist() == [[1, 0], [1, 0]]
    rating = Part((1, 2), ("a", "b"), np.array([1.0, 4.0]))
    assert majority(RATING, rating, 1).tolist() == [2.5]


# --- plans --------------------------------------------------------------------------------


def test_without_a_budget_all_is_trained():
    assert make_plan(8000, 500, 0.01).epochs == 2
    assert make_plan(100, 20, 0.01).epochs == 10
    plan = make_plan(400, 90, 0.02, epochs=3)
    rows, looks = 400 + 100 + 200, 3 * 90 / 3  # three models; what is only read takes a third
    assert plan.seconds == pytest.approx(0.02 * (rows / 3 + 3 * (rows + 2 * looks) + looks))
    longer = make_plan(400, 90, 0.02, epochs=3, test=120)
    assert longer.seconds - plan.seconds == pytest.approx(0.02 * 120 / 3)
    assert plan.cuts == ()
    chosen = make_plan(400, 90, 0.02, curve=False)
    assert (chosen.curve, chosen.cuts) == ((), ())  # by choice, not for want of time
    assert make_plan(400, 90, 0.02, curve=False, minutes=9).cuts


@pytest.mark.parametrize("minutes", [30, 10, 3, 1, 0.6])
def test_a_budget_is_kept(minutes):
    plan = make_plan(4000, 600, 0.03, minutes=minutes)
    assert plan.seconds <= 60 * minutes
    assert plan.seconds > 30 * minutes or not plan.cuts  # and used
    assert bool(plan.cuts) == (minutes < 10)


def test_a_budget_too_small_for_anything_says_what_is_needed():
    with pytest.raises(ValueError, match=r"0\.01 minutes are too few: .* it takes 0\.54 or more"):
        make_plan(4000, 600, 0.03, minutes=0.01)
    with pytest.raises(ValueError, match=r"0\.0001 minutes .* takes 0\.01 or more"):
        make_plan(40, 6, 0.001, minutes=0.0001)
    with pytest.raises(ValueError, match="minutes must be above 0"):
        make_plan(4000, 600, 0.03, minutes=-1)


# --- losses, words ------------------------------------------------------------------------


def test_the_loss_of_tags_is_binary_cross_entropy():
    draw = torch.Generator().manual_seed(0)
    sets = torch.tensor([[0.0, 0, 0], [1, 0, 1], [1, 1, 1]])
    numbers = torch.tensor([2, 0, 1, 1])
    logits = torch.randn(4, 3, generator=draw)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, sets[numbers])
    assert torch.equal(tag_loss(logits, numbers, sets), expected)


def test_the_outcome_is_what_the_rows_say():
    logits, labels = overconfident(800)
    data = Part(tuple(range(800)), ("x",) * 800, labels)
    decision = choose(BINARY, logits, labels)
    found = outcome(BINARY, data, logits, decision, {LINEAR: np.zeros_like(labels)})
    scores = {who: each["macro F1"].value for who, each in found.scores.items()}
    assert found.better.value == pytest.approx(scores[MODEL] - scores[LINEAR])
    assert found.better.low > 0
    assert found.calibration["after"] < 0.06 < 0.1 < found.calibration["before"]
    right = [share for _, share in found.coverage]
    assert right[0] == pytest.approx(found.scores[MODEL]["accuracy"].value)
    assert right[-1] > right[0] + 0.05  # of the surest two in five more are right
    assert found.confusion.sum() == 800
    assert [row.rows for row in found.classes] == np.bincount(labels).tolist()


def test_the_verdict_says_who_wins_and_when_nobody_can_tell():
    words = [verdict(BINARY, Interval(v, v - 0.03, v + 0.03)) for v in (0.1, 0.01, -0.1)]
    assert ["is better" in w for w in words] == [True, False, False]
    assert ["No difference" in w for w in words] == [False, True, False]
    assert ["is worse" in w for w in words] == [False, False, True]


def test_what_more_labels_would_buy():
    points = [CurvePoint(100, 0.7, 0.6), CurvePoint(200, 0.7, 0.7)]
    ends = {
        "will pay": (0.05, 0.15),
        "next to nothing": (-0.03, 0.01),
        "cannot be told": (-0.02, 0.1),
    }
    for words, (low, high) in ends.items():
        said = what_more_buys(points, Interval((low + high) / 2, low, high), "it")
        assert words in said
        assert "From 100 to 200" in said
    assert "too few rows" in what_more_buys(points[:1], None, "it")


def test_mistakes_are_the_surest_wrong_ones_first():
    data = Part((7, 8, 9, 10), ("w", "x", "y", "z"), np.array([0, 1, 1, 0]))
    probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.8, 0.2], [0.45, 0.55]])
    found = mistakes(BINARY, data, probabilities, np.array([1, 1, 0, 1]))
    assert [(m.row, m.label, m.said) for m in found] == [
        (9, "good", "bad"),
        (7, "bad", "good"),
        (10, "bad", "good"),
    ]
    assert found[0].sure == pytest.approx(0.8)
    rated = Part((1, 2), ("x", "y"), np.array([1.0, 2.0]))
    [first, _] = mistakes(RATING, rated, np.zeros((2, 1)), np.array([1.1, 4.0]))
    assert (first.row, first.sure) == (2, 2.0)
    tagged = Part((1, 2), ("x", "y"), np.array([[1, 0, 0], [0, 0, 1]]))
    shares = np.array([[0.9, 0.2, 0.7], [0.1, 0.1, 0.8]])
    [only] = mistakes(TAGS, tagged, shares, (shares > 0.5).astype(int))
    assert (only.row, only.label, only.said, only.sure) == (1, "a", "a, c", pytest.approx(0.7))
