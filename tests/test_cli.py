"""The `course` command as a person types it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from course_utils.decoders import COPY, prepare
from course_utils.sources import DECODER, REVIEWS, SOURCES, cache_folder, fetch
from course_utils.system import sha256

HEAVY = {"torch", "transformers", "matplotlib", "sklearn", "scipy", "pandas"}


@pytest.fixture(scope="session")
def archive() -> Path:
    """The archive of this machine, fetched if it must be; the tests only read it."""
    return fetch(REVIEWS)


def course(*arguments: str, cache: Path | None = None, **environment: str):
    """Run ``python -m course_utils`` and return the finished process."""
    environment |= {"COURSE_CACHE": str(cache or cache_folder())}
    return subprocess.run(
        [sys.executable, "-m", "course_utils", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules imported while a command runs."""
    command = [sys.executable, "-X", "importtime", "-m", "course_utils", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    names = re.findall(r"^import time:[ \d]+\|[ \d]+\|\s+([\w.]+)$", result.stderr, re.M)
    return {name.split(".")[0] for name in names}


def one_line(text: str) -> str:
    """What went wrong, which is one line and no traceback."""
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if not line.startswith("fetching")]
    assert len(lines) == 1, text
    return lines[0]


def test_help_names_the_commands_and_loads_nothing_heavy():
    shown = course("--help")
    assert shown.returncode == 0
    assert {"doctor", "data"} <= set(shown.stdout.split())
    loaded = loaded_by("--help")
    assert "argparse" in loaded  # the listing was read correctly
    assert not loaded & (HEAVY | {"numpy", "pooch"})


def test_the_data_command_needs_no_torch(archive):
    loaded = loaded_by("data")
    assert "pooch" in loaded
    assert not loaded & HEAVY


def test_installed_as_course():
    if re.search(r'["$`\\]', sys.prefix):
        pytest.skip("pip's launchers do not run from such a folder; python -m course_utils does")
    script = Path(sysconfig.get_path("scripts")) / f"course{'.exe' if os.name == 'nt' else ''}"
    shown = subprocess.run([str(script), "--help"], capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0
    assert shown.stdout == course("--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [(), ("fly",), ("data", "--from"), ("data", "--list", "--from", "x"), ("doctor", "--yaml")],
)
def test_a_command_that_cannot_be_understood(arguments):
    shown = course(*arguments)
    assert shown.returncode == 2
    assert shown.stderr.startswith("usage: course")
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--timeout", "inf", "at most 1,000,000"),
        ("--timeout", "1e300", "at most 1,000,000"),
        ("--timeout", "nan", "must be above 0"),
        ("--memory", "inf", "at most 1,000,000"),
        ("--seed", "0", "that of the cases students see"),
        ("--seed", "-5", "above 0"),
        ("--seed", "1.5", "whole number above 0"),
        ("--jobs", "-1", "above 0"),
    ],
)
def test_numbers_that_would_spoil_every_row_are_refused(option, value, words, tmp_path):
    """With the seed 0 the hidden cases are those in the notebook; none of the others can be."""
    shown = course("grade", tmp_path, "--lesson", "01", "--out", tmp_path / "x", option, value)
    assert shown.returncode == 2
    assert words in shown.stderr


def test_data_lists_what_is_cached(archive):
    shown = course("data")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""  # nothing to fetch, nothing to say about fetching
    assert re.search(r"movies +10,605 +10,605 +entities in 22, white space in 625", shown.stdout)
    assert re.search(r"tweets +4,200 ", shown.stdout)
    assert re.search(r"amazon +3,708 +300 ", shown.stdout)
    assert re.search(r"nyt +5,190 +498 ", shown.stdout)
    assert sha256(archive) in shown.stdout
    assert str(archive.parent) in shown.stdout
    assert course("data", "--list").stdout == shown.stdout


def test_list_fetches_nothing(tmp_path):
    shown = course("data", "--list", cache=tmp_path / "cache")
    assert shown.returncode == 1
    assert "course data" in one_line(shown.stderr)
    assert not (tmp_path / "cache").exists()


def test_copies_brought_along(archive, tmp_path):
    """No network: pip is pointed to an address where nothing answers."""
    decoder, converted = fetch(DECODER), prepare()
    copy = tmp_path / "from a stick.tar.gz"
    copy.write_bytes(archive.read_bytes())
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    cache = tmp_path / "cache"
    shown = course("data", "--from", str(copy), cache=cache, **nowhere)
    assert shown.returncode == 1  # it was taken, and the rest is named
    missing = ", ".join(source.name for source in SOURCES if source is not REVIEWS)
    assert f"cache yet: {missing}. Run" in shown.stderr.splitlines()[-1]
    all_of_it = [str(copy), *(str(fetch(source)) for source in SOURCES if source is not REVIEWS)]
    shutil.copytree(converted, cache / COPY)  # as the second file alone would have it made
    shown = course("data", "--from", *all_of_it, cache=cache, **nowhere)
    assert shown.returncode == 0, shown.stderr
    assert "fetching" in shown.stderr
    assert str(copy) in shown.stderr
    assert str(decoder) in shown.stderr
    assert "10,605" in shown.stdout
    assert sha256(tmp_path / "cache" / REVIEWS.file) == sha256(archive)
    assert sha256(cache / DECODER.file) == DECODER.sha256
    assert course("data", cache=cache, **nowhere).returncode == 0


@pytest.mark.parametrize("kind", ["missing", "truncated", "another file", "a folder"])
def test_a_bad_copy_is_one_clear_line(kind, archive, tmp_path):
    copy, cache = tmp_path / "copy.tar.gz", tmp_path / "cache"
    if kind == "truncated":
        copy.write_bytes(archive.read_bytes()[:100_000])
    elif kind == "another file":
        with tarfile.open(copy, "w:gz") as file:
            file.add(__file__, "test_cli.py")
    elif kind == "a folder":
        copy.mkdir()
    shown = course("data", "--from", str(copy), cache=cache)
    assert shown.returncode == 1
    assert shown.stdout == ""
    assert "copy.tar.gz" in one_line(shown.stderr)
    assert not (cache / REVIEWS.file).exists()


def test_a_cache_that_cannot_be_made(archive, tmp_path):
    """A file where the folder should be: refused for every user, root included."""
    (tmp_path / "file").write_text("in the way")
    shown = course("data", "--from", str(archive), cache=tmp_path / "file" / "cache")
    assert shown.returncode == 1
    assert "COURSE_CACHE" in one_line(shown.stderr)


def test_no_network_and_no_copy(tmp_path):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    shown = course("data", cache=tmp_path, **nowhere)
    assert shown.returncode == 1
    assert "Traceback" not in shown.stderr
    assert "course data --from FILE" in shown.stderr.splitlines()[-1]
    assert not (tmp_path / REVIEWS.file).exists()


def test_doctor_for_machines(archive):
    shown = course("doctor", "--json")
    content = json.loads(shown.stdout)
    assert shown.returncode == 0, shown.stdout
    assert content["ready"] is True
    names = {check["name"] for check in content["checks"]}
    assert {
        "python",
        "torch",
        "place",
        "device",
        "threads",
        "memory",
        "data",
        "encoder",
        "decoder",
    } <= names
    assert all(set(c) == {"name", "status", "detail", "remedy"} for c in content["checks"])


def test_doctor_in_words_without_data(tmp_path):
    """A lesson could not run, so the exit code is 1; the line after it says what to do."""
    shown = course("doctor", cache=tmp_path / "cache")
    assert shown.returncode == 1
    assert shown.stderr == ""
    assert re.search(r"^ok +torch +\d", shown.stdout, re.M)
    for name in ("data", "decoder"):
        assert re.search(rf"^failed +{name} +.*\n +-> course data", shown.stdout, re.M)
    needed = [source for source in SOURCES if not source.optional]
    assert f"{len(needed)} failed" in shown.stdout.splitlines()[-1]
    assert re.search(r"^warning +data +film ratings: .*\n +-> course data", shown.stdout, re.M)
    assert not (tmp_path / "cache").exists()  # it looked, and left nothing
