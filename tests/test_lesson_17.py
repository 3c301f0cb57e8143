"""Lesson 17 notices a mistake: each one below makes a claim of its first half fail.

The half before the training, without the cells that start a process or show a page.
"""

from __future__ import annotations

from typing import Any

import pytest
from nbformat import NotebookNode

from course_utils.claims import ClaimError
from tools.notebooks import ROOT, code_cells, tags, to_notebook

SOURCE = ROOT / "notebooks" / "source" / "17_your_own_data.md"
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


def first_half() -> list[NotebookNode]:
    """The cells up to the baselines that start no process, show no page and raise nothing."""
    cells = code_cells(to_notebook(SOURCE.read_text(encoding="utf-8")))
    end = next(n for n, cell in enumerate(cells) if LAST in cell.source)
    left_out = ("at_the_terminal(", "srcdoc=")
    return [
        cell
        for cell in cells[: end + 1]
        if "raises-exception" not in tags(cell) and not any(w in cell.source for w in left_out)
    ]


def run(correct: str = "", broken: str = "") -> dict[str, Any]:
    """Execute the first half, one piece of its code replaced."""
    cells = first_half()
    assert not correct or sum(cell.source.count(correct) for cell in cells) == 1, correct
    names: dict[str, Any] = {"__name__": "lesson"}
    for number, cell in enumerate(cells, start=1):
        source = cell.source.replace(correct, broken) if correct else cell.source
        exec(compile(source, f"In [{number}]", "exec"), names)
    return names


@pytest.mark.slow
def test_the_first_half_runs_and_its_claims_hold() -> None:
    names = run()
    assert len(names["claim"].shown) == 11
    names["place"].cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake: str) -> None:
    correct, broken, statement = MISTAKES[mistake]
    with pytest.raises(ClaimError, match="not true here") as failure:
        run(correct, broken)
    assert statement in str(failure.value)
