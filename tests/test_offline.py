"""After set-up the network may go: the course runs where there are no network interfaces.

Stronger than ``HF_HUB_OFFLINE=1``, which asks libraries not to call: in a network namespace of its
own a process has nothing to call through. (Linux only; skipped, with a line, where a system does
not permit namespaces.) By default the cheapest lesson runs; ``COURSE_OFFLINE_ALL=1`` runs them all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import measured_minutes
from course_utils.decoders import prepare
from course_utils.sources import REVIEWS, fetch

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"), key=measured_minutes)
CHOSEN = LESSONS if os.environ.get("COURSE_OFFLINE_ALL") else LESSONS[:1]

# Brings the loopback up, which the kernel's sockets need, and proves that nothing else is there.
ALONE = """
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41
fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP_RUNNING))
assert [name for _, name in socket.if_nameindex()] == ["lo"]
try:
    socket.create_connection(("192.0.2.1", 80), 5)
except OSError as error:
    print("cut:", error)
else:
    raise SystemExit("the network is not cut")
"""
LIBRARY = """
import course_utils
from course_utils import datasets, decoders, models
corpus = datasets.load_corpus("movies")
model = models.load_encoder()
tokenizer = models.load_tokenizer()
model(**tokenizer("a fine film", return_tensors="pt"))
decoder, tokenizer = decoders.load_decoder()
decoder(**tokenizer("a fine film", return_tensors="pt"))
print("loaded")
"""
LESSON = """
import sys, tempfile
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
with tempfile.TemporaryDirectory() as folder:
    NotebookClient(
        notebook, timeout=1500, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
print("ran", sum(cell.cell_type == "code" for cell in notebook.cells), "cells")
"""


def run_alone(code: str, *arguments: str) -> str:
    """Run Python where there is no network; returns what it printed."""
    # Students do not set HF_HUB_OFFLINE: without it, nothing may reach out either.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_HUB_OFFLINE")}
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-c", ALONE + code]
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=1700
    )
    assert done.returncode == 0, done.stderr
    assert "cut: " in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def set_up() -> None:
    """What ``make lab`` does before it opens a lesson; and a look whether namespaces work here."""
    if shutil.which("unshare") is None:
        pytest.skip("no `unshare` here: cutting the network needs Linux")
    probe = ["unshare", "--map-root-user", "--net", "true"]
    done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"network namespaces are not permitted here: {done.stderr.strip()}")
    fetch(REVIEWS)
    prepare()


@pytest.mark.slow
def test_library_loads_data_and_model(set_up):
    assert "loaded" in run_alone(LIBRARY)


@pytest.mark.slow
@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: path.stem)
def test_lesson_runs(set_up, path):
    assert "ran" in run_alone(LESSON, str(path))


@pytest.mark.slow
def test_a_download_would_be_noticed(set_up):
    """The alarm itself: code that does reach for the network fails here."""
    reach = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=5)"
    with pytest.raises(AssertionError, match="unreachable"):
        run_alone(reach)
