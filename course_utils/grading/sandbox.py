"""The walls around student code: bubblewrap's namespaces, resource limits, another user.

Inside there is no network, no other submission, no answer book, no home, and nothing that can be
written but a small memory disk that vanishes. `Session` starts the runner there, exchanges
lines with it, watches its memory, and ends everything that it started.

Linux with bubblewrap only. Elsewhere, and where the system forbids it (Ubuntu 24.04's AppArmor
does), `probe` says so, and the grader refuses to run unless told to go on unprotected.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
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


def command(limits: Limits, slot: int = 0) -> list[str]:
    """Return the command that runs the runner inside the walls."""
    root = os.geteuid() == 0
    arguments = ["timeout", "-k", "2", f"{limits.seconds:g}"]
    if not root:
        arguments += _prlimit(limits, limits.processes + _own_threads())
    arguments += ["bwrap", "--die-with-parent", "--new-session"]
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
        user = str(FIRST_USER + 16 * (os.getpid() % 4_000_000) + slot)
        arguments += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        arguments += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        arguments += _prlimit(limits, limits.processes)
    return [*arguments, sys.executable, *RUNNER]


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
    from course_utils.datasets import cache_folder

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
    for folder in (Path(sys.base_prefix), Path(sys.prefix), site_packages, cache_folder()):
        if folder.is_dir() and not any(folder.is_relative_to(other) for other in shown):
            arguments += _visible(folder)
            shown.append(folder)
    if (site_packages / package.name).is_dir():  # with the answer book in it
        arguments += ["--tmpfs", str(site_packages / package.name)]
    arguments += ["--dir", "/course", "--chmod", "0755", "/course"]
    arguments += ["--ro-bind", str(package), f"/course/{package.name}"]
    arguments += ["--tmpfs", f"/course/{package.name}/grading/items"]
    return [*arguments, "--remount-ro", "/", "--chdir", "/home"]


def _visible(folder: Path) -> list[str]:
    """Return a read-only bind of a folder whose parents may be private outside."""
    arguments: list[str] = []
    for parent in list(reversed(folder.parents))[1:]:
        if parent not in (Path("/home"), Path("/tmp")):
            arguments += ["--dir", str(parent), "--chmod", "0755", str(parent)]
    return [*arguments, "--ro-bind", str(folder), str(folder)]


def _environment() -> dict[str, str]:
    from course_utils.datasets import CACHE_VARIABLE, cache_folder

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
        CACHE_VARIABLE: str(cache_folder()),
        IN_SANDBOX: "1",
    }


@dataclass
class Ending:
    """How a session ended: killed by whom, or with which code, and its last words."""

    reason: str = ""  # "time", "memory", "output", or empty
    code: int | None = None
    words: str = ""


class Session:
    """One submission's process: send it lines, iterate over the lines it sends.

    Parameters
    ----------
    limits : Limits
    slot : int
        Which of this process's concurrent sandboxes it is, from 0 to 15.
    protected : bool
        False runs student code without walls, with this user's rights.
    """

    def __init__(self, limits: Limits, slot: int = 0, protected: bool = True) -> None:
        self.limits, self.ending = limits, Ending()
        environment = _environment() | ({} if protected else {"PYTHONPATH": ""})
        self.process = subprocess.Popen(
            command(limits, slot) if protected else [sys.executable, *RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/" if protected else None,
            env=environment if protected else os.environ | environment,
        )
        self.deadline = time.monotonic() + limits.seconds + 1

    def __enter__(self) -> "Session":
        return self

    def send(self, line: bytes) -> None:
        """Send one line; a process that no longer listens is noticed when it ends."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()

    def lines(self) -> Iterator[bytes]:
        """Yield lines as they come, until the process ends or exceeds a limit."""
        out, err = self.process.stdout, self.process.stderr
        assert out is not None
        assert err is not None
        unfinished, words, total, last_look = bytearray(), bytearray(), 0, time.monotonic()
        with selectors.DefaultSelector() as selector:
            for pipe in (out, err):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map() and not self.ending.reason:
                for key, _ in selector.select(POLL_S):
                    data = os.read(key.fd, 1 << 20)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is err:
                        words = (words + data)[-4000:]
                    else:
                        total += len(data)
                        unfinished += data
                        *complete, rest = unfinished.split(b"\n")
                        unfinished = bytearray(rest)
                        yield from (bytes(line) for line in complete)
                now = time.monotonic()
                if total > MOST_OUTPUT or len(unfinished) > MOST_BYTES:
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


def _descendants(pid: int) -> list[int]:
    """Return a process and all it started, parents first (only itself without Linux's /proc)."""
    found = [pid]
    for parent in found:  # grows while we walk it
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
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
    if [message.get("kind") for message in messages] != ["cells_done", *2 * ["items_done"]]:
        told = [m["failure"][1] for m in messages if m.get("kind") == "cell"]
        reason = "; ".join(told) or session.ending.words.strip() or "it said nothing"
        raise SandboxError(f"the sandbox does not hold: {reason[-600:]}. {advice}")


_PROBE = """
import os, socket, sys, threading
problems = []
try:
    import course_utils.grading.items.lesson_01
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
thread = threading.Thread(target=open, args=("/home/probe", "w"))
thread.start()
thread.join()
if not os.path.exists("/home/probe"):
    problems.append("the home folder cannot be written")
import numpy
if problems:
    raise SystemExit(", ".join(problems))
"""
