"""A kernel that dies before its first word is started again, and not for ever."""

from __future__ import annotations

import pytest

from conftest import STARTS, start_again


def dies(times: int):
    def start(name: str) -> str:
        start.calls += 1
        if start.calls <= times:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return name

    start.calls = 0
    return start


def test_a_kernel_that_died_is_started_again_and_that_is_said():
    start = dies(STARTS - 1)
    with pytest.warns(UserWarning, match="started again: Kernel died"):
        assert start_again(start)("python") == "python"
    assert start.calls == STARTS


@pytest.mark.filterwarnings("ignore:a kernel is started again")
def test_one_that_always_dies_is_an_error():
    start = dies(100)
    with pytest.raises(RuntimeError, match="Kernel died"):
        start_again(start)("python")
    assert start.calls == STARTS


def test_another_error_is_not_tried_again():
    def start() -> None:
        start.calls += 1
        raise ValueError("no such kernel")

    start.calls = 0
    with pytest.raises(ValueError, match="no such kernel"):
        start_again(start)()
    assert start.calls == 1


def test_notebooks_are_executed_by_it():
    import nbval.kernel

    assert nbval.kernel.start_new_kernel.__qualname__.startswith("start_again.")
