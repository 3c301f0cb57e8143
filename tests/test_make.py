"""make.py and the Makefile on throw-away copies of the project: what is missing, interrupts, races.

No test installs the course. Where an environment is needed, one without packages stands in.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch

import make as make_py

ROOT = Path(__file__).resolve().parent.parent
MAKE = shutil.which("make")
needs_make = pytest.mark.skipif(MAKE is None, reason="there is no make on this machine")
posix = pytest.mark.skipif(os.name == "nt", reason="stands in a shell script for Python")


def load(root: Path) -> ModuleType:
    """The make.py of `root` as a module of its own, safe to patch."""
    spec = importlib.util.spec_from_file_location("make_copy", root / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the project as far as making the environment is concerned."""
    root = tmp_path / "a course"  # with a space, as people have
    (root / "course_utils").mkdir(parents=True)
    (root / "course_utils" / "__init__.py").touch()
    for name in (
        "make.py",
        "Makefile",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, root)
    return root


def bare_venv(folder: Path) -> None:
    """An environment that runs and has a pip to import, in a tenth of a second."""
    venv.create(folder, with_pip=False)
    packages = next(folder.rglob("site-packages"))
    (packages / "pip.py").touch()


@pytest.fixture
def make(project, monkeypatch) -> ModuleType:
    """The copy's make.py, with the two slow steps replaced; `make.installs` counts the second."""
    module = load(project)
    module.installs = []
    monkeypatch.setattr(module, "make_venv", lambda: bare_venv(module.venv_folder()))
    monkeypatch.setattr(module, "pip_install", lambda what, held: module.installs.append(what))
    return module


def one_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("make.py: ")
    return lines[0]


# -- one clear line on what is missing ----------------------------------------------------------


def test_old_pythons_can_read_make_py():
    ast.parse((ROOT / "make.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_old_python_is_named(make, monkeypatch, capsys):
    check = make.require_python
    monkeypatch.setattr(make, "require_python", lambda: check((3, 8, 18)))
    assert make.main(["lab"]) == 1
    line = one_line(capsys)
    assert "Python 3.11 or newer is needed" in line
    assert "3.8.18" in line
    assert not make.venv_folder().exists()


def test_full_disk_is_measured_before_anything_is_made(make, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")(100e9, 98.8e9, 1.2e9)
    monkeypatch.setattr(make.shutil, "disk_usage", lambda path: usage)
    assert make.main(["env"]) == 1
    line = one_line(capsys)
    assert "needs about 4 GB" in line
    assert "1.2 GB free" in line
    assert not make.venv_folder().exists()


def test_missing_venv_module_is_named(make, monkeypatch, capsys):
    monkeypatch.setattr(make.importlib.util, "find_spec", lambda name: None)
    assert make.main(["env"]) == 1
    line = one_line(capsys)
    assert "no venv module" in line
    assert "-venv" in line


def test_no_ensurepip_but_pip_is_enough(make, monkeypatch):
    """Debian without python3-venv, but with pip: the outer pip fills the environment."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        make.importlib.util, "find_spec", lambda name: name != "ensurepip" and find(name)
    )
    make.require_venv()
    commands = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(make.subprocess, "run", lambda c, **_: commands.append(c) or done)
    load_make_venv(make)()
    assert "--without-pip" in commands[0]
    assert commands[1][1:4] == ["-m", "pip", "--python"]


def load_make_venv(make):
    """The real make_venv, running in the patched module."""
    source = ast.parse((ROOT / "make.py").read_text(encoding="utf-8"))
    function = next(n for n in source.body if getattr(n, "name", "") == "make_venv")
    exec(compile(ast.Module([function], []), "make.py", "exec"), vars(make))
    return make.make_venv


def test_outside_of_the_project(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(ROOT / "make.py", elsewhere)
    done = subprocess.run(
        [sys.executable, str(elsewhere / "make.py"), "lab"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "is not the course's folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_works_from_any_folder(project, tmp_path):
    done = subprocess.run(
        [sys.executable, str(project / "make.py"), "clean"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0


def test_unknown_target_lists_the_known(make, capsys):
    assert make.main(["labb"]) == 1
    assert "lab, test" in one_line(capsys)


def test_no_target_prints_help(make, capsys):
    assert make.main([]) == 0
    assert "make.py lab" in capsys.readouterr().out


def fake_pip(make, monkeypatch, stderr: str, code: int = 1):
    """Stand a script in for the environment's Python, which ends as pip would."""
    script = make.ROOT / "fake-python"
    script.write_text(f"#!/bin/sh\necho collecting\necho '{stderr}' >&2\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setattr(make, "venv_python", lambda: script)


@posix
@pytest.mark.parametrize(
    ("stderr", "advice"),
    [
        ("WARNING: Retrying: NewConnectionError: Failed to establish", "want of a network"),
        ("Temporary failure in name resolution", "want of a network"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch", "last lines above"),
    ],
)
def test_failed_pip_is_explained(project, monkeypatch, capfd, stderr, advice):
    make = load(project)
    fake_pip(make, monkeypatch, stderr)
    with pytest.raises(make.Stop, match=advice):
        make.pip_install(["-e", "."], held=0)
    shown = capfd.readouterr()
    assert "collecting" in shown.out  # pip's progress stays visible
    assert stderr in shown.err


@posix
def test_good_pip_passes(project, monkeypatch):
    make = load(project)
    fake_pip(make, monkeypatch, "WARNING: Retrying: Connection refused", code=0)
    make.pip_install(["-e", "."], held=0)


@pytest.mark.slow
def test_no_network_for_real(project):
    """Pip itself, pointed at a port where nobody listens."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "VIRTUAL_ENV"))}
    closed = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "no_proxy": "127.0.0.1",
    }
    command = [sys.executable, str(project / "make.py"), "env"]
    done = subprocess.run(command, env=kept | closed, capture_output=True, text=True, timeout=300)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1, done.stderr
    assert last.startswith("make.py: pip got nothing from a package index"), done.stderr
    assert "PIP_FIND_LINKS" in last
    assert not (project / ".venv" / "course-complete").exists()
    assert (project / ".venv" / "course-unfinished").exists()


# -- the Makefile looks for a Python that runs --------------------------------------------------


def stub(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


OLD = """case "$2" in *print*) echo 3.8.18;; *) exit 1;; esac"""
SHIM = 'echo "pyenv: $0: command not found" >&2; exit 127'
GOOD = f'exec {shlex.quote(sys.executable)} "$@"'


def run_make(project: Path, tmp_path: Path, pythons: dict[str, str], *arguments: str):
    folder = tmp_path / "path"
    folder.mkdir()
    for name, script in pythons.items():
        stub(folder, name, script)
    return subprocess.run(
        [str(MAKE), "-f", str(project / "Makefile"), *arguments],
        cwd=tmp_path,
        env={"PATH": str(folder), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )


@needs_make
@posix
@pytest.mark.parametrize(
    "pythons",
    [
        {"python3": GOOD},
        {"python": GOOD},
        {"python3": SHIM, "python3.13": SHIM, "python3.11": GOOD},
        {"python3": OLD, "python3.12": GOOD},
    ],
    ids=lambda pythons: "+".join(pythons),
)
def test_makefile_finds_a_python(project, tmp_path, pythons):
    done = run_make(project, tmp_path, pythons, "help")
    assert done.returncode == 0, done.stderr
    assert "make.py lab" in done.stdout


@needs_make
@posix
@pytest.mark.parametrize(
    ("pythons", "found"),
    [
        ({}, "None was found."),
        ({"python3": SHIM, "python": SHIM}, "None was found."),
        ({"python3": OLD}, "python3 is 3.8.18"),
    ],
    ids=["none", "shims", "old"],
)
def test_makefile_says_what_it_found(project, tmp_path, pythons, found):
    done = run_make(project, tmp_path, pythons, "lab")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert found in done.stderr
    assert "make lab PYTHON=" in done.stderr


@needs_make
@posix
def test_makefile_passes_arguments_and_exit_code(project, tmp_path):
    (project / "make.py").write_text("import sys; print(sys.argv[1:]); sys.exit(7)")
    done = run_make(project, tmp_path, {"python3": GOOD}, "lab", "ARGS=--port 8890 --no-browser")
    assert "['lab', '--port', '8890', '--no-browser']" in done.stdout
    assert "Error 7" in done.stderr


AWKWARD = (
    "with a space",
    "two  spaces, first of all",
    "Ma\u00eetrise (\u00e9t\u00e9)",
    "\u6df1\u5ea6\u5b66\u4e60",
    "[brackets] {braces}",
    "Ada's",
    'a "quoted" name',
    "$HOME, $(HOME) and $$",
    "#1 at 50% & more; less",
    "back\\slash, `ticks` and \u007etilde",
)


def targets_reached(project: Path, *arguments: str, cwd: Path) -> None:
    """Run the Makefile with a make.py that says what it was told, and where it lies."""
    (project / "make.py").write_text(
        "import os, sys; print(sys.argv[1:], os.path.dirname(os.path.abspath(__file__)))"
    )
    targets = [a for a in arguments if a in make_py.TARGETS]
    done = subprocess.run(
        [str(MAKE), "--no-print-directory", *arguments, "ARGS=-k 'a b'"],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{[t, '-k', 'a b']} {project}" for t in targets]


@needs_make
@posix
@pytest.mark.parametrize("name", AWKWARD)
def test_folders_with_awkward_names(project, tmp_path, name):
    project = project.rename(tmp_path / name)
    targets_reached(project, "lab", cwd=project)
    targets_reached(project, "-f", f"{name}/Makefile", "lab", cwd=tmp_path)


@needs_make
@posix
def test_every_target_from_a_folder_with_an_awkward_name(project, tmp_path):
    project = project.rename(tmp_path / " ".join(AWKWARD))
    targets_reached(project, *make_py.TARGETS, cwd=project)
    targets_reached(project, "-C", str(project), "lab", cwd=tmp_path)
    targets_reached(project, "-f", str(project / "Makefile"), "lab", cwd=Path("/"))


@pytest.mark.parametrize("name", AWKWARD)
def test_make_py_in_folders_with_awkward_names(tmp_path, project, name):
    project = project.rename(tmp_path / name)
    for target in ("help", "clean"):
        subprocess.run([sys.executable, str(project / "make.py"), target], check=True)


def test_makefile_and_make_py_agree(make):
    line = re.search(r"^TARGETS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert line is not None
    assert set(line[1].split()) == set(make.TARGETS)
    for name in make.TARGETS:
        assert f"make.py {name} " in make.__doc__


# -- repeated, interrupted, at the same time ----------------------------------------------------


def test_made_once(make, capsys):
    assert make.main(["env"]) == 0
    assert make.installs == [["-c", "constraints.txt", "-e", ".[dev,site]"]]
    capsys.readouterr()
    assert make.main(["env"]) == 0
    assert len(make.installs) == 1
    assert "Installing" not in capsys.readouterr().out
    assert sorted(p.name for p in make.venv_folder().glob("course-*")) == ["course-complete"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_lists_install_again_without_starting_over(make, name):
    make.main(["env"])
    kept = make.venv_folder() / "kept"
    kept.touch()
    with (make.ROOT / name).open("a") as file:
        file.write("\n# changed\n")
    assert make.main(["env"]) == 0
    assert len(make.installs) == 2
    assert kept.exists()


def test_a_changed_extension_of_jupyterlab_installs_again(make):
    """The environment holds a copy of it."""
    make.main(["env"])
    path = make.ROOT / "tools" / "lab_extension" / "static" / "remoteEntry.js"
    path.parent.mkdir(parents=True)
    path.write_text("changed")
    assert make.main(["env"]) == 0
    assert len(make.installs) == 2


def test_moved_project_installs_again(make, project):
    """Scripts in an environment hold absolute paths."""
    make.main(["env"])
    moved = load(project.rename(project.with_name("moved")))
    assert not moved.environment_is_good()


def test_interrupt_is_reported_and_repaired(make, monkeypatch, capsys):
    def interrupted(what, held):
        (make.venv_folder() / "half a package").touch()
        raise KeyboardInterrupt

    whole = make.pip_install
    monkeypatch.setattr(make, "pip_install", interrupted)
    assert make.main(["env"]) == 130
    assert "interrupted" in one_line(capsys)
    assert not make.environment_is_good()
    monkeypatch.setattr(make, "pip_install", whole)
    assert make.main(["env"]) == 0
    assert "making it anew" in capsys.readouterr().out
    assert not (make.venv_folder() / "half a package").exists()
    assert make.environment_is_good()


def test_interrupt_while_deleting_is_repaired(make, monkeypatch):
    """The mark that the environment is unfinished must not go before what it marks."""
    make.main(["env"])
    with (make.ROOT / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    make.unfinished_file().touch()

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make.shutil, "rmtree", killed)
        assert make.main(["env"]) == 130
    assert make.unfinished_file().exists()
    assert make.main(["env"]) == 0
    assert make.environment_is_good()


@pytest.mark.parametrize("damage", ["no python", "python that fails", "no pip", "empty folder"])
def test_broken_environment_is_made_anew(make, damage):
    make.main(["env"])
    if damage == "empty folder":
        shutil.rmtree(make.venv_folder())
        make.venv_folder().mkdir()
    elif damage == "no pip":
        next(make.venv_folder().rglob("pip.py")).unlink()
    else:
        make.venv_python().unlink()
        if damage == "python that fails":
            stub(make.venv_python().parent, make.venv_python().name, SHIM)
    assert not make.environment_is_good()
    assert make.main(["env"]) == 0
    assert make.environment_is_good()


def test_environment_made_by_hand_is_completed_not_deleted(make):
    bare_venv(make.venv_folder())
    kept = make.venv_folder() / "kept"
    kept.touch()
    assert make.main(["env"]) == 0
    assert kept.exists()
    assert len(make.installs) == 1


STAND_IN = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import make
from test_make import bare_venv

def slow_install(what, held):
    with open("log", "a") as log:
        log.write("begin\\n")
        print("installing", flush=True)
        while not Path("go").exists():
            time.sleep(0.05)
        log.write("end\\n")

make.make_venv = lambda: bare_venv(make.venv_folder())
make.pip_install = slow_install
sys.exit(make.main(["env"]))
"""


def start(project: Path) -> subprocess.Popen[str]:
    """`make env` in a process of its own, whose installation lasts until a file `go` appears."""
    code = STAND_IN.format(tests=str(ROOT / "tests"), root=str(project))
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    while words not in (line := process.stdout.readline()):
        assert line, f"ended without printing {words!r}"


def test_two_at_once_install_once(project):
    first = start(project)
    read_until(first, "installing")
    second = start(project)
    read_until(second, "waiting for it")
    (project / "go").touch()
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert (project / "log").read_text() == "begin\nend\n"


@posix
def test_killed_outright_and_repeated(project):
    first = start(project)
    read_until(first, "installing")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (project / "go").touch()
    second = start(project)
    text = second.communicate(timeout=60)[0]
    assert second.returncode == 0
    assert "incomplete or broken" in text
    assert "waiting" not in text  # the lock went with the process that held it
    assert load(project).environment_is_good()


# -- the targets --------------------------------------------------------------------------------


@pytest.fixture
def runs(make, monkeypatch):
    """What the targets run; `runs.codes` says how each ends."""
    calls = []
    monkeypatch.setattr(make.os, "geteuid", lambda: 1000, raising=False)

    def run(arguments, env=None):
        calls.append((arguments, (env or {}).get("HF_HUB_OFFLINE")))
        return make.codes.get(next((a for a in arguments if not a.startswith("-")), ""), 0)

    make.codes = {}
    monkeypatch.setattr(make, "run", run)
    return calls


FIRST = "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"
QUIET = "--log-level=WARN"


@pytest.fixture
def lessons(make):
    (make.ROOT / "notebooks").mkdir()
    for name in ("00_start_here", "01_gradients"):
        (make.ROOT / "notebooks" / f"{name}.ipynb").touch()


@pytest.mark.usefixtures("lessons")
def test_lab_fetches_data_and_opens_the_first_lesson(make, runs):
    assert make.main(["lab", "--no-browser", "--port", "8890"]) == 0
    assert runs[0][0] == ["-m", "course_utils", "data"]
    hidden = f"--ContentsManager.hide_globs={make.NOT_LISTED}"
    started = ["-m", "jupyterlab", "--ServerApp.root_dir=.", hidden, FIRST, QUIET]
    assert runs[1][0] == [*started, "--no-browser", "--port", "8890"]


@pytest.mark.usefixtures("lessons", "runs")
def test_terminals_of_jupyterlab_find_the_course_command(make, monkeypatch):
    seen = []
    monkeypatch.setattr(make, "run", lambda arguments, env=None: seen.append(env) or 0)
    assert make.main(["lab", "--no-browser"]) == 0
    assert seen[-1]["PATH"].split(os.pathsep)[0] == str(make.venv_python().parent)


@pytest.mark.usefixtures("lessons")
def test_lab_opens_the_notebook_that_is_named(make):
    name = os.path.join("notebooks", "01_gradients.ipynb")
    told = make.lab_arguments([name, "--port", "8890"])
    assert FIRST.replace("00_start_here", "01_gradients") in told
    assert name not in told  # JupyterLab would take its folder for the root: no exercises


@pytest.mark.usefixtures("lessons")
def test_lab_names_the_notebooks_there_are(make, runs, capsys):
    assert make.main(["lab", "notebooks/09_more.ipynb"]) == 1
    assert "00_start_here.ipynb, 01_gradients.ipynb" in one_line(capsys)


@pytest.mark.parametrize("port", [["--port", "99999"], ["--port=abc"], ["--port"]])
def test_a_port_that_cannot_be_is_named(make, runs, capsys, port):
    assert make.main(["lab", *port]) == 1
    assert "whole number below 65536" in one_line(capsys)
    assert runs == []


def test_root_of_a_container_gets_a_jupyterlab(make, runs, monkeypatch):
    """There it is the only account; JupyterLab itself would refuse."""
    monkeypatch.setattr(make.os, "geteuid", lambda: 0, raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert make.main(["lab", "--port=0"]) == 0
    assert runs[-1][0][-2:] == ["--port=0", "--allow-root"]
    assert make.main(["lab", "--allow-root"]) == 0
    assert runs[-1][0].count("--allow-root") == 1
    monkeypatch.setattr(make.os, "geteuid", lambda: 1000, raising=False)
    assert make.main(["lab"]) == 0
    assert "--allow-root" not in runs[-1][0]


def test_sudo_is_refused_before_anything_belongs_to_root(make, runs, monkeypatch, capsys):
    monkeypatch.setattr(make.os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setenv("SUDO_USER", "ada")
    assert make.main(["lab"]) == 1
    assert "Leave sudo out" in (line := one_line(capsys))
    assert "ada" in line
    assert not make.venv_folder().exists()
    assert make.main(["lab", "--allow-root"]) == 0


@pytest.mark.usefixtures("lessons")
@pytest.mark.parametrize("told", [["notebooks/09_more.ipynb"], ["--port", "abc"]])
def test_what_cannot_start_is_said_before_the_installation(make, runs, told):
    assert make.main(["lab", *told]) == 1
    assert make.installs == []
    assert not make.venv_folder().exists()


@pytest.mark.usefixtures("lessons")
def test_what_a_person_says_to_jupyterlab_is_said_once(make):
    for theirs in ("--log-level=INFO", "--ServerApp.root_dir=notebooks", FIRST + "#end"):
        told = make.lab_arguments([theirs])
        assert [a for a in told if a.split("=")[0] == theirs.split("=")[0]] == [theirs]
    assert QUIET not in make.lab_arguments(["--debug"])


def test_lab_settings_say_what_is_not_for_lessons(make):
    make.write_lab_settings()
    config = make.ROOT / ".venv" / "etc" / "jupyter"
    server = json.loads((config / "jupyter_server_config.d" / "zz-course.json").read_text())
    assert set(server["ServerApp"]["jpserver_extensions"].values()) == {False}
    page = json.loads((config / "labconfig" / "page_config.d" / "zz-course.json").read_text())
    assert page["disabledExtensions"]["@jupyter/nbgrader"] is True
    lab = make.ROOT / ".venv" / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert json.loads(lab.read_text()) == make.LAB_SETTINGS


@pytest.fixture
def archive(make, monkeypatch, tmp_path):
    """An archive in a cache, and an environment whose Python knows where it is."""
    archive = tmp_path / "archive.tar.gz"
    archive.write_text("reviews")
    look = f"import os, json; p = {str(archive)!r}; "
    look += "print(json.dumps([[p, os.stat(p).st_size, os.stat(p).st_mtime_ns]]))"
    monkeypatch.setattr(make, "LOOK_AT_DATA", look)
    monkeypatch.setattr(make, "venv_python", lambda: Path(sys.executable))
    make.venv_folder().mkdir(exist_ok=True)
    return archive


@pytest.mark.usefixtures("lessons", "archive")
def test_verified_data_are_looked_at_and_not_read_again(make, runs):
    assert make.main(["lab"]) == make.main(["lab"]) == 0
    assert [arguments[1] for arguments, _ in runs] == ["course_utils", "jupyterlab", "jupyterlab"]


@pytest.mark.parametrize("change", ["content", "gone", "another cache", "broken note"])
def test_changed_data_are_verified_again(make, archive, monkeypatch, change):
    make.remember_data()
    assert make.data_are_there()
    if change == "content":
        archive.write_text("other reviews")
    elif change == "gone":
        archive.unlink()
    elif change == "another cache":
        monkeypatch.setenv("COURSE_CACHE", "elsewhere")
    else:
        make.data_seen().write_text("{")
    assert not make.data_are_there()


@pytest.mark.parametrize("target", ["lab", "test"])
def test_without_data_nothing_starts(make, runs, target):
    make.codes["course_utils"] = 1
    assert make.main([target]) == 1
    assert len(runs) == 1


def test_test_forwards_arguments_and_runs_offline(make, runs):
    make.codes["pytest"] = 5
    assert make.main(["test", "-k", "gradients"]) == 5
    assert runs[1] == (["-m", "pytest", "-k", "gradients"], "1")


def test_check_runs_all_steps_and_names_the_failed(make, runs, capsys):
    make.codes["mypy"] = 1
    assert make.main(["check"]) == 1
    assert len(runs) == 4
    assert "failed in types" in capsys.readouterr().out
    make.codes.clear()
    assert make.main(["check"]) == 0


def test_notebooks_make_exercises_and_the_map_too(make, runs):
    assert make.main(["notebooks", "05", "--all"]) == 0
    assert [arguments for arguments, _ in runs] == [
        [os.path.join("tools", "notebooks.py"), "build", "05", "--all"],
        ["-m", "tools.exercises", "build", "05"],
        ["-m", "tools.readme"],
    ]
    runs.clear()
    make.codes[os.path.join("tools", "notebooks.py")] = 1
    assert make.main(["notebooks"]) == 1
    assert len(runs) == 1


TRAINING = ["-m", "benchmarks.training"]
GRADING = ["-m", "benchmarks.grading"]


@pytest.fixture
def benchmarks(make, monkeypatch):
    (make.ROOT / "benchmarks").mkdir()
    for name in ("__init__", "training", "grading", "step"):
        (make.ROOT / "benchmarks" / f"{name}.py").touch()
    monkeypatch.setattr(make.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("benchmarks")
def test_bench_prints_all_ratios_or_runs_the_benchmark_that_is_named(make, runs, capsys):
    assert make.main(["bench", "--reviews", "480"]) == 0
    assert [arguments for arguments, _ in runs] == [[*TRAINING, "--reviews", "480"], GRADING]
    runs.clear()
    assert make.main(["bench", "grading", "--count", "24"]) == 0
    assert [arguments for arguments, _ in runs] == [[*GRADING, "--count", "24"]]
    runs.clear()
    for unknown in ("speed", "__init__"):
        assert make.main(["bench", unknown]) == 1
        assert "there are: grading, step, training" in capsys.readouterr().err
    assert runs == []


@pytest.mark.usefixtures("benchmarks")
def test_bench_goes_on_where_there_is_no_sandbox_and_says_so(make, runs, monkeypatch, capsys):
    monkeypatch.setattr(make.shutil, "which", lambda name: None)
    assert make.main(["bench"]) == 0
    assert [arguments for arguments, _ in runs] == [TRAINING]
    assert "bubblewrap" in capsys.readouterr().out
    make.codes["benchmarks.training"] = 1
    assert make.main(["bench"]) == 1


@pytest.mark.usefixtures("benchmarks")
def test_one_benchmark_that_fails_does_not_hide_the_other(make, runs):
    make.codes["benchmarks.training"] = 1
    assert make.main(["bench"]) == 1
    assert [arguments for arguments, _ in runs] == [TRAINING, GRADING]


KERNEL_SAYS = """\
import os, torch
from course_utils.runtime import computes_in_bfloat16
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
print("bfloat16", computes_in_bfloat16(torch.device("cpu")), os.environ["HF_HUB_OFFLINE"])"""


@pytest.mark.slow
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="not such a processor"
)
def test_an_old_laptop_reaches_the_kernels(monkeypatch, tmp_path, capfd):
    """A notebook's own kernel says what it is, and the comparison notices another answer."""
    monkeypatch.setattr(make_py, "venv_python", lambda: Path(sys.executable))
    for answer, code in (("AVX2 1\nbfloat16 False 1\n", 0), ("AVX512 2\n", 1)):
        cell = nbformat.v4.new_code_cell(KERNEL_SAYS, execution_count=1)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=answer)]
        notebook = nbformat.v4.new_notebook(cells=[cell])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, tmp_path / "says.ipynb")
        told = [str(tmp_path / "says.ipynb"), "-c", "pyproject.toml"]
        assert make_py.old_laptop(told) == code, capfd.readouterr().out


def test_another_address_does_not_install_again(make, runs):
    """It stands in pyproject.toml, which the environment depends on; no package does."""
    project = make.ROOT / "pyproject.toml"
    change = make.run

    def run(arguments, env=None):
        project.write_text(project.read_text().replace("github.com", "gitlab.com"))
        return change(arguments, env)

    make.run = run
    assert make.main(["address", "https://gitlab.com/you/course"]) == 0
    assert runs == [(["-m", "tools.address", "https://gitlab.com/you/course"], "1")]
    assert make.environment_is_good()


@pytest.mark.parametrize("target", ["check", "site"])
def test_who_publishes_is_reminded_of_the_address(make, runs, monkeypatch, target):
    said = []
    monkeypatch.setattr(make, "remind_of_address", lambda: said.append("address"))
    assert make.main([target]) == 0
    assert said == ["address"]


def test_run_gives_the_exit_code(make, capfd):
    make.main(["env"])
    assert make.run(["-c", "import sys; sys.exit(3)"]) == 3
    assert "==> python -c" in capfd.readouterr().out


def test_clean_spares_everything_but_caches(make, capsys):
    make.main(["env"])
    (make.ROOT / ".mypy_cache").mkdir()
    (make.ROOT / "course_utils" / "__pycache__").mkdir(exist_ok=True)
    (make.ROOT / "exercises" / ".ipynb_checkpoints").mkdir(parents=True)
    (make.ROOT / "exercises" / "01_gradients.ipynb").touch()
    before = {p.name for p in make.ROOT.iterdir()}
    assert make.main(["clean"]) == 0
    assert {p.name for p in make.ROOT.iterdir()} == before - {".mypy_cache"}
    assert not (make.ROOT / "course_utils" / "__pycache__").exists()
    assert [path.name for path in (make.ROOT / "exercises").iterdir()] == ["01_gradients.ipynb"]
    assert make.main(["clean", "--everything"]) == 1
    assert make.main(["clean", "--all"]) == 0
    assert not make.venv_folder().exists()


# -- the lists of packages ----------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {canonical(re.split(r"[^\w.-]", entry)[0]) for entry in wanted}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert names <= {canonical(name) for name in pins}
    assert pins["torch"] == "2.13.0"
    assert not [v for v in pins.values() if not re.fullmatch(r"[\d.]+(?:\.post\d+)?", v)]
    only_linux = [name for name in pins if canonical(name).startswith(("nvidia", "triton"))]
    assert not only_linux


def test_conda_lists_no_dependency_again():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    entries = re.findall(r"^\s*- (.*)$", text, re.M)
    assert entries[:3] == ["conda-forge", "python=3.11", "pip"]
    assert entries[3:] == ["pip:", "--constraint constraints.txt", "--editable .[dev]"]
