"""The filter of system calls: a seccomp program that the kernel runs before each call.

Refused is what would get around another wall. Memory that is in no process's resident set and on
no memory disk (shared anonymous mappings, ``memfd_create``, System V, message queues), so that no
watch would see it. New namespaces and mounts, by the old calls and the new, so that no disk
appears beside the bounded ones. Sockets but those of one machine's own processes: network
namespaces do not hold AF_VSOCK. A session of one's own, or another core, with which a crowd of
processes would get more than one submission's share. And doors that have let people out of
namespaces before, which nothing honest here needs (bpf, io_uring, userfaultfd, keys).

Refused calls fail with EPERM. `clone3`, whose flags a filter cannot read, and calls newer than
this table fail with ENOSYS, as on an older kernel, so that libraries fall back to older ones.
`setsid` does nothing and says that it worked: honest programs make sessions for no harm.
"""

import errno
import platform
import struct

Line = tuple[int, int, int, int]  # code, where to jump if true, if false, operand

NEWEST = 453  # numbers from here on are not known to this table; the same on both machines
COMMON = {  # calls that have one number everywhere
    *(425, 426, 427),  # io_uring_setup, io_uring_enter, io_uring_register
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree, move_mount, fs{open,config,mount,pick},
    *(438, 447),  # ... mount_setattr; pidfd_getfd, memfd_secret
}
CLONE3 = 435
MACHINES = {  # the audit architecture, then numbers by name
    "x86_64": (
        0xC000003E,
        {"memfd_create": 319, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240}
        | {"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312}
        | {"mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272}
        | {"setns": 308, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298}
        | {"keyctl": 250, "add_key": 248, "request_key": 249, "fanotify_init": 300}
        | {"name_to_handle_at": 303, "open_by_handle_at": 304, "personality": 135}
        | {"sched_setaffinity": 203},
        {"clone": 56, "socket": 41, "socketpair": 53, "mmap": 9, "ioctl": 16} | {"setsid": 112},
    ),
    "aarch64": (
        0xC00000B7,
        {"memfd_create": 279, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180}
        | {"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272}
        | {"mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97}
        | {"setns": 268, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241}
        | {"keyctl": 219, "add_key": 217, "request_key": 218, "fanotify_init": 262}
        | {"name_to_handle_at": 264, "open_by_handle_at": 265, "personality": 92}
        | {"sched_setaffinity": 122},
        {"clone": 220, "socket": 198, "socketpair": 199, "mmap": 222, "ioctl": 29}
        | {"setsid": 157},
    ),
}
NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_UNIX = 1
SHARED_ANONYMOUS = 0x21  # MAP_SHARED, MAP_ANONYMOUS
TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: they type into a terminal

LOAD, AND, EQUAL, AT_LEAST, ANY_BIT, ANSWER = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
ALLOW: Line = (ANSWER, 0, 0, 0x7FFF0000)
REFUSE: Line = (ANSWER, 0, 0, 0x00050000 | errno.EPERM)
IGNORE: Line = (ANSWER, 0, 0, 0x00050000)
UNKNOWN: Line = (ANSWER, 0, 0, 0x00050000 | errno.ENOSYS)
NUMBER: Line = (LOAD, 0, 0, 0)
ARCHITECTURE: Line = (LOAD, 0, 0, 4)


def argument(index: int) -> Line:
    """Load the low half of one of the call's arguments."""
    return (LOAD, 0, 0, 16 + 8 * index)


def when(test: int, value: int, *body: Line) -> list[Line]:
    """Run the body if what was loaded passes the test."""
    return [(test, 0, len(body), value), *body]


def system_call_filter() -> bytes:
    """Return the seccomp program for this machine; empty where its numbers are not known."""
    if platform.machine() not in MACHINES:
        return b""
    architecture, refused, looked_at = MACHINES[platform.machine()]
    lines = [ARCHITECTURE, (EQUAL, 1, 0, architecture), REFUSE]  # others have other numbers
    lines += [NUMBER, *when(AT_LEAST, NEWEST, UNKNOWN), *when(EQUAL, CLONE3, UNKNOWN)]
    for number in sorted({*COMMON, *refused.values()}):
        lines += when(EQUAL, number, REFUSE)
    bodies: dict[str, list[Line]] = {
        "setsid": [IGNORE],
        "clone": [argument(0), *when(ANY_BIT, NAMESPACES, REFUSE), ALLOW],
        "socket": [argument(0), *when(EQUAL, AF_UNIX, ALLOW), REFUSE],
        "socketpair": [argument(0), *when(EQUAL, AF_UNIX, ALLOW), REFUSE],
        "mmap": [
            argument(3),
            (AND, 0, 0, SHARED_ANONYMOUS),
            *when(EQUAL, SHARED_ANONYMOUS, REFUSE),
            ALLOW,
        ],
        "ioctl": [argument(1), *(line for t in TERMINAL for line in when(EQUAL, t, REFUSE)), ALLOW],
    }
    for name, body in bodies.items():
        lines += when(EQUAL, looked_at[name], *body)
    return b"".join(struct.pack("=HBBI", *line) for line in [*lines, ALLOW])
