"""Dialogues as tokens, the loss on answers, and DPO's loss against its derivation."""

from __future__ import annotations

import math

import pytest
import torch

from course_utils.generation import Wrapped
from course_utils.instructions import (
    IGNORED,
    Example,
    answer_log_probs,
    answer_loss,
    chat_example,
    collate_examples,
    dpo_loss,
    pack,
)
from tests import tiny_decoders
from tests.test_llama import sharpen

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EXAMPLES = [Example([5, 6, 7, 2], 2), Example([8, 9, 10, 11, 12, 2], 3), Example([13, 2], 1)]


@pytest.fixture(scope="module")
def model():
    return Wrapped(sharpen(tiny_decoders.llama()))


@pytest.fixture
def tokenizer():
    found = tiny_decoders.tokenizer(eos_token="<|im_end|>", pad_token="<|im_end|>")
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    found.chat_template = TEMPLATE
    return found


def test_a_dialogue_is_the_template_with_its_answer(tokenizer):
    example = chat_example(tokenizer, "the other?", "then")
    turns = [{"role": "user", "content": "the other?"}, {"role": "assistant", "content": "then"}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False).removesuffix("\n")
    assert tokenizer.decode(example.input_ids) == whole
    assert tokenizer.decode(example.input_ids[example.answer_start :]) == "then<|im_end|>"


def test_a_model_without_a_template_is_refused(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        chat_example(tokenizer, "a", "b")


def test_the_end_is_asked_for_and_padding_is_not():
    batch = collate_examples(EXAMPLES, pad_id=2)  # the padding token is the end token
    assert (batch.labels == 2).sum() == len(EXAMPLES)
    assert batch.labels.tolist()[2] == [IGNORED, 2, *[IGNORED] * 4]
    assert batch.attention_mask.sum(dim=1).tolist() == [4, 6, 2]
    everything = collate_examples(EXAMPLES, pad_id=2, only_answers=False)
    assert (everything.labels != IGNORED).sum() == 12
    assert torch.equal(everything.labels != IGNORED, everything.attention_mask.bool())


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        collate_examples([], pad_id=2)


def test_log_probabilities_are_those_of_each_example_alone(model):
    sums, counts = answer_log_probs(model, collate_examples(EXAMPLES, pad_id=2))
    assert counts.tolist() == [2, 3, 1]
    for example, found in zip(EXAMPLES, sums.tolist(), strict=True):
        ids = torch.tensor([example.input_ids])
        log_p = model(ids, torch.ones_like(ids))[0][0].log_softmax(-1)
        expected = sum(
            log_p[t - 1, example.input_ids[t]].item()
            for t in range(example.answer_start, len(example.input_ids))
        )
        assert found == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_transformers(model):
    for only_answers in (True, False):
        batch = collate_examples(EXAMPLES, pad_id=2, only_answers=only_answers)
        expected = model.model(
            batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
        ).loss
        assert answer_loss(model, batch).item() == pytest.approx(expected.item(), abs=1e-5)


def test_dpo_by_hand():
    """One pair: the better gained 0.3, the worse lost 0.2, so the margin is 0.5."""
    numbers = [torch.tensor([x]) for x in (-1.0, -2.2, -1.3, -2.0)]
    expected = -math.log(1 / (1 + math.exp(-0.1 * 0.5)))
    assert dpo_loss(*numbers).item() == pytest.approx(expected, abs=1e-6)


def test_dpo_s_gradient_is_its_derivation():
    """d/d better = -beta sigmoid(-beta margin) / B, and the opposite for the worse one."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(4, 6, generator=generator, dtype=torch.double).requires_grad_()
    (gradient,) = torch.autograd.grad(dpo_loss(*numbers, beta=0.7), numbers)
    better, worse, before, worse_before = numbers.detach()
    margin = (better - before) - (worse - worse_before)
    expected = -0.7 * torch.sigmoid(-0.7 * margin) / 6
    for row, sign in zip(gradient, (1, -1, -1, 1), strict=True):
        assert torch.allclose(row, sign * expected)
    assert torch.autograd.gradcheck(lambda x: dpo_loss(*x, beta=0.7), numbers)


def test_dpo_is_finite_however_far_the_model_has_drifted():
    far = torch.tensor([1e4])
    assert dpo_loss(-far, far, far, -far, beta=1.0).item() == pytest.approx(4e4)
    with pytest.raises(ValueError, match="beta"):
        dpo_loss(far, far, far, far, beta=0.0)


def test_packing_keeps_every_example_once():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 30, (40,), generator=generator).tolist()
    examples = [Example([i] * size, 0) for i, size in enumerate(sizes)]
    rows = pack(examples, length=32)
    lengths = [sum(len(example.input_ids) for example in row) for row in rows]
    assert max(lengths) <= 32
    assert sorted(e.input_ids[0] for row in rows for e in row) == list(range(40))
    assert sum(lengths) / (32 * len(rows)) > 0.9
    with pytest.raises(ValueError, match="an example of 33 tokens"):
        pack([Example([1] * 33, 0)], length=32)
