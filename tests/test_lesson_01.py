"""Lesson 01 notices a mistake: each one below makes one of its claims fail.

The lesson is four notebooks: 01 and its neighbours 01a, 01b and 01c.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lesson_code import between, code_of, failing_claim, run, with_mistake

GRADIENTS = "01_gradients"
ENGINE = "01a_a_differentiation_engine"
STEPS = "01b_stochastic_gradients_and_adam"
ARITHMETIC = "01c_where_the_arithmetic_fails"
# What a student, or an editor of the lesson, might get wrong: the notebook, correct code, broken
# code, and words of the claim that has to fail.
MISTAKES = {
    "sign of the gradient": (
        GRADIENTS,
        "@ theta) - y) / len(y)",
        "@ theta) + y) / len(y)",
        "algebra and",
    ),
    "mean forgotten": (
        GRADIENTS,
        "@ theta) - y) / len(y)",
        "@ theta) - y)",
        "algebra and autograd",
    ),
    "difference one-sided": (
        GRADIENTS,
        "function(at - step)) / (2 * h)",
        "function(at)) / h",
        "first link",
    ),
    "a charge that is not minus log": (
        GRADIENTS,
        '"-log": bce',
        '"-log": lambda p, y: (p - y) ** 2',
        "sure and wrong",
    ),
    "a charge that is honest": (
        GRADIENTS,
        "(p - y).abs()",
        "(p - y) ** 2",
        "to be certain",
    ),
    "nothing detached": (GRADIENTS, "(w * w.detach())", "(w * w)", "half of it is lost"),
    "one step uphill": (
        GRADIENTS,
        "z_review - 4 * 0.5",
        "z_review + 4 * 0.5",
        "lowers its charge",
    ),
    "sign in the loss": (
        GRADIENTS,
        "zeros_like(z)) - y * z",
        "zeros_like(z)) + y * z",
        "fused loss equals",
    ),
    "softmax: sign": (
        GRADIENTS,
        "dim=1) - F.one_hot",
        "dim=1) + F.one_hot",
        "(P - Y) / B: algebra",
    ),
    "softmax: mean forgotten": (
        GRADIENTS,
        "F.one_hot(labels, logits.shape[1])) / len(labels)",
        "F.one_hot(labels, logits.shape[1]))",
        "(P - Y) / B: algebra",
    ),
    "maximum not subtracted": (GRADIENTS, "torch.exp(z - m)", "torch.exp(z)", "log-sum-exp"),
    "no softmax too many": (
        GRADIENTS,
        "    return F.cross_entropy(torch.softmax(logits, dim=1), labels)",
        "    return F.cross_entropy(logits, labels)",
        "hardly corrected",
    ),
    "step uphill": (
        GRADIENTS,
        "theta -= lr * x_train.T",
        "theta += lr * x_train.T",
        "lowers the loss",
    ),
    "learned from flipped labels": (
        GRADIENTS,
        "(torch.sigmoid(z) - y_train) / divide_by",
        "(torch.sigmoid(z) - (1 - y_train)) / divide_by",
        "lowers the loss",
    ),
    "learned nothing": (
        GRADIENTS,
        "return theta, losses",
        "return 0 * theta, losses",
        "on unseen reviews, its loss",
    ),
    "engine overwrites": (ENGINE, "parent.grad += gradient", "parent.grad = gradient", "a b + a"),
    "engine: wrong order": (
        ENGINE,
        "reversed(topological_order(result))",
        "topological_order(result)",
        "a b + a",
    ),
    "engine: tanh": (ENGINE, "(1 - value**2)", "(1 + value**2)", "the first matrix"),
    "engine: factors swapped": (
        ENGINE,
        "(g * b.value, g * a.value)",
        "(g * a.value, g * b.value)",
        "a b + a",
    ),
    "engine: a mean over the rows": (ENGINE, "g.sum(axis=extra)", "g.mean(axis=extra)", "the bias"),
    "engine: uphill": (ENGINE, "-= lr * gradients", "+= lr * gradients", "by heart"),
    "steps: a sum for a mean": (STEPS, "@ theta) - y) / len(y)", "@ theta) - y)", "square root"),
    "steps: rows not at random": (
        STEPS,
        "torch.randint(N, (B,), generator=generator)",
        "y_train.argsort()[torch.randint(N // 2, (B,), generator=generator)]",
        "square root",
    ),
    "steps: one draw for the mean": (
        STEPS,
        "(g.mean(dim=0) - full)",
        "(g[0] - full)",
        "no bias",
    ),
    "steps: the rate does not fall": (STEPS, "rate * (1 - done", "rate * (1 - 0 * done", "settles"),
    "steps: validation labels flipped": (
        STEPS,
        "x_validation @ theta, y_validation).item()",
        "x_validation @ theta, 1 - y_validation).item()",
        "better for it",
    ),
    "steps: momentum averages": (
        STEPS,
        "self.mu * self.u + g",
        "self.mu * self.u + (1 - self.mu) * g",
        "torch.optim.SGD's",
    ),
    "steps: Adam uncorrected": (
        STEPS,
        "m_hat = self.m / (1 - self.beta1**number)",
        "m_hat = self.m",
        "torch.optim.Adam",
    ),
    "steps: Adam is SGD": (
        STEPS,
        "torch.optim.Adam(parameters, lr=lr)",
        "torch.optim.SGD(parameters, lr=lr)",
        "torch.optim.Adam",
    ),
    "steps: batches count alike": (
        STEPS,
        "piece.mean() * len(piece)",
        "piece.mean() * 16",
        "by size",
    ),
    "arithmetic: kinks smoothed": (
        ARITHMETIC,
        "z.clamp(min=0) - y * z + torch.log1p(torch.exp(-z.abs()))",
        "torch.nn.functional.softplus(z) - y * z",
        "differ at 0 only",
    ),
    "arithmetic: no softmax too many": (
        ARITHMETIC,
        "    return F.cross_entropy(torch.softmax(logits, dim=1), labels)",
        "    return F.cross_entropy(logits, labels)",
        "by its Jacobian",
    ),
    "arithmetic: nothing learned at the higher rate": (
        ARITHMETIC,
        "descend_three(softmax_first, lr=3.0)",
        "descend_three(softmax_first, lr=0.0)",
        "at three times the rate",
    ),
}


def lesson(stem: str) -> list[str]:
    """A notebook's code, without the times, which are slow, and a widget that wants a notebook."""
    return [c for c in code_of(stem) if "perf_counter" not in c and "_stepper(" not in c]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake: str) -> None:
    stem, correct, broken, statement = MISTAKES[mistake]
    assert statement in failing_claim(with_mistake(lesson(stem), correct, broken))


@pytest.mark.slow
def test_answer_to_the_question_about_the_engine() -> None:
    """What "Check yourself" says of an engine that overwrites: 4, and P / B."""
    cells = with_mistake(lesson(ENGINE), "parent.grad += gradient", "parent.grad = gradient")
    cells = [c for c in cells if not c.startswith("claim(")]
    names = run(between(cells, "", "engine_gap ="))
    node, e = names["class_logits"], names["e"]
    probabilities = e / e.sum(axis=1, keepdims=True)
    assert abs(node.grad - probabilities / len(names["labels"])).max() < 1e-12
    a, b = names["Node"](3.0), names["Node"](4.0)
    names["backward"](names["add"](names["multiply"](a, b), a))
    assert a.grad == 4


@pytest.fixture
def engine() -> dict[str, Any]:
    return run(between(lesson(ENGINE), "", "def backward(result)"))


def test_answer_to_the_trap_of_the_second_backward(engine: dict[str, Any]) -> None:
    a, b = engine["Node"](3.0), engine["Node"](4.0)
    f = engine["add"](engine["multiply"](a, b), a)
    engine["backward"](f)
    engine["backward"](f)
    assert a.grad == 14


def test_answer_to_the_trap_of_the_walk_breadth_first(engine: dict[str, Any]) -> None:
    a, b = engine["Node"](3.0), engine["Node"](4.0)
    c = engine["add"](a, a)
    f = engine["add"](c, engine["multiply"](c, b))
    f.grad, waiting, seen = 1.0, [f], {f}
    while waiting:
        node = waiting.pop(0)
        for parent, gradient in zip(node.parents, node.pull(node.grad), strict=True):
            parent.grad = parent.grad + gradient
            waiting += [parent] if parent not in seen else []
            seen.add(parent)
    assert a.grad == 2
    for node in (a, b, c, f, *f.parents):
        node.grad = 0.0
    engine["backward"](f)
    assert a.grad == 10
