"""Several tasks for one model: the loss of two heads, scores, and how corpora are mixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.datasets import Sentence, load_corpus, targets
from course_utils.tasks import (
    MixedSampler,
    mixing_shares,
    rating_and_class_loss,
    score,
    three_classes,
)


def test_the_loss_of_two_heads_is_the_sum_of_theirs():
    torch.manual_seed(0)
    outputs, ratings = torch.randn(9, 4), torch.linspace(-2, 2, 9)  # -0.5 and 0.5 among them
    classes = torch.tensor(targets_of(ratings))
    expected = ((outputs[:, 0] - ratings) ** 2).mean()
    expected = expected + nn.functional.cross_entropy(outputs[:, 1:], classes)
    assert torch.allclose(rating_and_class_loss(outputs, ratings), expected)


def targets_of(ratings: torch.Tensor) -> np.ndarray:
    return targets([Sentence("1", "1", "a", float(r)) for r in ratings], "three_class")


def test_classes_are_cut_where_the_datasets_cut_them():
    rows = load_corpus("amazon")[:800]
    found = three_classes(targets(rows, "rating").astype(float))
    assert (found == targets(rows, "three_class")).all()


def test_a_shrunk_rating_keeps_r_and_loses_f1():
    ratings = np.random.default_rng(0).normal(0, 1.5, 300)
    whole, shrunk = score(ratings, ratings), score(ratings, ratings / 20)
    assert whole.f1 == whole.r == 1.0
    assert shrunk.r == pytest.approx(1.0)
    assert shrunk.f1 < 0.3
    assert score(ratings, np.zeros(300)).r == 0.0  # a model that always says the same


def test_temperature_goes_from_size_to_equality():
    sizes = [400, 100, 20]
    assert mixing_shares(sizes) == pytest.approx(np.array(sizes) / 520)
    assert mixing_shares(sizes, float("inf")) == pytest.approx([1 / 3] * 3)
    smallest = [mixing_shares(sizes, t)[2] for t in (1, 2, 5, 50, float("inf"))]
    assert smallest == sorted(smallest)
    roots = np.sqrt(sizes)
    assert mixing_shares(sizes, 2) == pytest.approx(roots / roots.sum())
    assert mixing_shares([10**9, 1], 1.01).sum() == pytest.approx(1)


@pytest.mark.parametrize(("sizes", "t"), [([], 1), ([3, 0], 1), ([3], 0.9), ([3], float("nan"))])
def test_mixing_refuses_what_it_cannot_mean(sizes, t):
    with pytest.raises(ValueError, match=r"needs|must be"):
        mixing_shares(sizes, t)


def test_a_mixed_epoch_has_each_task_by_its_share():
    sizes, shares = [400, 50], np.array([0.5, 0.5])
    sampler = MixedSampler(sizes, shares, batch_size=10, steps=200, seed=3)
    rows = np.concatenate(sampler.batches(0))
    assert len(rows) == 2000
    assert len(sampler) == 200
    small = rows >= 400
    assert small.mean() == pytest.approx(0.5, abs=0.05)
    assert (rows < 450).all()
    seen = np.bincount(rows[small] - 400, minlength=50)
    assert seen.max() - seen.min() <= 1  # it goes round: no row twice before all once
    assert sampler.batches(0) == sampler.batches(0) != sampler.batches(1)


def test_a_mixed_sampler_needs_a_share_for_each_task():
    with pytest.raises(ValueError, match="2 sizes"):
        MixedSampler([3, 4], np.array([1.0]), 2, 2)
