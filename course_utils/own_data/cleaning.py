"""Which rows can be used, and why the others cannot: nothing is mended, and nothing is lost.

A row is left out if a person would have to decide something first: it has no text, it has no
label, or another row has the same text and another label. A text that stands there twice is used
once. The file stays as it is, and every row that is left out is named.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from course_utils.own_data.goals import Goal, Label
from course_utils.own_data.tables import Cell

Weight = Literal["stop", "warning", "note"]
LEAST_ROWS = 50  # to train, to validate and to test: fewer, and every number is chance
LEAST_OF_A_CLASS = 8


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should know.

    Attributes
    ----------
    weight : {"stop", "warning", "note"}
        Nothing can be trained; look at it; good to know.
    title : str
        What it is, in two or three words.
    sentence : str
        What was found, and what follows from it.
    rows : tuple of int
        Numbers of rows concerned; row 1 is the first below the column names.
    remedy : str
        What to do about it.
    """

    weight: Weight
    title: str
    sentence: str
    rows: tuple[int, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A text that can be used, with its label.

    Attributes
    ----------
    number : int
        In the file.
    text : str
    label : str, tuple of str, or float
    group : str
        What must not be divided between training and test; the row itself if not given.
    """

    number: int
    text: str
    label: Label
    group: str


def key_of(text: str) -> str:
    """Return what two copies of one text have in common: their words, without case and marks.

    Whatever `splits.leakage_groups` takes for a copy is one here too; here an
    underscore is a mark as well.

    Examples
    --------
    >>> key_of("Good, really!") == key_of("good really"), key_of("?!")
    (True, '?!')
    """
    return re.sub(r"[\W_]+", " ", text.lower()).strip() or text.strip()


def usable_rows(
    texts: Sequence[Cell],
    labels: Sequence[Label | None],
    goal: Goal,
    groups: Sequence[Cell] | None = None,
) -> tuple[list[Row], list[Finding]]:
    """Return the rows that can be used, and what was found about the others.

    Ratings of one text that differ are no contradiction: it is used once, with their mean.

    Raises
    ------
    ValueError
        If a cell of the text column is a list, or no row has a text and a label.

    Examples
    --------
    >>> goal = Goal("classes", ("bad", "good"), "")
    >>> texts = ["Fine.", "fine", "Dull", None, "Dull", "Odd"]
    >>> rows, findings = usable_rows(texts, ["good", "good", "bad", "bad", "good", None], goal)
    >>> [row.number for row in rows], [(f.title, f.rows) for f in findings]
    ([1], [('no text', (4,)), ('no label', (6,)), ('repeated texts', (2,)), \
('conflicting labels', (3, 5))])
    """
    complete, findings = _complete_rows(texts, labels, groups)
    if not complete:
        raise ValueError(
            f"none of the {len(texts)} rows has both a text and a label: are these the right "
            "columns?"
        )
    kept, more = _distinct_rows(complete, goal)
    return kept, findings + more


def _complete_rows(
    texts: Sequence[Cell], labels: Sequence[Label | None], groups: Sequence[Cell] | None
) -> tuple[list[Row], list[Finding]]:
    """Keep rows that have a text and a label."""
    complete, findings = list[Row](), list[Finding]()
    no_text, no_label, no_group = list[int](), list[int](), list[int]()
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        if isinstance(text, list):
            raise ValueError(f"row {number} of the text column is a list: is it the right column?")
        group = groups[number - 1] if groups else None
        if text is None:
            no_text.append(number)
        elif label is None:
            no_label.append(number)
        else:
            if groups and group is None:
                no_group.append(number)
            name = f"row {number}" if group is None else f"group {group}"
            complete.append(Row(number, text, label, name))
    if no_text:
        findings.append(_left_out("no text", f"{rows_of(no_text)} no text", no_text))
    if no_label:
        findings.append(_left_out("no label", f"{rows_of(no_label)} no label", no_label))
    if no_group:
        said = f"{rows_of(no_group)} no group: each counts as a group of its own"
        findings.append(Finding("warning", "no group", said, tuple(no_group)))
    return complete, findings


def _distinct_rows(complete: Sequence[Row], goal: Goal) -> tuple[list[Row], list[Finding]]:
    """Keep one row of each text, and none where its labels contradict each other."""
    copies = defaultdict[str, list[Row]](list)
    for row in complete:
        copies[key_of(row.text)].append(row)
    repeated, conflicting, kept = list[int](), list[int](), list[Row]()
    for same in copies.values():
        if goal.kind == "rating":
            mean = float(np.mean([float(row.label) for row in same]))  # type: ignore[arg-type]
            kept.append(replace(same[0], label=mean))
        elif len({_comparable(row.label) for row in same}) == 1:
            kept.append(same[0])
        else:
            conflicting += [row.number for row in same]
            continue
        repeated += [row.number for row in same[1:]]
    findings = []
    if repeated:
        mean_words = " with the mean of its ratings" if goal.kind == "rating" else ""
        said = (
            f"{rows_of(repeated)} a text that an earlier row has (case and punctuation aside): "
            f"each text is used once{mean_words}, as a copy in the test set is an answer given away"
        )
        findings.append(Finding("note", "repeated texts", said, tuple(sorted(repeated))))
    if conflicting:
        said = f"{rows_of(conflicting)} a text that another row has with another label"
        remedy = "Decide which label is right: contradictions are the limit of any model."
        findings.append(_left_out("conflicting labels", said, sorted(conflicting), remedy))
    return kept, findings


def rows_of(numbers: Sequence[int]) -> str:
    """Return the beginning of a sentence about rows: ``"1 row has"``, ``"1,200 rows have"``."""
    return "1 row has" if len(numbers) == 1 else f"{len(numbers):,} rows have"


def _left_out(title: str, said: str, numbers: Sequence[int], remedy: str = "") -> Finding:
    verb = "it is" if len(numbers) == 1 else "they are"
    return Finding("warning", title, f"{said}: {verb} left out", tuple(numbers), remedy)


def _comparable(label: Label) -> object:
    return frozenset(label) if isinstance(label, tuple) else label


# --- what no model could learn from -------------------------------------------------------


def class_counts(rows: Sequence[Row], goal: Goal) -> dict[str, int]:
    """Return how many usable rows each class or tag has; nothing for ratings."""
    if goal.kind == "rating":
        return {}
    encoded = goal.encode([row.label for row in rows])
    counts = (
        np.bincount(encoded, minlength=len(goal.names))
        if goal.kind == "classes"
        else encoded.sum(axis=0)
    )
    return dict(zip(goal.names, counts.tolist(), strict=True))


def what_stops(rows: Sequence[Row], goal: Goal) -> list[Finding]:
    """Return the reasons why no model can be made of these rows; none, if one can."""
    stops = []
    if len(rows) < LEAST_ROWS:
        stops.append(
            Finding(
                "stop",
                "too few rows",
                f"{len(rows)} usable rows, where training, validation and a test need "
                f"{LEAST_ROWS} or more: of fewer, every score would be chance",
                remedy="Label more texts; some hundreds are a good beginning. For a handful, "
                "prompting a language model (lesson 10) is the better tool.",
            )
        )
    counts = class_counts(rows, goal)
    present = [name for name, count in counts.items() if count]
    if goal.kind == "classes" and len(present) < 2:
        which = repr(present[0]) if present else "none"
        said = f"all usable rows have one class, {which}: there is nothing to tell apart"
        stops.append(Finding("stop", "one class", said))
    elif goal.kind == "classes" and len(counts) > max(20, len(rows) / LEAST_OF_A_CLASS):
        said = (
            f"{len(counts):,} different labels in {len(rows):,} rows: are these classes? It looks "
            "like a column of texts, names or numbers of its own for each row"
        )
        remedy = "Choose another column, or say --kind rating or --kind tags."
        stops.append(Finding("stop", "too many labels", said, remedy=remedy))
    elif rare := {name: count for name, count in counts.items() if count < LEAST_OF_A_CLASS}:
        few = ", ".join(f"{name!r} ({count})" for name, count in list(rare.items())[:8])
        more = f" and {len(rare) - 8} more" if len(rare) > 8 else ""
        what = "classes" if goal.kind == "classes" else "tags"
        stops.append(
            Finding(
                "stop",
                f"rare {what}",
                f"these {what} have fewer than {LEAST_OF_A_CLASS} usable rows, too few to train, "
                f"to validate and to test on: {few}{more}",
                tuple(r.number for r in rows if _has(r.label, set(rare))),
                remedy="Label more of them, merge them into another (--merge RARE=OTHER), or "
                "leave their rows out (--drop-rare).",
            )
        )
    return stops


def drop_rare(rows: Sequence[Row], goal: Goal) -> tuple[list[Row], Goal]:
    """Return the rows and the goal without classes or tags that are too rare.

    Of a text with several tags, the rare ones are dropped and the others stay.
    """
    counts = class_counts(rows, goal)
    rare = {name for name, count in counts.items() if count < LEAST_OF_A_CLASS}
    kept = Goal(goal.kind, tuple(n for n in goal.names if n not in rare), goal.why)
    if goal.kind == "tags":
        return [
            Row(r.number, r.text, tuple(t for t in r.label if t not in rare), r.group)  # type: ignore[union-attr]
            for r in rows
        ], kept
    return [row for row in rows if not _has(row.label, rare)], kept


def _has(label: Label, names: set[str]) -> bool:
    return bool(names & (set(label) if isinstance(label, tuple) else {str(label)}))
