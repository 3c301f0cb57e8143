"""Checked statements: a lesson may only say what its code has just shown.

`claim(accuracy > 0.80, "four in five unseen reviews are judged correctly")` prints one
line, the same on every machine, and raises when the condition is false. The tests compare
that line, so prose and output cannot drift apart. Numbers that differ between machines
belong in a cell of their own, never in the text of a claim.

Left out on purpose: tolerances and retries. A margin is part of the claim; write it there.
"""

from typing import Any

import numpy as np


class ClaimError(AssertionError):
    """A statement of the lesson is not true of what its code just computed."""


class Claims:
    """Check the statements of one lesson and remember them for its closing summary.

    Examples
    --------
    >>> claim = Claims()
    >>> claim(1 + 1 == 2, "one and one make two")
    ✓ one and one make two
    >>> claim(1 + 1 == 3, "one and one make three")
    Traceback (most recent call last):
        ...
    course_utils.claims.ClaimError: not true here: one and one make three
    >>> claim.summary()
    What we showed, each line checked above:
    1. one and one make two
    """

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, condition: Any, statement: str) -> None:
        """Print `statement` if `condition` holds.

        Parameters
        ----------
        condition : bool, or a NumPy or PyTorch scalar of type bool
        statement : str
            One sentence without machine-dependent numbers.

        Raises
        ------
        ClaimError
            If the condition is false.
        TypeError
            If the condition is not a single truth value: `claim(accuracy, ...)` would
            otherwise pass for every accuracy above zero.
        """
        truth = condition.item() if getattr(condition, "ndim", None) == 0 else condition
        if not isinstance(truth, bool | np.bool_):
            raise TypeError(f"a claim needs one True or False, got {type(condition).__name__}")
        if not truth:
            raise ClaimError(f"not true here: {statement}")
        if statement not in self.shown:  # a cell may be run again
            self.shown.append(statement)
        print(f"✓ {statement}")

    def summary(self) -> None:
        """Print every statement that held, in the order of first appearance."""
        print("What we showed, each line checked above:")
        for number, statement in enumerate(self.shown, start=1):
            print(f"{number}. {statement}")
