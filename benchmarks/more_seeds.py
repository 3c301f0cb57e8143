"""A lesson's own comparison, with more seeds than its minutes have room for.

    python -m benchmarks.more_seeds 15_trust --seeds 8       # lesson 15's table of eight seeds

Executes the code of a lesson that says ``SEEDS = range(3)``, or another number, with another
number, and prints what it prints. Claims are left out: they were made for the lesson's own run.
"""

import argparse
import os
import re
import runpy
import tempfile
from pathlib import Path

from tools.notebooks import ROOT, code_cells, tags, to_notebook

ASSIGNED = re.compile(r"^((?:[A-Z]+, )*SEEDS(?:, \w+)* = .*?)range\(\d+\)", re.MULTILINE)


def code_with(lesson: str, seeds: int) -> str:
    """Return the lesson's code as one program, with so many seeds.

    Raises
    ------
    ValueError
        If the lesson does not say ``SEEDS = range(...)``, once.
    """
    source = (ROOT / "notebooks" / "source" / f"{lesson}.md").read_text(encoding="utf-8")
    cells = [c for c in code_cells(to_notebook(source)) if "raises-exception" not in tags(c)]
    code = "\n\n".join(c.source for c in cells if not c.source.startswith("claim("))
    code, found = ASSIGNED.subn(rf"\1range({seeds})", code)
    if found != 1:
        raise ValueError(f"{lesson} must say SEEDS = range(...) once, and does {found} times")
    return code


def main() -> None:
    """Read the command line and run."""
    lessons = [p.stem for p in sorted((ROOT / "notebooks" / "source").glob("*.md"))]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", choices=lessons, metavar="LESSON")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    os.environ["MPLBACKEND"] = "agg"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, f"{options.lesson}.py")
        program.write_text(code_with(options.lesson, options.seeds), encoding="utf-8")
        runpy.run_path(str(program), run_name="lesson")


if __name__ == "__main__":
    main()
