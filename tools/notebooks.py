"""Build the notebooks students open from the text that is edited and reviewed.

A lesson is written as MyST Markdown, ``notebooks/source/NN_topic.md``; what students open is
``notebooks/NN_topic.ipynb``, with outputs. (``solutions/`` works the same way.)

    python tools/notebooks.py build               # whatever changed
    python tools/notebooks.py build 01 05 --all   # these two, executed again even if unchanged
    python tools/notebooks.py check               # is everything in step? changes nothing

*build* executes a notebook only when its code changed since the last execution; an edit to the
prose keeps the outputs. It writes the measured minutes and memory into the lesson's
``**Measured:**`` line. A notebook that fails leaves the files on disk as they were.

Students' notebooks also get a badge and a cell for Google Colab (`with_colab`). They are in no
source and in no hash, and are not executed here: the builder takes them off when it reads a
notebook and puts them on when it writes one.

jupytext converts, nbclient executes, nbstripout strips. What is left to this file is the order of
things, the measurement, and making outputs the same on every machine.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import os
import re
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import psutil
from jupytext.combine import combine_inputs_with_outputs
from jupytext.config import load_jupytext_configuration_file
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbstripout import strip_output

from course_utils.system import usable_cores, write_atomically

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("notebooks", "solutions")
FORMAT = "md:myst"
CORES = 2  # the machine every budget in the course is stated for
CELL_LIMIT_S = 600
MEASURED = re.compile(r"^\*\*Measured:\*\*.*$", re.MULTILINE)
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
COLAB_OPENS = "https://colab.research.google.com/github"
COLAB = "colab"  # the tag of the two cells that are for Colab
COLAB_BADGE = "[![Open in Colab]({root}docs/images/open-in-colab.svg)]({link})\n"
COLAB_TEXT = """\
The next cell fetches the course when you are in Google Colab. Anywhere else it does nothing."""
COLAB_CODE = """\
from importlib.util import find_spec

if find_spec("google") and find_spec("google.colab"):
    import subprocess
    import sys

    course = "git+{address}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    done = subprocess.run([*pip, course], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not fetch the course. Its reason:\\n{{done.stderr}}")
    from course_utils.colab import prepare

    prepare()"""
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_TEXT = "(an interactive widget: run this cell to use it)"
# Cells whose output nbval runs but does not compare.
UNCOMPARED_TAGS = {"nbval-ignore-output", "raises-exception"}
# An absolute path with a first folder that only a particular machine has.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/<>~-])/(?:home|root|Users|tmp|private|var|opt|usr|mnt|srv|nix|workspace|content)"
    r"(?:/[^\s'\"),:;\x1b]+)+|\b[A-Za-z]:\\{1,2}Users\\{1,2}\S+"
)
CURSOR_MOVES = re.compile(r"\x1b\[\d*[A-HJKST]")
COLOURS = re.compile(r"\x1b\[[\d;]*m")


class BuildError(Exception):
    """A notebook could not be built; the message says which cell, and why."""


@dataclass(frozen=True)
class Pair:
    """A text source and the notebook made from it."""

    source: Path
    notebook: Path

    @property
    def name(self) -> str:
        return f"{self.notebook.parent.name}/{self.notebook.stem}"


@dataclass(frozen=True)
class Cost:
    """What one execution took: wall-clock minutes, and the peak memory in GB."""

    minutes: float
    peak_gb: float
    cores: int

    def __str__(self) -> str:
        # Rounded up, so that a budget read from this line is never flattered.
        return (
            f"{max(0.1, self.minutes + 0.049):.1f} min and {max(0.1, self.peak_gb + 0.049):.1f} GB"
            f" peak memory on a {self.cores}-core CPU"
        )


# -- text and notebook --------------------------------------------------------------------------


def find_pairs(root: Path = ROOT) -> list[Pair]:
    """All (source, notebook) pairs under `root`, also where one of the two is missing."""
    pairs = []
    for folder in (root / name for name in FOLDERS):
        names = {path.stem for path in folder.glob("source/*.md")}
        names |= {path.stem for path in folder.glob("*.ipynb")}
        pairs += [Pair(folder / "source" / f"{n}.md", folder / f"{n}.ipynb") for n in sorted(names)]
    return pairs


def to_notebook(text: str, root: Path = ROOT) -> NotebookNode:
    """A notebook without outputs, from MyST text."""
    config = load_jupytext_configuration_file(str(root / "jupytext.toml"))
    notebook = jupytext.reads(text, fmt=FORMAT, config=config)
    notebook.metadata = NotebookNode(kernelspec=dict(KERNEL), language_info={"name": "python"})
    return notebook


def to_text(notebook: NotebookNode, root: Path = ROOT) -> str:
    """The MyST text of a notebook; outputs are left out."""
    config = load_jupytext_configuration_file(str(root / "jupytext.toml"))
    # A copy: jupytext drops metadata from what it is given.
    text: str = jupytext.writes(copy.deepcopy(notebook), fmt=FORMAT, config=config)
    return text.rstrip("\n") + "\n"


def to_json(notebook: NotebookNode) -> str:
    """The bytes that are committed: one line of text per line of JSON, so that diffs are short."""
    text: str = nbformat.writes(notebook, version=4)
    return text.rstrip("\n") + "\n"


def read_notebook(path: Path) -> NotebookNode:
    """The notebook in a file, without the cells for Colab."""
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    notebook.cells = [cell for cell in notebook.cells if COLAB not in tags(cell)]
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The course's own code cells: not the one for Colab."""
    return [c for c in notebook.cells if c.cell_type == "code" and COLAB not in tags(c)]


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


# -- the cells for Colab ------------------------------------------------------------------------


def repository(root: Path = ROOT) -> str | None:
    """The project's address, which stands in ``pyproject.toml`` only; None without one."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return None
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    address: str | None = project.get("urls", {}).get("Repository")
    return address


def on_github(address: str) -> bool:
    """True where Colab can open notebooks from."""
    return address.startswith("https://github.com/")


def with_colab(notebook: NotebookNode, path: str, root: Path = ROOT) -> NotebookNode:
    """A copy of a notebook with a badge and a cell for Colab behind its first cell.

    Solutions get none: they are for instructors, who have a checkout. Colab opens notebooks from
    GitHub only, so there is no badge if the project lies elsewhere.

    Parameters
    ----------
    path : str
        Where the notebook lies in the repository, such as ``notebooks/01_gradients.ipynb``.
    """
    copied = copy.deepcopy(notebook)
    address = repository(root)
    if address is None or path.startswith("solutions/"):
        return copied
    link = f"{address.replace('https://github.com', COLAB_OPENS)}/blob/main/{path}"
    badge = COLAB_BADGE.format(root="../" * path.count("/"), link=link)
    metadata = {"tags": [COLAB]}
    # Folded in Colab and in JupyterLab: who is not there yet need not read it.
    folded = metadata | {"cellView": "form", "jupyter": {"source_hidden": True}}
    text = (badge if on_github(address) else "") + COLAB_TEXT
    cells = [
        nbformat.v4.new_markdown_cell(text, id="colab-badge", metadata=metadata),
        nbformat.v4.new_code_cell(
            COLAB_CODE.format(address=address), id="colab-setup", metadata=folded
        ),
    ]
    copied.cells[1:1] = [NotebookNode(cell) for cell in cells]
    return copied


def code_hash(notebook: NotebookNode) -> str:
    """Identity of the code alone, so that an edit to the prose does not cost an execution."""
    sources = json.dumps([cell.source for cell in code_cells(notebook)])
    return hashlib.sha256(sources.encode()).hexdigest()


def merge(fresh: NotebookNode, old: NotebookNode | None) -> NotebookNode:
    """`fresh`, with the outputs and cell ids of `old` where a cell is still the same one.

    A new cell's id is a hash of its source, so that two machines build the same bytes.
    """
    known = {cell.id for cell in old.cells} if old is not None else set()
    if old is not None:
        metadata = NotebookNode(fresh.metadata | {"course": old.metadata.get("course", {})})
        fresh = combine_inputs_with_outputs(fresh, old, fmt=FORMAT)
        fresh.metadata = metadata
    taken: set[str] = set()
    for cell in fresh.cells:
        if cell.id not in known or cell.id in taken:
            n = 0
            while n == 0 or cell.id in taken | known:
                cell.id = hashlib.sha256(f"{cell.source}{n or ''}".encode()).hexdigest()[:8]
                n += 1
        taken.add(cell.id)
    return fresh


# -- outputs that are the same on every machine -------------------------------------------------


def local_paths(root: Path) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of this machine's folders, longest first, and what to write instead."""
    names = {
        sysconfig.get_path("purelib"): "<site-packages>",
        sysconfig.get_path("platlib"): "<site-packages>",
        sysconfig.get_path("stdlib"): "<python>",
        sys.prefix: "<python>",
        sys.base_prefix: "<python>",
        tempfile.gettempdir(): "<temp>",
        str(root): "<course>",
        str(Path.home()): "~",
    }
    names |= {str(Path(path).resolve()): name for path, name in names.items()}
    names.pop("/", None)  # the home folder of some containers
    ordered = sorted(names.items(), key=lambda item: -len(item[0]))
    # Not inside a longer path, and not a mere prefix of another folder's name.
    return [
        (re.compile(rf"(?<![\w.:/]){re.escape(path)}(?![\w.-])"), name) for path, name in ordered
    ]


def settle(text: str) -> str:
    """What a terminal shows in the end: a progress bar's last state, not its hundreds of steps.

    >>> settle("start\\n\\r 10%\\r 50%\\r100%\\ndone\\n")
    'start\\n100%\\ndone\\n'
    """
    lines = CURSOR_MOVES.sub("", text).split("\n")
    kept = [next((part for part in reversed(ln.split("\r")) if part.strip()), "") for ln in lines]
    return "\n".join(kept)


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """One output per run of writes to the same stream; the kernel cuts them at random."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def normalise(notebook: NotebookNode, root: Path = ROOT) -> NotebookNode:
    """Remove what differs between two correct executions. Changes and returns `notebook`.

    Raises
    ------
    BuildError
        A path of this machine is printed where nbval compares the output.
    """
    notebook = strip_output(
        notebook,
        keep_output=True,
        keep_count=True,
        keep_id=True,
        extra_keys=["metadata.widgets", "cell.metadata.execution", "cell.metadata.collapsed"],
    )
    notebook.metadata["language_info"] = {"name": "python"}
    patterns = local_paths(root)
    for number, cell in enumerate(code_cells(notebook), start=1):
        cell.outputs = merge_streams(cell.outputs)
        for output in cell.outputs:
            before = json.dumps(output)
            _normalise_output(output, patterns)
            scrubbed = json.dumps(output)
            leaked = any(pattern.search(before) for pattern, _ in patterns)
            if found := MACHINE_PATH.search(text_of(output)):
                raise BuildError(f"In [{number}] prints a path of this machine: {found[0]}")
            if leaked and before != scrubbed and not tags(cell) & UNCOMPARED_TAGS:
                raise BuildError(
                    f"In [{number}] prints a path of this machine, and its output is compared.\n"
                    f"Print something else, or tag the cell nbval-ignore-output.\n{scrubbed[:400]}"
                )
    return notebook


def _normalise_output(output: NotebookNode, patterns: list[tuple[re.Pattern[str], str]]) -> None:
    def clean(text: str) -> str:
        # A traceback's colour codes end in a letter, which would hide where a path begins.
        codes, pieces = COLOURS.findall(text), COLOURS.split(text)
        for pattern, name in patterns:
            pieces = [pattern.sub(name, piece) for piece in pieces]
        text = "".join(piece + code for piece, code in zip(pieces, [*codes, ""], strict=True))
        return re.sub(r"\bat 0x[0-9a-fA-F]+", "at 0x...", text)

    if output.output_type == "stream":
        output.text = clean(settle(output.text))
    elif output.output_type == "error":
        output.traceback = [clean(line) for line in output.traceback]
        output.evalue = clean(output.evalue)
    else:
        # Without its state, which is megabytes of random ids, a saved view shows nothing.
        if output.data.pop(WIDGET_VIEW, None) is not None:
            output.data["text/plain"] = WIDGET_TEXT
        for kind, value in output.data.items():
            if isinstance(value, str) and not kind.startswith("image/"):
                output.data[kind] = clean(value)


def text_of(output: NotebookNode) -> str:
    """Everything in an output that a person reads as text, without its colours."""
    parts = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    data = output.get("data", {})
    parts += [v for k, v in data.items() if isinstance(v, str) and not k.startswith("image/png")]
    return COLOURS.sub("", "\n".join(parts))


# -- execution ----------------------------------------------------------------------------------


@contextlib.contextmanager
def two_cores() -> Iterator[int]:
    """Hold this process, and the kernels it starts, to the cores the budgets are stated for."""
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows: measured on what there is
        yield usable_cores()
        return
    before = os.sched_getaffinity(0)
    chosen = set(sorted(before)[:CORES])
    os.sched_setaffinity(0, chosen)
    try:
        yield len(chosen)
    finally:
        os.sched_setaffinity(0, before)


class PeakMemory(threading.Thread):
    """Samples the memory of a process and its children until stopped.

    What is resident of the process, and of each child what it alone holds: the libraries that they
    share are counted once.
    """

    def __init__(self, pid: int, every_s: float = 0.1) -> None:
        super().__init__(daemon=True)
        self.process, self.every_s, self.peak = psutil.Process(pid), every_s, 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(self.every_s):
            with contextlib.suppress(psutil.NoSuchProcess):
                held = self.process.memory_info().rss
                for child in self.process.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        try:
                            held += child.memory_full_info().uss
                        except psutil.AccessDenied:  # macOS, for some processes
                            held += child.memory_info().rss
                self.peak = max(self.peak, held)


def kernel_environment() -> dict[str, str]:
    """Offline, on the CPU, drawing into the notebook: what the committed outputs stand for."""
    remove = {"MPLBACKEND", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    kept = {key: value for key, value in os.environ.items() if key not in remove}
    return kept | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "-1"}


def execute(notebook: NotebookNode, cell_limit_s: float = CELL_LIMIT_S) -> Cost:
    """Run all cells in a fresh kernel and an empty folder, filling in the outputs.

    Raises
    ------
    BuildError
        A cell failed or took too long, the kernel died, or files were left in the folder.
    """
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    with two_cores() as cores, tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=cell_limit_s,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
        )
        start, number = time.monotonic(), 0
        try:
            with client.setup_kernel(cwd=folder, env=kernel_environment()):
                memory = PeakMemory(_pid(client))
                memory.start()
                for index, cell in enumerate(notebook.cells):
                    number += cell.cell_type == "code"
                    client.execute_cell(cell, index)
                memory.done.set()
                memory.join()
        except CellTimeoutError as error:
            raise BuildError(
                f"In [{number}] ran past {cell_limit_s:g} s:\n{cell.source}"
            ) from error
        except (CellExecutionError, DeadKernelError) as error:
            raise BuildError(f"In [{number}] failed:\n{COLOURS.sub('', str(error))}") from error
        minutes = (time.monotonic() - start) / 60
        if litter := sorted(os.listdir(folder)):
            raise BuildError(
                f"The lesson left {', '.join(litter)} in its working folder, which students run"
                " from. Write into a tempfile.TemporaryDirectory() instead."
            )
    return Cost(minutes, memory.peak / 1e9, cores)


def _pid(client: NotebookClient) -> int:
    provisioner: Any = client.km.provisioner if client.km else None
    return int(provisioner.pid)


# -- the two commands ---------------------------------------------------------------------------


def write_if_changed(path: Path, text: str) -> None:
    """Replace `path` whole or not at all; leave it, and its time, alone when equal."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))


def _place(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def needs_execution(notebook: NotebookNode) -> bool:
    """True when the code changed since the last execution, or its record is incomplete."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    recorded = notebook.metadata.get("course", {}).get("code_sha256")
    return recorded != code_hash(notebook) or counts != list(range(1, len(counts) + 1))


def build(pair: Pair, root: Path = ROOT, always: bool = False) -> str:
    """Bring one notebook in step with its source. Returns what was done, in words."""
    if not pair.source.exists():
        raise BuildError(f"There is no source {pair.source.relative_to(root)}.")
    text = pair.source.read_text(encoding="utf-8")
    old = read_notebook(pair.notebook) if pair.notebook.exists() else None
    notebook = merge(to_notebook(text, root), old)
    done = "in step"
    if always or needs_execution(notebook):
        if len(MEASURED.findall(text)) > 1:
            raise BuildError("More than one line begins with **Measured:**; keep the header's.")
        cost = execute(notebook)
        # Minutes have passed: the author may have gone on writing.
        text = pair.source.read_text(encoding="utf-8")
        if code_hash(to_notebook(text, root)) != code_hash(notebook):
            raise BuildError("The source's code changed while it ran. Build again.")
        text = MEASURED.sub(f"**Measured:** {cost}", text)
        notebook = merge(to_notebook(text, root), notebook)
        notebook.metadata["course"] = {"code_sha256": code_hash(notebook)}
        done = f"executed, {cost}"
    notebook = normalise(notebook, root)
    nbformat.validate(notebook)
    content = to_json(with_colab(notebook, _place(pair.notebook, root), root))
    known = pair.notebook.read_text(encoding="utf-8") if pair.notebook.exists() else None
    if done == "in step" and content != known:
        done = "prose changed, outputs kept"
    write_if_changed(pair.notebook, content)
    write_if_changed(pair.source, to_text(notebook, root))
    return done


def problems(pair: Pair, root: Path = ROOT) -> list[str]:
    """Why this pair is not in step; empty when it is. Reads only.

    Not left to nbval: there, a cell that was never executed passes.
    """
    for path in (pair.source, pair.notebook):
        if not path.exists():
            return [f"{path.relative_to(root)} is missing"]
    notebook = read_notebook(pair.notebook)
    cells = code_cells(notebook)
    found = []
    if to_text(notebook, root).encode() != pair.source.read_bytes():
        found.append("the source was edited and the notebook not rebuilt (or the other way round)")
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("not executed from top to bottom in a fresh kernel: counts are not 1, 2, 3...")
    if notebook.metadata.get("course", {}).get("code_sha256") != code_hash(notebook):
        found.append("its code changed after its outputs were made")
    for number, cell in enumerate(cells, start=1):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed and "raises-exception" not in tags(cell):
            found.append(f"In [{number}] holds an error and is not tagged raises-exception")
    try:
        shown = with_colab(normalise(notebook, root), _place(pair.notebook, root), root)
        if to_json(shown) != pair.notebook.read_text(encoding="utf-8"):
            found.append("its outputs are not normalised, or its cells for Colab not the tool's")
    except BuildError as error:
        found.append(str(error))
    return found


def select(pairs: list[Pair], names: list[str]) -> list[Pair]:
    """Pairs whose name begins with one of `names` (``05``, ``05_fine``, a path); all if none."""
    stems = [Path(name).stem for name in names]
    for stem in stems:
        if not any(pair.notebook.stem.startswith(stem) for pair in pairs):
            raise SystemExit(f"No notebook's name begins with {stem!r}.")
    return [p for p in pairs if not stems or p.notebook.stem.startswith(tuple(stems))]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=["build", "check"])
    parser.add_argument("names", nargs="*", help="such as 05 or 05_fine_tuning_bert; all if none")
    parser.add_argument("--all", action="store_true", help="execute also what did not change")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    failed = 0
    for pair in select(find_pairs(root), options.names):
        print(f"{pair.name:<36}", end="", flush=True)
        try:
            if options.command == "check":
                result = "; ".join(problems(pair, root))
                failed += bool(result)
            else:
                result = build(pair, root, always=options.all)
        except BuildError as error:
            failed += 1
            result = f"FAILED, left as it was\n{error}"
        print(result or "in step", flush=True)
    if failed:
        print(f"{failed} notebook(s) need attention.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
