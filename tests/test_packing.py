"""Packed rows give what their examples give one by one, and no example reads another."""

from __future__ import annotations

import pytest
import torch

from course_utils.instructions import (
    IGNORED,
    Example,
    LabelledBatch,
    answer_log_probs,
    answer_loss,
    collate_examples,
    pack,
)
from course_utils.llama import Llama
from course_utils.llama_blocks import DecoderConfig
from course_utils.packing import (
    PackedLlama,
    allowed_within,
    collate_packed,
    places_within,
    through_blocks,
)

ROWS = [
    [Example([5, 6, 7, 2], 2), Example([8, 9, 2], 1), Example([8, 9, 2], 1)],
    [Example([10, 11, 12, 13, 2], 3)],
]
EVERY = [example for row in ROWS for example in row]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=20, hidden_size=32, heads=4, groups=2, layers=3, feed_forward_size=48, base=50.0
    )
    return Llama(config)


def one_by_one(model, examples, only_answers):
    parts = [
        answer_log_probs(model, collate_examples([each], 2, only_answers=only_answers))
        for each in examples
    ]
    return -sum(log_p.sum() for log_p, _ in parts) / sum(count.sum() for _, count in parts)


@pytest.mark.parametrize("only_answers", [True, False])
def test_loss_and_gradients_are_those_of_the_examples_one_by_one(model, only_answers):
    weights = list(model.parameters())
    alone = one_by_one(model, EVERY, only_answers)
    together = answer_loss(PackedLlama(model), collate_packed(ROWS, 2, only_answers=only_answers))
    assert together.item() == pytest.approx(alone.item(), abs=1e-5)
    expected = torch.autograd.grad(alone, weights)
    for found, wanted in zip(torch.autograd.grad(together, weights), expected, strict=True):
        assert wanted.abs().max() > 1e-3
        assert torch.allclose(found, wanted, atol=1e-5)


def test_without_the_blocks_the_loss_is_another(model):
    batch = collate_packed(ROWS, 2)
    careless = LabelledBatch(batch.input_ids, (batch.attention_mask > 0).long(), batch.labels)
    right, wrong = answer_loss(PackedLlama(model), batch), answer_loss(model, careless)
    assert abs(right.item() - wrong.item()) > 0.01


def test_a_row_says_whose_each_token_is_and_asks_for_no_stranger_s_beginning():
    batch = collate_packed(ROWS, 2, only_answers=False)
    assert batch.attention_mask.tolist() == [
        [1, 1, 1, 1, 2, 2, 2, 3, 3, 3],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    ]
    asked = (batch.labels != IGNORED).tolist()
    assert asked[0] == [False, True, True, True, False, True, True, False, True, True]
    assert asked[1] == [False, *[True] * 4, *[False] * 5]
    assert (collate_packed(ROWS, 2).labels == 2).sum() == len(EVERY)  # each end, once


def test_rows_without_an_example_are_refused():
    for rows in ([], [[]], [[EVERY[0]], []]):
        with pytest.raises(ValueError, match="rows of one example or more"):
            collate_packed(rows, 2)


def test_positions_begin_anew_and_blocks_lie_on_the_diagonal():
    members = torch.tensor([[1, 1, 2, 2, 2, 3, 0, 0], [1, 2, 3, 3, 3, 3, 3, 3]])
    assert places_within(members).tolist() == [[0, 1, 0, 1, 2, 0, 0, 1], [0, 0, 0, 1, 2, 3, 4, 5]]
    allowed = allowed_within(members)
    assert allowed.shape == (2, 1, 8, 8)
    for row in range(2):
        for at in range(8):
            for seen in range(8):
                own = members[row, at] == members[row, seen] and seen <= at
                assert allowed[row, 0, at, seen] == own


def test_blocks_below_need_be_read_only_once(model):
    batch = collate_packed(ROWS, 2)
    with torch.no_grad():
        words = model.words(batch.input_ids)
        whole = through_blocks(model, words, batch.attention_mask)
        half = through_blocks(model, words, batch.attention_mask, 0, 2)
        assert torch.allclose(through_blocks(model, half, batch.attention_mask, 2), whole)
        logits, kept = PackedLlama(model)(batch.input_ids, batch.attention_mask)
    assert torch.allclose(logits, model.head(model.norm(whole)))
    assert kept == ()


def test_rows_that_pack_makes_are_packed_as_they_are(model):
    rows = pack(EVERY, length=8)
    batch = collate_packed(rows, 2)
    assert batch.input_ids.shape[1] <= 8
    assert (batch.attention_mask > 0).sum() == sum(len(each.input_ids) for each in EVERY)
    expected = one_by_one(model, EVERY, True).item()
    assert answer_loss(PackedLlama(model), batch).item() == pytest.approx(expected, abs=1e-5)
