"""Say what is solved: ``course progress``, a table over all exercise notebooks in a folder.

Each row comes from a clean run (`notebook_check`). It is kept beside the fetched data under a hash
of the notebook and of this library, so that a notebook is run again only when one of them changed.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from course_utils.grading.notebook_check import (
    ItemSeen,
    NotAnExercise,
    NotebookSeen,
    look,
    read_exercise,
)
from course_utils.sources import cache_folder
from course_utils.system import write_atomically

LIBRARY = Path(__file__).resolve().parents[1]
Row = Sequence[str]


def find_notebooks(folder: Path | None) -> list[Path]:
    """Return the notebooks of a folder; without one, of ``exercises/`` or of this one.

    Raises
    ------
    NotAnExercise
        If there are none.
    """
    places = [folder] if folder else [Path("exercises"), Path()]
    for place in places:
        if found := sorted(place.glob("*.ipynb")):
            return found
    wanted = f"in {folder}" if folder else "here, nor in exercises/"
    raise NotAnExercise(f"no notebooks {wanted}: name the folder, as in `course progress FOLDER`")


def library_hash(package: Path = LIBRARY) -> str:
    """Return a hash of the library: its source, and the cases that come as data."""
    digest = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.jsonl")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kept_file(path: Path) -> Path:
    """Return where a notebook's last result is kept."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "progress" / f"{name}.json"


def load(file: Path, key: str) -> NotebookSeen | None:
    """Return a kept result, unless what it depends on has changed."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("key") != key:
            return None
        items = tuple(ItemSeen(**item) for item in content.pop("items"))
        return NotebookSeen(items=items, **content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(file: Path, key: str, seen: NotebookSeen) -> None:
    """Keep a result, whole or not at all; where nothing can be written it is made again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": key} | asdict(seen))
        write_atomically(file, lambda target: target.write(text.encode()))


def seen_in(path: Path, library: str, again: bool) -> NotebookSeen:
    """Return a notebook's result: the kept one if there is one, else from a clean run."""
    raw, lesson = read_exercise(path)
    key = hashlib.sha256(raw + library.encode()).hexdigest()
    file = kept_file(path)
    known = None if again else load(file, key)
    if known is None:
        print(f"running {path.name} ...", file=sys.stderr, flush=True)
        known = look(raw, lesson)
        save(file, key, known)
    return known


def row(path: Path, seen: NotebookSeen) -> Row:
    """Return one notebook's cells of the table."""
    solved = f"{seen.solved} of {len(seen.items)}"
    points = f"{seen.points} of {seen.most}"
    changed = f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}"
    return (seen.lesson, path.stem, solved, points, "not begun" if seen.untouched else changed)


def table(rows: Sequence[Row]) -> str:
    """Return rows of text as a table; numbers' columns are aligned at the right.

    Examples
    --------
    >>> print(table([("lesson", "solved"), ("01", "6 of 6")]))
    lesson  solved
    01      6 of 6
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(one, widths, strict=True)).rstrip()
        for one in rows
    )


def run(folder: Path | None = None, again: bool = False) -> int:
    """Print the table; return 0, also where little is solved."""
    rows: list[Row] = [("lesson", "notebook", "solved", "points", "last changed")]
    everything: list[NotebookSeen] = []
    library, others = library_hash(), []
    for path in find_notebooks(folder):
        try:
            seen = seen_in(path, library, again)
        except NotAnExercise as error:
            others.append(f"{path.name}: {error}")
            continue
        everything.append(seen)
        rows.append(row(path, seen))
    solved, items = sum(s.solved for s in everything), sum(len(s.items) for s in everything)
    points, most = sum(s.points for s in everything), sum(s.most for s in everything)
    rows.append(("", "all", f"{solved} of {items}", f"{points} of {most}", ""))
    print(table(rows))
    print("\n".join(f"left out: {line}" for line in others), end="\n" * bool(others))
    return 0
