"""Training, validation, and a test set that stays sealed; splits that leak nothing.

A split is fair if no part gives another one away. Sentences of one document, and copies of
one text, stay on one side; each part has its share of every class, in a random order.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from course_utils.datasets import CLASS_NAMES, Sentence, Target, targets
from course_utils.inputs import whole_number


class SealedTestError(RuntimeError):
    """The test set was asked for before it was unsealed, or for a second purpose."""


class Splits:
    """Training, validation, and a test set that stays sealed until its purpose is stated.

    The test set answers one question once. `unseal` records the purpose; asking again for
    the same purpose is harmless (a cell may be run again), for another one it is an error.
    """

    def __init__(
        self,
        train: Sequence[Sentence],
        validation: Sequence[Sentence],
        test: Sequence[Sentence],
    ) -> None:
        self.train, self.validation = tuple(train), tuple(validation)
        self._test = tuple(test)
        self.purpose: str | None = None

    def __repr__(self) -> str:
        state = f"unsealed for: {self.purpose}" if self.purpose else "sealed"
        sizes = f"train={len(self.train)}, validation={len(self.validation)}"
        return f"Splits({sizes}, test={len(self._test)}, {state})"

    @property
    def test(self) -> tuple[Sentence, ...]:
        """The test sentences, once unsealed.

        Raises
        ------
        SealedTestError
            Before `unseal` was called.
        """
        if self.purpose is None:
            raise SealedTestError(
                "the test set is sealed: choose models, thresholds and stopping times on "
                "splits.validation, then call splits.unseal('what you report') once"
            )
        return self._test

    def unseal(self, purpose: str) -> "Splits":
        """Open the test set for one stated purpose.

        Raises
        ------
        ValueError
            If the purpose is empty.
        SealedTestError
            If it has been opened for another purpose: a second look is a choice made on
            the test set, and the number it gives is no longer honest.
        """
        if not isinstance(purpose, str) or not purpose.strip():
            raise ValueError("state the purpose of opening the test set, such as 'final report'")
        if self.purpose not in (None, purpose):
            raise SealedTestError(
                f"the test set has already spoken, for {self.purpose!r}; it cannot also serve "
                f"{purpose!r}. Make a new split with another seed, or use splits.validation."
            )
        self.purpose = purpose
        return self


def leakage_groups(sentences: Sequence[Sentence]) -> list[list[int]]:
    """Group the indices of sentences that must stay on one side of a split.

    Sentences of one document belong together, and so do documents that share a sentence
    (compared without case or punctuation): a copy in the test set is an answer given away.

    Returns
    -------
    list of list of int
        A partition of ``range(len(sentences))``.

    Examples
    --------
    >>> rows = [Sentence("1_1", "1", "Good.", 2.0), Sentence("2_1", "2", "Bad.", -2.0),
    ...         Sentence("1_2", "1", "Long.", -0.5), Sentence("3_1", "3", "good", 2.1)]
    >>> leakage_groups(rows)
    [[0, 2, 3], [1]]
    """
    parent = list(range(len(sentences)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]  # halve the path as we walk it
            index = parent[index]
        return index

    first_with: dict[tuple[str, str], int] = {}
    for index, sentence in enumerate(sentences):
        words = re.sub(r"\W+", " ", sentence.text.lower()).strip() or sentence.text
        for key in (("document", sentence.document), ("text", words)):
            parent[root(index)] = root(first_with.setdefault(key, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(sentences)):
        groups[root(index)].append(index)
    return list(groups.values())


def deal(
    groups: Sequence[list[int]], one_hot: np.ndarray, shares: np.ndarray, seed: int
) -> list[list[int]]:
    """Deal whole groups out to parts, so that each part gets its share of every class.

    Large groups go first, in random order among equals, each to the part that still lacks
    the largest fraction of its share of that group's classes.

    Parameters
    ----------
    groups : sequence of list of int
        Row numbers that must stay together, from `leakage_groups`.
    one_hot : ndarray of shape (N, C)
        1 in the column of each row's class.
    shares : ndarray of shape (parts,)
    seed : int

    Returns
    -------
    list of list of int
        The rows of each part.

    Examples
    --------
    >>> one_hot = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    >>> deal([[0, 1], [2], [3]], one_hot, np.array([0.5, 0.5]), seed=0)
    [[0, 1], [3, 2]]
    """
    wanted = shares[:, None] * one_hot.sum(axis=0)  # (parts, C)
    missing = wanted.copy()
    parts: list[list[int]] = [[] for _ in shares]
    order = np.random.default_rng(seed).permutation(len(groups))
    for index in sorted(order, key=lambda i: -len(groups[i])):  # stable: ties stay shuffled
        counts = one_hot[groups[index]].sum(axis=0)  # (C,)
        part = int(np.argmax(missing / np.maximum(wanted, 1e-9) @ counts))
        missing[part] -= counts
        parts[part].extend(groups[index])
    return parts


def split(
    sentences: Sequence[Sentence],
    *,
    train: float = 0.50,
    validation: float = 0.05,
    test: float = 0.45,
    stratify: Target = "three_class",
    seed: int = 0,
) -> Splits:
    """Split into three parts with the same share of each class, documents kept whole.

    Sentences that could give each other away form groups (`leakage_groups`), and whole
    groups are dealt out (`deal`). Each part comes in a random order that depends on the seed
    alone, so that a slice of it is a sample of it.

    Parameters
    ----------
    sentences : sequence of Sentence
    train, validation, test : float
        Shares, each above 0, together at most 1. The default trains on half, as in the
        paper the data come from.
    stratify : {"three_class", "binary"}
        The classes whose shares are kept equal.
    seed : int

    Raises
    ------
    ValueError
        If the shares are impossible, or leave a part without sentences.
    """
    seed = whole_number(seed, "seed", least=0)
    shares = np.array([train, validation, test], dtype=float)
    if not (shares > 0).all() or shares.sum() > 1 + 1e-9:
        raise ValueError(
            "train, validation and test must each be above 0 and together at most 1, "
            f"got {train}, {validation} and {test}"
        )
    if stratify == "rating":
        raise ValueError("stratify needs classes: choose three_class or binary")
    if shares.sum() < 1 - 1e-9:
        shares = np.append(shares, 1 - shares.sum())  # a fourth part, left unused
    labels = targets(sentences, stratify)
    one_hot = np.eye(len(CLASS_NAMES[stratify]))[labels]  # (N, C)
    groups = leakage_groups(sentences)
    parts = deal(groups, one_hot, shares, seed)
    if not all(parts[:3]):
        raise ValueError(
            f"{len(sentences)} sentences in {len(groups)} groups are too few for shares of "
            f"{train}, {validation} and {test}: a part is empty"
        )
    # Files are often sorted by label, and groups are dealt out by size. Neither may show in a
    # part: then `splits.train[:800]` is a random sample, and not the first file's 800 positives.
    shuffle = np.random.default_rng([seed, 1]).permutation
    return Splits(*([sentences[i] for i in shuffle(np.sort(part))] for part in parts[:3]))
