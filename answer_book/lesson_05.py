"""Items of lesson 05: schedule, clipping, accumulation, the best weights; and a broken loop."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from course_utils.grading.calls import lesson_05 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake
from course_utils.grading.wire import Tensor

# --- warm-up, then half a cosine --------------------------------------------------------------


def schedule_cases(generator: np.random.Generator) -> list[Case]:
    """Short and long runs, one of them without a warm-up."""
    lengths = {"ten steps, three of warm-up": (10, 3), "eight steps, no warm-up": (8, 0)}
    lengths["five steps, one of warm-up"] = (5, 1)
    lengths["a longer run"] = (int(generator.integers(20, 60)), int(generator.integers(4, 12)))
    return [Case(name, {"total": t, "warmup": w}) for name, (t, w) in lengths.items()]


def _schedule(
    climb: Callable[[int, int], float] = lambda step, warmup: (step + 1) / warmup,
    fall: Callable[[float], float] = lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    clamped: bool = True,
    from_start: bool = False,
    guarded: bool = True,
) -> Callable[[int, int, int], float]:
    """Return the schedule, right unless told otherwise; `fall` gets the share that is done."""

    def schedule(step: int, total: int, warmup: int) -> float:
        if not guarded:
            step / warmup
        if step < warmup:
            return climb(step, warmup)
        done = step / total if from_start else (step - warmup) / (total - warmup)
        return fall(min(1.0, done) if clamped else done)

    return schedule


def climbs_too_long(first: int) -> Callable[[int, int, int], float]:
    """Return the schedule with ``step <= warmup`` for ``step < warmup``."""

    def schedule(step: int, total: int, warmup: int) -> float:
        return (step + first) / warmup if step <= warmup else _schedule()(step, total, warmup)

    return schedule


SCHEDULE = Item(
    name="05.warmup_then_cosine",
    title="Warm up, then fall along a cosine",
    difficulty=1,
    importance=4,
    minutes=10,
    points=2,
    cases=schedule_cases,
    reference=_schedule(),
    call=calls.rates,
    atol=1e-7,
    withheld=("transformers.optimization.get_cosine_schedule_with_warmup",),
    diagnoses=(
        Mistake(
            "idle_first_step",
            "the first step has rate 0 and does nothing: steps count from 0, so the climb is "
            "(step + 1) / warmup",
            _schedule(climb=lambda step, warmup: step / warmup),
        ),
        Mistake(
            "idle_first_step",
            "two things. The first step has rate 0 and does nothing: the climb is "
            "(step + 1) / warmup. And without a warm-up this divides by zero",
            climbs_too_long(0),
        ),
        Mistake(
            "idle_first_step_past_the_end",
            "two things. The first step has rate 0 and does nothing: the climb is "
            "(step + 1) / warmup. And beyond `total` the factor climbs again: it stays at 0",
            _schedule(climb=lambda step, warmup: step / warmup, clamped=False),
        ),
        Mistake(
            "overshoots",
            "the climb goes on for one step too many, above 1, and divides by zero without a "
            "warm-up: it ends before step = warmup",
            climbs_too_long(1),
        ),
        Mistake(
            "no_warmup",
            "the warm-up is missing: the first steps have the full rate",
            _schedule(climb=lambda step, warmup: 1.0),
        ),
        Mistake(
            "never_falls",
            "after the warm-up the factor stays at 1",
            _schedule(fall=lambda done: 1.0),
        ),
        Mistake(
            "straight",
            "this falls in a straight line, as the lesson's schedule does: here it is half a "
            "cosine",
            _schedule(fall=lambda done: 1 - done),
        ),
        Mistake(
            "from_start",
            "the cosine starts at step 0, so the factor jumps where the warm-up ends: start it "
            "there, and let it last the remaining steps",
            _schedule(from_start=True),
        ),
        Mistake(
            "whole_cosine",
            "a cosine runs from 1 to -1, and a negative rate climbs the loss: raise it by 1 and "
            "halve it",
            _schedule(fall=lambda done: math.cos(math.pi * done)),
        ),
        Mistake(
            "quarter",
            "a quarter of a cosine, from 1 to 0 in one bend: here it is half of one, raised by 1 "
            "and halved",
            _schedule(fall=lambda done: math.cos(math.pi * done / 2)),
        ),
        Mistake(
            "climbs_again",
            "a full turn of the cosine: at the end the factor is back at 1. Half a turn is π",
            _schedule(fall=lambda done: 0.5 * (1 + math.cos(2 * math.pi * done))),
        ),
        Mistake(
            "past_the_end",
            "right up to `total`, but beyond it the factor climbs again: it stays at 0",
            _schedule(clamped=False),
        ),
        Mistake(
            "divides_by_zero",
            "without a warm-up (warmup = 0) this divides by zero: divide only where step < warmup",
            _schedule(guarded=False),
        ),
    ),
)


# --- clipping ---------------------------------------------------------------------------------


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


def norm_of_all(gradients: list[np.ndarray]) -> float:
    """Return the root of the sum of all entries' squares."""
    return math.sqrt(sum(float((g**2).sum()) for g in gradients))


def _clip(
    norm: Callable[[list[np.ndarray]], float] = norm_of_all,
    always: bool = False,
) -> Callable[[list[np.ndarray], float], list[np.ndarray]]:
    """Return clipping, right unless told otherwise; `norm` is that of all gradients."""

    def clip(gradients: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
        total = norm(gradients)
        factor = max_norm / total if always or total > max_norm else 1.0
        return [g * factor for g in gradients]

    return clip


def clip_each(gradients: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    return [_clip()([g], max_norm)[0] for g in gradients]


def clip_by_value(gradients: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    return [np.clip(g, -max_norm, max_norm) for g in gradients]


def clip_zero_division(gradients: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    total = norm_of_all(gradients)
    return [g * min(1.0, max_norm / total) for g in gradients]


def clip_in_place(gradients: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    for g, right in zip(gradients, _clip()(gradients, max_norm), strict=True):
        g[...] = right
    return gradients


def clip_to_unit(gradients: list[np.ndarray], max_norm: float) -> list[np.ndarray]:
    total = norm_of_all(gradients)
    return [g / total if total > max_norm else g for g in gradients]


CLIP = Item(
    name="05.clip_gradients",
    title="Clipping, all gradients together",
    difficulty=2,
    importance=4,
    minutes=10,
    points=2,
    cases=clip_cases,
    reference=_clip(),
    rtol=1e-5,  # PyTorch adds 1e-6 to the norm
    withheld=("torch.nn.utils.clip_grad_norm_",),
    diagnoses=(
        Mistake(
            "each_alone",
            "each array is clipped by its own norm, which turns the direction: take one norm over "
            "all of them",
            clip_each,
        ),
        Mistake(
            "by_value",
            "every entry is cut at max_norm, which turns the direction: multiply all of them by "
            "one factor",
            clip_by_value,
        ),
        Mistake(
            "zero_division",
            "when all gradients are zero this divides by their norm, 0: compare the norm first, "
            "then divide",
            clip_zero_division,
        ),
        Mistake(
            "always",
            "small gradients are scaled up to max_norm: below it nothing changes",
            _clip(lambda g: max(norm_of_all(g), 1e-12), always=True),
        ),
        Mistake(
            "always",
            "small gradients are scaled up to max_norm: below it nothing changes",
            _clip(always=True),
        ),
        Mistake(
            "sum_of_norms",
            "the norms are added: add the squares of all entries, and take one root at the end",
            _clip(lambda g: sum(norm_of_all([x]) for x in g)),
        ),
        Mistake(
            "no_root",
            "the sum of squares is used as the norm: take its root",
            _clip(lambda g: norm_of_all(g) ** 2),
        ),
        Mistake(
            "largest_entry",
            "the largest entry is used as the norm: it is the root of the sum of all squares",
            _clip(lambda g: float(max(np.abs(x).max() for x in g))),
        ),
        Mistake(
            "to_one",
            "clipped to norm 1: the limit is max_norm",
            clip_to_unit,
        ),
        Mistake("nothing", "nothing is clipped", lambda gradients, max_norm: gradients),
        Mistake(
            "changed_input",
            "right, but the gradients are changed in place: return new arrays",
            clip_in_place,
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


Groups = list[list[int]]


def consecutive(count: int, size: int) -> Groups:
    """Return the numbers from 0 to count - 1 in groups of `size`; the last may be shorter."""
    return [list(range(i, min(i + size, count))) for i in range(0, count, size)]


def _accumulate(
    groups: Callable[[int, int], Groups] = consecutive,
    share: Callable[[int, int, int, int], float] = lambda size, whole, number, k: size / whole,
    cleared: bool = True,
) -> Callable[[list[np.ndarray], list[int], int], list[np.ndarray]]:
    """Return accumulation, right unless told otherwise.

    `share` is the weight of a batch: its size, that of its group, the batches in it, and k.
    """

    def accumulated(
        gradients: list[np.ndarray], sizes: list[int], accumulate: int
    ) -> list[np.ndarray]:
        steps, total = [], np.zeros_like(gradients[0])
        for group in groups(len(gradients), accumulate):
            whole = sum(sizes[i] for i in group)
            if cleared:
                total = np.zeros_like(gradients[0])
            for i in group:
                total = total + gradients[i] * share(sizes[i], whole, len(group), accumulate)
            steps.append(total)
        return steps

    return accumulated


def first_alone(count: int, size: int) -> Groups:
    """Step whenever i % size == 0: the first group is batch 0 alone, a rest is lost."""
    ends = list(range(0, count, size))
    return [list(range(a + 1, b + 1)) for a, b in zip([-1, *ends], ends, strict=False)]


ACCUMULATE = Item(
    name="05.accumulated_steps",
    title="Small batches, large steps",
    difficulty=3,
    importance=4,
    minutes=15,
    points=3,
    cases=accumulation_cases,
    reference=_accumulate(),
    diagnoses=(
        Mistake(
            "last_dropped",
            "the last, shorter group is dropped: its reviews would never be learned from",
            _accumulate(
                lambda count, size: [g for g in consecutive(count, size) if len(g) == size]
            ),
        ),
        Mistake(
            "first_alone",
            "the first step comes after one batch (i % accumulate == 0 holds for i = 0): count "
            "from 1. And what is left at the end needs a step too",
            _accumulate(first_alone),
        ),
        Mistake(
            "mean_of_means",
            "batches of different size count the same: weight each by its share of the group's "
            "examples",
            _accumulate(share=lambda size, whole, number, k: 1 / number),
        ),
        Mistake(
            "divided_by_k",
            "every batch is divided by `accumulate`: that is wrong where batches differ in size, "
            "and the last group is shorter. Weight each by its share of the group's examples",
            _accumulate(share=lambda size, whole, number, k: 1 / k),
        ),
        Mistake(
            "divided_by_k_last_dropped",
            "two things. Every batch is divided by `accumulate`, whatever its size: weight it by "
            "its share of the group's examples. And the last, shorter group is dropped",
            _accumulate(
                lambda count, size: [g for g in consecutive(count, size) if len(g) == size],
                share=lambda size, whole, number, k: 1 / k,
            ),
        ),
        Mistake(
            "sum",
            "the gradients are only added: a step over k batches is then k times too large",
            _accumulate(share=lambda size, whole, number, k: 1.0),
        ),
        Mistake(
            "sum_of_examples",
            "each batch is weighted by its size, and the sum is never divided by the group's "
            "examples",
            _accumulate(share=lambda size, whole, number, k: size),
        ),
        Mistake(
            "not_cleared",
            "the sum goes on into the next group: it starts from zero after every step",
            _accumulate(cleared=False),
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


def _best(
    better: Callable[[float, float], bool] = lambda loss, best: loss < best,
    copied: str = "deep",
    start: float | None = math.inf,
) -> type:
    """Return the class, right unless told otherwise."""

    class Best:
        def __init__(self) -> None:
            self.loss: Any = start
            self.weights: Any = None

        def update(self, loss: float, weights: dict[str, np.ndarray]) -> bool:
            if not (self.loss is None or better(loss, self.loss)):
                return False
            self.loss, self.weights = loss, weights
            if copied == "shallow":
                self.weights = dict(weights)
            elif copied == "deep":
                self.weights = {name: array.copy() for name, array in weights.items()}
            return True

    return Best


class BestSilent:
    def __init__(self) -> None:
        self.kept = _best()()

    def update(self, loss: float, weights: dict[str, np.ndarray]) -> None:
        self.kept.update(loss, weights)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kept, name)


BEST = Item(
    name="05.Best",
    title="Keep the best weights",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=best_cases,
    reference=_best(),
    call=calls.keep,
    diagnoses=(
        Mistake(
            "not_copied",
            "what is kept is the dictionary itself, and training goes on changing it: in the end "
            "the best weights are the last ones. Copy every array",
            _best(copied=""),
        ),
        Mistake(
            "shallow",
            "the dictionary is copied, the arrays in it are not: training changes them in place. "
            "Copy every array",
            _best(copied="shallow"),
        ),
        Mistake(
            "last",
            "every new loss is taken for the best: these are the last weights",
            _best(lambda loss, best: True),
        ),
        Mistake(
            "highest",
            "the highest loss is kept: a loss is better when it is lower",
            _best(lambda loss, best: loss > best, start=-math.inf),
        ),
        Mistake(
            "nothing_kept",
            "no loss is ever better than the one you start with: start from infinity",
            _best(start=0.0),
        ),
        Mistake(
            "later_of_equals",
            "of two equal losses the later one is taken: the first is as good, and was cheaper",
            _best(lambda loss, best: loss <= best),
        ),
        Mistake(
            "nan_taken",
            "a loss of nan is taken for the best: no comparison with nan is ever true, so "
            "`not loss >= best` is not `loss < best`",
            _best(lambda loss, best: not loss >= best),
        ),
        Mistake(
            "nan_first",
            "a nan that comes first is never replaced, since no number is smaller than nan: "
            "start from infinity, not from the first loss",
            _best(start=None),
        ),
        Mistake(
            "silent",
            "right, but `update` must also return whether these weights are the best so far",
            BestSilent,
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


def _fine_tune(
    piles_up: bool = False,
    noisy: bool = False,
    batch_means: bool = False,
    stays_quiet: bool = False,
    once: bool = False,
) -> Any:
    """Return the loop with some of its three bugs, and two that a repair may add."""
    if (noisy and stays_quiet) or (piles_up and once):
        return None

    def fine_tune(model: Any, train: Any, validation: Any, lr: float, epochs: int) -> list[float]:
        import torch
        from torch.nn.functional import cross_entropy

        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        losses = []
        model.train()
        for _ in range(epochs):
            if not stays_quiet:
                model.train()
            if once:
                optimizer.zero_grad()
            for features, labels in train:
                if not piles_up and not once:
                    optimizer.zero_grad()
                loss = cross_entropy(model(features), labels)
                loss.backward()
                optimizer.step()
            if not noisy:
                model.eval()
            with torch.no_grad():
                each = [cross_entropy(model(x), y).item() for x, y in validation]
            sizes = [1 if batch_means else len(y) for _, y in validation]
            losses.append(sum(a * n for a, n in zip(each, sizes, strict=True)) / sum(sizes))
        return losses

    return fine_tune


FINE_TUNE = Item(
    name="05.fine_tune",
    title="Bug hunt: a loop that nearly works",
    difficulty=3,
    importance=5,
    minutes=20,
    points=4,
    cases=fine_tune_cases,
    reference=_fine_tune(),
    call=calls.fine_tune,
    rtol=1e-4,
    atol=1e-5,
    withheld=("course_utils.training.fit",),
    diagnoses=flagged(
        _fine_tune,
        {
            "piles_up": "gradients pile up from batch to batch: clear them before each backward()",
            "noisy": "dropout is on while the model is judged: model.eval() before validation, "
            "and model.train() again after it",
            "batch_means": "the validation loss is a mean of batch means, in which the review in "
            "a batch of one counts six times: weight each batch by its number of examples",
            "stays_quiet": "dropout is off from the second epoch on: after model.eval() the next "
            "epoch must begin with model.train()",
            "once": "gradients are cleared once in an epoch and pile up within it: clear them "
            "for every batch",
        },
        given=("piles_up", "noisy", "batch_means"),
    ),
)

ITEMS = (SCHEDULE, CLIP, ACCUMULATE, BEST, FINE_TUNE)
