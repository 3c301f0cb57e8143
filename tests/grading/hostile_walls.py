"""Attacks on the walls themselves: memory nobody counts, new mounts, neighbours, the way out.

Each is a cell as in `tests.grading.hostile`. What it raises when it gets through is in `never`.
`CANARIES`, `PORT`, `ABSTRACT` and `MARKERS` are given: see test_hostile.py.
"""

from __future__ import annotations

from tests.grading.hostile import ANY, Hostile

LIBC = "import ctypes, platform\nlibc = ctypes.CDLL(None, use_errno=True)\n"
X86 = "platform.machine() == 'x86_64'"

WALLS = (
    Hostile(
        "memory in shared mappings",
        """
import mmap
hoard = []
try:
    for _ in range(40):
        piece = mmap.mmap(-1, 100_000_000)
        piece.write(b"x" * 100_000_000)
        piece.madvise(mmap.MADV_DONTNEED)  # no longer resident, and not given back
        hoard.append(piece)
    raise ValueError("HOARDED")
except OSError: pass
""",
        never=("HOARDED",),
    ),
    Hostile(
        "memory behind the device of zeros",
        """
import mmap
try: zeros = open("/dev/zero", "r+b")
except OSError: pass
else:
    mmap.mmap(zeros.fileno(), 100_000_000).write(b"x" * 100_000_000)
    raise ValueError("HOARDED")
""",
        never=("HOARDED",),
    ),
    Hostile(
        "message queues",
        LIBC
        + """
queue = libc.syscall(240 if platform.machine() == "x86_64" else 180, b"hoard", 0o102, 0o600, None)
if queue >= 0: raise ValueError("HOARDED")
""",
        never=("HOARDED",),
    ),
    Hostile(
        "a namespace by clone",
        LIBC
        + """
CLONE = 56 if platform.machine() == "x86_64" else 220
for flags in (0x10000000, 0x10020000, 0x40000000, 0x20000000, 0x08000000):
    pid = libc.syscall(CLONE, ctypes.c_long(flags | 17), None, None, None, None)
    if pid == 0: os._exit(0)
    if pid > 0: raise ValueError("MADE")
""",
        never=("MADE",),
    ),
    Hostile(
        "a namespace by clone3",
        LIBC
        + """
arguments = (ctypes.c_uint64 * 11)(0x10020000, 0, 0, 0, 17)
pid = libc.syscall(435, arguments, ctypes.c_long(88))
if pid == 0: os._exit(0)
if pid > 0: raise ValueError("MADE")
""",
        never=("MADE",),
    ),
    Hostile(
        "a mount by the newer calls",
        LIBC
        + """
names = ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick")
for number in (*range(428, 434), 442):
    ctypes.set_errno(0)
    result = libc.syscall(number, -1, b"tmpfs" if number == 430 else None, None, None, None)
    if result >= 0 or ctypes.get_errno() not in (1, 38): raise ValueError(f"CALLED {number}")
if libc.syscall(430, b"tmpfs", 0) >= 0: raise ValueError("CALLED fsopen")
""",
        never=("CALLED",),
    ),
    Hostile(
        "fills every mount",
        """
places = [line.split()[1] for line in open("/proc/self/mounts")]
for place in {*places, "/", "/course", "/course/course_utils/grading", "/usr/lib"}:
    if place in ("/tmp", "/home", "/dev/shm"): continue
    try:
        with open(place + "/hoard", "wb") as file: file.write(b"x" * 1000)
        raise ValueError("WROTE " + place)
    except OSError: pass
""",
        never=("WROTE",),
    ),
    Hostile(
        "sockets of other kinds",
        """
import socket
try:
    with socket.socket(socket.AF_UNIX) as own:
        own.connect("\\0" + ABSTRACT)
    raise ValueError("CONNECTED")
except OSError: pass
for family in range(2, 46):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try: socket.socket(family, kind).close()
        except OSError: continue
        raise ValueError(f"CONNECTED by family {family}")
""",
        never=("CONNECTED",),
    ),
    Hostile(
        "types into the terminal",
        """
import fcntl
files = [*range(10)]
for path in ("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/ptmx"):
    try: files.append(os.open(path, os.O_RDWR))
    except OSError: continue
    raise ValueError("TYPED into " + path)
for file in files:
    try: fcntl.ioctl(file, 0x5412, b"x")
    except OSError: continue
    raise ValueError("TYPED")
if os.getsid(0) == 0: raise ValueError("TYPED: the session is the grader's")
""",
        never=("TYPED",),
    ),
    Hostile(
        "looks for other processes",
        """
there = set()
for pid in range(1, 5000):
    try: os.kill(pid, 0)
    except ProcessLookupError: continue
    except PermissionError: pass
    there.add(pid)
there |= {int(name) for name in os.listdir("/proc") if name.isdigit()}
if len(there) > 4: raise ValueError(f"SEES {there}")
""",
        never=("SEES",),
    ),
    Hostile(
        "writes into the first process",
        """
for pid in (1, os.getppid()):
    for name in ("mem", "environ", "maps", "fd/0", "root/etc/passwd", "oom_score_adj"):
        if pid == os.getpid(): continue
        try: file = open(f"/proc/{pid}/{name}", "r+b" if name == "mem" else "rb")
        except OSError: continue
        if name == "mem": raise ValueError("REACHED")
""",
        never=("REACHED",),
    ),
    Hostile(
        "another core, another session",
        """
cores = os.sched_getaffinity(0)
try: os.sched_setaffinity(0, range(os.cpu_count()))
except OSError: pass
if os.sched_getaffinity(0) != cores: raise ValueError("MOVED")
before = os.getsid(0)
if (pid := os.fork()) == 0:
    os.setsid()
    os._exit(os.getsid(0) != before)
if os.waitpid(pid, 0)[1]: raise ValueError("MOVED into a session")
""",
        never=("MOVED",),
    ),
    Hostile(
        "reads what others left in memory",
        """
import re
found = set()
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        if not line.split()[1].startswith("rw"): continue
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        try:
            memory.seek(start)
            found |= set(re.findall(rb"MARK" rb"ER-(\\d{6})", memory.read(end - start)))
        except (OSError, ValueError, OverflowError): pass
if len(found) > 1: raise ValueError(f"READ {sorted(found)}")
if not found: raise RuntimeError("not even its own")
""",
        never=("READ", "not even"),
    ),
    Hostile(
        "looks for what others left on disks",
        """
import socket, stat
left = [name for place in ("/tmp", "/home", "/dev/shm") for name in os.listdir(place)]
if left: raise ValueError(f"LEFT {left}")
for number in range(256):
    try: kind = os.fstat(number).st_mode
    except OSError: continue
    if stat.S_ISSOCK(kind): raise ValueError("LEFT a socket")
for place in ("/tmp", "/home", "/dev/shm"):
    open(place + "/left by a neighbour", "w").close()
""",
        never=("LEFT",),
    ),
    Hostile(
        "spoils the libraries in memory",
        """
import torch
torch.tensor = torch.manual_seed = np.array = np.exp = lambda *a, **k: 0.0
torch.Tensor.__sub__ = torch.Tensor.__mul__ = lambda *a: a[0]
address = id(np.float64)
ctypes.memset(id(1000), 0, 8)
""",
        ANY,
    ),
)
