"""Items of lesson 01: gradients by hand, by differences, by machine; and a broken loop."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from answer_book.bugs import flagged
from course_utils.grading.calls import lesson_01 as calls
from course_utils.grading.checks import Case
from course_utils.grading.items import Item, Mistake
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


def bce_sum(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return sigmoid(logits) - labels


def bce_sign(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (labels - sigmoid(logits)) / len(logits)


def bce_no_sigmoid(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (logits - labels) / len(logits)


def bce_by_probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = sigmoid(logits)
    return (p - labels) / (p * (1 - p)) / len(logits)


def bce_chain_twice(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = sigmoid(logits)
    return (p - labels) * p * (1 - p) / len(logits)


def bce_one_number(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (sigmoid(logits) - labels).mean()


BCE = Item(
    name="01.bce_gradient",
    title="The gradient of binary cross-entropy",
    difficulty=1,
    importance=5,
    minutes=10,
    points=2,
    cases=bce_cases,
    reference=bce_gradient,
    diagnoses=(
        Mistake(
            "missing_mean",
            "too large by a factor of B: the loss is a mean over the batch, not a sum",
            bce_sum,
        ),
        Mistake(
            "wrong_sign",
            "the sign is the wrong way round: following this gradient downhill climbs the loss",
            bce_sign,
        ),
        Mistake(
            "no_sigmoid",
            "the labels are subtracted from the logits: a logit becomes a probability first",
            bce_no_sigmoid,
        ),
        Mistake(
            "by_probability",
            "this is the derivative by the probability p: one step of the chain rule, dp/dz, "
            "is missing",
            bce_by_probability,
        ),
        Mistake(
            "chain_twice",
            "one factor p(1 - p) too many: that of dp/dz has cancelled against the one in dL/dp",
            bce_chain_twice,
        ),
        Mistake(
            "one_number",
            "one number for the whole batch: the gradient has an entry for every logit. "
            "Divide by B, do not average",
            bce_one_number,
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


def lse_naive(logits: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(axis=1))


def lse_global_maximum(logits: np.ndarray) -> np.ndarray:
    m = logits.max()
    return m + np.log(np.exp(logits - m).sum(axis=1))


def lse_maximum_lost(logits: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))


def lse_columns(logits: np.ndarray) -> np.ndarray:
    m = logits.max(axis=0)
    return m + np.log(np.exp(logits - m).sum(axis=0))


def lse_kept_dimension(logits: np.ndarray) -> np.ndarray:
    m = logits.max(axis=1, keepdims=True)
    return m + np.log(np.exp(logits - m).sum(axis=1, keepdims=True))


def lse_in_place(logits: np.ndarray) -> np.ndarray:
    m = logits.max(axis=1)
    logits -= m[:, None]
    return m + np.log(np.exp(logits).sum(axis=1))


def lse_mean(logits: np.ndarray) -> np.ndarray:
    m = logits.max(axis=1)
    return m + np.log(np.exp(logits - m[:, None]).mean(axis=1))


LSE = Item(
    name="01.log_sum_exp",
    title="A logarithm of a sum that does not overflow",
    difficulty=2,
    importance=4,
    minutes=10,
    points=2,
    cases=lse_cases,
    reference=log_sum_exp,
    diagnoses=(
        Mistake(
            "unstable",
            "right for small logits, inf for large ones: exp overflows above about 709. "
            "Subtract each row's maximum first",
            lse_naive,
        ),
        Mistake(
            "one_maximum",
            "one maximum for the whole array: a row far below it underflows to log(0). "
            "Every row needs its own",
            lse_global_maximum,
        ),
        Mistake(
            "maximum_lost",
            "the maximum is subtracted and never added back",
            lse_maximum_lost,
        ),
        Mistake(
            "wrong_axis",
            "summed over the batch: there is one result for each row, over its classes (axis 1)",
            lse_columns,
        ),
        Mistake(
            "kept_dimension",
            "the numbers are right, the shape is (B, 1): drop the dimension that was summed",
            lse_kept_dimension,
        ),
        Mistake(
            "changed_input",
            "right, but `logits` is changed in place, and whoever called you still needs it: "
            "write logits - m, not logits -= m",
            lse_in_place,
        ),
        Mistake("mean", "a mean is taken where the sum belongs: off by log C", lse_mean),
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


def softmax_sum(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return softmax(logits) - one_hot(logits, labels)


def softmax_all_entries(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (softmax(logits) - one_hot(logits, labels)) / logits.size


def softmax_columns(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (softmax(logits, axis=0) - one_hot(logits, labels)) / len(logits)


def softmax_unstable(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    p = weights / weights.sum(axis=1, keepdims=True)
    return (p - one_hot(logits, labels)) / len(logits)


def softmax_off_by_one(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return softmax_gradient(logits, labels - 1)


def softmax_no_label(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return softmax(logits) / len(logits)


def softmax_sign(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -softmax_gradient(logits, labels)


def softmax_column_of_labels(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = softmax(logits)
    p[:, labels] -= 1
    return p / len(logits)


def softmax_in_place(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits -= logits.max(axis=1, keepdims=True)
    return softmax_gradient(logits, labels)


SOFTMAX = Item(
    name="01.softmax_gradient",
    title="The gradient of softmax cross-entropy",
    difficulty=2,
    importance=5,
    minutes=15,
    points=3,
    cases=softmax_cases,
    reference=softmax_gradient,
    diagnoses=(
        Mistake(
            "missing_mean",
            "too large by a factor of B: the loss is a mean over the batch, not a sum",
            softmax_sum,
        ),
        Mistake(
            "mean_of_entries",
            "too small by a factor of C: the mean is over the B rows, not over all B × C entries",
            softmax_all_entries,
        ),
        Mistake(
            "wrong_axis",
            "the softmax is taken over the batch: each row is one text, its classes are axis 1",
            softmax_columns,
        ),
        Mistake(
            "unstable",
            "right for small logits, nan for large ones: subtract each row's maximum before exp",
            softmax_unstable,
        ),
        Mistake(
            "off_by_one",
            "the 1 is subtracted one class too early: labels count from 0",
            softmax_off_by_one,
        ),
        Mistake(
            "no_label",
            "these are the probabilities alone: at the label's class 1 is still to be subtracted",
            softmax_no_label,
        ),
        Mistake(
            "wrong_sign",
            "the sign is the wrong way round: following this gradient downhill climbs the loss",
            softmax_sign,
        ),
        Mistake(
            "whole_columns",
            "p[:, labels] names whole columns: the 1 belongs to one entry of each row, "
            "p[range(B), labels]",
            softmax_column_of_labels,
        ),
        Mistake(
            "changed_input",
            "right, but `logits` is changed in place: work on a copy",
            softmax_in_place,
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


def difference_one_sided(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = epsilon
        gradient[i] = (f(x + step) - f(x)) / epsilon
    return gradient


def difference_backward(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = epsilon
        gradient[i] = (f(x) - f(x - step)) / epsilon
    return gradient


def difference_no_two(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    return 2 * finite_difference(f, x, epsilon)


def difference_all_at_once(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    slope = (f(x + epsilon) - f(x - epsilon)) / (2 * epsilon)
    return np.full_like(x, slope)


def difference_first_axis(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    gradient = np.empty_like(x)
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = epsilon
        gradient[i] = (f(x + step) - f(x - step)) / (2 * epsilon)
    return gradient


def difference_not_undone(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        x[i] += epsilon
        above = f(x)
        x[i] -= 2 * epsilon
        gradient[i] = (above - f(x)) / (2 * epsilon)
    return gradient


def difference_undivided(f: Scalar, x: np.ndarray, epsilon: float) -> np.ndarray:
    return 2 * epsilon * finite_difference(f, x, epsilon)


DIFFERENCE = Item(
    name="01.finite_difference",
    title="A gradient without a derivation",
    difficulty=2,
    importance=4,
    minutes=10,
    points=2,
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
            difference_one_sided,
        ),
        Mistake(
            "one_sided",
            "a one-sided difference, wrong in the fifth digit: step both ways, and the error "
            "shrinks with epsilon squared",
            difference_backward,
        ),
        Mistake(
            "factor_two",
            "too large by a factor of 2: the two points are 2·epsilon apart",
            difference_no_two,
        ),
        Mistake(
            "all_at_once",
            "all entries are moved at once: that is one slope in one direction. Move one entry "
            "at a time",
            difference_all_at_once,
        ),
        Mistake(
            "first_axis",
            "right for vectors, wrong for a matrix: there x[i] is a whole row. Visit every entry "
            "(np.ndindex)",
            difference_first_axis,
        ),
        Mistake(
            "not_undone",
            "x is moved and not moved back, so later entries are taken at another point",
            difference_not_undone,
        ),
        Mistake(
            "undivided",
            "a difference is not yet a slope: divide by the distance, 2·epsilon",
            difference_undivided,
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


class ValueOverwrites(Value):
    def __mul__(self, other: Value) -> Value:
        out = type(self)(self.data * other.data, (self, other))

        def push() -> None:
            self.grad = other.data * out.grad
            other.grad = self.data * out.grad

        out.push = push
        return out


class ValueSwapped(Value):
    def __mul__(self, other: Value) -> Value:
        out = type(self)(self.data * other.data, (self, other))

        def push() -> None:
            self.grad += self.data * out.grad
            other.grad += other.data * out.grad

        out.push = push
        return out


class ValueLocal(Value):
    def __mul__(self, other: Value) -> Value:
        out = type(self)(self.data * other.data, (self, other))

        def push() -> None:
            self.grad += other.data
            other.grad += self.data

        out.push = push
        return out


class ValueNoSeed(Value):
    def backward(self) -> None:
        for node in reversed(self.order()):
            node.push()


class ValueForwardOrder(Value):
    def backward(self) -> None:
        self.grad = 1.0
        for node in self.order():
            node.push()


class ValueDepthFirst(Value):
    def backward(self) -> None:
        self.grad = 1.0
        self.descend()

    def descend(self) -> None:
        self.push()
        for parent in self.parents:
            parent.descend()  # type: ignore[attr-defined]


class ValueExponent(Value):
    def exp(self) -> Value:
        out = type(self)(math.exp(self.data), (self,))

        def push() -> None:
            self.grad += self.data * out.grad

        out.push = push
        return out


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
    difficulty=4,
    importance=4,
    minutes=25,
    points=4,
    cases=value_cases,
    reference=Value,
    call=calls.differentiate,
    diagnoses=(
        Mistake(
            "overwrites",
            "a gradient is overwritten where it should be added to: in a·a the same node "
            "receives two shares (+=, not =)",
            ValueOverwrites,
        ),
        Mistake(
            "swapped",
            "the factors are swapped: how fast a·b grows with a is b",
            ValueSwapped,
        ),
        Mistake(
            "local_only",
            "the local slope is passed on without multiplying by out.grad: the chain rule is "
            "a product",
            ValueLocal,
        ),
        Mistake(
            "no_seed",
            "every gradient stays 0: backward must start from d(result)/d(result) = 1",
            ValueNoSeed,
        ),
        Mistake(
            "forward_order",
            "the gradient does not get past the last operation: visit the nodes from the result "
            "back to the leaves (reversed), so that each has its gradient before it pushes",
            ValueForwardOrder,
        ),
        Mistake(
            "counted_twice",
            "a node that is used twice pushes twice: visit each node once, after everything "
            "that uses it",
            ValueDepthFirst,
        ),
        Mistake(
            "exp_slope",
            "the slope of exp is exp itself, which you have already computed: out.data",
            ValueExponent,
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


def _train(forgets: bool = False, squashes: bool = False, broadcasts: bool = False) -> Any:
    """Return the training loop with some of its three bugs."""

    def train(features: Any, labels: Any, lr: float, steps: int) -> tuple[Any, list[float]]:
        import torch

        w = torch.zeros(features.shape[1], 1, requires_grad=True)
        losses = []
        for _ in range(steps):
            logits = features @ w  # (B, 1)
            z = torch.sigmoid(logits) if squashes else logits
            y = labels if broadcasts else labels[:, None]
            loss = (torch.nn.functional.softplus(z) - y * z).mean()
            loss.backward()
            with torch.no_grad():
                w -= lr * w.grad  # type: ignore[operator]
            if not forgets:
                w.grad = None
            losses.append(loss.item())
        return w.detach()[:, 0], losses

    return train


REMAINING = {
    "forgets": "gradients pile up from step to step: they must be cleared after each update",
    "squashes": "the sigmoid is applied twice: this loss wants logits, and squashes them itself",
    "broadcasts": "a column (B, 1) meets a row (B,) and broadcasts to (B, B): every prediction is "
    "compared with every label",
}

TRAIN = Item(
    name="01.train",
    title="Bug hunt: it runs, and it learns nothing",
    difficulty=3,
    importance=5,
    minutes=20,
    points=3,
    cases=train_cases,
    reference=_train(),
    rtol=1e-4,
    atol=1e-5,
    diagnoses=flagged(_train, REMAINING),
)

ITEMS = (BCE, LSE, SOFTMAX, DIFFERENCE, VALUE, TRAIN)
