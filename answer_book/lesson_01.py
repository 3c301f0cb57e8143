"""Items of lesson 01: gradients by hand, by differences, by machine; and a broken loop."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import remaining
from answer_book.edits import edit
from course_utils.grading.calls import lesson_01 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake, Rating
from course_utils.grading.wire import Tensor

# --- the gradient of binary cross-entropy -----------------------------------------------------


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)) without overflow."""
    return np.exp(-np.logaddexp(0, -z))


def bce_cases(generator: np.random.Generator) -> list[Case]:
    """Batches of several sizes."""
    return [
        Case(
            f"a batch of {B}",
            {
                "logits": generator.normal(0, 2, B),
                "labels": generator.integers(0, 2, B).astype(float),
            },
        )
        for B in (1, 3, 8, 13)
    ]


def bce_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (p - y) / B."""
    return (sigmoid(logits) - labels) / len(logits)


BCE = Item(
    name="01.bce_gradient",
    title="The gradient of binary cross-entropy",
    **Rating(difficulty=1, importance=5, minutes=10, points=2),
    cases=bce_cases,
    reference=bce_gradient,
    diagnoses=(
        Mistake(
            "missing_mean",
            "too large by a factor of B: the loss is a mean over the batch, not a sum",
            edit(bce_gradient, " / len(logits)", ""),
        ),
        Mistake(
            "wrong_sign",
            "the sign is the wrong way round: following this gradient downhill climbs the loss",
            edit(bce_gradient, "sigmoid(logits) - labels", "labels - sigmoid(logits)"),
        ),
        Mistake(
            "no_sigmoid",
            "the labels are subtracted from the logits: a logit becomes a probability first",
            edit(bce_gradient, "sigmoid(logits)", "logits"),
        ),
        Mistake(
            "by_probability",
            "this is the derivative by the probability p: one step of the chain rule, dp/dz, "
            "is missing",
            edit(
                bce_gradient,
                "/ len",
                "/ (p * (1 - p)) / len",
                "(sigmoid",
                "((p := sigmoid",
                "- labels",
                ") - labels",
            ),
        ),
        Mistake(
            "chain_twice",
            "one factor p(1 - p) too many: that of dp/dz has cancelled against the one in dL/dp",
            edit(
                bce_gradient,
                "/ len",
                "* p * (1 - p) / len",
                "(sigmoid",
                "((p := sigmoid",
                "- labels",
                ") - labels",
            ),
        ),
        Mistake(
            "one_number",
            "one number for the whole batch: the gradient has an entry for every logit. "
            "Divide by B, do not average",
            edit(bce_gradient, " / len(logits)", ".mean()"),
        ),
    ),
)


# --- log-sum-exp ------------------------------------------------------------------------------


def logit_matrices(generator: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Ordinary logits, and some that overflow or underflow an exponential."""
    ordinary = [
        (f"{B} rows of {C} logits", generator.normal(0, 2, (B, C))) for B, C in ((4, 3), (1, 5))
    ]
    large = generator.normal(0, 2, (3, 4)) + np.array([[900.0], [0.0], [-900.0]])
    return [
        *ordinary,
        ("a square of logits", generator.normal(0, 2, (3, 3))),
        ("logits near +900, 0 and -900", large),
    ]


def lse_cases(generator: np.random.Generator) -> list[Case]:
    """Matrices of logits."""
    return [Case(name, {"logits": logits}) for name, logits in logit_matrices(generator)]


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """Subtract each row's maximum first, add it back at the end."""
    m = logits.max(axis=1)
    return m + np.log(np.exp(logits - m[:, None]).sum(axis=1))


LSE = Item(
    name="01.log_sum_exp",
    title="A logarithm of a sum that does not overflow",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
    cases=lse_cases,
    reference=log_sum_exp,
    withheld=("numpy.logaddexp", "scipy.special.logsumexp", "torch.logsumexp"),
    diagnoses=(
        Mistake(
            "unstable",
            "right for small logits, inf for large ones: exp overflows above about 709. "
            "Subtract each row's maximum first",
            edit(log_sum_exp, "m = logits.max(axis=1)", "m = np.zeros(len(logits))"),
        ),
        Mistake(
            "one_maximum",
            "one maximum for the whole array: a row far below it underflows to log(0). "
            "Every row needs its own",
            edit(log_sum_exp, "max(axis=1)", "max()", "m[:, None]", "m"),
        ),
        Mistake(
            "maximum_lost",
            "the maximum is subtracted and never added back",
            edit(log_sum_exp, "return m + ", "return "),
        ),
        Mistake(
            "wrong_axis",
            "summed over the batch: there is one result for each row, over its classes (axis 1)",
            edit(
                log_sum_exp,
                "max(axis=1)",
                "max(axis=0)",
                "m[:, None]",
                "m",
                "sum(axis=1)",
                "sum(axis=0)",
            ),
        ),
        Mistake(
            "kept_dimension",
            "the numbers are right, the shape is (B, 1): drop the dimension that was summed",
            edit(
                log_sum_exp,
                "return m + ",
                "return m[:, None] + ",
                "sum(axis=1)",
                "sum(axis=1, keepdims=True)",
            ),
        ),
        Mistake(
            "changed_input",
            "right, but `logits` is changed in place, and whoever called you still needs it: "
            "write logits - m, not logits -= m",
            edit(
                log_sum_exp,
                "    return",
                "    logits -= m[:, None]\n    return",
                "logits - m[:, None]",
                "logits",
            ),
        ),
        Mistake(
            "mean",
            "a mean is taken where the sum belongs: off by log C",
            edit(log_sum_exp, "sum(axis", "mean(axis"),
        ),
    ),
)


# --- the gradient of softmax cross-entropy ----------------------------------------------------


def softmax(logits: np.ndarray, axis: int = 1) -> np.ndarray:
    """Return each row's probabilities."""
    weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def one_hot(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 at each row's label, 0 elsewhere, shape (B, C)."""
    return np.eye(logits.shape[1])[labels]


def softmax_cases(generator: np.random.Generator) -> list[Case]:
    """Label the matrices of logits above."""
    return [
        Case(name, {"logits": z, "labels": generator.integers(0, z.shape[1], len(z))})
        for name, z in logit_matrices(generator)
    ]


def softmax_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (softmax - one-hot) / B."""
    return (softmax(logits) - one_hot(logits, labels)) / len(logits)


SOFTMAX = Item(
    name="01.softmax_gradient",
    title="The gradient of softmax cross-entropy",
    **Rating(difficulty=2, importance=5, minutes=15, points=3),
    cases=softmax_cases,
    reference=softmax_gradient,
    diagnoses=(
        Mistake(
            "missing_mean",
            "too large by a factor of B: the loss is a mean over the batch, not a sum",
            edit(softmax_gradient, " / len(logits)", ""),
        ),
        Mistake(
            "mean_of_entries",
            "too small by a factor of C: the mean is over the B rows, not over all B × C entries",
            edit(softmax_gradient, "len(logits)", "logits.size"),
        ),
        Mistake(
            "wrong_axis",
            "the softmax is taken over the batch: each row is one text, its classes are axis 1",
            edit(softmax_gradient, "softmax(logits)", "softmax(logits, axis=0)"),
        ),
        Mistake(
            "unstable",
            "right for small logits, nan for large ones: subtract each row's maximum before exp",
            edit(
                softmax_gradient, " - logits.max(axis=axis, keepdims=True)", "", within=(softmax,)
            ),
        ),
        Mistake(
            "off_by_one",
            "the 1 is subtracted one class too early: labels count from 0",
            edit(softmax_gradient, "one_hot(logits, labels)", "one_hot(logits, labels - 1)"),
        ),
        Mistake(
            "no_label",
            "these are the probabilities alone: at the label's class 1 is still to be subtracted",
            edit(softmax_gradient, " - one_hot(logits, labels)", ""),
        ),
        Mistake(
            "wrong_sign",
            "the sign is the wrong way round: following this gradient downhill climbs the loss",
            edit(softmax_gradient, "return (", "return -("),
        ),
        Mistake(
            "whole_columns",
            "p[:, labels] names whole columns: the 1 belongs to one entry of each row, "
            "p[range(B), labels]",
            edit(
                softmax_gradient,
                "(logits.shape[1])[labels]",
                "(logits.shape[1])[labels].max(axis=0)",
                within=(one_hot,),
            ),
        ),
        Mistake(
            "changed_input",
            "right, but `logits` is changed in place: work on a copy",
            edit(
                softmax_gradient,
                "    return (",
                "    logits -= logits.max(axis=1, keepdims=True)\n    return (",
            ),
        ),
    ),
)


# --- finite differences -----------------------------------------------------------------------

Scalar = Callable[[np.ndarray], float]


def difference_cases(generator: np.random.Generator) -> list[Case]:
    """Functions with large third derivatives show who takes one-sided differences."""
    shapes: dict[str, tuple[int, ...]] = {
        "sum of cubes": (4,),
        "product": (5,),
        "log of sum of exponentials": (3,),
        "sum of squares": (2, 3),
    }
    return [
        Case(
            f"the {f} at {'a matrix' if len(shape) > 1 else f'{shape[0]} numbers'}",
            {"f": f, "x": generator.uniform(0.5, 2.0, shape), "epsilon": 1e-4},
        )
        for f, shape in shapes.items()
    ]


def finite_difference(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    """Move one entry at a time, both ways."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = epsilon
        gradient[i] = (f(x + step) - f(x - step)) / (2 * epsilon)
    return gradient


DIFFERENCE = Item(
    name="01.finite_difference",
    title="A gradient without a derivation",
    **Rating(difficulty=2, importance=4, minutes=10, points=2),
    cases=difference_cases,
    reference=finite_difference,
    call=calls.gradient_of_named,
    may_change=("x",),  # by rounding, where an entry is moved and moved back
    rtol=1e-6,
    atol=1e-7,
    diagnoses=(
        Mistake(
            "one_sided",
            "a one-sided difference, wrong in the fifth digit: step both ways, and the error "
            "shrinks with epsilon squared",
            edit(finite_difference, "f(x - step)", "f(x)", "(2 * epsilon)", "epsilon"),
            edit(finite_difference, "f(x + step)", "f(x)", "(2 * epsilon)", "epsilon"),
        ),
        Mistake(
            "factor_two",
            "too large by a factor of 2: the two points are 2·epsilon apart",
            edit(finite_difference, "/ (2 * epsilon)", "/ epsilon"),
        ),
        Mistake(
            "all_at_once",
            "all entries are moved at once: that is one slope in one direction. Move one entry "
            "at a time",
            edit(finite_difference, "step[i] = epsilon", "step += epsilon"),
        ),
        Mistake(
            "first_axis",
            "right for vectors, wrong for a matrix: there x[i] is a whole row. Visit every entry "
            "(np.ndindex)",
            edit(finite_difference, "np.ndindex(x.shape)", "range(len(x))"),
        ),
        Mistake(
            "not_undone",
            "x is moved and not moved back, so later entries are taken at another point",
            edit(
                finite_difference,
                *("step = np.zeros_like(x)", "x[i] += epsilon\n        above = f(x)"),
                *("step[i] = epsilon", "x[i] -= 2 * epsilon"),
                *("f(x + step) - f(x - step)", "above - f(x)"),
            ),
        ),
        Mistake(
            "undivided",
            "a difference is not yet a slope: divide by the distance, 2·epsilon",
            edit(finite_difference, " / (2 * epsilon)", ""),
        ),
    ),
)


# --- a reverse-mode engine --------------------------------------------------------------------


class Value:
    """A number that remembers how it was made."""

    def __init__(self, data: float, parents: tuple["Value", ...] = ()) -> None:
        self.data, self.grad, self.parents = data, 0.0, parents
        self.push: Callable[[], None] = lambda: None

    def __add__(self, other: "Value") -> "Value":
        out = type(self)(self.data + other.data, (self, other))

        def push() -> None:
            self.grad += out.grad
            other.grad += out.grad

        out.push = push
        return out

    def __mul__(self, other: "Value") -> "Value":
        out = type(self)(self.data * other.data, (self, other))

        def push() -> None:
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out.push = push
        return out

    def exp(self) -> "Value":
        """Return e to this power."""
        out = type(self)(math.exp(self.data), (self,))

        def push() -> None:
            self.grad += out.data * out.grad

        out.push = push
        return out

    def order(self) -> list["Value"]:
        """Return all nodes this one was made from, and itself, parents first."""
        found: list[Value] = []

        def visit(node: Value) -> None:
            if node not in found:
                for parent in node.parents:
                    visit(parent)
                found.append(node)

        visit(self)
        return found

    def backward(self) -> None:
        """Fill in the gradient of every node."""
        self.grad = 1.0
        for node in reversed(self.order()):
            node.push()


# Without an order: a node that is used twice pushes twice.
DEPTH_FIRST = """        while waiting:
            node = waiting.pop()
            node.push()
            waiting += reversed(node.parents)"""


def value_cases(generator: np.random.Generator) -> list[Case]:
    """Every expression once."""
    return [
        Case(
            f"{expression}, a = {a:.2f}, b = {b:.2f}",
            {"expression": expression, "a": a, "b": b},
        )
        for expression in calls.EXPRESSIONS
        for a, b in [[round(float(x), 3) for x in generator.uniform(0.3, 1.1, 2)]]
    ]


VALUE = Item(
    name="01.Value",
    title="A reverse-mode engine in thirty lines",
    **Rating(difficulty=4, importance=4, minutes=25, points=4),
    cases=value_cases,
    reference=Value,
    call=calls.differentiate,
    diagnoses=(
        Mistake(
            "overwrites",
            "a gradient is overwritten where it should be added to: in a·a the same node "
            "receives two shares (+=, not =)",
            edit(
                Value,
                *("self.grad += other.data", "self.grad = other.data"),
                *("other.grad += self.data", "other.grad = self.data"),
            ),
        ),
        Mistake(
            "swapped",
            "the factors are swapped: how fast a·b grows with a is b",
            edit(
                Value,
                "other.data * out.grad",
                "self.data * out.grad",
                "= self.data * out.grad",
                "= other.data * out.grad",
            ),
        ),
        Mistake(
            "local_only",
            "the local slope is passed on without multiplying by out.grad: the chain rule is "
            "a product",
            edit(Value, "other.data * out.grad", "other.data", "self.data * out.grad", "self.data"),
        ),
        Mistake(
            "no_seed",
            "every gradient stays 0: backward must start from d(result)/d(result) = 1",
            edit(Value, "        self.grad = 1.0\n", ""),
        ),
        Mistake(
            "forward_order",
            "the gradient does not get past the last operation: visit the nodes from the result "
            "back to the leaves (reversed), so that each has its gradient before it pushes",
            edit(Value, "reversed(self.order())", "self.order()"),
        ),
        Mistake(
            "counted_twice",
            "a node that is used twice pushes twice: visit each node once, after everything "
            "that uses it",
            edit(
                Value,
                *("for node in reversed(self.order()):", "waiting = [self]"),
                *("            node.push()", DEPTH_FIRST),
            ),
        ),
        Mistake(
            "exp_slope",
            "the slope of exp is exp itself, which you have already computed: out.data",
            edit(Value, "self.grad += out.data", "self.grad += self.data"),
        ),
    ),
)


# --- bug hunt: a training loop ----------------------------------------------------------------


def train_cases(generator: np.random.Generator) -> list[Case]:
    """Two noisy features and a useless one."""
    cases = []
    for B, steps in ((6, 1), (10, 3), (16, 12)):
        features = generator.normal(0, 1, (B, 3)).astype(np.float32)
        score = features[:, 0] - features[:, 1] + generator.normal(0, 0.5, B)
        # one in three: with halves, a broadcast loss has no slope at all
        labels = (score > np.quantile(score, 0.66)).astype(np.float32)
        cases.append(
            Case(
                f"{B} examples, {steps} step{'s' * (steps > 1)}",
                {"features": Tensor(features), "labels": Tensor(labels), "lr": 0.5, "steps": steps},
            )
        )
    return cases


def train(features: Any, labels: Any, lr: float, steps: int) -> tuple[Any, list[float]]:
    """Return the weights after some steps, and the loss before each."""
    import torch

    w = torch.zeros(features.shape[1], 1, requires_grad=True)
    losses = []
    for _ in range(steps):
        z = features @ w  # (B, 1)
        y = labels[:, None]
        loss = (torch.nn.functional.softplus(z) - y * z).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad  # type: ignore[operator]
        w.grad = None
        losses.append(loss.item())
    return w.detach()[:, 0], losses


TRAIN = Item(
    name="01.train",
    title="Bug hunt: it runs, and it learns nothing",
    **Rating(difficulty=3, importance=5, minutes=20, points=3),
    cases=train_cases,
    reference=train,
    rtol=1e-4,
    atol=1e-5,
    diagnoses=remaining(
        train,
        {
            "forgets": (
                "gradients pile up from step to step: they must be cleared after each update",
                *("        w.grad = None\n", ""),
            ),
            "squashes": (
                "the sigmoid is applied twice: this loss wants logits, and squashes them itself",
                *("features @ w", "torch.sigmoid(features @ w)"),
            ),
            "broadcasts": (
                "a column (B, 1) meets a row (B,) and broadcasts to (B, B): every prediction is "
                "compared with every label",
                *("labels[:, None]", "labels"),
            ),
        },
    ),
)

ITEMS = (BCE, LSE, SOFTMAX, DIFFERENCE, VALUE, TRAIN)
