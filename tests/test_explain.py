"""Attributions against functions whose answer is known, and against captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from course_utils.explain import (
    attention_received,
    deletion,
    gradient_at,
    gradient_times_input,
    integrated_gradients,
    occlusion,
    output_of,
    word_vectors,
)
from course_utils.models import SentenceClassifier

IDS = [2, 11, 30, 7, 19, 3]


@pytest.fixture(scope="module")
def model() -> SentenceClassifier:
    """A classifier of two small blocks; large weights, so that it is far from linear."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            attn_implementation="eager",
        )
        encoder = BertModel(config, add_pooling_layer=False)
        for weight in encoder.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.3)
        return SentenceClassifier(encoder, 3).eval()


def linear(weights):
    return lambda vectors: (vectors * weights).sum(dim=(1, 2))


# --- the model as a function of vectors -------------------------------------------------------


@pytest.mark.parametrize("output", [0, 2])
def test_vectors_give_what_ids_give(model, output):
    ids = torch.tensor([IDS])
    expected = model(ids, torch.ones_like(ids)).logits[:, output]
    found = output_of(model, output)(word_vectors(model, IDS)[None])
    assert torch.allclose(found, expected, atol=1e-6)


def test_what_cannot_be_explained_is_refused(model):
    with pytest.raises(ValueError, match="output must be below 3"):
        output_of(model, 3)
    model.train()
    with pytest.raises(ValueError, match="evaluation mode"):
        output_of(model)
    model.eval()


# --- attributions -----------------------------------------------------------------------------


def test_of_a_linear_function_all_methods_say_the_same():
    generator = torch.Generator().manual_seed(0)
    weights, x = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    expected, zero = (weights * x).sum(dim=1), torch.zeros(5, 4)
    assert torch.allclose(gradient_times_input(linear(weights), x), expected)
    assert torch.allclose(integrated_gradients(linear(weights), x, zero, steps=1), expected)
    assert torch.allclose(occlusion(linear(weights), x, zero[0]), expected, atol=1e-6)


def test_each_row_has_its_own_gradient(model):
    f, x = output_of(model), word_vectors(model, IDS)
    both = gradient_at(f, torch.stack([x, 2 * x]))
    assert torch.allclose(both[1], gradient_at(f, 2 * x[None])[0], atol=1e-6)


def test_integrated_gradients_are_complete_and_get_better_with_steps(model):
    f, x = output_of(model), word_vectors(model, IDS)
    baseline = word_vectors(model, [2, 4, 4, 4, 4, 3])
    owed = (f(x[None]) - f(baseline[None])).item()
    gaps = [
        abs(integrated_gradients(f, x, baseline, steps).sum().item() - owed)
        for steps in (2, 8, 32, 128)
    ]
    assert gaps[-1] < 1e-3 * max(abs(owed), 1)
    assert gaps[0] > 10 * gaps[-1]  # or this model is linear and nothing was tested
    assert abs(gradient_times_input(f, x).sum().item() - owed) > 100 * gaps[-1]


def test_a_token_that_is_the_same_in_the_baseline_gets_nothing(model):
    f, x = output_of(model), word_vectors(model, IDS)
    baseline = word_vectors(model, [2, 4, 30, 4, 4, 3])
    found = integrated_gradients(f, x, baseline)
    assert found[[0, 2, 5]].tolist() == [0.0, 0.0, 0.0]
    assert found[[1, 3, 4]].abs().min() > 0


@pytest.mark.parametrize("output", [0, 1])
def test_equal_to_captum(model, output):
    captum = pytest.importorskip("captum.attr")
    f, x = output_of(model, output), word_vectors(model, IDS)
    baseline = word_vectors(model, [2, 4, 4, 4, 4, 3])
    theirs = captum.IntegratedGradients(f).attribute(
        x[None], baseline[None], n_steps=20, method="riemann_middle"
    )
    assert torch.allclose(
        integrated_gradients(f, x, baseline, steps=20), theirs[0].sum(-1).float(), atol=1e-5
    )
    theirs = captum.InputXGradient(f).attribute(x[None].clone().requires_grad_())
    assert torch.allclose(gradient_times_input(f, x), theirs[0].sum(-1).detach(), atol=1e-5)


def test_occlusion_takes_one_token_at_a_time(model):
    f, x = output_of(model), word_vectors(model, IDS)
    blank = word_vectors(model, [4])[0]
    found = occlusion(f, x, blank)
    ids = torch.tensor([[*IDS[:2], 4, *IDS[3:]]])
    without = model(ids, torch.ones_like(ids)).logits[0, 0]
    assert found[2].item() == pytest.approx((f(x[None])[0] - without).item(), abs=1e-5)


def test_attention_is_shared_out(model):
    found = attention_received(model, IDS)
    assert found.shape == (len(IDS),)
    assert found.sum().item() == pytest.approx(1.0)
    ids = torch.tensor([IDS])
    layers = model.encoder(ids, torch.ones_like(ids), output_attentions=True).attentions
    by_hand = sum(layer[0, :, :, 3].mean() for layer in layers) / len(layers)
    assert found[3].item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_a_wrong_baseline_is_refused():
    with pytest.raises(ValueError, match="baseline of"):
        integrated_gradients(linear(torch.ones(2, 3)), torch.ones(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="at least 1"):
        integrated_gradients(linear(torch.ones(2, 3)), torch.ones(2, 3), torch.zeros(2, 3), 0)


# --- deletion ---------------------------------------------------------------------------------

VALUES = torch.tensor([[9.0], [5.0], [1.0], [-2.0], [3.0], [0.5], [9.0]])  # marks at both ends


@pytest.mark.parametrize(("sign", "share"), [(1.0, 0.2), (1.0, 0.4), (-1.0, 0.4)])
def test_the_best_order_loses_most_and_keeps_most(sign, share):
    f, blank = lambda x: sign * x.sum(dim=(1, 2)), torch.zeros(1)
    right = deletion(f, VALUES, VALUES[:, 0], blank, share)
    count = round(share * 5)
    assert right.comprehensiveness == sum(sorted([5, 1, -2, 3, 0.5])[::-1][:count])
    assert right.sufficiency == 7.5 - right.comprehensiveness
    generator = np.random.default_rng(0)
    others = [deletion(f, VALUES, generator.random(7), blank, share) for _ in range(20)]
    assert all(o.comprehensiveness <= right.comprehensiveness for o in others)
    assert all(o.sufficiency >= right.sufficiency for o in others)


def test_marks_are_never_blanked():
    found = deletion(lambda x: x[:, [0, -1]].sum(dim=(1, 2)), VALUES, VALUES[:, 0], torch.zeros(1))
    assert (found.comprehensiveness, found.sufficiency) == (0.0, 0.0)


def test_at_least_one_token_counts():
    found = deletion(lambda x: x.sum(dim=(1, 2)), VALUES, VALUES[:, 0], torch.zeros(1), 0.01)
    assert found.comprehensiveness == 5.0


@pytest.mark.parametrize(
    ("values", "importance", "share"),
    [(VALUES, [1, 2, 3], 0.2), (VALUES[:2], [1, 2], 0.2), (VALUES, np.ones(7), 1.5)],
)
def test_a_deletion_that_cannot_be_is_refused(values, importance, share):
    with pytest.raises(ValueError, match=r"need|between|must"):
        deletion(lambda x: x.sum(dim=(1, 2)), values, importance, torch.zeros(1), share)
