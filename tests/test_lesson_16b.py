"""Lesson 16b notices a mistake: each one below makes a claim of its first half fail.

The half up to the popularity list, before anything is trained.
"""

from __future__ import annotations

import pytest

from tests.lesson_code import between, code_of, failing_claim, run, with_mistake

LAST = "what many liked is many times better"
MISTAKES = {  # correct code, broken code, and words of the claim that has to fail
    "every hit counts alike": (
        "discounts = 1 / np.log2(",
        "discounts = 0 * np.log2(",
        "one of two, in the second place",
    ),
    "recall of the list instead of the wanted": (
        "return float(found.sum() / len(wanted))",
        "return float(found.sum() / k)",
        "one of two, in the second place",
    ),
    "guests of another period": (
        "guests = visitors(ratings, CUT, known=10",
        "guests = visitors(ratings, EARLIER, until=CUT, known=10",
        "every guest comes after the cut",
    ),
    "the unpopular first": (
        "np.tile(at.likes.sum(dim=0).numpy()",
        "np.tile(-at.likes.sum(dim=0).numpy()",
        "what many liked",
    ),
    "places taken for films": (
        "order = catalogue[ranked(scores[row], np.flatnonzero(np.isin(catalogue, guest.rated)))]",
        "order = ranked(scores[row], np.flatnonzero(np.isin(catalogue, guest.rated)))",
        "what many liked",
    ),
}


CELLS = between(code_of("16b_recommendation"), "", LAST)


@pytest.mark.slow
def test_the_first_half_runs_and_its_claims_hold() -> None:
    assert len(run(CELLS)["claim"].shown) == 7


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake: str) -> None:
    correct, broken, statement = MISTAKES[mistake]
    assert statement in failing_claim(with_mistake(CELLS, correct, broken))
