"""The walls one by one: limits that bind a whole tree, places that stay hidden, holes noticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from course_utils.grading import sandbox
from course_utils.grading.grade import grade_all
from course_utils.grading.results import Settings
from course_utils.grading.sandbox import Limits, births, bubblewrap, cgroups, filesystem, syscalls
from course_utils.grading.sandbox.probe import probe
from course_utils.grading.sandbox.watch import Watch
from course_utils.grading.submissions import Submission
from course_utils.grading.wire import dumps, loads
from tests.grading.hostile import BANK, RAN, ROOT, SOLUTION, STUBS, notebook
from tests.grading.users import adopting_orphans, as_ordinary_user

WAYS = ("nursery", "bubblewrap")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set this up, or lose it")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setenv("COURSE_SANDBOX", request.param)
    return request.param


@pytest.fixture
def own_nurseries(monkeypatch):
    """Nurseries for one test, so that what it refuses is not refused to the next."""
    own = births.Nurseries()
    monkeypatch.setattr(births, "NURSERIES", own)
    yield
    for nursery in own.running.values():
        nursery.close()


def run(cell: str, limits: Limits, **given) -> tuple[sandbox.Session, list[str]]:
    """Run one cell; return the session and the words of its exceptions."""
    with sandbox.Session(limits, **given) as session:
        session.send(dumps({"cells": [cell], "cell_seconds": limits.seconds}))
        for _ in range(2):
            session.send(dumps({"items": []}))
        messages = [loads(line) for line in session.lines()]
    return session, [m["failure"][1] for m in messages if m["kind"] == "cell"]


# -- nothing goes on -------------------------------------------------------------------------------

SLEEPER = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))\ntime.sleep(1000)"
GRADER = """
import sys
from course_utils.grading.sandbox import Limits, Session
from course_utils.grading.wire import dumps
with Session(Limits(seconds=float(sys.argv[1]))) as session:
    session.send(dumps({"cells": [sys.argv[2]], "cell_seconds": 60.0}))
    for line in session.lines():
        print(len(line), flush=True)
"""


@pytest.mark.parametrize("grader", ["waits", "is killed"])
def test_a_sleeper_that_no_signal_wakes_does_not_outlive_its_grader(way, grader):
    """Seen: as root, in bubblewrap, it slept on; the kernel did not pass its end on."""
    seconds = "3" if grader == "waits" else "300"
    command = [sys.executable, "-c", GRADER, seconds, f"import signal, time\n{SLEEPER}"]
    others = set(psutil.Process().children(recursive=True))
    with adopting_orphans():
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as grading:
            grading.stdout.readline()  # the runner is ready
            if grader == "is killed":
                time.sleep(1)  # it is asleep by now; if not, it will not be missed either
                grading.kill()
        left = set(psutil.Process().children(recursive=True)) - others
        _, alive = psutil.wait_procs(left, timeout=10)
    for process in alive:
        process.kill()
    assert alive == []


# -- limits bind the whole tree --------------------------------------------------------------------

HOARDS = {
    "files": """
import os
number = 0
try:
    for place in ("/dev/shm", "/tmp", "/home"):
        for number in range(100_000): os.close(os.open(f"{place}/{number}", os.O_CREAT))
except OSError: pass
if number > 5000: raise ValueError("HOARDED")
""",
    "disks": """
for place in ("/dev/shm", "/tmp", "/home"):
    try: open(place + "/x", "wb").write(b"x" * 127_000_000)
    except OSError: pass
import time; time.sleep(5)
raise ValueError("HOARDED")
""",
    "sockets": """
import os, socket, time
for _ in range(30):
    if os.fork() == 0: break
kept = []
try:
    for _ in range(110):
        pair = socket.socketpair()
        kept.append(pair)
        for end in pair:
            end.setblocking(False)
            try:
                while True: end.send(bytes(65536))
            except BlockingIOError: pass
except OSError: pass
time.sleep(5)
raise ValueError("HOARDED")
""",
    "page tables": """
import mmap, os, time
for _ in range(40):
    if os.fork() == 0: break
area = mmap.mmap(-1, 6_000_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for place in range(0, len(area), 1 << 21): area[place]
time.sleep(5)
raise ValueError("HOARDED")
""",
}


@pytest.mark.parametrize("hoard", HOARDS)
def test_what_is_in_no_resident_set_counts(way, hoard):
    session, words = run(HOARDS[hoard], Limits(seconds=60, memory_gb=0.34))
    assert session.ending.reason in ("memory", "")
    assert session.ending.reason == "memory" or hoard == "files"
    assert "HOARDED" not in words


SPINNERS = """
import os, time
for _ in range(14):
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 8
        while time.monotonic() < end: pass
        os._exit(0)
time.sleep(8)
"""
WORK = """
import time
start, used = time.monotonic(), time.process_time()
while time.monotonic() < start + 4: pass
raise ValueError(str(time.process_time() - used))
"""


def test_a_crowd_of_processes_gets_no_more_than_one(way):
    """14 spinning processes compute as one would, and hardly slow their neighbour down.

    What else this machine is doing slows it down too, so it is compared with itself: alone before,
    beside the crowd then. Without the walls the crowd has every core, and leaves it an eighth.
    """
    limits, session = Limits(seconds=60), None
    _, [alone] = run(WORK, limits)

    def spin():
        nonlocal session
        session = sandbox.Session(limits)
        with session:
            session.send(dumps({"cells": [SPINNERS], "cell_seconds": 30.0}))
            for _ in session.lines():
                pass

    crowd = threading.Thread(target=spin)
    crowd.start()
    deadline = time.monotonic() + 20
    while session is None or session.watch.seconds() < 0.5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    start, since = session.watch.seconds(), time.monotonic()
    _, [words] = run(WORK, limits)
    crowds, elapsed = session.watch.seconds() - start, time.monotonic() - since
    session.stop = threading.Event()
    session.stop.set()
    crowd.join()
    assert crowds < 1.2 * elapsed
    assert float(words) > float(alone) / 4, (words, alone, crowds)


def test_computing_time_is_summed_over_the_tree(monkeypatch):
    """Six processes, none of which computes for as long as may be, are ended when they all have."""
    monkeypatch.delenv("COURSE_SANDBOX", raising=False)
    cell = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        while time.process_time() < 3: pass
        time.sleep(100)
time.sleep(100)
"""
    with sandbox.Session(Limits(seconds=5)) as session:
        session.deadline += 100
        session.send(dumps({"cells": [cell], "cell_seconds": 90.0}))
        assert len(list(session.lines())) == 1
    assert session.ending.reason == "time"
    assert time.monotonic() < session.deadline - 20


def test_computing_time_of_the_ended_counts():
    code = """
import os, sys, time
def spin(seconds):
    while time.process_time() < seconds: pass
if os.fork() == 0: spin(0.3); os._exit(0)
os.wait()
if os.fork() == 0:
    if os.fork() == 0: time.sleep(60)
    spin(0.3); os._exit(0)
os.wait(); print("done", flush=True); time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    watch = Watch(process.pid, 0)
    assert process.stdout.readline() == b"done\n"
    assert 0.55 < watch.seconds() < 3
    sandbox.start.Started.kill(watch)
    process.wait()


@as_root
def test_a_control_group_counts_what_nobody_waits_for(way):
    """Children that end at once, and whose parent does not care, are missed by looking at times."""
    if not cgroups.places():
        pytest.skip("no control groups of version 2 here")
    cell = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(40):
    if os.fork() == 0:
        start = time.process_time()
        while time.process_time() < start + 0.05: pass
        os._exit(0)
    time.sleep(0.01)
time.sleep(2)
"""
    with sandbox.Session(Limits(seconds=60)) as session:
        folder = session.group.folder
        session.send(dumps({"cells": [cell], "cell_seconds": 50.0}))
        for line in session.lines():
            if loads(line)["kind"] == "cells_done":
                assert len((folder / "cgroup.procs").read_text().split()) >= 2
                assert 2 < session.group.seconds() < 10
                break
    assert not folder.exists()


def test_limits_of_a_control_group_are_set_where_they_can_be(tmp_path):
    for name in ("memory.max", "pids.max"):
        (tmp_path / name).write_text("max\n")
    (tmp_path / "memory.events").write_text("low 0\noom_kill 2\n")
    group = cgroups.Group(tmp_path)
    group.limit(Limits(memory_gb=2, processes=99))
    assert (tmp_path / "memory.max").read_text() == "2000000000"
    assert (tmp_path / "pids.max").read_text() == "99"
    assert not (tmp_path / "cpu.max").exists()
    assert group.out_of_memory()
    assert group.seconds() == 0


# -- places that stay hidden -----------------------------------------------------------------------

LOOKING = """
import os, numpy
open(numpy.__file__).close()  # can still be read, not only used
found = []
for folder, folders, names in os.walk("/"):
    if folder == "/": folders.remove("proc")
    found += [folder + "/" + name for name in names if name.endswith(("lesson_01.py", ".secret"))]
    found += [folder + "/" + name for name in names if name.startswith("01_gradients")]
found = [path for path in found if os.path.isfile(path) and "/calls/" not in path]
raise ValueError("FOUND " + " ".join(found))
"""
LOOK = """
import sys
from course_utils.grading import sandbox
from course_utils.grading.sandbox import filesystem
from tests.grading.test_walls import LOOKING, run
print(filesystem.PACKAGE)
print(repr(sandbox.probe(hidden=sys.argv[1:])))
print(run(LOOKING, sandbox.Limits(seconds=60), hidden=sys.argv[1:])[1])
"""


def look_from(
    place: Path, script: str, way: str, *hidden: str, python=sys.executable, home=None
) -> str:
    """Look around from inside, graded from another checkout; `script` makes its place."""
    shell = f'set -e\n{script}\nexec "$@"'
    command = [python, "-c", LOOK, *hidden]
    if home is not None:
        command = as_ordinary_user(command, home)
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", shell, "bash", *command],
        env=os.environ | {"PYTHONPATH": str(place), "COURSE_SANDBOX": way},
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[0] == str(place / "course_utils")
    assert done.stdout.splitlines()[1] == "''"
    return done.stdout.splitlines()[2]


@as_root
@pytest.mark.parametrize("below", ["/usr/share/doc", "/usr/lib/python3"])
def test_a_checkout_below_usr_is_hidden(way, below):
    if not Path(below).is_dir():
        pytest.skip(f"there is no {below} to mount over")
    place = Path(below, "course")
    script = f"mount -t tmpfs none {below}; mkdir {below}/in {place}; mount --bind {ROOT} {place}\n"
    script += f"echo > {below}/in/neighbour.secret; echo > {below}/out.secret"
    found = look_from(place, script, way, f"{below}/in", f"{below}/out.secret")
    assert found == "['FOUND ']"


@as_root
def test_a_virtual_environment_as_the_projects_folder_is_hidden(way, tmp_path):
    place = tmp_path / "project"
    lib = Path(sys.prefix, "lib")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    script = f"mount --bind {lib} {place}/lib; mkdir {place}/in; echo > {place}/in/neighbour.secret"
    for path in ROOT.iterdir():
        if path.name not in ("bin", "lib", "lib64", "include", ".venv", ".git"):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, place / path.name)
    found = look_from(place, script, way, f"{place}/in", python=f"{place}/bin/python")
    assert found == "['FOUND ']"


@as_root
@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_a_python_in_somebodys_home_works(way, user):
    """Inside, /home is a memory disk: what is shown of such a Python lies on top of it."""
    home = Path(tempfile.mkdtemp(prefix="home"))
    home.chmod(0o755)
    prefix, place = Path("/home/a teacher/venv"), Path("/home/a teacher/course")
    script = f"mount -t tmpfs -o mode=755 none /home; mkdir -p '{prefix}' '{place}'\n"
    script += f"mount --bind '{sys.prefix}' '{prefix}'; mount --bind {ROOT} '{place}'"
    theirs = home if user == "ordinary" else None
    found = look_from(
        place, script, way, "/home/a teacher/in", python=str(prefix / "bin/python"), home=theirs
    )
    shutil.rmtree(home)
    assert found == "['FOUND ']"


def test_what_lies_inside_of_something_hidden_is_put_back():
    shown = {Path(p): Path(p) for p in ("/usr/lib", "/usr/lib/project/venv/lib")}
    covers = filesystem.masks([Path("/usr/lib/project")], shown)
    assert covers == {}  # it does not exist
    assert filesystem.masks([Path("/usr/share")], {Path("/usr"): Path("/usr")}) == {
        Path("/usr/share"): Path("/usr/share")
    }
    with pytest.raises(sandbox.SandboxError, match="use another place"):
        filesystem.masks([Path("/usr/lib")], {Path("/usr/lib"): Path("/usr/lib")})


# -- a wall that is missing is noticed -------------------------------------------------------------


def without(*removed: str):
    """Return `bubblewrap.command` with some arguments taken out of what it returns."""
    whole = bubblewrap.command

    def command(*given):
        arguments = whole(*given)
        if "--unshare-all" in arguments:
            place = arguments.index("--unshare-all")
            names = ("user", "ipc", "pid", "net", "uts", "cgroup-try")
            arguments[place : place + 1] = [f"--unshare-{name}" for name in names]
        for place in range(len(arguments) - len(removed) + 1):
            if tuple(arguments[place : place + len(removed)]) == removed:
                return arguments[:place] + arguments[place + len(removed) :]
        raise AssertionError(f"{removed} is not there: {arguments}")

    return command


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        (("--unshare-net",), "network of this machine is reached"),
        (("--unshare-pid", "--as-pid-1"), "other processes are visible"),
        (("--remount-ro", "/"), "/ can be written"),
        (("--remount-ro", "/dev"), "/dev can be written"),
        (("--new-session",), "terminal's session is the grader's"),
    ],
    ids=lambda given: given[-1].split()[0] if isinstance(given, tuple) else "",
)
def test_a_missing_argument_of_bubblewrap_is_noticed(monkeypatch, removed, words):
    if "--remount-ro" in removed and os.geteuid() == 0:
        pytest.skip("root's submissions are another user, who could not write there anyway")
    command = bubblewrap.command
    for argument in (removed,) if removed[0] == "--remount-ro" else ((r,) for r in removed):
        monkeypatch.setattr(bubblewrap, "command", without(*argument))
    monkeypatch.setenv("COURSE_SANDBOX", "bubblewrap")
    assert command is not bubblewrap.command
    with pytest.raises(sandbox.SandboxError, match=words):
        probe()


def test_visible_answers_are_noticed(own_nurseries, way, monkeypatch):
    book, whole = {Path("/course/answer_book"): ROOT / "answer_book"}, filesystem.shown_folders
    monkeypatch.setattr(filesystem, "shown_folders", lambda: whole() | book)
    monkeypatch.setattr(filesystem, "masks", lambda hidden, shown: {})
    with pytest.raises(sandbox.SandboxError, match="answers are visible"):
        probe()


def test_visible_submissions_are_noticed(own_nurseries, way, monkeypatch):
    hidden = str(Path(os.__file__).parent / "wsgiref")  # inside what is shown
    assert probe(hidden=[hidden]) == ""
    masks = filesystem.masks
    ours = filesystem.hidden_folders()
    monkeypatch.setattr(filesystem, "masks", lambda hidden, shown: masks(ours, shown))
    with pytest.raises(sandbox.SandboxError, match="wsgiref is visible"):
        probe(hidden=[hidden])


@as_root
def test_staying_root_is_noticed(monkeypatch):
    whole = bubblewrap.command

    def command(*given):
        arguments = whole(*given)
        start = arguments.index("setpriv", arguments.index("bwrap"))
        return arguments[:start] + arguments[arguments.index("prlimit") :]

    monkeypatch.setattr(bubblewrap, "command", command)
    monkeypatch.setenv("COURSE_SANDBOX", "bubblewrap")
    with pytest.raises(sandbox.SandboxError, match="it runs as root"):
        probe()


@pytest.mark.skipif(not syscalls.system_call_filter(), reason="no filter for this machine")
def test_a_missing_filter_is_noticed(monkeypatch):
    monkeypatch.setattr(sandbox.start, "system_call_filter", lambda: b"")
    monkeypatch.setenv("COURSE_SANDBOX", "bubblewrap")
    with pytest.raises(sandbox.SandboxError, match="system calls are not filtered"):
        probe()


INSIDE = "course_utils/grading/sandbox/"
HOLES = {  # what is taken out of the nursery, and what the attempts then say
    "filter": ("nursery.py", "namespaces.filter_system_calls(program)", "not filtered"),
    "rights": ("nursery.py", 'namespaces.become(request["user"])', "it has capabilities"),
    "limits": ("nursery.py", 'namespaces.limit_resources(request["limits"])', "the limit of as"),
    "proc": ("nursery.py", "namespaces.new_processes_shown()", "other processes are visible"),
    "disks": (
        "nursery.py",
        'namespaces.new_disks(WRITABLE, request["disk"], request["files"])',
        "the home folder cannot be written",
    ),
    "network": ("namespaces.py", " | NEW_NETWORK", "a neighbour is reached"),
    "session": ("nursery.py", "os.setsid()", "terminal's session is the grader's"),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_in_the_nursery_is_noticed(own_nurseries, monkeypatch, tmp_path, hole):
    """The nursery runs from a copy of the library in which one wall is not put up."""
    name, line, words = HOLES[hole]
    tmp_path.chmod(0o755)
    shutil.copytree(ROOT / "course_utils", tmp_path / "course_utils")
    file = tmp_path / INSIDE / name
    text = file.read_text()
    assert text.count(line) == 1
    file.write_text(text.replace(line, "pass" if "(" in line else ""))
    shown = {filesystem.Path("/course/course_utils"): tmp_path / "course_utils"}
    whole = filesystem.shown_folders
    monkeypatch.setattr(filesystem, "shown_folders", lambda: whole() | shown)
    why = probe()  # grading goes on without a nursery
    assert words in why


# -- the nursery -----------------------------------------------------------------------------------


def test_both_ways_give_the_same(tmp_path, monkeypatch):
    honest = [Submission("honest", "01", "x.ipynb", SOLUTION.read_bytes())]
    told = ("hidden", "environment")  # their words hold addresses and process numbers
    bank = [h for h in BANK if h.statuses == RAN and not any(word in h.name for word in told)][:12]
    honest += [Submission(h.name, "01", "x", notebook(STUBS, h.cell)) for h in bank]
    draws = "import random\nraise ValueError(f'{random.random()}"
    draws += " {np.random.rand()} {threading.active_count()} {sorted(os.environ)}')"
    honest += [Submission("draws", "01", "x.ipynb", notebook(STUBS, draws))]
    results = []
    for way in WAYS:
        monkeypatch.setenv("COURSE_SANDBOX", way)
        assert probe() == ""
        results.append(grade_all(honest, Settings(5, Limits()), tmp_path / way, jobs=2))
    assert results[0] == results[1]
    assert results[0][0].score == results[0][0].most


def test_the_nursery_shares_no_memory_that_can_be_written(monkeypatch):
    monkeypatch.delenv("COURSE_SANDBOX", raising=False)
    nursery = births.NURSERIES.get(filesystem.hidden_folders())
    pid = sandbox.watch.descendants(nursery.process.pid)[1]  # bubblewrap is before it
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    assert len(lines) > 100  # it is the one that holds PyTorch
    assert [line for line in lines if "ws" in line.split()[1]] == []
    assert len(os.listdir(f"/proc/{pid}/task")) == 1


def test_the_nursery_holds_no_file_of_a_submission(monkeypatch):
    monkeypatch.delenv("COURSE_SANDBOX", raising=False)
    nursery = births.NURSERIES.get(filesystem.hidden_folders())
    pid = sandbox.watch.descendants(nursery.process.pid)[1]  # bubblewrap is before it
    before = sorted(os.listdir(f"/proc/{pid}/fd"))
    with sandbox.Session(Limits()) as session:
        session.send(dumps({"cells": ["pass"], "cell_seconds": 5.0}))
        next(session.lines())
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == before


def test_a_nursery_that_ended_is_replaced(monkeypatch):
    monkeypatch.delenv("COURSE_SANDBOX", raising=False)
    nursery = births.NURSERIES.get(filesystem.hidden_folders())
    for pid in reversed(sandbox.watch.descendants(nursery.process.pid)):
        os.kill(pid, 9)
    nursery.process.wait()
    _, words = run("raise ValueError('here')", Limits(seconds=60))
    assert words == ["here"]
    assert births.NURSERIES.get(filesystem.hidden_folders()) is not nursery


def test_without_a_nursery_it_says_so_and_goes_on(own_nurseries, monkeypatch):
    monkeypatch.setattr(bubblewrap, "NURSERY", ("-c", "raise SystemExit('no more rooms')"))
    assert "no more rooms" in probe()
    _, words = run("raise ValueError('here')", Limits(seconds=60))
    assert words == ["here"]


def test_the_filter_is_the_same_kind_of_program_everywhere(monkeypatch):
    for machine in syscalls.MACHINES:
        monkeypatch.setattr(syscalls.platform, "machine", lambda machine=machine: machine)
        program = syscalls.system_call_filter()
        assert len(program) % 8 == 0
        assert len(program) // 8 < 256
    monkeypatch.setattr(syscalls.platform, "machine", lambda: "another")
    assert syscalls.system_call_filter() == b""


@as_root
def test_all_of_this_as_an_ordinary_user():
    home = Path(tempfile.mkdtemp(prefix="ordinary"))
    home.chmod(0o755)
    pytest_ = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider"]
    command = [*pytest_, "--basetemp", str(home / "tmp"), str(Path(__file__))]
    done = subprocess.run(
        as_ordinary_user(command, home),
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    shutil.rmtree(home)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "no sandbox here" not in done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30
