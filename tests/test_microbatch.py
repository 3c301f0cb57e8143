"""The queue and its thread: who is computed with whom, who is not, and how it ends."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from course_utils.serving.limits import Limits
from course_utils.serving.microbatch import MicroBatcher, QueueFull, Stopped
from tests.serving import wait_until

LONG = 600  # seconds that no test may last: who waits for them waits in vain
SOON = 60  # seconds within which a busy machine gets round to it


class Lengths:
    """Answers the length of each text, when it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.began = threading.Event()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.began.set()
        assert self.may_go.wait(SOON)
        if "poison" in texts:
            raise RuntimeError("poison")
        return [len(text) for text in texts]

    def hold(self) -> None:
        self.may_go.clear()
        self.began.clear()


@pytest.fixture
def lengths():
    return Lengths()


@pytest.fixture
def batcher(lengths):
    """Closed by number only: nobody waits long enough."""
    made = MicroBatcher(lengths, batch=4, wait=LONG, queue=8)
    yield made
    lengths.may_go.set()
    made.stop(SOON)


def test_two_workers_compute_two_batches_at_once_and_end_together(lengths):
    both = threading.Barrier(2, timeout=SOON)
    started = []

    def meet(texts):
        both.wait()  # one after the other they would never meet
        return lengths(texts)

    made = MicroBatcher(
        meet, batch=2, wait=LONG, workers=2, on_start=lambda: started.append(threading.get_ident())
    )
    futures = [made.submit(["x" * n]) for n in range(4)]
    assert [future.result(SOON) for future in futures] == [[0], [1], [2], [3]]
    assert len(set(started)) == 2
    assert made.alive
    lengths.hold()
    waiting = [made.submit(["a", "b"]), made.submit(["c", "d"]), made.submit(["e", "f"])]
    assert lengths.began.wait(SOON)
    threading.Timer(0.2, lengths.may_go.set).start()
    threading.Timer(0.4, both.abort).start()  # the third is alone: its worker is let go
    assert made.stop(SOON)
    assert [future.result(0) for future in waiting[:2]] == [[1, 1], [1, 1]]
    assert isinstance(waiting[2].exception(0), threading.BrokenBarrierError)


def test_workers_without_work_all_end(lengths):
    made = MicroBatcher(lengths, workers=3)
    time.sleep(0.2)  # so that they wait for work
    assert made.stop(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_has_died_is_seen(lengths):
    starts = iter([None, SystemExit])

    def on_start():
        if error := next(starts):
            raise error

    made = MicroBatcher(lengths, workers=2, on_start=on_start)
    wait_until(lambda: not made.alive)
    with pytest.raises(Stopped):
        made.submit(["a"])
    assert made.stop(SOON)


def held(lengths, batcher) -> Future:
    """Make the thread busy with one full batch, so that what comes now waits."""
    lengths.hold()
    busy = batcher.submit(["busy"] * 4)
    assert lengths.began.wait(SOON)
    return busy


def test_a_batch_is_closed_by_its_size(lengths, batcher):
    answers = [batcher.submit(["x" * n]) for n in (3, 1, 2, 5)]
    assert [answer.result(SOON) for answer in answers] == [[3], [1], [2], [5]]
    assert lengths.batches == [["xxx", "x", "xx", "xxxxx"]]


def test_a_batch_is_closed_by_time(lengths):
    batcher = MicroBatcher(lengths, batch=4, wait=0.2, queue=8)
    start = time.monotonic()
    assert batcher.submit(["a"]).result(SOON) == [1]
    assert time.monotonic() - start >= 0.2
    assert batcher.stop(SOON)


def test_what_gathered_meanwhile_goes_together_and_at_once(lengths):
    """They wait since they came, not since the thread is free."""
    batcher = MicroBatcher(lengths, batch=4, wait=LONG, queue=8)
    busy = held(lengths, batcher)
    answers = [batcher.submit([text]) for text in ("a", "bb", "ccc")]
    for job in batcher._jobs:
        job.arrived -= LONG  # as if they had waited long enough
    lengths.may_go.set()
    assert [answer.result(SOON) for answer in [busy, *answers]] == [[4] * 4, [1], [2], [3]]
    assert lengths.batches[1:] == [["a", "bb", "ccc"]]
    assert batcher.stop(SOON)


def test_requests_stay_whole_and_batches_do_not_overflow(lengths, batcher):
    busy = held(lengths, batcher)
    requests = [["a", "b", "c"], ["d", "e"], ["f", "g"]]
    answers = [batcher.submit(texts) for texts in requests]
    lengths.may_go.set()
    assert [answer.result(SOON) for answer in [busy, *answers]] == [
        [4] * 4,
        [1] * 3,
        [1] * 2,
        [1] * 2,
    ]
    assert lengths.batches[1:] == [["a", "b", "c"], ["d", "e", "f", "g"]]


def test_a_request_larger_than_a_batch_is_computed_alone(lengths, batcher):
    assert batcher.submit(["x"] * 6).result(SOON) == [1] * 6
    assert lengths.batches == [["x"] * 6]


def test_a_full_queue_refuses_and_loses_nothing(lengths, batcher):
    busy = held(lengths, batcher)
    answers = [batcher.submit(["a"] * 4), batcher.submit(["b"] * 3)]
    with pytest.raises(QueueFull, match="7 texts wait, of 8 that may"):
        batcher.submit(["c", "c"])
    answers.append(batcher.submit(["d"]))
    assert batcher.waiting == 8
    lengths.may_go.set()
    assert [len(answer.result(SOON)) for answer in [busy, *answers]] == [4, 4, 3, 1]


def test_who_left_is_not_computed_and_holds_no_place(lengths, batcher):
    busy = held(lengths, batcher)
    gone = batcher.submit(["gone"] * 8)
    assert gone.cancel()
    assert batcher.waiting == 0
    stays = batcher.submit(["stays"] * 8)
    lengths.may_go.set()
    assert len(busy.result(SOON) + stays.result(SOON)) == 12
    assert not [batch for batch in lengths.batches if "gone" in batch]


def test_the_thread_outlives_a_queue_of_people_who_left(lengths):
    batcher = MicroBatcher(lengths, batch=4, wait=1, queue=8)
    assert batcher.submit(["gone"]).cancel()
    time.sleep(1.3)
    assert batcher.submit(["a"]).result(SOON) == [1]
    assert batcher.stop(SOON)


def test_a_bad_text_spoils_no_other_request(lengths, batcher):
    answers = [batcher.submit([text]) for text in ("a", "poison", "bb", "ccc")]
    assert [answers[i].result(SOON) for i in (0, 2, 3)] == [[1], [2], [3]]
    with pytest.raises(RuntimeError, match="poison"):
        answers[1].result(SOON)
    assert batcher.alive


def test_answers_that_are_too_few_reach_nobody():
    batcher = MicroBatcher(lambda texts: [1], batch=2, wait=LONG, queue=8)
    answer = batcher.submit(["a", "b"])
    with pytest.raises(ValueError, match="2 texts got 1 answers"):
        answer.result(SOON)
    assert batcher.stop(SOON)


def test_stopping_answers_what_waits_and_refuses_what_comes(lengths, batcher):
    busy = held(lengths, batcher)
    waits = batcher.submit(["waits"])  # alone, and others do not come
    stopping = threading.Thread(target=batcher.stop, args=(SOON,))
    stopping.start()
    wait_until(lambda: batcher._stopping)
    with pytest.raises(Stopped):
        batcher.submit(["late"])
    lengths.may_go.set()
    assert (len(busy.result(SOON)), waits.result(SOON)) == (4, [5])
    stopping.join(SOON)
    assert not batcher.alive


def test_a_model_that_hangs_does_not_hold_up_the_end(lengths, batcher):
    held(lengths, batcher)
    waits = batcher.submit(["waits"])
    assert batcher.stop(0.1) is False
    with pytest.raises(Stopped):
        waits.result(SOON)


def test_each_batch_is_reported(lengths):
    seen = []
    batcher = MicroBatcher(
        lengths, 2, LONG, 8, lambda texts, seconds: seen.append((texts, seconds))
    )
    batcher.submit(["a", "b"]).result(SOON)
    assert batcher.stop(SOON)
    [(texts, seconds)] = seen
    assert texts == 2
    assert 0 <= seconds < LONG


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch": 0}, "batch must be at least 1"),
        ({"wait": -1}, "wait must be at least 0"),
        ({"answer": 0}, "answer must be above 0"),
        ({"wait": 10, "answer": 10}, "must not wait for others"),
        ({"body": 1.5}, "body must be a whole number"),
        ({"queue": 8, "texts": 9}, "9 texts do not fit into 8 places"),
    ],
)
def test_limits_that_make_no_sense(wrong, words):
    with pytest.raises(ValueError, match=words):
        Limits(**wrong)
