"""Items of lesson 13: int8, distillation, heads, the cost of batches, an exit, a bug hunt."""

from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating

# --- the cost of batches ----------------------------------------------------------------------


def batch_cases(generator: np.random.Generator) -> list[Case]:
    """Whole batches and a smaller last one, one batch, texts of one length, batches of one."""
    draw = generator.integers
    cases = [
        ("a smaller last batch", draw(3, 40, 23), 5),
        ("whole batches", draw(3, 40, 24), 8),
        ("one batch for all", draw(3, 40, 7), 32),
        ("one text at a time", draw(3, 40, 9), 1),
        ("all equally long", np.full(10, int(draw(5, 30))), 4),
    ]
    return [Case(name, {"lengths": lengths, "size": size}) for name, lengths, size in cases]


def padded_positions(lengths: np.ndarray, size: int) -> tuple[int, int]:
    """Return the positions computed in batches as they come, and sorted by length."""

    def positions(order: np.ndarray) -> int:
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return int(sum(len(batch) * batch.max() for batch in batches))

    return positions(lengths), positions(np.sort(lengths))


BATCHES = Item(
    name="13.padded_positions",
    title="What sorting saves",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=batch_cases,
    reference=padded_positions,
    withheld=("course_utils.batching.padding_share",),
    diagnoses=(
        Mistake(
            "tokens_only",
            "these are the tokens alone: a batch computes all its texts at the length of its "
            "longest",
            edit(padded_positions, "len(batch) * batch.max()", "batch.sum()"),
        ),
        Mistake(
            "last_batch_full",
            "the last batch is charged as a full one: it has only the texts that are left",
            edit(padded_positions, "len(batch) * batch.max()", "size * batch.max()"),
        ),
        Mistake(
            "last_batch_lost",
            "the texts of the last, smaller batch are not counted: they must be answered, too",
            edit(
                padded_positions,
                "range(0, len(order), size)",
                "range(0, len(order) - size + 1, size)",
            ),
        ),
        Mistake(
            "one_length",
            "all batches are padded to the longest text of all: each has its own longest",
            edit(padded_positions, "len(batch) * batch.max()", "len(batch) * order.max()"),
        ),
        Mistake(
            "not_sorted",
            "the second number is that of unsorted batches: sort the lengths first",
            edit(padded_positions, "np.sort(lengths)", "lengths"),
        ),
        Mistake(
            "swapped",
            "as they come first, then sorted",
            edit(
                padded_positions,
                "positions(lengths), positions(np.sort(lengths))",
                "positions(np.sort(lengths)), positions(lengths)",
            ),
        ),
    ),
)

# --- int8 -------------------------------------------------------------------------------------


def int8_cases(generator: np.random.Generator) -> list[Case]:
    """Ordinary layers; rows of very different size; one large input; a row of zeros."""
    normal = generator.normal
    large = normal(0, 1, (6, 8))
    large[2, 3] = 40.0
    rows = normal(0, 1, (5, 8)) * np.array([[0.01], [1.0], [30.0], [0.2], [5.0]])
    zeros = normal(0, 1, (4, 8))
    zeros[1] = 0
    cases = [
        ("an ordinary layer", normal(0, 1, (7, 8)), normal(0, 0.1, (5, 8))),
        ("rows of very different size", normal(0, 2, (4, 8)), rows),
        ("one large input", large, normal(0, 0.1, (5, 8))),
        ("a row of zeros", normal(0, 1, (3, 8)), zeros),
    ]
    return [Case(name, {"x": x, "W": W}) for name, x, W in cases]


def int8_product(x: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return x W^T, computed with whole numbers."""
    x_scale = np.abs(x).max() / 127
    W_scale = np.abs(W).max(axis=1) / 127
    x_codes = np.round(x / x_scale).astype(int)
    W_codes = np.round(W / np.where(W_scale == 0, 1, W_scale)[:, None]).astype(int)
    return (x_codes @ W_codes.T) * x_scale * W_scale


INT8 = Item(
    name="13.int8_product",
    title="A layer in int8",
    **Rating(difficulty=2, importance=5, minutes=20, points=3),
    cases=int8_cases,
    reference=int8_product,
    rtol=1e-9,
    atol=1e-12,
    diagnoses=(
        Mistake(
            "one_scale",
            "one scale for all weights: each row has its own, from its own largest weight",
            edit(
                int8_product,
                *("np.abs(W).max(axis=1) / 127", "np.full(len(W), np.abs(W).max() / 127)"),
            ),
        ),
        Mistake(
            "wrong_axis",
            "the inputs have a scale for each row, too: here they share one",
            edit(
                int8_product,
                *("np.abs(x).max() / 127", "np.abs(x).max(axis=1, keepdims=True) / 127"),
            ),
        ),
        Mistake(
            "one_too_many",
            "codes go from -127 to 127: with a scale of max / 128 the largest would be 128, which "
            "is no int8",
            edit(
                int8_product,
                *("np.abs(x).max() / 127", "np.abs(x).max() / 128"),
                *("np.abs(W).max(axis=1) / 127", "np.abs(W).max(axis=1) / 128"),
            ),
        ),
        Mistake(
            "cut_off",
            "codes are cut off, not rounded: the error is up to a whole step",
            edit(
                int8_product,
                *("np.round(x / x_scale).astype", "(x / x_scale).astype"),
                *(
                    "np.round(W / np.where(W_scale == 0, 1, W_scale)[:, None])",
                    "(W / np.where(W_scale == 0, 1, W_scale)[:, None])",
                ),
            ),
        ),
        Mistake(
            "no_scale_of_x",
            "the sums are not multiplied by the scale of the inputs: a sum of codes times both "
            "scales is the product",
            edit(int8_product, " * x_scale * W_scale", " * W_scale"),
        ),
        Mistake(
            "codes_only",
            "these are sums of codes: two scales make numbers of them again",
            edit(int8_product, " * x_scale * W_scale", ""),
        ),
        Mistake(
            "not_rounded",
            "this is the product in floats: round inputs and weights to codes first",
            edit(
                int8_product,
                *("np.round(x / x_scale).astype(int)", "x / x_scale"),
                *(
                    "np.round(W / np.where(W_scale == 0, 1, W_scale)[:, None]).astype(int)",
                    "W / np.where(W_scale == 0, 1, W_scale)[:, None]",
                ),
            ),
        ),
        Mistake(
            "nan",
            "right, except where all weights of a row are zero: the scale is zero there, and zero "
            "by zero is nan",
            edit(
                int8_product,
                *(
                    "np.round(W / np.where(W_scale == 0, 1, W_scale)[:, None]).astype(int)",
                    "np.round(W / W_scale[:, None])",
                ),
            ),
        ),
    ),
)

# --- distillation -----------------------------------------------------------------------------


def distil_cases(generator: np.random.Generator) -> list[Case]:
    """Several temperatures and numbers of classes; logits shifted; the student is the teacher."""
    cases = []
    for (B, C), T in zip(((5, 3), (4, 2), (6, 7)), (1.0, 2.5, 8.0), strict=True):
        student, teacher = generator.normal(0, 2, (2, B, C))
        cases.append((f"{C} classes, temperature {T:g}", student, teacher, T))
    student, teacher = generator.normal(0, 2, (2, 3, 4))
    cases.append(("large logits", student + 4000, teacher - 4000, 2.0))
    cases.append(("student and teacher agree", teacher, teacher, 4.0))
    names = ("student", "teacher", "T")
    return [Case(name, dict(zip(names, rest, strict=True))) for name, *rest in cases]


def soft_gradient(student: np.ndarray, teacher: np.ndarray, T: float) -> np.ndarray:
    """Return the gradient of the distillation loss by the student's logits."""

    def softened(logits: np.ndarray) -> np.ndarray:
        scaled = logits / T
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    return T * (softened(student) - softened(teacher)) / len(student)


DISTIL = Item(
    name="13.soft_gradient",
    title="What a student is told",
    **Rating(difficulty=2, importance=4, minutes=15, points=3),
    cases=distil_cases,
    reference=soft_gradient,
    withheld=("course_utils.distillation.soft_loss",),
    diagnoses=(
        Mistake(
            "without_t_squared",
            "T² is missing before the loss: the gradient is (q - p) / T here, and fades with the "
            "temperature",
            edit(soft_gradient, "T * (softened", "1 / T * (softened"),
        ),
        Mistake(
            "t_squared",
            "T² (q - p): the logits are divided by T before the softmax, which brings a 1 / T",
            edit(soft_gradient, "T * (softened", "T * T * (softened"),
        ),
        Mistake(
            "no_factor",
            "the factor T before q - p is missing: T² from the loss, and 1 / T from the logits",
            edit(soft_gradient, "T * (softened", "(softened"),
        ),
        Mistake(
            "sum",
            "this is the gradient of the sum over the batch: the loss is its mean",
            edit(soft_gradient, " / len(student)", ""),
        ),
        Mistake(
            "mean_of_all",
            "divided by rows and classes: the loss is a sum over classes and a mean over rows",
            edit(soft_gradient, "len(student)", "student.size"),
        ),
        Mistake(
            "uphill",
            "the sign is turned round: it is the student's probabilities minus the teacher's",
            edit(
                soft_gradient,
                "softened(student) - softened(teacher)",
                "softened(teacher) - softened(student)",
            ),
        ),
        Mistake(
            "overflow",
            "right, except for large logits: take each row's largest off before exp",
            edit(soft_gradient, "scaled - scaled.max(axis=1, keepdims=True)", "scaled"),
        ),
    ),
)

# --- heads ------------------------------------------------------------------------------------


def head_cases(generator: np.random.Generator) -> list[Case]:
    """Several numbers and widths of heads; none goes, the first, the last, all but one."""
    cases = []
    for H, width, gone in ((4, 3, [1]), (3, 2, [0, 2]), (5, 2, []), (4, 4, [3]), (6, 1, [0, 1, 3])):
        D = H * width
        inputs: dict[str, Any] = {
            "W_v": generator.normal(0, 1, (D, D)),
            "b_v": generator.normal(0, 1, D),
            "W_o": generator.normal(0, 1, (D, D)),
            "heads": H,
            "gone": gone,
        }
        cases.append(Case(f"{H} heads of {width}, without {gone}", inputs))
    return cases


def without_heads(
    W_v: np.ndarray, b_v: np.ndarray, W_o: np.ndarray, heads: int, gone: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrices without the rows and columns of some heads."""
    width = len(W_v) // heads
    kept = [h for h in range(heads) if h not in gone]
    rows = np.concatenate([np.arange(h * width, (h + 1) * width) for h in kept])
    return W_v[rows], b_v[rows], W_o[:, rows]


HEADS = Item(
    name="13.without_heads",
    title="Heads taken out",
    **Rating(difficulty=2, importance=3, minutes=15, points=3),
    cases=head_cases,
    reference=without_heads,
    withheld=("course_utils.pruning.without_heads",),
    diagnoses=(
        Mistake(
            "the_others",
            "these are the heads that should go: the others stay",
            edit(without_heads, "if h not in gone", "if h in gone or not gone"),
        ),
        Mistake(
            "columns_of_values",
            "the columns of W_v were cut: a head's values are rows, its columns read the input, "
            "which stays as wide as it was",
            edit(without_heads, "W_v[rows], b_v", "W_v[:, rows], b_v"),
        ),
        Mistake(
            "rows_of_output",
            "the rows of W_o were cut: what a head has made is read by its columns",
            edit(without_heads, "W_o[:, rows]", "W_o[rows]"),
        ),
        Mistake(
            "bias_whole",
            "the bias of the values still has all heads",
            edit(without_heads, "b_v[rows]", "b_v"),
        ),
        Mistake(
            "output_whole",
            "W_o still reads all heads",
            edit(without_heads, "W_o[:, rows]", "W_o"),
        ),
        Mistake(
            "interleaved",
            "a head's numbers lie side by side: head 0 has the first D / H of them, not every H-th",
            edit(
                without_heads,
                "np.arange(h * width, (h + 1) * width)",
                "np.arange(h, heads * width, heads)",
            ),
        ),
        Mistake(
            "zeroed",
            "the heads are set to zero: as many multiplications as before. Take rows and columns "
            "out",
            edit(
                without_heads,
                "return W_v[rows], b_v[rows], W_o[:, rows]",
                "mask = np.isin(np.arange(len(W_v)), rows)\n"
                "    return W_v * mask[:, None], b_v * mask, W_o * mask",
            ),
        ),
    ),
)

# --- the exit ---------------------------------------------------------------------------------


def exit_cases(generator: np.random.Generator) -> list[Case]:
    """Ratings of two models that mostly agree; nothing may change; everything may; equal ones."""
    cases = []
    for name, N, most in (("one in fifty", 100, 0.02), ("one in ten", 60, 0.1), ("none", 50, 0.0)):
        large = generator.normal(0, 1.5, N)
        small = large + generator.normal(0, 0.6, N)
        cases.append((name, small, large, most))
    large = generator.normal(0, 1.5, 40)
    cases.append(("all of them may", large + generator.normal(0, 0.6, 40), large, 1.0))
    equal = np.array([2.0, -1.0, 1.0, 1.0, -1.0, 0.5])
    cases.append(("equal distances", equal, np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0]), 0.1))
    never = generator.normal(0, 1, 20)
    cases.append(("the surest is wrong", never, -never, 0.01))
    names = ("small", "large", "most")
    return [Case(name, dict(zip(names, rest, strict=True))) for name, *rest in cases]


def exit_threshold(small: np.ndarray, large: np.ndarray, most: float) -> float:
    """Return the lowest distance from zero from which the small model may answer."""
    sure, changed = np.abs(small), (small > 0) != (large > 0)
    for threshold in np.sort(sure):
        if changed[sure >= threshold].sum() / len(small) <= most:
            return float(threshold)
    return float("inf")


EXIT = Item(
    name="13.exit_threshold",
    title="From where on is it sure?",
    **Rating(difficulty=3, importance=4, minutes=20, points=3),
    cases=exit_cases,
    reference=exit_threshold,
    withheld=("course_utils.inference.choose_exit",),
    diagnoses=(
        Mistake(
            "of_those_answered",
            "the share is taken of the texts that the small model answers: it is the share of all",
            edit(exit_threshold, ".sum() / len(small)", ".mean()"),
        ),
        Mistake(
            "one_sided",
            "the rating itself is taken for the sureness: a rating of -3 is as sure as one of +3",
            edit(exit_threshold, "np.abs(small)", "small"),
        ),
        Mistake(
            "above_only",
            "a text exactly at the threshold is answered by the small model, too: count it",
            edit(exit_threshold, "sure >= threshold", "sure > threshold"),
        ),
        Mistake(
            "highest",
            "a threshold that keeps the promise, but not the lowest: more texts could be answered",
            edit(exit_threshold, "np.sort(sure)", "np.sort(sure)[::-1]"),
        ),
        Mistake(
            "less_than",
            "a share that is reached exactly is allowed",
            edit(exit_threshold, "<= most", "< most"),
        ),
        Mistake(
            "the_unsure",
            "the changed answers of the texts below the threshold are counted: those go to the "
            "large model, and cannot change",
            edit(exit_threshold, "sure >= threshold", "sure <= threshold"),
        ),
        Mistake(
            "not_a_number",
            "right, except where not even the surest answer may stand: then the threshold is "
            "infinite, and the small model answers nothing",
            edit(exit_threshold, 'float("inf")', "float(sure.max())"),
        ),
    ),
)

# --- bug hunt: somebody's fast reader ---------------------------------------------------------


def reader_cases(generator: np.random.Generator) -> list[Case]:
    """Texts of different length; a smaller last batch; a repeated text; one batch."""
    cases = []
    for name, N, size in (
        ("a smaller last batch", 11, 4),
        ("whole batches", 12, 3),
        ("one batch", 5, 8),
    ):
        lengths = generator.permutation(np.arange(1, N + 1) % 7 + 1)
        texts = [generator.integers(1, 20, n).tolist() for n in lengths]
        inputs = {
            "texts": texts,
            "vectors": generator.normal(0, 1, (20, 4)),
            "head": generator.normal(0, 1, 4),
            "size": size,
        }
        cases.append(Case(name, inputs))
    return cases


def read_fast(
    texts: list[list[int]], vectors: np.ndarray, head: np.ndarray, size: int
) -> np.ndarray:
    """Return a rating for each text, in the order of the texts."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    ratings = []
    stop = len(order)
    for start in range(0, stop, size):
        batch = [texts[row] for row in order[start : start + size]]
        longest = max(len(text) for text in batch)
        ids = np.array([text + [0] * (longest - len(text)) for text in batch])
        mask = (ids != 0)[:, :, None]
        pooled = (vectors[ids] * mask).sum(axis=1) / mask.sum(axis=1)
        ratings.extend(pooled @ head)
    answers = np.zeros(len(texts))
    places = order[: len(ratings)]
    answers[places] = ratings
    return answers


BUGS = {
    "shuffled": (
        "the ratings stand in the order of the sorted texts: each must go back to its text's place",
        *("answers[places] = ratings", "answers[: len(ratings)] = ratings"),
    ),
    "padding": (
        "padding is averaged in: a short text's rating depends on the longest text of its batch",
        *("mask = (ids != 0)[:, :, None]", "mask = np.ones(ids.shape)[:, :, None]"),
    ),
    "lost": (
        "the last batch is lost if it is smaller than the others",
        *("stop = len(order)", "stop = len(order) - size + 1"),
    ),
}

HUNT = Item(
    name="13.read_fast",
    title="Bug hunt: somebody's fast reader",
    **Rating(difficulty=3, importance=5, minutes=20, points=4),
    cases=reader_cases,
    reference=read_fast,
    diagnoses=(
        *remaining(read_fast, BUGS),
        Mistake(
            "sorted_twice",
            "the ratings are put into another wrong order: argsort says which text stands at each "
            "place, so `answers[order] = ratings`, and not `ratings[order]`",
            edit(read_fast, "answers[places] = ratings", "answers[:] = np.array(ratings)[places]"),
        ),
        Mistake(
            "by_batch_length",
            "the sum over a text's tokens is divided by the length of the batch: divide by the "
            "text's own",
            edit(read_fast, "/ mask.sum(axis=1)", "/ longest"),
        ),
    ),
)

ITEMS = (BATCHES, INT8, DISTIL, HEADS, EXIT, HUNT)
