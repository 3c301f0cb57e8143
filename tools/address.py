"""Set the project's address, to which badges, Colab cells, the README and the site lead.

    python -m tools.address                                # that of git's remote "origin"
    python -m tools.address https://github.com/you/course

It stands in ``pyproject.toml`` only, and everything that is made from it is made again here.
Nothing is executed: cells for Colab are in no notebook's hash. Said twice, it changes nothing.

Colab opens notebooks from GitHub only. With another address students' notebooks have no badge;
their first code cell still fetches the course, where somebody uploads one to Colab.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tools import readme
from tools.notebooks import (
    ROOT,
    on_github,
    read_notebook,
    repository,
    to_json,
    with_colab,
    write_if_changed,
)

LINE = re.compile(r'^Repository = "[^"\n]*".*$', re.M)
SHORT_SSH = re.compile(r"(?:[\w.-]+@)?([\w.-]+):(?!//)([^\s]+)")  # git@github.com:you/course.git


def web_address(remote: str) -> str:
    """The address a browser opens, of what ``git clone`` is given.

    No name, password or token that stands in a remote comes along.

    Raises
    ------
    ValueError
        It is not on the web, such as a folder.

    Examples
    --------
    >>> web_address("git@github.com:you/course.git")
    'https://github.com/you/course'
    >>> web_address("ssh://git@gitlab.com:2222/group/team/course.git/")
    'https://gitlab.com/group/team/course'
    >>> web_address("https://you:secret@git.school.edu:8443/you/course")
    'https://git.school.edu:8443/you/course'
    """
    text = remote.strip()
    short = SHORT_SSH.fullmatch(text)
    parts = urlsplit(f"ssh://{short[1]}/{short[2].lstrip('/')}" if short else text)
    path = parts.path.rstrip("/").removesuffix(".git").rstrip("/")
    if (
        parts.scheme not in ("https", "http", "ssh", "git", "git+ssh")
        or not parts.hostname
        or "." not in parts.hostname  # C:\course, or a name that only one machine knows
        or not re.fullmatch(r"(?:/[\w.~+-]+)+", path)
    ):
        raise ValueError(
            "an address like https://github.com/you/course or git@github.com:you/course.git is "
            f"needed, got {text!r}"
        )
    scheme = parts.scheme if parts.scheme in ("https", "http") else "https"
    port = f":{parts.port}" if parts.port and scheme == parts.scheme else ""  # that of ssh is not
    return f"{scheme}://{parts.hostname}{port}{path}"


def remote_address(root: Path = ROOT) -> str:
    """The address of the remote that a clone comes from.

    Raises
    ------
    ValueError
        There is none, or it is not on the web.
    """
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        done = subprocess.CompletedProcess(command, 1, "", "")
    if done.returncode:
        raise ValueError('git knows no remote "origin" here: name the address')
    return web_address(done.stdout)


def set_address(address: str, root: Path = ROOT) -> list[str]:
    """Write an address wherever it stands; return the files that changed.

    Raises
    ------
    ValueError
        ``pyproject.toml`` does not have it exactly once.
    """
    project = root / "pyproject.toml"
    text, count = LINE.subn(f'Repository = "{address}"', project.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"pyproject.toml has {count} lines that begin with Repository, expected 1")
    changed = []

    def write(path: Path, text: str) -> None:
        if path.read_text(encoding="utf-8") != text:
            write_if_changed(path, text)
            changed.append(path.relative_to(root).as_posix())

    write(project, text)
    for path in (*root.glob("notebooks/*.ipynb"), *root.glob("exercises/*.ipynb")):
        place = path.relative_to(root).as_posix()
        write(path, to_json(with_colab(read_notebook(path), place, root)))
    page = root / "README.md"
    write(page, readme.render(page.read_text(encoding="utf-8"), root))
    return sorted(changed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("address", nargs="?", help='if not given: that of the remote "origin"')
    options = parser.parse_args(arguments)
    try:
        address = web_address(options.address) if options.address else remote_address()
        before = repository()
        changed = set_address(address)
    except ValueError as error:
        print(f"address: {error}", file=sys.stderr)
        return 1
    print(f"{address} (it was {before})" if before != address else address)
    print(f"{len(changed)} files written" if changed else "everything leads there already")
    if not on_github(address):
        print("Colab opens notebooks from GitHub only: they have no badge now.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
