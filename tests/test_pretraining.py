"""Questions asked of text, the model that answers them, and the text it writes."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from course_utils.blocks import Config
from course_utils.pretraining import (
    LanguageModel,
    Questions,
    ask_hidden,
    ask_next,
    generate,
    look_at_neighbours,
    perplexity,
)
from course_utils.transformer import Transformer

VOCAB, MASK, SPECIAL = 40, 4, range(5)
PAD, START, STOP = 0, 2, 3


def text(rows: int = 50, length: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """[CLS], ordinary tokens, [SEP]; the second half of the rows ends in padding."""
    ids = torch.randint(5, VOCAB, (rows, length), generator=torch.Generator().manual_seed(3))
    ids[:, 0], ids[:, -1] = START, STOP
    mask = torch.ones_like(ids)
    ids[rows // 2 :, -6], ids[rows // 2 :, -5:], mask[rows // 2 :, -5:] = STOP, PAD, 0
    return ids, mask


def hidden(seed: int = 0, **changed: object) -> tuple[torch.Tensor, Questions]:
    ids, mask = text()
    settings: dict = {"mask_id": MASK, "special_ids": SPECIAL, "vocab_size": VOCAB}
    generator = torch.Generator().manual_seed(seed)
    return ids, ask_hidden(ids, mask, **settings | changed, generator=generator)


def model(*, causal: bool = False, seed: int = 0) -> LanguageModel:
    config = Config(VOCAB, 16, 2, 2, 32, max_tokens=64, dropout=0.1, causal=causal)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LanguageModel(Transformer(config)).eval()


# -- hidden tokens ------------------------------------------------------------------------------


def test_answers_are_what_stood_at_the_asked_positions():
    ids, questions = hidden()
    assert questions.answers.equal(ids[questions.asked])
    assert questions.input_ids[~questions.asked].equal(ids[~questions.asked])


def test_no_special_token_and_no_padding_is_asked():
    ids, questions = hidden(share=1.0)
    _, mask = text()
    assert questions.asked.equal((ids >= 5) & mask.bool())  # everything else, with a share of 1


def test_fifteen_percent_are_asked_in_three_disguises():
    ids, questions = hidden()
    asked = questions.asked
    assert 0.12 < asked.sum() / (ids >= 5).sum() < 0.18
    shown = questions.input_ids[asked]
    masked, kept = shown == MASK, shown == questions.answers
    assert 0.70 < masked.float().mean() < 0.90
    assert 0.05 < kept.float().mean() < 0.20
    assert 0.04 < (~masked & ~kept).float().mean() < 0.20


def test_all_chance_comes_from_the_generator():
    torch.manual_seed(1)
    _, first = hidden(seed=7)
    torch.manual_seed(2)
    _, again = hidden(seed=7)
    _, other = hidden(seed=8)
    assert first.input_ids.equal(again.input_ids)
    assert not first.asked.equal(other.asked)


def test_the_text_itself_is_left_alone():
    ids, mask = text()
    before = ids.clone()
    generator = torch.Generator().manual_seed(0)
    ask_hidden(ids, mask, mask_id=MASK, special_ids=SPECIAL, vocab_size=VOCAB, generator=generator)
    assert ids.equal(before)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        hidden(share=share)


# -- next tokens --------------------------------------------------------------------------------


def test_next_token_is_asked_at_every_token_but_the_last():
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    questions = ask_next(ids, (ids > 0).long())
    assert questions.input_ids.tolist() == [[2, 7, 8], [2, 9, 3]]
    assert questions.answers.tolist() == [7, 8, 3, 9, 3]  # no padding among them
    assert questions.asked.int().tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_causal_model_does_not_see_the_answer():
    ids, _ = text()
    changed = ids.clone()
    changed[:, 20:] = 5
    with torch.no_grad():
        a, b = (model(causal=True)(ask_next(x, torch.ones_like(x))) for x in (ids, changed))
    a, b = a.view(50, 39, VOCAB), b.view(50, 39, VOCAB)
    assert torch.allclose(a[:, :20], b[:, :20], atol=1e-6)
    assert not torch.allclose(a[:, 20:], b[:, 20:], atol=1e-3)


# -- the model ----------------------------------------------------------------------------------


def test_one_row_of_logits_a_question_in_the_order_of_the_answers():
    _, questions = hidden()
    language_model = model()
    with torch.no_grad():
        logits = language_model(questions)
        second = Questions(
            *(t[1:2] for t in (questions.input_ids, questions.attention_mask, questions.asked)),
            questions.answers,
        )
        alone = language_model(second)
    assert logits.shape == (len(questions.answers), VOCAB)
    start = int(questions.asked[0].sum())
    assert torch.allclose(logits[start : start + len(alone)], alone, atol=1e-5)


def test_the_word_table_is_used_twice():
    language_model = model()
    sizes = [p.numel() for p in language_model.parameters()]
    assert sizes.count(VOCAB * 16) == 1
    before = language_model(hidden()[1])
    with torch.no_grad():
        # one entry: the same amount added to all of them is invisible after a LayerNorm
        language_model.transformer.embeddings.words.weight[9, 0] += 1
    assert (before[:, 9] - language_model(hidden()[1])[:, 9]).abs().max() > 0.1


# -- heads that begin by looking at neighbours ----------------------------------------------------


def pointed(offsets: tuple[int, ...] = (-1, 1)) -> tuple[Transformer, Transformer]:
    """A fresh transformer, and its copy with pointed heads; in evaluation mode."""
    torch.manual_seed(0)
    before = Transformer(Config(VOCAB, 64, 2, 2, 128, max_tokens=64)).eval()
    after = copy.deepcopy(before)
    look_at_neighbours(after, offsets)
    return before, after


@pytest.mark.parametrize("offsets", [(-1, 1), (1, -1), (-2, 2), (0, 3)])
def test_each_head_looks_where_its_offset_says(offsets):
    ids, mask = text(rows=4)
    before, after = pointed(offsets)
    weights = after(ids[:1], mask[:1]).attention[0][0]  # (H, T, T)
    even = before(ids[:1], mask[:1]).attention[0][0]
    for head, offset in enumerate(offsets):
        places = torch.arange(5, 30)
        assert (weights[head, places].argmax(dim=1) == places + offset).double().mean() > 0.8
        assert weights[head].diagonal(offset).mean() > 5 * even[head].diagonal(offset).mean()


def test_pointing_changes_positions_and_the_first_block_s_queries_and_keys_only():
    before, after = pointed()
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed == {
        "embeddings.positions.weight",
        "blocks.0.attention.query.weight",
        "blocks.0.attention.key.weight",
    }
    assert all(parameter.requires_grad for parameter in after.parameters())


def test_a_head_without_an_offset_keeps_its_queries():
    before, after = pointed((-1,))
    old, new = (x.blocks[0].attention.query.weight.view(2, 32, 64) for x in (before, after))
    assert torch.equal(old[1], new[1])
    assert not torch.equal(old[0], new[0])


def test_more_offsets_than_heads_and_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="at most 2 offsets"):
        look_at_neighbours(model().transformer, (-1, 1, 2))
    with pytest.raises(ValueError, match="even hidden size"):
        look_at_neighbours(Transformer(Config(VOCAB, 15, 1, 1, 32)), (-1,))


def test_an_untrained_model_is_as_perplexed_as_the_vocabulary_is_large():
    _, questions = hidden()
    assert perplexity(model(), [questions]) == pytest.approx(VOCAB, rel=0.1)


def test_perplexity_counts_answers_not_batches():
    ids, mask = text()
    whole = [ask_next(ids, mask)]
    parts = [ask_next(ids[:1], mask[:1]), ask_next(ids[1:], mask[1:])]
    language_model = model(causal=True)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(language_model(whole[0]), whole[0].answers)
    assert perplexity(language_model, whole) == pytest.approx(math.exp(loss.item()), rel=1e-5)
    assert perplexity(language_model, parts) == pytest.approx(math.exp(loss.item()), rel=1e-5)


def test_perplexity_leaves_the_mode_and_needs_a_question():
    language_model = model().train()
    perplexity(language_model, [hidden()[1]])
    assert language_model.training
    with pytest.raises(ValueError, match="at least one question"):
        perplexity(language_model, [])


@pytest.mark.slow
def test_both_kinds_learn_one_batch_by_heart():
    ids, mask = text(rows=8, length=12)
    generator = torch.Generator().manual_seed(0)
    settings: dict = {"mask_id": MASK, "special_ids": SPECIAL, "vocab_size": VOCAB}
    for questions in (ask_next(ids, mask), ask_hidden(ids, mask, **settings, generator=generator)):
        language_model = model(causal=questions.input_ids.size(1) == 11)
        optimizer = torch.optim.AdamW(language_model.parameters(), lr=1e-2)
        for _ in range(150):
            logits = language_model(questions)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, questions.answers).backward()
            optimizer.step()
        assert perplexity(language_model, [questions]) < 1.8


# -- writing ------------------------------------------------------------------------------------


def writes(seed: int = 0, **changed: object) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return generate(model(causal=True), [START], STOP, generator=generator, **changed)


def test_writing_is_a_function_of_the_generator():
    assert writes(5) == writes(5)
    assert writes(5) != writes(6)


def test_writing_stops():
    assert len(writes(max_tokens=7, banned_ids=[STOP])) == 1 + 7
    assert STOP not in writes(max_tokens=60)


def test_what_is_banned_is_never_written():
    banned = range(5, VOCAB - 1)
    assert set(writes(banned_ids=[*range(5), *banned])) == {START, VOCAB - 1}


def test_cold_writing_takes_the_likeliest():
    language_model, ids = model(causal=True), [START]
    written = writes(temperature=1e-4, max_tokens=5, banned_ids=[STOP])
    for _ in range(5):
        seen = torch.tensor([[*ids, 9]])  # the last token only provides something to ask for
        with torch.no_grad():
            logits = language_model(ask_next(seen, torch.ones_like(seen)))[-1]
        logits[STOP] = -torch.inf
        ids.append(int(logits.argmax()))
    assert written == ids


@pytest.mark.parametrize(("start", "temperature"), [([], 1.0), ([START], 0.0)])
def test_writing_needs_a_start_and_some_warmth(start, temperature):
    with pytest.raises(ValueError, match="need a start and a temperature above 0"):
        generate(model(), start, STOP, generator=torch.Generator(), temperature=temperature)
