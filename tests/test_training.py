"""The loop equals the textbook, and a killed run continues as if nothing had happened."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from course_utils import checkpoints, training
from course_utils.batching import (
    Batch,
    EpochSampler,
    RandomSampler,
    collate,
    cut,
    eval_loader,
    train_loader,
)
from course_utils.runtime import seed_everything
from course_utils.training import (
    EpochRecord,
    EvalRecord,
    History,
    StepRecord,
    evaluate,
    fit,
    forward,
    grouped,
    make_optimizer,
    mixed_precision,
    parameter_groups,
    rating_loss,
    train_one_epoch,
    warmup_then_decay,
)
from tests import tiny
from tests.processes import KILLED, Running, die

CPU = torch.device("cpu")
QUIET: dict[str, Any] = {"device": CPU, "progress": False}


def constant(optimizer: torch.optim.Optimizer) -> LambdaLR:
    """A schedule that leaves the learning rate alone."""
    return LambdaLR(optimizer, lambda step: 1.0)


def one_epoch(model, batches: list[Batch], lr: float = 0.1, **options: Any) -> list[tuple]:
    """Train by plain gradient descent; return what `after_step` was told."""
    options.setdefault("max_norm", math.inf)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    told: list[tuple] = []
    options.setdefault("after_step", lambda *told_now: bool(told.append(told_now)))
    loss_fn = options.pop("loss_fn", cross_entropy)
    train_one_epoch(model, batches, optimizer, constant(optimizer), loss_fn, device=CPU, **options)
    return told


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
    told = one_epoch(model, [batch], lr=0.1)
    assert distance(model, expected) < 1e-7
    assert told == [(pytest.approx(loss.item()), pytest.approx(0.1), 6)]


@pytest.mark.parametrize("sizes", [(5, 2, 3), (1, 8), (4, 4)])
def test_accumulated_unequal_batches_equal_one_large_batch(sizes):
    small, large = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    told_small = one_epoch(small, tiny.batches(*sizes), accumulate=len(sizes))
    told_large = one_epoch(large, tiny.batches(sum(sizes)))
    assert distance(small, large) < 1e-6
    assert distance(small, tiny.model()) > 1e-3, "it did move"
    assert told_small[0][0] == pytest.approx(told_large[0][0], abs=1e-6)
    assert told_small[0][2] == told_large[0][2] == sum(sizes)


def test_ratings_accumulate_exactly_too():
    small, large = (tiny.model(1, dropout=0.0) for _ in range(2))
    options: dict[str, Any] = {"loss_fn": rating_loss, "lr": 0.01}
    one_epoch(small, tiny.batches(7, 1, 2, target="rating"), accumulate=3, **options)
    one_epoch(large, tiny.batches(10, target="rating"), **options)
    assert distance(small, large) < 1e-6


def test_the_last_shorter_group_is_stepped_and_weighed_by_its_own_examples():
    model, expected = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    told = one_epoch(model, tiny.batches(2, 2, 2, 2, 3), accumulate=2)
    assert [examples for _, _, examples in told] == [4, 4, 3]
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


def test_after_step_can_end_the_epoch():
    calls: list[float] = []
    one_epoch(
        tiny.model(),
        tiny.batches(2, 2, 2),
        after_step=lambda *_: calls.append(1) or len(calls) == 2,
    )
    assert len(calls) == 2


def test_dropout_is_on_while_training_whatever_the_model_came_in():
    model = tiny.model().eval()
    one_epoch(model, tiny.batches(4))
    assert model.training


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
        train_one_epoch(
            model, tiny.batches(4, 4), optimizer, constant(optimizer), cross_entropy, device=CPU
        )
    assert distance(fused, plain) < 1e-5


def test_the_schedule_by_hand():
    factors = [warmup_then_decay(step, total=10, warmup=4) for step in range(12)]
    up, down = [1 / 4, 2 / 4, 3 / 4, 1], [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0]
    assert factors == pytest.approx(up + down)
    assert warmup_then_decay(0, total=5, warmup=0) == 1
    assert warmup_then_decay(0, total=1, warmup=1) == 1


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


@pytest.mark.parametrize(
    ("device", "bfloat16", "expected"),
    [
        ("cpu", True, "bfloat16"),
        ("cpu", False, "float32"),
        ("mps", True, "float32"),
        ("cuda", True, "bfloat16"),
        ("cuda", False, "float16"),
    ],
)
def test_auto_takes_what_the_device_has(monkeypatch, device, bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": bfloat16})
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, enabled: (kind, enabled))
    autocast, scaler = mixed_precision(torch.device(device))
    if expected == "float32":
        assert isinstance(autocast, nullcontext)
    else:
        assert autocast == (device, getattr(torch, expected))
    assert scaler == (device, expected == "float16")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision must be auto, float32, .* got 'int8'"):
        mixed_precision(CPU, "int8")


def test_bfloat16_computes_in_it_and_keeps_weights_and_logits_in_float32():
    model, plain = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    autocast, scaler = mixed_precision(CPU, "bfloat16")
    seen: list[torch.dtype] = []
    model.bert.encoder.layer[0].output.dense.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    losses: list[torch.dtype] = []

    def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses.append(logits.dtype)
        return cross_entropy(logits, labels)

    one_epoch(model, tiny.batches(4, 4), autocast=autocast, scaler=scaler, loss_fn=loss_fn)
    assert set(seen) == {torch.bfloat16}
    assert set(losses) == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    one_epoch(plain, tiny.batches(4, 4))
    assert 0 < distance(model, plain) < 0.01


def test_a_loss_scale_changes_nothing_and_clipping_sees_true_gradients():
    scaled, plain = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=True)
    one_epoch(scaled, tiny.batches(4, 4), scaler=scaler, max_norm=0.3)
    one_epoch(plain, tiny.batches(4, 4), max_norm=0.3)
    assert distance(scaled, plain) < 1e-7


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # nothing was stepped
def test_a_step_whose_scaled_gradients_overflow_is_skipped_and_the_scale_lowered():
    model, before = tiny.model(dropout=0.0), tiny.model(dropout=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, enabled=True)
    told = one_epoch(
        model, tiny.batches(4), scaler=scaler, loss_fn=lambda x, y: 100 * cross_entropy(x, y)
    )
    assert len(told) == 1
    assert distance(model, before) == 0
    assert scaler.get_scale() == 2.0**126


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fit_learns_in_half_precision(precision):
    train, _ = tiny.loaders(train=8, batch_size=8)
    validation = eval_loader(tiny.dataset(0, 8))
    model = tiny.model(dropout=0.0)
    history = fit(model, train, validation, epochs=25, lr=5e-3, precision=precision, **QUIET)
    assert history.best.loss < 0.3 < history.evaluations[0].loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# --- fit --------------------------------------------------------------------------------------


def test_one_batch_can_be_learnt_by_heart():
    train, _ = tiny.loaders(train=8, batch_size=8)
    validation = eval_loader(tiny.dataset(0, 8))
    model = tiny.model(dropout=0.0)
    assert 0 < tiny.dataset(0, 8).labels.sum() < 8
    history = fit(model, train, validation, epochs=30, lr=5e-3, **QUIET)
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
        epochs=3,
        lr=1e-3,
        warmup=0.25,
        accumulate=2,
        validate_every=3,
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
    assert History.from_dict(asdict(history)) == history


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
        fit(tiny.model(), train, validation, epochs=2, **QUIET)
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
    history = fit(model, train, validation, epochs=10, lr=1e-2, folder=tmp_path, **QUIET)
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
        epochs=5,
        validate_every=3,
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
    history = fit(
        tiny.model(), train, validation, validate_every=5, should_stop=lambda _: True, **QUIET
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
        history = fit(model, train, validation, lr=1e-3, device=CPU, progress=progress)
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
    train.dataset.labels[:] = np.nan
    with pytest.raises(FloatingPointError, match="the loss became nan") as raised:
        fit(tiny.model(1), train, validation, rating_loss, device=CPU)
    assert raised.tb, "which keeps the bar alive, so that only `fit` can have closed it"
    assert capsys.readouterr().out.endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "need epochs, accumulate and save_every of at least 1"),
        ({"accumulate": 0}, "got 2, 0, 100, 0.1"),
        ({"save_every": 0}, "save_every"),
        ({"warmup": 1.0}, "warmup from 0 to below 1"),
        ({"warmup": -0.1}, "warmup from 0 to below 1"),
        ({"lr": 0.0}, "lr above 0"),
        ({"validate_every": 0}, "validate_every must be at least 1, or None; got 0"),
        ({"precision": "half"}, "precision must be"),
        ({"resume": True}, "resume=True needs the folder"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_happens(arguments, message):
    model = tiny.model()
    before = tiny.weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, *tiny.loaders(), **QUIET, **arguments)
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


def test_a_loader_that_could_not_be_resumed_is_refused():
    data = tiny.dataset(0, 8)
    plain = DataLoader(data, batch_size=4, shuffle=True, collate_fn=collate)
    with pytest.raises(ValueError, match=r"build it with batching\.train_loader"):
        fit(tiny.model(), plain, eval_loader(data), **QUIET)


# --- checkpoints and resuming -----------------------------------------------------------------

# 26 reviews in batches of 4, two batches a step: 7 batches and 4 steps an epoch, 12 steps in all;
# looks at the validation set after steps 2, 4, 6, ..., checkpoints after steps 3, 6, 9 and 12.
RECIPE: dict[str, Any] = {
    "epochs": 3,
    "lr": 1e-3,
    "accumulate": 2,
    "validate_every": 2,
    "save_every": 3,
    **QUIET,
}


def run(folder: Path, seed: int = 0, **options: Any) -> tuple[dict, History]:
    """Train with dropout; everything random hangs on `seed`, or on the checkpoint."""
    seed_everything(seed)
    model = tiny.model(seed=seed)
    history = fit(model, *tiny.loaders(), folder=folder, **{**RECIPE, **options})
    return tiny.weights(model), history


def run_until(folder: Path, batch: int | None, save: int | None, options: dict) -> None:
    """Run, and die as by `kill -9` when training batch `batch` or save number `save` comes."""
    torch.set_num_threads(1)
    batches, saves = 0, 0
    plain_save = torch.save

    def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        batches += torch.is_grad_enabled()
        if batches == batch:
            die()
        return cross_entropy(logits, labels)

    def half_save(content: object, file: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == save:
            file.write(b"PK\x03\x04 the first half")
            file.flush()
            die()
        plain_save(content, file)

    checkpoints.torch.save = half_save
    run(folder, loss_fn=loss_fn, **options)


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
    assert set(state) == {"model", "optimizer", "schedule", "scaler", "history"}
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
    options = {"precision": "float16"}
    expected = Running(run_in_process, tmp_path / "whole", 0, options).result()
    killed = Running(run_until, tmp_path / "killed", 11, None, options)
    assert killed.exit_code() == KILLED
    options["resume"] = True
    result = Running(run_in_process, tmp_path / "killed", 5, options).result()
    assert_same_run(tmp_path / "killed", result, tmp_path / "whole", expected)
    state = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)["state"]
    assert state["scaler"]["scale"] > 1


def untouchable(*_: object) -> torch.Tensor:
    raise AssertionError("nothing was left to do")


def test_a_finished_run_is_returned_without_training(tmp_path):
    weights, history = run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again, same = run(tmp_path, seed=77, resume=True, loss_fn=untouchable)
    assert same == history
    assert all(torch.equal(w, weights[name]) for name, w in again.items())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    _, history = run(tmp_path, should_stop=lambda e: len(e) == 2)
    assert history.stopped_early
    _, same = run(tmp_path, seed=77, resume=True, loss_fn=untouchable)
    assert same == history


@pytest.mark.slow
def test_resuming_where_there_is_nothing_starts_anew(tmp_path):
    weights, history = run(tmp_path / "one", resume=True)
    other, _ = run(tmp_path / "two")
    assert all(torch.equal(w, other[name]) for name, w in weights.items())
    assert len(history.steps) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "already holds a run: pass resume=True or another folder"),
        ({"resume": True, "lr": 2e-3}, r"had other settings: lr was 0\.001, is 0\.002$"),
        ({"resume": True, "accumulate": 1, "epochs": 4}, "epochs was 3, is 4, accumulate was 2"),
        ({"resume": True, "precision": "bfloat16"}, "precision was auto, is bfloat16"),
    ],
)
def test_a_run_is_never_mixed_with_another(tmp_path, options, message):
    run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        run(tmp_path, loss_fn=untouchable, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_data_or_another_sampler_is_another_run(tmp_path):
    run(tmp_path)
    data = tiny.dataset(0, 26)
    cases = {
        "examples was 26, is 25": train_loader(tiny.dataset(0, 25), 4, seed=1),
        "batch_size was 4, is 5": train_loader(data, 5, seed=1),
        "seed was 1, is 2": train_loader(data, 4, seed=2),
        "sampler was BucketSampler, is RandomSampler": train_loader(
            data, 4, sampler=RandomSampler(26, 4, seed=1)
        ),
    }
    for message, train in cases.items():
        options = {**RECIPE, "folder": tmp_path, "resume": True}
        with pytest.raises(ValueError, match=message):
            fit(tiny.model(), train, tiny.loaders()[1], **options)


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_damaged_file_is_named_and_kept(tmp_path, name):
    run(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"cannot read the checkpoint {path}"):
        run(tmp_path, resume=True, loss_fn=untouchable)
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

    monkeypatch.setattr(training, "_summary_writer", lambda folder, steps_done: Writer())
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
from course_utils.runtime import seed_everything
from course_utils.training import fit

folder, seed = sys.argv[1], int(sys.argv[2])
seed_everything(seed)
rows = load_corpus("movies")[:40]
parts = [TokenizedDataset([r.text for r in p], targets(p), load_tokenizer(), max_tokens=24)
         for p in (rows[:32], rows[32:])]
fit(load_classifier(2, seed=seed), train_loader(parts[0], 4), eval_loader(parts[1]), epochs=2,
    validate_every=5, save_every=3, folder=folder, resume=True, device="cpu", progress=False)
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
