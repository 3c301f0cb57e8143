"""The grader graded, lesson by lesson: whole notebooks, through the sandbox.

Lessons are found by their items; adding one needs no change here. The wrong answers are known-wrong
variants of the items, taken by number from the answer book, which for this test alone is left
visible in the sandbox.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from course_utils.grading.grade import grade_all
from course_utils.grading.items import lessons, load_items
from course_utils.grading.results import Settings
from course_utils.grading.sandbox import Limits, filesystem
from course_utils.grading.submissions import Submission
from tests.grading.hostile import EXERCISE, ROOT, SOLUTION

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]
SETTINGS = Settings(seed=4_711, limits=Limits(seconds=180))


def first_variants(lesson: str) -> dict[str, int]:
    """For each item that has a known-wrong variant, the number of its first."""
    found = {}
    for item in load_items(lesson):
        numbers = [n for n, d in enumerate(item.diagnoses) if d.wrong]
        if numbers:
            found[item.target] = numbers[0]
    return found


def spoiled(lesson: str) -> bytes:
    """The solution, its answers then replaced by known-wrong ones."""
    [path] = SOLUTION.parent.glob(f"{lesson}_*.ipynb")
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        f"from course_utils.grading.items import load_items as _load; _items = _load({lesson!r})"
    ]
    for number, item in enumerate(load_items(lesson)):
        if item.target in (found := first_variants(lesson)):
            place = f"_items[{number}].diagnoses[{found[item.target]}].wrong[0]"
            lines.append(f"{item.target} = {place}")
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": "\n".join(lines)}
    content["cells"].append(cell)
    return json.dumps(content).encode()


@pytest.fixture(scope="module", params=lessons())
def lesson(request):
    return request.param


@pytest.fixture(scope="module")
def graded(walls, lesson, tmp_path_factory):
    """Of one lesson: the solution, the untouched exercise, and a notebook of wrong answers."""
    place = tmp_path_factory.mktemp("lesson")
    honest = []
    for name, folder in (("solved", SOLUTION.parent), ("untouched", EXERCISE.parent)):
        [path] = folder.glob(f"{lesson}_*.ipynb")
        honest.append(Submission(name, lesson, path.name, path.read_bytes()))
    results = grade_all(honest, SETTINGS, place, jobs=2)
    with pytest.MonkeyPatch.context() as patch:
        book, whole = Path("/course/answer_book"), filesystem.shown_folders
        patch.setattr(filesystem, "masks", lambda hidden, shown: {})
        patch.setattr(filesystem, "shown_folders", lambda: whole() | {book: ROOT / "answer_book"})
        wrong = Submission("wrong", lesson, "x.ipynb", spoiled(lesson))
        other = replace(SETTINGS, hidden=(str(place),))  # or the nursery of before is taken
        results += grade_all([wrong], other, place)
    return {result.student: result for result in results}


def test_a_solution_gets_full_marks(graded, lesson):
    result = graded["solved"]
    assert (result.score, result.status, result.detail) == (result.most, "ok", ""), result
    assert result.most == sum(item.points for item in load_items(lesson)) > 0


def test_an_untouched_exercise_gets_nothing(graded, lesson):
    result = graded["untouched"]
    assert result.score == 0, result
    assert result.status in ("ok", "failed"), result
    assert not any(item.points for item in result.items), "an item passes by accident"


def test_wrong_answers_lose_their_items_and_are_named(graded, lesson):
    result = graded["wrong"]
    numbers = first_variants(lesson)
    for item, graded_item in zip(load_items(lesson), result.items, strict=True):
        if item.target in numbers:
            expected = item.diagnoses[numbers[item.target]]
            assert graded_item.points == 0, graded_item
            assert graded_item.diagnosis == expected.name, graded_item
            assert graded_item.message == expected.message
        else:
            assert graded_item.points == item.points, graded_item
