"""Stopping, varying, perturbing, slowing down: each against what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from course_utils.history import EvalRecord
from course_utils.optimization import parameter_groups
from course_utils.recipe import Recipe
from course_utils.regularization import (
    EarlyStopping,
    adversarial_noise,
    layerwise_groups,
    perturbed,
    turns,
    vary,
)
from course_utils.training import fit, forward
from tests import tiny


def stops_at(losses: list[float], **settings: float) -> int | None:
    """The first look, counted from 1, at which the rule says stop."""
    stop = EarlyStopping(**settings)
    records = [EvalRecord(step, loss) for step, loss in enumerate(losses)]
    return next((n for n in range(1, len(records) + 1) if stop(records[:n])), None)


# --- early stopping ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "patience", "look"),
    [
        ([0.5, 0.6], 1, 2),  # one look without a gain
        ([0.6, 0.5, 0.7, 0.6], 2, 4),
        ([0.6, 0.5, 0.7, 0.4, 0.5], 2, None),  # a gain starts the count anew
        ([0.6, 0.5, 0.7, 0.45, 0.5, 0.5, 0.5], 3, 7),
        ([0.5, 0.5, 0.5], 2, 3),  # equal is no gain
        ([0.9, 0.8, 0.7, 0.6], 1, None),
        ([0.5], 1, None),
        ([], 1, None),
        ([0.5, float("nan"), float("nan")], 2, 3),
    ],
)
def test_it_stops_after_patience_looks_without_a_gain(losses, patience, look):
    assert stops_at(losses, patience=patience) == look


def test_a_small_fall_does_not_count():
    losses = [0.50, 0.49, 0.48, 0.47]
    assert stops_at(losses, patience=2) is None
    assert stops_at(losses, patience=2, min_gain=0.05) == 3
    # measured from the best that counted: small falls add up
    assert stops_at([0.50, 0.47, 0.44, 0.41], patience=2, min_gain=0.05) is None


@pytest.mark.parametrize(("patience", "gain"), [(0, 0.0), (-1, 0.0), (1, -0.1)])
def test_impossible_rules_are_refused(patience, gain):
    with pytest.raises(ValueError, match=r"(patience|min_gain) must be at least [01], got"):
        EarlyStopping(patience, gain)


def test_fit_stops_and_keeps_the_best_weights():
    train, validation = tiny.loaders()
    model = tiny.model()
    history = fit(
        model,
        train,
        validation,
        recipe=Recipe(epochs=40, lr=3e-2),
        should_stop=EarlyStopping(patience=2),
        progress=False,
        device="cpu",
    )
    losses = [record.loss for record in history.evaluations]
    assert history.stopped_early
    assert len(losses) < 40
    assert losses.index(min(losses)) == len(losses) - 3  # two looks after the best, no more


# --- augmentation -----------------------------------------------------------------------------


def test_turning_words_survive_in_every_review():
    generator = np.random.default_rng(0)
    for review in tiny.reviews():
        text = vary(review.text, generator, drop=0.8, swaps=5)
        before, after = review.text.split(), text.split()
        assert [w for w in after if turns(w)] == [w for w in before if turns(w)]
        assert 1 <= len(after) <= len(before)
        assert set(after) <= set(before)


def test_the_share_dropped_is_the_share_asked_for():
    generator, text = np.random.default_rng(0), "word " * 1000
    left = [len(vary(text, generator, drop=0.3, swaps=0).split()) for _ in range(20)]
    assert 680 < np.mean(left) < 720


def test_swaps_exchange_neighbours_only():
    generator, words = np.random.default_rng(0), list("abcdefgh")
    seen = set()
    for _ in range(200):
        out = vary(" ".join(words), generator, drop=0.0, swaps=1).split()
        moved = [i for i in range(8) if out[i] != words[i]]
        assert len(moved) == 2
        assert moved[1] == moved[0] + 1
        seen.add(moved[0])
    assert seen == set(range(7))  # every pair, the last one too


def test_varying_is_decided_by_the_generator_and_stops_at_nothing_to_do():
    text = tiny.reviews()[0].text
    one, same, other = (vary(text, np.random.default_rng(s), drop=0.4) for s in (1, 1, 2))
    assert one == same != other
    assert vary("fine", np.random.default_rng(0), drop=0.99) == "fine"
    assert vary("", np.random.default_rng(0)) == ""
    for drop, swaps in ((1.0, 0), (-0.1, 0), (0.1, -1)):
        with pytest.raises(ValueError, match="drop from 0 to below 1"):
            vary(text, np.random.default_rng(0), drop, swaps)


# --- adversarial ------------------------------------------------------------------------------


def test_noise_has_the_length_asked_for_in_each_example():
    gradient = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    gradient[2] = 0
    gradient[3] *= 1e-15
    noise = adversarial_noise(gradient.double(), 0.7)
    lengths = noise.flatten(1).norm(dim=1)
    assert lengths.tolist() == pytest.approx([0.7, 0.7, 0.0, 0.7, 0.7])
    rows, flat = [0, 1, 3, 4], gradient.double().flatten(1)
    along = 0.7 * flat[rows] / flat[rows].norm(dim=1, keepdim=True)
    assert torch.allclose(noise.flatten(1)[rows], along)
    assert torch.isfinite(adversarial_noise(torch.zeros(2, 3), 1.0)).all()


def test_noise_raises_the_loss_more_than_a_random_step_of_its_length():
    x = torch.randn(6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer, labels = nn.Linear(10, 2).double(), torch.arange(6) % 2

    def losses(at):
        return cross_entropy(layer(at), labels, reduction="none")

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(losses(x).sum(), x)
    worst = losses(x + adversarial_noise(gradient, 0.1))
    for seed in range(20):
        random = torch.randn(6, 10, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
        assert (worst > losses(x + adversarial_noise(random, 0.1))).all()


def test_a_perturbed_weight_comes_back_bit_for_bit():
    model, (batch,) = tiny.model(dropout=0.0), tiny.batches(8)
    table = model.get_input_embeddings().weight
    before = table.detach().clone()
    loss = cross_entropy(forward(model, batch), batch.labels)
    loss.backward()
    clean = table.grad.clone()
    with perturbed(table, 1.0):
        assert (table - before).norm().item() == pytest.approx(1.0, rel=1e-4)
        harder = cross_entropy(forward(model, batch), batch.labels)
        harder.backward()
    assert harder > loss
    assert torch.equal(table, before)
    assert not torch.equal(table.grad, clean)  # the second gradient was added


def test_a_perturbed_weight_comes_back_after_an_error_and_needs_no_gradient():
    weight = nn.Parameter(torch.ones(3))
    with perturbed(weight, 1.0):
        assert weight.tolist() == [1, 1, 1]
    weight.grad = torch.ones(3)
    with pytest.raises(KeyError), perturbed(weight, 1.0):
        raise KeyError
    assert weight.tolist() == [1, 1, 1]


# --- layer-wise rates -------------------------------------------------------------------------


def parts_of(model) -> list[nn.Module]:
    return [model.bert.embeddings, *model.bert.encoder.layer, model.bert.pooler, model.classifier]


def test_every_parameter_is_in_one_group_and_rates_fall_from_the_top():
    model = tiny.model()
    groups = layerwise_groups(parts_of(model), lr=1.0, factor=0.5, weight_decay=0.1)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert set(rate) == {id(p) for p in model.parameters()}
    for depth, part in enumerate(reversed(parts_of(model))):
        for p in part.parameters():
            assert rate[id(p)] == (0.5**depth, 0.1 if p.ndim >= 2 else 0.0)


def test_a_factor_of_one_is_the_usual_optimiser():
    model = tiny.model()
    groups = layerwise_groups(parts_of(model), lr=0.1, factor=1.0, weight_decay=0.1)
    usual = parameter_groups(model, 0.1)
    for decay in (0.1, 0.0):
        ours = {id(p) for g in groups if g["weight_decay"] == decay for p in g["params"]}
        theirs = {id(p) for g in usual if g["weight_decay"] == decay for p in g["params"]}
        assert ours == theirs
    assert {g["lr"] for g in groups} == {0.1}


def test_a_frozen_part_keeps_its_place():
    parts = [nn.Linear(2, 2) for _ in range(3)]
    parts[1].requires_grad_(False)
    assert [g["lr"] for g in layerwise_groups(parts, 1.0, 0.5)] == [0.25, 0.25, 1.0, 1.0]


def test_bad_parts_and_factors_are_refused():
    layer = nn.Linear(2, 2)
    for factor in (0.0, 1.1, -1.0):
        with pytest.raises(ValueError, match="factor must be above 0"):
            layerwise_groups([layer], 0.1, factor)
    for parts in ([], [layer, layer], [nn.Linear(2, 2).requires_grad_(False)]):
        with pytest.raises(ValueError, match="share none"):
            layerwise_groups(parts, 0.1, 0.5)
