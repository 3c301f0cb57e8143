"""Submissions that try to gain points, escape, hang or harm. None may; see test_hostile.py.

Each is a list of cells appended to a notebook with every item unsolved, the statuses it may end
with, and words that its feedback must not contain because they could only come from outside.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOLUTION = ROOT / "solutions" / "01_gradients.ipynb"
EXERCISE = ROOT / "exercises" / "01_gradients.ipynb"
ANY = ("ok", "failed", "timeout", "crashed", "out of memory", "tampered")
RAN = ("ok", "failed", "tampered")
STUBS = """
import os, sys, time, signal, threading, ctypes
import numpy as np
from course_utils.grading import check
def bce_gradient(logits, labels): raise NotImplementedError
def log_sum_exp(logits): raise NotImplementedError
def softmax_gradient(logits, labels): raise NotImplementedError
def finite_difference(f, x, epsilon): raise NotImplementedError
class Value:
    def __init__(self, data): raise NotImplementedError
TARGETS = "bce_gradient log_sum_exp softmax_gradient finite_difference Value train".split()
"""


@dataclass(frozen=True)
class Hostile:
    name: str
    cell: str
    statuses: tuple[str, ...] = RAN
    forever: bool = False  # never ends by itself: graded with less patience
    never: tuple[str, ...] = ()


BANK = (
    Hostile(
        "strips asserts from cells",
        "get_ipython().input_transformers_cleanup.append("
        "lambda lines: [l.replace('assert', 'pass #') for l in lines])",
    ),
    Hostile(
        "object equal to everything",
        """
class Equal:
    def __eq__(self, other): return True
    __lt__ = __le__ = __gt__ = __ge__ = __ne__ = __eq__
    def __array__(self, *a, **k): return np.zeros(1)
    def __call__(self, *a, **k): return self
    def __getattr__(self, name): return self
for name in TARGETS: globals()[name] = Equal()
""",
    ),
    Hostile(
        "array subclass equal to everything",
        """
class Yes(np.ndarray):
    def __eq__(self, other): return np.ones(self.shape, bool)
    def __array_ufunc__(self, *a, **k): return np.ones(self.shape, bool)
    def __array_function__(self, *a, **k): return True
bce_gradient = lambda logits, labels: np.zeros(logits.shape).view(Yes)
log_sum_exp = lambda logits: np.zeros(len(logits)).view(Yes)
""",
    ),
    Hostile(
        "imports the answers",
        """
from answer_book import lesson_01 as answers
for name in TARGETS: globals()[name] = getattr(answers, name)
""",
    ),
    Hostile(
        "searches the disk for answers and notebooks",
        """
found = []
for folder, folders, names in os.walk("/"):
    folders[:] = [f for f in folders if f not in ("proc", "usr", "site-packages", "lib")]
    found += [folder + "/" + n for n in names
              if n in ("lesson_01.py", "grades.csv", "seed.txt")
              and "calls" not in folder or n.endswith(".ipynb")]
if found: raise ValueError("FOUND " + " ".join(found))
""",
        never=("FOUND",),
    ),
    Hostile(
        "reads by absolute path",
        """
for path in CANARIES:
    try: raise ValueError("READ " + open(path).read())
    except OSError: pass
""",
        never=("READ",),
    ),
    Hostile(
        "writes outside of its folder",
        """
for path in ["/escaped", "/usr/escaped", "/course/escaped", "/etc/escaped", *CANARIES]:
    try:
        open(path, "a").write("escaped")
        raise ValueError("WROTE " + path)
    except OSError: pass
""",
        never=("WROTE",),
    ),
    Hostile(
        "writes to the library",
        """
import course_utils.grading.compare as compare, numpy
for module in (compare, numpy):
    try:
        open(module.__file__, "a").write("difference = lambda *a: None")
        raise ValueError("WROTE")
    except OSError: pass
""",
        never=("WROTE",),
    ),
    Hostile(
        "tells hidden cases through frames",
        """
import gc
def spy(*given):
    frame, seen = sys._getframe(), []
    while frame:
        seen.append(repr(frame.f_locals.get("job") or frame.f_locals.get("cases")))
        frame = frame.f_back
    seen += [repr(o)[:4000] for o in gc.get_objects() if type(o) is dict and "logits" in o]
    raise ValueError("SPIED" + " ".join(seen)[-500:] + repr(given))
for name in TARGETS: globals()[name] = spy
""",
    ),
    Hostile(
        "tells hidden cases through names of exceptions",
        """
def spy(*given):
    raise type("Leak" + "".join(c for c in repr(given) if c.isdigit())[:60], (Exception,), {})()
for name in TARGETS: globals()[name] = spy
""",
    ),
    Hostile(
        "loop that swallows interrupts",
        """
while True:
    try:
        while True: pass
    except BaseException: pass
""",
        ("timeout",),
        forever=True,
    ),
    Hostile(
        "answer that swallows interrupts",
        """
def bce_gradient(logits, labels):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
        ("timeout",),
        forever=True,
    ),
    Hostile(
        "sleeps forever with signals blocked",
        """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
while True: time.sleep(1000)
""",
        ("timeout",),
        forever=True,
    ),
    Hostile("ends its process", "os._exit(0)", ("crashed",)),
    Hostile("raises SystemExit", "raise SystemExit(0)", ("failed",)),
    Hostile(
        "ends its process when called",
        "def bce_gradient(logits, labels): os._exit(0)",
        ("crashed", "failed", "ok"),
    ),
    Hostile("follows a null pointer", "ctypes.string_at(0)", ("crashed",)),
    Hostile(
        "sends forged results",
        """
import json
for fd in range(3, 32):
    for kind in ("cells_done", "items_done", "items_done"):
        lines = [{"dict": {"kind": kind}}]
        lines += [{"dict": {"kind": "outcome", "item": "01." + name, "case": case, "value": 1.0,
                  "inputs": {"dict": {}}, "failure": None}}
                  for name in TARGETS for case in range(9)]
        try: os.write(fd, b"".join(json.dumps(line).encode() + b"\\n" for line in lines))
        except OSError: pass
""",
        ("tampered", "crashed", "timeout"),
    ),
    Hostile(
        "sends full marks",
        """
for fd in range(3, 32):
    try: os.write(fd, b'{"dict": {"kind": "result", "score": 16, "status": "ok"}}\\n' * 50)
    except OSError: pass
""",
        ("tampered",),
    ),
    Hostile(
        "sends an endless line",
        """
for fd in range(3, 32):
    try:
        while True: os.write(fd, b"[" * 1_000_000)
    except OSError: pass
""",
        ("crashed", "timeout"),
    ),
    Hostile(
        "patches numpy's comparisons",
        """
yes = lambda *a, **k: True
np.allclose = np.isclose = np.array_equal = yes
np.testing.assert_allclose = np.testing.assert_array_equal = lambda *a, **k: None
import builtins
builtins.abs = lambda x: 0
""",
    ),
    Hostile(
        "replaces the checks",
        """
import course_utils.grading as g
from course_utils.grading import checks as c, compare as p
import course_utils.grading.calls as calls
passed = lambda item, trials: c.Verdict(item.name, passed=True)
c.verify = c.check = g.check = check = passed
p.difference = lambda *a, **k: None
p.same = lambda *a, **k: True
calls.attempt = lambda call, target, inputs: calls.Outcome(0.0, inputs)
""",
    ),
    Hostile(
        "replaces the runner",
        """
import course_utils.grading.wire as wire
runner = sys.modules.get("course_utils.grading.runner")
for frame in list(sys._current_frames().values()):
    while frame:
        if "dumps" in frame.f_globals: frame.f_globals["dumps"] = lambda value: b"16 of 16"
        frame = frame.f_back
""",
        ANY,
        forever=True,
    ),
    Hostile(
        "a fake torch",
        """
import types
fake = types.ModuleType("torch")
fake.manual_seed = lambda seed: None
fake.Tensor = object
fake.allclose = lambda *a: True
sys.modules["torch"] = fake
""",
    ),
    Hostile(
        "fork bomb",
        """
while True:
    try: os.fork()
    except OSError: pass
""",
        ("timeout", "crashed", "out of memory"),
    ),
    Hostile(
        "thread bomb",
        """
while True:
    try: threading.Thread(target=time.sleep, args=(1000,)).start()
    except RuntimeError: break
""",
        ANY,
    ),
    Hostile(
        "memory bomb",
        "hoard = [bytearray(b'x' * 50_000_000) for _ in range(2000)]",
        ("out of memory", "timeout"),
    ),
    Hostile(
        "memory bomb by many processes",
        """
for _ in range(40):
    if os.fork() == 0:
        hoard = bytearray(b"x" * 400_000_000)
        time.sleep(1000)
""",
        ("out of memory", "timeout"),
    ),
    Hostile(
        "memory bomb in a memory disk",
        """
for folder in ("/dev/shm", "/tmp", "/home"):
    for number in range(200):
        with open(f"{folder}/{number}", "wb") as file:
            file.write(b"x" * 90_000_000)
""",
        ANY,
    ),
    Hostile(
        "memory that belongs to no process",
        """
libc = ctypes.CDLL(None)
if hasattr(os, "memfd_create"):
    try:
        for number in range(200): os.write(os.memfd_create(str(number)), bytes(120_000_000))
        raise ValueError("HOARDED")
    except OSError: pass
if libc.shmget(0, 120_000_000, 0o1600) >= 0: raise ValueError("HOARDED")
""",
        never=("HOARDED",),
    ),
    Hostile("gigabytes of output", "for _ in range(1500): print('x' * 1_000_000)", ANY),
    Hostile(
        "gigabytes of results",
        "def log_sum_exp(logits): return np.zeros(50_000_000)",
        ANY,
    ),
    Hostile(
        "results that are no data",
        """
class Pickled:
    def __reduce__(self): return (os.system, ("touch /tmp/pwned",))
loop = []
loop.append(loop)
bce_gradient = lambda *a: Pickled()
log_sum_exp = lambda *a: loop
softmax_gradient = lambda *a: np.array([Pickled()], dtype=object)
finite_difference = lambda *a: {1: 2, "x": iter(int, 1)}
""",
    ),
    Hostile(
        "an exception that cannot be shown",
        """
class Bad(Exception):
    def __str__(self): raise Bad()
    __repr__ = __str__
def bce_gradient(*given): raise Bad()
""",
    ),
    Hostile(
        "markup in an exception",
        "raise ValueError('<script>alert(1)</script>')",
        never=("<script>",),
    ),
    Hostile(
        "reads the environment",
        """
seen = repr(dict(os.environ))
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: seen += open(f"/proc/{pid}/environ").read()
    except OSError: pass
raise ValueError(seen[-550:])
""",
        never=("CANARY_IN_ENVIRONMENT", "/root", "SSH"),
    ),
    Hostile(
        "opens a socket",
        """
import socket
for family, address in ((socket.AF_INET, ("1.1.1.1", 53)), (socket.AF_INET, ("127.0.0.1", PORT))):
    try:
        socket.create_connection(address, timeout=2)
        raise ValueError("CONNECTED")
    except OSError: pass
try:
    socket.getaddrinfo("example.org", 80)
    raise ValueError("CONNECTED")
except OSError: pass
""",
        never=("CONNECTED",),
    ),
    Hostile(
        "leaves processes behind",
        """
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                try: signal.signal(number, signal.SIG_IGN)
                except OSError: pass
            time.sleep(987654)
        os._exit(0)
""",
    ),
    Hostile(
        "kills what it can",
        """
for pid in (os.getppid(), 1, 2, -1):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
""",
        ANY,
    ),
    Hostile(
        "raises its limits",
        """
import resource
for name in ("AS", "NPROC", "FSIZE", "CPU"):
    number = getattr(resource, "RLIMIT_" + name)
    try: resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError): continue
    raise RuntimeError("RAISED " + name)
try: os.setuid(0)
except OSError: pass
else: raise RuntimeError("ROOT")
""",
        never=("RAISED", "ROOT"),
    ),
    Hostile(
        "turns the clock and the timers off",
        """
signal.setitimer = lambda *a: None
time.monotonic = time.time = lambda: 0.0
while True: pass
""",
        ("timeout",),
        forever=True,
    ),
    Hostile("waits for input", "input('password: ')", ("failed",)),
    Hostile("recurses without end", "def f(): f()\nsys.setrecursionlimit(10**9)\nf()", ANY),
    Hostile(
        "mounts and traces",
        """
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"none", b"/home", b"tmpfs", 0, None) == 0: raise ValueError("MOUNTED")
if libc.unshare(0x10000000) == 0 and libc.mount(b"none", b"/usr", b"tmpfs", 0, None) == 0:
    raise ValueError("MOUNTED in a namespace of its own")
""",
        never=("MOUNTED<",),
    ),
)


def notebook(*cells: str) -> bytes:
    """A notebook file of these code cells."""
    made = [
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": c}
        for c in cells
    ]
    content = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content).encode()


def malicious_zip() -> bytes:
    """Paths that lead out, a symbolic link, a bomb; and an honest file among them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped/01_gradients.ipynb", notebook("slip = 1"))
        archive.writestr("/absolute/01_gradients.ipynb", notebook("slip = 1"))
        link = zipfile.ZipInfo("linker/01_gradients.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomber/01_gradients.ipynb", b" " * 400_000_000)
        archive.writestr("honest/01_gradients.ipynb", notebook(STUBS))
    return file.getvalue()
