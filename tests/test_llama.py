"""The decoder from scratch computes what transformers computes, piece by piece and whole."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from course_utils.llama import load_llama, read_decoder_config
from course_utils.llama_blocks import DecoderConfig, RMSNorm, rotary_waves, rotate
from tests import tiny_decoders

MASK = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]])


def ids(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, len(tiny_decoders.TOKENS), MASK.shape, generator=generator)


def sharpen(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Larger weights than a random start's: a mistake in attention must move the logits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            else:
                parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module", params=["tied", "untied"])
def pair(request, tmp_path_factory):
    """A tiny checkpoint: transformers' model of it, and ours."""
    folder = tmp_path_factory.mktemp(request.param)
    config = tiny_decoders.llama().config
    config.tie_word_embeddings = request.param == "tied"
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500.0}
    torch.manual_seed(0)
    theirs = sharpen(LlamaForCausalLM(config).eval())
    theirs.save_pretrained(folder)
    return theirs, load_llama(str(folder))


def their_logits(model, input_ids, mask):
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        return model(input_ids, attention_mask=mask, position_ids=positions).logits


def test_logits_are_transformers_on_a_padded_batch(pair):
    theirs, ours = pair
    expected = their_logits(theirs, ids(), MASK)
    with torch.inference_mode():
        logits, _ = ours(ids(), MASK)
    real = MASK.bool()
    assert expected[real].std() > 1  # it says something
    assert torch.allclose(logits[real], expected[real], atol=1e-4)


def test_padding_on_the_left_moves_nothing(pair):
    _, ours = pair
    with torch.inference_mode():
        together = ours(ids(), MASK)[0][0, 3:]
        alone = ours(ids()[:1, 3:], torch.ones(1, 4, dtype=torch.long))[0][0]
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("steps", [(3, 2, 1, 1), (1,) * 7])
def test_reading_in_pieces_is_reading_at_once(pair, steps):
    """The cache: what was read before is not read again, and the answer is the same."""
    _, ours = pair
    with torch.inference_mode():
        whole, everything = ours(ids(), MASK)
        past, start, found = None, 0, []
        for step in steps:
            end = start + step
            logits, past = ours(ids()[:, start:end], MASK[:, :end], past)
            found.append(logits)
            start = end
    assert torch.allclose(torch.cat(found, 1)[MASK.bool()], whole[MASK.bool()], atol=1e-5)
    assert past[0][0].shape == everything[0][0].shape == (3, 2, 7, 8)  # G = 2, not H = 4


def test_last_positions_only(pair):
    _, ours = pair
    with torch.inference_mode():
        some, every = ours(ids(), MASK, last=2)[0], ours(ids(), MASK)[0]
    assert torch.allclose(some, every[:, -2:], atol=1e-5)


def test_an_answer_depends_on_nothing_later(pair):
    _, ours = pair
    changed = ids().clone()
    changed[:, 5:] = 3
    with torch.inference_mode():
        before, after = (ours(x, MASK)[0][:, :5][MASK[:, :5].bool()] for x in (ids(), changed))
    assert torch.equal(before, after)


def test_gradients_are_transformers(pair):
    theirs, ours = pair
    full = torch.ones_like(MASK)
    theirs.zero_grad()
    ours.zero_grad()
    theirs(ids(), attention_mask=full).logits.square().mean().backward()
    ours(ids(), full)[0].square().mean().backward()
    expected = theirs.model.layers[0].self_attn.k_proj.weight.grad
    assert torch.allclose(ours.blocks[0].attention.key.weight.grad, expected, atol=1e-5)


def test_rms_norm_is_transformers():
    ours, theirs = RMSNorm(16, 1e-5), LlamaRMSNorm(16, 1e-5)
    x = 3 * torch.randn(2, 5, 16) + 1
    with torch.no_grad():
        ours.weight.uniform_()
        theirs.weight.copy_(ours.weight)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert torch.allclose(RMSNorm(16, 0.0)(x).square().mean(-1), torch.ones(2, 5), atol=1e-5)


def test_a_rotation_keeps_lengths_and_knows_only_distances():
    query, key = torch.randn(2, 1, 1, 1, 8).double()

    def score(at_query: int, at_key: int) -> float:
        turned = [
            rotate(x, rotary_waves(torch.tensor([[place]]), 8, 100.0))
            for x, place in ((query, at_query), (key, at_key))
        ]
        return (turned[0] * turned[1]).sum().item()

    assert score(3, 3) == pytest.approx((query * key).sum().item())
    assert score(5, 3) == pytest.approx(score(105, 103))
    assert score(5, 3) != pytest.approx(score(5, 4))
    turned = rotate(query, rotary_waves(torch.tensor([[7]]), 8, 100.0))
    assert turned.norm().item() == pytest.approx(query.norm().item())


def test_the_first_pair_turns_by_one_radian_a_token():
    cos, sin = rotary_waves(torch.tensor([[0, 1, 2]]), 4, 10_000.0)
    assert cos[0, 0, :, 0].tolist() == pytest.approx([1, math.cos(1), math.cos(2)])
    assert sin[0, 0, :, 1].tolist() == pytest.approx([0, math.sin(0.01), math.sin(0.02)])


def test_another_family_is_refused(tmp_path):
    tiny_decoders.gpt2().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a plain llama, the checkpoint is gpt2"):
        load_llama(str(tmp_path))


def test_scaled_rotations_are_refused(tmp_path):
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    LlamaConfig(rope_parameters=rope).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the checkpoint is llama, linear"):
        read_decoder_config(str(tmp_path))


def test_numbers_that_do_not_fit_are_refused():
    good = DecoderConfig(10, hidden_size=24, heads=4, groups=2, layers=1, feed_forward_size=8)
    with pytest.raises(ValueError, match="3 groups must divide the heads"):
        replace(good, groups=3)
    with pytest.raises(ValueError, match="hidden size 20 must be even"):
        replace(good, hidden_size=20)
