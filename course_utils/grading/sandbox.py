"""The walls around student code: bubblewrap's namespaces, resource limits, another user.

Inside there is no network, no other submission, no answer book, no home, and nothing that can be
written but a small memory disk that vanishes. `Session` starts the runner there, exchanges
lines with it, watches its memory, and ends everything that it started.

Linux with bubblewrap only. Elsewhere, and where the system forbids it (Ubuntu 24.04's AppArmor
does), `probe` says so, and the grader refuses to run unless told to go on unprotected.
"""

import contextlib
import errno
import os
import platform
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from course_utils.grading.checks import IN_SANDBOX
from course_utils.grading.wire import MOST_BYTES

RUNNER = ["-m", "course_utils.grading.runner"]
TOOLS = ("bwrap", "prlimit", "setpriv", "timeout")
MOST_OUTPUT = 8 * MOST_BYTES  # of all messages of one submission
FIRST_USER = 1_000_000_000  # far above real users; each sandbox of a machine has its own
POLL_S = 0.2
CACHE = "/course/cache"  # where the fetched reviews are, inside
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class SandboxError(RuntimeError):
    """Student code cannot be run safely on this machine; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes
    ----------
    seconds : float
        Wall-clock time for everything, starting Python included.
    memory_gb : float
        Resident memory of all its processes together.
    address_gb : float
        Address space of each process; importing torch takes 3.7.
    processes : int
        Processes and threads.
    disk_mb : int
        Size of each memory disk, and of any one file.
    """

    seconds: float = 120.0
    memory_gb: float = 3.0
    address_gb: float = 8.0
    processes: int = 256
    disk_mb: int = 128


def command(limits: Limits, filter_file: int | None = None) -> list[str]:
    """Return the command that runs the runner inside the walls.

    `filter_file` is an open file of `system_call_filter`'s bytes, which bubblewrap inherits.
    """
    root = os.geteuid() == 0
    # If the grader is killed, so is everything it started: `timeout` first, then bubblewrap.
    arguments = ["setpriv", "--pdeathsig", "KILL", "--"]
    arguments += ["timeout", "-k", "2", f"{limits.seconds:g}"]
    if not root:
        arguments += _prlimit(limits, limits.processes + _own_threads())
    arguments += ["bwrap", "--die-with-parent", "--new-session"]
    if filter_file is not None:
        arguments += ["--seccomp", str(filter_file)]
    if root:
        arguments += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
        arguments += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
        for capability in ("SETUID", "SETGID", "SETPCAP"):
            arguments += ["--cap-add", f"CAP_{capability}"]
    else:
        arguments += ["--unshare-all"]
    arguments += [*_file_system(limits), "--clearenv"]
    for name, value in _environment().items():
        arguments += ["--setenv", name, value]
    arguments += ["--"]
    if root:
        # a thread runs one sandbox at a time, and no two threads of a machine have one number
        user = str(FIRST_USER + threading.get_native_id())
        arguments += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        arguments += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        arguments += _prlimit(limits, limits.processes)
    return [*arguments, sys.executable, *RUNNER]


SYSTEM_CALLS = {  # by machine: the audit architecture, and calls that nothing honest needs
    "x86_64": (
        0xC000003E,
        {"memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68, "semget": 64}
        | {"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "unshare": 272}
        | {"mount": 165, "setns": 308, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298}
        | {"keyctl": 250, "add_key": 248, "request_key": 249, "io_uring_setup": 425},
    ),
    "aarch64": (
        0xC00000B7,
        {"memfd_create": 279, "memfd_secret": 447, "shmget": 194, "msgget": 186, "semget": 190}
        | {"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "unshare": 97}
        | {"mount": 40, "setns": 268, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241}
        | {"keyctl": 219, "add_key": 217, "request_key": 218, "io_uring_setup": 425},
    ),
}


def system_call_filter() -> bytes:
    """Return a seccomp program that refuses calls by number; empty on other machines.

    Memory from ``memfd_create`` or System V belongs to no process's resident set, so that no
    watch would see it; the others widen the kernel's surface. Refused calls fail with EPERM.
    """
    if platform.machine() not in SYSTEM_CALLS:
        return b""
    architecture, calls = SYSTEM_CALLS[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    numbers = sorted(calls.values())
    lines = [
        (load, 0, 0, 4),  # the architecture: another one has other numbers
        (equal, 1, 0, architecture),
        (answer, 0, 0, refuse),
        (load, 0, 0, 0),  # the number
        (at_least, len(numbers) + 1, 0, 0x40000000),  # x86's second set of numbers
        *((equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)),
        (answer, 0, 0, allow),
        (answer, 0, 0, refuse),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _open_filter() -> int | None:
    """Return a file that holds the filter, for one bubblewrap to read."""
    program = system_call_filter()
    if not program:
        return None
    reading, writing = os.pipe()
    os.write(writing, program)
    os.close(writing)
    return reading


def _prlimit(limits: Limits, processes: int) -> list[str]:
    return [
        "prlimit",
        f"--as={int(limits.address_gb * 1e9)}",
        f"--cpu={int(2 * limits.seconds) + 1}",
        f"--nproc={processes}",
        f"--fsize={limits.disk_mb * 1_000_000}",
        "--nofile=256",
        "--core=0",
        "--memlock=0",
        "--",
    ]


def _own_threads() -> int:
    """Count this user's threads: the process limit counts them too, outside as inside."""
    user, count = os.getuid(), 0
    for process in psutil.process_iter():
        try:
            count += process.num_threads() if process.uids().real == user else 0
        except psutil.Error:
            continue
    return count


def _file_system(limits: Limits) -> list[str]:
    """Return what is seen inside: the system and this Python, read-only, and empty disks."""
    from course_utils.sources import cache_folder

    package = Path(__file__).resolve().parent.parent
    disk = ["--size", str(limits.disk_mb * 1_000_000), "--perms", "1777", "--tmpfs"]
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            arguments += ["--symlink", f"usr/{name}", f"/{name}"]
        elif Path("/", name).exists():
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    arguments += ["--proc", "/proc", "--dev", "/dev", *disk, "/dev/shm", "--remount-ro", "/dev"]
    arguments += [*disk, "/tmp", *disk, "/home"]
    site_packages = Path(sysconfig.get_path("purelib"))
    shown = [Path("/usr")]
    for folder in (Path(sys.base_prefix), Path(sys.prefix), site_packages):
        if folder.is_dir() and not any(folder.is_relative_to(other) for other in shown):
            arguments += _visible(folder)
            shown.append(folder)
    if (site_packages / package.name).is_dir():  # with the answer book in it
        arguments += ["--tmpfs", str(site_packages / package.name)]
    arguments += ["--dir", "/course", "--chmod", "0755", "/course"]
    with contextlib.suppress(OSError):  # public data, read by another user inside
        for path in cache_folder().glob("*.tar.gz"):
            path.chmod(path.stat().st_mode | 0o444)
    arguments += ["--ro-bind-try", str(cache_folder()), CACHE]
    arguments += ["--ro-bind", str(package), f"/course/{package.name}"]
    if book := _answer_book():  # it is in nothing that is bound, unless a whole system is
        arguments += ["--tmpfs", str(book)] if any(map(book.is_relative_to, shown)) else []
    return [*arguments, "--remount-ro", "/", "--chdir", "/home"]


def _answer_book() -> Path | None:
    """Return where the answer book is, wherever that may be."""
    found = find_spec("answer_book")
    places = found.submodule_search_locations if found else None
    return Path(places[0]).resolve() if places else None


def _visible(folder: Path) -> list[str]:
    """Return a read-only bind of a folder whose parents may be private outside."""
    arguments: list[str] = []
    for parent in list(reversed(folder.parents))[1:]:
        if parent not in (Path("/home"), Path("/tmp")):
            arguments += ["--dir", str(parent), "--chmod", "0755", str(parent)]
    return [*arguments, "--ro-bind", str(folder), str(folder)]


def _environment() -> dict[str, str]:
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
        CACHE_VARIABLE: CACHE,
        IN_SANDBOX: "1",
    }


@dataclass
class Ending:
    """How a session ended: killed by whom, or with which code, and its last words."""

    reason: str = ""  # "time", "memory", "output", "stopped", or empty
    code: int | None = None
    words: str = ""


class Session:
    """One submission's process: send it lines, iterate over the lines it sends.

    Parameters
    ----------
    limits : Limits
    protected : bool
        False runs student code without walls, with this user's rights.
    stop : threading.Event, optional
        Ends the session when it is set.
    """

    def __init__(
        self, limits: Limits, protected: bool = True, stop: threading.Event | None = None
    ) -> None:
        self.limits, self.ending, self.stop = limits, Ending(), stop
        self.unsent = bytearray()
        filter_file = _open_filter() if protected else None
        ours = {"PYTHONPATH", "COURSE_CACHE", "HOME", "PATH"}
        outside = {k: v for k, v in _environment().items() if k not in ours}
        self.process = subprocess.Popen(
            command(limits, filter_file) if protected else [sys.executable, *RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/" if protected else None,
            pass_fds=() if filter_file is None else (filter_file,),
            # bubblewrap's own environment can be read inside, in /proc/1
            env={"PATH": os.environ["PATH"]} if protected else os.environ | outside,
        )
        if filter_file is not None:
            os.close(filter_file)
        self.deadline = time.monotonic() + limits.seconds + 1

    def __enter__(self) -> "Session":
        return self

    def send(self, line: bytes) -> None:
        """Send one line, as fast as the process reads while `lines` is iterated over.

        It may never read, so waiting for it would be waiting for a student's consent.
        """
        self.unsent += line + b"\n"

    def _write(self, pipe: Any, selector: selectors.BaseSelector) -> None:
        """Write what the pipe takes now; a process that no longer listens is noticed elsewhere."""
        try:
            del self.unsent[: os.write(pipe.fileno(), self.unsent[:65536])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.unsent.clear()
        if not self.unsent:
            selector.unregister(pipe)

    def lines(self) -> Iterator[bytes]:
        """Yield lines as they come, until the process ends or exceeds a limit."""
        inlet, out, err = self.process.stdin, self.process.stdout, self.process.stderr
        assert inlet is not None
        assert out is not None
        assert err is not None
        os.set_blocking(inlet.fileno(), False)
        unfinished: list[bytes] = []  # pieces of one line
        words, total, length, last_look = b"", 0, 0, time.monotonic()
        with selectors.DefaultSelector() as selector:
            for pipe in (out, err):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            while _reads(selector) and not self.ending.reason:
                if self.unsent and inlet not in selector.get_map():
                    selector.register(inlet, selectors.EVENT_WRITE)
                for key, _ in selector.select(POLL_S):
                    if key.fileobj is inlet:
                        self._write(inlet, selector)
                        continue
                    data = os.read(key.fd, 1 << 20)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is err:
                        words = (words + data)[-4000:]
                    else:
                        total += len(data)
                        *ends, rest = data.split(b"\n")
                        for end in ends:
                            yield b"".join([*unfinished, end])
                            unfinished, length = [], 0
                        unfinished.append(rest)
                        length += len(rest)
                now = time.monotonic()
                if self.stop is not None and self.stop.is_set():
                    self.ending.reason = "stopped"
                elif total > MOST_OUTPUT or length > MOST_BYTES:
                    self.ending.reason = "output"
                elif now > self.deadline:
                    self.ending.reason = "time"
                elif now - last_look > POLL_S:
                    last_look = now
                    if self._memory() > self.limits.memory_gb * 1e9:
                        self.ending.reason = "memory"
        self.close()
        self.ending.code = self.process.returncode
        self.ending.words = words.decode("utf-8", "replace")
        if self.ending.code in (124, 137) and now > self.deadline - 2:  # `timeout` ended it
            self.ending.reason = self.ending.reason or "time"

    def _memory(self) -> int:
        """Return the resident bytes of the process and all it started."""
        return sum(_resident(pid) for pid in _descendants(self.process.pid))

    def close(self) -> None:
        """End the process and everything inside; harmless when it has ended."""
        if self.process.poll() is None:
            try:  # it may be about to exit by itself, and its exit code tells something
                self.process.wait(0 if self.ending.reason else 0.5)
            except subprocess.TimeoutExpired:
                for pid in reversed(_descendants(self.process.pid)):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def __exit__(self, *_: Any) -> None:
        self.close()


def _reads(selector: selectors.BaseSelector) -> bool:
    """Return True while there is a pipe that something may come from."""
    return any(key.events == selectors.EVENT_READ for key in selector.get_map().values())


def _descendants(pid: int) -> list[int]:
    """Return a process and all it started, parents first (only itself without Linux's /proc)."""
    found = [pid]
    for parent in found:  # grows while we walk it
        for path in glob(f"/proc/{parent}/task/*/children"):
            with contextlib.suppress(OSError):  # it has just ended; `glob` does not mind either
                found += [int(child) for child in Path(path).read_text().split()]
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):  # it has just ended
        return 0


def probe(limits: Limits | None = None) -> None:
    """Try the walls before any student code is run.

    Raises
    ------
    SandboxError
        If something is missing or forbidden; the message says what to do.
    """
    advice = "Grade on Linux with bubblewrap, or pass --no-sandbox to run student code unprotected."
    if sys.platform != "linux":
        raise SandboxError(f"there is no sandbox on {sys.platform}. {advice}")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise SandboxError(
            f"{', '.join(missing)} not found (Debian, Ubuntu: apt install bubblewrap). {advice}"
        )
    from course_utils.grading.wire import dumps, loads

    with Session(limits or Limits(seconds=60)) as session:
        session.send(dumps({"cells": [_PROBE], "cell_seconds": 20.0}))
        for _ in range(2):
            session.send(dumps({"items": []}))
        messages = [loads(line) for line in session.lines()]
    kinds = ["ready", "cells_done", "items_done", "items_done"]
    if [message.get("kind") for message in messages] != kinds:
        told = [m["failure"][1] for m in messages if m.get("kind") == "cell"]
        reason = "; ".join(told) or session.ending.words.strip() or "it said nothing"
        raise SandboxError(f"the sandbox does not hold: {reason[-600:]}. {advice}")


_PROBE = """
import os, socket, sys, threading
problems = []
try:
    import answer_book.lesson_01
    problems.append("the answers are visible")
except ImportError:
    pass
if len(os.listdir("/sys/class/net") if os.path.exists("/sys/class/net") else []) > 1:
    problems.append("there is a network")
for path in ("/usr/probe", "/course/probe", sys.prefix + "/probe"):
    try:
        open(path, "w")
        problems.append(path + " can be written")
    except OSError:
        pass
if os.getuid() == 0:
    problems.append("it runs as root")
if max(int(name) for name in os.listdir("/proc") if name.isdigit()) > 1000:
    problems.append("other processes are visible")
import platform
if platform.machine() in ("x86_64", "aarch64"):
    try:
        os.memfd_create("probe")
        problems.append("system calls are not filtered")
    except OSError:
        pass
thread = threading.Thread(target=open, args=("/home/probe", "w"))
thread.start()
thread.join()
if not os.path.exists("/home/probe"):
    problems.append("the home folder cannot be written")
import numpy
if problems:
    raise SystemExit(", ".join(problems))
"""
