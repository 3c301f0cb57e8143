"""Where the code runs: device, seeds, threads, memory, versions.

Left out on purpose: a global configuration object. Every function that needs a device or a
generator takes it as an argument.
"""

import ctypes
import os
import platform
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec

import numpy as np
import psutil
import torch

from course_utils.inputs import whole_number

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "jupyterlab",
    "ipywidgets",
    "accelerate",
)

# Limits of oneDNN, PyTorch's library of matrix kernels, below which it only emulates bfloat16.
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def pick_device(name: str | None = None) -> torch.device:
    """Return the best available device: CUDA, then Apple's MPS, then the CPU.

    Parameters
    ----------
    name : str, optional
        Ask for this device instead, for example ``"cpu"`` or ``"cuda:1"``.

    Raises
    ------
    ValueError
        If the device asked for is not there.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {name!r} is not available here: {error}") from None
    return device


def computes_in_bfloat16(device: torch.device | str) -> bool:
    """Return True if a device multiplies bfloat16 matrices in hardware.

    That is a recent GPU, or a CPU with AVX512-BF16 or AMX (servers since about 2021). Any
    other CPU can emulate bfloat16, but only more slowly than it computes in float32. So does a
    newer one whose kernels are held to an older one's by the environment variable
    ``ONEDNN_MAX_CPU_ISA``.

    Examples
    --------
    >>> computes_in_bfloat16(torch.device("meta"))
    False
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BFLOAT16:
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let the process keep the memory that it frees, until the body ends.

    glibc's `malloc` hands blocks above some megabytes back to the kernel as soon as they are
    freed, and a training step frees and asks again for dozens of them: each time the kernel
    clears every page, thousands a step. Kept, the pages are the process's own from the second
    step on. What is free in the end goes back.

    Other systems' `malloc` and the GPU's allocator need no telling; there it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # as malloc.h numbers them
    libc.mallopt(mmap_threshold, 2**30)
    libc.mallopt(trim_threshold, 2**31 - 1)  # bytes; the largest int
    try:
        yield
    finally:
        libc.mallopt(mmap_threshold, 2**25)  # where glibc's own adaptation would end
        libc.mallopt(trim_threshold, 2**26)
        libc.malloc_trim(0)


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and PyTorch (all devices); return a generator of the same seed.

    The same seed gives the same numbers on the same machine with the same number of
    threads. It does not promise the same bits on another CPU, on a GPU, or with another
    version of PyTorch: there, sums are taken in another order.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1 (NumPy's limit).

    Returns
    -------
    torch.Generator
        On the CPU, to be handed to whatever shuffles.

    Raises
    ------
    ValueError
        If the seed is no whole number in that range. NumPy's integers are; bools are not.

    Examples
    --------
    >>> generator = seed_everything(0)
    >>> int(torch.randperm(10, generator=generator)[0])
    4
    """
    seed = whole_number(seed, "seed")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2**32 - 1, got {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # also seeds every CUDA and MPS device
    return torch.Generator().manual_seed(seed)


def in_colab() -> bool:
    """Return True in a Google Colab runtime."""
    try:
        return find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no package called google at all
        return False


def memory_gb() -> float:
    """Return the resident memory of this process in GB (10**9 bytes)."""
    return psutil.Process().memory_info().rss / 1e9


def versions() -> dict[str, str]:
    """Return the versions that decide whether a result can be repeated.

    Returns
    -------
    dict of str to str
        Python, the platform, and each of `PACKAGES` (``"missing"`` if not installed).
    """
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
