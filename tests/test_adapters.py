"""LoRA, adapters, soft prompts: against `peft`, and against what they promise."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from course_utils.adapters import (
    AdapterLinear,
    LoRALinear,
    SoftPrompt,
    adapt,
    lora_layers,
    merge,
    unmerge,
)
from course_utils.deltas import bytes_of, load_trained, save_trained, trained_tensors
from course_utils.models import SentenceClassifier, count_parameters
from tests import tiny

LORA = partial(LoRALinear, rank=4, alpha=8)


def classifier(seed: int = 0) -> SentenceClassifier:
    encoder = tiny.model(dropout=0.0).bert
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SentenceClassifier(encoder, 2, dropout=0.0).eval()


def loss_of(model: nn.Module) -> torch.Tensor:
    (batch,) = tiny.batches(8)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return nn.functional.cross_entropy(logits, batch.labels)


def logits_of(model: nn.Module) -> torch.Tensor:
    (batch,) = tiny.batches(8)
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def moved(model: nn.Module, seed: int = 1) -> nn.Module:
    """The model as if it had been trained: what is trained holds other numbers."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in trained_tensors(model).values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model


# --- LoRA -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "alpha"), [(1, 16), (4, 8), (8, 16)])
def test_it_equals_peft_in_output_and_gradient(rank, alpha):
    ours, theirs = classifier(), classifier()
    adapt(ours.encoder, ["query", "value"], partial(LoRALinear, rank=rank, alpha=alpha))
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["query", "value"])
    theirs.encoder = get_peft_model(theirs.encoder, config)
    moved(ours.encoder)
    pairs = [
        (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        for layer in theirs.modules()
        if hasattr(layer, "lora_A")
    ]
    layers = lora_layers(ours)
    assert len(layers) == len(pairs) == 4
    with torch.no_grad():
        for layer, (a, b) in zip(layers, pairs, strict=True):
            a.copy_(layer.A)
            b.copy_(layer.B)
    torch.testing.assert_close(logits_of(ours), logits_of(theirs), atol=1e-6, rtol=0)
    loss_of(ours).backward()
    loss_of(theirs).backward()
    for layer, (a, b) in zip(layers, pairs, strict=True):
        assert layer.A.grad.abs().max() > 1e-6
        torch.testing.assert_close(layer.A.grad, a.grad, atol=1e-6, rtol=0)
        torch.testing.assert_close(layer.B.grad, b.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("targets", "wrap"),
    [
        (["query", "value"], LORA),
        (["attention.output.dense", "output.dense"], partial(AdapterLinear, width=5)),
    ],
)
def test_an_adapted_model_begins_as_the_pretrained_one(targets, wrap):
    model = classifier()
    before = logits_of(model)
    adapt(model, targets, wrap, also=["classifier"])
    assert torch.equal(logits_of(model), before)
    assert not torch.equal(logits_of(moved(model)), before)


def test_merged_equals_unmerged_and_unmerging_restores():
    model = classifier()
    before = tiny.weights(model)
    adapt(model, ["query", "intermediate.dense"], LORA, also=["classifier"])
    moved(model)
    apart = logits_of(model)
    merge(model)
    merge(model)  # twice is once
    assert all(layer.merged for layer in lora_layers(model))
    torch.testing.assert_close(logits_of(model), apart, atol=1e-5, rtol=0)
    inside = {name.replace(".base.", "."): w for name, w in tiny.weights(model).items()}
    changed = [n for n, w in before.items() if not torch.equal(inside[n], w)]
    assert len(changed) == 4 + 2  # two layers of two targets, and the head that was moved
    unmerge(model)
    unmerge(model)
    inside = {name.replace(".base.", "."): w for name, w in tiny.weights(model).items()}
    assert [n for n, w in before.items() if not torch.equal(inside[n], w)] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert torch.equal(logits_of(model), apart)


def test_the_change_has_the_rank_and_the_scale():
    layer = moved(LoRALinear(nn.Linear(12, 9), rank=3, alpha=6))
    assert torch.linalg.matrix_rank(layer.change()) == 3
    torch.testing.assert_close(layer.change(), 2.0 * layer.B @ layer.A)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(layer(x) - layer.base(x), x @ layer.change().T, atol=1e-5, rtol=0)


def test_a_merged_change_is_not_trained_on():
    model = moved(LoRALinear(nn.Linear(3, 2)))
    model.merge()
    with pytest.raises(RuntimeError, match="unmerge first"):
        model.train()(torch.ones(1, 3))
    model.unmerge()
    model(torch.ones(1, 3)).sum().backward()
    assert model.A.grad is not None


def test_dropout_acts_while_training_only():
    layer = moved(LoRALinear(nn.Linear(50, 4), dropout=0.5))
    x = torch.ones(1, 50)
    assert torch.equal(layer.eval()(x), layer(x))
    assert not torch.equal(layer.train()(x), layer(x))


def test_the_base_is_frozen_and_keeps_its_precision():
    base = nn.Linear(3, 2).bfloat16()
    layer = LoRALinear(base)
    assert layer.A.dtype == torch.bfloat16
    assert not any(p.requires_grad for p in base.parameters())


class Doubling(nn.Module):
    """Acts like a linear layer, and has no weights: as one of 4 bits."""

    in_features = out_features = 3

    def forward(self, x):
        return 2 * x


def test_a_base_without_weights_can_be_adapted_but_not_merged():
    layer = moved(LoRALinear(Doubling(), rank=1))
    x = torch.randn(2, 3)
    torch.testing.assert_close(layer(x), 2 * x + x @ layer.change().T)
    with pytest.raises(ValueError, match="Doubling has no weights"):
        layer.merge()


# --- adapters and prompts ---------------------------------------------------------------------


def test_an_adapter_by_hand():
    layer = AdapterLinear(nn.Linear(2, 2), width=1)
    with torch.no_grad():
        layer.base.weight.copy_(torch.eye(2))
        layer.base.bias.zero_()
        layer.down.weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.down.bias.zero_()
        layer.up.weight.copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.tensor([[1.0, 2.0]])
    bent = nn.functional.gelu(torch.tensor(3.0)).item()
    torch.testing.assert_close(layer(x), torch.tensor([[1.0 + bent, 2.0]]))


def test_a_soft_prompt_of_word_vectors_is_a_text_with_these_words_before_it():
    encoder = tiny.model(dropout=0.0).bert
    prompted = SoftPrompt(encoder, 3)
    (batch,) = tiny.batches(6)
    ids = torch.tensor([7, 11, 13])
    with torch.no_grad():
        prompted.prompt.copy_(encoder.get_input_embeddings()(ids))
        longer = torch.cat([ids.expand(6, -1), batch.input_ids], dim=1)
        mask = torch.cat([torch.ones(6, 3, dtype=torch.long), batch.attention_mask], dim=1)
        expected = encoder(input_ids=longer, attention_mask=mask).last_hidden_state[:, 3:]
        found = prompted(batch.input_ids, batch.attention_mask).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_soft_prompt_stands_where_the_encoder_stood_and_alone_is_trained():
    model = classifier()
    before = tiny.weights(model.encoder)
    model.encoder = SoftPrompt(model.encoder, 4)
    loss_of(model).backward()
    assert model.encoder.prompt.grad.abs().sum() > 0
    assert set(trained_tensors(model)) == {
        "encoder.prompt",
        "classifier.weight",
        "classifier.bias",
    }
    for name, weight in tiny.weights(model.encoder.base).items():
        assert torch.equal(weight, before[name])


# --- putting it in ----------------------------------------------------------------------------


def test_only_what_was_put_in_and_what_was_named_is_trained():
    model = classifier()
    names = adapt(model, ["query"], LORA, also=["classifier"])
    assert names == [f"encoder.encoder.layer.{i}.attention.self.query" for i in (0, 1)]
    trained = {name.rpartition(".")[0] for name in trained_tensors(model)}
    assert trained == {*names, "classifier"}
    assert count_parameters(model, trainable=True) == 2 * 4 * (32 + 32) + 2 * 32 + 2


def test_the_seed_decides_and_nothing_else_is_drawn():
    torch.manual_seed(5)
    models = [classifier() for _ in range(3)]
    state = torch.get_rng_state()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        adapt(model, ["query"], LORA, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (lora_layers(model)[0].A for model in models)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("targets", "also", "complaint"),
    [
        (["quary"], [], "no module's name ends in 'quary'"),
        (["query"], ["clasifier"], "no module is named ['clasifier']"),
        (["LayerNorm"], [], "need a linear layer, got LayerNorm"),
        ("query", [], "lists of names"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(targets, also, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        adapt(classifier(), targets, LORA, also=also)


def test_a_second_adapter_on_the_first_is_refused():
    model = classifier()
    adapt(model, ["query"], LORA)
    with pytest.raises(ValueError, match="wrapped already"):
        adapt(model, ["query"], LORA)


@pytest.mark.parametrize("bad", [{"rank": 0}, {"alpha": 0}, {"rank": 1.5}, {"alpha": float("nan")}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        LoRALinear(nn.Linear(3, 2), **bad)


# --- what was trained, as a file --------------------------------------------------------------


def test_a_file_holds_what_was_trained_and_brings_it_back(tmp_path):
    file = tmp_path / "task.safetensors"
    first, second = classifier(0), classifier(9)  # other heads: the file brings the head too
    for model in (first, second):
        adapt(model, ["query", "value"], LORA, also=["classifier"])
    moved(first)
    save_trained(first, file)
    assert set(safetensors.torch.load_file(file)) == set(trained_tensors(first))
    assert bytes_of(trained_tensors(first).values()) < file.stat().st_size < 12_000
    assert not torch.equal(logits_of(first), logits_of(second))
    load_trained(second, file)
    assert torch.equal(logits_of(first), logits_of(second))


def test_a_file_of_another_adaptation_is_refused_and_changes_nothing(tmp_path):
    file = tmp_path / "task.safetensors"
    first, second = classifier(), classifier()
    adapt(first, ["query", "value"], LORA, also=["classifier"])
    save_trained(moved(first), file)
    for targets, rank, also in ((["query"], 4, ["classifier"]), (["query", "value"], 2, [])):
        other = copy.deepcopy(second)
        adapt(other, targets, partial(LoRALinear, rank=rank), also=also)
        before = tiny.weights(other)
        with pytest.raises(ValueError, match="adapted like this one"):
            load_trained(other, file)
        assert all(torch.equal(w, before[n]) for n, w in tiny.weights(other).items())


def test_a_damaged_file_and_nothing_to_save_are_refused(tmp_path):
    model = classifier()
    (tmp_path / "bad").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load_trained(model, tmp_path / "bad")
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to save"):
        save_trained(model, tmp_path / "task.safetensors")
    assert not (tmp_path / "task.safetensors").exists()
