"""Find the passage that answers a question, and say how good the finding is.

BM25 counts the words that a question and a passage share: rare ones count more, each further time
in one passage counts less, and long passages are marked down (S. Robertson and H. Zaragoza, "The
Probabilistic Relevance Framework: BM25 and Beyond", 2009). Vectors of an encoder compare what
is meant instead. Both give a matrix of scores, one row for each question; everything below
it takes such a matrix.

Left out on purpose: an index that does not look at every passage. A few hundred need none.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from course_utils.inputs import finite_number, numbers, whole_number
from course_utils.metrics import paired_vectors

WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation.

    Examples
    --------
    >>> words_of("My mouse isn't responding!")
    ['my', 'mouse', 'isn', 't', 'responding']
    """
    return WORD.findall(text.lower())


class BM25:
    r"""Scores of questions against passages by the words that they share.

    .. math::

        \sum_{w} \ln\Big(1 + \frac{N - n_w + 0.5}{n_w + 0.5}\Big) \cdot
        \frac{f_w (k_1 + 1)}{f_w + k_1 (1 - b + b \, |d| / \overline{|d|})}

    over the words w of the question; :math:`n_w` of N passages contain w, this one
    :math:`f_w` times; :math:`|d|` is its number of words.

    Parameters
    ----------
    passages : sequence of str, length N
    k1 : float
        At least 0: how soon a word that is repeated counts no more. 0: at once.
    b : float
        From 0 to 1: how far long passages are marked down.

    Raises
    ------
    ValueError
        If there is no passage or a number is out of range.

    Examples
    --------
    >>> search = BM25(["a mouse", "a printer", "a mouse and a printer"])
    >>> search.scores(["my mouse"]).round(2).tolist()
    [[0.55, 0.0, 0.36]]
    """

    def __init__(self, passages: Sequence[str], k1: float = 1.5, b: float = 0.75) -> None:
        if isinstance(passages, str) or not len(passages):
            raise ValueError("need a list of passages to search in, one at least")
        self.k1, self.b = finite_number(k1, "k1", least=0), finite_number(b, "b", least=0)
        if self.b > 1:
            raise ValueError(f"b must be from 0 to 1, got {b}")
        self.counts = [Counter(words_of(passage)) for passage in passages]
        lengths = np.array([sum(count.values()) for count in self.counts])
        self.relative = lengths / max(lengths.mean(), 1e-9)
        self.holds = Counter(word for count in self.counts for word in count)

    def scores(self, questions: Sequence[str]) -> np.ndarray:
        """Return a score for each question and passage, shape (Q, N).

        Raises
        ------
        ValueError
            If one text is given instead of a list of them.
        """
        if isinstance(questions, str):
            raise ValueError("need a list of questions, got one text")
        N = len(self.counts)
        scores = np.zeros((len(questions), N))
        norm = self.k1 * (1 - self.b + self.b * self.relative)  # (N,)
        for row, question in enumerate(questions):
            for word in words_of(question):
                n = self.holds[word]
                if not n:
                    continue
                times = np.array([count[word] for count in self.counts])  # (N,)
                rarity = math.log(1 + (N - n + 0.5) / (n + 0.5))
                here = times > 0
                f = times[here]
                scores[row, here] += rarity * f * (self.k1 + 1) / (f + norm[here])
        return scores


def ranks(scores: np.ndarray, relevant: Sequence[Collection[int]]) -> np.ndarray:
    """Return at which place the first right passage stands, from 1; shape (Q,).

    Of passages with equal scores the wrong ones go first: whoever gives every passage the same
    score has found nothing, and shall not look as if.

    Parameters
    ----------
    scores : array of shape (Q, N)
    relevant : sequence of collections of int, length Q
        Of each question the numbers of the passages that answer it, one at least.

    Raises
    ------
    ValueError
        If a question has no right passage, or the numbers of questions differ.

    Examples
    --------
    >>> ranks(np.array([[0.9, 0.1, 0.5], [0.2, 0.2, 0.2]]), [{2}, {0}]).tolist()
    [2, 3]
    """
    scores = numbers(scores, "scores")
    if scores.ndim != 2 or len(scores) != len(relevant):
        raise ValueError(
            f"need a row of scores for each of {len(relevant)} questions, got {scores.shape}"
        )
    found = []
    for row, right in zip(scores, relevant, strict=True):
        if not right:
            raise ValueError("a question has no right passage: it can have no rank")
        mask = np.zeros(len(row), dtype=bool)
        mask[list(right)] = True
        found.append(1 + int((row[~mask] >= row[mask].max()).sum()))
    return np.array(found)


def recall_at(places: np.ndarray, k: int) -> float:
    """Return the share of questions with a right passage among the first k.

    Examples
    --------
    >>> recall_at(np.array([1, 3, 9, 2]), k=3)
    0.75
    """
    return float((numbers(places, "places") <= whole_number(k, "k", least=1)).mean())


def mean_reciprocal_rank(places: np.ndarray) -> float:
    """Return the mean of one over the rank: 1 for a first place, a half for a second.

    Examples
    --------
    >>> mean_reciprocal_rank(np.array([1, 2, 4, 4]))
    0.5
    """
    return float((1 / numbers(places, "places")).mean())


@dataclass(frozen=True)
class HandOver:
    """From which confidence on a machine answers by itself.

    Attributes
    ----------
    threshold : float
        Below it a person answers.
    coverage : float
        Share of the questions that are answered; on those that chose the threshold.
    wrong : float
        Share of wrong ones among the answered.
    """

    threshold: float
    coverage: float
    wrong: float


def coverage_curve(
    confidence: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thresholds from high to low, and at each the coverage and the share of wrong answers.

    Questions that are equally sure are answered together or not at all.

    Parameters
    ----------
    confidence : array of shape (Q,)
    right : bool array of shape (Q,)
        Whether the answer that would be given is right. For a question that nothing answers
        it never is.

    Examples
    --------
    >>> threshold, coverage, wrong = coverage_curve(
    ...     np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    >>> threshold.tolist(), coverage.tolist(), wrong.round(2).tolist()
    ([0.9, 0.5, 0.1], [0.25, 0.75, 1.0], [0.0, 0.33, 0.5])
    """
    confidence, right = paired_vectors(confidence=confidence, right=right)
    thresholds = np.unique(confidence)[::-1]
    answered = confidence[None] >= thresholds[:, None]  # (thresholds, Q)
    count = answered.sum(axis=1)
    wrong = (answered & ~right.astype(bool)[None]).sum(axis=1)
    return thresholds, count / len(confidence), wrong / count


def choose_handover(confidence: np.ndarray, right: np.ndarray, most_wrong: float) -> HandOver:
    """Choose the threshold that answers most with at most a share of wrong answers.

    Raises
    ------
    ValueError
        If `most_wrong` is not from 0 to below 1.

    Examples
    --------
    >>> choose_handover(np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 1, 0, 0]) == 1, 0.1)
    HandOver(threshold=0.5, coverage=0.5, wrong=0.0)
    """
    if not 0 <= finite_number(most_wrong, "most_wrong") < 1:
        raise ValueError(f"most_wrong must be from 0 to below 1, got {most_wrong}")
    thresholds, coverage, wrong = coverage_curve(confidence, right)
    allowed = np.flatnonzero(wrong <= most_wrong)
    if not len(allowed):  # even the surest answer is wrong: all goes to people
        return HandOver(math.inf, 0.0, 0.0)
    last = allowed[-1]
    return HandOver(float(thresholds[last]), float(coverage[last]), float(wrong[last]))
