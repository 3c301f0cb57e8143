"""The nursery: a process behind the walls that holds PyTorch, and forks a child per submission.

Importing PyTorch is most of the time that a submission takes, and a fork shares it for nothing.
What makes this safe is that the nursery knows nothing and hears nothing. It is started inside
bubblewrap, where no submission, answer or result is to be seen. No line of a submission
passes through it: with each request come the ends of four pipes, which it hands to its child and
closes. Nothing is sent back by it. So all children begin alike, and none finds traces of another.

Each child then makes namespaces, disks, limits and a filter of its own (`namespaces`), and only
what is inside of these runs student code:

    nursery          waits for requests
    └─ keeper        outside of the new process namespace; tells the grader how it ended
       └─ first      process 1 inside: takes over orphans; when it ends, the kernel ends all others
          └─ runner  process 2: `course_utils.grading.runner`, and all that it starts

Out of reach of the keeper and the nursery in every way but the numbers of the pipes. The first
process runs no student code, but has no more rights than the runner.

Started as ``python -m course_utils.grading.sandbox.nursery`` by `births`, which is its other side.
"""

import contextlib
import gc
import json
import os
import select
import socket
import sys
from importlib import import_module
from typing import Any

from course_utils.grading import runner
from course_utils.grading.sandbox import namespaces
from course_utils.grading.sandbox.filesystem import WRITABLE
from course_utils.grading.sandbox.first import be_first, exit_code, play
from course_utils.grading.sandbox.syscalls import system_call_filter

HELD = ("numpy", "numpy.random", "torch", "course_utils.grading.calls")
BORN, GO = b"born", b"go"
MOST = 65536


def main() -> None:
    """Hold the libraries, and fork for each request, until the grader is gone."""
    requests = socket.socket(fileno=os.dup(0))
    for name in HELD:
        with contextlib.suppress(ImportError):  # the submission would not find it either
            import_module(name)
    if torch := sys.modules.get("torch"):  # a state that somebody knows, and each begins with
        torch.manual_seed(0)
    gc.collect()
    gc.freeze()  # a search for garbage would write to, and so copy, pages that are shared
    program = system_call_filter()
    if len(os.listdir("/proc/self/task")) > 1:  # a fork has only one: what others hold stays held
        raise SystemExit("a library of the course starts threads when it is imported")
    requests.send(BORN)
    while True:
        select.select([requests], [], [], 1.0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        with contextlib.suppress(BlockingIOError):
            message, files, _, _ = socket.recv_fds(requests, MOST, 4, socket.MSG_DONTWAIT)
            if not message:
                return  # the grader has ended
            if len(files) == 4 and os.fork() == 0:
                requests.close()
                play(_keep, json.loads(message), files, program)
            for file in files:
                os.close(file)


def _keep(request: dict[str, Any], files: list[int], program: bytes) -> None:
    """Be the keeper: leave the nursery's namespaces, fork the first process, tell its end."""
    *pipes, number = files
    for stream, pipe in enumerate(pipes):  # the runner's three standard streams
        os.dup2(pipe, stream)
        os.close(pipe)
    control = socket.socket(fileno=number)
    control.send(BORN)  # the kernel adds our number, as the grader sees it
    if control.recv(len(GO)) != GO:  # it has put us on a core
        return
    namespaces.new_namespaces(with_users=request["user"] is None)
    first = os.fork()
    if first == 0:
        control.close()
        play(_wall_in, request, program)
    for stream in range(3):  # so that the grader sees the end of the runner's
        os.close(stream)
    control.send(str(exit_code(os.waitpid(first, 0)[1])).encode())


def _wall_in(request: dict[str, Any], program: bytes) -> None:
    """Put up the walls from inside, then be the first process there."""
    namespaces.new_processes_shown()
    namespaces.new_disks(WRITABLE, request["disk"], request["files"])
    os.chdir("/home")
    os.setsid()  # no terminal
    namespaces.limit_resources(request["limits"])
    namespaces.become(request["user"])
    namespaces.filter_system_calls(program)
    namespaces.die_with_parent()
    be_first(runner.main)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
