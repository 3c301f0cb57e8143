"""The first process of a submission's process namespace: it runs no student code.

The kernel gives it the orphans, and ends all others when it ends. It has no more rights than the
runner beside it, which it forks, and nobody there may read or write its memory.
"""

import os
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from course_utils.grading.sandbox import namespaces

MOST_FILES = 65536


def be_first(part: Callable[[], Any]) -> NoReturn:
    """Fork a process that plays a part, take over orphans until it ends, and end as it did."""
    namespaces.dumpable(False)
    child = os.fork()
    if child == 0:
        namespaces.dumpable(True)
        os.closerange(3, MOST_FILES)
        play(part)
    for stream in range(3):  # so that the grader sees the end of the runner's
        os.close(stream)
    while True:
        pid, status = os.wait()
        if pid == child and not os.WIFSTOPPED(status):
            os._exit(exit_code(status))


def play(part: Callable[..., Any], *given: Any) -> NoReturn:
    """Play a part in a fork; whatever happens there, it does not come back to the forking code."""
    try:
        part(*given)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def exit_code(status: int) -> int:
    """Return an exit code as a shell would: 128 and more for signals."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
