"""The grader graded, lesson by lesson: whole notebooks, through the sandbox.

Lessons are found by their items; adding one needs no change here. The wrong answers are known-wrong
variants of the items, taken by number from the answer book, which for this test alone is left
visible in the sandbox.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from course_utils.grading import sandbox
from course_utils.grading.grade import Settings, grade_all
from course_utils.grading.items import lessons, load_items
from course_utils.grading.sandbox import Limits
from course_utils.grading.submissions import Submission
from tests.grading.hostile import EXERCISE, SOLUTION

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]
SETTINGS = Settings(seed=4_711, limits=Limits(seconds=180))


def notebook_of(folder: Path, lesson: str) -> Path:
    return next(folder.glob(f"{lesson}_*.ipynb"), folder / "missing")


def is_there(lesson: str) -> bool:
    """A lesson without its notebooks fails its own tests and nobody else's."""
    return all(notebook_of(f, lesson).exists() for f in (SOLUTION.parent, EXERCISE.parent))


def first_variants(lesson: str) -> dict[str, int]:
    """For each item that has a known-wrong variant, the number of its first."""
    found = {}
    for item in load_items(lesson):
        numbers = [n for n, d in enumerate(item.diagnoses) if d.variant is not None]
        if numbers:
            found[item.target] = numbers[0]
    return found


def spoiled(lesson: str) -> bytes:
    """The solution, its answers then replaced by known-wrong ones."""
    content = json.loads(notebook_of(SOLUTION.parent, lesson).read_text(encoding="utf-8"))
    lines = [
        f"from course_utils.grading.items import load_items as _load; _items = _load({lesson!r})"
    ]
    for number, item in enumerate(load_items(lesson)):
        if item.target in (found := first_variants(lesson)):
            place = f"_items[{number}].diagnoses[{found[item.target]}].variant"
            lines.append(f"{item.target} = {place}")
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": "\n".join(lines)}
    content["cells"].append(cell)
    return json.dumps(content).encode()


@pytest.fixture(scope="module")
def graded(walls, tmp_path_factory):
    """Of every lesson: the solution, the untouched exercise, and a notebook of wrong answers."""
    whole = sandbox.command
    place = tmp_path_factory.mktemp("lessons")
    handed_in, wrong = [], []
    for lesson in filter(is_there, lessons()):
        for name, folder in (("solved", SOLUTION.parent), ("untouched", EXERCISE.parent)):
            path = notebook_of(folder, lesson)
            handed_in.append(Submission(name, lesson, path.name, path.read_bytes()))
        wrong.append(Submission("wrong", lesson, "x.ipynb", spoiled(lesson)))
    results = grade_all(handed_in, SETTINGS, place, jobs=2)

    def with_answers(*given):
        arguments = whole(*given)
        index = next(i for i, a in enumerate(arguments) if a.endswith("grading/items"))
        return arguments[: index - 1] + arguments[index + 1 :]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "command", with_answers)
        results += grade_all(wrong, SETTINGS, place, jobs=2)
    return {(result.student, result.lesson): result for result in results}


@pytest.mark.parametrize("lesson", lessons())
def test_a_solution_gets_full_marks(graded, lesson):
    result = graded["solved", lesson]
    assert (result.score, result.status, result.detail) == (result.most, "ok", ""), result
    assert result.most == sum(item.points for item in load_items(lesson)) > 0


@pytest.mark.parametrize("lesson", lessons())
def test_an_untouched_exercise_gets_nothing(graded, lesson):
    result = graded["untouched", lesson]
    assert result.score == 0, result
    assert result.status in ("ok", "failed"), result
    assert not any(item.points for item in result.items), "an item passes by accident"


@pytest.mark.parametrize("lesson", lessons())
def test_wrong_answers_lose_their_items_and_are_named(graded, lesson):
    result = graded["wrong", lesson]
    numbers = first_variants(lesson)
    for item, graded_item in zip(load_items(lesson), result.items, strict=True):
        if item.target in numbers:
            expected = item.diagnoses[numbers[item.target]]
            assert graded_item.points == 0, graded_item
            assert graded_item.diagnosis == expected.name, graded_item
            assert graded_item.message == expected.message
        else:
            assert graded_item.points == item.points, graded_item
