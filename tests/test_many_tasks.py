"""Lessons 11 and 11a: mixing tasks, the encoder cut in two, forgetting, pairs, the lexicon."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.batching import Batch, TokenizedDataset, collate
from course_utils.blocks import Config
from course_utils.continual import (
    anchor,
    average_at_end,
    ewc_penalty,
    fisher_diagonal,
    forgetting,
    rehearsal_rows,
)
from course_utils.contrastive import confident, contrastive_pairs, pair_loss
from course_utils.datasets import load_corpus, targets
from course_utils.halves import LowerBlocks, UpperBlocks, in_batches, joined, read_once, take
from course_utils.lexicon import lexicon_score, load_lexicon
from course_utils.models import SentenceClassifier
from course_utils.splits import split
from course_utils.tasks import (
    MixedSampler,
    mixing_shares,
    rating_and_class_loss,
    score,
    three_classes,
)
from course_utils.training import evaluate, forward
from course_utils.transformer import Bert
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::course_utils.reading.TextWarning")

# --- tasks ----------------------------------------------------------------------------------


def test_the_loss_of_two_heads_is_the_sum_of_theirs():
    torch.manual_seed(0)
    outputs, ratings = torch.randn(9, 4), torch.linspace(-2, 2, 9)  # -0.5 and 0.5 among them
    classes = torch.tensor(targets_of(ratings))
    expected = ((outputs[:, 0] - ratings) ** 2).mean()
    expected = expected + nn.functional.cross_entropy(outputs[:, 1:], classes)
    assert torch.allclose(rating_and_class_loss(outputs, ratings), expected)


def targets_of(ratings: torch.Tensor) -> np.ndarray:
    from course_utils.datasets import Sentence

    return targets([Sentence("1", "1", "a", float(r)) for r in ratings], "three_class")


def test_classes_are_cut_where_the_datasets_cut_them():
    rows = load_corpus("amazon")[:800]
    found = three_classes(targets(rows, "rating").astype(float))
    assert (found == targets(rows, "three_class")).all()


def test_a_shrunk_rating_keeps_r_and_loses_f1():
    ratings = np.random.default_rng(0).normal(0, 1.5, 300)
    whole, shrunk = score(ratings, ratings), score(ratings, ratings / 20)
    assert whole.f1 == whole.r == 1.0
    assert shrunk.r == pytest.approx(1.0)
    assert shrunk.f1 < 0.3
    assert score(ratings, np.zeros(300)).r == 0.0  # a model that always says the same


def test_temperature_goes_from_size_to_equality():
    sizes = [400, 100, 20]
    assert mixing_shares(sizes) == pytest.approx(np.array(sizes) / 520)
    assert mixing_shares(sizes, float("inf")) == pytest.approx([1 / 3] * 3)
    smallest = [mixing_shares(sizes, t)[2] for t in (1, 2, 5, 50, float("inf"))]
    assert smallest == sorted(smallest)
    roots = np.sqrt(sizes)
    assert mixing_shares(sizes, 2) == pytest.approx(roots / roots.sum())
    assert mixing_shares([10**9, 1], 1.01).sum() == pytest.approx(1)


@pytest.mark.parametrize(("sizes", "t"), [([], 1), ([3, 0], 1), ([3], 0.9), ([3], float("nan"))])
def test_mixing_refuses_what_it_cannot_mean(sizes, t):
    with pytest.raises(ValueError, match=r"needs|must be"):
        mixing_shares(sizes, t)


def test_a_mixed_epoch_has_each_task_by_its_share():
    sizes, shares = [400, 50], np.array([0.5, 0.5])
    sampler = MixedSampler(sizes, shares, batch_size=10, steps=200, seed=3)
    rows = np.concatenate(sampler.batches(0))
    assert len(rows) == 2000
    assert len(sampler) == 200
    small = rows >= 400
    assert small.mean() == pytest.approx(0.5, abs=0.05)
    assert (rows < 450).all()
    seen = np.bincount(rows[small] - 400, minlength=50)
    assert seen.max() - seen.min() <= 1  # it goes round: no row twice before all once
    assert sampler.batches(0) == sampler.batches(0) != sampler.batches(1)


def test_a_mixed_sampler_needs_a_share_for_each_task():
    with pytest.raises(ValueError, match="2 sizes"):
        MixedSampler([3, 4], np.array([1.0]), 2, 2)


# --- halves ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert() -> Bert:
    torch.manual_seed(0)
    config = Config(
        vocab_size=tiny.WORDS, hidden_size=16, heads=2, layers=3, feed_forward_size=32, dropout=0.1
    )
    return Bert(config).eval()


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_both_halves_compute_what_the_whole_does(bert, cut):
    texts = [row.text for row in tiny.reviews()[:10]]
    part = read_once(LowerBlocks(bert, cut), texts, np.arange(10), tiny.tokenizer())
    data = TokenizedDataset(texts, np.arange(10), tiny.tokenizer())
    whole, upper = collate([data[i] for i in range(10)]), UpperBlocks(bert, cut).eval()
    with torch.no_grad():
        one = bert(whole.input_ids, whole.attention_mask).last_hidden_state
        two = upper(part.input_ids, part.attention_mask).last_hidden_state
    tokens = whole.attention_mask.bool()
    assert torch.equal(part.attention_mask, whole.attention_mask)
    assert torch.allclose(one[tokens], two[tokens], atol=1e-5)


def test_training_above_the_cut_leaves_the_encoder_alone(bert):
    upper = UpperBlocks(bert, 2)
    before = tiny.weights(bert)
    with torch.no_grad():
        for weight in upper.parameters():
            weight += 1
    assert all(torch.equal(before[name], w) for name, w in bert.state_dict().items())
    lower = LowerBlocks(bert, 2)
    assert not any(p.requires_grad for p in lower.parameters())
    assert all(p.requires_grad for p in upper.parameters())


@pytest.mark.parametrize("cut", [-1, 3, 1.5])
def test_a_cut_must_leave_a_block_to_train(bert, cut):
    with pytest.raises(ValueError, match="cut"):
        UpperBlocks(bert, cut)


def large(bert: Bert, start: int, stop: int) -> Batch:
    rows = tiny.reviews()[start:stop]
    texts = [row.text for row in rows]
    return read_once(LowerBlocks(bert, 1), texts, targets(rows, "rating"), tiny.tokenizer())


def test_parts_are_joined_taken_and_cut_without_mixing_rows(bert):
    first, second = large(bert, 0, 8), large(bert, 8, 20)
    both = joined([first, second])
    assert len(both) == 20
    assert both.index.tolist() == list(range(20))
    one, same = take(both, [9]), take(second, [1])
    assert torch.equal(one.input_ids, same.input_ids)
    assert one.labels == same.labels
    model = SentenceClassifier(UpperBlocks(bert, 1), 1).eval()
    together = evaluate(model, in_batches(both, 7), lambda logits, labels: logits.mean())
    alone = [forward(model, take(both, [row])).item() for row in range(20)]
    assert together.logits[:, 0].tolist() == pytest.approx(alone, abs=1e-5)
    assert torch.equal(together.labels, both.labels)


# --- continual ------------------------------------------------------------------------------


class Line(nn.Module):
    """Logits that are linear in vectors, with the signature of a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(logits=self.layer(input_ids))


def one_row(x: torch.Tensor, label: int) -> Batch:
    return Batch(x[None], torch.ones(1, 3), torch.tensor([label]), torch.tensor([0]))


def test_the_fisher_is_the_mean_of_squares_by_hand():
    torch.manual_seed(0)
    model, x, labels = Line().train(), torch.randn(6, 3), [0, 1, 1, 0, 1, 0]
    rows = [one_row(x[i], labels[i]) for i in range(6)]
    found = fisher_diagonal(model, rows, nn.functional.cross_entropy)
    p = model.layer(x).softmax(dim=1).detach()
    g = p - torch.eye(2)[labels]  # the gradient by the logits, lesson 01
    expected = (g[:, :, None] * x[:, None, :]).square().mean(dim=0)
    assert set(found) == {"layer.weight", "layer.bias"}  # what is frozen needs no importance
    assert torch.allclose(found["layer.weight"], expected, atol=1e-6)
    assert torch.allclose(found["layer.bias"], g.square().mean(dim=0), atol=1e-6)
    assert model.training
    assert model.layer.weight.grad is None
    squared_mean = (g[:, :, None] * x[:, None, :]).mean(dim=0).square()
    assert not torch.allclose(found["layer.weight"], squared_mean, rtol=0.2)


def test_a_batch_of_several_rows_is_refused_for_the_fisher():
    two = Batch(torch.randn(2, 3), torch.ones(2, 3), torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(ValueError, match="one row"):
        fisher_diagonal(Line(), [two], nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="got none"):
        fisher_diagonal(Line(), [], nn.functional.cross_entropy)


def test_an_anchor_is_a_copy_and_the_penalty_pulls_back_to_it():
    model = Line()
    importance = {"layer.weight": torch.full((2, 3), 4.0), "layer.bias": torch.zeros(2)}
    held = anchor(model, importance)
    assert ewc_penalty(model, [held]).item() == 0
    with torch.no_grad():
        model.layer.weight += 0.5
        model.layer.bias += 9  # not important
    assert ewc_penalty(model, [held]).item() == pytest.approx(0.5 * 6 * 4 * 0.25)
    assert ewc_penalty(model, [held, held]).item() == pytest.approx(2 * 0.5 * 6 * 4 * 0.25)
    ewc_penalty(model, [held]).backward()
    assert torch.allclose(model.layer.weight.grad, torch.full((2, 3), 2.0))


def test_rehearsed_rows_have_their_share():
    rows = rehearsal_rows(80, [10, 30], 0.5, np.random.default_rng(0))
    assert len(rows) == 160
    assert sorted(set(rows)) == list(range(120))
    assert (rows >= 80).mean() == 0.5
    assert np.bincount(rows)[:80].tolist() == [1] * 80  # the new ones once each
    counts = np.bincount(rows)[80:]
    assert counts.max() - counts.min() <= 1
    for old, share in (([], 0.5), ([10], 0.0)):
        assert sorted(rehearsal_rows(5, old, share, np.random.default_rng(0))) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="share"):
        rehearsal_rows(5, [5], 1.0, np.random.default_rng(0))


def test_forgetting_by_hand():
    scores = np.array([[0.8, 0.2, 0.1], [0.9, 0.7, 0.3], [0.5, 0.6, 0.9]])
    assert forgetting(scores) == pytest.approx(((0.9 - 0.5) + (0.7 - 0.6)) / 2)
    assert average_at_end(scores) == pytest.approx(2.0 / 3)
    for bad in (np.zeros((2, 3)), np.zeros((1, 1)), np.zeros(3)):
        with pytest.raises(ValueError, match="two tasks"):
            forgetting(bad)


# --- contrastive ----------------------------------------------------------------------------


def test_half_of_the_pairs_are_alike_and_none_is_with_itself():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    pairs, alike = contrastive_pairs(labels, 5, np.random.default_rng(0))
    assert pairs.shape == (90, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert ((labels[pairs[:, 0]] == labels[pairs[:, 1]]) == (alike == 1)).all()
    assert alike.mean() == 0.5
    assert np.bincount(pairs[:, 0]).tolist() == [10] * 9
    for bad in ([0, 0], [0, 0, 1]):
        with pytest.raises(ValueError, match="two classes"):
            contrastive_pairs(bad, 1, np.random.default_rng(0))


def test_the_pair_loss_by_hand():
    u, v = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    expected = ((24 / 25 - 1) ** 2 + (0 - 1) ** 2) / 2
    assert pair_loss(u, v, torch.ones(2)).item() == pytest.approx(expected)
    assert pair_loss(u, 7 * u, torch.ones(2)).item() == pytest.approx(0)


def test_the_surest_of_each_class_get_pseudo_labels():
    p = np.array([[0.99, 0.01], [0.98, 0.02], [0.97, 0.03], [0.4, 0.6], [0.45, 0.55]])
    assert confident(p, 0.5).tolist() == [0, 1, 3]
    assert confident(p, 0.01).tolist() == [0, 3]
    assert confident(p, 1.0).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="share"):
        confident(p, 0)


# --- the lexicon ----------------------------------------------------------------------------


def test_the_lexicon_knows_words_slang_and_emoticons():
    lexicon = load_lexicon()
    assert len(lexicon) > 7000
    assert (lexicon["great"], lexicon["horrible"], lexicon[":("]) == (3.1, -2.5, -1.9)
    assert all(-4 <= value <= 4 for value in lexicon.values())


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("A great film!", 1),
        ("a film that isn't good", -1),
        ("NOT good.", -1),
        ("not bad", 1),
        ("never was there anything good", 1),  # out of reach
        (":) :)", 1),
        ("", 0),
    ],
)
def test_the_lexicon_looks_words_up_and_turns_them(text, sign):
    assert np.sign(lexicon_score(text, load_lexicon())) == sign


def test_on_tweets_it_comes_near_the_published_correlation():
    """The paper: r = 0.881 with all of VADER's rules, 0.451 on movies."""
    lexicon = load_lexicon()
    for name, low, high in (("tweets", 0.83, 0.9), ("movies", 0.35, 0.47)):
        rows = split(load_corpus(name)).train
        said = np.array([lexicon_score(row.text, lexicon) for row in rows])
        assert low < score(targets(rows, "rating").astype(float), said).r < high


def test_read_once_needs_no_dataset_of_its_own(bert):
    """Its rows are in the order of the texts, whatever their lengths."""
    texts = [row.text for row in tiny.reviews()[:6]]
    lower = LowerBlocks(bert, 1)
    part = read_once(lower, texts, np.arange(6.0), tiny.tokenizer())
    data = TokenizedDataset(texts, np.arange(6.0), tiny.tokenizer())
    assert part.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert part.attention_mask.sum(dim=1).tolist() == data.lengths().tolist()
    assert part.input_ids[part.attention_mask == 0].abs().sum() == 0
