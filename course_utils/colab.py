"""Make a Google Colab runtime ready, and leave alone what it ships.

The first code cell of every notebook installs this library there, without its dependencies, and
calls `prepare`. Colab has PyTorch, NumPy and transformers already, matched to its GPU driver and
partly loaded before the first cell runs. Replacing one breaks the others or asks for a restart, so
nothing that is installed is touched: what is missing is added alone, what is too old is named.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata

from course_utils.doctor import COURSE, Check, check_packages


def installed_commit() -> str:
    """Return the commit that pip installed the course from; empty for any other installation."""
    try:
        origin = metadata.distribution(COURSE).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        origin = None
    commit: str = json.loads(origin or "{}").get("vcs_info", {}).get("commit_id", "")
    return commit


COMMIT_IN_USE = installed_commit()  # what this session imports; the files may be replaced later


def missing_and_too_old(checks: Sequence[Check]) -> tuple[list[str], list[str]]:
    """Return what pip is to install, and a line for each package that is too old for the course.

    Examples
    --------
    >>> missing_and_too_old([
    ...     Check("pooch", "failed", "not installed", 'pip install "pooch>=1.8"'),
    ...     Check("torch", "failed", "2.5.1, the course needs >=2.6", 'pip install "torch>=2.6"'),
    ...     Check("jupyterlab", "warning", "not installed", 'pip install "jupyterlab>=4.4"'),
    ...     Check("numpy", "ok", "2.1.3")])
    (['pooch>=1.8'], ['torch 2.5.1, the course needs >=2.6'])
    """
    failed = [check for check in checks if check.status == "failed"]
    missing = [check for check in failed if check.detail == "not installed"]
    old = [f"{check.name} {check.detail}" for check in failed if check not in missing]
    return [check.remedy.split('"')[1] for check in missing], old


def add(missing: Sequence[str]) -> None:
    """Install packages, each alone: none of their dependencies, nothing that is there.

    Raises
    ------
    RuntimeError
        With pip's reason, if it cannot.
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *missing]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check"], capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise RuntimeError(
            f"pip could not add {', '.join(missing)}. Nothing was changed: run this cell again "
            f"when the reason is gone. pip says:\n{done.stderr.strip()}"
        )
    importlib.invalidate_caches()  # this process has looked for them before


def prepare() -> None:
    """Add missing packages, fetch the data, check the encoder; say what is too old.

    Raises
    ------
    RuntimeError
        If pip cannot install what is missing, if what is too old cannot even be imported, or if
        the course was replaced while it was in use.
    DataError
        If the data or the encoder cannot be had.
    """
    if installed_commit() != COMMIT_IN_USE:
        raise RuntimeError(
            "a newer version of the course was just installed, and this session still uses the "
            "one before: choose Runtime > Restart session, then run from the top"
        )
    missing, old = missing_and_too_old(check_packages())
    for line in old:  # said first: what is too old may not even import
        print(f"Too old here: {line}. It was left as it is; a lesson that needs it may fail.")
    if missing:
        add(missing)
    from course_utils.sources import SOURCES, fetch  # needs what was just installed

    for source in SOURCES:
        fetch(source)
    try:
        from course_utils.models import encoder_path
    except ImportError as error:
        if not old:
            raise
        raise RuntimeError(
            f"the course cannot run here: {'; '.join(old)}. Do not upgrade what Colab ships: "
            "choose a newer runtime version under Runtime > Change runtime type"
        ) from error
    encoder_path()
    added = ", ".join(missing) or "nothing"
    print(f"The course is ready. Added beside it: {added}. What Colab ships is as it was.")
