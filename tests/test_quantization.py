"""Four-bit weights: the levels, the blocks, and a layer that trains through them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.adapters import LoRALinear, adapt
from course_utils.quantization import (
    Blocks,
    FourBitLinear,
    dequantize,
    nf4_levels,
    pack,
    quantize,
    quantize_linears,
    unpack,
)
from tests import tiny

# The levels as the paper prints them (Dettmers et al., 2023, appendix E), to four digits.
PRINTED = [
    *(-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0),
    *(0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0),
]


def weights(rows: int = 6, columns: int = 128, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05


def error(found: torch.Tensor, right: torch.Tensor) -> float:
    return ((found - right).norm() / right.norm()).item()


def test_the_levels_are_those_of_the_paper():
    np.testing.assert_allclose(nf4_levels().numpy(), PRINTED, atol=1e-4)


def test_packing_there_and_back():
    codes = torch.randint(0, 16, (5, 32), generator=torch.Generator().manual_seed(0))
    assert pack(codes).shape == (5, 16)
    assert torch.equal(unpack(pack(codes)), codes.to(torch.uint8))


def test_a_block_by_hand():
    row = torch.tensor([[0.0, 1.5, 0.7, 0.16] + [0.0] * 28])
    blocks = quantize(row)
    assert unpack(blocks.packed)[0, :4].tolist() == [0, 15, 7, 2]  # a step is 0.1
    assert blocks.scale.item() == pytest.approx(0.1, rel=1e-3)
    torch.testing.assert_close(
        dequantize(blocks)[0, :4], torch.tensor([0.0, 1.5, 0.7, 0.2]), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(("kind", "at_most"), [("q4_1", 0.10), ("nf4", 0.10)])
def test_the_error_is_what_four_bits_cost(kind, at_most):
    w = weights(64, 512)
    assert 0.04 < error(dequantize(quantize(w, kind)), w) < at_most
    fine, coarse = (error(dequantize(quantize(w, kind, block=n)), w) for n in (16, 256))
    assert fine < coarse


def test_nf4_takes_the_nearest_level():
    w = weights()
    blocks = quantize(w, "nf4")
    scaled = w.view(-1, 64) / w.view(-1, 64).abs().amax(dim=1, keepdim=True)
    nearest = (scaled[:, :, None] - nf4_levels()).abs().argmin(dim=2)
    assert torch.equal(unpack(blocks.packed), nearest.to(torch.uint8))


@pytest.mark.parametrize("kind", ["q4_1", "nf4"])
def test_equal_weights_come_back(kind):
    for value in (0.0, 0.25, -1.0):
        w = torch.full((2, 64), value)
        assert torch.equal(dequantize(quantize(w, kind)), w)
    codes = unpack(quantize(torch.zeros(1, 64), kind).packed)
    assert (codes == {"q4_1": 0, "nf4": 7}[kind]).all()  # the code of zero, not what nan becomes


def test_what_comes_back_has_the_same_codes_again():
    w = weights()
    once = quantize(w)
    again = quantize(dequantize(once))
    assert torch.equal(once.packed, again.packed)
    torch.testing.assert_close(once.scale, again.scale, atol=0, rtol=1e-3)


@pytest.mark.parametrize(
    ("columns", "options", "complaint"),
    [
        (128, {"kind": "int4"}, "q4_1 or nf4"),
        (100, {}, "do not divide into even blocks of 32"),
        (99, {"block": 33}, "even blocks of 33"),
        (128, {"block": 0}, "block"),
    ],
)
def test_what_does_not_fit_is_refused(columns, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        quantize(weights(columns=columns), **options)


# --- the layer --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["q4_1", "nf4"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_a_linear_layer_with_rounded_weights(kind, bias):
    torch.manual_seed(0)
    linear = nn.Linear(64, 8, bias=bias)
    layer = FourBitLinear(linear, kind)
    rounded = nn.Linear(64, 8, bias=bias)
    rounded.load_state_dict(linear.state_dict())
    with torch.no_grad():
        rounded.weight.copy_(dequantize(quantize(linear.weight, kind)))
    x = torch.randn(3, 5, 64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    torch.testing.assert_close(layer(x), rounded(y), atol=1e-6, rtol=0)
    layer(x).square().sum().backward()
    rounded(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-5)


def test_nothing_of_full_size_is_kept_for_the_way_back():
    layer = FourBitLinear(nn.Linear(512, 512))
    kept = []
    x = torch.randn(2, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        layer(x).sum()
    assert max(kept, default=0) <= 2 * 512


def test_it_takes_an_eighth_and_moves_with_the_model():
    linear = nn.Linear(256, 256, bias=False)
    layer = FourBitLinear(linear, "q4_1")
    held = sum(b.numel() * b.element_size() for b in layer.buffers())
    assert held <= 256 * 256 * 5 / 8 + 64  # 4 bits, and 32 more for each block of 32
    assert set(layer.state_dict()) == {"packed", "scale", "low", "levels"}


def test_lora_trains_through_a_four_bit_model():
    model = tiny.model(dropout=0.0)
    names = quantize_linears(model, "q4_1", skip=("classifier", "pooler.dense"))
    assert len(names) == 2 * 6
    assert isinstance(model.get_submodule(names[0]), FourBitLinear)
    assert type(model.classifier) is nn.Linear
    adapt(model, ["query", "value"], partial(LoRALinear, rank=2), also=["classifier"])
    (batch,) = tiny.batches(8)

    def loss() -> torch.Tensor:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return nn.functional.cross_entropy(logits, batch.labels)

    before = loss().item()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.7 * before


def test_blocks_are_frozen():
    blocks = quantize(weights())
    with pytest.raises(AttributeError):
        blocks.scale = blocks.low
    assert isinstance(blocks, Blocks)
