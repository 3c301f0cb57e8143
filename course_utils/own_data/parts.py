"""Training, validation and a sealed test set of one's own rows, as `splits` makes them.

Groups stay whole, copies of a text are gone already, and each part has its share of every class,
of every tag, or of low and high ratings. The test set is a `splits.Splits`: it opens once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from course_utils.datasets import Sentence
from course_utils.own_data.cleaning import Row
from course_utils.own_data.goals import Goal
from course_utils.splits import Splits, deal, leakage_groups

SHARES = np.array([0.60, 0.15, 0.25])  # training, validation, test
NAMES = ("training", "validation", "test")


@dataclass(frozen=True)
class Part:
    """Some rows, ready for a model.

    Attributes
    ----------
    rows : tuple of int
        Their numbers in the file, N.
    texts : tuple of str
    targets : ndarray of shape (N,), or (N, C) for tags
    """

    rows: tuple[int, ...]
    texts: tuple[str, ...]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> "Part":
        """Return the first rows: a sample, with its share of each class."""
        return Part(self.rows[:count], self.texts[:count], self.targets[:count])


class OwnSplits:
    """Three parts of a table; the test set opens once, for a purpose that is stated.

    Parameters
    ----------
    rows : sequence of Row
    goal : Goal
    seed : int

    Raises
    ------
    ValueError
        If a part would lack a class or a tag, as when a class occurs in one group only.

    Examples
    --------
    >>> rows = [Row(i, f"text {i}", "ab"[i % 2], f"row {i}") for i in range(60)]
    >>> parts = OwnSplits(rows, Goal("classes", ("a", "b"), ""), seed=0)
    >>> len(parts.train), len(parts.validation), len(parts.unseal("the report"))
    (34, 10, 16)
    """

    def __init__(self, rows: Sequence[Row], goal: Goal, seed: int = 0) -> None:
        self._rows, self._goal = {str(row.number): row for row in rows}, goal
        sentences = [Sentence(str(row.number), row.group, row.text, 0.0) for row in rows]
        strata = _strata(goal.encode([row.label for row in rows]), goal)  # (N, S)
        groups = leakage_groups(sentences)
        dealt = deal(groups, strata, SHARES, seed)
        _check(dealt, strata, goal, len(groups))
        # Groups are dealt out by size. That may not show: the first rows of a part are a sample.
        generator = np.random.default_rng([seed, 1])
        self.sealed = Splits(
            *([sentences[i] for i in mixed(np.sort(part), strata, generator)] for part in dealt)
        )
        self.train, self.validation = (
            self._part(self.sealed.train),
            self._part(self.sealed.validation),
        )
        self.sizes = tuple(len(part) for part in dealt)

    def unseal(self, purpose: str) -> Part:
        """Open the test set; see `splits.Splits.unseal`."""
        return self._part(self.sealed.unseal(purpose).test)

    def _part(self, sentences: Sequence[Sentence]) -> Part:
        rows = [self._rows[sentence.id] for sentence in sentences]
        targets = self._goal.encode([row.label for row in rows])
        return Part(tuple(r.number for r in rows), tuple(r.text for r in rows), targets)


def mixed(rows: np.ndarray, strata: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return rows in a random order of which every beginning has its share of each class.

    The i-th of a class's m rows gets a random place between i/m and (i + 1)/m of the way.

    Examples
    --------
    >>> rows, strata = np.arange(8), np.eye(2, dtype=int)[[0, 0, 0, 0, 1, 1, 1, 1]]
    >>> order = mixed(rows, strata, np.random.default_rng(0))
    >>> sorted(order.tolist()) == rows.tolist(), {0, 1} == {i // 4 for i in order[:4]}
    (True, True)
    """
    of_class = strata[rows].argmax(axis=1) if (strata.sum(axis=1) == 1).all() else rows * 0
    places = np.empty(len(rows))
    for each in np.unique(of_class):
        here = generator.permutation(np.flatnonzero(of_class == each))
        places[here] = (np.arange(len(here)) + generator.random(len(here))) / len(here)
    return rows[np.argsort(places)]


def _strata(targets: np.ndarray, goal: Goal) -> np.ndarray:
    """Return what each part is to have its share of, as columns of 0 and 1, shape (N, S)."""
    everyone = np.ones((len(targets), 1), dtype=int)
    if goal.kind == "tags":
        return np.hstack([everyone, targets])
    if goal.kind == "rating":  # fifths, from low to high
        edges = np.unique(np.quantile(targets, [0.2, 0.4, 0.6, 0.8]))
        return np.eye(len(edges) + 1, dtype=int)[np.digitize(targets, edges)]
    return np.eye(len(goal.names), dtype=int)[targets]


def _check(parts: Sequence[list[int]], strata: np.ndarray, goal: Goal, groups: int) -> None:
    """Refuse a split of which a part is empty or lacks a class."""
    for name, part in zip(NAMES, parts, strict=True):
        if not part:
            raise ValueError(
                f"{len(strata)} rows in {groups} group{'s' * (groups > 1)} cannot be divided: "
                f"{name} would be empty. "
                "More groups are needed, or smaller ones"
            )
        names = goal.names if goal.kind != "rating" else ()
        have = strata[part].sum(axis=0)[-len(names) :] if names else np.array([])
        if missing := [n for n, count in zip(names, have, strict=True) if count == 0]:
            raise ValueError(
                f"{name} would have no row of {', '.join(map(repr, missing[:5]))}: it occurs in "
                "too few groups. Label more, merge it (--merge A=B), or leave it out (--drop-rare)"
            )
