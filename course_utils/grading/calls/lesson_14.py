"""Calls of lesson 14: a request's body, which crosses the border as the numbers of its bytes."""

from typing import Any


def status_of(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(body, most_bytes, most_texts)`` with the body as bytes."""
    return target(inputs["body"].tobytes(), inputs["most_bytes"], inputs["most_texts"])
