"""A core for each submission, so that a crowd of processes cannot starve its neighbours.

A core is taken for as long as a socket of its name is bound: no two graders of a machine take one
twice, and when a grader dies, however it dies, its cores are free again. Where all are taken, a
submission shares one of them with others, and the kernel divides it by sessions where
it does that (`sched_autogroup`), of which each submission has one and cannot make more.
"""

import contextlib
import os
import random
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def one_core() -> Iterator[int | None]:
    """Yield the number of a core to compute on, taken until the body ends (None: no choice)."""
    if not hasattr(os, "sched_getaffinity"):
        yield None
        return
    cores = sorted(os.sched_getaffinity(0))
    with socket.socket(socket.AF_UNIX) as claim:
        for core in cores:
            with contextlib.suppress(OSError):
                claim.bind(f"\0course-grading-core-{core}")
                yield core
                return
        yield random.choice(cores)
