"""Attempts on the walls, made from inside before any student code is run.

`probe` sends this file into the sandbox as a notebook cell. Whoever can do what must not be
possible says so, in words that end up in the error message. Each wall is tried and not looked up,
as far as there is something to try: a setting that is on may still hold nothing.
"""

import ctypes
import importlib
import mmap
import os
import platform
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def network(outside: dict[str, Any]) -> Iterator[str]:
    """Connect to sockets that listen outside: by its port, and by its abstract name."""
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", outside["port"])),
        (socket.AF_UNIX, "\0" + outside["abstract_name"]),
    ):
        try:
            with socket.socket(family) as own:
                own.settimeout(2)
                own.connect(address)
        except OSError:
            continue
        yield "the network of this machine is reached"


def open_door(name: str) -> socket.socket:
    """Be the neighbour: listen on a socket, leave a file."""
    door = socket.socket(socket.AF_UNIX)
    door.bind("\0" + name)
    door.listen()
    Path("/tmp", name).write_text("")
    return door


def neighbours(outside: dict[str, Any]) -> Iterator[str]:
    """Connect to another submission's socket, find its file."""
    name = outside["neighbour"]
    with socket.socket(socket.AF_UNIX) as own:
        try:
            own.connect("\0" + name)
            yield "a neighbour is reached"
        except OSError:
            pass
    if Path("/tmp", name).exists():
        yield "a neighbour's files are visible"


def answers(outside: dict[str, Any]) -> Iterator[str]:
    """Import the answer book."""
    for name in outside["answers"]:
        try:
            importlib.import_module(f"{name}.lesson_01")
        except ImportError:
            continue
        yield "the answers are visible"


def files(outside: dict[str, Any]) -> Iterator[str]:
    """Look into what is hidden: only names that lead to something shown may be there."""
    for path, allowed in outside["hidden"].items():
        try:
            names = os.listdir(path) if os.path.isdir(path) else [Path(path).read_bytes()[:1]]
        except OSError:
            continue
        if [name for name in names if name and name not in allowed]:
            yield f"{path} is visible"


def processes(outside: dict[str, Any]) -> Iterator[str]:
    """Name processes that are not ours: the grader by its number, others by any."""
    pid, started = outside["grader"]
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == started:
            yield "the grader's process is visible"
    except (OSError, IndexError):
        pass
    there = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for pid in range(1, 2000):
        try:
            os.kill(pid, 0)
            there.append(pid)
        except ProcessLookupError:
            pass
        except PermissionError:
            there.append(pid)
    if len(set(there)) > 4:  # bubblewrap's first process and ours
        yield "other processes are visible"


def terminal(outside: dict[str, Any]) -> Iterator[str]:
    """Open the terminal; ask who leads the session: 0 is somebody outside."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        yield "the terminal can be opened"
    except OSError:
        pass
    if os.getsid(0) == 0:
        yield "the terminal's session is the grader's"


def writes(outside: dict[str, Any]) -> Iterator[str]:
    """Make a file on every file system there is, and measure those where that is meant to work."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = {*mounted, "/", "/usr", "/usr/lib", "/course", sys.prefix, *outside["hidden"]}
    disks = {os.stat(disk).st_dev for disk in outside["disks"]}
    for place in sorted(places):
        try:
            if os.stat(place).st_dev in disks:  # the disks themselves, and folders there that
                continue  # lead to a Python in somebody's home
            Path(place, "probe").write_text("")
            yield f"{place} can be written"
        except OSError:
            pass
    for disk in outside["disks"]:
        size = os.statvfs(disk)
        if size.f_blocks * size.f_frsize > outside["disk_bytes"] + (1 << 20):
            yield f"{disk} is not bounded"
    thread = threading.Thread(target=open, args=("/home/probe", "w"))  # threads work, too
    thread.start()
    thread.join()
    if not os.path.exists("/home/probe"):
        yield "the home folder cannot be written"


def rights(outside: dict[str, Any]) -> Iterator[str]:
    """Look for rights and limits; raise limits, become root."""
    if os.getuid() == 0:
        yield "it runs as root"
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if any(int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")):
        yield "it has capabilities"
    if lines["NoNewPrivs"].strip() != "1":
        yield "it may gain rights"
    for name, value in outside["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        if name != "nproc" and not 0 <= resource.getrlimit(kind)[1] <= value:
            yield f"the limit of {name} does not hold"


def calls(outside: dict[str, Any]) -> Iterator[str]:
    """Make each call that must be refused, with arguments that do nothing where it is not."""
    from course_utils.grading.sandbox import syscalls

    if platform.machine() not in syscalls.MACHINES:
        return
    _, refused, looked_at = syscalls.MACHINES[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)

    def goes(number: int, *given: int) -> bool:
        result = libc.syscall(number, *(ctypes.c_long(value) for value in (*given, 0, 0, 0)))
        if result == 0 and number == looked_at["clone"]:
            os._exit(0)  # this is the child
        return result >= 0 or ctypes.get_errno() not in (1, 38)  # EPERM, ENOSYS

    def shares() -> bool:
        try:
            mmap.mmap(-1, 4096).close()  # shared, as Python makes them if not told otherwise
        except OSError:
            return False
        return True

    def leads() -> bool:
        pid = os.fork()
        if pid == 0:  # who leads a group, as the parent may, cannot make a session
            os.setsid()
            os._exit(os.getsid(0) == os.getpid())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0

    tries: dict[str, Callable[[], bool]] = {"mmap": shares, "setsid": leads}
    tries["clone"] = lambda: goes(looked_at["clone"], 0x10000000 | signal.SIGCHLD, 0, 0)
    tries["socket"] = lambda: goes(looked_at["socket"], 40, 1)  # AF_VSOCK
    for name, number in refused.items():
        tries[name] = lambda number=number: goes(number, -1)  # type: ignore[misc]
    for number in (*syscalls.COMMON, syscalls.CLONE3):
        tries[f"call {number}"] = lambda number=number: goes(number, -1)  # type: ignore[misc]
    if open_ones := [name for name, attempt in tries.items() if attempt()]:
        yield f"system calls are not filtered: {', '.join(open_ones)}"


ATTEMPTS = (neighbours, network, answers, files, processes, terminal, writes, rights, calls)


def problems(outside: dict[str, Any]) -> list[str]:
    """Return what is possible and must not be."""
    return [problem for attempt in ATTEMPTS for problem in attempt(outside)]
