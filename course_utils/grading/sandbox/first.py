"""The first process of a submission's process namespace: it runs no student code.

The kernel gives it the orphans, and ends all others when it ends. It has no more rights than the
runner beside it, which it forks, and nobody there may read or write its memory.
"""

import os
import select
import signal
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from course_utils.grading.sandbox import namespaces

MOST_FILES = 65536


def be_first(part: Callable[[], Any]) -> NoReturn:
    """Fork a process that plays a part, take over orphans until it ends, and end as it did.

    End as well, and with it all there, when nobody can write to the standard input any more: the
    grader is gone. (bubblewrap asks the kernel to end us with it; as root it has by then given up
    the right to end another user's process, and the kernel does not.)
    """
    namespaces.dumpable(False)
    child = os.fork()
    if child == 0:
        namespaces.dumpable(True)
        os.closerange(3, MOST_FILES)
        play(part)
    for stream in (1, 2):  # so that the grader sees the end of the runner's
        os.close(stream)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    grader = select.poll()
    grader.register(0, 0)  # the input itself is the runner's: only its end is told here
    while not grader.poll(0):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child and not os.WIFSTOPPED(status):
            os._exit(exit_code(status))
        if pid == 0:  # nobody has ended
            signal.sigtimedwait({signal.SIGCHLD}, 1.0)
    os._exit(1)


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
