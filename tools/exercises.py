"""Make the exercises students get from the solutions, which are what is edited.

    python -m tools.exercises build        # whatever changed
    python -m tools.exercises build 01     # this one
    python -m tools.exercises check        # is everything in step? changes nothing

A solution is written as ``solutions/source/NN_topic.md``. *build* first stamps into it what the
item table (`answer_book`) knows, nbgrader's cell metadata and each item's line of
difficulty, time and points; then `tools.notebooks` executes it to ``solutions/NN_topic.ipynb``;
then every region between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` becomes a stub, outputs
are cleared and given cells locked: that is ``exercises/NN_topic.ipynb``, the same bytes each time.

nbgrader's own preprocessors do the clearing and locking, so that ``nbgrader
generate_assignment`` makes the same of a solution.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.preprocessors import ClearSolutions, LockCells

from course_utils.grading.items import Item, load_items
from tools.notebooks import (
    MEASURED,
    ROOT,
    BuildError,
    Pair,
    build,
    find_pairs,
    problems,
    read_notebook,
    select,
    to_json,
    to_notebook,
    to_text,
    with_colab,
    write_if_changed,
)

HANDING_IN = """\
## Before you hand in

Save this notebook, then say in a terminal: `course check exercises/{name}.ipynb`. It runs the file
from top to bottom in a new process, as grading does, and says what grading would see.
[More](../docs/students.md#before-you-hand-in)"""
CHECK = re.compile(r"^check\(\"(\d\d\.\w+)\"", re.MULTILINE)
ITEM_LINE = re.compile(r"^\*\*Item (\d\d\.\w+)\*\*.*$", re.MULTILINE)
SOLUTION = "### BEGIN SOLUTION"


def solutions(root: Path = ROOT) -> list[Pair]:
    """All pairs of ``solutions/``."""
    return [pair for pair in find_pairs(root) if pair.notebook.parent.name == "solutions"]


def exercise_path(pair: Pair) -> Path:
    return pair.notebook.parent.parent / "exercises" / pair.notebook.name


# -- what the item table knows ------------------------------------------------------------------


def dots(n: int) -> str:
    """A grade from 1 to 5, to be read at a glance and aloud.

    >>> dots(2)
    '●●○○○ (2 of 5)'
    """
    return "●" * n + "○" * (5 - n) + f" ({n} of 5)"


def item_line(item: Item) -> str:
    points = f"{item.points} point{'s' * (item.points != 1)}"
    return (
        f"**Item {item.name}** · difficulty {dots(item.difficulty)} · importance "
        f"{dots(item.importance)} · about {item.minutes} minutes · {points}"
    )


def stamp(notebook: NotebookNode, items: tuple[Item, ...]) -> NotebookNode:
    """Write items' lines and nbgrader's metadata into a solution. Changes and returns it.

    Raises
    ------
    BuildError
        The notebook does not have every item once, in order, each with a cell to solve.
    """
    known = {item.name: item for item in items}
    shown: list[str] = []
    checked: list[str] = []
    parts = 0  # solution cells since the last check
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = ITEM_LINE.findall(cell.source)
            if unknown := set(found) - set(known):
                raise BuildError(f"No such item: {', '.join(unknown)}.")
            shown += found
            cell.source = ITEM_LINE.sub(lambda match: item_line(known[match[1]]), cell.source)
            continue
        check = CHECK.search(cell.source)
        current = items[len(checked)].target if len(checked) < len(items) else "rest"
        if SOLUTION in cell.source:
            parts += 1
            name = current + (f"_{parts}" if parts > 1 else "")
            cell.metadata["nbgrader"] = _mark(name, solution=True)
        elif check:
            item = known.get(check[1])
            if item is None:
                raise BuildError(f"No such item: {check[1]}.")
            if not parts:
                raise BuildError(f"Nothing to solve before the check of {item.name}.")
            checked.append(item.name)
            parts = 0
            cell.metadata["nbgrader"] = _mark(f"check_{item.target}", points=item.points)
        else:
            cell.metadata.pop("nbgrader", None)
    if not shown == checked == list(known):
        raise BuildError(
            f"Items in the table: {', '.join(known)}.\nItem lines in the notebook: "
            f"{', '.join(shown)}.\nCells with a check: {', '.join(checked)}."
        )
    return notebook


def _mark(grade_id: str, *, solution: bool = False, points: int = 0) -> NotebookNode:
    """A cell's metadata in nbgrader's schema 3."""
    mark = NotebookNode(grade=not solution, grade_id=grade_id, locked=not solution)
    if not solution:
        mark["points"] = points
    return NotebookNode(mark | {"schema_version": 3, "solution": solution, "task": False})


# -- the exercise -------------------------------------------------------------------------------


def make_exercise(solution: NotebookNode, name: str) -> NotebookNode:
    """The notebook students get, from an executed solution, which is left as it is."""
    notebook = copy.deepcopy(solution)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # what was measured was the solution
            cell.source = re.sub(r"\n{3,}", "\n\n", MEASURED.sub("", cell.source)).strip()
    for step in (ClearSolutions(), ClearOutputPreprocessor(), LockCells()):
        notebook, _ = step.preprocess(notebook, {})
    for cell in notebook.cells:  # "Run All" goes on after an item that is not solved yet
        if cell.cell_type == "code" and CHECK.search(cell.source):
            cell.metadata["tags"] = ["raises-exception"]
    hint = new_markdown_cell(HANDING_IN.format(name=name), id="handing-in")
    notebook.cells.append(hint)
    notebook.metadata = NotebookNode(
        kernelspec=solution.metadata["kernelspec"],
        language_info={"name": "python"},
        course={"exercise": name},
    )
    notebook = with_colab(notebook, f"exercises/{name}.ipynb")
    nbformat.validate(notebook)
    return notebook


def expected_text(pair: Pair) -> str:
    """A solution's source as it should be: stamped."""
    text = pair.source.read_text(encoding="utf-8")
    lesson = pair.source.name[:2]
    return to_text(stamp(to_notebook(text), load_items(lesson)))


def build_exercise(pair: Pair, root: Path = ROOT) -> str:
    """Bring one solution and its exercise in step. Returns what was done, in words."""
    if not pair.source.exists():
        raise BuildError(f"There is no source {pair.source.relative_to(root)}.")
    write_if_changed(pair.source, expected_text(pair))
    done = build(pair, root)
    path = exercise_path(pair)
    content = to_json(make_exercise(read_notebook(pair.notebook), pair.notebook.stem))
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        done += "; exercise written"
    write_if_changed(path, content)
    return done


def exercise_problems(pair: Pair, root: Path = ROOT) -> list[str]:
    """Why a solution and its exercise are not in step; empty when they are. Reads only."""
    if found := problems(pair, root):
        return found
    try:
        stamped = expected_text(pair)
    except (BuildError, ValueError) as error:
        return [str(error)]
    if stamped != pair.source.read_text(encoding="utf-8"):
        found.append("points or item lines differ from the item table: build again")
    path = exercise_path(pair)
    content = to_json(make_exercise(read_notebook(pair.notebook), pair.notebook.stem))
    if not path.exists() or path.read_bytes() != content.encode():
        found.append(f"{path.relative_to(root)} is not what the solution gives: build again")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=["build", "check"])
    parser.add_argument("names", nargs="*", help="such as 01 or 01_gradients; all if none")
    options = parser.parse_args(arguments)
    failed = 0
    # A name may be that of a lesson without exercises, as `make notebooks` passes them on.
    for pair in (p for p in select(find_pairs(), options.names) if p in solutions()):
        print(f"{pair.name:<36}", end="", flush=True)
        try:
            if options.command == "check":
                result = "; ".join(exercise_problems(pair))
                failed += bool(result)
            else:
                result = build_exercise(pair)
        except (BuildError, ValueError) as error:
            failed += 1
            result = f"FAILED, left as it was\n{error}"
        print(result or "in step", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
