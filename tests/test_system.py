"""Cores a container leaves us, hashes of files, and files that are whole or as they were."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from course_utils import system
from course_utils.system import sha256, usable_cores, write_atomically
from tests.processes import KILLED, Running, die


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 6}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows have none
    assert usable_cores() == os.cpu_count()


def test_a_hash_is_that_of_the_whole_file(tmp_path):
    content = os.urandom(3_000_001)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_nothing_heavy_is_loaded():
    code = "import sys, course_utils.system; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "psutil", "pooch"}


def test_a_second_file_replaces_the_first_and_leaves_nothing_beside_it(tmp_path):
    for content in (b"first", b"second"):
        write_atomically(tmp_path / "file", lambda file, content=content: file.write(content))
    assert (tmp_path / "file").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_cannot_be_written_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path, error):
    (tmp_path / "file").write_bytes(b"before")

    def half(file):
        file.write(b"the first half")
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "file", half)
    assert (tmp_path / "file").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_it_is_on_disk_before_it_has_the_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(system.os, "fsync", lambda n: (steps.append("disk"), fsync(n)))
    monkeypatch.setattr(system.os, "replace", lambda *p: (steps.append("name"), replace(*p)))
    write_atomically(tmp_path / "file", lambda file: file.write(b"x"))
    assert steps == ["disk", "name"]


def write_and_die(path, where: str) -> None:
    def half(file):
        file.write(b"the first half of it")
        file.flush()
        die()

    if where == "before renaming":
        system.os.replace = die
    write_atomically(path, half if where == "while writing" else lambda file: file.write(b"new"))


@pytest.mark.parametrize("where", ["while writing", "before renaming"])
def test_a_process_that_is_killed_leaves_the_file_as_it_was(tmp_path, where):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    assert Running(write_and_die, path, where).exit_code() == KILLED
    assert path.read_bytes() == b"before"
    write_atomically(path, lambda file: file.write(b"after"))
    assert path.read_bytes() == b"after"


def write_slowly(path, number: int) -> None:
    def write(file):
        for _ in range(200):
            file.write(bytes([number]) * 1000)
            file.flush()

    for _ in range(20):
        write_atomically(path, write)


def test_two_processes_at_once_never_mix(tmp_path):
    path = tmp_path / "file"
    running = [Running(write_slowly, path, number) for number in (1, 2)]
    assert [process.exit_code() for process in running] == [0, 0]
    content = path.read_bytes()
    assert len(content) == 200_000
    assert len(set(content)) == 1
    assert os.listdir(tmp_path) == ["file"]
