"""A bad day: killed three times, on a disk that fills once, and the table is the same."""

from __future__ import annotations

import os

import pytest

from benchmarks import grading_faults

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("walls")]
OPTIONS = ["--seed", "9", "--timeout", "60", "--jobs", "2"]


@pytest.mark.parametrize("disk", ["memory disk", "no large files"])
def test_a_bad_day_gives_the_same_table(tmp_path, monkeypatch, disk):
    """Thirty here; `python -m benchmarks.grading_faults` takes three hundred."""
    if disk == "no large files":
        monkeypatch.setattr(grading_faults, "may_mount", lambda: False)
    elif not grading_faults.may_mount():
        pytest.skip("only root may mount a small disk")
    story, otherwise = grading_faults.compare(tmp_path, 30, OPTIONS)
    assert len(story) == 4
    assert len(otherwise) <= 1
    assert not os.path.ismount(tmp_path / "disk")
