"""Answers sooner: the same answers in the same places, an exit that keeps its promise."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from course_utils.inference import (
    Exit,
    Remembered,
    answer,
    answer_in_two,
    choose_exit,
    latencies,
    multiplications,
    rates,
)
from tests import tiny


def sums(batch):
    """Outputs by which every text is known: the sum of its tokens, and their number."""
    return np.stack([batch.input_ids.sum(1).numpy(), batch.attention_mask.sum(1).numpy()], axis=1)


def known(data):
    return np.array([(sum(ids), len(ids)) for ids in data.input_ids], dtype=np.float32)


def surest(outputs):
    return outputs[:, 1]


# --- answers in order ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64])
def test_answers_stand_where_their_texts_stand(size):
    data = tiny.dataset(0, 40)
    assert len(set(data.lengths().tolist())) > 5
    assert (answer(sums, data, size) == known(data)).all()


def test_batches_are_sorted_by_length():
    seen = []

    def run(batch):
        seen.extend(batch.attention_mask.sum(1).tolist())
        return sums(batch)

    answer(run, tiny.dataset(0, 40), 8)
    assert seen == sorted(seen)


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_streams_give_the_same_answers_and_are_as_many(streams):
    data, together = tiny.dataset(0, 40), threading.Barrier(streams, timeout=20)

    def run(batch):
        together.wait()  # breaks unless so many batches are answered at the same time
        return sums(batch)

    assert (answer(run, data, 4, streams=streams) == known(data)).all()


def test_what_fails_in_a_stream_is_an_error():
    def run(batch):
        if len(batch) == 4:
            raise RuntimeError("the engine failed")
        return sums(batch)

    with pytest.raises(RuntimeError, match="the engine failed"):
        answer(run, tiny.dataset(0, 40), 4, streams=2)


def test_no_stream_is_refused():
    with pytest.raises(ValueError, match="streams"):
        answer(sums, tiny.dataset(0, 40), streams=0)


def test_multiplications_are_those_of_the_shapes():
    T, D, inner = 11, 24, 96
    by_hand = 4 * T * D * D + 2 * T * D * inner + 2 * T * T * D
    assert multiplications(T, 3, D, inner) == 3 * by_hand


# --- clocks -------------------------------------------------------------------------------


def test_ways_take_turns_and_each_begins_a_round():
    called = []
    ways = {name: (lambda name=name: called.append(name)) for name in "abc"}
    found = rates(ways, dict.fromkeys("abc", 1), rounds=3)
    assert "".join(called) == "abcbcacab"
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys("abc", (3,))


def test_a_rate_is_texts_by_seconds():
    found = rates({"slow": lambda: time.sleep(0.02)}, {"slow": 4}, rounds=2)
    assert (found["slow"] <= 200).all()
    assert (found["slow"] > 10).all()


def test_no_round_is_refused():
    with pytest.raises(ValueError, match="rounds"):
        rates({"a": list}, {"a": 1}, rounds=0)


def test_latencies_are_milliseconds_of_each_text():
    waits = {"short": 0.001, "long": 0.02}
    found = latencies(lambda text: time.sleep(waits[text]), ["short", "long", "short"])
    assert found.shape == (3,)
    assert found[1] >= 20 > found[0] >= 1


# --- the exit -----------------------------------------------------------------------------


def test_an_exit_keeps_its_promise_and_is_the_lowest_that_does():
    generator = np.random.default_rng(0)
    confidence = generator.random(300).round(2)  # with many equal ones
    agrees = generator.random(300) < 0.5 + confidence / 2
    for most in (0.01, 0.05, 0.2):
        found = choose_exit(confidence, agrees, most)
        stands = confidence >= found.threshold
        assert found.share == stands.mean()
        assert found.changed == pytest.approx((stands & ~agrees).mean())
        assert found.changed <= most
        lower = confidence[confidence < found.threshold].max()
        assert ((confidence >= lower) & ~agrees).mean() > most


def test_an_exit_that_may_change_nothing_lets_nobody_out():
    found = choose_exit(np.array([3.0, 2.0, 1.0]), np.array([False, True, True]), 0.1)
    assert found == Exit(float("inf"), 0.0, 0.0)


@pytest.mark.parametrize(
    ("confidence", "agrees", "most"),
    [([1.0, 2.0], [True], 0.1), ([1.0], [True], 1.5), ([1.0], [True], float("nan"))],
)
def test_what_cannot_choose_an_exit_is_refused(confidence, agrees, most):
    with pytest.raises(ValueError, match=r"shape|length|rows|between|finite"):
        choose_exit(np.array(confidence), np.array(agrees), most)


def test_the_large_model_reads_what_the_small_one_was_not_sure_of():
    data = tiny.dataset(0, 40)
    read = []

    def large(batch):
        read.append(batch.attention_mask.sum(1).tolist())
        return -sums(batch)

    limit = float(np.sort(data.lengths())[20])  # of a text that is just sure enough
    answers, asked = answer_in_two(sums, large, data, surest, limit, batch_size=6)
    assert (asked == (data.lengths() < limit)).all()
    assert asked.any()
    assert not asked.all()
    expected = np.where(asked[:, None], -known(data), known(data))
    assert (answers == expected).all()
    flat = [n for batch in read for n in batch]
    assert flat == sorted(flat)
    assert len(flat) == asked.sum()


def test_in_streams_few_rows_are_shared_and_the_longest_come_first():
    data, began = tiny.dataset(0, 40), []

    def large(batch):
        began.append(batch.attention_mask.sum(1).max().item())
        return -sums(batch)

    limit = float(np.sort(data.lengths())[20])
    alone, _ = answer_in_two(sums, large, data, surest, limit, batch_size=32)
    assert len(began) == 1
    shared, _ = answer_in_two(sums, large, data, surest, limit, batch_size=32, streams=2)
    assert (shared == alone).all()
    assert len(began) - 1 > 2 * 2
    assert began[1] == max(began)


def test_nobody_asks_a_large_model_for_nothing():
    data = tiny.dataset(0, 10)

    def large(batch):
        raise AssertionError("it was asked")

    _, asked = answer_in_two(sums, large, data, surest, 0)
    assert not asked.any()


# --- memory of texts ----------------------------------------------------------------------


def test_each_text_is_asked_once():
    asked = []

    def ask(texts):
        asked.extend(texts)
        return [text.upper() for text in texts]

    remember = Remembered(ask)
    assert remember(["a", "b", "a"]) == ["A", "B", "A"]
    assert remember(["b", "c"]) == ["B", "C"]
    assert asked == ["a", "b", "c"]
    assert (remember.found, remember.asked) == (2, 3)


def test_the_longest_unused_is_forgotten():
    remember = Remembered(lambda texts: texts, most=2)
    for text in ("a", "b", "a", "c"):  # b has not been used for the longest time
        remember([text])
    assert list(remember.kept) == ["a", "c"]


def test_more_texts_than_are_kept_are_all_answered():
    remember = Remembered(lambda texts: [len(t) for t in texts], most=2)
    assert remember(["a", "bb", "ccc", "dddd"]) == [1, 2, 3, 4]
    assert len(remember.kept) == 2


def test_too_few_answers_are_an_error_and_nothing_is_kept():
    remember = Remembered(lambda texts: texts[:-1])
    with pytest.raises(ValueError, match="zip"):
        remember(["a", "b"])
    assert not remember.kept
    assert (remember.found, remember.asked) == (0, 0)
