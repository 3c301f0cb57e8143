"""Make a zip of the course for students, without the answers.

    python -m tools.handout course.zip

All that git knows is in it, but for the solutions, the answer book and the tests. Lessons,
exercises, ``make lab`` and every visible check work from it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

from tools.notebooks import ROOT

LEFT_OUT = ("answer_book/", "solutions/", "tests/", ".ci/", ".github/")


def handed_out(root: Path = ROOT) -> list[str]:
    """The paths that students get, in order."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True
    ).stdout.decode()
    names = [name for name in listed.split("\0") if name and not name.startswith(LEFT_OUT)]
    return sorted(name for name in names if (root / name).is_file())


def make_zip(path: Path, root: Path = ROOT) -> int:
    """Write the zip, its files in one folder; return how many there are."""
    names = handed_out(root)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(root / name, f"{path.stem}/{name}")
    return len(names)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("zip", type=Path, help="the file to write, such as course.zip")
    options = parser.parse_args(arguments)
    print(f"{make_zip(options.zip)} files in {options.zip}, no answer among them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
