"""Items of lesson 12: batches by tokens, rounding, a loss scale, shares, a ring, a bug hunt."""

from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
from course_utils.grading.wire import Tensor

# --- batches of so many positions ---------------------------------------------------------------


def budget_cases(generator: np.random.Generator) -> list[Case]:
    """Mixed lengths, a text longer than the budget, an exact fit, one text."""
    long, short = (int(n) for n in generator.integers((40, 3), (60, 9)))
    mixed = generator.integers(4, 40, 18).tolist()
    lists = [
        ("mixed lengths", mixed, 96),
        ("an exact fit", [short] * 7, 3 * short),
        ("a text longer than the budget", [short, long, short + 1, short], 30),
        ("only texts longer than the budget", [long, long + 2], 30),
        ("one text", [short], 30),
        ("a tight budget", generator.integers(5, 12, 9).tolist(), 20),
    ]
    return [Case(name, {"lengths": n, "budget": budget}) for name, n, budget in lists]


def token_budget(lengths: list[int], budget: int) -> list[list[int]]:
    """Return batches of rows, sorted by length, of at most `budget` padded positions."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    batches: list[list[int]] = []
    batch: list[int] = []
    for row in order:
        positions = (len(batch) + 1) * lengths[row]
        if batch and positions > budget:
            batches.append(batch)
            batch = []
        batch.append(row)
    batches.append(batch)
    return batches


BUDGET = Item(
    name="12.token_budget",
    title="A batch is so many tokens",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=budget_cases,
    reference=token_budget,
    diagnoses=(
        Mistake(
            "counts_tokens",
            "tokens are counted, not positions: every text of a batch is padded to its longest",
            edit(
                token_budget,
                "(len(batch) + 1) * lengths[row]",
                "sum(lengths[r] for r in batch) + lengths[row]",
            ),
        ),
        Mistake(
            "without_the_new",
            "the batch is measured without the text that is about to join it",
            edit(token_budget, "(len(batch) + 1)", "len(batch)"),
        ),
        Mistake(
            "below",
            "a batch that fits exactly is cut: at most the budget, not below it",
            edit(token_budget, "positions > budget", "positions >= budget"),
        ),
        Mistake(
            "loses_the_last",
            "the last batch is missing: when the loop ends it is still being filled",
            edit(token_budget, "    batches.append(batch)\n    return", "    return"),
        ),
        Mistake(
            "empty_batch",
            "a text longer than the budget leaves an empty batch before it: close only a batch "
            "that holds something",
            edit(token_budget, "if batch and positions", "if positions"),
        ),
        Mistake(
            "unsorted",
            "the texts are not sorted by length, so short ones are padded to long ones",
            edit(
                token_budget,
                "sorted(range(len(lengths)), key=lambda row: lengths[row])",
                "list(range(len(lengths)))",
            ),
        ),
        Mistake(
            "forgets_the_text",
            "the text that did not fit is lost: it begins the next batch",
            edit(
                token_budget,
                "batch = []\n        batch",
                "batch = []\n            continue\n        batch",
            ),
        ),
    ),
)

# --- rounding -------------------------------------------------------------------------------------


def round_cases(generator: np.random.Generator) -> list[Case]:
    """Numbers of all sizes, of both signs, and ties."""
    sizes = 2.0 ** generator.integers(-30, 30, 24)
    plain = (generator.normal(0, 1, 24) * sizes).astype(np.float32)
    cases = []
    for bits in (7, 10, 3):
        cases.append(Case(f"numbers of all sizes, {bits} bits", {"x": plain.copy(), "bits": bits}))
        signs = np.array([1, 1, -1, -1] * 3)
        ties = signs * (1 + (np.arange(12) + 0.5) * 2.0**-bits)
        inputs = {"x": ties.astype(np.float32), "bits": bits}
        cases.append(Case(f"half way between two neighbours, {bits} bits", inputs))
    edge = np.array([[0.0, 1.0], [-1.0, 2 - 2.0**-20]], np.float32)
    return [*cases, Case("zero, one, and just below two", {"x": edge, "bits": 7})]


def round_fraction(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x with its fraction rounded to `bits` bits, ties to the even neighbour."""
    mantissa, exponent = np.frexp(x)  # the mantissa is from 0.5 to below 1
    steps = 2.0 ** (bits + 1)
    return np.ldexp(np.round(mantissa * steps) / steps, exponent).astype(np.float32)


ROUND = Item(
    name="12.round_fraction",
    title="What sixteen bits keep of a number",
    **Rating(difficulty=3, importance=3, minutes=15, points=3),
    cases=round_cases,
    reference=round_fraction,
    rtol=1e-7,
    atol=0.0,
    diagnoses=(
        Mistake(
            "cuts_off",
            "the bits are cut off: round to the nearest neighbour",
            edit(round_fraction, "np.round(", "np.trunc("),
        ),
        Mistake(
            "half_up",
            "a number half way between two neighbours goes to the even one, not always up: else "
            "sums of rounded numbers drift upwards",
            edit(round_fraction, "np.round(mantissa * steps)", "np.floor(mantissa * steps + 0.5)"),
        ),
        Mistake(
            "half_away",
            "a number half way between two neighbours goes to the even one, not always away from "
            "zero",
            edit(
                round_fraction,
                "np.round(mantissa * steps)",
                "np.sign(mantissa) * np.floor(np.abs(mantissa) * steps + 0.5)",
            ),
        ),
        Mistake(
            "one_bit_short",
            "one bit too few: `frexp` gives a mantissa from 0.5 to below 1, so its first bit is "
            "the 1 that is not stored",
            edit(round_fraction, "(bits + 1)", "bits"),
        ),
        Mistake(
            "fixed_point",
            "the spacing is the same for all numbers: it is that of the number's own power of two",
            edit(
                round_fraction,
                "np.ldexp(np.round(mantissa * steps) / steps, exponent)",
                "(np.round(x * 2.0**bits) / 2.0**bits)",
            ),
        ),
        Mistake(
            "float16",
            "this is float16, with its small range too: only the fraction is to be rounded, and "
            "to as many bits as asked for",
            lambda x, bits: x.astype(np.float16).astype(np.float32),
        ),
    ),
)

# --- the loss scale -------------------------------------------------------------------------------


def scale_cases(generator: np.random.Generator) -> list[Case]:
    """Overflows at the beginning, seldom, at the end; none; patience 1 to 4."""
    lists = [
        ("no overflow", [False] * 9, 3),
        ("it begins too high", [True, True, True, False, False, False, False], 2),
        ("one in the middle of a count", [False, False, True, False, False, False, False], 3),
        ("patience 1", [False, False, True, False], 1),
        ("the last step overflows", [False] * 4 + [True], 4),
        ("by chance", (generator.random(30) < 0.2).tolist(), 4),
    ]
    start = 2.0 ** int(generator.integers(8, 17))
    return [Case(name, {"overflows": o, "scale": start, "patience": n}) for name, o, n in lists]


def scale_history(overflows: list[bool], scale: float, patience: int) -> tuple[list[float], int]:
    """Return the scale after each step, and how many steps the optimiser took."""
    scales, taken, good = [], 0, 0
    for overflow in overflows:
        if overflow:
            scale, good = scale / 2, 0
        else:
            taken += 1
            good += 1
            if good == patience:
                scale, good = 2 * scale, 0
        scales.append(scale)
    return scales, taken


SCALE = Item(
    name="12.scale_history",
    title="A loss scale that finds its size",
    **Rating(difficulty=1, importance=4, minutes=10, points=2),
    cases=scale_cases,
    reference=scale_history,
    withheld=("torch.amp.GradScaler",),
    diagnoses=(
        Mistake(
            "steps_anyway",
            "the optimiser steps although a gradient overflowed: inf or nan would be in the "
            "weights for good. Skip that step",
            edit(
                scale_history,
                "scale, good = scale / 2, 0",
                "scale, good, taken = scale / 2, 0, taken + 1",
            ),
        ),
        Mistake(
            "never_grows",
            "the scale only falls: after `patience` good steps in a row it doubles",
            edit(scale_history, "2 * scale, 0", "scale, 0"),
        ),
        Mistake(
            "counts_on",
            "after an overflow the count of good steps goes on: it must start anew",
            edit(scale_history, "scale / 2, 0", "scale / 2, good"),
        ),
        Mistake(
            "grows_ever_after",
            "once the count is reached the scale doubles at every step: start the count anew",
            edit(
                scale_history,
                "good == patience",
                "good >= patience",
                "2 * scale, 0",
                "2 * scale, good",
            ),
        ),
        Mistake(
            "one_too_many",
            "the scale doubles one good step too late: at the step that completes the count",
            edit(scale_history, "good == patience", "good == patience + 1"),
        ),
        Mistake(
            "the_scale_before",
            "these are the scales that the steps used: what is asked for is the scale after each",
            edit(
                scale_history,
                "    for overflow in overflows:\n",
                "    for overflow in overflows:\n        scales.append(scale)\n",
                "        scales.append(scale)\n    return",
                "    return",
            ),
        ),
    ),
)

# --- shares of a batch ----------------------------------------------------------------------------


def share_cases(generator: np.random.Generator) -> list[Case]:
    """Equal shares, an uneven last batch, a process without rows, one process."""
    cases = []
    for rows in ([4, 4], [5, 4], [3, 3, 2, 2], [2, 1, 1, 0], [7]):
        gradients = [generator.normal(0, 1, 5) if n else np.full(5, np.nan) for n in rows]
        name = f"{len(rows)} processes with {', '.join(map(str, rows))} rows"
        cases.append(Case(name, {"gradients": gradients, "rows": rows}))
    return cases


def whole_gradient(gradients: list[np.ndarray], rows: list[int]) -> np.ndarray:
    """Return the gradient of the mean loss over all rows."""
    total = sum(rows)
    whole = np.zeros_like(gradients[0])
    for gradient, n in zip(gradients, rows, strict=True):
        if n > 0:
            whole += n / total * gradient
    return whole


SHARES = Item(
    name="12.whole_gradient",
    title="Whose gradient counts how much",
    **Rating(difficulty=2, importance=5, minutes=10, points=2),
    cases=share_cases,
    reference=whole_gradient,
    diagnoses=(
        Mistake(
            "mean_of_means",
            "this is a plain mean over processes: right only while all have the same number of "
            "rows. Weight each by its rows",
            edit(
                whole_gradient,
                *("if n > 0", "if n >= 0"),
                *("n / total * gradient", "np.nan_to_num(gradient) / len(rows)"),
            ),
            edit(whole_gradient, "n / total * gradient", "gradient / sum(k > 0 for k in rows)"),
        ),
        Mistake(
            "nan_from_nothing",
            "right, except where a process has no rows: the mean over none is nan, and nan times "
            "zero is nan too. Leave it out",
            edit(whole_gradient, "if n > 0", "if n >= 0"),
        ),
        Mistake(
            "not_divided",
            "the sum over rows, not their mean: too large by the number of rows",
            edit(whole_gradient, "n / total *", "n *"),
        ),
        Mistake(
            "sum_of_means",
            "the processes' means are added up: too large by about the number of processes",
            edit(whole_gradient, "n / total * gradient", "gradient"),
        ),
        Mistake(
            "by_the_first",
            "every share is taken for as large as the first one's",
            edit(whole_gradient, "n / total", "rows[0] / total"),
        ),
    ),
)

# --- the ring -------------------------------------------------------------------------------------


def ring_cases(generator: np.random.Generator) -> list[Case]:
    """Two to five processes."""
    return [
        Case(f"{W} processes", {"vectors": generator.normal(0, 1, (W, W))}) for W in (2, 3, 4, 5)
    ]


def ring(vectors: np.ndarray) -> np.ndarray:
    """Return what every process holds after every round, (2(W - 1), W, W)."""
    W = len(vectors)
    held, states = vectors.copy(), []
    for k in range(2 * (W - 1)):
        moving = [held[r, (r - k) % W] for r in range(W)]
        for r in range(W):
            piece = (r - 1 - k) % W
            own = held[r, piece] if k < W - 1 else 0
            held[r, piece] = own + moving[(r - 1) % W]
        states.append(held.copy())
    return np.array(states)


RING = Item(
    name="12.ring",
    title="A sum that goes round",
    **Rating(difficulty=3, importance=3, minutes=25, points=4),
    cases=ring_cases,
    reference=ring,
    withheld=("torch.distributed.all_reduce",),
    diagnoses=(
        Mistake(
            "adds_for_ever",
            "in the second half the pieces that arrive are complete: copy them, do not add",
            edit(ring, "held[r, piece] if k < W - 1 else 0", "held[r, piece]"),
        ),
        Mistake(
            "copies_too_early",
            "copying begins a round too early: W - 1 rounds are needed until a piece is complete",
            edit(ring, "k < W - 1", "k < W - 2"),
        ),
        Mistake(
            "copies_too_late",
            "one round too many adds: after W - 1 rounds the pieces are complete",
            edit(ring, "k < W - 1", "k <= W - 1"),
        ),
        Mistake(
            "half_way",
            "the rounds end when each process has one complete piece: W - 1 more pass them on",
            edit(ring, "range(2 * (W - 1))", "range(W - 1)"),
        ),
        Mistake(
            "other_way",
            "the pieces go to the left: process r sends to r + 1",
            edit(
                ring,
                *("(r - k) % W", "(r + k) % W"),
                *("(r - 1 - k) % W", "(r + 1 + k) % W"),
                *("moving[(r - 1) % W]", "moving[(r + 1) % W]"),
            ),
        ),
        Mistake(
            "the_same_piece",
            "each process sends the same piece in every round: it goes back by one each time",
            edit(ring, "(r - k) % W", "r", "(r - 1 - k) % W", "(r - 1) % W"),
        ),
        Mistake(
            "one_array",
            "every round shows the end: the list holds one array many times. Append a copy",
            edit(ring, "held.copy())", "held)"),
        ),
    ),
)

# --- bug hunt: accumulation under a loss scale --------------------------------------------------


def accumulate_cases(generator: np.random.Generator) -> list[Case]:
    """Unequal batches, a last shorter group, clipping that bites and clipping that does not."""
    cases = []
    for sizes, accumulate, max_norm in (
        ([4, 4, 3, 4, 1], 2, 0.5),
        ([6, 2, 5, 5, 3, 2, 4], 3, 1000.0),
        ([5, 5, 1], 2, 0.2),
        ([3, 3, 3, 3, 2], 4, 0.3),
    ):
        N, V = sum(sizes), 4
        x = generator.normal(0, 1, (N, V)).astype(np.float32)
        y = (x @ np.array([2.0, -1.0, 0.5, 3.0]) + generator.normal(0, 0.5, N)).astype(np.float32)
        inputs = {
            "features": Tensor(x),
            "targets": Tensor(y),
            "sizes": sizes,
            "accumulate": accumulate,
            "max_norm": max_norm,
            "scale": 1024.0,
        }
        cases.append(Case(f"batches of {sizes}, {accumulate} to a step, norm {max_norm}", inputs))
    return cases


def train_accumulated(
    features: Any, targets: Any, sizes: list[int], accumulate: int, max_norm: float, scale: float
) -> Any:
    """Return the weights after one epoch."""
    import torch

    weight = torch.zeros(features.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    batches = list(zip(features.split(sizes), targets.split(sizes), strict=True))
    for start in range(0, len(batches), accumulate):
        group = batches[start : start + accumulate]
        rows = sum(len(y) for _, y in group)
        optimizer.zero_grad()
        for x, y in group:
            loss = torch.nn.functional.mse_loss(x @ weight, y)
            (scale * loss * len(y) / rows).backward()
        assert weight.grad is not None
        weight.grad /= scale
        torch.nn.utils.clip_grad_norm_([weight], max_norm)
        optimizer.step()
    return weight.detach()


UNSCALE = """        weight.grad /= scale
        torch.nn.utils.clip_grad_norm_([weight], max_norm)
"""
CLIP_FIRST = """        torch.nn.utils.clip_grad_norm_([weight], max_norm)
        weight.grad /= scale
"""
BUGS = {
    "mean_of_means": (
        "each batch of a group counts the same: weight its loss by its share of the group's rows",
        *("len(y) / rows", "1 / accumulate"),
    ),
    "clips_scaled": (
        "the scaled gradient is clipped, and then divided: what is left is next to nothing. "
        "Divide first",
        *(UNSCALE, CLIP_FIRST),
    ),
    "drops_the_last": (
        "the last, shorter group is never stepped: its rows were computed for nothing",
        *(
            "range(0, len(batches), accumulate)",
            "range(0, len(batches) - accumulate + 1, accumulate)",
        ),
    ),
}

ACCUMULATE = Item(
    name="12.train_accumulated",
    title="Bug hunt: a large batch that is none",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=accumulate_cases,
    reference=train_accumulated,
    rtol=1e-4,
    atol=1e-5,
    diagnoses=(
        *remaining(train_accumulated, BUGS),
        Mistake(
            "grows_on",
            "the gradients of one step are still there in the next: clear them before each group",
            edit(train_accumulated, "        optimizer.zero_grad()\n", ""),
        ),
        Mistake(
            "only_the_last",
            "the gradients are cleared before each batch, so a step sees the last one only",
            edit(
                train_accumulated,
                "            loss = torch",
                "            optimizer.zero_grad()\n            loss = torch",
            ),
        ),
    ),
)

ITEMS = (BUDGET, ROUND, SCALE, SHARES, RING, ACCUMULATE)
