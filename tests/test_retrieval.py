"""Search, its scores, and handing over: against references, by hand, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from course_utils.contrastive import info_nce
from course_utils.retrieval import (
    BM25,
    choose_handover,
    coverage_curve,
    mean_reciprocal_rank,
    ranks,
    recall_at,
)

PASSAGES = ["a mouse", "a printer and a mouse", "the the the cable", "printer"]


def test_bm25_is_its_formula_word_by_word():
    """N = 4; 'printer' is in two passages of 5 and 1 words; the mean length is 3."""
    rarity = math.log(1 + 2.5 / 2.5)
    expected = [
        rarity * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 5 / 3)),
        rarity * 2.5 / (1 + 1.5 * (0.25 + 0.75 / 3)),
    ]
    found = BM25(PASSAGES).scores(["Printer?"])[0]
    assert found[[1, 3]] == pytest.approx(expected)
    assert found[[0, 2]].tolist() == [0, 0]


def test_bm25_does_what_each_part_is_for():
    search = BM25(PASSAGES)
    both = search.scores(["mouse", "mouse mouse"])
    assert both[1] == pytest.approx(2 * both[0])  # a word asked twice counts twice
    repeated = BM25(["cable x y", "cable cable y", "cable cable cable"], b=0).scores(["cable"])[0]
    assert repeated[0] < repeated[1] < repeated[2] < 2 * repeated[0]
    assert search.scores(["zebra", ""]).tolist() == [[0] * 4] * 2
    assert (search.scores(["a the mouse printer"]) >= 0).all()  # no word counts against a passage
    with pytest.raises(ValueError, match="list of questions"):
        search.scores("mouse")  # would be five questions of a letter each
    alone = BM25(["x", "x y y y y"], b=0).scores(["x"])[0]
    assert alone[0] == pytest.approx(alone[1])  # b = 0: the length does not matter
    longer = BM25(["x", "x y y y y"], b=1).scores(["x"])[0]
    assert longer[0] > 2 * longer[1]  # b = 1: it matters in full
    seen = BM25(["x", "x x x", "y"], k1=0).scores(["x"])[0]
    assert seen[0] == seen[1] > seen[2] == 0  # k1 = 0: how often does not matter
    assert BM25(["x", ""], b=1).scores(["x"])[0, 1] == 0  # an empty passage


def test_ranks_agree_with_sorting_and_are_hard_on_ties():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(50, 20))
    right = [set(generator.choice(20, 3, replace=False).tolist()) for _ in range(50)]
    sorted_places = [
        1 + min(np.argsort(-row).tolist().index(i) - before(row, theirs, i) for i in theirs)
        for row, theirs in zip(scores, right, strict=True)
    ]
    assert ranks(scores, right).tolist() == sorted_places
    assert ranks(np.zeros((2, 5)), [{0}, {1, 2}]).tolist() == [5, 4]


def before(row: np.ndarray, theirs: set[int], i: int) -> int:
    """How many other right passages stand before one."""
    return sum(row[j] > row[i] for j in theirs)


def test_what_learned_nothing_has_a_mean_reciprocal_rank_near_zero():
    scores = np.random.default_rng(0).random((400, 500))
    places = ranks(scores, [{i} for i in range(400)])
    assert mean_reciprocal_rank(places) < 0.03
    assert recall_at(places, 5) < 0.04
    assert recall_at(np.array([1, 1, 2]), 1) == pytest.approx(2 / 3)


def test_the_handover_is_the_best_threshold_of_all():
    generator = np.random.default_rng(1)
    sure = np.round(generator.random(200), 2)  # with ties
    right = generator.random(200) < sure
    chosen = choose_handover(sure, right, most_wrong=0.2)
    tried = []
    for threshold in np.unique(sure):
        answered = sure >= threshold
        if (~right[answered]).mean() <= 0.2:
            tried.append(answered.mean())
    assert chosen.coverage == max(tried)
    assert (sure >= chosen.threshold).mean() == pytest.approx(chosen.coverage)
    assert chosen.wrong <= 0.2
    _, coverage, wrong = coverage_curve(sure, right)
    assert coverage[-1] == 1
    assert wrong[-1] == pytest.approx((~right).mean())


def test_a_search_that_is_never_right_hands_over_everything():
    chosen = choose_handover(np.array([0.9, 0.8]), np.array([False, False]), 0.5)
    assert chosen == chosen.__class__(math.inf, 0.0, 0.0)


def test_info_nce_is_minus_the_mean_log_of_the_partners_share():
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 5, 8, generator=generator)
    cosines = torch.nn.functional.cosine_similarity(u[:, None], v[None], dim=2) / 0.1
    forth, back = cosines.softmax(dim=1).diagonal(), cosines.softmax(dim=0).diagonal()
    assert info_nce(u, v, 0.1).item() == pytest.approx(
        -(forth.log().mean() + back.log().mean()).item() / 2, rel=1e-5
    )
    assert info_nce(3 * u, v, 0.1).item() == pytest.approx(info_nce(u, v, 0.1).item(), rel=1e-5)
    assert info_nce(u, v.flip(0), 0.1) > info_nce(u, u, 0.1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: BM25([]), "one at least"),
        (lambda: BM25("one text"), "list of passages"),
        (lambda: BM25(["a"], b=1.5), "from 0 to 1"),
        (lambda: ranks(np.zeros((2, 3)), [{0}]), "1 questions"),
        (lambda: ranks(np.zeros((1, 3)), [set()]), "no right passage"),
        (lambda: choose_handover(np.ones(2), np.ones(2) == 1, 1.0), "below 1"),
        (lambda: info_nce(torch.ones(2, 2), torch.ones(2, 2), 0.0), "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
