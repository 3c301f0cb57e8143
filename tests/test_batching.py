"""Batches: every row once, padded no more than needed, masked, and the same again by seed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from course_utils.batching import (
    Batch,
    BucketSampler,
    EpochSampler,
    Example,
    RandomSampler,
    SequentialSampler,
    TokenizedDataset,
    collate,
    cut,
    eval_loader,
    padding_share,
    train_loader,
)
from course_utils.datasets import targets
from course_utils.models import load_tokenizer
from course_utils.reading import TextWarning
from tests import tiny

LENGTHS = np.random.default_rng(0).integers(3, 60, size=501)


@pytest.fixture(scope="module")
def wordpieces():
    return load_tokenizer()


@pytest.fixture(scope="module")
def data(wordpieces) -> TokenizedDataset:
    rows = tiny.reviews()
    return TokenizedDataset([row.text for row in rows], targets(rows), wordpieces)


def samplers(seed: int = 0, batch_size: int = 16) -> dict[str, EpochSampler]:
    size = len(LENGTHS)
    return {
        "sequential": SequentialSampler(range(size), batch_size),
        "random": RandomSampler(size, batch_size, seed),
        "bucket": BucketSampler(LENGTHS.tolist(), batch_size, seed, bucket_batches=8),
    }


NAMES = list(samplers())


# --- tokenised texts --------------------------------------------------------------------------


def test_tokens_are_the_tokenizer_s_and_unpadded(data, wordpieces):
    for i in (0, 7, 199):
        text = tiny.reviews()[i].text
        assert data[i].input_ids == wordpieces(text)["input_ids"]
        assert wordpieces.decode(data[i].input_ids).startswith("[CLS]")
    assert data.lengths().tolist() == [len(data[i].input_ids) for i in range(len(data))]


def test_long_texts_are_cut_and_counted(wordpieces):
    texts = ["fine", "a good film", "a very good film", "a very, very good film"]
    with pytest.warns(TextWarning, match="25% of the texts have more than 6 tokens"):
        data = TokenizedDataset(texts, None, wordpieces, max_tokens=6)
    assert data.lengths().tolist() == [3, 5, 6, 6]
    assert data.truncated == 1, "a text of exactly max_tokens is not cut"
    assert data[3].input_ids[-1] == wordpieces.sep_token_id, "the end is still marked as one"


@pytest.mark.parametrize(
    ("labels", "value", "dtype"),
    [
        (None, 0, torch.int64),
        (np.array([2, 1]), 2, torch.int64),
        ([2, 1], 2, torch.int64),
        (np.array([0.5, -1.25], dtype=np.float32), 0.5, torch.float32),
        (np.array([0.5, -1.25]), 0.5, torch.float32),  # the losses compute in 32 bits
    ],
)
def test_labels_reach_the_batch_in_the_type_the_losses_want(wordpieces, labels, value, dtype):
    data = TokenizedDataset(["fine", "dreadful"], labels, wordpieces)
    batch = collate([data[0], data[1]])
    assert batch.labels[0].item() == value
    assert batch.labels.dtype == dtype


def test_bad_input_to_a_dataset_is_refused(wordpieces):
    with pytest.raises(ValueError, match="at least one text, got none"):
        TokenizedDataset([], None, wordpieces)
    with pytest.raises(ValueError, match="got 2 texts and 3 labels"):
        TokenizedDataset(["a", "b"], np.zeros(3), wordpieces)


# --- padding ----------------------------------------------------------------------------------


def test_a_batch_by_hand():
    batch = collate(
        [Example(4, [101, 7, 8, 102], 1), Example(2, [101, 102], 0), Example(9, [101, 7, 102], 1)],
        pad_id=99,
    )
    assert batch.input_ids.tolist() == [[101, 7, 8, 102], [101, 102, 99, 99], [101, 7, 102, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert batch.labels.tolist() == [1, 0, 1]
    assert batch.index.tolist() == [4, 2, 9]
    assert len(batch) == 3


def test_padding_is_what_the_tokenizer_s_own_would_be(data, wordpieces):
    rows = [3, 50, 120, 7]
    batch = collate([data[i] for i in rows], pad_id=wordpieces.pad_token_id)
    texts = [tiny.reviews()[i].text for i in rows]
    reference = wordpieces(texts, padding=True, return_tensors="pt")
    assert torch.equal(batch.input_ids, reference["input_ids"])
    assert torch.equal(batch.attention_mask, reference["attention_mask"])


def test_collating_leaves_the_dataset_unpadded(data):
    before = data.lengths()
    list(train_loader(data, 16))
    assert np.array_equal(data.lengths(), before)


def test_every_batch_is_as_wide_as_its_longest_row_and_no_wider(data):
    widths = set()
    for batch in train_loader(data, 16):
        assert batch.attention_mask.sum(dim=1).max() == batch.input_ids.shape[1]
        assert torch.equal(batch.attention_mask.sum(1), torch.tensor(data.lengths())[batch.index])
        widths.add(batch.input_ids.shape[1])
    assert len(widths) > 3


def test_a_batch_moves_as_a_whole():
    batch = tiny.batches(3)[0]
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert {t.device.type for t in vars(moved).values()} == {"meta"}
    assert {t.device.type for t in vars(batch).values()} == {"cpu"}


# --- samplers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [1, 16, 500, 501, 1000])
def test_an_epoch_visits_every_row_exactly_once(name, batch_size):
    sampler = samplers(batch_size=batch_size)[name]
    for _ in range(2):
        batches = list(sampler)
        assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
        assert len(batches) == len(sampler)
        assert sorted(map(len, batches), reverse=True)[:-1] == [batch_size] * (len(batches) - 1)


@pytest.mark.parametrize("name", ["random", "bucket"])
def test_epochs_and_seeds_differ_and_the_same_ones_agree(name):
    sampler = samplers(seed=3)[name]
    first, second = list(sampler), list(sampler)
    assert first != second, "each iteration is the next epoch"
    again = samplers(seed=3)[name]
    assert [list(again), list(again)] == [first, second]
    assert list(samplers(seed=4)[name]) != first


@pytest.mark.parametrize("name", NAMES)
def test_seek_goes_to_any_batch_of_any_epoch(name):
    reference = samplers()[name]
    epochs = [list(reference) for _ in range(3)]
    sampler = samplers()[name]
    sampler.seek(1, first_batch=5)
    assert list(sampler) == epochs[1][5:]
    assert list(sampler) == epochs[2], "after a part of an epoch comes a whole one"
    sampler.seek(0)
    assert list(sampler) == epochs[0]


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_left_in_the_middle_is_over(name):
    sampler = samplers()[name]
    for _ in sampler:
        break
    assert list(sampler) == sampler.batches(1)


def test_sequential_order_is_the_given_one():
    assert list(SequentialSampler([4, 2, 0, 1, 3], 2)) == [[4, 2], [0, 1], [3]]


@pytest.mark.parametrize("batch_size", [8, 32])
def test_buckets_pad_far_less_than_chance(batch_size):
    bucket = BucketSampler(LENGTHS.tolist(), batch_size)
    chance = RandomSampler(len(LENGTHS), batch_size)
    for epoch in range(3):
        padded = padding_share(LENGTHS, bucket.batches(epoch))
        assert padded < padding_share(LENGTHS, chance.batches(epoch)) / 4


def test_buckets_do_not_let_the_same_rows_meet_in_every_epoch_nor_feed_them_by_length():
    sampler = BucketSampler(LENGTHS.tolist(), 16, bucket_batches=8)
    first, second = ({frozenset(batch) for batch in sampler.batches(e)} for e in (0, 1))
    assert len(first & second) <= 1
    means = [[LENGTHS[batch].mean() for batch in sampler.batches(epoch)] for epoch in range(20)]
    assert np.mean(np.diff(means) > 0) == pytest.approx(0.5, abs=0.1)


def test_padding_share_by_hand():
    lengths = np.array([2, 4, 6, 6])
    assert padding_share(lengths, [[0, 1], [2, 3]]) == pytest.approx(1 - 18 / 20)
    assert padding_share(lengths, [[2], [0], [3, 2]]) == 0.0


def test_cut_keeps_the_last_smaller_piece():
    assert cut(list(range(7)), 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert cut([], 3) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSampler(0, 4),
        lambda: RandomSampler(4, 0),
        lambda: SequentialSampler([], 4),
        lambda: BucketSampler([], 4),
        lambda: BucketSampler([3, 4], -1),
        lambda: BucketSampler([3, 4], 1, bucket_batches=0),
    ],
)
def test_impossible_sizes_are_refused(make):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        make()


# --- loaders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [train_loader, eval_loader])
def test_loaders_leave_every_global_generator_alone(data, make):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    for _ in range(2):
        list(make(data, 16))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_training_batches_do_not_depend_on_the_global_seed(data):
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        orders.append([batch.index.tolist() for batch in train_loader(data, 16, seed=5)])
    assert orders[0] == orders[1]
    assert orders[0] != [b.index.tolist() for b in train_loader(data, 16, seed=6)]


def test_a_loop_written_by_hand_sees_a_new_order_in_each_epoch(data):
    loader = train_loader(data, 16)
    epochs = [[batch.index.tolist() for batch in loader] for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_index_puts_rows_back_in_the_order_of_the_dataset(data):
    batches = list(eval_loader(data, batch_size=32))
    index = torch.cat([batch.index for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    assert not torch.equal(index, torch.arange(len(data))), "evaluation goes by length"
    assert torch.equal(labels[index.argsort()], torch.tensor(data.labels))
    widths = [batch.input_ids.shape[1] for batch in batches]
    assert widths == sorted(widths)


def test_a_sampler_of_one_s_own_decides_what_is_trained_on(data):
    class Twice(EpochSampler):
        """Over-sampling, as lesson 07 needs it."""

        def batches(self, epoch: int) -> list[list[int]]:
            return cut([0, 1, 1, 2, 2, 2], self.batch_size)

    loader = train_loader(data, 2, sampler=Twice(6, 2))
    assert [batch.index.tolist() for batch in loader] == [[0, 1], [1, 2], [2, 2]]


def test_the_loaders_pad_with_the_id_they_are_given(data):
    for loader in (train_loader(data, 16, pad_id=7), eval_loader(data, 16, pad_id=7)):
        for batch in loader:
            assert (batch.input_ids[batch.attention_mask == 0] == 7).all()
