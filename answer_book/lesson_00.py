"""Items of lesson 00: reading logits, padding, memory, a draw that can be repeated, a bad loop."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.calls import lesson_00 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating, Symptom
from course_utils.grading.rules import lesson_00 as rules
from course_utils.grading.wire import Tensor

# --- from logits to a class and a probability -------------------------------------------------


def predict_cases(generator: np.random.Generator) -> list[Case]:
    """Two and more classes, one text and several, and logits that overflow an exponential."""
    shapes = ((4, 2), (1, 2), (3, 3), (5, 4))
    logits = {f"{B} texts, {C} classes": generator.normal(0, 2, (B, C)) for B, C in shapes}
    large = generator.normal(0, 2, (3, 3)) + np.array([[900.0], [0.0], [-900.0]])
    logits["logits near +900, 0 and -900"] = large
    return [Case(name, {"logits": Tensor(z, "float64")}) for name, z in logits.items()]


def predict(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most probable class of each row, and its probability."""
    confidence, classes = logits.softmax(dim=1).max(dim=1)
    return classes, confidence


# Edits of it that are made together with others below.
PROBABILITIES = "logits.softmax(dim=1)"
OVER_BATCH = ("softmax(dim=1)", "softmax(dim=0)")
OF_COLUMN = (".max(dim=1)", ".max(dim=0)")
NO_SOFTMAX = (PROBABILITIES, "logits")
OVERFLOWS = (PROBABILITIES, "(logits.exp() / logits.exp().sum(dim=1, keepdim=True))")
ONE_SUM = (PROBABILITIES, "(logits.exp() / logits.exp().sum())")
CLASSES_APART = ("return classes,", "return logits.argmax(dim=1),")
RESULT = "return classes, confidence"

PREDICT = Item(
    name="00.predict",
    title="What a model says, and how sure it is",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=predict_cases,
    reference=predict,
    diagnoses=(
        Mistake(
            "logit",
            "the classes are right, but a logit is no probability: it may be negative or "
            "above 1. Exponentials first, divided by their sum",
            edit(predict, *NO_SOFTMAX),
        ),
        Mistake(
            "sigmoid",
            "a sigmoid looks at one logit alone: with several classes the probabilities of a "
            "text share one sum. That is softmax",
            edit(predict, *NO_SOFTMAX, RESULT, "return classes, confidence.sigmoid()"),
        ),
        Mistake(
            "wrong_axis",
            "taken over the batch: each text has its own probabilities, and its classes are dim 1",
            edit(predict, *OVER_BATCH),
            edit(predict, *OF_COLUMN),
            edit(predict, *OVER_BATCH, *OF_COLUMN),
        ),
        Mistake(
            "unstable",
            "right for small logits, nan for large ones: exp overflows. Subtract each row's "
            "maximum first, or let softmax do so",
            edit(predict, *OVERFLOWS),
            edit(predict, *OVERFLOWS, *CLASSES_APART),
        ),
        Mistake(
            "whole_batch",
            "the sum runs over the whole batch: the probabilities of each text alone add up to 1",
            edit(predict, PROBABILITIES, "logits.flatten().softmax(dim=0).reshape(logits.shape)"),
            edit(predict, *ONE_SUM),
            edit(predict, *ONE_SUM, *CLASSES_APART),
        ),
        Mistake(
            "exchanged",
            "right, in the wrong order: classes first, then how sure",
            edit(predict, RESULT, "return confidence, classes"),
        ),
        Symptom(
            "exchanged",
            "this is what max(dim=1) returns, the largest values first: take it apart, and return "
            "the classes first, then how sure",
            rules.is_pair,
            edit(predict, "confidence, classes = logits", "return logits"),
        ),
        Mistake(
            "whole_columns",
            "p[:, classes] names whole columns, shape (B, B): wanted is one number per row",
            edit(predict, RESULT, f"return classes, {PROBABILITIES}[:, classes]"),
        ),
        Mistake(
            "two_classes",
            "right for two classes only: with more of them, take the place of the largest",
            edit(predict, "return classes", f"return ({PROBABILITIES}[:, 1] > 0.5).long()"),
        ),
        Mistake(
            "class_one",
            "the probability is always that of class 1: it should be that of the class predicted",
            edit(predict, RESULT, f"return classes, {PROBABILITIES}[:, 1]"),
        ),
    ),
)


# --- the largest value over real tokens -------------------------------------------------------


def pool_cases(generator: np.random.Generator) -> list[Case]:
    """Return sentences whose padding positions hold larger numbers than their tokens."""
    cases = []
    for name, level, lengths in (
        ("three sentences", 0.0, (5, 2, 3)),
        ("one sentence, no padding", 0.0, (4,)),
        ("all values negative", -8.0, (1, 4)),
        ("values near -3000", -3000.0, (6, 1, 2)),
    ):
        T = max(lengths)
        hidden = generator.normal(level, 1, (len(lengths), T, 3))
        mask = (np.arange(T) < np.array(lengths)[:, None]).astype(np.int64)
        hidden[mask == 0] += 6.0
        numbers = Tensor(hidden.astype(np.float32))
        cases.append(Case(name, {"hidden": numbers, "attention_mask": Tensor(mask, "int64")}))
    return cases


def max_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Set padding to minus infinity, in a copy, then take the largest."""
    padding = attention_mask.unsqueeze(-1) == 0  # (B, T, 1)
    return hidden.masked_fill(padding, -torch.inf).max(dim=1).values


FILL = "masked_fill(padding, -torch.inf)"

POOL = Item(
    name="00.max_pool",
    title="The largest value, padding left out",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
    cases=pool_cases,
    reference=max_pool,
    diagnoses=(
        Mistake(
            "no_mask",
            "padding is counted: its vectors are computed like all others, and mean nothing. "
            "The mask says where it is",
            edit(max_pool, f".{FILL}", ""),
        ),
        Mistake(
            "zeros_win",
            "padding becomes 0, which is fine for a sum and not for a maximum: where all values "
            "are negative, 0 wins",
            edit(max_pool, "-torch.inf", "0.0"),
            edit(max_pool, FILL, "masked_fill_(padding, 0.0)"),
        ),
        Mistake(
            "not_low_enough",
            "padding is set to a number that is not low enough: real values may lie below it. "
            "Minus infinity is below all",
            edit(max_pool, "-torch.inf", "-100.0"),
            edit(max_pool, "-torch.inf", "-1000.0"),
        ),
        Mistake(
            "wrong_axis",
            "the largest of the D numbers of each token, shape (B, T): wanted is the largest "
            "over the tokens, dim 1",
            edit(max_pool, "max(dim=1)", "max(dim=2)"),
        ),
        Mistake(
            "inverted",
            "the mask is the wrong way round: 1 marks a real token",
            edit(max_pool, "== 0", "== 1"),
        ),
        Mistake(
            "mean",
            "this is the mean over the tokens: wanted is the largest",
            edit(
                max_pool,
                *("-torch.inf", "0.0"),
                *("max(dim=1).values", "sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)"),
            ),
        ),
        Mistake(
            "changed_input",
            "right, but `hidden` is changed in place, and whoever called you still needs it: "
            "masked_fill makes a copy",
            edit(max_pool, "masked_fill", "masked_fill_"),
        ),
        Symptom(
            "pair",
            "max(dim=1) returns two tensors, the values and their places: take .values",
            rules.is_pair,
            edit(max_pool, ".values", ""),
        ),
    ),
)


# --- what training holds in memory ------------------------------------------------------------


def memory_cases(generator: np.random.Generator) -> list[Case]:
    """All trained; some frozen; a layer used twice; numbers of two bytes."""
    cases = []
    for name, frozen, tied, half in (
        ("all weights trained", 0, False, False),
        ("the first layer frozen", 1, False, False),
        ("the last layer used twice", 0, True, False),
        ("half-precision numbers, frozen", 1, False, True),
        ("half-precision numbers, trained", 0, False, True),
    ):
        first, middle, last = (int(n) for n in generator.integers(3, 12, 3))
        sizes = [first, middle, last, last]  # square at the end: it can follow itself
        cases.append(Case(name, {"sizes": sizes, "frozen": frozen, "tied": tied, "half": half}))
    return cases


def training_bytes(model: nn.Module) -> int:
    """Count four numbers for each trained weight, one for each frozen one."""
    total = 0
    for p in model.parameters():
        total += (4 if p.requires_grad else 1) * p.numel() * p.element_size()
    return total


FOUR_BYTES = ("p.element_size()", "4")

MEMORY = Item(
    name="00.training_bytes",
    title="What full fine-tuning holds in memory",
    **Rating(difficulty=2, importance=4, minutes=15, points=2),
    cases=memory_cases,
    reference=training_bytes,
    call=calls.on_model,
    diagnoses=(
        Mistake(
            "frozen_counted_full",
            "frozen weights are counted four times: they have no gradient and no averages, so "
            "they are held once",
            edit(training_bytes, "else 1", "else 4"),
        ),
        Mistake(
            "frozen_left_out",
            "frozen weights are left out: they are not trained, yet they are held, once",
            edit(training_bytes, "else 1", "else 0"),
        ),
        Mistake(
            "frozen_left_out",
            "frozen weights are left out, though they are held, once; and not every number has 4 "
            "bytes: p.element_size()",
            edit(training_bytes, "else 1", "else 0", *FOUR_BYTES),
        ),
        Mistake(
            "frozen_counted_full",
            "frozen weights are counted four times, though they are only held once; and not every "
            "number has 4 bytes: p.element_size()",
            edit(training_bytes, "else 1", "else 4", *FOUR_BYTES),
        ),
        Mistake(
            "too_few_copies",
            "too few numbers for each trained weight: itself, its gradient, and AdamW's two "
            "running averages make four",
            edit(training_bytes, "4 if", "3 if"),
            edit(training_bytes, "4 if", "2 if"),
        ),
        Mistake(
            "weights_alone",
            "these are the weights alone: training also holds a gradient and two averages for "
            "each trained one",
            edit(training_bytes, "4 if", "1 if"),
        ),
        Mistake(
            "no_biases",
            "the biases are missing: model.parameters() yields weights and biases",
            edit(training_bytes, "total +=", "total += (p.ndim == 2) *"),
        ),
        Mistake(
            "always_four_bytes",
            "right for 4-byte numbers only: p.element_size() says how many bytes each one has",
            edit(training_bytes, *FOUR_BYTES),
        ),
        Mistake(
            "numbers",
            "these are numbers, and bytes are asked for: times p.element_size()",
            edit(training_bytes, " * p.element_size()", ""),
        ),
        Mistake(
            "arrays",
            "the arrays are counted, not the numbers in them: p.numel()",
            edit(training_bytes, " * p.numel()", ""),
        ),
        Mistake(
            "twice",
            "a layer that is used twice is counted twice: it is held once, and "
            "model.parameters() yields it once",
            edit(
                training_bytes,
                "model.parameters()",
                "(p for layer in model for p in layer.parameters())",
            ),
        ),
        Mistake(
            "millions",
            "in millions: bytes are asked for",
            edit(training_bytes, "return total", "return total / 1e6"),
        ),
    ),
)


# --- a draw that can be repeated --------------------------------------------------------------


def with_seeds(name: str, inputs: dict[str, Any]) -> list[Case]:
    """Return a case for each of several seeds, and two of them again from another global state."""
    return [
        Case(
            f"{name}, seed {seed}{' again' * (state > 1)}", {**inputs, "seed": seed, "state": state}
        )
        for seed, state in [*((seed, 1) for seed in range(5)), (0, 2), (1, 2)]
    ]


def draw_cases(generator: np.random.Generator) -> list[Case]:
    """Two and three classes, as many of one as of the other or not; seeds, and some again."""
    cases = []
    for counts, per_class in (((30, 30), 5), ((60, 14), 4), ((20, 25, 30), 3)):
        labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
        name = f"{' + '.join(map(str, counts))} labels, {per_class} of each class"
        cases += with_seeds(name, {"labels": Tensor(labels, "int64"), "per_class": per_class})
    return cases


def draw(labels: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    """Shuffle the rows of each class with a generator of its own, and take the first ones."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for c in labels.unique():
        rows = (labels == c).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=generator)
        drawn.append(rows[order[:per_class]])
    return torch.cat(drawn)


FROM_ALL = "torch.randperm(len(labels), generator=generator)[: per_class * len(drawn)]"

DRAW = Item(
    name="00.draw",
    title="A random draw that can be repeated",
    **Rating(difficulty=3, importance=5, minutes=15, points=3),
    cases=draw_cases,
    reference=draw,
    call=calls.draw,
    agree=rules.good_draw,
    together=rules.repeats_and_varies,
    apart=True,
    diagnoses=(
        Symptom(
            "not_rows",
            "row numbers are wanted, from 0 to N - 1",
            rules.not_rows,
            edit(draw, "return torch.cat(drawn)", "return torch.cat(drawn) + len(labels)"),
        ),
        Symptom(
            "not_repeatable",
            "the same seed gives other rows the second time: the rows come from the global "
            "generator, which everybody moves. Make one of your own from the seed",
            rules.never_repeats,
            edit(draw, "generator=generator", "generator=None"),
        ),
        Symptom(
            "disturbs",
            "a global random generator was moved, or seeded: all random numbers after your call "
            "are other ones now. Make a generator of your own",
            rules.disturbs,
            edit(draw, "torch.Generator().manual_seed", "torch.manual_seed"),
        ),
        Symptom(
            "seed_ignored",
            "every seed gives the same rows: the seed must reach a generator, and the generator "
            "the shuffle",
            rules.ignores_seed,
            edit(draw, "manual_seed(seed)", "manual_seed(0)"),
            edit(draw, "rows[order[:per_class]]", "rows[:per_class]"),
        ),
        Symptom(
            "wrong_number",
            "another number of rows is wanted: per_class of *each* class",
            rules.of_wrong_size,
            edit(draw, "torch.cat(drawn)", f"{FROM_ALL}[:per_class]"),
        ),
        Symptom(
            "places",
            "these are places within a class, not rows of `labels`: the shuffled places still "
            "have to pick from the rows of their class",
            rules.are_places,
            edit(draw, "rows[order[:per_class]]", "order[:per_class]"),
        ),
        Symptom(
            "repeats",
            "a row is drawn more than once: shuffle and take the first ones (randperm), rather "
            "than throwing a die for each (randint)",
            rules.has_repeats,
            edit(draw, "torch.randperm(len(rows)", "torch.randint(len(rows), (per_class,)"),
        ),
        Symptom(
            "unbalanced",
            "the classes come in other numbers: draw from each class separately",
            rules.is_unbalanced,
            edit(draw, "torch.cat(drawn)", FROM_ALL),
        ),
    ),
)


# --- bug hunt: a prediction loop --------------------------------------------------------------


def logits_cases(generator: np.random.Generator) -> list[Case]:
    """Rows of very different lengths, in no order, the longest first."""
    cases = []
    for lengths, batch_size in (((9, 2, 5, 3, 7), 2), ((6, 1, 4), 8), ((8, 3, 5, 2, 6, 4, 1), 3)):
        rows = [generator.integers(1, 40, n).tolist() for n in lengths]
        seed = int(generator.integers(1000))
        name = f"{len(rows)} rows in batches of {batch_size}"
        cases.append(Case(name, {"rows": rows, "batch_size": batch_size, "seed": seed}))
    return cases


@torch.no_grad()
def logits_of(model: nn.Module, rows: list[list[int]], batch_size: int) -> torch.Tensor:
    """Ask for rows of similar length together, and return the results in the rows' own order."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = []
    for start in range(0, len(rows), batch_size):
        batch = [rows[i] for i in order[start : start + batch_size]]
        longest = max(len(row) for row in batch)
        input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        mask = (input_ids != 0).long()
        found.append(model(input_ids, mask).logits)
    return torch.cat(found)[torch.tensor(order).argsort()]


LEFT = remaining(
    logits_of,
    {
        "training": (
            "the model is asked while in training mode, where dropout switches off parts of it at "
            "random: model.eval() first",
            *("    model.eval()\n", ""),
        ),
        "unmasked": (
            "the attention mask says that padding is real: a 0 belongs wherever a row was filled "
            "up",
            *("(input_ids != 0).long()", "torch.ones_like(input_ids)"),
        ),
        "unordered": (
            "the rows were sorted by length, and the results are handed back in that order: they "
            "belong to other rows now",
            *("[torch.tensor(order).argsort()]", ""),
        ),
    },
)

HUNT = Item(
    name="00.logits_of",
    title="Bug hunt: another answer every time",
    **Rating(difficulty=3, importance=5, minutes=20, points=3),
    cases=logits_cases,
    reference=logits_of,
    call=calls.spied,
    agree=rules.same_logits,
    diagnoses=(
        Symptom(
            "wrong_shape",
            "one row of logits is wanted for each row, shape (N, C): join the batches with "
            "torch.cat, and lose none",
            rules.of_wrong_shape,
            edit(logits_of, "torch.cat(found)", "torch.cat(found)[:, None]"),
        ),
        # equal numbers would not do: a repaired loop may draw other ones
        *(Symptom(d.name, d.message, partial(rules.leaves, d.name), *d.wrong) for d in LEFT),
    ),
)

ITEMS = (PREDICT, POOL, MEMORY, DRAW, HUNT)
