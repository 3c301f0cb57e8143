"""The notebook builder, on a project of one small lesson in a temporary folder.

The last tests are the suite's own alarm: they break a lesson in the three ways lessons rot (a
claim's output changes, a cell was never executed, the source was edited and not rebuilt) and
require red.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import notebooks
from tools.notebooks import BuildError, Cost, Pair

SOURCE = """\
# A lesson

**Measured:** not yet

One.

```{code-cell}
x = 1
x
```

Two, which varies.

```{code-cell}
:tags: [nbval-ignore-output]

import psutil
print(object(), psutil.__file__)
```

Three.

```{code-cell}
print("✓ one is less than two")
```
"""


def new_project(root: Path, source: str = SOURCE) -> Pair:
    (root / "notebooks" / "source").mkdir(parents=True)
    shutil.copy(notebooks.ROOT / "jupytext.toml", root)
    pair = Pair(root / "notebooks/source/00_lesson.md", root / "notebooks/00_lesson.ipynb")
    pair.source.write_text(source, encoding="utf-8")
    return pair


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("built") / "course"
    assert notebooks.build(new_project(root), root).startswith("executed")
    return root


@pytest.fixture
def project(built, tmp_path) -> tuple[Path, Pair]:
    """A copy of the built project, free to be broken."""
    root = tmp_path / "course"
    shutil.copytree(built, root)
    return root, notebooks.find_pairs(root)[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8", newline="\n")


def no_execution(*_: object, **__: object) -> Cost:
    raise AssertionError("executed without need")


# -- text and ids, nothing executed -------------------------------------------------------------


def test_hash_follows_code_not_prose(tmp_path):
    pair = new_project(tmp_path)
    text = pair.source.read_text(encoding="utf-8")

    def digest(changed: str) -> str:
        return notebooks.code_hash(notebooks.to_notebook(changed))

    assert digest(text) == digest(text.replace("One.", "First."))
    assert digest(text) != digest(text.replace("x = 1", "x = 2"))


def test_ids_are_kept_and_new_ones_repeat():
    old = notebooks.merge(notebooks.to_notebook(SOURCE), None)
    again = notebooks.merge(notebooks.to_notebook(SOURCE), None)
    assert [cell.id for cell in old.cells] == [cell.id for cell in again.cells]
    longer = SOURCE.replace("Three.", "```{code-cell}\nx\n```\n\nThree.")
    new = notebooks.merge(notebooks.to_notebook(longer), old)
    ids = [cell.id for cell in new.cells]
    assert len(set(ids)) == len(ids)
    assert {cell.id for cell in old.cells} < set(ids)


def test_equal_cells_get_different_ids():
    twice = "# T\n\n```{code-cell}\nx\n```\n\n```{code-cell}\nx\n```\n"
    ids = [cell.id for cell in notebooks.merge(notebooks.to_notebook(twice), None).cells]
    assert len(set(ids)) == 3


def test_round_trip_is_byte_for_byte():
    text = notebooks.to_text(notebooks.to_notebook(SOURCE))
    assert notebooks.to_text(notebooks.to_notebook(text)) == text
    assert "nbval-ignore-output" in text
    assert "jupytext" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\r  0%|   | 0/2\r 50%|█  | 1/2\r100%|██ | 2/2\n", "100%|██ | 2/2\n"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("a\n\nb", "a\n\nb"),
        ("\x1b[A\r 50%\x1b[A\r100%", "100%"),
        ("x\r\r\n", "x\n"),
    ],
)
def test_settle(text, expected):
    assert notebooks.settle(text) == expected


def test_measured_line_rounds_up():
    cost = Cost(minutes=3.96, peak_gb=0.02, cores=2)
    assert str(cost) == "4.0 min and 0.1 GB peak memory on a 2-core CPU"


RESIDENT = "print(psutil.Process().memory_info().rss)"
CHILD = f"import psutil, scipy.linalg; held = bytearray(b'x') * 100_000_000; {RESIDENT}"
PARENT = f"""
import psutil, scipy.linalg, subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD + "; import time; time.sleep(1)"!r}])
{RESIDENT}
"""


def test_memory_of_children_counts_what_they_do_not_share():
    """Parent and child load the same libraries; the child holds 100 MB besides."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        memory = notebooks.PeakMemory(parent.pid, every_s=0.05)
        memory.start()
        child_s, own = map(int, parent.communicate(timeout=60)[0].split())
    memory.done.set()
    memory.join()
    assert own + 100e6 < memory.peak < own + child_s - 10e6


def test_names_select():
    pairs = [Pair(Path(f"source/{n}.md"), Path(f"{n}.ipynb")) for n in ("00_a", "05_b", "05_c")]
    assert notebooks.select(pairs, []) == pairs
    assert notebooks.select(pairs, ["05"]) == pairs[1:]
    assert notebooks.select(pairs, ["notebooks/source/05_b.md"]) == pairs[1:2]
    with pytest.raises(SystemExit, match="07"):
        notebooks.select(pairs, ["07"])


def printed(text: str, *tags: str) -> notebooks.NotebookNode:
    output = new_output("stream", name="stdout", text=text)
    cell = new_code_cell("f()", metadata={"tags": list(tags)}, outputs=[output])
    return new_notebook(cells=[cell])


@pytest.mark.parametrize("folder", [notebooks.ROOT, Path.home(), Path(sys.prefix)])
def test_paths_are_replaced_where_ignored_and_refused_where_compared(folder):
    text = f"from {folder / 'x.py'}\n"
    clean = notebooks.normalise(printed(text, "nbval-ignore-output"))
    assert str(folder) not in clean.cells[0].outputs[0].text
    with pytest.raises(BuildError, match=r"In \[1\] prints a path of this machine"):
        notebooks.normalise(printed(text))


def test_unknown_path_is_refused_everywhere():
    with pytest.raises(BuildError, match="/home/ada/x"):
        notebooks.normalise(printed("from /home/ada/x\n", "nbval-ignore-output"))


@pytest.mark.parametrize("text", ["see https://host.org/home/x", "a/usr/b", "~/x", "and/or"])
def test_what_is_no_path_stays(text):
    assert notebooks.normalise(printed(text)).cells[0].outputs[0].text == text


def test_widget_views_become_words():
    notebook = printed("")
    data = {notebooks.WIDGET_VIEW: {"model_id": "8c1e"}, "text/plain": "interactive(...)"}
    notebook.cells[0].outputs = [new_output("display_data", data)]
    notebook.metadata["widgets"] = {"state": {}}
    clean = notebooks.normalise(notebook)
    assert clean.cells[0].outputs[0].data == {"text/plain": notebooks.WIDGET_TEXT}
    assert "widgets" not in clean.metadata


# -- building -----------------------------------------------------------------------------------


def test_built_notebook_is_clean_and_in_step(built):
    pair = notebooks.find_pairs(built)[0]
    assert notebooks.problems(pair, built) == []
    text = pair.notebook.read_text(encoding="utf-8")
    assert "at 0x..." in text
    assert "<site-packages>/psutil" in text
    for word in ("iopub", "pygments_lexer", str(Path.home()), sys.prefix):
        assert word not in text
    measured = notebooks.MEASURED.findall(pair.source.read_text(encoding="utf-8"))
    assert len(measured) == 1
    assert "GB peak memory on a" in measured[0]
    assert measured[0] in text


def test_second_build_changes_nothing(project, monkeypatch):
    root, pair = project
    monkeypatch.setattr(notebooks, "execute", no_execution)
    before = pair.source.stat().st_mtime_ns, pair.notebook.stat().st_mtime_ns
    assert notebooks.build(pair, root) == "in step"
    assert (pair.source.stat().st_mtime_ns, pair.notebook.stat().st_mtime_ns) == before


def test_prose_edit_keeps_outputs(project, monkeypatch):
    root, pair = project
    monkeypatch.setattr(notebooks, "execute", no_execution)
    edit(pair.source, "One.", "First.")
    assert "kept" in notebooks.build(pair, root)
    assert notebooks.problems(pair, root) == []
    assert "First." in pair.notebook.read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["execution_count", "outputs", "course"])
def test_missing_record_executes(project, monkeypatch, damage):
    root, pair = project
    notebook = notebooks.read_notebook(pair.notebook)
    if damage == "course":
        del notebook.metadata["course"]
    else:
        notebook.cells[1].execution_count = None
        notebook.cells[1].outputs = []
    pair.notebook.write_text(notebooks.to_json(notebook), encoding="utf-8")
    assert notebooks.problems(pair, root)
    monkeypatch.setattr(notebooks, "execute", no_execution)
    with pytest.raises(AssertionError, match="without need"):
        notebooks.build(pair, root)


def fake_execute(edit_meanwhile):
    def execute(notebook, *_):
        for count, cell in enumerate(notebooks.code_cells(notebook), start=1):
            cell.execution_count = count
        edit_meanwhile()
        return Cost(1.0, 1.0, 2)

    return execute


def test_prose_written_while_it_ran_is_kept(project, monkeypatch):
    root, pair = project
    late = fake_execute(lambda: edit(pair.source, "One.", "Written meanwhile."))
    monkeypatch.setattr(notebooks, "execute", late)
    notebooks.build(pair, root, always=True)
    text = pair.source.read_text(encoding="utf-8")
    assert "Written meanwhile." in text
    assert "**Measured:** 1.0 min and 1.0 GB" in text
    assert notebooks.problems(pair, root) == []


def test_code_written_while_it_ran_is_not_claimed_executed(project, monkeypatch):
    root, pair = project
    monkeypatch.setattr(
        notebooks, "execute", fake_execute(lambda: edit(pair.source, "x = 1", "x = 2"))
    )
    before = pair.notebook.read_bytes()
    with pytest.raises(BuildError, match="changed while it ran"):
        notebooks.build(pair, root, always=True)
    assert pair.notebook.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("open('left.txt', 'w').close()", "left left.txt"),
        ("print(__import__('os').getcwd())", "path of this machine"),
        ("import os; os._exit(3)", "failed"),
        ("import time; time.sleep(60)", "ran past"),
    ],
)
def test_failed_build_says_why_and_leaves_files(project, monkeypatch, capsys, cell, message):
    root, pair = project
    edit(pair.source, "x = 1\n", cell + "\nx = 1\n")
    before = pair.source.read_bytes(), pair.notebook.read_bytes()
    run = notebooks.execute
    monkeypatch.setattr(notebooks, "execute", lambda notebook: run(notebook, cell_limit_s=5))
    assert notebooks.main(["build", "--root", str(root)]) == 1
    shown = capsys.readouterr().out
    assert "00_lesson" in shown
    assert message in shown
    assert (pair.source.read_bytes(), pair.notebook.read_bytes()) == before
    assert sorted(os.listdir(root / "notebooks")) == ["00_lesson.ipynb", "source"]


# -- the three ways a lesson rots ---------------------------------------------------------------


def test_check_is_red_when_source_edited(project, capsys):
    root, pair = project
    assert notebooks.main(["check", "--root", str(root)]) == 0
    edit(pair.source, "One.", "First.")
    assert notebooks.main(["check", "--root", str(root)]) == 1
    assert "not rebuilt" in capsys.readouterr().out


def test_check_is_red_when_never_executed(project):
    root, pair = project
    notebook = notebooks.read_notebook(pair.notebook)
    notebook.cells[5].execution_count, notebook.cells[5].outputs = None, []
    pair.notebook.write_text(notebooks.to_json(notebook), encoding="utf-8")
    assert any("counts" in problem for problem in notebooks.problems(pair, root))


def test_check_is_red_when_code_changed_in_both(project):
    """An edit made in JupyterLab and saved to both files, but not executed."""
    root, pair = project
    edit(pair.source, "x = 1", "x = 2")
    edit(pair.notebook, "x = 1", "x = 2")
    assert notebooks.problems(pair, root) == ["its code changed after its outputs were made"]


def test_check_is_red_when_half_is_missing(project):
    root, pair = project
    pair.source.unlink()
    assert "missing" in notebooks.problems(pair, root)[0]


def run_nbval(root: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest on the small project with this project's own settings."""
    (root / "tests").mkdir()
    for name in ("pyproject.toml", "conftest.py", "tests/nbval_sanitize.cfg"):
        shutil.copy(notebooks.ROOT / name, root / name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-n0", "notebooks"]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_nbval_is_green_on_a_good_lesson(project):
    root, _ = project
    result = run_nbval(root)
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


@pytest.mark.slow
def test_nbval_is_red_when_a_claim_changes(project):
    root, pair = project
    edit(pair.notebook, '"✓ one is less than two\\n"', '"✓ one is less than three\\n"')
    result = run_nbval(root)
    assert result.returncode == 1, result.stdout
    assert "Cell outputs differ" in result.stdout
    assert "1 failed, 2 passed" in result.stdout
