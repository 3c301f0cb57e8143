"""How good a ranked list is: what a person wanted, was it near the top.

Recall counts what was found among the first k. The discounted gain also asks where: the second
place counts less than the first (K. Järvelin and J. Kekäläinen, "Cumulated Gain-Based Evaluation
of IR Techniques", 2002). Both are per person; `intervals` says how sure their mean is.

Left out on purpose: measures over a sample of the films. They can turn the order of two methods
round (W. Krichene and S. Rendle, "On Sampled Metrics for Item Recommendation", 2020).
"""

from typing import Any

import numpy as np

from course_utils.inputs import numbers, vector, whole_number


def ranked(scores: np.ndarray, leave_out: np.ndarray) -> np.ndarray:
    """Return the rows from the highest score down, without those to leave out.

    Equal scores keep their order, so a method that gives all the same ranks by number.

    Parameters
    ----------
    scores : array of shape (F,)
    leave_out : int array
        Rows that must not be in the list, such as films that a person has rated.

    Examples
    --------
    >>> ranked(np.array([0.2, 0.9, 0.5]), leave_out=np.array([1])).tolist()
    [2, 0]
    """
    scores = numbers(scores, "scores")
    order = np.argsort(-scores, kind="stable")
    return order[~np.isin(order, np.asarray(leave_out, dtype=int))]


def recall_at_k(order: np.ndarray, wanted: np.ndarray, k: int) -> float:
    """Return the share of what was wanted that stands among the first k.

    Raises
    ------
    ValueError
        If nothing was wanted: a share of nothing has no value.

    Examples
    --------
    >>> recall_at_k(np.array([7, 3, 5, 1]), wanted=np.array([3, 1]), k=2)
    0.5
    """
    order, wanted = distinct(order, "order"), distinct(wanted, "wanted")
    found = np.isin(order[: whole_number(k, "k", least=1)], wanted)
    return float(found.sum() / len(wanted))


def ndcg_at_k(order: np.ndarray, wanted: np.ndarray, k: int) -> float:
    r"""Return the normalised discounted cumulative gain of the first k.

    .. math:: \frac{\sum_{i=1}^{k} [\text{order}_i \text{ wanted}] / \log_2 (i + 1)}
              {\sum_{i=1}^{\min(k, n)} 1 / \log_2 (i + 1)}

    with n films wanted: the best list of k has 1, also when more or fewer than k were wanted.

    Examples
    --------
    >>> round(ndcg_at_k(np.array([7, 3, 5, 1]), wanted=np.array([3]), k=4), 3)  # 1 / log2(3)
    0.631
    """
    order, wanted = distinct(order, "order"), distinct(wanted, "wanted")
    discounts = 1 / np.log2(np.arange(2, whole_number(k, "k", least=1) + 2))
    found = np.isin(order[:k], wanted)
    return float(discounts[: len(found)] @ found / discounts[: len(wanted)].sum())


def distinct(rows: Any, name: str) -> np.ndarray:
    """Return rows (N,) as an array, after checking that there is one and none stands there twice.

    Raises
    ------
    ValueError
        If there is none, or one is named twice: it would count twice.

    Examples
    --------
    >>> distinct([3, 1], "wanted").tolist()
    [3, 1]
    """
    array = vector(rows, name)
    if len(np.unique(array)) != len(array):
        raise ValueError(f"{name} names a row twice: each counts once")
    return array
