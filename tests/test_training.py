"""The loop equals the textbook, and a killed run continues as if nothing had happened."""

from __future__ import annotations

import copy
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from course_utils import checkpoints, history, training
from course_utils.batching import (
    Batch,
    EpochSampler,
    RandomSampler,
    collate,
    cut,
    eval_loader,
    train_loader,
)
from course_utils.history import EpochRecord, EvalRecord, History, StepRecord
from course_utils.optimization import (
    MixedPrecision,
    make_optimizer,
    make_schedule,
    parameter_groups,
    warmup_then_decay,
)
from course_utils.recipe import Recipe, describe
from course_utils.runtime import seed_everything
from course_utils.training import evaluate, fit, forward, grouped, rating_loss, training_steps
from tests import tiny
from tests.processes import KILLED, Running, die

CPU = torch.device("cpu")
QUIET: dict[str, Any] = {"device": CPU, "progress": False}


def constant(optimizer: torch.optim.Optimizer) -> LambdaLR:
    """A schedule that leaves the learning rate alone."""
    return LambdaLR(optimizer, lambda step: 1.0)


def one_epoch(
    model, batches: list[Batch], lr: float = 0.1, loss_fn=cross_entropy, **options: Any
) -> list[StepRecord]:
    """Train by plain gradient descent; return the steps' records."""
    options.setdefault("max_norm", math.inf)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return list(training_steps(model, batches, loss_fn, optimizer, constant(optimizer), **options))


def distance(a: nn.Module, b: nn.Module) -> float:
    """The largest difference between two models' weights."""
    theirs = b.state_dict()
    return max(float((w - theirs[name]).abs().max()) for name, w in a.state_dict().items())


def gradient_norm(model: nn.Module) -> float:
    return float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())


# --- one step, by the book --------------------------------------------------------------------


def test_a_step_is_the_textbook_s():
    """One step of gradient descent: weights minus lr times the gradient of the mean loss."""
    model, batch = tiny.model(dropout=0.0), tiny.batches(6)[0]
    expected = copy.deepcopy(model)
    loss = cross_entropy(forward(expected, batch), batch.labels)
    loss.backward()
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter -= 0.1 * parameter.grad
    [record] = one_epoch(model, [batch], lr=0.1)
    assert distance(model, expected) < 1e-7
    assert record == StepRecord(1, pytest.approx(loss.item()), pytest.approx(0.1), 6)


@pytest.mark.parametrize("sizes", [(5, 2, 3), (1, 8), (4, 4)])
def test_accumulated_unequal_batches_equal_one_large_batch(sizes):
    small, large = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    [step_small] = one_epoch(small, tiny.batches(*sizes), accumulate=len(sizes))
    [step_large] = one_epoch(large, tiny.batches(sum(sizes)))
    assert distance(small, large) < 1e-6
    assert distance(small, tiny.model()) > 1e-3, "it did move"
    assert step_small.loss == pytest.approx(step_large.loss, abs=1e-6)
    assert step_small.examples == step_large.examples == sum(sizes)


def test_ratings_accumulate_exactly_too():
    small, large = (tiny.model(1, dropout=0.0) for _ in range(2))
    options: dict[str, Any] = {"loss_fn": rating_loss, "lr": 0.01}
    one_epoch(small, tiny.batches(7, 1, 2, target="rating"), accumulate=3, **options)
    one_epoch(large, tiny.batches(10, target="rating"), **options)
    assert distance(small, large) < 1e-6


def test_the_last_shorter_group_is_stepped_and_weighed_by_its_own_examples():
    model, expected = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    records = one_epoch(model, tiny.batches(2, 2, 2, 2, 3), accumulate=2)
    assert [(record.step, record.examples) for record in records] == [(1, 4), (2, 4), (3, 3)]
    one_epoch(expected, tiny.batches(4, 4, 3))
    assert distance(model, expected) < 1e-6


def test_gradients_left_on_the_model_do_not_enter_the_first_step():
    """As after a cell that called `loss.backward()` to look at a gradient."""
    model, clean, batches = tiny.model(dropout=0.0), tiny.model(dropout=0.0), tiny.batches(4, 4)
    cross_entropy(forward(model, batches[1]), batches[1].labels).backward()
    one_epoch(model, batches)
    one_epoch(clean, batches)
    assert distance(model, clean) == 0


@pytest.mark.parametrize("max_norm", [0.01, 0.5])
def test_clipping_bounds_the_step_and_keeps_its_direction(max_norm):
    before, clipped, free = (tiny.model(dropout=0.0) for _ in range(3))
    batch = tiny.batches(8)
    one_epoch(free, batch, lr=1.0)
    assert gradient_norm(free) > 0.6, "there is something to clip"
    one_epoch(clipped, batch, lr=1.0, max_norm=max_norm)

    def step(model: nn.Module) -> torch.Tensor:
        pairs = zip(model.parameters(), before.parameters(), strict=True)
        return torch.cat([(p - q).detach().flatten() for p, q in pairs])

    assert step(clipped).norm() == pytest.approx(max_norm, rel=1e-3)
    assert torch.cosine_similarity(step(clipped), step(free), dim=0) > 0.9999


def test_small_gradients_are_left_alone():
    free, clipped = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    one_epoch(free, tiny.batches(8), max_norm=math.inf)
    one_epoch(clipped, tiny.batches(8), max_norm=1000.0)
    assert distance(free, clipped) == 0


def test_the_loop_takes_a_step_only_when_it_is_asked():
    """A generator: nothing happens before it is iterated over, or after it is left."""
    model, before = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    read: list[Batch] = []
    batches = (read.append(batch) or batch for batch in tiny.batches(2, 2, 2))
    steps = training_steps(model, batches, cross_entropy, optimizer, constant(optimizer))
    assert (distance(model, before), read) == (0, [])
    next(steps)
    after_one = copy.deepcopy(model)
    assert distance(model, before) > 0
    assert len(read) == 1
    steps.close()
    assert distance(model, after_one) == 0


def test_dropout_is_on_while_training_whatever_the_model_came_in():
    model = tiny.model().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    modes: list[bool] = []
    model.bert.register_forward_hook(lambda module, *_: modes.append(module.training))
    for _ in training_steps(
        model, tiny.batches(4, 4), cross_entropy, optimizer, constant(optimizer)
    ):
        model.eval()  # as who looks at the model between two steps
    assert modes == [True, True]


def test_grouped_takes_what_comes_and_no_more_than_it_needs():
    assert list(grouped([], 3)) == []
    assert list(grouped(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    source = iter(range(10))
    next(grouped(source, 2))
    assert next(source) == 2


def test_the_attention_mask_reaches_the_model():
    """What stands on the padding changes nothing, unless the mask is lost on the way."""
    model, data = tiny.model(), tiny.dataset(0, 8)
    rows = [data[i] for i in range(8)]
    zeros, words = collate(rows, pad_id=0), collate(rows, pad_id=9)
    assert not torch.equal(zeros.input_ids, words.input_ids)
    with torch.no_grad():
        torch.testing.assert_close(forward(model, zeros), forward(model, words), atol=1e-6, rtol=0)


# --- a loss that is no number -----------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights(bad, accumulate):
    batches = tiny.batches(4, 4, 4, 4, target="rating")
    batches[3].labels[1] = bad
    model, expected = tiny.model(1, dropout=0.0), tiny.model(1, dropout=0.0)
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf): try a lower lr"):
        one_epoch(model, batches, accumulate=accumulate, loss_fn=rating_loss)
    one_epoch(expected, batches[: 4 - accumulate], accumulate=accumulate, loss_fn=rating_loss)
    assert distance(model, expected) == 0


# --- optimiser and schedule -------------------------------------------------------------------


def test_only_matrices_decay_and_every_trainable_parameter_is_in_one_group():
    model = tiny.model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay, plain = parameter_groups(model, 0.01)
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert all(
        names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in plain["params"]
    )
    assert not any(
        names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in decay["params"]
    )
    assert sorted(id(p) for g in (decay, plain) for p in g["params"]) == sorted(names)


def test_frozen_parameters_are_left_out_and_nothing_to_train_is_an_error():
    model = tiny.model()
    model.bert.requires_grad_(False)
    groups = make_optimizer(model).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="everything is frozen"):
        make_optimizer(model)


def test_decay_pulls_matrices_and_not_biases():
    """With a gradient of zero, AdamW multiplies what decays by 1 - lr x decay."""
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    optimizer = make_optimizer(layer, lr=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert layer.weight.detach().flatten().tolist() == pytest.approx([0.95] * 6)
    assert layer.bias.detach().tolist() == [1.0, 1.0]


def test_the_fused_optimizer_is_the_plain_one_but_faster():
    fused, plain = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    optimizers = [
        make_optimizer(fused, lr=1e-3),
        torch.optim.AdamW(parameter_groups(plain, 0.01), lr=1e-3, fused=False, foreach=False),
    ]
    assert optimizers[0].defaults["fused"]
    for model, optimizer in zip((fused, plain), optimizers, strict=True):
        list(
            training_steps(model, tiny.batches(4, 4), cross_entropy, optimizer, constant(optimizer))
        )
    assert distance(fused, plain) < 1e-5


def test_the_schedule_by_hand():
    factors = [warmup_then_decay(step, total=10, warmup=0.4) for step in range(12)]
    up, down = [1 / 4, 2 / 4, 3 / 4, 1], [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0]
    assert factors == pytest.approx(up + down)
    assert warmup_then_decay(0, total=5, warmup=0) == 1
    assert warmup_then_decay(0, total=1, warmup=0.9) == 1


def test_the_schedule_is_that_of_every_group_and_starts_before_the_first_step():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": [w], "lr": lr} for w, lr in zip(weights, (1, 10), strict=True)]
    )
    schedule = make_schedule(optimizer, total=10, warmup=0.4)
    seen = []
    for _ in range(10):
        seen.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    factors = [warmup_then_decay(step, total=10, warmup=0.4) for step in range(10)]
    assert seen == [pytest.approx([factor, 10 * factor]) for factor in factors]


@pytest.mark.parametrize("warmup", [10, 1.0, -0.1, math.nan])
def test_a_warm_up_is_a_share_and_not_a_number_of_steps(warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="warmup must be a share of all steps"):
        make_schedule(optimizer, total=100, warmup=warmup)


# --- evaluation -------------------------------------------------------------------------------


def test_evaluation_is_exact_for_batches_of_any_size_and_in_order():
    model, data = tiny.model(), tiny.dataset(0, 10)
    reference = collate([data[i] for i in range(10)])
    with torch.no_grad():
        logits = forward(model, reference)
    expected = cross_entropy(logits, reference.labels).item()
    for batch_size in (1, 3, 10):
        result = evaluate(model, eval_loader(data, batch_size), cross_entropy)
        assert result.loss == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(result.logits, logits, atol=1e-6, rtol=0)
        assert torch.equal(result.labels, reference.labels)
        assert not result.logits.requires_grad


def test_evaluation_with_class_weights_is_that_of_the_whole_set():
    """A weighted mean is no mean of batch means at all."""
    model, data = tiny.model(), tiny.dataset(0, 10)
    loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))
    one, many = (evaluate(model, eval_loader(data, size), loss_fn) for size in (10, 3))
    assert one.loss == pytest.approx(many.loss, abs=1e-6)


@pytest.mark.parametrize("training_mode", [True, False])
def test_evaluation_is_without_dropout_and_puts_the_mode_back(training_mode):
    model, data = tiny.model(dropout=0.5), tiny.dataset(0, 10)
    model.train(training_mode)
    state = torch.get_rng_state()
    first, second = (evaluate(model, eval_loader(data, 4), cross_entropy) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    assert model.training is training_mode
    assert torch.equal(torch.get_rng_state(), state)


def test_rating_loss_is_the_mean_squared_error():
    assert rating_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 4.0])) == 2.5


# --- mixed precision --------------------------------------------------------------------------


class Elsewhere(nn.Module):
    """A model that says it lies on a device which this machine may not have."""

    def __init__(self, device: str, size: int) -> None:
        super().__init__()
        self.weight = SimpleNamespace(
            device=torch.device(device), numel=lambda: size, requires_grad=True
        )

    def parameters(self, recurse: bool = True):
        yield self.weight


@pytest.mark.parametrize(
    ("device", "bfloat16", "size", "expected"),
    [
        ("cpu", True, 1_000, "bfloat16"),
        ("cpu", False, 1_000, "float32"),
        ("mps", True, 1_000, "float32"),
        ("cuda", True, 110_000_000, "bfloat16"),
        ("cuda", False, 110_000_000, "float16"),
        ("cuda", True, 22_700_000, "float32"),
    ],
)
def test_auto_takes_what_the_device_has(monkeypatch, device, bfloat16, size, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": bfloat16})
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, enabled: (kind, enabled))
    precision = MixedPrecision(Elsewhere(device, size))
    assert precision.name == expected
    if expected == "float32":
        assert isinstance(precision.autocast(), nullcontext)
    else:
        assert precision.autocast() == (device, getattr(torch, expected))
    assert precision.scaler == (device, expected == "float16")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision must be auto, float32, .* got 'int8'"):
        MixedPrecision(tiny.model(), "int8")


def test_bfloat16_computes_in_it_and_keeps_weights_and_logits_in_float32():
    model, plain = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    seen: list[torch.dtype] = []
    model.bert.encoder.layer[0].output.dense.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    losses: list[torch.dtype] = []

    def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses.append(logits.dtype)
        return cross_entropy(logits, labels)

    precision = MixedPrecision(model, "bfloat16")
    one_epoch(model, tiny.batches(4, 4), precision=precision, loss_fn=loss_fn)
    assert set(seen) == {torch.bfloat16}
    assert set(losses) == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    one_epoch(plain, tiny.batches(4, 4))
    assert 0 < distance(model, plain) < 0.01


def test_a_loss_scale_changes_nothing_and_clipping_sees_true_gradients():
    scaled, plain = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    precision = MixedPrecision(scaled, "float32")
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=True)
    one_epoch(scaled, tiny.batches(4, 4), precision=precision, max_norm=0.3)
    one_epoch(plain, tiny.batches(4, 4), max_norm=0.3)
    assert distance(scaled, plain) < 1e-7


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # nothing was stepped
def test_a_step_whose_scaled_gradients_overflow_is_skipped_and_the_scale_lowered():
    model, before = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    precision = MixedPrecision(model, "float32")
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, enabled=True)
    records = one_epoch(
        model, tiny.batches(4), precision=precision, loss_fn=lambda x, y: 100 * cross_entropy(x, y)
    )
    assert len(records) == 1
    assert distance(model, before) == 0
    assert precision.state_dict()["scale"] == 2.0**126


def test_float16_has_its_loss_scale_wherever_it_is_used():
    """Half of the pair without the other is what lesson 07 once trained with on old GPUs."""
    model = tiny.model()
    assert MixedPrecision(model, "float16").scaler.is_enabled()
    assert not MixedPrecision(model, "bfloat16").scaler.is_enabled()
    with pytest.raises(TypeError):
        _, _ = MixedPrecision(model, "float16")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fit_learns_in_half_precision(precision):
    train, _ = tiny.loaders(train=8, batch_size=8)
    validation = eval_loader(tiny.dataset(0, 8))
    model = tiny.model(dropout=0.0)
    recipe = Recipe(epochs=25, lr=5e-3, precision=precision)
    history = fit(model, train, validation, recipe=recipe, **QUIET)
    assert history.best.loss < 0.3 < history.evaluations[0].loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# --- fit --------------------------------------------------------------------------------------


def test_one_batch_can_be_learnt_by_heart():
    train, _ = tiny.loaders(train=8, batch_size=8)
    validation = eval_loader(tiny.dataset(0, 8))
    model = tiny.model(dropout=0.0)
    assert 0 < tiny.dataset(0, 8).labels.sum() < 8
    history = fit(model, train, validation, recipe=Recipe(epochs=30, lr=5e-3), **QUIET)
    assert history.steps[0].loss > 0.5
    assert history.steps[-1].loss < 0.05
    result = evaluate(model, validation, cross_entropy)
    assert torch.equal(result.logits.argmax(dim=1), result.labels)


def test_the_history_is_complete_and_adds_up():
    records: list[EpochRecord] = []
    train, validation = tiny.loaders()
    model = tiny.model()
    history = fit(
        model,
        train,
        validation,
        recipe=Recipe(epochs=3, lr=1e-3, warmup=0.25, accumulate=2, validate_every=3),
        on_epoch_end=records.append,
        **QUIET,
    )
    assert [record.step for record in history.steps] == list(range(1, 13))
    batches = [batch for epoch in range(3) for batch in train.batch_sampler.batches(epoch)]
    groups = [g for start in (0, 7, 14) for g in grouped(batches[start : start + 7], 2)]
    assert [record.examples for record in history.steps] == [sum(map(len, g)) for g in groups]
    factors = [1 / 3, 2 / 3, 1] + [(12 - i) / 9 for i in range(3, 12)]
    assert [record.lr for record in history.steps] == pytest.approx([1e-3 * f for f in factors])
    assert [record.step for record in history.evaluations] == [3, 4, 6, 8, 9, 12]
    assert history.epochs == records
    for i, record in enumerate(records):
        steps = history.steps[4 * i : 4 * i + 4]
        assert (record.epoch, record.examples) == (i + 1, 26)
        expected = sum(step.loss * step.examples for step in steps) / 26
        assert record.train_loss == pytest.approx(expected)
        at_end = next(e for e in history.evaluations if e.step == 4 * i + 4)
        assert record.validation_loss == at_end.loss
        assert record.seconds > 0
    assert not history.stopped_early
    assert not model.training
    restored = History()
    restored.load_state_dict(history.state_dict())
    assert restored == history


def test_every_epoch_sees_every_example_in_another_order():
    train, validation = tiny.loaders()
    seen: list[list[list[int]]] = [[], []]
    plain_forward = training.forward

    def watch(model: nn.Module, batch: Batch) -> torch.Tensor:
        if model.training:
            seen[sum(len(b) for b in seen[0]) >= 26].append(batch.index.tolist())
        return plain_forward(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "forward", watch)
        fit(tiny.model(), train, validation, **QUIET)
    for epoch in seen:
        assert sorted(i for batch in epoch for i in batch) == list(range(26))
    assert seen[0] != seen[1]


def contrary() -> tuple[DataLoader, DataLoader]:
    """Loaders whose validation labels are the training labels, turned round."""
    train, validation = tiny.dataset(0, 8), tiny.dataset(0, 8)
    validation.labels = 1 - validation.labels
    return train_loader(train, 8), eval_loader(validation)


def test_the_best_weights_are_kept_and_not_the_last(tmp_path):
    """What is learnt in training is wrong in validation, so the first look is the best one."""
    train, validation = contrary()
    model = tiny.model(dropout=0.0)
    recipe = Recipe(epochs=10, lr=1e-2)
    history = fit(model, train, validation, recipe=recipe, folder=tmp_path, **QUIET)
    assert history.best == history.evaluations[0]
    assert history.evaluations[-1].loss > history.best.loss + 0.5
    assert evaluate(model, validation, cross_entropy).loss == history.best.loss
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert all(torch.equal(w, best[name]) for name, w in model.state_dict().items())
    last = torch.load(tmp_path / "last.pt", weights_only=True)["state"]["model"]
    assert any(not torch.equal(w, last[name]) for name, w in model.state_dict().items())


def test_the_stopping_rule_sees_all_evaluations_and_ends_training():
    train, validation = tiny.loaders()
    seen: list[list[EvalRecord]] = []

    def stop_at_the_third(evaluations: list[EvalRecord]) -> bool:
        seen.append(list(evaluations))
        return len(evaluations) == 3

    history = fit(
        tiny.model(),
        train,
        validation,
        recipe=Recipe(epochs=5, validate_every=3),
        should_stop=stop_at_the_third,
        **QUIET,
    )
    assert [len(evaluations) for evaluations in seen] == [1, 2, 3]
    assert seen[-1] == history.evaluations
    assert history.stopped_early
    assert [e.step for e in history.evaluations] == [3, 6, 7]
    assert len(history.steps) == 7


def test_stopping_in_the_middle_of_an_epoch_still_gives_its_record():
    train, validation = tiny.loaders()
    recipe = Recipe(validate_every=5)
    history = fit(
        tiny.model(), train, validation, recipe=recipe, should_stop=lambda _: True, **QUIET
    )
    seen = sum(map(len, train.batch_sampler.batches(0)[:5]))
    assert [(record.epoch, record.examples) for record in history.epochs] == [(1, seen)]


def test_loss_optimizer_and_sampler_are_arguments():
    class Backwards(EpochSampler):
        def batches(self, epoch: int) -> list[list[int]]:
            return cut(list(range(self.size))[::-1], self.batch_size)

    data = tiny.dataset(0, 12, target="rating")
    train = train_loader(data, 4, sampler=Backwards(12, 4))
    model = tiny.model(1)
    optimizer = torch.optim.SGD(model.classifier.parameters(), lr=0.05)
    before = tiny.weights(model)
    history = fit(model, train, eval_loader(data), rating_loss, optimizer=optimizer, **QUIET)
    changed = {n for n, w in model.state_dict().items() if not torch.equal(w, before[n])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert history.steps[0].lr == pytest.approx(0.05)
    first = collate([data[i] for i in (11, 10, 9, 8)])
    assert history.steps[0].loss == pytest.approx(float(first.labels.square().mean()), rel=0.5), (
        "the squared error of logits near zero"
    )


def test_the_same_seed_gives_the_same_run_and_progress_does_not_matter(capsys):
    runs = []
    for progress in (False, True, False):
        seed_everything(4)
        train, validation = tiny.loaders()
        model = tiny.model()
        recipe = Recipe(lr=1e-3)
        history = fit(model, train, validation, recipe=recipe, device=CPU, progress=progress)
        runs.append((tiny.weights(model), history.steps, history.evaluations))
        printed = capsys.readouterr()
        assert printed.err == ""
        if progress:
            assert "epoch 2/2: 100%" in printed.out
            assert "52/52" in printed.out
            assert f"loss {history.steps[-1].loss:.3f}" in printed.out
            assert "ex/s" in printed.out
        else:
            assert printed.out == ""
    for weights, steps, evaluations in runs[1:]:
        assert (steps, evaluations) == runs[0][1:]
        assert all(torch.equal(w, runs[0][0][name]) for name, w in weights.items())


def test_a_loss_that_is_no_number_ends_fit_and_its_bar(capsys):
    train, validation = tiny.loaders(target="rating")
    model = tiny.model(1)
    nn.init.constant_(model.classifier.weight, math.nan)
    with pytest.raises(FloatingPointError, match="the loss became nan") as raised:
        fit(model, train, validation, rating_loss, device=CPU)
    assert raised.tb, "which keeps the bar alive, so that only `fit` can have closed it"
    assert capsys.readouterr().out.endswith("\n")


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ({"epochs": 0}, "needs epochs of at least 1, got Recipe"),
        ({"accumulate": 0}, "accumulate of at least 1"),
        ({"warmup": 1.0}, "warmup from 0 to below 1"),
        ({"warmup": -0.1}, "warmup from 0 to below 1"),
        ({"lr": 0.0}, "lr above 0"),
        ({"lr": math.nan}, "lr above 0"),
        ({"weight_decay": -1.0}, "weight_decay of at least 0"),
        ({"max_norm": 0.0}, "max_norm above 0"),
        ({"validate_every": 0}, "validate_every of at least 1, or None"),
        ({"epochs": 0, "lr": -1.0}, "epochs of at least 1 and lr above 0"),
        ({"lr": math.inf}, "lr above 0 and finite"),
        ({"weight_decay": math.inf}, "weight_decay of at least 0 and finite"),
        ({"lr": "1e-3"}, "lr must be a number, got '1e-3'"),
        ({"lr": True}, "lr must be a number, got True"),
        ({"warmup": None}, "warmup must be a number, got None"),
        ({"max_norm": "1"}, "max_norm must be a number, got '1'"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"epochs": math.inf}, "epochs must be a whole number, got inf"),
        ({"epochs": None}, "epochs must be a whole number, got None"),
        ({"accumulate": "2"}, "accumulate must be a whole number, got '2'"),
        ({"validate_every": 2.5}, "validate_every must be a whole number, got 2.5"),
    ],
)
def test_a_recipe_out_of_range_is_refused(decisions, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**decisions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"save_every": 1.5}, "save_every must be a whole number, got 1.5"),
        ({"recipe": Recipe(precision="half")}, "precision must be"),
        ({"resume": True}, "resume=True needs the folder"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_happens(arguments, message):
    model = tiny.model()
    before = tiny.weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, *tiny.loaders(), **QUIET, **arguments)
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_label_that_the_head_does_not_have_is_named_before_training(part, untouched):
    """It used to end in an IndexError out of the loss, in the middle of an epoch."""
    train, validation = tiny.loaders()
    loader = {"train": train, "validation": validation}[part]
    loader.dataset.labels[3] = 2
    with pytest.raises(ValueError, match="row 3 of labels is 2, no class of a head of 2 outputs"):
        fit(untouched, train, validation, **QUIET)


def test_ratings_for_a_loss_that_wants_classes_are_refused_before_training(untouched):
    with pytest.raises(ValueError, match="ratings"):
        fit(untouched, *tiny.loaders(target="rating"), **QUIET)


@pytest.fixture
def untouched():
    """A model of which the test's end finds every weight as it was."""
    model = tiny.model()
    before = tiny.weights(model)
    yield model
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize("given", [{"lr": 1e-3}, {"weight_decay": 0.0}])
def test_rates_beside_an_optimizer_of_one_s_own_are_refused(given):
    """They used to be ignored without a word."""
    model = tiny.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="leave lr and weight_decay out of the recipe"):
        fit(model, *tiny.loaders(), recipe=Recipe(**given), optimizer=optimizer, **QUIET)


def test_a_loader_that_could_not_be_resumed_is_refused():
    data = tiny.dataset(0, 8)
    plain = DataLoader(data, batch_size=4, shuffle=True, collate_fn=collate)
    with pytest.raises(ValueError, match=r"build it with batching\.train_loader"):
        fit(tiny.model(), plain, eval_loader(data), **QUIET)


# --- checkpoints and resuming -----------------------------------------------------------------

# 26 reviews in batches of 4, two batches a step: 7 batches and 4 steps an epoch, 12 steps in all;
# looks at the validation set after steps 2, 4, 6, ..., checkpoints after steps 3, 6, 9 and 12.
RECIPE = Recipe(epochs=3, lr=1e-3, accumulate=2, validate_every=2)
OPTIONS: dict[str, Any] = {"recipe": RECIPE, "save_every": 3, **QUIET}


def run(folder: Path, seed: int = 0, **options: Any) -> tuple[dict, History]:
    """Train with dropout; everything random hangs on `seed`, or on the checkpoint."""
    seed_everything(seed)
    model = tiny.model(seed=seed)
    history = fit(model, *tiny.loaders(), folder=folder, **{**OPTIONS, **options})
    return tiny.weights(model), history


def run_until(folder: Path, batch: int | None, save: int | None, options: dict) -> None:
    """Run, and die as by `kill -9` when training batch `batch` or save number `save` comes."""
    torch.set_num_threads(1)
    batches, saves = 0, 0
    plain_save = torch.save

    plain_forward = training.forward

    def deadly_forward(model: nn.Module, inputs: Batch) -> torch.Tensor:
        nonlocal batches
        batches += model.training
        if batches == batch:
            die()
        return plain_forward(model, inputs)

    def half_save(content: object, file: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == save:
            file.write(b"PK\x03\x04 the first half")
            file.flush()
            die()
        plain_save(content, file)

    checkpoints.torch.save = half_save
    training.forward = deadly_forward
    run(folder, **options)


def run_in_process(folder: Path, seed: int, options: dict) -> tuple[dict, dict]:
    torch.set_num_threads(1)
    weights, history = run(folder, seed, **options)
    return {name: weight.numpy() for name, weight in weights.items()}, asdict(history)


def without_clock(value: Any) -> Any:
    """Tensors as arrays, and how long it took left out, so that two runs can be compared."""
    if isinstance(value, dict):
        return {k: without_clock(v) for k, v in value.items() if k != "seconds"}
    if isinstance(value, list | tuple):
        return [without_clock(v) for v in value]
    return value.numpy() if isinstance(value, torch.Tensor) else value


def assert_same_run(folder: Path, result: tuple, reference: Path, expected: tuple) -> None:
    """The same bits: final weights, history, and everything the last checkpoint holds."""
    np.testing.assert_equal(without_clock(result), without_clock(expected))
    for name in ("best.pt", "last.pt"):
        found, wanted = (torch.load(f / name, weights_only=True) for f in (folder, reference))
        np.testing.assert_equal(without_clock(found), without_clock(wanted))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Path, tuple]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, Running(run_in_process, folder, 0, {}).result()


def test_the_uninterrupted_run_is_worth_comparing_with(uninterrupted):
    folder, (_, history) = uninterrupted
    assert len(history["steps"]) == 12
    state = torch.load(folder / "last.pt", weights_only=True)["state"]
    assert set(state) == {"model", "optimizer", "schedule", "precision", "history"}
    moments = state["optimizer"]["state"][0]
    assert moments["step"] == 12
    assert moments["exp_avg"].abs().max() > 0


@pytest.mark.parametrize(
    ("batch", "save", "saved"),
    [
        (2, None, 0),  # between the two batches of the first step
        (6, None, 0),  # best.pt is there, last.pt is not
        (7, None, 3),  # in the step after the first checkpoint, the last of its epoch
        (10, None, 3),  # in the middle of an epoch, between two checkpoints
        (12, None, 6),  # in the middle of an epoch, just after a checkpoint
        (15, None, 6),  # first batch of an epoch
        (21, None, 9),  # last batch of all
        (None, 1, 0),  # while writing the first best weights
        (None, 2, 0),  # while writing the first or second file after them
        (None, 5, None),
        (None, 8, None),
    ],
)
def test_a_killed_run_ends_as_one_never_interrupted(tmp_path, uninterrupted, batch, save, saved):
    assert Running(run_until, tmp_path, batch, save, {}).exit_code() == KILLED
    last = tmp_path / "last.pt"
    steps = 0
    if last.exists():
        steps = len(torch.load(last, weights_only=True)["state"]["history"]["steps"])
    assert saved in (None, steps)
    assert steps < 12
    # Another seed, and so another head and other random numbers: all must come from the file.
    seed = 1234 if steps else 0
    result = Running(run_in_process, tmp_path, seed, {"resume": True}).result()
    assert_same_run(tmp_path, result, *uninterrupted)
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "last.pt"]


@pytest.mark.slow
def test_a_run_killed_again_and_again_still_ends_the_same(tmp_path, uninterrupted):
    for batch in (8, 9, 9, 5):  # counted anew in each process
        options = {"resume": True}
        assert Running(run_until, tmp_path, batch, None, options).exit_code() == KILLED
    result = Running(run_in_process, tmp_path, 99, {"resume": True}).result()
    assert_same_run(tmp_path, result, *uninterrupted)


@pytest.mark.slow
def test_resuming_in_half_precision_with_a_loss_scale(tmp_path):
    options: dict[str, Any] = {"recipe": replace(RECIPE, precision="float16")}
    expected = Running(run_in_process, tmp_path / "whole", 0, options).result()
    killed = Running(run_until, tmp_path / "killed", 11, None, options)
    assert killed.exit_code() == KILLED
    options["resume"] = True
    result = Running(run_in_process, tmp_path / "killed", 5, options).result()
    assert_same_run(tmp_path / "killed", result, tmp_path / "whole", expected)
    state = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)["state"]
    assert state["precision"]["scale"] > 1


@pytest.fixture
def untouchable(monkeypatch):
    """Call it, and from then on no model may be asked anything."""

    def forbid() -> None:
        def forward(*_: object) -> torch.Tensor:
            raise AssertionError("nothing was left to do")

        monkeypatch.setattr(training, "forward", forward)

    return forbid


def test_a_finished_run_is_returned_without_training(tmp_path, untouchable):
    weights, history = run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    untouchable()
    again, same = run(tmp_path, seed=77, resume=True)
    assert same == history
    assert all(torch.equal(w, weights[name]) for name, w in again.items())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def stop_at_the_second(evaluations: list[EvalRecord]) -> bool:
    return len(evaluations) == 2


def test_a_run_that_stopped_early_stays_stopped(tmp_path, untouchable):
    _, history = run(tmp_path, should_stop=stop_at_the_second)
    assert history.stopped_early
    untouchable()
    _, same = run(tmp_path, seed=77, resume=True, should_stop=stop_at_the_second)
    assert same == history


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["recipe", "optimizer"])
def test_a_run_with_numbers_from_numpy_can_be_resumed(tmp_path, whose):
    """Rates out of `np.geomspace` made a checkpoint that nothing could read again."""
    rate = np.geomspace(1e-4, 1e-3, 3)[1]

    def options() -> dict[str, Any]:
        model = tiny.model()
        given: dict[str, Any] = {"model": model, "folder": tmp_path, **QUIET}
        if whose == "recipe":
            return {**given, "recipe": Recipe(epochs=np.int64(1), lr=rate)}
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        return {**given, "recipe": Recipe(epochs=1), "optimizer": optimizer}

    train, validation = tiny.loaders()
    first = fit(train_loader=train, validation_loader=validation, **options())
    again = fit(train_loader=train, validation_loader=validation, resume=True, **options())
    assert again.steps == first.steps


def test_resuming_where_there_is_nothing_starts_anew(tmp_path):
    weights, history = run(tmp_path / "one", resume=True)
    other, _ = run(tmp_path / "two")
    assert all(torch.equal(w, other[name]) for name, w in weights.items())
    assert len(history.steps) == 12


def other_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, labels)


def refused(folder: Path, message: str, untouchable, model: nn.Module | None = None, **options):
    """Resume with other settings: refused by name, and the run is left as it was."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    untouchable()
    with pytest.raises(ValueError, match=message):
        fit(model or tiny.model(), **{**OPTIONS, "folder": folder, **options})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "already holds a run: pass resume=True or another folder"),
        ({"lr": 2e-3}, r"was another one: lr was 0\.001, is 0\.002$"),
        ({"accumulate": 1, "epochs": 4}, "epochs was 3, is 4, accumulate was 2"),
        ({"precision": "bfloat16"}, "precision was auto, is bfloat16"),
        ({"loss_fn": other_loss}, "loss was cross_entropy, is other_loss"),
        ({"should_stop": stop_at_the_second}, "stopping was None, is stop_at_the_second"),
    ],
)
def test_a_run_is_never_mixed_with_another(tmp_path, untouchable, options, message):
    run(tmp_path)
    options = dict(options)
    names = {"lr", "accumulate", "epochs", "precision"} & set(options)
    recipe = replace(RECIPE, **{name: options.pop(name) for name in names})
    train, validation = tiny.loaders()
    options |= {"train_loader": train, "validation_loader": validation, "recipe": recipe}
    refused(tmp_path, message, untouchable, resume=message[:7] != "already", **options)


def test_another_head_or_dropout_is_another_run(tmp_path, untouchable):
    """Another head used to end in PyTorch's own RuntimeError."""
    run(tmp_path)
    train, validation = tiny.loaders()
    options = {"train_loader": train, "validation_loader": validation, "resume": True}
    three = "model classifier.weight was [2, 32], is [3, 32]"
    refused(tmp_path, re.escape(three), untouchable, tiny.model(3), **options)
    refused(tmp_path, "architecture was", untouchable, tiny.model(dropout=0.3), **options)
    frozen = tiny.model()
    frozen.bert.requires_grad_(False)
    refused(tmp_path, "trained was", untouchable, frozen, **options)


def test_another_optimizer_is_another_run(tmp_path, untouchable):
    def options(lr: float) -> dict[str, Any]:
        model = tiny.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        recipe = replace(RECIPE, lr=None)
        return {"model": model, "optimizer": optimizer, "recipe": recipe, **OPTIONS_TO_RESUME}

    train, validation = tiny.loaders()
    OPTIONS_TO_RESUME = {"train_loader": train, "validation_loader": validation, "resume": True}
    fit(**{**OPTIONS, **options(0.1)}, folder=tmp_path)
    fit(**{**OPTIONS, **options(0.1)}, folder=tmp_path)  # the same again: nothing left to do
    refused(tmp_path, r"optimizer was SGD .*'lr': 0\.1.*is SGD .*0\.2", untouchable, **options(0.2))


def test_other_data_or_another_sampler_is_another_run(tmp_path, untouchable):
    run(tmp_path)
    data, validation = tiny.dataset(0, 26), tiny.loaders()[1]
    relabelled = tiny.dataset(0, 26)
    relabelled.labels = 1 - relabelled.labels
    cases = {
        "training examples was 26, is 25": train_loader(tiny.dataset(0, 25), 4, seed=1),
        "training batch_size was 4, is 5": train_loader(data, 5, seed=1),
        "training seed was 1, is 2": train_loader(data, 4, seed=2),
        "training sampler was BucketSampler, is RandomSampler": train_loader(
            data, 4, sampler=RandomSampler(26, 4, seed=1)
        ),
        "training data was": train_loader(relabelled, 4, seed=1),
    }
    for message, train in cases.items():
        options = {"train_loader": train, "validation_loader": validation, "resume": True}
        refused(tmp_path, message, untouchable, **options)
    options = {"train_loader": tiny.loaders()[0], "resume": True}
    other = eval_loader(tiny.dataset(27, 37), batch_size=3)
    refused(tmp_path, "validation data was", untouchable, validation_loader=other, **options)


def scaled_loss(factor: float) -> Callable[..., torch.Tensor]:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return factor * cross_entropy(logits, labels)

    return loss


def test_functions_are_told_apart_by_what_they_do():
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0]))
    different = [
        cross_entropy,
        other_loss,
        partial(cross_entropy, weight=torch.tensor([1.0, 9.0])),
        partial(cross_entropy, weight=torch.tensor([1.0, 8.0])),
        weighted,
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 8.0])),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="sum"),
        scaled_loss(2.0),
        scaled_loss(3.0),
        lambda logits, labels, factor=2: factor * cross_entropy(logits, labels),
        lambda logits, labels, factor=3: factor * cross_entropy(logits, labels),
        lambda logits, labels: cross_entropy(logits, labels),
        lambda logits, labels: 2 * cross_entropy(logits, labels),
    ]
    names = [describe(function) for function in different]
    assert len(set(names)) == len(names)
    assert not any(" at 0x" in name for name in names), "an address is another one each time"
    assert names == [describe(function) for function in copy.deepcopy(different)]


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_damaged_file_is_named_and_kept(tmp_path, untouchable, name):
    run(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:1000])
    untouchable()
    with pytest.raises(ValueError, match=f"cannot read the checkpoint {path}"):
        run(tmp_path, resume=True)
    assert len(path.read_bytes()) == 1000


# --- TensorBoard ------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_the_log_can_be_read_back_and_a_resumed_run_leaves_neither_gap_nor_double(tmp_path):
    log = tmp_path / "log"
    options: dict[str, Any] = {"log_folder": log}
    killed = Running(run_until, tmp_path / "run", 10, None, options)
    assert killed.exit_code() == KILLED
    time.sleep(1)  # TensorBoard reads a folder's files in the order of their second
    _, history = run(tmp_path / "run", resume=True, **options)
    found = scalars(log)
    assert set(found) == {"loss/train", "loss/validation", "lr"}
    for tag, expected in (
        ("loss/train", [(record.step, record.loss) for record in history.steps]),
        ("lr", [(record.step, record.lr) for record in history.steps]),
        ("loss/validation", [(record.step, record.loss) for record in history.evaluations]),
    ):
        assert [step for step, _ in found[tag]] == [step for step, _ in expected]
        values = [value for _, value in expected]
        assert [value for _, value in found[tag]] == pytest.approx(values)


def test_the_log_reaches_as_far_as_each_checkpoint(monkeypatch, tmp_path):
    """Where TensorFlow is installed, as in Colab, TensorBoard keeps events back until told."""
    happened: list[str] = []

    class Writer:
        def __getattr__(self, name: str):
            return lambda *_: happened.append(name)

    monkeypatch.setattr(history, "_summary_writer", lambda folder, steps_done: Writer())
    monkeypatch.setattr(
        checkpoints.RunFolder, "save_last", lambda self, state: happened.append("save")
    )
    run(tmp_path, log_folder=tmp_path)
    saves = [i for i, event in enumerate(happened) if event == "save"]
    assert [happened[i - 1] for i in saves] == ["flush"] * 4
    assert happened[-1] == "close"


def test_an_interrupt_leaves_a_log_of_what_was_done(tmp_path):
    def interrupt(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            tiny.model(),
            *tiny.loaders(),
            log_folder=tmp_path,
            on_epoch_end=interrupt,
            **QUIET,
        )
    assert [step for step, _ in scalars(tmp_path)["loss/train"]] == list(range(1, 8))


# --- the real encoder, killed from outside ----------------------------------------------------

SCRIPT = """
import sys
from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.datasets import load_corpus, targets
from course_utils.models import load_classifier, load_tokenizer
from course_utils.recipe import Recipe
from course_utils.runtime import seed_everything
from course_utils.training import fit

folder, seed = sys.argv[1], int(sys.argv[2])
seed_everything(seed)
rows = load_corpus("movies")[:40]
parts = [TokenizedDataset([r.text for r in p], targets(p), load_tokenizer(), max_tokens=24)
         for p in (rows[:32], rows[32:])]
fit(load_classifier(2, seed=seed), train_loader(parts[0], 4), eval_loader(parts[1]),
    recipe=Recipe(validate_every=5), save_every=3, folder=folder, resume=True, device="cpu",
    progress=False)
"""


@pytest.mark.slow
def test_the_real_encoder_killed_from_outside_continues_bit_for_bit(tmp_path):
    def start(folder: str, seed: int) -> subprocess.Popen[bytes]:
        (tmp_path / folder).mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / folder), str(seed)])

    killed = start("killed", 0)
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "last.pt").exists():
        assert killed.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    before = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
    assert len(before["state"]["history"]["steps"]) < 16
    assert start("killed", 7).wait() == 0
    assert start("whole", 0).wait() == 0
    for name in ("best.pt", "last.pt"):
        found, wanted = (
            without_clock(torch.load(tmp_path / folder / name, weights_only=True))
            for folder in ("killed", "whole")
        )
        np.testing.assert_equal(found, wanted)
        (tmp_path / "killed" / name).unlink()  # 700 MB otherwise stay in the temporary folder
        (tmp_path / "whole" / name).unlink()


def test_records_are_plain_data():
    history = History([StepRecord(1, 0.5, 1e-5, 4)], [EvalRecord(1, 0.7), EvalRecord(2, 0.6)])
    assert history.best.step == 2
    with pytest.raises(AttributeError):
        history.steps[0].loss = 0.1  # type: ignore[misc]
