"""Heads and layers taken out, and a small model that learns from a large one."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, softmax
from transformers import BertConfig, BertModel

from course_utils import distillation
from course_utils.batching import eval_loader
from course_utils.distillation import (
    answers_of,
    distil,
    rating_and_soft_loss,
    soft_loss,
    with_layers,
)
from course_utils.models import SentenceClassifier, count_parameters
from course_utils.pruning import head_importance, without_heads
from course_utils.recipe import Recipe
from course_utils.smoothing import SmoothLinear, smooth
from course_utils.training import forward
from tests import tiny


def model(outputs: int = 4, layers: int = 3, heads: int = 4, seed: int = 0):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tiny.WORDS,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=48,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    return SentenceClassifier(BertModel(config), outputs).eval()


@pytest.fixture(scope="module")
def batch():
    return next(iter(eval_loader(tiny.dataset(0, 12), 12)))


# --- the loss -----------------------------------------------------------------------------


@pytest.mark.parametrize("T", [0.5, 1.0, 3.0])
def test_the_gradient_of_the_soft_loss_is_the_derived_one(T):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=generator).double()
    student.requires_grad_()
    (found,) = torch.autograd.grad(soft_loss(student, teacher, T), student)
    derived = T * (softmax(student / T, 1) - softmax(teacher / T, 1)) / 6
    torch.testing.assert_close(found, derived.detach())


def test_the_soft_loss_is_the_divergence_by_its_formula():
    student, teacher = torch.tensor([[1.0, -1.0, 0.5]]), torch.tensor([[0.0, 2.0, 1.0]])
    p, q = softmax(teacher / 2, 1), softmax(student / 2, 1)
    torch.testing.assert_close(soft_loss(student, teacher, 2.0), 4 * (p * (p / q).log()).sum())


def test_rating_and_classes_are_both_asked_for():
    teacher = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert rating_and_soft_loss(teacher, teacher).abs() < 1e-6
    for column in range(4):
        other = teacher.clone()
        other[:, column] += 1
        assert rating_and_soft_loss(other, teacher) > 0.01


@pytest.mark.parametrize(
    ("student", "T"), [(torch.zeros(2, 4), 1.0), (torch.zeros(2, 3), 0.0), (torch.zeros(3), 1.0)]
)
def test_a_loss_without_meaning_is_refused(student, T):
    with pytest.raises(ValueError, match=r"one shape|temperature"):
        soft_loss(student, torch.zeros(2, 3), T)


# --- layers -------------------------------------------------------------------------------


def test_a_student_begins_as_its_teachers_layers():
    teacher = model()
    student = with_layers(teacher, (0, 2))
    layers, own = teacher.encoder.encoder.layer, student.encoder.encoder.layer
    assert student.encoder.config.num_hidden_layers == len(own) == 2
    assert teacher.encoder.config.num_hidden_layers == len(layers) == 3
    for mine, theirs in zip(own, (layers[0], layers[2]), strict=True):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()


def test_all_layers_are_the_teacher(batch):
    teacher = model()
    torch.testing.assert_close(
        forward(with_layers(teacher, (0, 1, 2)), batch), forward(teacher, batch)
    )


@pytest.mark.parametrize("layers", [(), (3,), (-1,), (0, 1.5)])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ValueError, match="layer"):
        with_layers(model(), layers)


def test_a_student_learns_what_its_teacher_says():
    teacher = model(layers=3)
    data = tiny.dataset(0, 64, "rating")
    answers = answers_of(teacher, data).clone()
    student = with_layers(teacher, (0,))

    def away():
        return float(rating_and_soft_loss(answers_of(student, data), answers))

    before = away()
    distil(student, data, answers, Recipe(epochs=8, lr=2e-3, precision="float32"))
    assert away() < 0.3 * before
    assert not student.training


def test_each_text_has_the_answer_that_was_given_to_it():
    data = tiny.dataset(0, 16, "rating")
    answers = 2 * torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    recipe = Recipe(epochs=60, lr=5e-3, precision="float32")
    student = distil(model(layers=1), data, answers, recipe)
    of_their_mean = rating_and_soft_loss(answers.mean(0).expand_as(answers), answers)
    assert rating_and_soft_loss(answers_of(student, data), answers) < 0.5 * of_their_mean


def test_labels_are_not_looked_at():
    teacher, data = model(), tiny.dataset(0, 16, "rating")
    answers = answers_of(teacher, data).clone()
    other = copy.copy(data)
    other.labels = np.zeros(16, dtype=np.int64)
    recipe = Recipe(epochs=1, lr=1e-3, precision="float32")
    found = []
    for rows in (data, other):
        torch.manual_seed(0)
        found.append(distil(with_layers(teacher, (1,)), rows, answers, recipe).state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert data.labels.dtype == np.float32  # as it was


def test_answers_that_are_missing_are_named():
    with pytest.raises(ValueError, match="16"):
        distil(model(), tiny.dataset(0, 16), torch.zeros(15, 4))


def test_the_movie_student_is_kept_and_found(tmp_path, monkeypatch):
    made = []

    def train(teacher):
        made.append(teacher)
        return with_layers(teacher.model, (0,))

    teacher = SimpleNamespace(record={"who": "a small one"}, model=model())
    monkeypatch.setattr(distillation, "movie_model", lambda cache=None: teacher)
    monkeypatch.setattr(distillation, "train_movie_student", train)
    first, second = distillation.movie_student(tmp_path), distillation.movie_student(tmp_path)
    assert len(made) == 1
    assert first.folder == second.folder
    assert len(first.model.encoder.encoder.layer) == 1
    assert first.record["recipe"]["teacher"] == {"who": "a small one"}
    assert "distillation" in first.record["code"]


# --- heads --------------------------------------------------------------------------------


def test_a_head_taken_out_is_a_head_that_contributes_nothing(batch):
    whole = model()
    silent = with_layers(whole, (0, 1, 2))
    silent.encoder.encoder.layer[1].attention.output.dense.weight.data[:, 8:24] = 0
    smaller = without_heads(whole, {1: [1, 2]})
    torch.testing.assert_close(forward(smaller, batch), forward(silent, batch))
    assert count_parameters(smaller) == count_parameters(whole) - 2 * (4 * 8 * 32 + 3 * 8)
    assert (forward(smaller, batch) - forward(whole, batch)).abs().max() > 1e-3


@pytest.mark.parametrize("heads", [{0: [0, 1, 2, 3]}, {0: [4]}, {3: [0]}, {0: [-1]}])
def test_heads_that_cannot_go_are_refused(heads):
    with pytest.raises(ValueError, match="head"):
        without_heads(model(), heads)


def test_importance_is_the_gradient_by_a_gate(batch):
    whole = model(outputs=2)
    found = head_importance(whole, [batch], cross_entropy)
    assert found.shape == (3, 4)
    step, dense = 1e-2, whole.encoder.encoder.layer[1].attention.output.dense

    def loss_with(gate):
        weight = dense.weight.data.clone()
        dense.weight.data[:, 16:24] *= gate
        with torch.no_grad():
            loss = cross_entropy(forward(whole, batch).double(), batch.labels)
        dense.weight.data.copy_(weight)
        return float(loss)

    slope = (loss_with(1 + step) - loss_with(1 - step)) / (2 * step)
    assert float(found[1, 2]) == pytest.approx(abs(slope), rel=0.05, abs=1e-4)


def test_importance_has_no_sign(batch):
    whole = model(outputs=2)
    found = head_importance(whole, [batch], cross_entropy)
    turned = head_importance(whole, [batch], lambda *given: -cross_entropy(*given))
    torch.testing.assert_close(turned, found)


def test_a_head_that_nobody_reads_has_no_importance(batch):
    whole = model(outputs=2)
    whole.encoder.encoder.layer[2].attention.output.dense.weight.data[:, :8] = 0
    found = head_importance(whole, [batch, batch], cross_entropy)
    assert found[2, 0] == 0
    assert (found[2, 1:] > 0).all()
    assert not whole.encoder.encoder.layer[0].attention.output.dense._forward_pre_hooks


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="batch"):
        head_importance(model(), [], cross_entropy)


# --- smoothing ----------------------------------------------------------------------------


def rounded(values, dim=None):
    """Values as they come back from eight bits, with one scale or one for each row."""
    largest = values.abs().max() if dim is None else values.abs().amax(dim, keepdim=True)
    return (values / largest * 127).round() * largest / 127


def test_a_smoothed_model_computes_the_same(batch):
    whole = model()
    smoother = smooth(whole, [batch])
    torch.testing.assert_close(forward(smoother, batch), forward(whole, batch))
    kinds = [type(m) for m in smoother.encoder.encoder.modules()]
    assert kinds.count(SmoothLinear) == 3 * 5
    assert kinds.count(torch.nn.Linear) == 3  # what reads attention's sums
    assert SmoothLinear not in [type(m) for m in whole.modules()]


def test_the_largest_inputs_of_all_batches_count(batch):
    whole, other = model(), next(iter(eval_loader(tiny.dataset(40, 60), 20)))
    one, both = smooth(whole, [batch]), smooth(whole, [batch, other])
    inverse = [m.encoder.encoder.layer[0].attention.self.query.inverse for m in (one, both)]
    assert (inverse[1] <= inverse[0]).all()  # more texts, larger inputs, larger factors
    assert (inverse[1] < inverse[0]).any()


def test_after_smoothing_inputs_and_weights_are_equally_large(batch):
    smoother = smooth(model(), [batch])
    layer, seen = smoother.encoder.encoder.layer[1].intermediate.dense, []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    forward(smoother, batch)
    inputs = (seen[0] * layer.inverse).abs().flatten(0, 1).amax(0)
    torch.testing.assert_close(inputs, layer.weight.detach().abs().amax(0), rtol=1e-3, atol=1e-4)


def test_a_layer_with_a_few_large_inputs_loses_less_in_eight_bits():
    generator = torch.Generator().manual_seed(0)
    x, layer = torch.randn(50, 32, generator=generator), torch.nn.Linear(32, 8)
    x[:, 3] *= 60
    factors = (x.abs().amax(0) / layer.weight.detach().abs().amax(0)) ** 0.5
    smoother = SmoothLinear(layer, factors)
    errors = []
    for inputs, weight in ((x, layer.weight), (x / factors, smoother.weight)):
        y = rounded(inputs) @ rounded(weight.detach(), 1).T + layer.bias
        errors.append(float((y - layer(x)).detach().square().mean().sqrt()))
    assert errors[1] < 0.5 * errors[0]


def test_query_key_and_value_share_what_they_read(batch):
    smoother, seen = smooth(model(), [batch]), []
    attention = smoother.encoder.encoder.layer[1].attention.self
    layers = attention.query, attention.key, attention.value
    layers[0].register_forward_pre_hook(lambda module, got: seen.append(got[0]))
    forward(smoother, batch)
    assert all(torch.equal(layer.inverse, layers[0].inverse) for layer in layers)
    inputs = (seen[0] * layers[0].inverse).abs().flatten(0, 1).amax(0)
    weights = torch.cat([layer.weight.detach() for layer in layers]).abs().amax(0)
    torch.testing.assert_close(inputs, weights, rtol=1e-3, atol=1e-4)  # of the largest of three


def test_each_alpha_is_for_its_own_layers(batch):
    block = smooth(model(), [batch], alpha=0.5, alpha_after_gelu=0.999).encoder.encoder.layer[0]
    largest = []
    for layer in (block.intermediate.dense, block.output.dense):
        seen = []
        layer.register_forward_pre_hook(lambda module, got, seen=seen: seen.append(got[0]))
        whole = model()
        whole.encoder.encoder.layer[0] = block
        forward(whole, batch)
        largest.append((seen[0] * layer.inverse).abs().flatten(0, 1).amax(0))
    ones = [torch.ones_like(found) for found in largest]
    torch.testing.assert_close(largest[1], ones[1], rtol=0.02, atol=0)  # the weights take all
    assert not torch.allclose(largest[0], ones[0], rtol=0.1)


@pytest.mark.parametrize("name", ["alpha", "alpha_after_gelu"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_an_alpha_out_of_range_is_refused(batch, name, value):
    with pytest.raises(ValueError, match=name):
        smooth(model(), [batch], **{name: value})


def test_nothing_to_look_at_is_refused():
    with pytest.raises(ValueError, match="batch"):
        smooth(model(), [])
