"""Our BERT is transformers' BERT: the same numbers, the same gradients, the same files."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining, BertModel

from course_utils import blocks, transformer
from course_utils.batching import TokenizedDataset, collate
from course_utils.blocks import Config, LayerNorm, allowed_keys, attention, gelu
from course_utils.models import (
    SentenceClassifier,
    count_parameters,
    load_encoder,
    load_tokenizer,
)
from course_utils.optimization import make_optimizer
from course_utils.recipe import Recipe
from course_utils.training import fit
from course_utils.transformer import (
    Bert,
    Transformer,
    load_bert,
    load_weights,
    read_config,
    read_tensors,
)
from tests import tiny
from tools.notebooks import ROOT, code_cells, tags, to_notebook

CONFIG = Config(
    vocab_size=50, hidden_size=12, heads=3, layers=2, feed_forward_size=20, max_tokens=9, dropout=0
)
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
MASK = (IDS != 0).long()
SEGMENTS = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])
TOKENS = MASK.bool()


def their_config(**changes) -> BertConfig:
    return BertConfig(
        **{
            "vocab_size": 50,
            "hidden_size": 12,
            "num_attention_heads": 3,
            "num_hidden_layers": 2,
            "intermediate_size": 20,
            "max_position_embeddings": 9,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "attn_implementation": "eager",
        }
        | changes
    )


def shaken(model: nn.Module) -> nn.Module:
    """Move every weight: fresh biases are zero and LayerNorms one, and would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture
def theirs() -> BertModel:
    return shaken(BertModel(their_config()))


@pytest.fixture
def checkpoint(theirs, tmp_path) -> str:
    theirs.save_pretrained(tmp_path)
    return str(tmp_path)


# --- the whole ----------------------------------------------------------------------------


def test_equals_transformers_on_a_padded_batch_with_segments(theirs, checkpoint):
    ours = load_bert(checkpoint)(IDS, MASK, SEGMENTS)
    expected = theirs(
        IDS,
        attention_mask=MASK,
        token_type_ids=SEGMENTS,
        output_hidden_states=True,
        output_attentions=True,
    )
    assert len(ours.hidden) == len(expected.hidden_states) == CONFIG.layers + 1
    for mine, yours in zip(ours.hidden, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine[TOKENS], yours[TOKENS], rtol=1e-5, atol=1e-5)
    for mine, yours in zip(ours.attention, expected.attentions, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.pooled, expected.pooler_output, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_equals_transformers_with_the_public_weights():
    rows = TokenizedDataset([r.text for r in tiny.reviews(24)], None, load_tokenizer())
    batch = collate([rows[i] for i in range(24)])
    tokens = batch.attention_mask.bool()
    assert not tokens.all()
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    for ours, theirs, tolerance in (
        (load_bert(), load_encoder(), 5e-5),  # rounding of 32-bit sums, in any order
        (load_bert().double(), load_encoder().double(), 1e-11),  # nothing but a mistake
    ):
        with torch.no_grad():
            mine, yours = ours(**inputs), theirs(**inputs, output_hidden_states=True)
        for a, b in zip(mine.hidden, yours.hidden_states, strict=True):
            torch.testing.assert_close(a[tokens], b[tokens], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(mine.pooled, yours.pooler_output, rtol=tolerance, atol=tolerance)


def test_causal_is_their_decoder():
    theirs = shaken(BertModel(their_config(is_decoder=True)))
    ours = Bert(replace(CONFIG, causal=True)).eval()
    load_weights(ours, theirs.state_dict())
    expected = theirs(IDS, attention_mask=MASK, use_cache=False).last_hidden_state
    found = ours(IDS, MASK).hidden[-1]
    torch.testing.assert_close(found[TOKENS], expected[TOKENS], rtol=1e-5, atol=1e-5)


def test_gradients_are_theirs_and_reach_every_weight(theirs):
    ours = Bert(CONFIG).eval()
    load_weights(ours, theirs.state_dict())
    ours(IDS, MASK).pooled.square().sum().backward()
    theirs(IDS, attention_mask=MASK).pooler_output.square().sum().backward()
    names = transformer.checkpoint_names(CONFIG)
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        part, kind = name.rsplit(".", 1)
        assert parameter.grad is not None, name
        yours = expected[f"{names[part]}.{kind}"]
        torch.testing.assert_close(parameter.grad, yours, rtol=1e-4, atol=1e-5, msg=name)


def test_fine_tunes_along_the_same_curve():
    theirs = SentenceClassifier(BertModel(tiny.model(dropout=0.0).config), 2, dropout=0.0)
    settings = theirs.encoder.config
    config = Config(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        heads=settings.num_attention_heads,
        layers=settings.num_hidden_layers,
        feed_forward_size=settings.intermediate_size,
        max_tokens=settings.max_position_embeddings,
        dropout=0.0,
    )
    ours = SentenceClassifier(Bert(config), 2, dropout=0.0)
    load_weights(ours.encoder, theirs.encoder.state_dict())
    ours.classifier.load_state_dict(theirs.classifier.state_dict())
    recipe = Recipe(lr=1e-3, precision="float32")  # 16-bit products would hide small differences
    arguments = {"recipe": recipe, "progress": False, "device": "cpu"}
    curves = [[s.loss for s in fit(m, *tiny.loaders(), **arguments).steps] for m in (theirs, ours)]
    assert len(curves[0]) == 14
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    assert abs(curves[0][-1] - curves[0][0]) > 1e-3  # not equal because nothing moved


def test_learns_one_batch_by_heart():
    torch.manual_seed(0)
    model = SentenceClassifier(Bert(CONFIG), 2, dropout=0.0).train()
    optimizer = make_optimizer(model, lr=1e-2)
    labels = torch.tensor([0, 1])
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(IDS, MASK).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


# --- files --------------------------------------------------------------------------------


def test_reads_an_old_checkpoint_with_prefix_gamma_beta_and_heads(tmp_path):
    whole = shaken(BertForPreTraining(their_config()))
    whole.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    old = {}
    for name, tensor in load_file(file).items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    assert "bert.embeddings.LayerNorm.gamma" in old
    assert any(name.startswith("cls.") for name in old)
    save_file(old, file)
    expected = whole.bert(IDS, attention_mask=MASK).last_hidden_state
    found = load_bert(str(tmp_path))(IDS, MASK).hidden[-1]
    torch.testing.assert_close(found[TOKENS], expected[TOKENS], rtol=1e-5, atol=1e-5)


def test_read_config_gives_the_files_numbers(checkpoint):
    assert read_config(checkpoint) == CONFIG
    assert load_bert(checkpoint, dropout=0.3).encoder.config == replace(CONFIG, dropout=0.3)


@pytest.mark.parametrize("change", [{"model_type": "roberta"}, {"hidden_act": "gelu_new"}])
def test_another_architecture_is_refused(change, tmp_path):
    settings = json.loads(their_config().to_json_string(use_diff=False)) | change
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=next(iter(change.values()))):
        read_config(str(tmp_path))


def test_a_missing_weight_is_not_left_random(checkpoint):
    tensors = read_tensors(checkpoint)
    del tensors["encoder.layer.1.output.LayerNorm.bias"]
    with pytest.raises(KeyError, match=r"encoder\.layer\.1\.output\.LayerNorm\.bias"):
        load_weights(Bert(CONFIG), tensors)


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(ValueError, match="5 heads do not divide hidden size 12"):
        replace(CONFIG, heads=5)


# --- attention ----------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_pytorchs(causal):
    query, key, value = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    allowed = allowed_keys(MASK, causal)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    mixed, weights = attention(query, key, value, allowed)
    torch.testing.assert_close(mixed, expected)
    assert weights.masked_select(~allowed).eq(0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 5))


def test_attention_survives_a_row_in_which_nothing_is_allowed_and_huge_scores():
    x = torch.full((1, 1, 2, 4), 1e4)
    mixed, _ = attention(x, x, x, torch.zeros(1, 1, 1, 2, dtype=torch.bool))
    assert mixed.isfinite().all()
    mixed, _ = attention(x, x, x, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    assert mixed.isfinite().all()


def test_a_text_is_the_same_alone_and_padded():
    model = shaken(Transformer(CONFIG))
    padded, alone = model(IDS, MASK).hidden[-1][1, :3], model(IDS[1:, :3], MASK[1:, :3]).hidden[-1]
    torch.testing.assert_close(padded, alone[0], rtol=1e-5, atol=1e-5)


def test_causal_hides_the_future_and_only_that():
    model = shaken(Transformer(replace(CONFIG, causal=True)))
    changed = IDS[:1].clone()
    changed[0, 3] = 20
    ones = torch.ones_like(changed)
    before, after = (model(ids, ones).hidden[-1][0] for ids in (IDS[:1], changed))
    moved = (before - after).abs().amax(dim=-1) > 1e-4
    assert moved.tolist() == [False, False, False, True, True]


def test_forgetting_the_mask_is_an_error():
    with pytest.raises(TypeError, match="attention_mask"):
        Bert(CONFIG)(IDS)


def test_too_long_a_text_is_refused_in_words():
    ids = torch.ones(1, 10, dtype=torch.long)
    with pytest.raises(ValueError, match="at most 9 tokens fit, got 10"):
        Bert(CONFIG)(ids, ids)


# --- small parts --------------------------------------------------------------------------


def test_layer_norm_is_pytorchs_and_survives_a_constant_vector():
    ours = shaken(LayerNorm(12, 1e-12))
    theirs = nn.LayerNorm(12, eps=1e-12)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 12, generator=torch.Generator().manual_seed(1)) * 100 + 50
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours(torch.full((1, 12), 7.0))[0], ours.bias)


def test_gelu_is_pytorchs_also_far_out():
    x = torch.cat([torch.linspace(-6, 6, 200), torch.tensor([-1e4, -50.0, 50.0, 1e4])])
    torch.testing.assert_close(gelu(x), nn.functional.gelu(x), rtol=1e-5, atol=1e-6)


def test_a_fresh_model_has_berts_random_start():
    torch.manual_seed(0)
    model = SentenceClassifier(Bert(replace(CONFIG, vocab_size=2000, hidden_size=48)), 2)
    for name, value in model.named_parameters():
        if "norm" in name:
            assert value.eq(1 if name.endswith("weight") else 0).all(), name
        elif name.endswith("bias"):
            assert value.eq(0).all(), name
        elif value.numel() > 500:
            assert value.std().item() == pytest.approx(0.02, rel=0.15), name
    assert (model.eval()(IDS, MASK).logits.softmax(dim=-1) - 0.5).abs().max() < 0.2


def test_dropout_is_drawn_in_training_and_only_there():
    model = shaken(Transformer(replace(CONFIG, dropout=0.5)))
    assert torch.equal(model(IDS, MASK).hidden[-1], model(IDS, MASK).hidden[-1])
    model.train()
    assert not torch.equal(model(IDS, MASK).hidden[-1], model(IDS, MASK).hidden[-1])
    first = model.blocks[0].attention  # its own dropout, on the weights
    x, allowed = torch.ones(1, 5, 12), allowed_keys(MASK[:1])
    assert not torch.equal(first(x, allowed)[0], first(x, allowed)[0])


# --- counts -------------------------------------------------------------------------------


def test_parameters_and_flops_are_the_formulas_of_lesson_03():
    V, P, S = CONFIG.vocab_size, CONFIG.max_tokens, CONFIG.segments
    D, L, F = CONFIG.hidden_size, CONFIG.layers, CONFIG.feed_forward_size
    model = Bert(CONFIG)
    by_hand = (V + P + S + 2) * D + L * (4 * D**2 + 2 * D * F + 9 * D + F) + D**2 + D
    assert count_parameters(model) == by_hand
    B, T = IDS.shape
    forward = L * B * T * (8 * D**2 + 4 * D * F + 4 * T * D) + 2 * B * D**2
    with FlopCounterMode(display=False) as counter:
        model(IDS, MASK).pooled.sum().backward()
    assert counter.get_total_flops() == 3 * forward


# --- the lesson ---------------------------------------------------------------------------


def test_lesson_03_shows_both_modules_whole():
    """Whoever has read the lesson has read the library; tests/test_reveal.py compares the two."""
    source = ROOT / "notebooks" / "source" / "03_attention_to_bert.md"
    shown = {t for cell in code_cells(to_notebook(source.read_text())) for t in tags(cell)}
    missing = {
        f"library:{module.__name__}.{node.name}"
        for module in (blocks, transformer)
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    } - shown
    assert not missing
