"""Calls of lesson 01: gradients of named functions, and graphs built from a `Value` class."""

from collections.abc import Callable
from typing import Any

import numpy as np

FUNCTIONS: dict[str, Callable[[np.ndarray], float]] = {
    "sum of squares": lambda x: float((x**2).sum()),
    "sum of cubes": lambda x: float((x**3).sum()),
    "product": lambda x: float(np.prod(x)),
    "log of sum of exponentials": lambda x: float(np.log(np.exp(x).sum())),
}


def gradient_of_named(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(f, x, epsilon)``; functions cross the border by name."""
    return target(FUNCTIONS[inputs["f"]], inputs["x"], inputs["epsilon"])


def _chain(Value: Any, a: Any, b: Any) -> Any:
    return a * b + a


def _squares(Value: Any, a: Any, b: Any) -> Any:
    return a * a + b * b


def _shared(Value: Any, a: Any, b: Any) -> Any:
    c = a * b  # used three times: its gradient is complete only when all uses are done
    d = c * c
    return d + c


def _exponential(Value: Any, a: Any, b: Any) -> Any:
    return (a * b).exp() + a


def _deep(Value: Any, a: Any, b: Any) -> Any:
    c = (a + b).exp()
    return c * a + (c * b).exp() * c


EXPRESSIONS = {
    "a·b + a": _chain,
    "a·a + b·b": _squares,
    "c·c + c with c = a·b": _shared,
    "exp(a·b) + a": _exponential,
    "c·a + exp(c·b)·c with c = exp(a + b)": _deep,
}


def differentiate(target: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Build a graph of ``target(number)`` nodes, call ``backward`` on it, return all numbers."""
    a, b = target(inputs["a"]), target(inputs["b"])
    result = EXPRESSIONS[inputs["expression"]](target, a, b)
    result.backward()
    return {"result": result.data, "d/da": a.grad, "d/db": b.grad}
