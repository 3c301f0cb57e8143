"""The commands that put a process behind bubblewrap's walls: one submission, or the nursery."""

import functools
import os
import platform
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from course_utils.grading.checks import IN_SANDBOX
from course_utils.grading.sandbox import filesystem
from course_utils.grading.sandbox.limits import Limits

TOOLS = ("bwrap", "prlimit", "setpriv", "taskset", "timeout")
RUNNER = ("-m", "course_utils.grading.runner")
INSIDE = ("-m", "course_utils.grading.sandbox.inside")
NURSERY = ("-m", "course_utils.grading.sandbox.nursery")
FIRST_USER = 1_000_000_000  # far above real users; each sandbox of a machine has its own
TO_BECOME = ("SETUID", "SETGID", "SETPCAP")  # what it takes to become another user
NURSERY_DISK = 4096  # bytes: nothing is to be kept there


def command(
    limits: Limits,
    hidden: Iterable[Path] = (),
    filter_file: int | None = None,
    core: int | None = None,
) -> list[str]:
    """Return the command that runs one submission inside the walls.

    Parameters
    ----------
    limits : Limits
    hidden : iterable of Path
        What it must not see, wherever that lies.
    filter_file : int, optional
        An open file of the system call filter's bytes, which bubblewrap inherits.
    core : int, optional
        The one core it may compute on.
    """
    # If the grader is killed, so is everything it started: `timeout` first, then bubblewrap.
    arguments = ["setpriv", "--pdeathsig", "KILL", "--"]
    # The session ends it at its deadline; `timeout` is there for a session that hangs.
    arguments += ["timeout", "-k", "2", f"{limits.seconds + 3:g}"]
    if core is not None:
        arguments += ["taskset", "-c", str(core)]
    if not is_root():
        arguments += _prlimit(limits, process_limit(limits, everywhere=True))
    arguments += ["bwrap", "--die-with-parent", "--new-session", "--as-pid-1"]
    if filter_file is not None:
        arguments += ["--seccomp", str(filter_file)]
    arguments += _walls(TO_BECOME) + filesystem.arguments(hidden, limits.disk_mb * 1_000_000)
    arguments += [*_environment_arguments(), "--"]
    if is_root():
        user = str(free_user())
        arguments += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        arguments += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        arguments += _prlimit(limits, limits.processes)
    return [*arguments, sys.executable, *INSIDE]


def nursery_command(hidden: Iterable[Path] = ()) -> list[str]:
    """Return the command that runs the nursery: same files, nothing writable, no submission.

    As root it keeps the right to make namespaces, which it gives up in each fork before student
    code runs there. An ordinary user's nursery needs none: it makes user namespaces. It is the
    first process of its process namespace: when it ends, the kernel ends all others there.
    """
    arguments = ["bwrap", "--new-session", "--as-pid-1", *_walls((*TO_BECOME, "SYS_ADMIN"))]
    arguments += filesystem.arguments(hidden, NURSERY_DISK)
    arguments += [x for disk in filesystem.WRITABLE for x in ("--remount-ro", disk)]
    return [*arguments, *_environment_arguments(), "--", sys.executable, *NURSERY]


def is_root() -> bool:
    """Return True if the grader runs as root and submissions as somebody else."""
    return os.geteuid() == 0


def free_user() -> int:
    """Return a user number for this thread's submission.

    A thread runs one sandbox at a time, and no two threads of a machine have one number.
    """
    return FIRST_USER + threading.get_native_id()


def process_limit(limits: Limits, everywhere: bool) -> int:
    """Return the process limit to set: where a user's processes are counted together, with those.

    As root each submission is another user. Otherwise Linux before 5.14 counts all processes of the
    user, and so does any for limits set before the user namespace is made (`everywhere`).
    """
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if is_root() or (not everywhere and release >= (5, 14)):
        return limits.processes
    return limits.processes + _own_threads()


def environment() -> dict[str, str]:
    """Return the environment inside."""
    from course_utils.sources import CACHE_VARIABLE

    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
        "HOME": "/home",
        "USER": "student",
        "LANG": "C.UTF-8",
        "PYTHONPATH": "/course",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        CACHE_VARIABLE: str(filesystem.CACHE),
        IN_SANDBOX: "1",
    }


def _environment_arguments() -> list[str]:
    pairs = environment().items()
    return ["--clearenv", *(x for name, value in pairs for x in ("--setenv", name, value))]


def _walls(kept: Sequence[str]) -> list[str]:
    """Return the namespaces; as root, all but the `kept` capabilities are dropped."""
    if not is_root():
        return ["--unshare-all"]
    arguments = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    return arguments + [x for name in kept for x in ("--cap-add", f"CAP_{name}")]


def _prlimit(limits: Limits, processes: int) -> list[str]:
    options = [f"--{name}={value}" for name, value in limits.resources(processes).items()]
    return ["prlimit", *options, "--"]


def _own_threads() -> int:
    """Count this user's threads."""
    user, count = os.getuid(), 0
    for process in psutil.process_iter():
        try:
            count += process.num_threads() if process.uids().real == user else 0
        except psutil.Error:
            continue
    return count


@functools.cache
def compile_library() -> None:
    """Leave compiled files beside the library's sources: nothing inside can write them."""
    import compileall

    compileall.compile_dir(filesystem.PACKAGE, quiet=2)
