"""Micro-batching: requests of many clients, computed together.

One thread holds the model. It takes what waits in the queue, up to a number of texts, computes it
as one batch and hands each client its part. A lone request waits a few milliseconds for company;
under load nobody waits for that, since the queue fills while the batch before is computed.

There can be several such threads, which share the cores and take a batch each. All cores on one
batch are quicker for a single client; but they wait for each other at the end of every matrix
product, and for whichever of them the rest of the machine has work for.

The idea is that of Clipper (Crankshaw et al., NSDI 2017, section 4.3). Left out on purpose:
a batch size that adapts to a latency target, and priorities.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class QueueFull(Exception):
    """There is no room for the request."""


class Stopped(Exception):
    """The service is stopping and takes nothing new."""


@dataclass(eq=False)
class Job(Generic[Answer]):
    """The texts of one request, when they came, and their answer to come."""

    texts: list[str]
    answer: "Future[list[Answer]]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class MicroBatcher(Generic[Answer]):
    """A queue of requests and the thread that answers them.

    Parameters
    ----------
    predict : callable
        Texts to answers, one each, in order. Only ever called by these threads.
    batch : int
        Texts computed together. A request that has more is computed alone.
    wait : float
        Seconds for which the first of a batch waits for others.
    queue : int
        Texts that may wait.
    on_batch : callable, optional
        Gets the number of texts and the seconds of each batch.
    workers : int
        Threads that answer.
    on_start : callable, optional
        Called once in each of them, before the first batch.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[str]], list[Answer]],
        batch: int = 32,
        wait: float = 0.005,
        queue: int = 256,
        on_batch: Callable[[int, float], None] = lambda texts, seconds: None,
        workers: int = 1,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.predict, self.batch, self.wait, self.queue = predict, batch, wait, queue
        self.on_batch, self.on_start = on_batch, on_start
        self._jobs: deque[Job[Answer]] = deque()
        self._changed = threading.Condition()  # guards _jobs and _stopping
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name="model", daemon=True) for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Return how many texts wait."""
        with self._changed:
            return self._waiting()

    @property
    def alive(self) -> bool:
        """Return whether all threads still answer."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, texts: Sequence[str]) -> "Future[list[Answer]]":
        """Put a request into the queue; cancelling its future takes it out again.

        Raises
        ------
        QueueFull
            If its texts do not fit.
        Stopped
            If `stop` was called.
        """
        job: Job[Answer] = Job(list(texts))
        with self._changed:
            if self._stopping or not self.alive:
                raise Stopped("the service is stopping")
            if self._waiting() + len(job.texts) > self.queue:
                raise QueueFull(f"{self._waiting()} texts wait, of {self.queue} that may")
            self._jobs.append(job)
            self._changed.notify()
        return job.answer

    def stop(self, seconds: float) -> bool:
        """Take nothing new, answer what waits, and return whether that was done in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            left = [*self._jobs]
            self._jobs.clear()
        for job in left:
            if job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(Stopped("the service stopped before its turn"))
        return not left and not any(thread.is_alive() for thread in self._threads)

    # --- the threads ----------------------------------------------------------------------

    def _run(self) -> None:
        self.on_start()
        while jobs := self._next_batch():
            self._compute(jobs)

    def _next_batch(self) -> list[Job[Answer]]:
        """Wait for a batch and take it; return nothing when all is done and it is time to stop."""
        with self._changed:
            while (seconds := self._open_for()) != 0:
                self._changed.wait(seconds)
            taken: list[Job[Answer]] = []
            room = self.batch
            while self._jobs and (not taken or len(self._jobs[0].texts) <= room):
                taken.append(self._jobs.popleft())
                room -= len(taken[-1].texts)
            return taken

    def _open_for(self) -> float | None:
        """Return the seconds until the batch is closed; None while nobody is there."""
        if self._stopping or self._waiting() >= self.batch:
            return 0.0
        if not self._jobs:
            return None
        return max(0.0, self._jobs[0].arrived + self.wait - time.monotonic())

    def _compute(self, jobs: list[Job[Answer]]) -> None:
        """Answer all jobs. If that fails, answer each alone: one bad text spoils no other's."""
        jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
        if not jobs:
            return  # all of them left
        try:
            answers = self._answers(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:
                try:
                    job.answer.set_result(self._answers([job]))
                except Exception as its_own:
                    job.answer.set_exception(its_own)
            return
        for job in jobs:
            job.answer.set_result(answers[: len(job.texts)])
            answers = answers[len(job.texts) :]

    def _answers(self, jobs: list[Job[Answer]]) -> list[Answer]:
        texts = [text for job in jobs for text in job.texts]
        start = time.monotonic()
        answers = self.predict(texts)
        if len(answers) != len(texts):
            raise ValueError(f"{len(texts)} texts got {len(answers)} answers")
        self.on_batch(len(texts), time.monotonic() - start)
        return answers

    def _waiting(self) -> int:
        """Count the texts of those that have not left, and let go of those that have."""
        if any(job.answer.cancelled() for job in self._jobs):
            self._jobs = deque(job for job in self._jobs if not job.answer.cancelled())
        return sum(len(job.texts) for job in self._jobs)
