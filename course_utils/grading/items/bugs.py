"""Diagnoses of a bug hunt: every set of bugs that may be left is recognised and named."""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import Any

from course_utils.grading.checks import Diagnosis

COUNT = ("no", "one", "two", "three", "four")


def remaining(
    build: Callable[..., Any], bugs: Mapping[str, str], given: Collection[str] = ()
) -> tuple[Diagnosis, ...]:
    """Return one diagnosis for each set of bugs, the largest sets first.

    Parameters
    ----------
    build : callable
        Takes the names of bugs as keywords, each True; returns the code that has just these, or
        None if they cannot be together.
    bugs : dict of str to str
        What to say of each.
    given : collection of str
        The bugs of the code that is handed out, if these are not all: a repair may add one.

    Examples
    --------
    >>> found = remaining(lambda **bugs: bugs, {"a": "mend a", "b": "mend b"})
    >>> [(diagnosis.name, diagnosis.message) for diagnosis in found]
    [('untouched', 'all two bugs are still there'), ('a', 'mend a'), ('b', 'mend b')]
    """
    found = []
    for count in range(len(bugs), 0, -1):
        for names in combinations(bugs, count):
            variant = build(**dict.fromkeys(names, True))
            if variant is None:
                continue
            name, message = "_and_".join(names), ". Then: ".join(bugs[n] for n in names)
            if set(names) == set(given or bugs):
                name, message = "untouched", f"all {COUNT[count]} bugs are still there"
            elif count > 1:
                message = f"{COUNT[count]} bugs are left. First: {message}"
            found.append(Diagnosis(name, message, variant))
    return tuple(found)
