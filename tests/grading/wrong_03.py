"""Wrong answers to lesson 03 that are no item's variant: the general comparison names them."""

import numpy as np

WRONG = [
    ("03.attention", "returned_none", lambda query, key, value, mask: None),
    ("03.attention", "error", lambda query, key, value, mask: (query @ key).no_such_thing),
    ("03.multi_head", "gained_dimension", lambda q, k, v, heads: np.stack([q] * heads)),
    ("03.layer_norm", "lost_dimension", lambda x, weight, bias, epsilon: x.mean(axis=-1)),
    ("03.bert_parameters", "other_count", lambda *numbers: 22_713_216),
    ("03.block", "wrong_type", lambda x, mask, weights, heads: x.numpy()),
]
