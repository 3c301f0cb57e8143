"""Wrong answers to lesson 02's items that are no item's variant: other code, the same mistakes."""

import random
from itertools import groupby

import numpy as np
import torch


def hold_out_last_documents(documents, labels, share, seed):
    names = sorted(set(documents))[-int(share * len(set(documents))) :]
    return [row for row, document in enumerate(documents) if document in names]


def hold_out_by_class(documents, labels, share, seed):
    """Stratified to the row, as scikit-learn's train_test_split would: documents fall apart."""
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    return np.concatenate([r[: round(share * len(r))] for r in rows])


def batches_of_equal_length(lengths, batch_size, seed):
    """No padding at all, and batches of any size."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batches = [list(rows) for _, rows in groupby(order, key=lambda i: lengths[i])]
    random.Random(seed).shuffle(batches)
    return batches


def batches_overlapping(lengths, batch_size, seed):
    order = np.argsort(lengths).tolist()
    starts = random.Random(seed).sample(range(0, len(order), batch_size // 2), 9)
    return [order[i : i + batch_size] for i in starts]


def batches_longest_first(lengths, batch_size, seed):
    order = np.argsort(-(lengths + np.random.default_rng(seed).random(len(lengths))))
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]


def collate_with_pad_sequence(rows, labels, pad_id, multiple):
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([torch.tensor(row) for row in rows], True, pad_id)
    ids = torch.nn.functional.pad(ids, (0, -ids.shape[1] % multiple), value=pad_id)
    return {
        "input_ids": ids,
        "attention_mask": (ids != pad_id).long(),
        "labels": torch.tensor(labels),
    }


def prepare_resampled_at_the_start(texts, documents, labels, held_out):
    """The copies and the words are right; what is repeated is repeated on both sides."""
    words = [" ".join(text.lower().split()) for text in texts]
    rows = [row for row in range(len(texts)) for _ in range(3 if labels[row] else 1)]
    validation = [row for row in rows if documents[row] in held_out]
    known = {words[row] for row in validation}
    train = [row for row in rows if documents[row] not in held_out and words[row] not in known]
    vocabulary = {word for row in train for word in words[row].split()}
    return {"train": train, "validation": validation, "vocabulary": vocabulary}


WRONG = [
    ("02.hold_out", "seed_ignored", hold_out_last_documents),
    ("02.hold_out", "divided", hold_out_by_class),
    ("02.length_batches", "wrong_size", batches_of_equal_length),
    ("02.length_batches", "rows_lost", batches_overlapping),
    ("02.length_batches", "in_order", batches_longest_first),
    ("02.length_batches", "error", lambda lengths, batch_size, seed: None),
    ("02.collate", "mask_from_ids", collate_with_pad_sequence),
    ("02.prepare", "resampled", prepare_resampled_at_the_start),
]
