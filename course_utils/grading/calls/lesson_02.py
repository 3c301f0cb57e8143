"""Calls of lesson 02: splits and batches as plain row numbers, from several global states."""

from typing import Any

from course_utils.grading.calls import as_rows, reset


def held_out_rows(target: Any, inputs: dict[str, Any]) -> list[int]:
    """Call ``target(documents, labels, share, seed)``."""
    *given, state = inputs.values()
    reset(state)
    return as_rows(target(*given))


def batches_of_rows(target: Any, inputs: dict[str, Any]) -> list[list[int]]:
    """Call ``target(lengths, batch_size, seed)``."""
    *given, state = inputs.values()
    reset(state)
    batches = target(*given)
    if batches is None:
        raise TypeError("a list of batches is expected and None came: is there a `return`?")
    return [as_rows(batch) for batch in batches]


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
