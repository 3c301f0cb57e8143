"""The optimiser's side of a step: what decays, how the rate moves, and in which precision.

The recipe is that of J. Devlin et al., "BERT" (2019): AdamW, linear warm-up and decay, no
weight decay on biases and LayerNorm. Why the warm-up and the bias correction matter on small
data: T. Zhang et al., arXiv:2006.05987. Loss scaling: P. Micikevicius et al., "Mixed Precision
Training" (2018).

Left out on purpose: optimisers of our own. Adam's formula is derived in lesson 01b; what trains
is PyTorch's, which updates all parameters in one kernel.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from course_utils.models import count_parameters
from course_utils.runtime import computes_in_bfloat16

Precision = Literal["auto", "float32", "bfloat16", "float16"]
SMALL_MODEL = 50_000_000  # parameters; below it a GPU is busier with casts than with products


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Divide trainable parameters into those that decay and those that do not.

    Decay pulls weights towards zero. For a bias or a LayerNorm gain (vectors, one
    dimension) zero is not a neutral value, so only matrices decay.

    Examples
    --------
    >>> groups = parameter_groups(nn.Linear(3, 2), 0.01)
    >>> [(group["weight_decay"], len(group["params"])) for group in groups]
    [(0.01, 1), (0.0, 1)]
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(
    model: nn.Module, lr: float = 2e-5, weight_decay: float = 0.01
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter, 2019) with decay on matrices only.

    The fused version updates all parameters in one kernel where the device has one.

    Raises
    ------
    ValueError
        If nothing in the model is trainable.
    """
    groups = [group for group in parameter_groups(model, weight_decay) if group["params"]]
    if not groups:
        raise ValueError("no parameter is trainable: everything is frozen")
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def warmup_then_decay(step: int, total: int, warmup: float = 0.1) -> float:
    """Return the factor on the learning rate before optimiser step `step`, counted from 0.

    It climbs linearly to 1 over the first steps, then falls linearly to reach 0 at `total`.

    Parameters
    ----------
    step, total : int
        Optimiser steps.
    warmup : float
        The share of all steps over which the rate climbs.

    Examples
    --------
    >>> [warmup_then_decay(step, total=6, warmup=1 / 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    climb = round(warmup * total)
    if step < climb:
        return (step + 1) / climb
    return max(0.0, (total - step) / max(1, total - climb))


def make_schedule(optimizer: torch.optim.Optimizer, total: int, warmup: float = 0.1) -> LambdaLR:
    """Return the schedule that multiplies each group's rate by `warmup_then_decay`.

    Step it once after each of the `total` optimiser steps.

    Raises
    ------
    ValueError
        If `warmup` is no share, such as a number of steps.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share of all steps, from 0 to below 1, got {warmup}")
    return LambdaLR(optimizer, lambda step: warmup_then_decay(step, total, warmup))


class MixedPrecision:
    """In which precision a step computes: the casts and the loss scale, which belong together.

    float16 has so small a range that gradients vanish, so its loss is multiplied before
    backward and its gradients are divided again before they are clipped. With bfloat16 and
    float32, where that is not needed, the same calls do nothing of the kind.

    Parameters
    ----------
    model : nn.Module
        It computes where its parameters are.
    precision : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"`` means bfloat16 on a CPU with hardware for it; without it, it only gets
        slower. On CUDA it means float32 for a model below `SMALL_MODEL` parameters, which
        keeps a large GPU waiting for work rather than at work (benchmarks/README.md), and
        otherwise bfloat16, or float16 on GPUs that lack it.

    Attributes
    ----------
    name : str
        What was chosen.

    Examples
    --------
    >>> MixedPrecision(nn.Linear(3, 2), "bfloat16").name
    'bfloat16'
    """

    def __init__(self, model: nn.Module, precision: Precision = "auto") -> None:
        if precision not in ("auto", "float32", "bfloat16", "float16"):
            raise ValueError(
                f"precision must be auto, float32, bfloat16 or float16, got {precision!r}"
            )
        self.device = next(model.parameters()).device
        self.name = precision
        if precision == "auto":
            self.name = _fastest(self.device, count_parameters(model))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.name == "float16")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which matrix products are computed in this precision."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.name))

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss, scaled if need be, to the parameters' gradients."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients true again, so that they can be clipped or looked at."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step the optimiser, but not if scaled gradients overflowed: then lower the scale."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the loss scale and its history; empty unless float16."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.scaler.load_state_dict(state)


def _fastest(device: torch.device, parameters: int) -> Precision:
    """Return the precision in which a device trains a model of this size fastest."""
    if device.type == "cuda":
        if parameters < SMALL_MODEL:
            return "float32"
        return "bfloat16" if computes_in_bfloat16(device) else "float16"
    return "bfloat16" if computes_in_bfloat16(device) else "float32"
