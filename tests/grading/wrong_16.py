"""Wrong answers to lesson 16 that are no item's variant: the general comparison names them."""

import numpy as np

from answer_book.lesson_16 import cusum_alarm, search_scores


def with_numpy(question, passages, k1, b):
    """The formula as it stands, all words at once: 0 / 0 is nan here, and no error."""
    N, mean = len(passages), np.mean([len(passage) for passage in passages])
    n = np.array([sum(word in other for other in passages) for word in question])
    scores = []
    for passage in passages:
        f = np.array([passage.count(word) for word in question], dtype=float)
        with np.errstate(invalid="ignore"):
            share = f * (k1 + 1) / (f + k1 * (1 - b + b * len(passage) / mean))
        scores.append(float((np.log(1 + (N - n + 0.5) / (n + 0.5)) * share).sum()))
    return scores


WRONG = [
    ("16.bm25_scores", "not_finite", with_numpy),
    ("16.search_scores", "other_order", lambda *inputs: search_scores(*inputs)[::-1]),
    (
        "16.search_scores",
        "wrong_value",
        lambda scores, right, k: search_scores(scores, right, k + 1),
    ),
    ("16.cusum_alarm", "returned_none", lambda *inputs: (cusum_alarm(*inputs)[0], None)),
    ("16.cusum_alarm", "wrong_type", lambda *inputs: cusum_alarm(*inputs)[1]),
]
