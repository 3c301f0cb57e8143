"""What lesson 14 starts and writes itself: its services end with it; its queue mixes up nobody."""

from __future__ import annotations

import queue
import re
import threading
import time
from concurrent.futures import Future

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.serving import SECONDS, tiny_artefact, wait_until
from tools.notebooks import ROOT, code_cells, to_notebook

SOURCE = (ROOT / "notebooks" / "source" / "14_deployment.md").read_text(encoding="utf-8")
CELLS = [cell.source for cell in code_cells(to_notebook(SOURCE))]
START = """
import tempfile
from pathlib import Path
workplace = tempfile.TemporaryDirectory()
"""


def cell_with(text: str) -> str:
    [found] = [cell for cell in CELLS if text in cell]
    return found


# -- services -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("net", [r'"--with-parent", ', r"    atexit\.register\(.*\n"])
def test_a_service_ends_with_the_notebook_though_a_cell_fails(net, tmp_path):
    """Each of the two nets by itself: the other one is cut."""
    cell, cut = re.subn(net, "", cell_with("def serve("))
    assert cut == 1
    folder = tiny_artefact(tmp_path)
    cells = [
        START,
        cell,
        f"process, url = serve({str(folder)!r})\nprint(process.pid, url)",
        "1 / 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    client = NotebookClient(
        notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}
    )
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        client.execute()
    number, address = notebook.cells[2].outputs[0].text.split()
    assert address.startswith("http://127.0.0.1:")  # it did listen
    wait_until(lambda: not psutil.pid_exists(int(number)), SECONDS)


def test_every_service_is_started_by_the_one_function():
    assert [cell.count("Popen(") for cell in CELLS if "Popen(" in cell] == [1]


# -- the queue ----------------------------------------------------------------------------------


@pytest.fixture
def batcher():
    space = {"queue": queue, "threading": threading, "Future": Future, "time": time}
    exec(cell_with("class Batcher"), space)
    return space["Batcher"]


def test_each_client_of_the_queue_gets_its_own_answer(batcher):
    seen = []

    def lengths(texts):
        seen.append(len(texts))
        return [len(text) for text in texts]

    made = batcher(lengths, batch=4, wait=0.2)
    futures = [made.submit("x" * n) for n in range(10)]
    assert [future.result(SECONDS) for future in futures] == list(range(10))
    assert max(seen) <= 4
    assert sum(seen) == 10


def test_the_queue_counts_the_wait_since_the_first_came(batcher):
    """Who came while the model was busy is not kept waiting once more."""
    may_go, began = threading.Event(), []

    def slow(texts):
        began.append((list(texts), time.monotonic()))
        may_go.wait(SECONDS)
        return list(texts)

    made = batcher(slow, batch=2, wait=1.0)
    first = [made.submit("a"), made.submit("b")]
    wait_until(lambda: bool(began), SECONDS)
    alone = made.submit("c")
    time.sleep(1.2)  # longer than it may be made to wait
    free = time.monotonic()
    may_go.set()
    assert [f.result(SECONDS) for f in [*first, alone]] == ["a", "b", "c"]
    assert began[1][0] == ["c"]
    assert began[1][1] - free < 0.9
