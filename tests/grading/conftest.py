"""The sandbox is tried once; where there is none, its tests say why they are skipped."""

from __future__ import annotations

import pytest

from course_utils.grading import sandbox


@pytest.fixture(scope="session")
def walls() -> None:
    try:
        sandbox.probe()
    except sandbox.SandboxError as error:
        pytest.skip(f"no sandbox here: {error}")
