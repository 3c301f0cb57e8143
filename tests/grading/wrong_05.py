"""Wrong answers to lesson 05 that are no item's variant: the general comparison names them."""

import math

WRONG = [
    ("05.warmup_then_cosine", "returned_none", lambda step, total, climb: None),
    ("05.warmup_then_cosine", "wrong_value", lambda step, total, climb: 0.5),
    ("05.clip_gradients", "wrong_length", lambda gradients, max_norm: gradients[:1]),
    ("05.accumulated_steps", "wrong_type", lambda gradients, sizes, k: gradients[0]),
    ("05.Best", "error", lambda: math.inf),
    ("05.fine_tune", "returned_none", lambda model, train, validation, lr, epochs: None),
]
