"""Seeds that repeat, a device that is there, and a report of where we run."""

from __future__ import annotations

import platform
import random
import re
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch

from course_utils import runtime
from course_utils.runtime import (
    PACKAGES,
    computes_in_bfloat16,
    in_colab,
    memory_gb,
    pick_device,
    seed_everything,
    versions,
)


def draws(generator: torch.Generator) -> list[float]:
    return [
        random.random(),
        float(np.random.rand()),
        float(torch.rand(())),
        float(torch.rand((), generator=generator)),
    ]


def test_the_same_seed_gives_the_same_numbers_from_all_four_generators():
    first, again, other = (draws(seed_everything(seed)) for seed in (7, 7, 8))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_numpy_cannot_take_is_refused_before_anything_is_seeded(seed):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*32 - 1"):
        seed_everything(seed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.array(3)])
def test_a_seed_may_come_from_numpy(seed):
    assert draws(seed_everything(seed)) == draws(seed_everything(3))


@pytest.mark.parametrize("seed", [True, np.True_, 3.0, "3", None, [3], float("nan")])
def test_a_seed_that_is_no_whole_number_is_refused_before_anything_is_seeded(seed):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="seed must be a whole number, got"):
        seed_everything(seed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_that_is_there_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", 3.5, ["cpu"]])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=re.escape(f"device {name!r} is not available")):
        pick_device(name)


def test_a_device_may_be_given_by_name_or_as_itself():
    assert pick_device(torch.device("cpu")) == torch.device("cpu")
    assert computes_in_bfloat16("cpu") == computes_in_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize(
    ("limit", "expected"), [("", True), ("ALL", True), ("AVX2", False), ("avx512_core", False)]
)
def test_bfloat16_is_not_believed_where_its_kernels_are_forbidden(monkeypatch, limit, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert computes_in_bfloat16(torch.device("cpu")) == expected


def test_colab_is_known_by_its_package(monkeypatch):
    assert not in_colab()
    monkeypatch.setattr(runtime, "find_spec", lambda name: object())
    assert in_colab()


def test_memory_is_that_of_this_process():
    before = memory_gb()
    block = np.ones(25_000_000)  # 0.2 GB, written to, so it is resident
    assert 0.15 < memory_gb() - before < 0.3
    assert memory_gb() < psutil.virtual_memory().total / 1e9
    del block


def test_versions_name_every_package_and_what_is_missing(monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", (*PACKAGES, "no-such-package"))
    found = versions()
    cuda = (torch.version.cuda or "").replace(".", "")
    # To pip a CUDA build is 2.13.0, to itself 2.13.0+cu130.
    assert torch.__version__ in (found["torch"], f"{found['torch']}+cu{cuda}")
    assert found["no-such-package"] == "missing"
    assert set(PACKAGES) < set(found)


def test_memory_that_is_kept_is_not_cleared_again():
    """Ten blocks of 48 MB, asked for and freed: each page is the kernel's work, or only once."""
    code = """
import resource, psutil, torch
from course_utils.runtime import memory_kept
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): torch.zeros(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def megabytes():
    return psutil.Process().memory_info().rss / 1e6
usual, before = faults(), megabytes()
with memory_kept():
    faults()
    kept, held = faults(), megabytes() - before
print(usual, kept, held, megabytes() - before)
"""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("no glibc here, whose malloc can be told")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    usual, kept, held, after = map(float, done.stdout.split())
    assert kept < usual / 20
    assert held > 40
    assert after < 10  # megabytes: what was kept goes back
