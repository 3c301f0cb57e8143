"""Calls of lesson 00: small models built from a description, draws repeated, a spied-on model."""

import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

SEEDS = range(8)


def build_model(sizes: list[int], frozen: int, tied: bool, half: bool) -> nn.Module:
    """Return linear layers of these sizes: the first ones frozen, the last one used twice or not.

    Where `half` is True, the first layer's numbers have 2 bytes each.
    """
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    if half:
        layers[0].to(torch.bfloat16)
    for layer in layers[:frozen]:
        layer.requires_grad_(False)
    return nn.Sequential(*layers, *layers[-1:] * tied)


def on_model(target: Any, inputs: dict[str, Any]) -> Any:
    """Call ``target(model)`` on a model built from the inputs."""
    return target(build_model(**inputs))


def repeated_draws(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Draw with several seeds, then again from another global state; see if that state moved."""

    def draw_all() -> list[list[int]]:
        return [as_rows(target(inputs["labels"], inputs["per_class"], seed)) for seed in SEEDS]

    _reset(1)
    before = _global_state()
    rows = draw_all()
    undisturbed = _global_state() == before
    _reset(2)
    return {"rows": rows, "again": draw_all(), "undisturbed": undisturbed}


def as_rows(value: Any) -> list[int]:
    """Return row numbers as a plain list, whatever kind of sequence they are in."""
    if value is None:
        raise TypeError("row numbers are expected and None came: is there a `return`?")
    return [int(row) for row in value]


def _reset(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _global_state() -> tuple[Any, ...]:
    torch_state = tuple(torch.random.get_rng_state().tolist())
    numpy_state = np.random.get_state(legacy=False)["state"]
    return torch_state, tuple(numpy_state["key"].tolist()), numpy_state["pos"], random.getstate()


class SpiedModel(nn.Module):
    """A classifier as small as can be, which notes how it is called.

    Its last logit is the sum of a row's ids: neither dropout nor a missing mask can change that,
    so it tells which row an output belongs to.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.vectors = torch.randn(40, 6, generator=generator)  # (ids, D)
        self.to_logits = torch.randn(6, 2, generator=generator)  # (D, C)
        self.dropout = nn.Dropout(0.5)
        self.training_seen = self.unmasked = False

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SimpleNamespace:
        """Return an object with ``logits`` of shape (B, 3)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self.training_seen |= self.training
        self.unmasked |= not torch.equal(mask.bool(), input_ids != 0)
        weights = mask.unsqueeze(-1).float()  # (B, T, 1)
        pooled = (self.vectors[input_ids] * weights).sum(dim=1) / weights.sum(dim=1)
        logits = self.dropout(pooled) @ self.to_logits
        name = input_ids.sum(dim=1, keepdim=True).float()
        return SimpleNamespace(logits=torch.cat([logits, name], dim=1))


def spied(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Call ``target(model, rows, batch_size)`` with a model as training leaves it."""
    model = SpiedModel(inputs["seed"]).train()
    logits = target(model, inputs["rows"], inputs["batch_size"])
    return {"logits": logits, "training": model.training_seen, "unmasked": model.unmasked}
