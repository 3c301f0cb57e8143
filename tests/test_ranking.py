"""Ranked lists: by hand, and as scikit-learn counts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from course_utils.ranking import distinct, ndcg_at_k, ranked, recall_at_k


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_discounted_gain_is_scikit_learns(k):
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.random(40)
        wanted = generator.choice(40, size=generator.integers(1, 12), replace=False)
        relevant = np.isin(np.arange(40), wanted)
        ours = ndcg_at_k(ranked(scores, np.array([], dtype=int)), wanted, k)
        assert ours == pytest.approx(ndcg_score([relevant], [scores], k=k))


def test_by_hand():
    order, wanted = np.array([7, 3, 1]), np.array([3, 5])
    assert recall_at_k(order, wanted, 3) == 0.5
    assert recall_at_k(order, wanted, 1) == 0
    gain = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    assert ndcg_at_k(order, wanted, 3) == pytest.approx(gain)
    assert (ndcg_at_k(order, wanted, 1), ndcg_at_k(order[1:], wanted, 1)) == (0, 1)


def test_the_best_list_has_1_however_many_were_wanted():
    for wanted in ([4], [4, 2], [4, 2, 0, 1]):
        order = np.array([4, 2, 0, 1, 3])
        assert ndcg_at_k(order, np.array(wanted), 3) == pytest.approx(1)
    assert ndcg_at_k(np.array([4]), np.array([4, 2]), 3) < 1  # a list too short is not the best


def test_what_was_rated_is_in_no_list_and_equal_scores_keep_their_order():
    assert ranked(np.array([1.0, 3.0, 2.0, 3.0]), np.array([1])).tolist() == [3, 2, 0]
    assert ranked(np.zeros(4), np.array([], dtype=int)).tolist() == [0, 1, 2, 3]


def test_what_has_no_value_is_refused():
    with pytest.raises(ValueError, match="a row or more"):
        recall_at_k(np.array([1, 2]), np.array([]), 2)
    with pytest.raises(ValueError, match="order names a row twice"):
        ndcg_at_k(np.array([1, 1]), np.array([1]), 2)
    with pytest.raises(ValueError, match="k must be at least 1"):
        recall_at_k(np.array([1]), np.array([1]), 0)
    with pytest.raises(ValueError, match="scores must be complete"):
        ranked(np.array([1.0, np.nan]), np.array([], dtype=int))
    assert distinct((3, 1), "wanted").tolist() == [3, 1]
