"""What a model does, asked for on purpose: behaviour tests, attacks on words, groups, abstaining.

A test set asks how often a model is right. Here we ask one capability at a time, in the manner of
M. Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (2020). The
attack changes the words that matter most and goes on to a budget (J. Gao et al., 2018; D. Jin et
al., "Is BERT Really Robust?", 2020); only letters inside words move, so that a person can still
read them (D. Pruthi et al., 2019). Groups are compared by M. Hardt et al., "Equality of
Opportunity in Supervised Learning" (2016), and abstaining by Y. Geifman and R. El-Yaniv (2017).

Every model is a function of a list of texts that gives one number for each: above zero is positive.

Left out on purpose: synonyms found by a second model. Whether they keep the meaning is an opinion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from course_utils.inputs import numbers, read_rows, vector, whole_number
from course_utils.intervals import Interval
from course_utils.metrics import paired_vectors

Score = Callable[[Sequence[str]], np.ndarray]
Variants = Callable[[str], list[str]]

# --- tests of one capability ----------------------------------------------------------------


@dataclass(frozen=True)
class BehaviourTest:
    """One capability, asked on texts whose right behaviour is known without a label.

    Attributes
    ----------
    capability : str
    kind : {"minimum", "invariance", "direction"}
        The score must have the sign; its sign must stay when the text is changed; the score must
        move in the direction of the sign, or stay.
    texts : sequence of str, length N
    changed : sequence of str, length N
        Each text after the change; empty for "minimum".
    sign : {1, -1}

    Raises
    ------
    ValueError
        If there are no texts, or the changed ones are not as many as the kind needs.
    """

    capability: str
    kind: Literal["minimum", "invariance", "direction"]
    texts: Sequence[str]
    changed: Sequence[str] = ()
    sign: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("minimum", "invariance", "direction") or self.sign not in (1, -1):
            raise ValueError(f"unknown kind or sign, got {self.kind!r} and {self.sign!r}")
        rows, _ = read_rows(self.texts)
        needed = 0 if self.kind == "minimum" else len(rows)
        if len(self.changed) != needed:
            raise ValueError(f"need {needed} changed texts, got {len(self.changed)}")

    def failed(self, score: Score) -> np.ndarray:
        """Return for each text whether the model failed on it, bool of shape (N,).

        Examples
        --------
        >>> test = BehaviourTest("negation", "minimum", ["not bad", "bad"], sign=-1)
        >>> test.failed(lambda texts: np.array([-1.0 if "bad" in t else 1.0 for t in texts]))
        array([False, False])
        """
        before = scores_of(score, self.texts)
        if self.kind == "minimum":
            return np.sign(before) != self.sign  # saying nothing is a failure too
        after = scores_of(score, self.changed)
        if self.kind == "invariance":
            return (before > 0) != (after > 0)
        return self.sign * (after - before) < 0


def scores_of(score: Score, texts: Sequence[str]) -> np.ndarray:
    """Return a model's scores as an array, after checking that there is one for each text."""
    found = vector(numbers(score(list(texts)), "scores"), "scores").astype(float)
    if len(found) != len(texts):
        raise ValueError(f"need one score for each text, got {len(found)} for {len(texts)}")
    return found


def share_interval(happened: np.ndarray, level: float = 0.95) -> Interval:
    """Return a share with Wilson's interval, which says something at 0 of N and N of N too.

    The bootstrap cannot: of rows that are all alike every draw is the same.

    Examples
    --------
    >>> str(share_interval(np.zeros(20, dtype=bool)))
    '0.000 (95% interval 0.000 to 0.161)'
    """
    happened = vector(happened, "happened")
    if happened.dtype != bool:
        raise ValueError(f"need True or False in each row, got {happened.dtype}")
    count, size = int(happened.sum()), len(happened)
    found = stats.binomtest(count, size).proportion_ci(level, method="wilson")
    return Interval(count / size, float(found.low), float(found.high), level)


# --- typing errors, and an attack made of them ----------------------------------------------


def typos(word: str) -> list[str]:
    """Return what one slip inside a word makes of it; its first and last letter stay.

    Neighbours change places, a letter is lost or doubled. Words below four letters have none.

    Examples
    --------
    >>> typos("good")
    ['god', 'goood']
    >>> typos("dull")[:2], typos("bad")
    (['dlul', 'dll'], [])
    """
    if len(word) < 4 or not word.isalpha():
        return []
    found = []
    for i in range(1, len(word) - 1):
        if i < len(word) - 2:
            found.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
        found.append(word[:i] + word[i + 1 :])
        found.append(word[:i] + word[i] + word[i:])
    return [slip for slip in dict.fromkeys(found) if slip != word]


def with_typos(text: str, count: int, generator: np.random.Generator) -> str:
    """Return the text with a slip in so many of its words, or in all that can have one.

    Examples
    --------
    >>> with_typos("a dull film", 0, np.random.default_rng(0))
    'a dull film'
    """
    words = text.split()
    able = [i for i, word in enumerate(words) if typos(word)]
    for i in generator.permutation(able)[: whole_number(count, "count", least=0)]:
        words[i] = str(generator.choice(typos(words[i])))
    return " ".join(words)


@dataclass(frozen=True)
class Attack:
    """What an attack made of N texts.

    Attributes
    ----------
    margins : ndarray of shape (N, budget + 1)
        The score times the side it was on, after 0, 1, ... changed words: below zero, it is over.
    texts : list of str, length N
        After the last change.
    queries : int
        How many texts the model was asked about.
    """

    margins: np.ndarray
    texts: list[str]
    queries: int

    def success(self) -> np.ndarray:
        """Return the attack success rate for each budget, shape (budget + 1,)."""
        return (self.margins <= 0).mean(axis=0)


def attack(
    texts: Sequence[str], score: Score, variants: Variants = typos, budget: int = 3
) -> Attack:
    """Change the words that matter most, each to its worst variant, until the side changes.

    Which words matter: those without which the margin is smallest. The model is never opened.

    Parameters
    ----------
    texts : sequence of str, length N
        On which the model is right: an attack on its mistakes says nothing.
    variants : callable
        Gives what a word may become; none for a word that must stay.
    budget : int
        How many words may change.
    """
    budget = whole_number(budget, "budget", least=1)
    start = scores_of(score, texts)
    side = np.where(start > 0, 1.0, -1.0)
    words = [text.split() for text in texts]
    without = [" ".join(w[:i] + w[i + 1 :]) for w in words for i in range(len(w))]
    left = scores_of(score, without) * np.repeat(side, [len(w) for w in words])
    ends = np.cumsum([len(w) for w in words])[:-1]
    plans = []
    for row, margin in zip(words, np.split(left, ends), strict=True):
        plans.append([int(i) for i in np.argsort(margin, kind="stable") if variants(row[i])])
    margins, queries = [start * side], len(texts) + len(without)
    for step in range(budget):
        tried = [
            (n, plan[step], word)
            for n, plan in enumerate(plans)
            if margins[-1][n] > 0 and step < len(plan)
            for word in variants(words[n][plan[step]])
        ]
        now = margins[-1].copy()
        if tried:
            asked = [" ".join([*words[n][:i], w, *words[n][i + 1 :]]) for n, i, w in tried]
            for (n, i, word), value in zip(tried, scores_of(score, asked), strict=True):
                if side[n] * value < now[n]:  # a variant that helps the model is not taken
                    now[n] = side[n] * value
                    words[n] = [*words[n][:i], word, *words[n][i + 1 :]]
        queries += len(tried)
        margins.append(now)
    return Attack(np.stack(margins, axis=1), [" ".join(w) for w in words], queries)


# --- groups, and not answering ---------------------------------------------------------------


def gap_interval(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Interval:
    """Return by how much the mean of `first` exceeds that of `second` (B. Welch's interval).

    One value for each member, such as a name: average over the sentences it stands in first, for
    these are not independent of each other.

    Examples
    --------
    >>> gap_interval(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).value
    0.0
    """
    first, second = (vector(numbers(x, "a group"), "a group") for x in (first, second))
    if min(len(first), len(second)) < 2:
        raise ValueError(f"need two members or more in each, got {len(first)} and {len(second)}")
    value = float(first.mean() - second.mean())
    parts = [x.var(ddof=1) / len(x) for x in (first, second)]  # the variance of each mean
    if not sum(parts):
        return Interval(value, value, value, level)
    weights = [part**2 / (len(x) - 1) for part, x in zip(parts, (first, second), strict=True)]
    freedom = sum(parts) ** 2 / sum(weights)
    half = float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(sum(parts)))
    return Interval(value, value - half, value + half, level)


def rate_gaps(
    labels: np.ndarray, predictions: np.ndarray, group: np.ndarray
) -> tuple[float, float]:
    """Return how two groups differ in true positive rate and in false positive rate.

    Equalised odds asks that both be zero: given the label, the group must not matter.

    Parameters
    ----------
    labels, predictions, group : arrays of 0 and 1, shape (N,)

    Returns
    -------
    tuple of two floats
        Group 1 minus group 0; not a number where a group has no row of a label.

    Examples
    --------
    >>> rate_gaps(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 1]), np.array([1, 0, 1, 0]))
    (1.0, 0.0)
    """
    labels, predictions, group = paired_vectors(labels=labels, predictions=predictions, group=group)
    rates = [[predictions[(labels == label) & (group == g)] for g in (0, 1)] for label in (1, 0)]
    true, false = (
        float(b.mean() - a.mean()) if len(a) and len(b) else float("nan") for a, b in rates
    )
    return true, false


def risk_coverage(confidence: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of texts answered, the surest first, and the mistakes' share among these.

    Parameters
    ----------
    confidence : array of shape (N,)
        Any number that is higher where the model is surer.
    wrong : bool array of shape (N,)

    Returns
    -------
    coverage, risk : arrays of shape (N,)
        Texts of equal confidence come in their given order.

    Examples
    --------
    >>> coverage, risk = risk_coverage(np.array([0.9, 0.6, 0.8]), np.array([False, True, False]))
    >>> coverage.round(2).tolist(), risk.round(2).tolist()
    ([0.33, 0.67, 1.0], [0.0, 0.0, 0.33])
    """
    confidence, wrong = paired_vectors(confidence, wrong)
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), wrong[order].cumsum() / answered
