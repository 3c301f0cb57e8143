"""Items of lesson 11: mixing, forgetting, a memory, pairs, an EWC that holds on to nothing."""

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating

# --- shares by temperature --------------------------------------------------------------------


def shares_cases(generator: np.random.Generator) -> list[Case]:
    """Sizes far apart and close together, from proportion to equality."""
    cases = []
    for temperature in (1.0, 1.5, 2.0, 5.0, float("inf")):
        sizes = generator.integers(5, 20_000, 4)
        inputs = {"sizes": sizes, "temperature": temperature}
        cases.append(Case(f"four tasks, temperature {temperature:g}", inputs))
    alone = {"sizes": generator.integers(5, 100, 1), "temperature": 3.0}
    return [*cases, Case("one task", alone)]


def mixing_shares(sizes: np.ndarray, temperature: float) -> np.ndarray:
    """Return the share of the training that each task gets."""
    scaled = sizes ** (1 / temperature)
    return scaled / scaled.sum()


SHARES = Item(
    name="11.mixing_shares",
    title="How much for each task?",
    **Rating(difficulty=1, importance=4, minutes=10, points=2),
    cases=shares_cases,
    reference=mixing_shares,
    withheld=("course_utils.tasks.mixing_shares",),
    diagnoses=(
        Mistake(
            "power",
            "the power is the temperature: it must be one over it. A high temperature makes sizes "
            "more equal, not less",
            edit(
                mixing_shares,
                *("sizes ** (1 / temperature)", "sizes**temperature"),
            ),
        ),
        Mistake(
            "softmax",
            "this is a softmax of sizes over temperature: it compares differences, and a task with "
            "a thousand rows more gets everything. Powers compare ratios",
            edit(
                mixing_shares,
                *("sizes ** (1 / temperature)", "np.exp((sizes - sizes.max()) / temperature)"),
            ),
        ),
        Mistake(
            "shares_divided",
            "the shares by size are divided by the temperature and normed: that changes nothing, "
            "whatever the temperature",
            edit(mixing_shares, "sizes ** (1 / temperature)", "sizes / sizes.sum()"),
        ),
        Mistake(
            "not_normed",
            "the shares do not add up to 1: divide by their sum",
            edit(mixing_shares, "scaled / scaled.sum()", "scaled"),
        ),
        Mistake(
            "by_largest",
            "the largest task has share 1: divide by the sum, not by the largest",
            edit(mixing_shares, "scaled.sum()", "scaled.max()"),
        ),
        Mistake(
            "turned_round",
            "small tasks get more than large ones",
            edit(mixing_shares, "1 / temperature", "-1 / temperature"),
        ),
    ),
)

# --- forgetting -------------------------------------------------------------------------------


def forgetting_cases(generator: np.random.Generator) -> list[Case]:
    """Two to five tasks; one that got better later, and one that is best at the end."""
    cases = []
    for K in (2, 3, 4, 5):
        scores = generator.uniform(0.2, 0.6, (K, K)) + 0.3 * np.eye(K)
        cases.append(Case(f"{K} tasks", {"scores": scores}))
    helped = generator.uniform(0.5, 0.6, (4, 4))
    helped[1, 0], helped[-1, 1] = 0.9, 0.95
    return [
        *cases,
        Case("the second task helped the first, the last helped it", {"scores": helped}),
    ]


def forgetting(scores: np.ndarray) -> float:
    """Return how far the earlier tasks fell from their best, on average."""
    best = scores[:-1, :-1].max(axis=0)
    return float((best - scores[-1, :-1]).mean())


FORGETTING = Item(
    name="11.forgetting",
    title="How much was forgotten?",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
    cases=forgetting_cases,
    reference=forgetting,
    withheld=("course_utils.continual.forgetting",),
    diagnoses=(
        Mistake(
            "from_own",
            "measured from right after the task itself: a later task may have helped it, and that "
            "is lost as well. Take the best score before the end",
            edit(forgetting, "scores[:-1, :-1].max(axis=0)", "np.diag(scores)[:-1]"),
        ),
        Mistake(
            "with_last",
            "the last task is counted too: it has had no time to be forgotten",
            edit(
                forgetting,
                "scores[:-1, :-1].max",
                "scores[:, :].max",
                "scores[-1, :-1]",
                "scores[-1]",
            ),
        ),
        Mistake(
            "never_better",
            "a task that ends better than it ever was counts as zero: it counts as a gain. Look "
            "for the best before the last row",
            edit(forgetting, "scores[:-1, :-1].max", "scores[:, :-1].max"),
        ),
        Mistake(
            "rows_for_columns",
            "rows and columns are exchanged: a row is *after* a task, a column *tested on* one",
            edit(forgetting, "scores[:-1, :-1].max(axis=0)", "scores[:-1, :-1].max(axis=1)"),
        ),
        Mistake(
            "summed", "the falls are added: take a mean", edit(forgetting, ".mean()", ".sum()")
        ),
        Mistake(
            "sign",
            "the sign: a score that fell is a positive forgetting",
            edit(forgetting, "best - scores[-1, :-1]", "scores[-1, :-1] - best"),
        ),
    ),
)

# --- a memory of fixed size -------------------------------------------------------------------


def reservoir_cases(generator: np.random.Generator) -> list[Case]:
    """Streams longer and shorter than the memory."""
    cases = []
    for rows, size in ((30, 5), (100, 12), (8, 3), (4, 6), (7, 7), (40, 1)):
        inputs = {"draws": generator.random(rows), "size": size}
        cases.append(Case(f"{rows} rows, a memory of {size}", inputs))
    return cases


def reservoir(draws: np.ndarray, size: int) -> list[int]:
    """Return which rows are in the memory at the end, place by place."""
    memory: list[int] = []
    for row, draw in enumerate(draws):
        if row < size:
            memory.append(row)
            continue
        place = int(draw * (row + 1))
        if place < size:
            memory[place] = row
    return memory


RESERVOIR = Item(
    name="11.reservoir",
    title="A memory of fixed size",
    **Rating(difficulty=2, importance=3, minutes=15, points=3),
    cases=reservoir_cases,
    reference=reservoir,
    diagnoses=(
        Mistake(
            "always_replaces",
            "every new row gets in: then old rows are pushed out, and the memory holds the end of "
            "the stream. Row r may only get in with probability size / (r + 1)",
            edit(reservoir, "int(draw * (row + 1))", "int(draw * size)"),
        ),
        Mistake(
            "seen_before",
            "the place is drawn among the rows seen before this one: count this one too",
            edit(reservoir, "(row + 1)", "row"),
        ),
        Mistake(
            "keeps_first",
            "the memory keeps the first rows for ever: later ones must have their chance",
            edit(reservoir, "memory[place] = row", "pass"),
        ),
        Mistake(
            "sliding",
            "this is a window over the last rows: the first task would be gone with the first new "
            "one. Replace at the place that was drawn",
            lambda draws, size: list(range(len(draws)))[-size:],
        ),
        Mistake(
            "one_place_more",
            "a place equal to size lies outside of the memory",
            edit(
                reservoir,
                "place < size",
                "place <= size",
                "memory[place]",
                "memory[min(place, size - 1)]",
            ),
        ),
    ),
)

# --- a loss on pairs --------------------------------------------------------------------------


def pairs_cases(generator: np.random.Generator) -> list[Case]:
    """Vectors of several lengths; one pair with a vector of zeros."""
    cases = []
    for B, D, size in ((4, 3, 1.0), (7, 5, 4.0), (3, 8, 0.05), (1, 4, 1.0)):
        first, second = generator.normal(0, size, (2, B, D))
        alike = (np.arange(B) % 2 == 0).astype(float)
        inputs = {"first": first, "second": second, "alike": alike}
        cases.append(Case(f"{B} pairs of {D} numbers of size {size}", inputs))
    zero = dict(cases[0].inputs) | {"second": cases[0].inputs["second"] * np.eye(4)[:, :1]}
    return [*cases, Case("vectors of zeros among them", zero)]


def pair_loss(first: np.ndarray, second: np.ndarray, alike: np.ndarray) -> float:
    """Return the mean squared error of cosine similarities."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = (first * second).sum(axis=1) / np.maximum(norms, 1e-8)
    return float(np.mean((cosine - alike) ** 2))


PAIRS = Item(
    name="11.pair_loss",
    title="A loss on pairs",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=pairs_cases,
    reference=pair_loss,
    withheld=("course_utils.contrastive.pair_loss", "torch.nn.functional.cosine_similarity"),
    diagnoses=(
        Mistake(
            "dot",
            "this is the dot product: it grows with the vectors. Divide by both norms",
            edit(pair_loss, " / np.maximum(norms, 1e-8)", ""),
        ),
        Mistake(
            "one_norm",
            "only the first vector's norm is divided by: the second has a length too",
            edit(pair_loss, " * np.linalg.norm(second, axis=1)", ""),
        ),
        Mistake(
            "squared_norms",
            "the norms are squared: the square root is missing",
            edit(pair_loss, "np.maximum(norms, 1e-8)", "np.maximum(norms**2, 1e-8)"),
        ),
        Mistake(
            "opposites",
            "pairs of two classes are pushed to cosine -1: the target is 0. Three classes cannot "
            "all be opposite to each other",
            edit(pair_loss, "cosine - alike", "cosine - (2 * alike - 1)"),
        ),
        Mistake("summed", "the loss is a mean, not a sum", edit(pair_loss, "np.mean", "np.sum")),
        Mistake(
            "whole_matrix",
            "the norm is taken over the whole batch: each vector has its own",
            edit(
                pair_loss,
                *("np.linalg.norm(first, axis=1)", "np.linalg.norm(first)"),
                *("np.linalg.norm(second, axis=1)", "np.linalg.norm(second)"),
            ),
        ),
        Mistake(
            "zero_norm",
            "right, except for a vector of zeros: zero divided by zero is nan, and one nan makes "
            "the whole mean nan",
            edit(pair_loss, "np.maximum(norms, 1e-8)", "norms"),
        ),
    ),
)

# --- bug hunt: an EWC that holds on to nothing ------------------------------------------------


def ewc_cases(generator: np.random.Generator) -> list[Case]:
    """Two tasks that pull in different directions."""
    cases = []
    for B, D, strength in ((20, 3, 5.0), (30, 5, 20.0), (16, 4, 2.0)):
        parts = {}
        for name in ("old", "new"):
            x = generator.normal(0, 1, (B, D)) * generator.uniform(0.5, 2, D)
            parts[f"{name}_x"] = x
            direction = generator.normal(0, 1, D)
            parts[f"{name}_y"] = (x @ direction + generator.normal(0, 1, B) > 0).astype(float)
        inputs = parts | {"lr": 0.1, "steps": 40, "strength": strength}
        cases.append(Case(f"{B} rows of {D} features, strength {strength:g}", inputs))
    return cases


def gradients(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return each row's gradient of the binary cross-entropy, shape (N, D)."""
    return (1 / (1 + np.exp(-x @ w)) - y)[:, None] * x


def ewc(
    old_x: np.ndarray,
    old_y: np.ndarray,
    new_x: np.ndarray,
    new_y: np.ndarray,
    lr: float,
    steps: int,
    strength: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights after both tasks, and the Fisher information of the old one."""
    w = np.zeros(old_x.shape[1])
    for _ in range(steps):
        w -= lr * gradients(w, old_x, old_y).mean(axis=0)
    rows = gradients(w, old_x, old_y)
    fisher = (rows**2).mean(axis=0)
    anchor = w.copy()
    for _ in range(steps):
        pull = strength * fisher * (w - anchor)
        w -= lr * (gradients(w, new_x, new_y).mean(axis=0) + pull)
    return w, fisher


BUGS = {
    "slip": (
        "the mean gradient is squared: near the optimum it is about zero, and so is everything "
        "that should be held. Square each row's gradient, then take the mean",
        *("(rows**2).mean(axis=0)", "rows.mean(axis=0) ** 2"),
    ),
    "alias": (
        "the anchor is not a copy: `w -= ...` changes it with w, so the distance is zero for ever. "
        "Use w.copy()",
        *("anchor = w.copy()", "anchor = w"),
    ),
    "wrong_rows": (
        "the Fisher information is measured on the new task: it is the old one that must be kept",
        *("rows = gradients(w, old_x, old_y)", "rows = gradients(w, new_x, new_y)"),
    ),
}

EWC = Item(
    name="11.ewc",
    title="Bug hunt: an EWC that holds on to nothing",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=ewc_cases,
    reference=ewc,
    withheld=("course_utils.continual.fisher_diagonal", "course_utils.continual.ewc_penalty"),
    diagnoses=(
        *remaining(ewc, BUGS),
        Mistake(
            "pushes",
            "the penalty pushes away from the anchor: its gradient is strength x fisher x "
            "(w - anchor), and it is added",
            edit(ewc, "strength * fisher * (w - anchor)", "strength * fisher * (anchor - w)"),
        ),
    ),
)

ITEMS = (SHARES, FORGETTING, RESERVOIR, PAIRS, EWC)
