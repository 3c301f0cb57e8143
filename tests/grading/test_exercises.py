"""Solutions and exercises in step; the generator, and that it notices what is wrong."""

from __future__ import annotations

import copy

import pytest
from nbclient import NotebookClient

from course_utils.grading.items import lessons, load_items
from tools.exercises import (
    BuildError,
    exercise_path,
    exercise_problems,
    make_exercise,
    solutions,
    stamp,
)
from tools.notebooks import code_cells, read_notebook, to_json

PAIRS = solutions()


def by_name(pair):
    return pair.name


def test_every_lesson_with_items_has_a_solution():
    assert sorted(pair.source.name[:2] for pair in PAIRS) == lessons()


@pytest.mark.parametrize("pair", PAIRS, ids=by_name)
def test_in_step(pair):
    assert exercise_problems(pair) == []


@pytest.mark.parametrize("pair", PAIRS, ids=by_name)
def test_every_check_of_a_solution_was_passed(pair):
    text = to_json(read_notebook(pair.notebook))
    for item in load_items(pair.source.name[:2]):
        assert f"✓ {item.name}: right" in text


@pytest.mark.parametrize("pair", PAIRS, ids=by_name)
def test_an_exercise_gives_no_answer_away(pair):
    exercise = read_notebook(exercise_path(pair))
    for cell in code_cells(exercise):
        assert not cell.outputs
        assert cell.execution_count is None
        assert "SOLUTION" not in cell.source
    for before, after in zip(
        code_cells(read_notebook(pair.notebook)), code_cells(exercise), strict=True
    ):
        regions = before.source.split("### BEGIN SOLUTION")[1:]
        for answer in (region.split("### END SOLUTION")[0] for region in regions):
            assert "raise NotImplementedError()" in after.source
            assert answer.strip() not in after.source


def test_run_all_reaches_the_last_check_though_nothing_is_solved():
    exercise = read_notebook(exercise_path(PAIRS[1]))
    NotebookClient(exercise, timeout=120).execute()
    checks = [cell for cell in code_cells(exercise) if cell.source.startswith("check(")]
    assert len(checks) == len(load_items("01"))
    for cell in checks:
        assert cell.outputs[-1].output_type == "error"


@pytest.mark.parametrize("pair", PAIRS, ids=by_name)
def test_generated_twice_is_the_same_bytes(pair):
    solution = read_notebook(pair.notebook)
    before = copy.deepcopy(solution)
    texts = [to_json(make_exercise(solution, pair.notebook.stem)) for _ in range(2)]
    assert texts[0] == texts[1] == exercise_path(pair).read_text(encoding="utf-8")
    assert solution == before


def spoiled(change):
    notebook = read_notebook(PAIRS[0].notebook)
    change([c for c in notebook.cells if "check(" in c.source], notebook)
    return notebook


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda checks, nb: nb.cells.remove(checks[0]), "Cells with a check"),
        (lambda checks, nb: nb.cells.append(checks[0]), "Nothing to solve before"),
        (lambda checks, nb: checks[0].update(source='check("01.other", f)'), "No such item"),
        (lambda checks, nb: nb.cells[0].update(source="**Item 01.other**"), "No such item"),
    ],
)
def test_a_solution_that_does_not_fit_its_items_is_refused(change, message):
    with pytest.raises(BuildError, match=message):
        stamp(spoiled(change), load_items(PAIRS[0].source.name[:2]))
