"""Scores equal scikit-learn's and SciPy's, and what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, softmax
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from course_utils.inference import choose_exit
from course_utils.intervals import Interval, bootstrap_interval, mcnemar, seed_interval
from course_utils.metrics import (
    class_scores,
    expected_calibration_error,
    fit_temperature,
    rating_scores,
    reliability_bins,
)

# --- classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_class_scores_are_scikit_learn_s(num_classes, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=200)
    guess = generator.integers(num_classes, size=200)
    predictions = np.where(generator.random(200) < 0.6, labels, guess)
    scores = class_scores(labels, predictions, num_classes)
    assert scores.accuracy == sk.accuracy_score(labels, predictions)
    assert scores.f1_macro == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    weighted = sk.f1_score(labels, predictions, average="weighted")
    assert scores.f1_weighted == pytest.approx(weighted)
    assert scores.f1 == pytest.approx(sk.f1_score(labels, predictions, average=None))
    assert np.array_equal(scores.confusion, sk.confusion_matrix(labels, predictions))


def test_class_scores_by_hand():
    """Class 0: 2 right of 3 true and 2 predicted; class 1: 1 of 1 and 2; class 2: none."""
    scores = class_scores(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    assert scores.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert scores.accuracy == 0.75
    assert scores.f1 == pytest.approx([2 * 2 / (3 + 2), 2 * 1 / (1 + 2), 0.0])
    assert scores.f1_macro == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert scores.f1_weighted == pytest.approx((3 * 0.8 + 1 * 2 / 3) / 4)


def test_a_constant_answer_looks_good_by_accuracy_only():
    labels = np.array([0] * 95 + [1] * 5)
    scores = class_scores(labels, np.zeros(100, dtype=int), 2)
    assert scores.accuracy == 0.95
    assert scores.f1_macro < 0.5


def test_truth_values_are_classes_too():
    probabilities = np.array([0.9, 0.2, 0.7])
    assert class_scores(np.array([1, 0, 0]), probabilities > 0.5, 2).accuracy == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "at least 1"),
        ([0, 1], [0], "same number of rows"),
        ([0, 1], [0, 2], "predictions must be whole classes from 0 to 1"),
        ([0, -1], [0, 1], "labels must be whole classes"),
        ([0, -100], [0, 1], "labels must be whole classes"),  # what losses ignore, metrics count
        ([0, 1], [0.1, 0.9], "predictions must be whole classes"),  # probabilities
        ([0.0, 1.0], [0, 1], "labels must be whole classes"),
        ([0, 1], [[0.3, 0.7], [0.9, 0.1]], r"shape \(N,\), got \[\(2,\), \(2, 2\)\]"),  # logits
    ],
)
def test_bad_classes_are_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        class_scores(np.array(labels), np.array(predictions), 2)


# --- ratings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_rating_scores_are_scipy_s_and_numpy_s(seed):
    generator = np.random.default_rng(seed)
    ratings = generator.normal(size=100)
    predictions = ratings + generator.normal(size=100)
    scores = rating_scores(ratings, predictions)
    assert scores.pearson == pytest.approx(np.corrcoef(ratings, predictions)[0, 1])
    assert scores.spearman == pytest.approx(stats.spearmanr(ratings, predictions)[0])
    expected = sk.mean_absolute_error(ratings, predictions)
    assert scores.mean_absolute_error == pytest.approx(expected)


def test_rating_scores_by_hand():
    """A monotone curve keeps every rank; a straight line keeps Pearson's r at 1 as well."""
    ratings = np.array([-2.0, -1.0, 1.0, 2.0])
    line, curve = rating_scores(ratings, 3 * ratings + 1), rating_scores(ratings, ratings**3)
    assert (line.pearson, line.spearman) == pytest.approx((1, 1))
    assert line.mean_absolute_error == pytest.approx((3 + 1 + 3 + 5) / 4)
    assert curve.spearman == pytest.approx(1)
    assert curve.pearson < 0.99


def test_logits_of_shape_n_1_do_not_silently_become_a_square():
    ratings = np.array([1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match=r"shape \(N,\), got \[\(3,\), \(3, 1\)\]"):
        rating_scores(ratings, ratings[:, None])
    with pytest.raises(ValueError, match="at least 2"):
        rating_scores(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="2"):
        rating_scores(np.array([1.0]), np.array([1.0]))


# --- calibration ------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 5, 10, 15])
def test_reliability_bins_are_scikit_learn_s(bins):
    generator = np.random.default_rng(bins)
    said = np.append(generator.random(300) ** 3, [0.0, 0.2, 0.4, 1.0])  # the edges, too
    labels = (generator.random(304) < said).astype(int)
    found = reliability_bins(said, labels, bins)
    was, mean = calibration_curve(labels, said, n_bins=bins)
    filled = found.counts > 0
    assert found.was[filled] == pytest.approx(was)
    assert found.said[filled] == pytest.approx(mean)
    assert found.counts.sum() == 304


def test_empty_bins_say_nothing():
    found = reliability_bins(np.array([0.9, 1.0]), np.array([1, 1]), bins=3)
    assert found.counts.tolist() == [0, 0, 2]
    assert np.isnan([found.said[:2], found.was[:2]]).all()
    assert expected_calibration_error(np.array([0.9, 1.0]), np.array([1, 1]), bins=3) == (
        pytest.approx(0.05)
    )


def test_calibration_error_by_hand():
    """Five rows said 0.9, three true; five said 0.2, one true: (5 x 0.3 + 5 x 0) / 10."""
    said = np.array([0.9] * 5 + [0.2] * 5)
    labels = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    assert expected_calibration_error(said, labels) == pytest.approx(0.15)
    # bins of 3 and of 1 row: (3 x 0.7/3 + 1 x 0.2) / 4, not the plain mean of the two gaps
    few = expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.2]), np.array([1, 1, 0, 0]))
    assert few == pytest.approx(0.225)
    # in one bin the errors cancel: 0.55 said, 0.4 true
    assert expected_calibration_error(said, labels, bins=1) == pytest.approx(0.15)
    assert expected_calibration_error(np.array([0.9, 0.1]), np.array([0, 1]), bins=1) == 0
    assert expected_calibration_error(np.array([0.9, 0.1]), np.array([0, 1])) == pytest.approx(0.9)


def test_true_probabilities_are_calibrated_and_sharpened_ones_are_not():
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=1.5, size=20_000)
    said = 1 / (1 + np.exp(-logits))
    labels = (generator.random(20_000) < said).astype(int)
    assert expected_calibration_error(said, labels) < 0.012
    assert expected_calibration_error(1 / (1 + np.exp(-3 * logits)), labels) > 0.08


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_factor_on_the_logits(classes, factor):
    generator = np.random.default_rng(classes)
    logits = generator.normal(scale=2, size=(20_000, classes))
    chance = softmax(logits, axis=1).cumsum(axis=1)
    labels = (generator.random((20_000, 1)) > chance).sum(axis=1)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_no_other_temperature_is_better():
    generator = np.random.default_rng(3)
    labels = generator.integers(3, size=200)
    logits = np.eye(3)[labels] + generator.normal(scale=2, size=(200, 3))
    best = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[np.arange(200), labels].mean()

    assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.9, 1.1, 2, 10))
    # extreme logits neither overflow nor escape the range
    assert 99 < fit_temperature(1e4 * logits, labels) <= 100
    assert 0.01 <= fit_temperature(np.eye(3)[labels], labels) < 0.05


@pytest.mark.parametrize(
    "bad",
    [
        lambda: reliability_bins(np.array([0, 1]), np.array([0.3, 0.8])),  # the wrong way round
        lambda: reliability_bins(np.array([0.5, 1.1]), np.array([0, 1])),
        lambda: reliability_bins(np.array([0.5, np.nan]), np.array([0, 1])),
        lambda: reliability_bins(np.array([0.5, 0.6]), np.array([0, 2])),
        lambda: reliability_bins(np.array([0.5]), np.array([0, 1])),
        lambda: reliability_bins(np.ones((2, 2)), np.ones((2, 2))),
        lambda: expected_calibration_error(np.array([]), np.array([])),
        lambda: expected_calibration_error(np.array([0.5]), np.array([1]), bins=0),
        lambda: fit_temperature(np.ones(3), np.array([0, 0, 0])),
        lambda: fit_temperature(np.ones((3, 2)), np.array([0, 1, 2])),
        lambda: fit_temperature(np.ones((3, 2)), np.array([0, 1])),
        lambda: mcnemar(np.array([0, 1]), np.array([1, 1])),  # predictions, not hits
        lambda: mcnemar(np.array([True]), np.array([True, False])),
    ],
)
def test_bad_input_to_calibration_and_comparison_is_refused(bad):
    with pytest.raises(ValueError, match=r"need|must be"):
        bad()


# --- two models -------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(10, 2), (0, 6), (7, 7), (0, 0), (30, 51)])
def test_mcnemar_counts_the_coin_flips(first, second):
    """Both tails of a fair coin, summed by hand."""
    right = np.array([True] * first + [False] * second + [True, False])
    other = np.array([False] * first + [True] * second + [True, False])
    found = mcnemar(right, other)
    flips = first + second
    tail = stats.binom.cdf(min(first, second), flips, 0.5)
    assert (found.only_first, found.only_second) == (first, second)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(other, right).p_value == pytest.approx(found.p_value)


# --- intervals --------------------------------------------------------------------------------


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """300 samples of 40 coin flips; a percentile interval of so few rows is a little narrow."""
    generator = np.random.default_rng(0)
    covered = 0
    for i in range(300):
        flips = (generator.random(40) < 0.7).astype(float)
        interval = bootstrap_interval(np.mean, flips, level=0.9, resamples=200, seed=i)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.83 <= covered / 300 <= 0.96


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).exponential(size=150)
    ours = bootstrap_interval(np.median, values, resamples=4000)
    theirs = stats.bootstrap((values,), np.median, n_resamples=4000, method="percentile", rng=2)
    assert ours.value == np.median(values)
    limits = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((limits.low, limits.high), abs=0.02)


def test_rows_of_several_arrays_travel_together():
    x = np.random.default_rng(0).normal(size=30)
    interval = bootstrap_interval(lambda a, b: np.corrcoef(a, b)[0, 1], x, 2 * x)
    assert (interval.low, interval.high) == pytest.approx((1, 1))
    logits, labels = np.random.default_rng(1).normal(size=(30, 3)), np.arange(30) % 3
    accuracy = bootstrap_interval(lambda a, b: (a.argmax(1) == b).mean(), logits, labels)
    assert 0 <= accuracy.low < accuracy.value < accuracy.high <= 1


GAP, FULL, RIGHT = [0.5, np.nan], [0, 1], [True, False]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: class_scores(FULL, GAP, 2), "predictions"),
        (lambda: rating_scores(GAP, FULL), "ratings"),
        (lambda: reliability_bins(FULL, GAP), "labels"),
        (lambda: fit_temperature(np.eye(2), GAP), "labels"),
        (lambda: mcnemar(RIGHT, GAP), "second_right"),
        (lambda: choose_exit(GAP, RIGHT, 0.1), "confidence"),
        (lambda: bootstrap_interval(np.mean, GAP), "array 1"),  # it has no name there
    ],
)
def test_an_error_says_the_name_of_the_array_it_is_about(call, name):
    with pytest.raises(ValueError, match=f"^{name} must be complete, but row 1 is missing"):
        call()


def test_bootstrap_is_decided_by_its_seed_and_leaves_the_global_one():
    values = np.arange(20.0)
    before = np.random.get_state()[1].copy()
    assert bootstrap_interval(np.mean, values, seed=1) == bootstrap_interval(
        np.mean, values, seed=1
    )
    assert bootstrap_interval(np.mean, values, seed=1) != bootstrap_interval(
        np.mean, values, seed=2
    )
    assert np.array_equal(np.random.get_state()[1], before)


def test_more_confidence_costs_width_and_more_rows_save_it():
    few, many = np.arange(30.0) % 7, np.arange(3000.0) % 7

    def width(values: np.ndarray, level: float) -> float:
        interval = bootstrap_interval(np.mean, values, level=level)
        assert interval.level == level
        return interval.high - interval.low

    assert width(few, 0.5) < width(few, 0.95)
    assert width(few, 0.95) == pytest.approx(10 * width(many, 0.95), rel=0.3)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("seeds", [2, 5])
def test_seed_interval_is_student_s(level, seeds):
    values = np.random.default_rng(seeds).normal(0.8, 0.02, size=seeds)
    interval = seed_interval(values, level)
    expected = stats.t.interval(level, seeds - 1, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.value == pytest.approx(values.mean())
    assert interval.level == level
    assert f"{level:.0%} interval" in str(interval)


def test_an_interval_prints_as_a_reader_wants_it():
    assert str(Interval(0.84149, 0.831, 0.852)) == "0.841 (95% interval 0.831 to 0.852)"


@pytest.mark.parametrize(
    "bad",
    [
        lambda: bootstrap_interval(np.mean, np.array([])),
        lambda: bootstrap_interval(np.mean),
        lambda: bootstrap_interval(np.mean, np.ones(3), np.ones(4)),
        lambda: bootstrap_interval(np.mean, np.ones(3), level=95),
        lambda: bootstrap_interval(np.mean, np.ones(3), level=0),
        lambda: bootstrap_interval(np.mean, np.ones(3), resamples=0),
        lambda: seed_interval(np.array([0.8])),
        lambda: seed_interval(np.ones((2, 2))),
        lambda: seed_interval(np.ones(3), level=1.0),
    ],
)
def test_bad_input_to_intervals_is_refused(bad):
    with pytest.raises(ValueError, match=r"need|must be"):
        bad()
