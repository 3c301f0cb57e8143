"""What a program can see of a finished run that somebody hands in: for the capstone's instructors.

    python -m course_utils.own_data.handed_in FOLDER ...

Is it whole, is the model the one that was tested, do its words follow from its numbers, are the
card's questions answered? Nothing is changed. What only a person can judge stands in
``docs/capstone_rubric.md``.

Left out on purpose: points. Somebody who edits `results.json` and the report alike is not found
out by their own numbers, but by the first question about them.
"""

import argparse
import html
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from course_utils.artefacts import damage
from course_utils.intervals import Interval
from course_utils.own_data.goals import Goal
from course_utils.own_data.outcome import verdict

FILES = ("report.html", "audit.html", "audit.json", "model_card.md", "results.json")
OPEN = "Not answered yet."
FEW = 100  # test rows


@dataclass(frozen=True)
class Seen:
    """One thing that was looked at.

    Attributes
    ----------
    weight : {"wrong", "ask", "fine"}
        It does not fit; ask about it; nothing to say.
    sentence : str
    """

    weight: Literal["wrong", "ask", "fine"]
    sentence: str


def look_over(folder: Path) -> list[Seen]:
    """Return what can be seen of a run's folder, what does not fit first.

    Examples
    --------
    >>> look_over(Path("nowhere"))
    [Seen(weight='wrong', sentence='nowhere is no folder')]
    """
    if not folder.is_dir():
        return [Seen("wrong", f"{folder} is no folder")]
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        return [Seen("wrong", f"not a finished run: {', '.join(missing)} missing")]
    try:
        results, audit = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("results.json", "audit.json")
        )
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in FILES}
        seen = [*_model(folder), *_words(results, texts), *_card(texts), *_rows(results, audit)]
    except (ValueError, KeyError, TypeError) as error:  # hand-made, or of another version
        return [Seen("wrong", f"results.json or audit.json is not of this course: {error!r}")]
    order = {"wrong": 0, "ask": 1, "fine": 2}
    return sorted(seen, key=lambda each: order[each.weight])


def _model(folder: Path) -> list[Seen]:
    """Look whether the model is whole, and of this run."""
    if wrong := damage(folder / "model"):
        return [Seen("wrong", f"the model: {wrong}")]
    made = json.loads((folder / "model" / "record.json").read_text(encoding="utf-8"))["made_of"]
    settings = folder / "settings.json"
    run = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    if any(made.get(name) != value for name, value in run.items()):
        return [Seen("wrong", "the model is of another run: its record and settings.json differ")]
    return [Seen("fine", "the model is as it was written, and of this run")]


def _words(results: dict[str, Any], texts: dict[str, str]) -> list[Seen]:
    """Look whether the verdict follows from its interval, and is the report's and the card's."""
    goal = Goal(**results["goal"])
    said = verdict(goal, Interval(**results["outcome"]["better"]))
    if said != results["verdict"]:
        return [Seen("wrong", f"the verdict does not follow from its interval, which says: {said}")]
    lacking = [
        name for name in ("report.html", "model_card.md") if said not in html.unescape(texts[name])
    ]
    if lacking:
        return [Seen("wrong", f"{' and '.join(lacking)} says something else than results.json")]
    return [Seen("fine", said)]


def _card(texts: dict[str, str]) -> list[Seen]:
    """Look whether people have answered the card's questions."""
    if left := texts["model_card.md"].count(OPEN):
        return [Seen("wrong", f"{left} of the card's questions not answered")]
    return [Seen("fine", "the card's questions are answered")]


def _rows(results: dict[str, Any], audit: dict[str, Any]) -> list[Seen]:
    """Look whether the test can tell anything, and what the audit had warned of."""
    rows, sizes = results["outcome"]["rows"], results["sizes"]
    seen = [Seen("ask", f"{f['title']}: {f['sentence']}") for f in audit["findings"]
            if f["weight"] == "warning"]  # fmt: skip
    if rows != sizes[2]:
        seen.append(Seen("wrong", f"{rows} rows were judged, and {sizes[2]} were sealed"))
    if rows < FEW:
        seen.append(Seen("ask", f"only {rows} test rows: what can be told from so few?"))
    seen += [Seen("ask", f"for want of time: {cut}") for cut in results["plan"]["cuts"]]
    return seen


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what can be seen of each folder; return 1 if something does not fit."""
    parser = argparse.ArgumentParser(description="What can be seen of finished runs?")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    wrong = False
    for folder in parser.parse_args(arguments).folders:
        print(folder)
        for each in look_over(folder):
            wrong |= each.weight == "wrong"
            print(f"  {each.weight:6}{each.sentence}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
