"""Remedies equal their references, keep their promises at the extremes, and can be undone."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from course_utils.imbalance import (
    BalancedSampler,
    cascade_loss,
    cascade_probability,
    class_weights,
    focal_loss,
    oversample,
    undersample,
)
from course_utils.plotting import plot_costs, plot_thresholds
from course_utils.thresholds import cost_threshold, threshold_table, undo_weight


def labels_with(counts: list[int], seed: int = 0) -> np.ndarray:
    """So many rows of each class, in random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


# --- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [[90, 10], [5, 5], [1000, 1, 30]])
def test_class_weights_are_scikit_learn_s(counts):
    labels = labels_with(counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    weights = class_weights(labels, len(counts))
    assert weights.numpy() == pytest.approx(expected)
    assert weights.numpy()[labels].mean() == pytest.approx(1)


def test_weighted_loss_is_the_loss_of_repeated_rows():
    """Weight 3 on the rare class, or each rare row three times: one loss, one gradient."""
    torch.manual_seed(0)
    logits = torch.randn(8, 2, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7])
    weighted = cross_entropy(logits, labels, weight=class_weights(labels.numpy(), 2))
    repeated = cross_entropy(logits[rows], labels[rows])
    assert torch.allclose(weighted, repeated)
    (one,) = torch.autograd.grad(weighted, logits)
    (other,) = torch.autograd.grad(repeated, logits)
    assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0], r"each of 2 classes needs rows, got counts \[3, 0\]"),
        ([0, 1, 2], "whole classes from 0 to 1, but row 2 is 2"),
    ],
)
def test_class_weights_refuse_an_empty_or_unknown_class(labels, message):
    with pytest.raises(ValueError, match=message):
        class_weights(np.array(labels), 2)


def test_focal_loss_at_gamma_zero_is_cross_entropy():
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 3
    assert torch.allclose(focal_loss(logits, labels, gamma=0.0), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_the_paper_s_formula(gamma):
    logits = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40) % 3
    p = torch.softmax(logits, dim=1)[torch.arange(40), labels]
    assert torch.allclose(focal_loss(logits, labels, gamma), (-((1 - p) ** gamma) * p.log()).mean())
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, labels, gamma), (logits,))


def test_focal_loss_by_hand():
    """The true class has probability 3/4: (1/4)^2 x ln(4/3)."""
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert focal_loss(logits, torch.tensor([1])).item() == pytest.approx(math.log(4 / 3) / 16)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [0.0, 20.0, 100.0, 1e4])
def test_focal_loss_is_finite_at_extremes(gamma, size):
    logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
    for labels in (torch.tensor([0, 1]), torch.tensor([1, 0])):  # sure and right; sure and wrong
        loss = focal_loss(logits, labels, gamma)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert loss >= 0


def test_focal_loss_refuses_a_negative_gamma():
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=-1.0)


def test_cascade_loss_is_the_likelihood_of_the_chain():
    """Three outcomes of two stages: no; yes and no; yes and yes."""
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    ratings = torch.tensor([2.0, -1.0, -3.0, 0.0, -0.5, -2.5])
    first, second = logits.sigmoid().T
    outcome = [1 - first, first * (1 - second), first * second]
    which = [0, 1, 2, 0, 1, 2]  # a rating at the cut is a yes
    likelihood = torch.stack([outcome[k][i] for i, k in enumerate(which)])
    assert torch.allclose(cascade_loss(logits, ratings, (-0.5, -2.5)), -likelihood.log().mean())
    assert torch.allclose(cascade_probability(logits), first * second)


def test_a_stage_is_not_asked_of_rows_that_did_not_pass():
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = cascade_loss(logits, torch.tensor([1.0, -3.0]), (-0.5, -2.5))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.tolist() == [[0.25, 0.0], [-0.25, -0.25]]


def test_a_cascade_of_one_stage_is_binary_cross_entropy():
    logits, ratings = torch.randn(9, 1), torch.linspace(-4, 4, 9)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0], (ratings <= -2.5).float()
    )
    assert torch.allclose(cascade_loss(logits, ratings, [-2.5]), expected)


@pytest.mark.parametrize(
    "cuts", [(-2.5, -0.5), (-0.5,), (0.0, -1.0, -2.0), (-0.5, -0.5), (0.0, math.nan)]
)
def test_cascade_refuses_rising_cuts_and_other_numbers_of_logits(cuts):
    with pytest.raises(ValueError, match="one falling cut per logit"):
        cascade_loss(torch.zeros(1, 2), torch.zeros(1), cuts)


# --- sampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [[90, 10], [7, 7], [40, 1, 13]])
def test_samples_are_balanced_and_keep_their_promises(counts):
    labels = labels_with(counts)
    few, many = (draw(labels, np.random.default_rng(3)) for draw in (undersample, oversample))
    assert np.bincount(labels[few]).tolist() == [min(counts)] * len(counts)
    assert np.bincount(labels[many]).tolist() == [max(counts)] * len(counts)
    assert len(set(few)) == len(few), "under-sampling repeats a row"
    assert set(many) == set(range(len(labels))), "over-sampling loses a row"
    times = np.bincount(many)
    for name in range(len(counts)):
        assert np.ptp(times[labels == name]) <= 1


@pytest.mark.parametrize("draw", [undersample, oversample])
def test_draws_are_decided_by_the_generator(draw):
    labels = labels_with([90, 10])
    one, same, other = (draw(labels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        draw(np.zeros(5, dtype=int), np.random.default_rng(0))


def test_over_sampling_balances_every_epoch_and_covers_everything():
    labels = labels_with([90, 10])
    sampler = BalancedSampler(labels, 16)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 12  # 180 rows
    rows = np.concatenate(batches)
    assert np.bincount(labels[rows]).tolist() == [90, 90]
    assert set(rows) == set(range(100))
    assert 0.3 < np.mean([labels[batch].mean() for batch in batches[:3]]) < 0.7  # shuffled


def test_under_sampling_shows_other_common_rows_in_each_epoch():
    labels = labels_with([90, 10])
    sampler = BalancedSampler(labels, 8, how="under")
    epochs = [np.concatenate(list(sampler)) for _ in range(20)]
    assert all(np.bincount(labels[rows]).tolist() == [10, 10] for rows in epochs)
    assert len(set(np.concatenate(epochs))) > 80


def test_a_balanced_epoch_is_a_function_of_seed_and_epoch():
    labels = labels_with([90, 10])
    first = BalancedSampler(labels, 16, seed=5)
    epochs = [list(first), list(first)]
    again = BalancedSampler(labels, 16, seed=5)
    again.seek(1, first_batch=4)
    assert epochs[0] != epochs[1]
    assert list(again) == epochs[1][4:]
    assert list(BalancedSampler(labels, 16, seed=6)) != epochs[0]


def test_balanced_sampler_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="over or under, got 'smote'"):
        BalancedSampler(labels_with([9, 1]), 4, how="smote")  # type: ignore[arg-type]


# --- thresholds -------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [1, 8])  # with ties, without
def test_threshold_table_is_scikit_learn_s_curve(digits):
    generator = np.random.default_rng(0)
    labels = labels_with([180, 20])
    probabilities = (0.5 * generator.random(200) + 0.3 * labels).round(digits)
    table = threshold_table(labels, probabilities)
    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    assert table.thresholds[:-1].tolist() == thresholds.tolist()
    assert table.precision[:-1] == pytest.approx(precision[:-1])
    assert table.recall == pytest.approx(recall)
    for i in range(0, len(table.thresholds), 7):
        flagged = probabilities >= table.thresholds[i]
        assert table.f1[i] == pytest.approx(f1_score(labels, flagged, zero_division=0))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.2, 0.25, 0.6, 0.8, 0.9, 2.0])
def test_any_threshold_has_a_place_in_the_table(threshold):
    labels, probabilities = np.array([0, 1, 0, 1, 0]), np.array([0.2, 0.2, 0.6, 0.8, 0.1])
    table, flagged = threshold_table(labels, probabilities), probabilities >= threshold
    i = table.place(threshold)
    assert table.caught[i] == (flagged & (labels == 1)).sum()
    assert table.false_alarms[i] == (flagged & (labels == 0)).sum()
    expected = precision_score(labels, flagged, zero_division=0)
    assert table.precision[i] == pytest.approx(expected)
    assert table.recall[i] == pytest.approx(recall_score(labels, flagged))


def test_best_and_cheapest_by_hand():
    """Flag 0.9 only: F1 2/3. From 0.5 on: 2 of 3 flagged are rare, F1 4/5."""
    labels, probabilities = np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.7, 0.5, 0.3, 0.1])
    table = threshold_table(labels, probabilities)
    assert table.best_f1() == 0.5
    assert table.f1.max() == pytest.approx(4 / 5)
    assert table.cost(miss=3).tolist() == [3, 2, 1, 4, 3, 6]
    assert table.cheapest(miss=3) == 0.5
    assert table.cheapest(miss=1, false_alarm=100) == 0.9
    assert threshold_table(np.array([1, 0]), np.array([0.1, 0.9])).cheapest(1, 5) == np.inf


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], r"the same number of rows, .* got \[2, 1\]"),
        ([[0, 1]], [[0.5, 0.1]], r"arrays of shape \(N,\), got \[\(1, 2\), \(1, 2\)\]"),
        ([0, 0], [0.5, 0.1], "at least one 1"),
        ([0, 2], [0.5, 0.1], "must be 0 and 1"),
        ([0, 1], [0.5, np.nan], "probabilities must be complete, but row 1 is missing"),
        ([0, 1], [0.5, np.inf], "probabilities must be finite numbers, but row 1"),  # flags nothing
    ],
)
def test_bad_tables_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        threshold_table(np.array(labels), np.array(scores))


# --- the way back -----------------------------------------------------------------------------


def test_undoing_a_weight_returns_the_odds():
    probabilities = np.linspace(0.01, 0.99, 50)
    odds = probabilities / (1 - probabilities)
    weighted = 7 * odds / (1 + 7 * odds)
    assert undo_weight(weighted, 7) == pytest.approx(probabilities)
    assert undo_weight(probabilities, 1) == pytest.approx(probabilities)
    assert undo_weight(np.array([0.0, 1.0]), 1e6).tolist() == [0.0, 1.0]


def test_a_weighted_model_undone_agrees_with_the_plain_one():
    """Elkan's theorem on a model that fits: 20,000 rows of a true logistic curve."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20_000, 1))
    y = (generator.random(20_000) < 1 / (1 + np.exp(3.0 - x[:, 0]))).astype(int)
    plain = LogisticRegression().fit(x, y).predict_proba(x)[:, 1]
    weighted = LogisticRegression(class_weight={0: 1, 1: 12}).fit(x, y).predict_proba(x)[:, 1]
    assert np.abs(weighted - plain).mean() > 0.2
    assert np.abs(undo_weight(weighted, 12) - plain).mean() < 0.005


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(ValueError, match="weight must be above 0"):
        undo_weight(np.array([0.5]), weight)


def test_the_cost_threshold_is_the_cheapest_one():
    """With calibrated probabilities, no other threshold costs less, up to chance."""
    generator = np.random.default_rng(0)
    probabilities = generator.random(50_000)
    labels = (generator.random(50_000) < probabilities).astype(int)
    table = threshold_table(labels, probabilities)
    for miss in (1, 4, 19):
        assert table.cheapest(miss) == pytest.approx(cost_threshold(miss), abs=0.04)
    assert cost_threshold(miss=1, false_alarm=0) == 0
    assert cost_threshold(miss=0) == 1


@pytest.mark.parametrize("costs", [(0, 0), (-1, 1), (1, -1)])
def test_impossible_costs_are_refused(costs):
    with pytest.raises(ValueError, match="costs must be at least 0"):
        cost_threshold(*costs)


# --- the dial ---------------------------------------------------------------------------------


def test_the_dial_draws_the_table():
    table = threshold_table(np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.7, 0.5, 0.3, 0.1]))
    figure, (left, right) = plt.subplots(1, 2)
    assert plot_thresholds(table, left, threshold=0.5) is left
    precision, recall, f1, line = left.get_lines()
    assert precision.get_ydata() == pytest.approx([2 / 5, 2 / 4, 2 / 3, 1 / 2, 1])
    assert recall.get_ydata() == pytest.approx([1, 1, 1, 0.5, 0.5])
    assert f1.get_ydata().max() == pytest.approx(4 / 5)
    assert list(line.get_xdata()) == [0.5, 0.5]
    assert plot_costs(table, right, misses=[3]) is right
    curve, cheapest = right.get_lines()
    assert curve.get_ydata() == pytest.approx([3 / 5, 2 / 5, 1 / 5, 4 / 5, 3 / 5, 6 / 5])
    assert (cheapest.get_xdata()[0], cheapest.get_ydata()[0]) == pytest.approx((0.5, 1 / 5))
    plt.close(figure)
