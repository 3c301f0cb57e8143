"""Calls of lesson 15: a score that asks which tokens are kept; a small model of word vectors."""

from typing import Any

import numpy as np


def delete(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(score, importance, count)``; tokens act alone and in pairs."""
    alone, pairs, start = inputs["alone"], inputs["pairs"], inputs["start"]

    def score(kept: Any) -> float:
        here = np.asarray(kept, dtype=float)
        return float(start + here @ alone + here @ pairs @ here)

    return target(score, inputs["importance"], inputs["count"])


def explain(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(model, vectors, baseline, output, steps)``; the model gives logits (B, C)."""
    first, second = inputs["first"], inputs["second"]

    def model(vectors: Any) -> Any:
        return (vectors @ first).tanh().mean(dim=1) @ second

    given = [inputs[name] for name in ("vectors", "baseline", "output", "steps")]
    return target(model, *given)
