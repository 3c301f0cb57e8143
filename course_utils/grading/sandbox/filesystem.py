"""What files a submission sees: the system and this Python, read-only, and nothing of ours.

Two lists meet here. *Shown* is what an interpreter needs, folder by folder, never a whole prefix: a
project's folder may be its own virtual environment. *Hidden* are the checkout, the answer book,
the submissions and the results, wherever they lie; where one is inside something shown, an empty
read-only disk covers it, and what is shown inside of that is put back on top.
"""

import contextlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from course_utils.grading.sandbox.limits import SandboxError

CACHE = Path("/course/cache")  # where the fetched reviews are, inside
PACKAGE = Path(__file__).resolve().parents[2]
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share")
PYTHON = ("bin", "lib", "lib64", "pyvenv.cfg")
DEVICES = ("null", "random", "urandom")  # not zero: shared memory can be made of it
WRITABLE = ("/tmp", "/home", "/dev/shm")
ANSWERS = ("answer_book",)


def answer_books() -> list[Path]:
    """Return the folders of the answer book, wherever it is installed."""
    found = []
    for name in ANSWERS:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            found += [Path(p).resolve() for p in (spec and spec.submodule_search_locations) or ()]
    return found


def hidden_folders(more: Iterable[str | Path] = ()) -> list[Path]:
    """Return what no submission may see: ours, and `more` (submissions, results).

    In a checkout that is everything beside the package, exercises' solutions among it.
    """
    checkout = PACKAGE.parent
    ours = [checkout if (checkout / "pyproject.toml").exists() else PACKAGE, *answer_books()]
    return list(dict.fromkeys(Path(path).resolve() for path in [*ours, *more]))


def shown_folders() -> dict[Path, Path]:
    """Return what is shown, by its place inside, with its place outside."""
    from course_utils.sources import cache_folder

    places = [Path("/usr", part) for part in SYSTEM]
    for prefix in (sys.base_prefix, sys.prefix):
        places += [Path(prefix, part) for part in PYTHON]
    places += [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    places += [Path("/", part) for part in SYSTEM if not Path("/", part).is_symlink()]
    shown = {place: place for place in places if place.exists()}
    shown[Path("/course", PACKAGE.name)] = PACKAGE
    if cache_folder().is_dir():
        shown[CACHE] = cache_folder()
    return shown


def masks(hidden: Iterable[Path], shown: dict[Path, Path]) -> dict[Path, Path]:
    """Return the places inside at which something hidden would be seen, with their sources.

    Raises
    ------
    SandboxError
        If something hidden is what an interpreter needs.

    Examples
    --------
    >>> masks([Path("/usr/bin"), Path("/var")], {Path("/usr"): Path("/usr")})
    {PosixPath('/usr/bin'): PosixPath('/usr/bin')}
    """
    found = {}
    for secret in hidden:
        for place, source in shown.items():
            source = source.resolve()
            if place.parts[:2] != ("/", "course") and secret == source:
                raise SandboxError(f"{secret} cannot be hidden: Python is there; use another place")
            if secret.is_relative_to(source) and secret != source and secret.exists():
                found[place / secret.relative_to(source)] = secret
    return found


def arguments(hidden: Iterable[Path], disk_bytes: int) -> list[str]:
    """Return bubblewrap's arguments for the files; `disk_bytes` bounds each writable disk."""
    shown = shown_folders()
    covers = masks(hidden, shown)
    found: list[str] = []
    covers = {place: source for place, source in covers.items() if _shows(place, shown, covers)}
    for name in SYSTEM:
        if Path("/", name).is_symlink():
            found += ["--symlink", str(Path("/", name).readlink()), f"/{name}"]
    found += ["--proc", "/proc", "--perms", "0755", "--tmpfs", "/dev"]
    for name in DEVICES:
        found += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    found += ["--symlink", "/proc/self/fd", "/dev/fd"]
    for disk in WRITABLE:
        found += ["--size", str(disk_bytes), "--perms", "1777", "--tmpfs", disk]
    placed: list[Path] = []
    made = {*map(Path, WRITABLE), Path("/dev"), Path("/proc")}
    for place in sorted({*shown, *covers}, key=_depth):
        for parent in list(reversed(place.parents))[1:]:
            around = [other for other in placed if parent.is_relative_to(other)]
            empty = not around or around[-1] in covers  # there is nothing yet to be changed
            if empty and parent not in {*made, *placed}:
                found += ["--dir", str(parent), "--chmod", "0755", str(parent)]
                made.add(parent)
        if place not in covers:
            found += ["--ro-bind", str(shown[place]), str(place)]
        elif covers[place].is_dir():
            found += ["--perms", "0755", "--tmpfs", str(place)]
        else:
            found += ["--ro-bind", "/dev/null", str(place)]
        placed.append(place)
    for place, source in covers.items():
        if source.is_dir():
            found += ["--remount-ro", str(place)]
    found += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    return [*found, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/home"]


def _shows(place: Path, shown: Iterable[Path], covers: Iterable[Path]) -> bool:
    """Return True if something would be seen at a place without its own cover."""
    around = [p for p in (*shown, *covers) if place.is_relative_to(p) and p != place]
    return max(around, key=_depth) not in covers


def make_readable() -> None:
    """Let another user inside read the fetched reviews, which are public data."""
    from course_utils.sources import cache_folder

    with contextlib.suppress(OSError):
        for path in cache_folder().glob("*.tar.gz"):
            path.chmod(path.stat().st_mode | 0o444)


def _depth(path: Path) -> tuple[int, str]:
    return len(path.parts), str(path)
