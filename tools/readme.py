"""Write into README.md and lesson 00 what the notebooks say of themselves: it is never stale.

    python -m tools.readme           # write
    python -m tools.readme --check   # is it in step? changes nothing

Two parts of the README are generated, each between two comments: the lesson map, from the headers
of the notebooks (title, the beginning of an objective, measured minutes, prerequisites), and the
command that clones the project, from the address in ``pyproject.toml``. Its picture is cut out of
the threshold dial in lesson 06, as that was when the lesson was executed. Lesson 00 ends in a
shorter map, in its text and in its notebook: prose, so that nothing is executed.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from PIL import Image

from tools.notebooks import ROOT, read_notebook, repository, to_json, write_if_changed

# Which objective of a lesson stands on the map; of any other, the second.
SHOWN = {"01": 5, "01a": 1, "01c": 4, "02": 3, "03": 3, "05": 1, "06": 3, "07": 5, "08": 5, "09": 3,
         "15": 3, "15a": 3, "17": 1}  # fmt: skip
FIRST = "00_start_here"  # the lesson with a map of all lessons
PICTURE = "docs/images/lesson.png"
SHOWS = ("06_evaluation", "threshold_dial(", 655)  # notebook, its cell, columns kept of the output
PART = "<!-- {0}: written by tools/readme.py -->\n{1}<!-- end of {0} -->"


@dataclass(frozen=True)
class Row:
    """One lesson, as its header describes it."""

    path: str
    title: str
    learn: str
    minutes: str
    needs: str
    exercise: str


def read_row(path: Path, root: Path = ROOT) -> Row:
    """What a notebook's header says.

    Raises
    ------
    ValueError
        The header lacks something; `tests/test_notebooks.py` says how it should look.
    """
    cells = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown"]
    header = "\n\n".join(cells[:3])
    title = re.search(r"^# (.+)$", header, re.M)
    goals = re.search(r"^## What you will be able to do\n(.+?)^\*\*", header, re.M | re.S)
    needs = re.search(r"^\*\*Prerequisites:\*\*(.+?)(?:\n\n|\Z)", header, re.M | re.S)
    minutes = re.search(r"^\*\*Measured:\*\* ([\d.]+) min", header, re.M)
    if not (title and goals and needs):
        raise ValueError(f"{path.name}: no title, objectives or prerequisites in its header")
    found = re.findall(r"^- (.+?)(?=^- |\Z)", goals[1], re.M | re.S)
    exercise = f"exercises/{path.name}"
    return Row(
        path=path.relative_to(root).as_posix(),
        title=title[1].split(":")[0].replace(". ", " ", 1),  # without a subtitle
        learn=first_clause(found[min(SHOWN.get(path.stem.split("_")[0], 2), len(found)) - 1]),
        minutes=minutes[1] if minutes else "",
        needs=short_needs(needs[1]),
        exercise=f"[{path.stem[:2]}]({exercise})" if (root / exercise).exists() else "",
    )


def first_clause(text: str) -> str:
    """An objective as far as its first comma or "and", those in brackets not counted.

    >>> first_clause("train a vocabulary (of words, or pieces)\\n  from scratch and use it;")
    'train a vocabulary (of words, or pieces) from scratch'
    """
    plain = " ".join(text.split()).rstrip(".;")
    found = re.match(r"(?:\([^)]*\)|(?!,| and )[^(])+", plain)
    return found[0] if found else plain


def short_needs(text: str) -> str:
    """The lessons a lesson builds on; if it names none, the beginning of its first sentence.

    >>> short_needs("lesson 01b (loss) and lessons 03 and 02.")
    '01b, 02, 03'
    >>> short_needs(" Python with lists. No machine learning.")
    'Python'
    """
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    lessons = re.findall(r"\b(\d\d[a-z]?)\b", plain)
    return ", ".join(sorted(set(lessons))) or re.split(r"\.| with ", plain)[0].strip()


def lesson_map(root: Path = ROOT) -> str:
    """The table of lessons that exist."""
    rows = [read_row(path, root) for path in sorted((root / "notebooks").glob("[0-9]*.ipynb"))]
    lines = ["| lesson | you will, among other things | minutes | needs | exercises |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        needs = row.needs.replace(", ", ",\N{NO-BREAK SPACE}")
        cells = (f"[{row.title}]({row.path})", row.learn, row.minutes, needs, row.exercise)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def short_map(root: Path = ROOT) -> str:
    """The table in lesson 00, where a lesson is a click away and the first is open already."""
    lines = ["| lesson | you will, among other things |", "|---|---|"]
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        row = read_row(path, root)
        here = path.stem == FIRST
        lesson = f"{row.title} (this one)" if here else f"[{row.title}]({path.name})"
        lines.append(f"| {lesson} | {row.learn} |")
    return "\n".join(lines) + "\n"


def clone_command(root: Path = ROOT) -> str:
    """The two commands of the start, for a shell."""
    address = repository(root)
    folder = str(address).rstrip("/").rsplit("/", 1)[-1]
    lines = [f"git clone {address}", f"cd {folder} && make lab"]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def picture(root: Path = ROOT) -> Image.Image:
    """The curves and the confusion matrix of the dial, without the costs."""
    name, call, width = SHOWS
    notebook = read_notebook(root / "notebooks" / f"{name}.ipynb")
    [png] = [
        output.data["image/png"]
        for cell in notebook.cells
        if cell.cell_type == "code" and call in cell.source
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    with Image.open(io.BytesIO(base64.b64decode(png))) as whole:
        return whole.convert("RGB").crop((0, 0, width, whole.height))


def picture_is_stale(root: Path = ROOT) -> bool:
    with Image.open(root / PICTURE) as kept:
        return kept.tobytes() != picture(root).tobytes()


def replace_part(text: str, name: str, made: str) -> str:
    """A text with what stands between the two comments of a part replaced.

    Raises
    ------
    ValueError
        The comments are not there, or there twice.
    """
    pattern = re.escape(PART.format(name, "\0")).replace(re.escape("\0"), ".*?")
    new = PART.format(name, made).replace("\\", r"\\")  # no group references are meant
    text, count = re.subn(pattern, new, text, flags=re.S)
    if count != 1:
        raise ValueError(f"the comments around the {name} are there {count} times")
    return text


def render(text: str, root: Path = ROOT) -> str:
    """The README with its generated parts renewed."""
    text = replace_part(text, "lesson map", lesson_map(root))
    return replace_part(text, "commands", clone_command(root))


def render_first(root: Path = ROOT) -> dict[Path, str]:
    """Lesson 00, its text and its notebook, with the map in it renewed."""
    table = short_map(root)
    source = root / "notebooks" / "source" / f"{FIRST}.md"
    path = root / "notebooks" / f"{FIRST}.ipynb"
    notebook = nbformat.read(path, as_version=4)  # with the cells for Colab
    [cell] = [c for c in notebook.cells if PART.format("lessons", "").split("\n")[0] in c.source]
    cell.source = replace_part(cell.source, "lessons", table)
    text = replace_part(source.read_text(encoding="utf-8"), "lessons", table)
    return {source: text, path: to_json(notebook)}


def render_all(root: Path = ROOT) -> dict[Path, str]:
    """Every file that is made here, and what it should hold."""
    readme = root / "README.md"
    return {readme: render(readme.read_text(encoding="utf-8"), root)} | render_first(root)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="say whether it is stale; no change")
    options = parser.parse_args(arguments)
    made = render_all()
    stale = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    stale += [PICTURE] * picture_is_stale()
    if options.check:
        print(f"stale, python -m tools.readme: {', '.join(stale)}" if stale else "in step")
        return int(bool(stale))
    for path, text in made.items():
        write_if_changed(path, text)
    if PICTURE in stale:
        picture().save(ROOT / PICTURE, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
