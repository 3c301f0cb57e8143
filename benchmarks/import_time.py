"""How long `import course_utils` takes, and `course --help`: at most 60 ms for the first.

    python benchmarks/import_time.py

Each number is the median over fresh interpreters. "import" is what CPython itself attributes
to the package (``-X importtime``, microseconds, its own clock); "process" is a whole
interpreter's life, start and end included, next to one that imports nothing.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

REPEATS = 15
LIMIT_MS = 60


def run(*arguments: str) -> tuple[float, str]:
    """Milliseconds that a fresh interpreter lives, and its standard error."""
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True
    )
    return 1000 * (time.perf_counter() - started), result.stderr


def process_ms(*arguments: str) -> float:
    return statistics.median(run(*arguments)[0] for _ in range(REPEATS))


def import_ms(module: str) -> float:
    found = []
    for _ in range(REPEATS):
        _, log = run("-X", "importtime", "-c", f"import {module}")
        [microseconds] = re.findall(rf"^import time:[ \d]+\|\s+(\d+) \| {module}$", log, re.M)
        found.append(int(microseconds) / 1000)
    return statistics.median(found)


def main() -> int:
    run("-c", "import course_utils")  # compile and warm the disk's cache once
    taken = import_ms("course_utils")
    bare = process_ms("-c", "pass")
    print(f"import course_utils          {taken:8.1f} ms import (at most {LIMIT_MS})")
    print(f"python -c pass               {bare:8.1f} ms process")
    print(f"python -c import             {process_ms('-c', 'import course_utils'):8.1f} ms process")
    print(f"python -m course_utils -h    {process_ms('-m', 'course_utils', '-h'):8.1f} ms process")
    return 0 if taken <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
