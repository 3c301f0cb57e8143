"""Who does the grading: threads of this machine, or the workers of a Dask cluster.

Either is a generator: given numbered submissions it yields numbered results, in the order they
come. A submission at which the grader itself fails is a result like any other; only what has
nothing to do with any submission is raised: another version of the course on a worker, walls that
do not hold.
"""

import functools
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, as_completed

from course_utils.grading.items import load_items
from course_utils.grading.kept import library_hash
from course_utils.grading.results import Result, Settings, internal_error
from course_utils.grading.row import grade_or_say_why
from course_utils.grading.sandbox import SandboxError, probe
from course_utils.grading.submissions import Submission

Graded = Generator[tuple[int, Result], None, None]
Grader = Callable[[list[tuple[int, Submission]], Settings], Graded]


def on_this_machine(jobs: int) -> Grader:
    """Return a grader with one thread per sandbox; the work is done in the sandboxes."""

    def grade(todo: list[tuple[int, Submission]], settings: Settings) -> Graded:
        stop, pool = threading.Event(), ThreadPoolExecutor(jobs)
        try:
            futures = {
                pool.submit(grade_or_say_why, each, settings, stop): index for index, each in todo
            }
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        finally:
            stop.set()  # interrupted: end what still runs
            pool.shutdown(cancel_futures=True)

    return grade


def on_cluster(address: str) -> Grader:
    """Return a grader for the workers of a Dask cluster; each needs the course and bubblewrap."""

    def grade(todo: list[tuple[int, Submission]], settings: Settings) -> Graded:
        try:
            from distributed import Client, KilledWorker
            from distributed import as_completed as as_they_come
        except ImportError:
            raise ImportError("--dask needs the extra: pip install '.[cluster]'") from None

        library = library_hash()
        given = dict(todo)
        with Client(address) as client:
            futures = {
                client.submit(_on_worker, each, settings, library, pure=False, retries=2): index
                for index, each in todo
            }
            for future in as_they_come(futures):
                index = futures[future]
                try:
                    yield index, future.result()
                except KilledWorker as error:  # several machines in turn: no other row waits for it
                    submission = given[index]
                    items = load_items(submission.lesson)
                    yield index, internal_error(submission, items, error)

    return grade


def _on_worker(submission: Submission, settings: Settings, library: str) -> Result:
    """Grade on a worker, which must have the same course and walls that hold."""
    if library_hash() != library:
        raise SandboxError("a worker of the cluster has another version of the course")
    if settings.protected:
        _probe_once(settings.hidden)
    return grade_or_say_why(submission, settings)


@functools.cache
def _probe_once(hidden: tuple[str, ...]) -> None:
    probe(hidden=hidden)
