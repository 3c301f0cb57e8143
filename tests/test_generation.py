"""Choosing tokens: against transformers' own code, by hand, and on both families of decoders."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from course_utils.generation import (
    Wrapped,
    beam_search,
    discourage,
    generate,
    greedy,
    keep,
    sampler,
)
from course_utils.llama import load_llama
from tests import tiny_decoders
from tests.test_llama import sharpen


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Ours, and both families wrapped; transformers' models of two of them."""
    folder = tmp_path_factory.mktemp("llama")
    llama, gpt2 = sharpen(tiny_decoders.llama()), sharpen(tiny_decoders.gpt2())
    llama.save_pretrained(folder)
    return {
        "ours": (load_llama(str(folder)), llama),
        "llama": (Wrapped(llama), llama),
        "gpt2": (Wrapped(gpt2), gpt2),
    }


MASK = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
IDS = torch.randint(3, 250, MASK.shape, generator=torch.Generator().manual_seed(3))


# --- choosing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 1, 5, 1000])
@pytest.mark.parametrize("top_p", [None, 0.1, 0.8, 1.0])
def test_what_is_kept_is_what_transformers_keeps(temperature, top_k, top_p):
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p and top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    kept = keep(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert torch.allclose(kept, expected.softmax(dim=-1), atol=1e-6)


def test_the_likeliest_always_stays():
    assert keep(torch.tensor([0.0, 9.0]), top_p=1e-9).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be above 0"):
        keep(torch.zeros(3), **options)


def test_a_sampler_draws_by_probability():
    choose = sampler(torch.Generator().manual_seed(0), top_k=2)
    logits = torch.tensor([0.6, 0.3, 0.1]).log().expand(9000, 3)
    shares = torch.bincount(choose(logits), minlength=3) / 9000
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 3, 0], abs=0.02)


def test_the_penalty_is_transformers():
    logits, written = torch.randn(2, 9), torch.tensor([[1, 1, 4], [0, 2, 2]])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(written, logits.clone())
    assert torch.allclose(discourage(logits, written, 1.7), expected)
    assert torch.equal(discourage(logits, written, 1.0), logits)


# --- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["ours", "llama", "gpt2"])
def test_greedy_text_is_transformers_on_a_padded_batch(models, which):
    model, theirs = models[which]
    written = generate(model, IDS, MASK, stop_ids=[], max_tokens=12)
    expected = theirs.generate(
        input_ids=IDS,
        attention_mask=MASK,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert written == expected[:, IDS.size(1) :].tolist()


def test_a_penalty_changes_the_text_as_it_does_in_transformers(models):
    model, theirs = models["ours"]
    full = torch.ones_like(IDS[1:2])
    written = generate(model, IDS[1:2], full, stop_ids=[], max_tokens=12, penalty=1.8)
    expected = theirs.generate(
        input_ids=IDS[1:2],
        attention_mask=full,
        max_new_tokens=12,
        do_sample=False,
        repetition_penalty=1.8,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert written == expected[:, IDS.size(1) :].tolist()
    assert written != generate(model, IDS[1:2], full, stop_ids=[], max_tokens=12)


def test_each_text_stops_for_itself(models):
    model, _ = models["ours"]
    free = generate(model, IDS, MASK, stop_ids=[], max_tokens=12)
    stop = free[1][4]
    stopped = generate(model, IDS, MASK, stop_ids=[stop, 10**6], max_tokens=12)
    expected = [list(itertools.takewhile(lambda token: token != stop, row)) for row in free]
    assert stopped == expected
    assert len(stopped[1]) <= 4


def test_with_and_without_the_cache_the_text_is_the_same(models):
    model, _ = models["ours"]
    text = IDS[1:2]
    for _ in range(8):
        with torch.inference_mode():
            logits, _ = model(text, torch.ones_like(text))
        text = torch.cat([text, greedy(logits[:, -1])[:, None]], dim=1)
    written = generate(model, IDS[1:2], torch.ones_like(IDS[1:2]), stop_ids=[], max_tokens=8)
    assert written == text[:, IDS.size(1) :].tolist()


def test_padding_on_the_right_is_refused(models):
    with pytest.raises(ValueError, match="pad on the left"):
        generate(models["ours"][0], IDS, MASK.flip(1), stop_ids=[], max_tokens=1)


def test_a_wrapped_decoder_is_in_the_mode_it_came_in(models):
    """Or dropout would be on: a new module is in training mode."""
    assert not Wrapped(models["gpt2"][1]).training


def test_the_mode_is_restored(models):
    model, _ = models["ours"]
    model.train()
    generate(model, IDS, MASK, stop_ids=[], max_tokens=1)
    assert model.training
    model.eval()


# --- beams -------------------------------------------------------------------------------------


class Table(torch.nn.Module):
    """A language model by hand: the next token depends on the last one, by a table."""

    def __init__(self, chances: list[list[float]]) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(chances).log())

    def forward(self, input_ids, attention_mask, past=None, last=0):
        past = past or ((torch.zeros(1, 1, 0, 1), torch.zeros(1, 1, 0, 1)),)
        return self.table[input_ids][:, -last:], past


def test_a_beam_finds_what_greedy_misses():
    """Token 1 looks best at first and leads nowhere; 0.4 x 0.9 beats 0.5 x 0.5."""
    table = Table(
        [
            [0.05, 0.50, 0.40, 0.05],  # after 0
            [0.25, 0.25, 0.25, 0.25],  # after 1
            [0.02, 0.03, 0.05, 0.90],  # after 2: stop
            [0.25, 0.25, 0.25, 0.25],
        ]
    )
    options = {"stop_id": 3, "max_tokens": 2}
    [(score, tokens)] = beam_search(table, [0], width=1, **options)
    assert tokens[0] == 1
    [(better, best), _] = beam_search(table, [0], width=2, **options)
    assert best == [2, 3]
    assert better == pytest.approx(torch.tensor(0.36).log().item())
    assert better > score


@pytest.mark.parametrize("which", ["ours", "gpt2"])
def test_beams_are_transformers(models, which):
    model, theirs = models[which]
    start = IDS[1:2]
    found = beam_search(model, start[0].tolist(), stop_id=10**6, width=4, max_tokens=6)
    expected = theirs.generate(
        input_ids=start,
        attention_mask=torch.ones_like(start),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=6,
        do_sample=False,
        length_penalty=0.0,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert [tokens for _, tokens in found] == expected[:, start.size(1) :].tolist()


def test_a_beam_of_one_is_greedy(models):
    model, _ = models["ours"]
    [(_, tokens)] = beam_search(model, IDS[1].tolist(), stop_id=10**6, width=1, max_tokens=8)
    full = torch.ones_like(IDS[1:2])
    assert [tokens] == generate(model, IDS[1:2], full, stop_ids=[], max_tokens=8)


def test_no_beam_is_refused(models):
    with pytest.raises(ValueError, match="width must be at least 1"):
        beam_search(models["ours"][0], [3], stop_id=0, width=0, max_tokens=1)
