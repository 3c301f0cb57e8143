"""Items of lesson 00: reading logits, padding, memory, a draw that can be repeated, a bad loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from answer_book.bugs import flagged
from course_utils.grading.calls import lesson_00 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Symptom
from course_utils.grading.rules import lesson_00 as rules
from course_utils.grading.wire import Tensor

# --- from logits to a class and a probability -------------------------------------------------


def predict_cases(generator: np.random.Generator) -> list[Case]:
    """Two and more classes, one text and several, and logits that overflow an exponential."""
    ordinary = [
        (f"{B} texts, {C} classes", generator.normal(0, 2, (B, C)))
        for B, C in ((4, 2), (1, 2), (3, 3), (5, 4))
    ]
    large = generator.normal(0, 2, (3, 3)) + np.array([[900.0], [0.0], [-900.0]])
    return [
        Case(name, {"logits": Tensor(logits, "float64")})
        for name, logits in [*ordinary, ("logits near +900, 0 and -900", large)]
    ]


Prediction = tuple[torch.Tensor, torch.Tensor]


def predict(logits: torch.Tensor) -> Prediction:
    """Return the most probable class of each row, and its probability."""
    confidence, classes = logits.softmax(dim=1).max(dim=1)
    return classes, confidence


def predict_logit(logits: torch.Tensor) -> Prediction:
    return logits.argmax(dim=1), logits.max(dim=1).values


def predict_sigmoid(logits: torch.Tensor) -> Prediction:
    return logits.argmax(dim=1), logits.max(dim=1).values.sigmoid()


def predict_columns(logits: torch.Tensor) -> Prediction:
    confidence, classes = logits.softmax(dim=0).max(dim=1)
    return classes, confidence


def predict_largest_of_column(logits: torch.Tensor) -> Prediction:
    confidence, classes = logits.softmax(dim=1).max(dim=0)
    return classes, confidence


def predict_best_text(logits: torch.Tensor) -> Prediction:
    confidence, classes = logits.softmax(dim=0).max(dim=0)
    return classes, confidence


def predict_unstable(logits: torch.Tensor) -> Prediction:
    weights = logits.exp()
    confidence, classes = (weights / weights.sum(dim=1, keepdim=True)).max(dim=1)
    return classes, confidence


def predict_unstable_beside(logits: torch.Tensor) -> Prediction:
    weights = logits.exp()
    confidence = (weights / weights.sum(dim=1, keepdim=True)).max(dim=1).values
    return logits.argmax(dim=1), confidence


def predict_whole_batch(logits: torch.Tensor) -> Prediction:
    probabilities = logits.flatten().softmax(dim=0).reshape(logits.shape)
    confidence, classes = probabilities.max(dim=1)
    return classes, confidence


def predict_whole_batch_unstable(logits: torch.Tensor) -> Prediction:
    weights = logits.exp()
    confidence, classes = (weights / weights.sum()).max(dim=1)
    return classes, confidence


def predict_whole_batch_beside(logits: torch.Tensor) -> Prediction:
    weights = logits.exp()
    return logits.argmax(dim=1), (weights / weights.sum()).max(dim=1).values


def predict_exchanged(logits: torch.Tensor) -> Prediction:
    classes, confidence = predict(logits)
    return confidence, classes


def predict_two_classes(logits: torch.Tensor) -> Prediction:
    probabilities = logits.softmax(dim=1)
    return (probabilities[:, 1] > 0.5).long(), probabilities.max(dim=1).values


def predict_class_one(logits: torch.Tensor) -> Prediction:
    return logits.argmax(dim=1), logits.softmax(dim=1)[:, 1]


def predict_whole_columns(logits: torch.Tensor) -> Prediction:
    classes = logits.argmax(dim=1)
    return classes, logits.softmax(dim=1)[:, classes]


def predict_pair(logits: torch.Tensor) -> Any:
    return logits.softmax(dim=1).max(dim=1)


UNSTABLE = (
    "right for small logits, nan for large ones: exp overflows. Subtract each row's maximum "
    "first, or let softmax do so"
)
WHOLE_BATCH = "the sum runs over the whole batch: the probabilities of each text alone add up to 1"
WRONG_AXIS = "taken over the batch: each text has its own probabilities, and its classes are dim 1"

PREDICT = Item(
    name="00.predict",
    title="What a model says, and how sure it is",
    difficulty=1,
    importance=5,
    minutes=10,
    points=2,
    cases=predict_cases,
    reference=predict,
    diagnoses=(
        Mistake(
            "logit",
            "the classes are right, but a logit is no probability: it may be negative or "
            "above 1. Exponentials first, divided by their sum",
            predict_logit,
        ),
        Mistake(
            "sigmoid",
            "a sigmoid looks at one logit alone: with several classes the probabilities of a "
            "text share one sum. That is softmax",
            predict_sigmoid,
        ),
        Mistake("wrong_axis", WRONG_AXIS, predict_columns),
        Mistake("wrong_axis", WRONG_AXIS, predict_largest_of_column),
        Mistake("wrong_axis", WRONG_AXIS, predict_best_text),
        Mistake("unstable", UNSTABLE, predict_unstable),
        Mistake("unstable", UNSTABLE, predict_unstable_beside),
        Mistake("whole_batch", WHOLE_BATCH, predict_whole_batch),
        Mistake("whole_batch", WHOLE_BATCH, predict_whole_batch_unstable),
        Mistake("whole_batch", WHOLE_BATCH, predict_whole_batch_beside),
        Mistake(
            "exchanged",
            "right, in the wrong order: classes first, then how sure",
            predict_exchanged,
        ),
        Symptom(
            "exchanged",
            "this is what max(dim=1) returns, the largest values first: take it apart, and return "
            "the classes first, then how sure",
            rules.is_pair,
            predict_pair,
        ),
        Mistake(
            "whole_columns",
            "p[:, classes] names whole columns, shape (B, B): wanted is one number per row",
            predict_whole_columns,
        ),
        Mistake(
            "two_classes",
            "right for two classes only: with more of them, take the place of the largest",
            predict_two_classes,
        ),
        Mistake(
            "class_one",
            "the probability is always that of class 1: it should be that of the class predicted",
            predict_class_one,
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
        inputs = {
            "hidden": Tensor(hidden.astype(np.float32)),
            "attention_mask": Tensor(mask, "int64"),
        }
        cases.append(Case(name, inputs))
    return cases


def max_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Set padding to minus infinity, in a copy, then take the largest."""
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, -torch.inf).max(dim=1).values


def pool_unmasked(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return hidden.max(dim=1).values


def pool_zeros(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return (hidden * attention_mask.unsqueeze(-1)).max(dim=1).values


def pool_zeros_in_place(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    hidden[attention_mask == 0] = 0
    return hidden.max(dim=1).values


def pool_not_low(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, -100.0).max(dim=1).values


def pool_thousand(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, -1000.0).max(dim=1).values


def pool_over_numbers(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, -torch.inf).max(dim=2).values


def pool_inverted(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 1, -torch.inf).max(dim=1).values


def pool_mean(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def pool_in_place(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    hidden[attention_mask == 0] = -torch.inf
    return hidden.max(dim=1).values


def pool_pair(hidden: torch.Tensor, attention_mask: torch.Tensor) -> Any:
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, -torch.inf).max(dim=1)


NOT_LOW = (
    "padding is set to a number that is not low enough: real values may lie below it. "
    "Minus infinity is below all"
)

ZEROS_WIN = (
    "padding becomes 0, which is fine for a sum and not for a maximum: where all values are "
    "negative, 0 wins"
)

POOL = Item(
    name="00.max_pool",
    title="The largest value, padding left out",
    difficulty=2,
    importance=4,
    minutes=10,
    points=2,
    cases=pool_cases,
    reference=max_pool,
    diagnoses=(
        Mistake(
            "no_mask",
            "padding is counted: its vectors are computed like all others, and mean nothing. "
            "The mask says where it is",
            pool_unmasked,
        ),
        Mistake("zeros_win", ZEROS_WIN, pool_zeros),
        Mistake("zeros_win", ZEROS_WIN, pool_zeros_in_place),
        Mistake("not_low_enough", NOT_LOW, pool_not_low),
        Mistake("not_low_enough", NOT_LOW, pool_thousand),
        Mistake(
            "wrong_axis",
            "the largest of the D numbers of each token, shape (B, T): wanted is the largest "
            "over the tokens, dim 1",
            pool_over_numbers,
        ),
        Mistake("inverted", "the mask is the wrong way round: 1 marks a real token", pool_inverted),
        Mistake("mean", "this is the mean over the tokens: wanted is the largest", pool_mean),
        Mistake(
            "changed_input",
            "right, but `hidden` is changed in place, and whoever called you still needs it: "
            "masked_fill makes a copy",
            pool_in_place,
        ),
        Symptom(
            "pair",
            "max(dim=1) returns two tensors, the values and their places: take .values",
            rules.is_pair,
            pool_pair,
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


def _training_bytes(
    trained: int = 4,
    frozen: int = 1,
    of: Callable[[nn.Module], Any] = nn.Module.parameters,
    size: Callable[[torch.Tensor], float] = lambda p: p.numel() * p.element_size(),
) -> Callable[[nn.Module], float]:
    """Return the count with some of its parts replaced by a mistake."""

    def training_bytes(model: nn.Module) -> float:
        return sum((trained if p.requires_grad else frozen) * size(p) for p in of(model))

    return training_bytes


def matrices(model: nn.Module) -> list[torch.Tensor]:
    """Return the weights without the biases."""
    return [p for p in model.parameters() if p.ndim == 2]


def layer_by_layer(model: nn.Module) -> list[torch.Tensor]:
    """Return each layer's parameters; of a layer that is used twice, twice."""
    assert isinstance(model, nn.Sequential)
    return [p for layer in model for p in layer.parameters()]


def memory_millions(model: nn.Module) -> float:
    return _training_bytes()(model) / 1e6


FEW_COPIES = (
    "too few numbers for each trained weight: itself, its gradient, and AdamW's two running "
    "averages make four"
)

MEMORY = Item(
    name="00.training_bytes",
    title="What full fine-tuning holds in memory",
    difficulty=2,
    importance=4,
    minutes=15,
    points=2,
    cases=memory_cases,
    reference=_training_bytes(),
    call=calls.on_model,
    diagnoses=(
        Mistake(
            "frozen_counted_full",
            "frozen weights are counted four times: they have no gradient and no averages, so "
            "they are held once",
            _training_bytes(frozen=4),
        ),
        Mistake(
            "frozen_left_out",
            "frozen weights are left out: they are not trained, yet they are held, once",
            _training_bytes(frozen=0),
        ),
        Mistake(
            "frozen_left_out",
            "frozen weights are left out, though they are held, once; and not every number has 4 "
            "bytes: p.element_size()",
            _training_bytes(frozen=0, size=lambda p: 4 * p.numel()),
        ),
        Mistake(
            "frozen_counted_full",
            "frozen weights are counted four times, though they are only held once; and not every "
            "number has 4 bytes: p.element_size()",
            _training_bytes(frozen=4, size=lambda p: 4 * p.numel()),
        ),
        Mistake("too_few_copies", FEW_COPIES, _training_bytes(trained=3)),
        Mistake("too_few_copies", FEW_COPIES, _training_bytes(trained=2)),
        Mistake(
            "weights_alone",
            "these are the weights alone: training also holds a gradient and two averages for "
            "each trained one",
            _training_bytes(trained=1),
        ),
        Mistake(
            "no_biases",
            "the biases are missing: model.parameters() yields weights and biases",
            _training_bytes(of=matrices),
        ),
        Mistake(
            "always_four_bytes",
            "right for 4-byte numbers only: p.element_size() says how many bytes each one has",
            _training_bytes(size=lambda p: 4 * p.numel()),
        ),
        Mistake(
            "numbers",
            "these are numbers, and bytes are asked for: times p.element_size()",
            _training_bytes(size=lambda p: p.numel()),
        ),
        Mistake(
            "arrays",
            "the arrays are counted, not the numbers in them: p.numel()",
            _training_bytes(size=lambda p: p.element_size()),
        ),
        Mistake(
            "twice",
            "a layer that is used twice is counted twice: it is held once, and "
            "model.parameters() yields it once",
            _training_bytes(of=layer_by_layer),
        ),
        Mistake("millions", "in millions: bytes are asked for", memory_millions),
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


def _draw(
    generator_of: Callable[[int], torch.Generator | None],
    chosen: Callable[[torch.Tensor, int, torch.Generator | None], torch.Tensor] | None = None,
) -> Callable[[torch.Tensor, int, int], torch.Tensor]:
    """Return a draw class by class, with another generator or another way to choose rows."""

    def shuffled(rows: torch.Tensor, n: int, generator: torch.Generator | None) -> torch.Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:n]]

    def draw(labels: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
        generator = generator_of(seed)
        rows_of = [(labels == c).nonzero()[:, 0] for c in labels.unique()]
        return torch.cat([(chosen or shuffled)(rows, per_class, generator) for rows in rows_of])

    return draw


def own_generator(seed: int) -> torch.Generator:
    """Return a generator of one's own: the global one is left alone."""
    return torch.Generator().manual_seed(seed)


def seed_globally(seed: int) -> None:
    """Seed everybody's generator: what `draw` must not do."""
    torch.manual_seed(seed)


def draw_from_all(labels: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    size = per_class * len(labels.unique())
    return torch.randperm(len(labels), generator=own_generator(seed))[:size]


def draw_too_few(labels: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    return draw_from_all(labels, per_class, seed)[:per_class]


def draw_with_repeats(
    rows: torch.Tensor, n: int, generator: torch.Generator | None
) -> torch.Tensor:
    return rows[torch.randint(len(rows), (n,), generator=generator)]


def draw_places(rows: torch.Tensor, n: int, generator: torch.Generator | None) -> torch.Tensor:
    return torch.randperm(len(rows), generator=generator)[:n]


def draw_from_one(labels: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    return _draw(own_generator)(labels, per_class, seed) + len(labels)


SAME_ROWS = (
    "every seed gives the same rows: the seed must reach a generator, and the generator the shuffle"
)

DRAW = Item(
    name="00.draw",
    title="A random draw that can be repeated",
    difficulty=3,
    importance=5,
    minutes=15,
    points=3,
    cases=draw_cases,
    reference=_draw(own_generator),
    call=calls.draw,
    agree=rules.good_draw,
    together=rules.repeats_and_varies,
    apart=True,
    diagnoses=(
        Symptom(
            "not_rows", "row numbers are wanted, from 0 to N - 1", rules.not_rows, draw_from_one
        ),
        Symptom(
            "not_repeatable",
            "the same seed gives other rows the second time: the rows come from the global "
            "generator, which everybody moves. Make one of your own from the seed",
            rules.never_repeats,
            _draw(lambda seed: None),
        ),
        Symptom(
            "disturbs",
            "a global random generator was moved, or seeded: all random numbers after your call "
            "are other ones now. Make a generator of your own",
            rules.disturbs,
            _draw(seed_globally),
        ),
        Symptom(
            "seed_ignored", SAME_ROWS, rules.ignores_seed, _draw(lambda seed: own_generator(0))
        ),
        Symptom(
            "seed_ignored",
            SAME_ROWS,
            rules.ignores_seed,
            _draw(own_generator, lambda rows, n, g: rows[:n]),
        ),
        Symptom(
            "wrong_number",
            "another number of rows is wanted: per_class of *each* class",
            rules.of_wrong_size,
            draw_too_few,
        ),
        Symptom(
            "places",
            "these are places within a class, not rows of `labels`: the shuffled places still "
            "have to pick from the rows of their class",
            rules.are_places,
            _draw(own_generator, draw_places),
        ),
        Symptom(
            "repeats",
            "a row is drawn more than once: shuffle and take the first ones (randperm), rather "
            "than throwing a die for each (randint)",
            rules.has_repeats,
            _draw(own_generator, draw_with_repeats),
        ),
        Symptom(
            "unbalanced",
            "the classes come in other numbers: draw from each class separately",
            rules.is_unbalanced,
            draw_from_all,
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


def _logits(
    training: bool = False, unmasked: bool = False, unordered: bool = False
) -> Callable[[nn.Module, list[list[int]], int], torch.Tensor]:
    """Return the prediction loop with some of its three bugs."""

    @torch.no_grad()
    def logits_of(model: nn.Module, rows: list[list[int]], batch_size: int) -> torch.Tensor:
        if not training:
            model.eval()
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found = []
        for start in range(0, len(rows), batch_size):
            batch = [rows[i] for i in order[start : start + batch_size]]
            longest = max(len(row) for row in batch)
            input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            mask = torch.ones_like(input_ids) if unmasked else (input_ids != 0).long()
            found.append(model(input_ids, mask).logits)
        logits = torch.cat(found)
        return logits if unordered else logits[torch.tensor(order).argsort()]

    return logits_of


REMAINING = {
    "training": "the model is asked while in training mode, where dropout switches off parts of "
    "it at random: model.eval() first",
    "unmasked": "the attention mask says that padding is real: a 0 belongs wherever a row was "
    "filled up",
    "unordered": "the rows were sorted by length, and the results are handed back in that order: "
    "they belong to other rows now",
}


def logits_stacked(model: nn.Module, rows: list[list[int]], batch_size: int) -> torch.Tensor:
    return torch.stack([_logits()(model, [row], 1) for row in rows])


HUNT = Item(
    name="00.logits_of",
    title="Bug hunt: another answer every time",
    difficulty=3,
    importance=5,
    minutes=20,
    points=3,
    cases=logits_cases,
    reference=_logits(),
    call=calls.spied,
    agree=rules.same_logits,
    diagnoses=(
        Symptom(
            "wrong_shape",
            "one row of logits is wanted for each row, shape (N, C): join the batches with "
            "torch.cat, and lose none",
            rules.of_wrong_shape,
            logits_stacked,
        ),
        # equal numbers would not do: a repaired loop may draw other ones
        *(
            Symptom(d.name, d.message, partial(rules.leaves, d.name), *d.wrong)
            for d in flagged(_logits, REMAINING)
        ),
    ),
)

ITEMS = (PREDICT, POOL, MEMORY, DRAW, HUNT)
