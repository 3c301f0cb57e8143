"""Lesson 17 notices a mistake: each one below makes a claim of its first half fail.

The half before the training, without the cells that start a process or show a page.
"""

from __future__ import annotations

import pytest

from tests.lesson_code import between, code_of, failing_claim, run, with_mistake

LAST = "score(truth, by_words) >"  # the claims about the baselines
MISTAKES = {  # correct code, broken code, and words of the claim that has to fail
    "read in another encoding": (
        'read_table(table, ["text", "label", "review"])',
        'read_table(table, ["text", "label", "review"], encoding="latin-1")',
        "an encoding that had to be guessed",
    ),
    "contradictions that agree": (
        '"praise" if label == "complaint" else "complaint", review] for',
        "label, review] for",
        "so is every contradiction",
    ),
    "copies that are none": (
        "[text.upper(), label, review]",
        "[text + text, label, review]",
        "every copy",
    ),
    "groups not given": (
        'usable_rows(read.cells["text"], labels, goal, read.cells["review"])',
        'usable_rows(read.cells["text"], labels, goal)',
        "divided row by row",
    ),
    "a shuffle for a mixture": (
        "return rows[np.argsort(places)]",
        "return generator.permutation(rows)",
        "mixed by class",
    ),
    "labels at random": (
        "linear = fit_baseline(goal, splits.train, splits.validation)",
        "linear = fit_baseline(goal, type(splits.train)((), splits.train.texts, "
        "generator.permutation(splits.train.targets)), splits.validation)",
        "counted words are far better",
    ),
}


LEFT_OUT = ("at_the_terminal(", "srcdoc=")  # they start a process, or show a page
CELLS = [
    cell
    for cell in between(code_of("17_your_own_data"), "", LAST)
    if not any(words in cell for words in LEFT_OUT)
]


@pytest.mark.slow
def test_the_first_half_runs_and_its_claims_hold() -> None:
    names = run(CELLS)
    assert len(names["claim"].shown) == 11
    names["place"].cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake: str) -> None:
    correct, broken, statement = MISTAKES[mistake]
    assert statement in failing_claim(with_mistake(CELLS, correct, broken))
