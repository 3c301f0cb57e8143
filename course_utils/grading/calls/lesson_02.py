"""Calls of lesson 02: splits and batches with several seeds, each twice, as plain row numbers."""

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

SEEDS = range(5)


def as_rows(value: Any) -> list[int]:
    """Return row numbers as a plain list, whatever kind of sequence they are in."""
    if value is None:
        raise TypeError("row numbers are expected and None came: is there a `return`?")
    return [int(row) for row in value]


def repeated(draw: Callable[[int], Any]) -> dict[str, list[Any]]:
    """Draw with several seeds, and once more from another global state."""
    _reset(1)
    rows = [draw(seed) for seed in SEEDS]
    _reset(2)
    return {"rows": rows, "again": [draw(seed) for seed in SEEDS]}


def held_out_rows(target: Any, inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """Call ``target(documents, labels, share, seed)`` with several seeds."""
    return repeated(lambda seed: as_rows(target(*inputs.values(), seed)))


def batches_of_rows(target: Any, inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """Call ``target(lengths, batch_size, seed)`` with several seeds."""

    def draw(seed: int) -> list[list[int]]:
        batches = target(*inputs.values(), seed)
        if batches is None:
            raise TypeError("a list of batches is expected and None came: is there a `return`?")
        return [as_rows(batch) for batch in batches]

    return repeated(draw)


def padded(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(rows, labels, pad_id, multiple)`` and note of what kind its labels are."""
    batch = target(*inputs.values())
    if isinstance(batch, dict) and "labels" in batch:
        return {**batch, "dtype of labels": str(getattr(batch["labels"], "dtype", None))}
    return batch


def prepared(target: Any, inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """Call ``target`` and sort what it returns: no order is asked for."""
    found = target(*inputs.values())
    if not isinstance(found, dict) or set(found) != {"train", "validation", "vocabulary"}:
        raise TypeError(
            f"a dict with train, validation and vocabulary is expected, got {type(found).__name__}"
        )
    return {
        "train": sorted(as_rows(found["train"])),
        "validation": sorted(as_rows(found["validation"])),
        "vocabulary": sorted(str(word) for word in found["vocabulary"]),
    }


def _reset(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
