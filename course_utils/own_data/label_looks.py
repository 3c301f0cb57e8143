"""Looks at labels and groups: typing errors, missing values in disguise, answers given away.

Each function looks for one thing and returns what it found, with the rows to look at. Left out on
purpose: near copies (a text with one word changed), which a person knows better how to group:
``--group COLUMN`` keeps together what belongs together.
"""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from course_utils.own_data.cleaning import Finding, Row, class_counts, key_of, rows_of
from course_utils.own_data.goals import Goal, number
from course_utils.own_data.tables import Cell

MOST_NAMES = 200  # with more, each pair of names is too many to compare, and `what_stops` speaks
NO_LABELS = {"na", "n/a", "none", "null", "nan", "-", "?", "unknown", "undefined", "#n/a"}


def near_equal_labels(rows: Sequence[Row], goal: Goal) -> list[Finding]:
    """Find labels that differ by a typing error: in case or marks, or a rare one by a letter.

    Examples
    --------
    >>> rows = [Row(i, f"text {i}", "good", "") for i in range(30)] + [Row(30, "x", "Good", "")]
    >>> [finding] = near_equal_labels(rows, Goal("classes", ("Good", "good"), ""))
    >>> finding.rows, finding.remedy
    ((30,), 'If they are the same: --merge Good=good')
    """
    counts, found = class_counts(rows, goal), list[Finding]()
    if len(counts) > MOST_NAMES:
        return found
    names = sorted(counts, key=lambda name: -counts[name])
    for place, rare in enumerate(names):
        for common in names[:place]:
            alike = difflib.SequenceMatcher(None, rare.lower(), common.lower()).ratio()
            same = key_of(rare) == key_of(common) and number(rare) is None
            typo = alike >= 0.8 and min(len(rare), len(common)) > 3
            if same or (typo and counts[rare] <= 0.1 * counts[common]):
                concerned = tuple(r.number for r in rows if _labelled(r, rare))
                said = (
                    f"{rare!r} ({counts[rare]} rows) and {common!r} ({counts[common]}) look like "
                    "one label typed in two ways"
                )
                remedy = f"If they are the same: --merge {_quoted(f'{rare}={common}')}"
                found.append(Finding("warning", "near-equal labels", said, concerned, remedy))
                break
    return found


def labels_for_missing(rows: Sequence[Row], goal: Goal) -> list[Finding]:
    """Find labels that may stand for a missing one."""
    found = []
    for name in goal.names:
        if name.lower() in NO_LABELS and goal.kind != "rating":
            concerned = tuple(r.number for r in rows if _labelled(r, name))
            said = f"{name!r} ({len(concerned)} rows) is taken as a label: or does it mean none?"
            remedy = "If it means that there is no label, empty these cells."
            found.append(Finding("warning", "a label, or none?", said, concerned, remedy))
    return found


def answers_in_texts(rows: Sequence[Row], goal: Goal) -> list[Finding]:
    """Find texts that name their own label: a model would read the answer off them."""
    if goal.kind != "classes" or not rows or len(goal.names) > MOST_NAMES:
        return []
    own = others = 0
    keys = {name: f" {key_of(name)} " for name in goal.names}
    for row in rows:
        words = f" {key_of(row.text)} "
        named = {name for name, key in keys.items() if key in words}
        own += row.label in named
        others += bool(named - {row.label})
    if own < 0.3 * len(rows) or own < 3 * others:
        return []
    said = (
        f"{own / len(rows):.0%} of the texts hold the name of their own label, and "
        f"{others / len(rows):.0%} that of another: does the text give the answer away?"
    )
    return [Finding("warning", "answers in the texts", said)]


def balance(rows: Sequence[Row], goal: Goal) -> list[Finding]:
    """Say how large the largest class is, and whether the test set will be small."""
    counts, found = class_counts(rows, goal), []
    if goal.kind == "classes" and rows and max(counts.values()) > 0.75 * len(rows):
        name = max(counts, key=lambda n: counts[n])
        said = (
            f"{counts[name] / len(rows):.0%} of the rows are {name!r}: whoever always says so is "
            "right that often. Look at F1, not at accuracy (lesson 07)"
        )
        found.append(Finding("note", "imbalance", said))
    if len(rows) < 400:
        said = (
            f"{len(rows)} usable rows leave about {len(rows) // 4} for the test: its interval will "
            "be wide, and small differences will not show"
        )
        found.append(Finding("note", "few rows", said))
    return found


# --- groups -------------------------------------------------------------------------------


def shared_between_groups(texts: Sequence[Cell], groups: Sequence[Cell]) -> list[Finding]:
    """Find texts that several groups share: such groups cannot be divided by a split."""
    where, rows = defaultdict[str, set[Cell]](set), defaultdict[str, list[int]](list)
    for place, (text, group) in enumerate(zip(texts, groups, strict=True), start=1):
        if isinstance(text, str) and isinstance(group, str):
            where[key_of(text)].add(group)
            rows[key_of(text)].append(place)
    shared = [key for key, owners in where.items() if len(owners) > 1]
    if not shared:
        return []
    concerned = sorted(place for key in shared for place in rows[key])
    said = (
        f"{rows_of(concerned)} a text that stands in several groups: used once, so that no group "
        "gives another one away"
    )
    return [Finding("warning", "texts shared by groups", said, tuple(concerned))]


def few_groups(rows: Sequence[Row], goal: Goal) -> list[Finding]:
    """Find groups so few, or one so large, that a test set says little about new ones."""
    sizes = Counter(row.group for row in rows if row.group.startswith("group "))
    if not sizes:
        return []
    found, (name, most) = [], sizes.most_common(1)[0]
    if len(sizes) < 10:
        said = f"there are {len(sizes)} groups only: the test speaks for few of them"
        found.append(Finding("warning", "few groups", said))
    if most > 0.4 * len(rows):
        said = f"{name} has {most / len(rows):.0%} of all rows, and stays whole in one part"
        found.append(Finding("warning", "one large group", said))
    return found


def _labelled(row: Row, name: str) -> bool:
    return name in row.label if isinstance(row.label, tuple) else row.label == name


def _quoted(text: str) -> str:
    return f'"{text}"' if re.search(r"[^\w=.-]", text) else text
