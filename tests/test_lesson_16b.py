"""Lesson 16b notices a mistake: each one below makes a claim of its first half fail.

The half up to the popularity list, before anything is trained.
"""

from __future__ import annotations

from typing import Any

import pytest

from course_utils.claims import ClaimError
from tools.notebooks import ROOT, code_cells, tags, to_notebook

SOURCE = ROOT / "notebooks" / "source" / "16b_recommendation.md"
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


def run(correct: str = "", broken: str = "") -> dict[str, Any]:
    """Execute the first half, one piece of its code replaced."""
    cells = code_cells(to_notebook(SOURCE.read_text(encoding="utf-8")))
    end = next(n for n, cell in enumerate(cells) if LAST in cell.source)
    cells = [cell for cell in cells[: end + 1] if "raises-exception" not in tags(cell)]
    assert not correct or sum(cell.source.count(correct) for cell in cells) == 1, correct
    names: dict[str, Any] = {"__name__": "lesson"}
    for number, cell in enumerate(cells, start=1):
        source = cell.source.replace(correct, broken) if correct else cell.source
        exec(compile(source, f"In [{number}]", "exec", dont_inherit=True), names)
    return names


@pytest.mark.slow
def test_the_first_half_runs_and_its_claims_hold() -> None:
    assert len(run()["claim"].shown) == 7


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake: str) -> None:
    correct, broken, statement = MISTAKES[mistake]
    with pytest.raises(ClaimError, match="not true here") as failure:
        run(correct, broken)
    assert statement in str(failure.value)
