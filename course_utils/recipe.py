"""Everything that decides what a training run ends with, as frozen, comparable data.

`Recipe` holds the decisions a person makes. `setup` adds what else matters, the model's shape, the
loss, the data and the order in which they come, so that a checkpoint is only continued by a run
that would have written it.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from numbers import Real
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from course_utils.batching import EpochSampler, Example, TokenizedDataset
from course_utils.inputs import whole_number
from course_utils.optimization import Precision

PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Recipe:
    """The decisions of a fine-tuning run.

    Attributes
    ----------
    epochs : int
    lr : float, optional
        Peak learning rate, reached after the warm-up; 2e-5 if not given. It belongs to the
        optimiser, so it is refused beside an optimiser of your own.
    weight_decay : float, optional
        0.01 if not given; the same holds.
    warmup : float
        Share of all optimiser steps over which the rate climbs.
    accumulate, max_norm
        See `training.training_steps`.
    precision : {"auto", "float32", "bfloat16", "float16"}
        See `optimization.MixedPrecision`.
    validate_every : int, optional
        Optimiser steps between two looks at the validation set, besides the one at the end
        of every epoch.

    Raises
    ------
    ValueError
        If one of them is no number, or out of range.

    Examples
    --------
    >>> Recipe(epochs=3, lr=1e-4).warmup
    0.1
    """

    epochs: int = 2
    lr: float | None = None
    weight_decay: float | None = None
    warmup: float = 0.1
    accumulate: int = 1
    max_norm: float = 1.0
    precision: Precision = "auto"
    validate_every: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None and name in ("lr", "weight_decay", "validate_every"):
                continue
            if name in ("epochs", "accumulate", "validate_every"):
                whole_number(value, name)
            elif name != "precision" and (isinstance(value, bool) or not isinstance(value, Real)):
                raise ValueError(f"{name} must be a number, got {value!r}")
        every, lr, decay = self.validate_every, self.lr, self.weight_decay
        needed = {
            "epochs of at least 1": self.epochs >= 1,
            "lr above 0 and finite": lr is None or 0 < lr < math.inf,
            "weight_decay of at least 0 and finite": decay is None or 0 <= decay < math.inf,
            "warmup from 0 to below 1": 0 <= self.warmup < 1,
            "accumulate of at least 1": self.accumulate >= 1,
            "max_norm above 0": self.max_norm > 0,
            "validate_every of at least 1, or None": every is None or every >= 1,
        }
        if missing := [what for what, holds in needed.items() if not holds]:
            raise ValueError(f"a recipe needs {' and '.join(missing)}, got {self}")

    @property
    def rates(self) -> tuple[float, float]:
        """The learning rate and the weight decay for `optimization.make_optimizer`."""
        return (
            2e-5 if self.lr is None else self.lr,
            0.01 if self.weight_decay is None else self.weight_decay,
        )


def setup(
    recipe: Recipe,
    model: nn.Module,
    train_loader: DataLoader[Example],
    validation_loader: DataLoader[Example],
    **functions: Callable[..., Any] | torch.optim.Optimizer | None,
) -> dict[str, Any]:
    """Return what decides a run's result, as plain data that a checkpoint can hold.

    Parameters
    ----------
    recipe : Recipe
    model : nn.Module
        Its parameters' names and shapes count, and what it prints (dropout among it). Its
        weights do not: a checkpoint brings its own.
    train_loader, validation_loader : DataLoader
        The data, token by token, and how they are ordered and cut into batches.
    **functions
        The loss, the stopping rule, an optimiser: see `describe`.
    """
    return asdict(recipe) | {
        "model": {name: list(weight.shape) for name, weight in model.named_parameters()},
        "trained": [name for name, weight in model.named_parameters() if weight.requires_grad],
        "architecture": _hash(str(model).encode()),
        "training": _data(train_loader),
        "validation": _data(validation_loader),
        **{name: describe(function) for name, function in functions.items()},
    }


def _data(loader: DataLoader[Example]) -> dict[str, Any]:
    """Describe a loader's data and their order."""
    sampler, data = loader.batch_sampler, loader.dataset
    described: dict[str, Any] = {"sampler": type(sampler).__name__}
    if isinstance(sampler, EpochSampler):
        described |= {"examples": sampler.size, "batch_size": sampler.batch_size}
        described |= {"seed": sampler.seed}
    if isinstance(data, TokenizedDataset):
        described["data"] = _fingerprint(data)
    return described


def _fingerprint(data: TokenizedDataset) -> str:
    """Return digits that another dataset will hardly share: of its labels, lengths and tokens."""
    tokens = np.concatenate(data.input_ids).astype(np.int64)
    return _hash(b"".join(a.tobytes() for a in (data.labels, data.lengths(), tokens)))


def describe(thing: Any) -> Any:
    """Return what identifies a function, module or optimiser in any process.

    A function is its name, and a lambda, which has none, its code. Numbers bound with
    ``functools.partial`` count, and those that a function made inside of another one has from
    there; so do a module's tensors, such as class weights, its numbers, such as a label
    smoothing, and an optimiser's settings for each group of parameters.

    Examples
    --------
    >>> describe(nn.functional.cross_entropy)
    'cross_entropy'
    >>> describe(partial(nn.functional.cross_entropy, label_smoothing=0.1))
    "partial(cross_entropy, (), {'label_smoothing': 0.1})"
    """
    if isinstance(thing, partial):
        values = tuple(map(_plain, thing.args)), {k: _plain(v) for k, v in thing.keywords.items()}
        return f"partial({describe(thing.func)}, {values[0]}, {values[1]})"
    if isinstance(thing, nn.Module):
        numbers = {
            f"{name}.{k}".lstrip("."): v
            for name, part in thing.named_modules()
            for k, v in vars(part).items()
            if isinstance(v, PLAIN) and k != "training" and not k.startswith("_")
        }
        return f"{thing} {numbers | {k: _plain(v) for k, v in thing.state_dict().items()}}"
    if isinstance(thing, torch.optim.Optimizer):
        groups = [{k: v for k, v in g.items() if k != "params"} for g in thing.param_groups]
        return f"{type(thing).__name__} {groups}"
    if code := getattr(thing, "__code__", None):
        is_lambda = thing.__name__ == "<lambda>"
        held = [cell.cell_contents for cell in thing.__closure__ or ()]
        held += thing.__defaults__ or () if is_lambda else ()
        held = [_plain(v) for v in held if isinstance(v, (*PLAIN, torch.Tensor))]
        return (_code(code) if is_lambda else thing.__qualname__) + (f" {held}" if held else "")
    return type(thing).__name__ if "object at 0x" in repr(thing) else repr(thing)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value


def _code(code: CodeType) -> str:
    constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
    return "lambda " + _hash(code.co_code + repr((constants, code.co_names)).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
