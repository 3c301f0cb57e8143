"""Calls of lesson 05: a schedule step by step, weights that go on changing, a tiny run."""

from typing import Any

import numpy as np

from course_utils.grading.calls.steady import steady_dropout


def numbers(values: Any) -> Any:
    """Return a list of numbers as one array, so that it is compared as a whole; else as it is."""
    try:
        return None if any(v is None for v in values) else np.array([float(v) for v in values])
    except (TypeError, ValueError):
        return values


def rates(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(step, total, climb)`` for each step, and for two beyond the end."""
    total, climb = inputs["total"], inputs["climb"]
    return numbers([target(step, total, climb) for step in range(total + 3)])


def keep(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Show ``target()`` one loss after the other, while the weights change as in training."""
    weights = {name: start.copy() for name, start in inputs["weights"].items()}
    best, said, losses = target(), [], []
    for loss, move in zip(inputs["losses"], inputs["moves"], strict=True):
        weights["matrix"] += move  # in place, as optimisers do
        weights["bias"] = weights["bias"] + move  # and a new array under the old name
        said.append(best.update(loss, weights))
        losses.append(best.loss)
    return {"said": said, "losses": numbers(losses), "weights": best.weights}


def fine_tune(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Call ``target(model, train, validation, lr, epochs)``; return losses and final weights."""
    from torch import nn

    (D, V), (C, _) = (inputs["weights"][name].shape for name in ("0.weight", "3.weight"))
    model = nn.Sequential(nn.Linear(V, D), nn.Tanh(), nn.Dropout(0.4), nn.Linear(D, C))
    model.load_state_dict(inputs["weights"])
    rest = [inputs[name] for name in ("train", "validation", "lr", "epochs")]
    with steady_dropout():
        losses = target(model, *rest)
    return {"losses": numbers(losses), "weights": dict(model.state_dict())}
