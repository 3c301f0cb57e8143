"""Calls of lesson 00: small models built from a description, a draw, a spied-on model."""

import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from course_utils.grading.calls import as_rows, reset


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


def draw(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Call ``target(labels, per_class, seed)`` from a global state; return what comes next too.

    A call that draws from a global generator, or seeds it, is followed by other numbers.
    """
    reset(inputs["state"])
    rows = as_rows(target(inputs["labels"], inputs["per_class"], inputs["seed"]))
    following = [random.random(), float(np.random.random()), float(torch.rand(()))]
    return {"rows": rows, "next": following}


class SpiedModel(nn.Module):
    """A classifier as small as can be, which notes how it is called.

    Its last logit is the sum of a row's ids: neither dropout nor a missing mask can change that,
    so it tells which row an output belongs to.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        # NumPy's old generator gives the same numbers everywhere; a copy of them is compared
        self.generator = np.random.RandomState(seed)
        self.vectors = self.normal(40, 6)  # (ids, D)
        self.to_logits = self.normal(6, 2)  # (D, C)
        self.training_seen = self.unmasked = False

    def normal(self, *shape: int) -> torch.Tensor:
        """Return standard normal numbers."""
        return torch.from_numpy(self.generator.standard_normal(shape)).float()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SimpleNamespace:
        """Return an object with ``logits`` of shape (B, 3)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self.training_seen |= self.training
        self.unmasked |= not torch.equal(mask.bool(), input_ids != 0)
        weights = mask.unsqueeze(-1).float()  # (B, T, 1)
        pooled = (self.vectors[input_ids] * weights).sum(dim=1) / weights.sum(dim=1)
        if self.training:  # dropout
            pooled = pooled * torch.from_numpy(self.generator.randint(0, 2, pooled.shape) * 2.0)
        logits = pooled.float() @ self.to_logits
        name = input_ids.sum(dim=1, keepdim=True).float()
        return SimpleNamespace(logits=torch.cat([logits, name], dim=1))


def spied(target: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Call ``target(model, rows, batch_size)`` with a model as training leaves it."""
    model = SpiedModel(inputs["seed"]).train()
    logits = target(model, inputs["rows"], inputs["batch_size"])
    return {"logits": logits, "training": model.training_seen, "unmasked": model.unmasked}
