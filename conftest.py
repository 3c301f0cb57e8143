"""How the suite shares the machine, and what every test and notebook kernel finds around it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbval.kernel
import psutil
import pytest

from course_utils.system import usable_cores

MOST_WORKERS = 4
GB_PER_WORKER = 4  # a lesson may take 3
STARTS = 3  # of a kernel, until it is given up
MINUTES = re.compile(r"\*\*Measured:\*\* ([\d.]+) min")


def choose_workers(cores: int, free_gb: float) -> int:
    """As many as there are cores, if each can hold a lesson in memory.

    >>> choose_workers(cores=2, free_gb=16), choose_workers(cores=64, free_gb=9)
    (2, 2)
    >>> choose_workers(cores=1, free_gb=1)
    1
    """
    return max(1, min(cores, int(free_gb / GB_PER_WORKER), MOST_WORKERS))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Answer ``-n auto``."""
    return choose_workers(usable_cores(), psutil.virtual_memory().available / 1e9)


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before anything imports torch or starts a kernel."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    threads = str(max(1, usable_cores() // workers))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads  # two workers of two threads on two cores crawl
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # What a notebook's kernel uses by itself; it needs no screen, so it serves unit tests too.
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"


def start_again(start: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what starts a kernel, so that one that dies before its first word is started again.

    A kernel's ports are chosen free and opened seconds later; meanwhile another program may have
    taken one. A notebook would then fail in all of its cells, for no fault of its own.
    """

    def starting(*args: Any, **kwargs: Any) -> Any:
        for _ in range(STARTS - 1):
            try:
                return start(*args, **kwargs)
            except RuntimeError as error:
                warnings.warn(f"a kernel is started again: {error}", stacklevel=2)
        return start(*args, **kwargs)

    return starting


nbval.kernel.start_new_kernel = start_again(nbval.kernel.start_new_kernel)


def measured_minutes(path: Path) -> float:
    """What a notebook's header says it takes; nothing, for any other file."""
    if path.suffix != ".ipynb":
        return 0.0
    found = MINUTES.search(path.read_text(encoding="utf-8"))
    return float(found[1]) if found else 1.0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest notebook first: begun last, it would run on alone at the end."""
    minutes = {path: measured_minutes(path) for path in {item.path for item in items}}
    items.sort(key=lambda item: -minutes[item.path])  # stable: all else keeps its order
