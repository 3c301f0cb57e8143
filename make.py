"""Everything a person does with this project, in one word each. Needs only Python.

    python make.py lab        make the environment, fetch the data, open JupyterLab
    python make.py test       make the environment, fetch the data, run the whole suite
    python make.py check      the two-minute version: lint, types, unit tests, doctests
    python make.py env        only make the environment, in .venv
    python make.py data       fetch and verify the data sets
    python make.py doctor     what is installed, and what is missing
    python make.py notebooks  rebuild the notebooks whose source changed, and the exercises
    python make.py site       build the course as web pages that work offline, in build/site
    python make.py address    make badges, Colab cells and the README lead to your own repository
    python make.py bench      measure training beside transformers.Trainer, grading beside nbgrader
    python make.py old-laptop run the lessons as on an old laptop: float32, AVX2, one thread
    python make.py clean      delete caches; with --all, the environment too

What follows the word is passed on: ``python make.py test -k gradients``,
``python make.py lab --no-browser --port 8890``. On Windows write ``py make.py lab``; where there is
make, ``make lab`` and ``make test ARGS="-k gradients"`` do the same.

Any of them may be interrupted and repeated. This file keeps to what Python 3.8 can read, so that
a Python too old for the course is told so, rather than stopping at the first unknown comma.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Dict, Iterator, List, Optional

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)
GB_NEEDED = 4.0  # 3 with the CPU build of torch, and room to unpack; CUDA builds take 8
WINDOWS = os.name == "nt"
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|Failed to establish|Name or service not known|"
    r"Temporary failure in name resolution|getaddrinfo failed|Network is unreachable|"
    r"Connection refused|Max retries exceeded|ProxyError|ReadTimeout|No route to host|"
    r"from versions: none"  # all that pip says after its last attempt
)
DISK_FULL = re.compile(r"No space left|Errno 28|not enough space|Disk quota")


class Stop(Exception):
    """Something is missing; the message is one line that says what, and what to do."""


def say(text: str) -> None:
    """Print a step's headline, before what the step itself prints."""
    print("==> " + text, flush=True)


# -- what has to be there -----------------------------------------------------------------------


def require_python(version: "tuple[int, ...]" = tuple(sys.version_info[:3])) -> None:
    """Stop when this Python is too old for the course."""
    if version[:2] < OLDEST:
        found = ".".join(str(part) for part in version)
        raise Stop(
            "Python {}.{} or newer is needed, and this is {} ({}). Install a newer one, and run "
            "this file with it.".format(OLDEST[0], OLDEST[1], found, sys.executable)
        )


def require_project() -> None:
    """Stop when this file was copied away from the project."""
    for name in ("pyproject.toml", "constraints.txt", "course_utils"):
        if not (ROOT / name).exists():
            raise Stop(
                "{} is not the course's folder: it has no {}. Run make.py where it came "
                "from.".format(ROOT, name)
            )


def require_disk() -> None:
    """Stop when the packages would not fit."""
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < GB_NEEDED:
        raise Stop(
            "The environment needs about {:.0f} GB, and {} has {:.1f} GB free. Free some space, "
            "and repeat.".format(GB_NEEDED, ROOT, free)
        )


def require_venv() -> None:
    """Stop when this Python cannot make environments, as on Debian without python3-venv."""
    if all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        return
    if importlib.util.find_spec("venv") and importlib.util.find_spec("pip"):
        return  # pip of the outer Python can install into an environment that has none
    raise Stop(
        "This Python ({}) has no venv module. Install it (Debian, Ubuntu: apt install "
        "python{}.{}-venv), and repeat.".format(sys.executable, *sys.version_info[:2])
    )


# -- the environment ----------------------------------------------------------------------------


def venv_folder() -> Path:
    return ROOT / ".venv"


def venv_python() -> Path:
    return venv_folder() / ("Scripts/python.exe" if WINDOWS else "bin/python")


def stamp_file() -> Path:
    """Written last: it says the environment is whole, and what it was made from."""
    return venv_folder() / "course-complete"


def unfinished_file() -> Path:
    """There while the environment is being made; it outlives an interrupt.

    A .venv with neither this nor a stamp was made by hand: it is completed, not deleted.
    """
    return venv_folder() / "course-unfinished"


def venv_version() -> Optional[str]:
    """The version of the environment's own Python; None when it does not run, or is too old."""
    code = "import sys, pip; v = sys.version_info[:2]; print('%d.%d' % v); sys.exit(v < {})"
    try:
        done = subprocess.run(
            [str(venv_python()), "-c", code.format(OLDEST)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def expected_stamp(version: str) -> str:
    """What the environment depends on: two lists, the Python, the place, what is copied into it."""
    digest = hashlib.sha256()
    for part in (
        (ROOT / "pyproject.toml").read_bytes(),
        (ROOT / "constraints.txt").read_bytes(),
        version.encode(),
        str(ROOT).encode(),  # scripts in an environment hold absolute paths
        *(path.read_bytes() for path in sorted((ROOT / "tools/lab_extension").rglob("*.js*"))),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def environment_is_good() -> bool:
    """True when nothing needs to be installed. Cheap: it runs before every other target."""
    if not stamp_file().exists():
        return False
    version = venv_version()
    return version is not None and stamp_file().read_text() == expected_stamp(version)


def lock(file: IO[bytes], wait: bool) -> None:
    """Lock an open file, or raise OSError; the two systems have two ways."""
    if WINDOWS:
        import msvcrt

        file.seek(1 << 30)  # a byte far behind the end, so that reading the file stays possible
        mode = "LK_LOCK" if wait else "LK_NBLCK"
        getattr(msvcrt, "locking")(file.fileno(), getattr(msvcrt, mode), 1)  # noqa: B009
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[int]:
    """Hold the lock on making the environment: this very file, so that nothing is left behind.

    The system releases it when this process, and any pip it started, is gone.
    """
    with open(str(Path(__file__).resolve()), "r+b") as file:
        try:
            lock(file, wait=False)
        except OSError:
            say("Another make is preparing the environment; waiting for it.")
            while True:
                with contextlib.suppress(OSError):  # Windows gives up after ten seconds
                    lock(file, wait=True)
                    break
        yield file.fileno()


def empty_venv() -> None:
    """Delete what is in .venv, the mark that it is unfinished last of all, that is: never."""
    unfinished_file().touch()
    for path in venv_folder().iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path != unfinished_file():
            path.unlink()


def make_environment() -> None:
    """Leave a complete environment in .venv; return at once when it is there already."""
    if environment_is_good():
        return
    require_project()
    require_venv()
    with one_at_a_time() as held:
        if environment_is_good():  # the one we waited for made it
            return
        require_disk()
        if venv_folder().exists() and (unfinished_file().exists() or not venv_version()):
            say("The environment in .venv is incomplete or broken: making it anew.")
            empty_venv()
        venv_folder().mkdir(exist_ok=True)
        unfinished_file().touch()
        if stamp_file().exists():
            stamp_file().unlink()
        if not venv_version():
            say("Making the environment in .venv")
            make_venv()
        say("Installing the packages (about 3 GB; some minutes the first time)")
        pip_install(["-c", "constraints.txt", "-e", ".[dev,site]"], held)
        stamp_file().write_text(expected_stamp(str(venv_version())))
        unfinished_file().unlink()
    say("The environment is complete.")


def make_venv() -> None:
    """An empty environment with pip in it, also where Debian split ensurepip off."""
    # The Python behind an activated environment, which may be the one being made anew.
    python = getattr(sys, "_base_executable", None) or sys.executable
    if importlib.util.find_spec("ensurepip"):
        commands = [[python, "-m", "venv", str(venv_folder())]]
    else:
        commands = [
            [python, "-m", "venv", "--without-pip", str(venv_folder())],
            [python, "-m", "pip", "--python", str(venv_python()), "install", "pip"],
        ]
    for command in commands:
        done = subprocess.run(command, cwd=str(ROOT))
        if done.returncode:
            raise Stop(
                "The environment could not be made (see above). If the venv module is missing: "
                "Debian, Ubuntu: apt install python{}.{}-venv.".format(*sys.version_info[:2])
            )


def pip_install(arguments: List[str], held: int) -> None:
    """Run pip in the environment with its progress in sight, and explain a failure in one line."""
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "install"]
    # The lock's descriptor is handed on, so that a pip that outlives us keeps others out.
    inherit = {} if WINDOWS else {"pass_fds": (held,)}
    pip = subprocess.Popen(  # type: ignore[call-overload]
        command + arguments, cwd=str(ROOT), stderr=subprocess.PIPE, text=True, **inherit
    )
    errors: List[str] = []

    def echo() -> None:
        for line in pip.stderr:
            sys.stderr.write(line)
            errors.append(line)

    echoing = threading.Thread(target=echo)
    echoing.start()
    try:
        code = pip.wait()
    except KeyboardInterrupt:
        pip.wait()  # it got the interrupt too, and is tidying up
        raise
    finally:
        echoing.join()
    if code == 0:
        return
    text = "".join(errors)
    if DISK_FULL.search(text):
        raise Stop("The disk is full. Free about {:.0f} GB, and repeat.".format(GB_NEEDED))
    if NO_NETWORK.search(text):
        raise Stop(
            "pip got nothing from a package index, most likely for want of a network. Connect and "
            "repeat; or put the packages in a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER."
        )
    raise Stop("pip could not install the packages; its last lines above say why. Then repeat.")


# -- the targets --------------------------------------------------------------------------------


def offline() -> Dict[str, str]:
    """The environment variables of automated runs: reaching for a model hub is an error."""
    return dict(os.environ, HF_HUB_OFFLINE="1")


def run(arguments: List[str], env: Optional[Dict[str, str]] = None) -> int:
    """Run the environment's Python, shown as a person would type it. Returns the exit code."""
    say("python " + " ".join(arguments))
    process = subprocess.Popen([str(venv_python())] + arguments, cwd=str(ROOT), env=env)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # JupyterLab asks what to do about Ctrl-C, and a test run reports: stay until it ends.
            continue


def fetch_data(arguments: List[str]) -> int:
    return run(["-m", "course_utils", "data"] + arguments)


def data_seen() -> Path:
    """Where `data_are_there` keeps what the verified files looked like, for each cache folder."""
    return venv_folder() / "course-data.json"


LOOK_AT_DATA = """
import json
from course_utils.sources import SOURCES, cache_folder
paths = [(cache_folder() / source.file).resolve() for source in SOURCES]
print(json.dumps([[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]))
"""


def data_are_there() -> bool:
    """True when the files verified by an earlier start lie where they lay, unchanged.

    Every lesson verifies them again, by their hash, when it loads them; here only a start is saved.
    """
    try:
        seen = json.loads(data_seen().read_text())[os.environ.get("COURSE_CACHE", "")]
        now = [[path, os.stat(path).st_size, os.stat(path).st_mtime_ns] for path, _, _ in seen]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(now == seen)


def remember_data() -> None:
    """Note what the files look like now; without the note the next start only looks again."""
    done = subprocess.run(
        [str(venv_python()), "-c", LOOK_AT_DATA], cwd=str(ROOT), capture_output=True, text=True
    )
    with contextlib.suppress(OSError, ValueError):
        seen = {os.environ.get("COURSE_CACHE", ""): json.loads(done.stdout)}
        data_seen().write_text(json.dumps(seen) + "\n")


# Nothing that asks, offers or fetches comes between a student and the first lesson.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/filebrowser-extension:browser": {
        "showLastModifiedColumn": False,  # room for the names of lessons
    },
    "@jupyterlab/notebook-extension:tracker": {
        "scrollPastEnd": False,  # or a lesson ends in an empty page
    },
}

# What the tools bring along and no lesson uses: it takes time at every start, and puts menus and
# buttons before students. A file of the same name without ".d/zz-course" has the last word.
NOT_FOR_LESSONS = {
    "labconfig/page_config.d/zz-course.json": {
        "buildAvailable": False,  # nothing of the course needs JupyterLab to be built
        "buildCheck": False,
        "disabledExtensions": {
            "@jupyter/nbgrader": True,
            "@jupyter-notebook/lab-extension": True,
            "jupyterlab-jupytext": True,
            "@jupyterlab/extensionmanager-extension": True,  # it lists packages of the network
            "@jupyterlab/fileeditor-extension:language-server": True,
            "@jupyterlab/lsp-extension": True,
            "@jupyterlab/notebook-extension:language-server": True,
        },
    },
    "jupyter_server_config.d/zz-course.json": {
        "ServerApp": {
            "jpserver_extensions": {
                "jupyter_lsp": False,
                "jupyter_server_mathjax": False,  # for `make site`; JupyterLab has its own
                "jupyterlab_jupytext": False,
                "nbgrader.server_extensions.assignment_list": False,
                "nbgrader.server_extensions.course_list": False,
                "nbgrader.server_extensions.formgrader": False,
                "nbgrader.server_extensions.validate_assignment": False,
                "notebook": False,
                "notebook_shim": False,
            }
        }
    },
}

# The lessons as text lie beside the lessons; who edits them says File > Open from Path. The rest is
# what is not listed anyway.
NOT_LISTED = ["source", "__pycache__", "*.pyc", "*.pyo", ".DS_Store", "*~"]


def write_lab_settings() -> None:
    """Change JupyterLab's defaults in our environment; a person's own settings still win."""
    settings: Dict[str, object] = {"share/jupyter/lab/settings/overrides.json": LAB_SETTINGS}
    settings.update({"etc/jupyter/" + name: what for name, what in NOT_FOR_LESSONS.items()})
    for name, content in settings.items():
        path = venv_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def require_startable(arguments: List[str]) -> None:
    """Stop where JupyterLab would stop with less to go by, or start where no one can reach it."""
    if is_root() and "SUDO_USER" in os.environ and "--allow-root" not in arguments:
        raise Stop(
            "Leave sudo out: what is installed, and every notebook you save, would belong to "
            "root, and be closed to {}. Only if that is meant: --allow-root.".format(
                os.environ["SUDO_USER"]
            )
        )
    for i, said in enumerate(arguments):
        name, sign, behind = said.partition("=")
        port = behind if sign else "".join(arguments[i + 1 : i + 2])
        if name == "--port" and not (port.isdigit() and int(port) < 65536):
            raise Stop("--port needs a whole number below 65536, such as 8890; got " + repr(port))


def is_root() -> bool:
    return getattr(os, "geteuid", lambda: 1)() == 0


def lab_arguments(arguments: List[str]) -> List[str]:
    """What JupyterLab is told: the project is its root, and a notebook its first page.

    That is the first lesson, or the notebook that a person names. Options which a person gives
    are not given again.
    """
    require_startable(arguments)
    named = [a for a in arguments if a.endswith(".ipynb") and not a.startswith("-")]
    first = named[0] if named else "notebooks/00_start_here.ipynb"
    ours = {"--ServerApp.root_dir": "."}  # so that exercises/ can be reached from notebooks/
    ours["--ContentsManager.hide_globs"] = repr(NOT_LISTED)
    if (ROOT / first).is_file():
        place = (ROOT / first).resolve().relative_to(ROOT).as_posix()
        ours["--LabApp.default_url"] = "/lab/tree/" + place
    elif named:
        there = ", ".join(sorted(path.name for path in ROOT.glob("notebooks/*.ipynb")))
        raise Stop(
            "There is no {} in the course. In notebooks/ there are: {}.".format(first, there)
        )
    if "--debug" not in arguments:
        ours["--log-level"] = "WARN"  # the address, and what goes wrong; not thirty more lines
    theirs = [a for a in arguments if a not in named]
    if is_root() and "--allow-root" not in theirs:
        # The only account that containers and many rented machines have; JupyterLab would refuse.
        theirs.append("--allow-root")
    said = {a.split("=")[0] for a in theirs}
    return [name + "=" + value for name, value in ours.items() if name not in said] + theirs


def lab(arguments: List[str]) -> int:
    if not data_are_there():
        if fetch_data([]):
            return 1
        remember_data()
    write_lab_settings()
    # In JupyterLab's own terminals `course` is found, too.
    path = str(venv_python().parent) + os.pathsep + os.environ.get("PATH", "")
    return run(["-m", "jupyterlab"] + arguments, env=dict(os.environ, PATH=path))


def test(arguments: List[str]) -> int:
    if fetch_data([]):
        return 1
    return run(["-m", "pytest"] + arguments, env=offline())


def check(arguments: List[str]) -> int:
    steps = {
        "lint": ["-m", "ruff", "check"],
        "format": ["-m", "ruff", "format", "--check"],
        "types": ["-m", "mypy"],
        "tests": ["-m", "pytest", "-q", "-m", "not slow", "tests", "course_utils", "tools"],
    }
    failed = [name for name, step in steps.items() if run(step, env=offline())]
    remind_of_address()
    say("check: " + ("failed in " + ", ".join(failed) if failed else "all good"))
    return 1 if failed else 0


def notebooks(arguments: List[str]) -> int:
    names = [a for a in arguments if not a.startswith("-")]
    failed = run([os.path.join("tools", "notebooks.py"), "build"] + arguments, env=offline())
    failed = failed or run(["-m", "tools.exercises", "build"] + names, env=offline())
    return failed or run(["-m", "tools.readme"])  # the lesson map follows the notebooks


def site(arguments: List[str]) -> int:
    remind_of_address()
    return run(["-m", "tools.site"] + arguments, env=offline())


def remind_of_address() -> None:
    """Say so while the project's address is the one that it came with, and leads nowhere."""
    if re.search('^Repository = "[^"]*" +# a stand-in', project_file(), re.M):
        say(
            "Badges, Colab cells and the README lead to a stand-in for the project's address. "
            "Whoever publishes the course sets it: make address"
        )


def project_file() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def address(arguments: List[str]) -> int:
    failed = run(["-m", "tools.address"] + arguments, env=offline())
    if not failed:  # pyproject.toml is another one now, and asks for the same packages
        stamp_file().write_text(expected_stamp(str(venv_version())))
    return failed


def bench(arguments: List[str]) -> int:
    """Measure what the course states ratios of, training and grading, or only what is named."""
    if arguments and not arguments[0].startswith("-"):
        there = sorted(path.stem for path in ROOT.glob("benchmarks/[!_]*.py"))
        if arguments[0] not in there:
            named = "There is no benchmark {!r}; there are: {}."
            raise Stop(named.format(arguments[0], ", ".join(there)))
        return run(["-m", "benchmarks." + arguments[0]] + arguments[1:], env=offline())
    failed = run(["-m", "benchmarks.training"] + arguments, env=offline())
    if not shutil.which("bwrap"):
        say("Grading is not measured: it needs bubblewrap, and so Linux.")
        return failed
    return run(["-m", "benchmarks.grading"], env=offline()) or failed


# What a processor of 2013 has: no AVX-512 and no bfloat16, in any library that would use them.
OLD_LAPTOP = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def old_laptop(arguments: List[str]) -> int:
    """Execute the lessons and compare their outputs; what is said runs instead, if a file is named.

    Two at a time, each on one thread: what is tried is whether the results hold.
    """
    files = [] if any(a.split("::")[0].endswith(".ipynb") for a in arguments) else ["notebooks"]
    return run(["-m", "pytest", "-n2"] + files + arguments, env=dict(offline(), **OLD_LAPTOP))


def doctor(arguments: List[str]) -> int:
    return run(["-m", "course_utils", "doctor"] + arguments)


def clean(arguments: List[str]) -> int:
    """Delete what tools left behind; nothing that git tracks is named so."""
    if set(arguments) - {"--all"}:
        raise Stop("clean knows only --all, which deletes the environment too.")
    found = [ROOT / name for name in (".pytest_cache", ".mypy_cache", ".ruff_cache", "build")]
    code = ("course_utils", "answer_book", "tools", "tests", "benchmarks")
    for folder in code + ("notebooks", "exercises", "solutions"):
        found += sorted((ROOT / folder).rglob("__pycache__"))
        found += sorted((ROOT / folder).rglob(".ipynb_checkpoints"))
    found += [venv_folder()] if "--all" in arguments else []
    for path in found:
        if path.exists():
            print("deleting " + str(path.relative_to(ROOT)))
            shutil.rmtree(str(path))
    return 0


def env(arguments: List[str]) -> int:
    say("Ready: " + str(venv_python().relative_to(ROOT)))
    return 0


TARGETS = {
    "env": env,
    "lab": lab,
    "test": test,
    "check": check,
    "data": fetch_data,
    "doctor": doctor,
    "notebooks": notebooks,
    "site": site,
    "address": address,
    "bench": bench,
    "old-laptop": old_laptop,
    "clean": clean,
}


def main(arguments: List[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print((__doc__ or "").strip())
        return 0
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in TARGETS:
            raise Stop("There is no target {!r}; there are: {}.".format(name, ", ".join(TARGETS)))
        require_python()
        require_project()
        if name == "lab":
            rest = lab_arguments(rest)  # what cannot start is said before minutes of installing
        if name != "clean":  # which must work when nothing else does
            make_environment()
        return TARGETS[name](rest)
    except Stop as reason:
        print("make.py: {}".format(reason), file=sys.stderr)
        return 1
    except OSError as error:
        print("make.py: {}".format(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake.py: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
