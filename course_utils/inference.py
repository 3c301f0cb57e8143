"""Answers sooner: sorted batches, one a core, an early exit, a memory, and how to measure them.

What a text costs is counted (`multiplications`) before it is timed, and times are compared in
turn, round by round, as ratios (`rates`): a machine is never as fast as it was a minute ago.

The exit is BranchyNet's (S. Teerapittayanon, B. McDanel and H. Kung, 2016) with whole models: a
small one answers where it is sure, a large one where it is not.

Left out on purpose: queues. How requests of many clients become a batch is `serving`.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from course_utils.batching import Batch, TokenizedDataset, collate, cut, eval_loader
from course_utils.inputs import between_0_and_1, numbers, whole_number
from course_utils.metrics import paired_vectors

Run = Callable[[Batch], np.ndarray]
Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


def in_streams(run: Run, batches: Sequence[Batch], streams: int = 1) -> list[np.ndarray]:
    """Return a model's outputs for each batch, several batches answered at the same time.

    Parameters
    ----------
    run : callable
        From a batch to outputs of shape (B, C). With several streams it is called by several
        threads of Python at once. ONNX Runtime allows that, best with as many streams as cores
        and one thread for each; so does a PyTorch model in evaluation mode.
    batches : sequence of Batch
        Sorted by length; the longest are answered first.
    streams : int
    """
    if whole_number(streams, "streams", least=1) == 1:
        return [run(batch) for batch in batches]
    with ThreadPoolExecutor(streams) as pool:
        backwards = list(pool.map(run, reversed(batches)))  # short ones last: all end together
    return backwards[::-1]


def answer(
    run: Run, data: TokenizedDataset, batch_size: int = 32, *, streams: int = 1
) -> np.ndarray:
    """Return a model's outputs for all texts, shape (N, C), in the order of `data`.

    Batches are made of texts sorted by length, so that hardly anything is padding.

    Parameters
    ----------
    run : callable
        From a batch to outputs of shape (B, C).
    data : TokenizedDataset
    batch_size : int
    streams : int
        How many batches are answered at the same time, see `in_streams`.
    """
    batches = list(eval_loader(data, batch_size))
    parts = in_streams(run, batches, streams)
    answers = np.empty((len(data), parts[0].shape[1]), dtype=np.float32)
    for batch, part in zip(batches, parts, strict=True):
        answers[batch.index.numpy()] = part
    return answers


def multiplications(length: int, layers: int, hidden: int = 384, inner: int = 1536) -> int:
    """Return how many multiplications an encoder needs for one text padded to `length` tokens.

    Four matrices of attention and two of the feed-forward part for every token, and the scores
    and sums of attention for every pair of tokens. Biases, norms and the head are not counted:
    they are a hundredth.

    Examples
    --------
    >>> multiplications(10, layers=1, hidden=2, inner=8)  # 10 (4 x 4 + 2 x 16) + 2 x 100 x 2
    880
    """
    each_token = 4 * hidden**2 + 2 * hidden * inner
    return layers * (length * each_token + 2 * length**2 * hidden)


# --- clocks -------------------------------------------------------------------------------


def rates(
    ways: Mapping[str, Callable[[], object]], counts: Mapping[str, int], rounds: int = 3
) -> dict[str, np.ndarray]:
    """Return examples per second of several ways, timed in turn, round by round.

    Each round begins with another way, so that none is always the first.

    Parameters
    ----------
    ways : mapping of str to callable
        Each answers its texts when it is called.
    counts : mapping of str to int
        How many texts that are.
    rounds : int

    Returns
    -------
    dict of str to ndarray of shape (rounds,)

    Examples
    --------
    >>> found = rates({"a": lambda: time.sleep(0.002), "b": lambda: None}, {"a": 1, "b": 1})
    >>> found["a"].shape, bool((found["a"] < 501).all())
    ((3,), True)
    """
    names = list(ways)
    seconds = np.empty((whole_number(rounds, "rounds", least=1), len(names)))
    for number in range(rounds):
        for place in range(len(names)):
            column = (place + number) % len(names)
            started = time.perf_counter()
            ways[names[column]]()
            seconds[number, column] = time.perf_counter() - started
    return {name: counts[name] / seconds[:, i] for i, name in enumerate(names)}


def latencies(ask: Callable[[str], object], texts: Sequence[str]) -> np.ndarray:
    """Return the milliseconds of each text, asked one at a time, shape (N,)."""
    times = []
    for text in texts:
        started = time.perf_counter()
        ask(text)
        times.append(time.perf_counter() - started)
    return 1000 * np.array(times)


# --- the early exit -----------------------------------------------------------------------


@dataclass(frozen=True)
class Exit:
    """Where a small model's answer may stand.

    Attributes
    ----------
    threshold : float
        It is sure enough from here on.
    share : float
        Of the texts that chose the threshold, how many were answered.
    changed : float
        Of all of those texts, how many got another answer than the large model's.
    """

    threshold: float
    share: float
    changed: float


def choose_exit(confidence: np.ndarray, agrees: np.ndarray, most_changed: float) -> Exit:
    """Choose the lowest threshold that changes at most a share of the answers.

    Parameters
    ----------
    confidence : array of shape (N,)
        How sure the small model is; higher is surer.
    agrees : bool array of shape (N,)
        Whether it says what the large model says.
    most_changed : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the arrays differ in length, or `most_changed` is out of range.

    Examples
    --------
    >>> choose_exit(np.array([0.9, 0.8, 0.4, 0.2]), np.array([True, True, True, False]), 0.1)
    Exit(threshold=0.4, share=0.75, changed=0.0)
    """
    confidence, agrees = paired_vectors(confidence=confidence, agrees=agrees)
    allowed = between_0_and_1(most_changed, "most_changed")
    order = np.argsort(-confidence, kind="stable")
    changed = np.cumsum(~agrees[order].astype(bool)) / len(order)
    last = np.append(confidence[order][1:] < confidence[order][:-1], True)  # of equals, the last
    fine = np.flatnonzero((changed <= allowed) & last)
    if not len(fine):
        return Exit(float("inf"), 0.0, 0.0)
    at = fine[-1]
    return Exit(float(confidence[order][at]), float((at + 1) / len(order)), float(changed[at]))


def answer_in_two(
    small: Run,
    large: Run,
    data: TokenizedDataset,
    confidence: Callable[[np.ndarray], np.ndarray],
    threshold: float,
    batch_size: int = 32,
    *,
    streams: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Let a small model answer where it is sure, and a large one the rest, in sorted batches.

    They may be one model in two forms, such as int8 and float32.

    Parameters
    ----------
    small, large : callable
        From a batch to outputs of shape (B, C).
    data : TokenizedDataset
    confidence : callable
        From outputs (N, C) to a number for each, shape (N,).
    threshold : float
        From here on the small model is believed.
    batch_size : int
    streams : int
        How many batches are answered at the same time, see `in_streams`.

    Returns
    -------
    answers : ndarray of shape (N, C)
    asked : bool ndarray of shape (N,)
        Which texts the large model has read.
    """
    answers = answer(small, data, batch_size, streams=streams)
    asked = ~(numbers(confidence(answers), "confidence") >= threshold)
    rows = np.flatnonzero(asked)
    rows = rows[np.argsort(data.lengths()[rows], kind="stable")]
    shares = 1 if streams == 1 else 4 * streams  # few rows: something for each, and often
    size = min(batch_size, max(1, math.ceil(len(rows) / shares)))
    left = [collate([data[row] for row in part.tolist()]) for part in cut(rows, size)]
    for batch, part in zip(left, in_streams(large, left, streams), strict=True):
        answers[batch.index.numpy()] = part
    return answers, asked


# --- texts that come again ----------------------------------------------------------------


class Remembered(Generic[Key, Answer]):
    """A function's answers, kept: the one not asked for longest is forgotten when they are many.

    Parameters
    ----------
    ask : callable
        From a list of texts to a list of answers.
    most : int
        How many answers are kept.

    Attributes
    ----------
    found, asked : int
        How many texts were found, and how many `ask` was called with.

    Examples
    --------
    >>> lengths = Remembered(lambda texts: [len(text) for text in texts], most=2)
    >>> lengths(["a", "bb", "a"]), lengths(["a", "ccc"]), lengths.found, lengths.asked
    ([1, 2, 1], [1, 3], 2, 3)
    """

    def __init__(self, ask: Callable[[list[Key]], Sequence[Answer]], most: int = 10_000) -> None:
        self.ask, self.most = ask, whole_number(most, "most", least=1)
        self.kept: OrderedDict[Key, Answer] = OrderedDict()
        self.found = self.asked = 0

    def __call__(self, texts: Sequence[Key]) -> list[Answer]:
        """Return an answer for each text; ask only for those that are new, each once."""
        new = list(dict.fromkeys(text for text in texts if text not in self.kept))
        known = {text: self.kept[text] for text in texts if text in self.kept}
        if new:
            known |= dict(zip(new, self.ask(new), strict=True))
        self.found, self.asked = self.found + len(texts) - len(new), self.asked + len(new)
        for text in texts:
            self.kept[text] = known[text]
            self.kept.move_to_end(text)
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return [known[text] for text in texts]
