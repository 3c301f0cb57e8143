"""Walls around this process, made by itself: the system calls that Python 3.11 has no names for.

Used in a fork of the nursery, by a process that then runs student code and can take none of it
back. Every number below is Linux's, the same on all machines it runs on. Each call either does
what it says or raises OSError: a fork whose walls do not stand never gets to the student's code.
"""

import ctypes
import os
import re
import resource
import signal
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

# Kinds of namespaces, for `unshare`: what is made anew is neither seen nor reached from the others.
NEW_MOUNTS = 0x00020000  # which file systems are where
NEW_NAME = 0x04000000  # the machine's name
NEW_IPC = 0x08000000  # System V's and POSIX's shared memory and queues
NEW_USER = 0x10000000  # user numbers, and what rights in the other namespaces mean
NEW_PROCESSES = 0x20000000  # process numbers; of the processes forked from now on
NEW_NETWORK = 0x40000000  # devices, addresses, ports, abstract Unix sockets

# What a mounted file system does not allow, and how far changes to mounts are told.
NO_SETUID, NO_DEVICES, NO_EXECUTION = 0x2, 0x4, 0x8
RECURSIVE, PRIVATE = 0x4000, 0x40000
SAME = 0x1000  # no new file system: one that is there, at a second place

# Operations of `prctl`: on the process itself.
DIE_WITH_PARENT, DUMPABLE, FILTER, DROP_FROM_BOUNDS, NO_NEW_RIGHTS = 1, 4, 22, 24, 38
FILTER_BY_PROGRAM = 2
CAPABILITIES_3 = 0x20080522  # the third version of the structure that `capset` reads


def _checked(result: int, what: str) -> None:
    """Raise what the kernel said if a call failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(operation: int, value: int, pointer: object = None) -> None:
    # four arguments follow, each as wide as a pointer; unused ones must be 0
    _checked(
        LIBC.prctl(operation, ctypes.c_ulong(value), pointer, None, None), f"prctl {operation}"
    )


def new_namespaces(with_users: bool) -> None:
    """Leave all namespaces of the nursery; `with_users` is how one who is not root may do so.

    The process itself stays in the old process namespace; its children are in the new one.
    """
    kinds = NEW_MOUNTS | NEW_NAME | NEW_IPC | NEW_PROCESSES | NEW_NETWORK
    user, group = os.getuid(), os.getgid()
    _checked(LIBC.unshare(kinds | (NEW_USER if with_users else 0)), "unshare")
    if with_users:  # inside, we have the number that we have outside, and there is nobody else
        Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition for the next line
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    # From now on no mount of ours is seen outside, nor one from outside here.
    mount("none", "/", None, RECURSIVE | PRIVATE)


def mount(source: str, place: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system over a folder."""
    words = [text if text is None else os.fsencode(text) for text in (source, place, kind)]
    _checked(LIBC.mount(*words, ctypes.c_ulong(flags), options.encode()), f"mount {place}")


def new_disks(places: tuple[str, ...], size: int, files: int) -> None:
    """Put an empty memory disk, bounded in bytes and in files, over each of some folders.

    What is mounted inside of such a folder (a Python in somebody's home) is mounted there again.
    """
    options = f"size={size},nr_inodes={files},mode=1777"
    for place in places:
        inside = [(path, os.open(path, os.O_PATH)) for path in _mounts_inside(place)]
        mount("tmpfs", place, "tmpfs", NO_SETUID | NO_DEVICES, options)
        for path, file in inside:  # hidden by the disk now, but held open
            held = Path(f"/proc/self/fd/{file}")
            if held.is_dir():
                path.mkdir(0o755, parents=True)
            else:
                path.parent.mkdir(0o755, parents=True, exist_ok=True)
                path.touch(0o644)
            mount(str(held), str(path), None, SAME | RECURSIVE)
            os.close(file)


def _mounts_inside(place: str) -> list[Path]:
    """Return the mount points inside of a folder, but for those that are inside of another."""
    found: list[Path] = []
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        escaped = line.split()[1]  # a space is \040
        path = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), escaped))
        if Path(place) in path.parents and not {path, *path.parents} & set(found):
            found.append(path)
    return found


def new_processes_shown() -> None:
    """Show this process namespace in /proc, in place of the nursery's; call it inside the new."""
    mount("proc", "/proc", "proc", NO_SETUID | NO_DEVICES | NO_EXECUTION)


def limit_resources(limits: dict[str, int]) -> None:
    """Set limits that neither this process nor its children can raise again."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))


def become(user: int | None) -> None:
    """Become another user (None: stay who we are), and give up every right for good."""
    for capability in range(64):  # what a program run from here could be given
        if LIBC.prctl(DROP_FROM_BOUNDS, ctypes.c_ulong(capability), None, None, None) != 0:
            break  # past the last one that this kernel knows
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    # Version, and 0 for this process; then effective, permitted, inheritable, twice 32 bits: none.
    _checked(LIBC.capset((ctypes.c_uint32 * 2)(CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()), "caps")
    _prctl(NO_NEW_RIGHTS, 1)  # programs marked as another user's run as ours


def filter_system_calls(program: bytes) -> None:
    """Have the kernel run a seccomp program before each system call, for good."""
    if not program:
        return
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):  # the number of instructions, of eight bytes each, and where
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    whole = Program(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    _prctl(FILTER, FILTER_BY_PROGRAM, ctypes.byref(whole))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; changing the user undoes it."""
    _prctl(DIE_WITH_PARENT, signal.SIGKILL)


def dumpable(yes: bool) -> None:
    """Say whether processes of the same user may read and write this one's memory."""
    _prctl(DUMPABLE, int(yes))
