"""Diagnoses of a bug hunt: every set of bugs that may be left is recognised and named."""

from collections.abc import Collection, Mapping
from itertools import combinations
from typing import Any

from answer_book.edits import edit
from course_utils.grading.items import Mistake

COUNT = ("no", "one", "two", "three", "four")


def remaining(
    right: Any,
    bugs: Mapping[str, tuple[str, ...]],
    given: Collection[str] = (),
    never: Collection[Collection[str]] = (),
    within: tuple[Any, ...] = (),
) -> tuple[Mistake, ...]:
    """Return one diagnosis for each set of bugs, the largest sets first.

    Parameters
    ----------
    right : function or class
        The repaired code.
    bugs : dict of str to tuple of str
        Of each bug what to say, and the edit that puts it in: old text, new text, ... An edit must
        not touch what another one touches.
    given : collection of str
        The bugs of the code that is handed out, if these are not all: a repair may add one.
    never : collection of collections of str
        Bugs that cannot be there together.
    within : tuple
        See `answer_book.edits.edit`.
    """
    found = []
    for count in range(len(bugs), 0, -1):
        for names in combinations(bugs, count):
            if any(set(pair) <= set(names) for pair in never):
                continue
            texts = [text for name in names for text in bugs[name][1:]]
            message = ". Then: ".join(bugs[bug][0] for bug in names)
            name = "_and_".join(names)
            if set(names) == set(given or bugs):
                name, message = "untouched", f"all {COUNT[count]} bugs are still there"
            elif count > 1:
                message = f"{COUNT[count]} bugs are left. First: {message}"
            found.append(Mistake(name, message, edit(right, *texts, within=within)))
    return tuple(found)
