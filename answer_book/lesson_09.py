"""Items of lesson 09: a LoRA layer and its gradients, the bill, directions, four bits, a hunt."""

from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
from course_utils.grading.wire import Tensor

# --- the layer --------------------------------------------------------------------------------

SHAPES = ((5, 7, 6, 2), (3, 4, 4, 1), (8, 6, 9, 4))  # N, D_in, D_out, r


def layer_cases(generator: np.random.Generator) -> list[Case]:
    """Several shapes, ranks and alphas, one of them square."""
    cases = []
    for (N, d_in, d_out, r), alpha in zip(SHAPES, (16.0, 3.0, 10.0), strict=True):
        inputs = {
            "x": generator.normal(0, 1, (N, d_in)),
            "W": generator.normal(0, 1, (d_out, d_in)),
            "b": generator.normal(0, 1, d_out),
            "A": generator.normal(0, 1, (r, d_in)),
            "B": generator.normal(0, 1, (d_out, r)),
            "alpha": alpha,
        }
        cases.append(Case(f"{d_in} to {d_out}, rank {r}, alpha {alpha:g}", inputs))
    return cases


def lora(
    x: np.ndarray, W: np.ndarray, b: np.ndarray, A: np.ndarray, B: np.ndarray, alpha: float
) -> np.ndarray:
    """Return the output of an adapted linear layer."""
    scale = alpha / len(A)
    return x @ W.T + b + scale * (x @ A.T @ B.T)


LORA = Item(
    name="09.lora",
    title="A LoRA layer",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=layer_cases,
    reference=lora,
    withheld=("course_utils.adapters.LoRALinear",),
    diagnoses=(
        Mistake(
            "not_over_rank",
            "the change is multiplied by alpha: the scale is alpha / r, so that another rank does "
            "not need another learning rate",
            edit(lora, "alpha / len(A)", "alpha"),
        ),
        Mistake(
            "over_width",
            "alpha is divided by a width of the layer: divide by the rank, the rows of A",
            edit(lora, "alpha / len(A)", "alpha / len(B)"),
            edit(lora, "alpha / len(A)", "alpha / A.shape[1]"),
        ),
        Mistake(
            "root_of_rank",
            "alpha is divided by the root of the rank (there is a method that does so, rsLoRA): "
            "here it is alpha / r",
            edit(lora, "alpha / len(A)", "alpha / len(A) ** 0.5"),
        ),
        Mistake("unscaled", "the scale alpha / r is missing", edit(lora, "scale * ", "")),
        Mistake(
            "replaces",
            "the change stands in the place of the base: it is added to W x + b",
            edit(lora, "x @ W.T + b + ", ""),
        ),
        Mistake("no_bias", "the base's bias is missing", edit(lora, " + b", "")),
        Mistake(
            "bias_twice",
            "the bias goes through the scale, too: only the change is scaled",
            edit(lora, "scale * (x @ A.T @ B.T)", "scale * (x @ A.T @ B.T + b)"),
        ),
    ),
)

# --- its gradients ----------------------------------------------------------------------------


def gradient_cases(generator: np.random.Generator) -> list[Case]:
    """Several shapes; one in which B is zero, as at the start."""
    cases = []
    for (N, d_in, d_out, r), alpha in zip(SHAPES, (16.0, 3.0, 10.0), strict=True):
        for start in (False, True):
            inputs = {
                "x": generator.normal(0, 1, (N, d_in)),
                "A": generator.normal(0, 1, (r, d_in)),
                "B": generator.normal(0, 1, (d_out, r)) * (not start),
                "alpha": alpha,
                "upstream": generator.normal(0, 1, (N, d_out)),
            }
            cases.append(Case(f"rank {r}, {'B is zero' if start else 'B has moved'}", inputs))
    return cases


def lora_gradients(
    x: np.ndarray, A: np.ndarray, B: np.ndarray, alpha: float, upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of the loss by A and by B."""
    scale = alpha / len(A)
    by_A = scale * (upstream @ B).T @ x
    by_B = scale * upstream.T @ (x @ A.T)
    return by_A, by_B


GRADIENTS = Item(
    name="09.lora_gradients",
    title="What A and B are told",
    **Rating(difficulty=3, importance=3, minutes=20, points=3),
    cases=gradient_cases,
    reference=lora_gradients,
    diagnoses=(
        Mistake(
            "unscaled",
            "the scale alpha / r is missing: the output contains it, and so does each gradient",
            edit(
                lora_gradients,
                *("scale * (upstream", "(upstream"),
                *("scale * upstream.T", "upstream.T"),
            ),
        ),
        Mistake(
            "not_over_rank",
            "the scale is alpha / r, not alpha",
            edit(lora_gradients, "alpha / len(A)", "alpha"),
        ),
        Mistake(
            "mean",
            "the gradients are divided by the number of rows: `upstream` is the loss's gradient "
            "already, whatever mean the loss takes is in it",
            edit(lora_gradients, "alpha / len(A)", "alpha / len(A) / len(x)"),
        ),
        Mistake(
            "swapped",
            "the gradient of A comes first, then that of B",
            edit(lora_gradients, "by_A, by_B", "by_B, by_A"),
        ),
        Mistake(
            "transposed",
            "a gradient has the shape of what it belongs to: these are transposed",
            edit(lora_gradients, "return by_A, by_B", "return by_A.T, by_B.T"),
        ),
        Mistake(
            "uphill",
            "these point downhill: a gradient points where the loss grows",
            edit(lora_gradients, "alpha / len(A)", "-alpha / len(A)"),
        ),
    ),
)

# --- the bill ---------------------------------------------------------------------------------


def bill_cases(generator: np.random.Generator) -> list[Case]:
    """Full fine-tuning, LoRA, QLoRA, nothing trained; the numbers are drawn."""
    head, adapters, base = (int(n) for n in generator.integers((5, 500, 9000), (50, 900, 99999)))
    cases = [
        ("full fine-tuning", [base, head], [True, True], 32),
        ("LoRA on float32", [base, adapters, head], [False, True, True], 32),
        ("LoRA on bfloat16", [base, adapters, head], [False, True, True], 16),
        ("LoRA on four bits", [2 * base, adapters, head], [False, True, True], 4),
        ("nothing is trained", [base], [False], 8),
    ]
    return [
        Case(name, {"counts": counts, "trained": trained, "bits": bits})
        for name, counts, trained, bits in cases
    ]


def step_bytes(counts: list[int], trained: list[bool], bits: int) -> float:
    """Return the bytes of weights, gradients and Adam's moments."""
    total = 0.0
    for count, is_trained in zip(counts, trained, strict=True):
        if is_trained:
            total += count * (4 + 4 + 2 * 4)
        else:
            total += count * bits / 8
    return total


BILL = Item(
    name="09.step_bytes",
    title="The bill",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=bill_cases,
    reference=step_bytes,
    diagnoses=(
        Mistake(
            "no_moments",
            "Adam's two moments are missing: the means of each weight's gradients and of their "
            "squares",
            edit(step_bytes, "2 * 4", "0"),
        ),
        Mistake(
            "four_too_few",
            "four bytes too few for each trained weight: it has itself, a gradient, two moments",
            edit(step_bytes, "4 + 4 + 2", "4 + 2"),
        ),
        Mistake(
            "frozen_is_free",
            "frozen weights cost nothing: they need no gradient, but they must be in memory",
            edit(step_bytes, "count * bits / 8", "0"),
        ),
        Mistake(
            "frozen_is_trained",
            "frozen weights are charged for gradients and moments: they have none",
            edit(step_bytes, "count * bits / 8", "count * (4 + 4 + 2 * 4)"),
        ),
        Mistake(
            "bits_for_all",
            "the trained weights are stored in few bits: only frozen ones can be, those that are "
            "trained take four bytes",
            edit(step_bytes, "(4 + 4 + 2 * 4)", "(bits / 8 + 4 + 2 * 4)"),
        ),
        Mistake(
            "bits_as_bytes",
            "bits are taken for bytes: eight bits are a byte",
            edit(step_bytes, "bits / 8", "bits"),
        ),
    ),
)

# --- directions -------------------------------------------------------------------------------


def direction_cases(generator: np.random.Generator) -> list[Case]:
    """Low rank with noise, noise alone, a tall matrix, everything wanted."""
    thin = generator.normal(0, 1, (12, 2)) @ generator.normal(0, 1, (2, 10))
    noisy = thin + 0.3 * generator.normal(0, 1, (12, 10))
    noise = generator.normal(0, 1, (9, 9))
    tall = generator.normal(0, 1, (30, 4)) * np.array([4.0, 2.0, 1.0, 0.5])
    exact = np.diag([3.0, 2.0, 2.0, 1.0])  # squares 9, 4, 4, 1 of 18: one keeps exactly half
    cases = [
        ("rank 2 and a little noise", noisy, 0.9),
        ("noise, a half", noise, 0.5),
        ("noise, nine tenths", noise, 0.9),
        ("a tall matrix", tall, 0.95),
        ("one direction keeps exactly half", exact, 0.5),
        ("next to nothing", noise, 0.01),
    ]
    return [Case(name, {"matrix": matrix, "share": share}) for name, matrix, share in cases]


def directions_needed(matrix: np.ndarray, share: float) -> int:
    """Return how many directions keep this share of the squared length."""
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    kept = squares.cumsum() / squares.sum()
    return int((kept < share - 1e-12).sum()) + 1


DIRECTIONS = Item(
    name="09.directions_needed",
    title="How many directions",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=direction_cases,
    reference=directions_needed,
    diagnoses=(
        Mistake(
            "not_squared",
            "the strengths themselves are added up: a matrix's squared length is the sum of their "
            "squares",
            edit(directions_needed, " ** 2", ""),
        ),
        Mistake(
            "index",
            "this is an index, counted from 0: how many directions are kept up to it?",
            edit(directions_needed, ".sum()) + 1", ".sum())"),
        ),
        Mistake(
            "one_more",
            "one direction more than needed",
            edit(directions_needed, ".sum()) + 1", ".sum()) + 2"),
        ),
        Mistake(
            "strictly_more",
            "a share that is kept exactly is enough: one direction more is asked for",
            edit(directions_needed, "share - 1e-12", "share + 1e-9"),
        ),
        Mistake(
            "weak_first",
            "the weakest directions are counted first: begin with the strongest",
            edit(directions_needed, "squares.cumsum()", "squares[::-1].cumsum()"),
        ),
        Mistake(
            "each_alone",
            "directions are counted that keep this share each by itself: add them up",
            edit(directions_needed, "squares.cumsum() / squares.sum()", "squares / squares[0]"),
        ),
    ),
)

# --- four bits --------------------------------------------------------------------------------

BLOCK = 32


def four_bit_cases(generator: np.random.Generator) -> list[Case]:
    """Ordinary weights, blocks of very different size, a block of equal numbers."""
    plain = generator.normal(0, 0.05, (4, BLOCK))
    sizes = generator.normal(0, 1, (3, BLOCK)) * np.array([[0.01], [1.0], [20.0]])
    shifted = generator.normal(3, 0.2, (2, BLOCK))
    constant = np.concatenate([np.full((1, BLOCK), 0.25), generator.normal(0, 1, (1, BLOCK))])
    return [
        Case("ordinary weights", {"weights": plain.ravel()}),
        Case("blocks of different size", {"weights": sizes.ravel()}),
        Case("far from zero", {"weights": shifted.ravel()}),
        Case("a block of equal numbers", {"weights": constant.ravel()}),
    ]


def four_bits(weights: np.ndarray) -> np.ndarray:
    """Return the weights as they come back from four bits."""
    blocks = weights.reshape(-1, BLOCK)
    low = blocks.min(axis=1, keepdims=True)
    step = (blocks.max(axis=1, keepdims=True) - low) / 15
    codes = np.round((blocks - low) / np.where(step == 0, 1, step)).clip(0, 15)
    return (codes * step + low).ravel()


FOUR_BITS = Item(
    name="09.four_bits",
    title="Weights in four bits",
    **Rating(difficulty=2, importance=4, minutes=20, points=3),
    cases=four_bit_cases,
    reference=four_bits,
    diagnoses=(
        Mistake(
            "sixteen_steps",
            "sixteen codes, 0 to 15, have fifteen steps between them: with 16 the largest weight "
            "does not come back",
            edit(four_bits, "/ 15", "/ 16"),
        ),
        Mistake(
            "floor",
            "codes are cut off, not rounded: the error is up to a whole step, and all weights "
            "come out too small",
            edit(four_bits, "np.round(", "np.floor("),
        ),
        Mistake(
            "one_block",
            "one scale for all weights: each block of 32 has its own, or one large weight "
            "spoils everything",
            edit(
                four_bits,
                *("blocks.min(axis=1, keepdims=True)", "blocks.min()"),
                *("blocks.max(axis=1, keepdims=True)", "blocks.max()"),
            ),
        ),
        Mistake(
            "from_zero",
            "the smallest weight of the block is not added again: code 0 stands for it",
            edit(four_bits, "codes * step + low", "codes * step"),
        ),
        Mistake(
            "nan",
            "right, except where all weights of a block are equal: the step is zero there, and "
            "zero by zero is nan",
            edit(four_bits, "np.where(step == 0, 1, step)", "step"),
        ),
        Mistake(
            "codes_only",
            "these are the codes: return what they stand for",
            edit(four_bits, "(codes * step + low)", "codes"),
        ),
        Mistake(
            "three_bits",
            "eight codes are three bits: four bits have sixteen",
            edit(four_bits, "/ 15", "/ 7", "clip(0, 15)", "clip(0, 7)"),
        ),
    ),
)

# --- bug hunt: somebody's LoRA ----------------------------------------------------------------


def hunt_cases(generator: np.random.Generator) -> list[Case]:
    """Small problems: rows of numbers, a frozen layer, a head."""
    cases = []
    for N, d_in, d_hidden, C, r, alpha, steps in (
        (12, 6, 5, 3, 2, 3.0, 15),
        (9, 5, 8, 2, 4, 6.0, 10),
        (15, 8, 4, 3, 3, 1.5, 20),
    ):
        x = generator.normal(0, 1, (N, d_in))
        labels = np.argmax(x @ generator.normal(0, 1, (d_in, C)), axis=1)
        inputs = {
            "features": Tensor(x.astype(np.float32)),
            "labels": Tensor(labels.astype(np.int64)),
            "W": Tensor(generator.normal(0, 0.5, (d_hidden, d_in)).astype(np.float32)),
            "A": Tensor(generator.normal(0, 0.5, (r, d_in)).astype(np.float32)),
            "head": Tensor(generator.normal(0, 0.5, (C, d_hidden)).astype(np.float32)),
            "alpha": alpha,
            "lr": 0.3,
            "steps": steps,
        }
        cases.append(Case(f"rank {r}, alpha {alpha:g}, {steps} steps", inputs))
    return cases


def train_lora(
    features: Any, labels: Any, W: Any, A: Any, head: Any, alpha: float, lr: float, steps: int
) -> tuple[Any, Any, Any, Any]:
    """Return A, B and head after training, and the merged matrix."""
    import torch
    from torch.nn.functional import cross_entropy

    scale = alpha / len(A)
    base = W.clone()
    A, head = A.clone().requires_grad_(), head.clone().requires_grad_()
    B = torch.zeros(len(W), len(A), requires_grad=True)
    trained = [A, B]
    trained.append(head)
    optimizer = torch.optim.SGD(trained, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        hidden = torch.tanh(features @ (base + scale * B @ A).T)
        cross_entropy(hidden @ head.T, labels).backward()
        optimizer.step()
    merged = base + scale * B @ A
    return A.detach(), B.detach(), head.detach(), merged.detach()


BUGS = {
    "thawed": (
        "the base is trained, too: it takes gradient and moments for every weight, and the small "
        "file (A, B, head) does not hold what it has become",
        *("base = W.clone()", "base = W.clone().requires_grad_()"),
        *("trained = [A, B]", "trained = [A, B, base]"),
    ),
    "headless": (
        "the head is never trained: it is not among what the optimiser gets. A new head is "
        "nobody's pretrained weights",
        *("    trained.append(head)\n", ""),
    ),
    "unscaled": (
        "the change is scaled by alpha, not by alpha / r: another rank would need another rate",
        *("alpha / len(A)", "alpha"),
    ),
}

HUNT = Item(
    name="09.train_lora",
    title="Bug hunt: somebody's LoRA",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=hunt_cases,
    reference=train_lora,
    rtol=1e-4,
    atol=1e-5,
    diagnoses=(
        *remaining(train_lora, BUGS),
        Mistake(
            "not_merged",
            "the merged matrix lacks the change: it is W + alpha / r times B A",
            edit(train_lora, "merged = base + scale * B @ A", "merged = base"),
        ),
        Mistake(
            "merged_twice",
            "the merged matrix has the change in it twice",
            edit(train_lora, "merged = base + scale", "merged = base + 2 * scale"),
        ),
    ),
)

ITEMS = (LORA, GRADIENTS, BILL, DIRECTIONS, FOUR_BITS, HUNT)
