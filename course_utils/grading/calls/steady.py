"""Dropout that leaves out the same numbers on every machine, so that results can be compared."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def steady_dropout() -> Iterator[None]:
    """Within it, ``torch.nn.Dropout`` draws from NumPy's old generator.

    PyTorch's own draws differ between processors and libraries; these are the same for ever.
    """
    import torch

    generator = np.random.RandomState(0)

    def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if not training:
            return x
        kept = torch.from_numpy(generator.random_sample(tuple(x.shape)) >= p)
        return x * kept.to(x.dtype) / (1 - p)

    before = torch.nn.functional.dropout
    torch.nn.functional.dropout = dropout  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.nn.functional.dropout = before
