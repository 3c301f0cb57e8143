"""Items of lesson 05: schedule, clipping, accumulation, the best weights; and a broken loop."""

import math
from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.calls import lesson_05 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
from course_utils.grading.wire import Tensor

# --- warm-up, then half a cosine --------------------------------------------------------------


def schedule_cases(generator: np.random.Generator) -> list[Case]:
    """Short and long runs, one of them without a warm-up."""
    longer = int(generator.integers(20, 60)), int(generator.integers(4, 12))
    lengths = {
        "ten steps, three of warm-up": (10, 3),
        "eight steps, no warm-up": (8, 0),
        "five steps, one of warm-up": (5, 1),
        "a longer run": longer,
    }
    return [Case(name, {"total": t, "climb": c}) for name, (t, c) in lengths.items()]


def warmup_then_cosine(step: int, total: int, climb: int) -> float:
    """Climb to 1, then fall to 0 and stay there."""
    if step < climb:
        return (step + 1) / climb
    done = min(1.0, (step - climb) / (total - climb))
    return 0.5 * (1 + math.cos(math.pi * done))


FROM_0 = ("(step + 1)", "step")
UNCLAMPED = ("min(1.0, ", "(")
FALL = "0.5 * (1 + math.cos(math.pi * done))"

SCHEDULE = Item(
    name="05.warmup_then_cosine",
    title="Warm up, then fall along a cosine",
    **Rating(difficulty=1, importance=4, minutes=10, points=2),
    cases=schedule_cases,
    reference=warmup_then_cosine,
    call=calls.rates,
    atol=1e-7,
    withheld=("transformers.optimization.get_cosine_schedule_with_warmup",),
    diagnoses=(
        Mistake(
            "idle_first_step",
            "the first step has rate 0 and does nothing: steps count from 0, so the climb is "
            "(step + 1) / climb",
            edit(warmup_then_cosine, *FROM_0),
        ),
        Mistake(
            "idle_first_step",
            "two things. The first step has rate 0 and does nothing: the climb is "
            "(step + 1) / climb. And without a warm-up this divides by zero",
            edit(warmup_then_cosine, *FROM_0, "step <", "step <="),
        ),
        Mistake(
            "idle_first_step_past_the_end",
            "two things. The first step has rate 0 and does nothing: the climb is "
            "(step + 1) / climb. And beyond `total` the factor climbs again: it stays at 0",
            edit(warmup_then_cosine, *FROM_0, *UNCLAMPED),
        ),
        Mistake(
            "overshoots",
            "the climb goes on for one step too many, above 1, and divides by zero without a "
            "warm-up: it ends before step = climb",
            edit(warmup_then_cosine, "step <", "step <="),
        ),
        Mistake(
            "no_warmup",
            "the warm-up is missing: the first steps have the full rate",
            edit(warmup_then_cosine, "(step + 1) / climb", "1.0"),
        ),
        Mistake(
            "never_falls",
            "after the warm-up the factor stays at 1",
            edit(warmup_then_cosine, FALL, "1.0"),
        ),
        Mistake(
            "straight",
            "this falls in a straight line, as the lesson's schedule does: here it is half a "
            "cosine",
            edit(warmup_then_cosine, FALL, "1 - done"),
        ),
        Mistake(
            "from_start",
            "the cosine starts at step 0, so the factor jumps where the warm-up ends: start it "
            "there, and let it last the remaining steps",
            edit(warmup_then_cosine, "(step - climb) / (total - climb)", "step / total"),
        ),
        Mistake(
            "whole_cosine",
            "a cosine runs from 1 to -1, and a negative rate climbs the loss: raise it by 1 and "
            "halve it",
            edit(warmup_then_cosine, "0.5 * (1 + ", "("),
        ),
        Mistake(
            "quarter",
            "a quarter of a cosine, from 1 to 0 in one bend: here it is half of one, raised by 1 "
            "and halved",
            edit(warmup_then_cosine, FALL, "math.cos(math.pi * done / 2)"),
        ),
        Mistake(
            "climbs_again",
            "a full turn of the cosine: at the end the factor is back at 1. Half a turn is π",
            edit(warmup_then_cosine, "math.pi", "2 * math.pi"),
        ),
        Mistake(
            "past_the_end",
            "right up to `total`, but beyond it the factor climbs again: it stays at 0",
            edit(warmup_then_cosine, *UNCLAMPED),
        ),
        Mistake(
            "divides_by_zero",
            "without a warm-up (climb = 0) this divides by zero: divide only where step < climb",
            edit(warmup_then_cosine, "    if step", "    step / climb\n    if step"),
        ),
    ),
)


# --- clipping ---------------------------------------------------------------------------------

Arrays = list[np.ndarray]


def clip_cases(generator: np.random.Generator) -> list[Case]:
    """Above the limit, below it, above it only together, and zero."""
    gradients: dict[str, tuple[tuple[int, int], int, float, float]] = {
        "a matrix and a vector, too large": ((3, 4), 4, 2.0, 1.0),
        "small ones": ((2, 3), 5, 0.1, 2.0),
        "only together too large": ((2, 2), 3, 0.5, 0.0),
        "all zero": ((2, 2), 3, 0.0, 1.0),
    }
    cases = []
    for name, (matrix, vector, size, max_norm) in gradients.items():
        both = [size * generator.normal(0, 1, matrix), size * generator.normal(0, 1, vector)]
        both += [size * generator.normal(0, 1, 1)]
        if max_norm == 0.0:  # more than the largest alone, less than all
            norms = [np.sqrt((g**2).sum()) for g in both]
            max_norm = float((max(norms) + math.hypot(*norms)) / 2)
        cases.append(Case(name, {"gradients": both, "max_norm": max_norm}))
    return cases


def norm_of_all(gradients: Arrays) -> float:
    """Return the root of the sum of all entries' squares."""
    return math.sqrt(sum(float((g**2).sum()) for g in gradients))


def clip_gradients(gradients: Arrays, max_norm: float) -> Arrays:
    """Multiply all by one factor, where their norm is above the limit."""
    total = norm_of_all(gradients)
    factor = max_norm / total if total > max_norm else 1.0
    return [g * factor for g in gradients]


WHERE_ABOVE = " if total > max_norm else 1.0"
NORM = "norm_of_all(gradients)"

CLIP = Item(
    name="05.clip_gradients",
    title="Clipping, all gradients together",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
    cases=clip_cases,
    reference=clip_gradients,
    rtol=1e-5,  # PyTorch adds 1e-6 to the norm
    withheld=("torch.nn.utils.clip_grad_norm_",),
    diagnoses=(
        Mistake(
            "each_alone",
            "each array is clipped by its own norm, which turns the direction: take one norm over "
            "all of them",
            lambda gradients, max_norm: [clip_gradients([g], max_norm)[0] for g in gradients],
        ),
        Mistake(
            "by_value",
            "every entry is cut at max_norm, which turns the direction: multiply all of them by "
            "one factor",
            edit(clip_gradients, "g * factor", "np.clip(g, -max_norm, max_norm)"),
        ),
        Mistake(
            "zero_division",
            "when all gradients are zero this divides by their norm, 0: compare the norm first, "
            "then divide",
            edit(clip_gradients, "max_norm / total" + WHERE_ABOVE, "min(1.0, max_norm / total)"),
        ),
        Mistake(
            "always",
            "small gradients are scaled up to max_norm: below it nothing changes",
            edit(clip_gradients, WHERE_ABOVE, "", NORM, f"max({NORM}, 1e-12)"),
            edit(clip_gradients, WHERE_ABOVE, ""),
        ),
        Mistake(
            "sum_of_norms",
            "the norms are added: add the squares of all entries, and take one root at the end",
            edit(clip_gradients, NORM, "sum(norm_of_all([g]) for g in gradients)"),
        ),
        Mistake(
            "no_root",
            "the sum of squares is used as the norm: take its root",
            edit(clip_gradients, NORM, f"{NORM} ** 2"),
        ),
        Mistake(
            "largest_entry",
            "the largest entry is used as the norm: it is the root of the sum of all squares",
            edit(clip_gradients, NORM, "max(np.abs(g).max() for g in gradients)"),
        ),
        Mistake(
            "to_one",
            "clipped to norm 1: the limit is max_norm",
            edit(clip_gradients, "max_norm / total", "1 / total"),
        ),
        Mistake("nothing", "nothing is clipped", lambda gradients, max_norm: gradients),
        Mistake(
            "changed_input",
            "right, but the gradients are changed in place: return new arrays",
            edit(clip_gradients, "g * factor", "np.multiply(g, factor, out=g)"),
        ),
    ),
)


# --- accumulation -----------------------------------------------------------------------------


def accumulation_cases(generator: np.random.Generator) -> list[Case]:
    """Batches of unequal size; groups that come out even, and groups that do not."""
    cases = []
    for name, count, accumulate in (
        ("seven batches, three to a step", 7, 3),
        ("four batches, two to a step", 4, 2),
        ("three batches, one to a step", 3, 1),
        ("two batches, five to a step", 2, 5),
    ):
        sizes = [*generator.integers(3, 9, count - 1).tolist(), 2]  # a last, smaller batch
        sizes[0] = 9  # never all equal
        gradients = list(generator.normal(0, 1, (count, 3)))
        cases.append(Case(name, {"gradients": gradients, "sizes": sizes, "accumulate": accumulate}))
    return cases


def accumulated_steps(gradients: Arrays, sizes: list[int], accumulate: int) -> Arrays:
    """Weight each batch of a step by its share of the step's examples."""
    steps: Arrays = []
    for first in range(0, len(gradients), accumulate):
        group = range(len(gradients))[first : first + accumulate]
        whole = sum(sizes[i] for i in group)
        total = np.zeros_like(gradients[0])
        for i in group:
            total = total + gradients[i] * (sizes[i] / whole)
        steps.append(total)
    return steps


LAST_DROPPED = ("(0, len(gradients)", "(0, len(gradients) - accumulate + 1")
DIVIDED_BY_K = ("sizes[i] / whole", "1 / accumulate")

ACCUMULATE = Item(
    name="05.accumulated_steps",
    title="Small batches, large steps",
    **Rating(difficulty=3, importance=4, minutes=15, points=3),
    cases=accumulation_cases,
    reference=accumulated_steps,
    diagnoses=(
        Mistake(
            "last_dropped",
            "the last, shorter group is dropped: its reviews would never be learned from",
            edit(accumulated_steps, *LAST_DROPPED),
        ),
        Mistake(
            "first_alone",
            "the first step comes after one batch (i % accumulate == 0 holds for i = 0): count "
            "from 1. And what is left at the end needs a step too",
            edit(
                accumulated_steps,
                *("[first : first + accumulate]", "[max(0, first - accumulate + 1) : first + 1]"),
            ),
        ),
        Mistake(
            "mean_of_means",
            "batches of different size count the same: weight each by its share of the group's "
            "examples",
            edit(accumulated_steps, "sizes[i] / whole", "1 / len(group)"),
        ),
        Mistake(
            "divided_by_k",
            "every batch is divided by `accumulate`: that is wrong where batches differ in size, "
            "and the last group is shorter. Weight each by its share of the group's examples",
            edit(accumulated_steps, *DIVIDED_BY_K),
        ),
        Mistake(
            "divided_by_k_last_dropped",
            "two things. Every batch is divided by `accumulate`, whatever its size: weight it by "
            "its share of the group's examples. And the last, shorter group is dropped",
            edit(accumulated_steps, *DIVIDED_BY_K, *LAST_DROPPED),
        ),
        Mistake(
            "sum",
            "the gradients are only added: a step over k batches is then k times too large",
            edit(accumulated_steps, "sizes[i] / whole", "1.0"),
        ),
        Mistake(
            "sum_of_examples",
            "each batch is weighted by its size, and the sum is never divided by the group's "
            "examples",
            edit(accumulated_steps, " / whole", ""),
        ),
        Mistake(
            "not_cleared",
            "the sum goes on into the next group: it starts from zero after every step",
            edit(accumulated_steps, "np.zeros", "steps[-1] if steps else np.zeros"),
        ),
        Mistake(
            "no_groups",
            "there is one step for each batch: `accumulate` batches share one",
            lambda gradients, sizes, accumulate: gradients,
        ),
    ),
)


# --- the best weights -------------------------------------------------------------------------


def best_cases(generator: np.random.Generator) -> list[Case]:
    """Put the lowest loss early, late, twice; and losses that are not numbers."""
    cases = []
    for name, order in {
        "down, then up again": (3, 1, 0, 2, 4),
        "down to the end": (4, 3, 2, 1, 0),
        "the lowest loss twice": (2, 0, 1, 0, 3),
        "a loss of nan in the middle": (3, 2, math.nan, 1, 2),
        "a loss of nan at the beginning": (math.nan, 2, 1, 3),
    }.items():
        values = np.sort(generator.uniform(0.3, 1.5, 5)).tolist()
        losses = [x if math.isnan(x) else values[int(x)] for x in order]
        weights = {"matrix": generator.normal(0, 1, (2, 3)), "bias": generator.normal(0, 1, 3)}
        moves = list(generator.normal(0, 1, (len(order), 3)))
        cases.append(Case(name, {"losses": losses, "weights": weights, "moves": moves}))
    return cases


class Best:
    """The lowest loss so far, and a copy of its weights."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.weights: Any = None

    def update(self, loss: float, weights: dict[str, np.ndarray]) -> bool:
        """Keep these weights if they are better, and say whether they are."""
        if not loss < self.loss:
            return False
        self.loss = loss
        self.weights = {name: array.copy() for name, array in weights.items()}
        return True


COPY = "{name: array.copy() for name, array in weights.items()}"

BEST = Item(
    name="05.Best",
    title="Keep the best weights",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=best_cases,
    reference=Best,
    call=calls.keep,
    diagnoses=(
        Mistake(
            "not_copied",
            "what is kept is the dictionary itself, and training goes on changing it: in the end "
            "the best weights are the last ones. Copy every array",
            edit(Best, COPY, "weights"),
        ),
        Mistake(
            "shallow",
            "the dictionary is copied, the arrays in it are not: training changes them in place. "
            "Copy every array",
            edit(Best, COPY, "dict(weights)"),
        ),
        Mistake(
            "last",
            "every new loss is taken for the best: these are the last weights",
            edit(Best, "not loss < self.loss", "False"),
        ),
        Mistake(
            "highest",
            "the highest loss is kept: a loss is better when it is lower",
            edit(Best, "loss <", "loss >", "math.inf", "-math.inf"),
        ),
        Mistake(
            "nothing_kept",
            "no loss is ever better than the one you start with: start from infinity",
            edit(Best, "math.inf", "0.0"),
        ),
        Mistake(
            "later_of_equals",
            "of two equal losses the later one is taken: the first is as good, and was cheaper",
            edit(Best, "loss <", "loss <="),
        ),
        Mistake(
            "nan_taken",
            "a loss of nan is taken for the best: no comparison with nan is ever true, so "
            "`not loss >= best` is not `loss < best`",
            edit(Best, "not loss <", "loss >="),
        ),
        Mistake(
            "nan_first",
            "a nan that comes first is never replaced, since no number is smaller than nan: "
            "start from infinity, not from the first loss",
            edit(Best, "math.inf", "None", "not loss", "self.loss is not None and not loss"),
        ),
        Mistake(
            "silent",
            "right, but `update` must also return whether these weights are the best so far",
            edit(Best, "return True", "return None", "return False", "return None"),
        ),
    ),
)


# --- bug hunt: a fine-tuning loop -------------------------------------------------------------


def fine_tune_cases(generator: np.random.Generator) -> list[Case]:
    """Make a tiny network; the last validation batch is smaller than the others."""
    cases = []
    for name, epochs, C in (
        ("one epoch", 1, 2),
        ("two epochs", 2, 2),
        ("four epochs, three classes", 4, 3),
    ):
        V, D = 4, 6
        direction = generator.normal(0, 1, (V, C))

        def batches(sizes: tuple[int, ...], direction: np.ndarray = direction) -> list[Any]:
            found = []
            for B in sizes:
                x = generator.normal(0, 1, (B, direction.shape[0])).astype(np.float32)
                noisy = x @ direction + generator.normal(0, 0.7, (B, direction.shape[1]))
                found.append([Tensor(x), Tensor(noisy.argmax(axis=1))])
            return found

        shapes = {"0.weight": (D, V), "0.bias": (D,), "3.weight": (C, D), "3.bias": (C,)}
        weights = {
            part: Tensor(generator.normal(0, 0.5, shape).astype(np.float32))
            for part, shape in shapes.items()
        }
        inputs = {"weights": weights, "train": batches((5, 5, 5)), "validation": batches((6, 6, 1))}
        cases.append(Case(name, inputs | {"lr": 0.05, "epochs": epochs}))
    return cases


def fine_tune(model: Any, train: Any, validation: Any, lr: float, epochs: int) -> list[float]:
    """Return the mean validation loss after each epoch."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for _ in range(epochs):
        model.train()
        for features, labels in train:
            optimizer.zero_grad()
            cross_entropy(model(features), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            each = [cross_entropy(model(x), y).item() for x, y in validation]
        sizes = [len(y) for _, y in validation]
        losses.append(float(np.average(each, weights=sizes)))
    return losses


FINE_TUNE = Item(
    name="05.fine_tune",
    title="Bug hunt: a loop that nearly works",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=fine_tune_cases,
    reference=fine_tune,
    call=calls.fine_tune,
    rtol=1e-4,
    atol=1e-5,
    withheld=("course_utils.training.fit",),
    diagnoses=remaining(
        fine_tune,
        {
            "piles_up": (
                "gradients pile up from batch to batch: clear them before each backward()",
                *("            optimizer.zero_grad()\n", ""),
            ),
            "noisy": (
                "dropout is on while the model is judged: model.eval() before validation, "
                "and model.train() again after it",
                *("        model.eval()\n", ""),
            ),
            "batch_means": (
                "the validation loss is a mean of batch means, in which the review in "
                "a batch of one counts six times: weight each batch by its number of examples",
                *("len(y)", "1"),
            ),
            "stays_quiet": (
                "dropout is off from the second epoch on: after model.eval() the next "
                "epoch must begin with model.train()",
                *("        model.train()\n", ""),
                *("    losses = []", "    losses = []\n    model.train()"),
            ),
            "once": (
                "gradients are cleared once in an epoch and pile up within it: clear them "
                "for every batch",
                *("            optimizer.zero_grad()\n", ""),
                *("        for features", "        optimizer.zero_grad()\n        for features"),
            ),
        },
        given=("piles_up", "noisy", "batch_means"),
        never=(("noisy", "stays_quiet"), ("piles_up", "once")),
    ),
)

ITEMS = (SCHEDULE, CLIP, ACCUMULATE, BEST, FINE_TUNE)
