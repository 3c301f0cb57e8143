"""Wrong answers to lesson 00's items that are no item's variant: other code, the same mistakes."""

import random

import numpy as np
import torch


def draw_with_numpy(labels, per_class, seed):
    np.random.seed(seed)  # a global generator, though not PyTorch's
    rows = [np.flatnonzero(labels.numpy() == c) for c in range(int(labels.max()) + 1)]
    return np.concatenate([np.random.permutation(r)[:per_class] for r in rows])


def draw_with_python(labels, per_class, seed):
    rows = [[i for i, y in enumerate(labels.tolist()) if y == c] for c in set(labels.tolist())]
    return [row for of_class in rows for row in random.sample(of_class, per_class)]


def draw_sorted(labels, per_class, seed):
    return torch.cat([(labels == c).nonzero()[:, 0][-per_class:] for c in labels.unique()])


def one_by_one(model, rows, batch_size):
    """Needs no mask and no order; the mode is still wrong."""
    with torch.no_grad():
        found = [model(torch.tensor([row]), torch.ones(1, len(row))).logits for row in rows]
    return torch.cat(found)


def no_mask_given(model, rows, batch_size):
    model.eval()
    width = max(map(len, rows))
    found = [model(torch.tensor([row + [0] * (width - len(row))])).logits for row in rows]
    return torch.cat(found)


def longest_first(model, rows, batch_size):
    model.eval()
    ordered = sorted(rows, key=len, reverse=True)
    return torch.cat(
        [model(torch.tensor([row]), torch.ones(1, len(row))).logits for row in ordered]
    )


WRONG = [
    ("00.draw", "disturbs", draw_with_numpy),
    ("00.draw", "not_repeatable", draw_with_python),
    ("00.draw", "seed_ignored", draw_sorted),
    ("00.logits_of", "training", one_by_one),
    ("00.logits_of", "unmasked", no_mask_given),
    ("00.logits_of", "unordered", longest_first),
    ("00.training_bytes", "returned_none", lambda model: None),
    ("00.predict", "wrong_type", lambda logits: logits.argmax(dim=1)),
    ("00.max_pool", "changed_input", lambda h, m: h.masked_fill_(m[..., None] == 0, -9e9).amax(1)),
]
