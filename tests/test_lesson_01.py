"""Lesson 01 notices a wrong gradient: each mistake below makes one of its claims fail."""

from __future__ import annotations

from typing import Any

import pytest
from nbformat import NotebookNode

from course_utils.claims import ClaimError
from tools.notebooks import ROOT, code_cells, to_notebook

SOURCE = ROOT / "notebooks" / "source" / "01_gradients.md"
# What a student, or an editor of the lesson, might get wrong: correct code, broken code, and
# words of the claim that has to fail.
MISTAKES = {
    "sign of the gradient": ("@ theta) - y) / len(y)", "@ theta) + y) / len(y)", "algebra and"),
    "mean forgotten": ("@ theta) - y) / len(y)", "@ theta) - y)", "algebra and autograd"),
    "difference one-sided": ("function(at - step)) / (2 * h)", "function(at)) / h", "first link"),
    "sign in the loss": ("zeros_like(z)) - y * z", "zeros_like(z)) + y * z", "fused loss equals"),
    "softmax: sign": ("dim=1) - F.one_hot", "dim=1) + F.one_hot", "(P - Y) / B: algebra"),
    "softmax: mean forgotten": (
        "F.one_hot(labels, logits.shape[1])) / len(labels)",
        "F.one_hot(labels, logits.shape[1]))",
        "(P - Y) / B: algebra",
    ),
    "maximum not subtracted": ("torch.exp(z - m)", "torch.exp(z)", "log-sum-exp"),
    "engine overwrites": ("parent.grad += gradient", "parent.grad = gradient", "a b + a"),
    "engine: tanh": ("(1 - value**2)", "(1 + value**2)", "the first matrix"),
    "engine: factors swapped": (
        "(g * b.value, g * a.value)",
        "(g * a.value, g * b.value)",
        "a b + a",
    ),
    "step uphill": ("theta -= lr * x_train.T", "theta += lr * x_train.T", "lowers the loss"),
}


def run(cells: list[NotebookNode], until: str = "") -> dict[str, Any]:
    """Execute cells in order, as far as the one that contains `until`; return their names."""
    names: dict[str, Any] = {"__name__": "lesson"}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell.source, f"In [{number}]", "exec"), names)
        if until and until in cell.source:
            break
    return names


def lesson(correct: str, broken: str) -> list[NotebookNode]:
    """The lesson's code cells, with one piece of code replaced."""
    cells = code_cells(to_notebook(SOURCE.read_text(encoding="utf-8")))
    # Slow, and not needed: the times, and a widget that wants a notebook.
    cells = [c for c in cells if "perf_counter" not in c.source and "interact(" not in c.source]
    found = sum(cell.source.count(correct) for cell in cells)
    assert found == 1, f"the lesson has {correct!r} {found} times: bring this test up to date"
    for cell in cells:
        cell.source = cell.source.replace(correct, broken)
    return cells


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake: str) -> None:
    correct, broken, statement = MISTAKES[mistake]
    with pytest.raises(ClaimError, match="not true here") as failure:
        run(lesson(correct, broken))
    assert statement in str(failure.value)


@pytest.mark.slow
def test_answer_to_the_question_about_the_engine() -> None:
    """What "Check yourself" says of an engine that overwrites: 4, and P / B."""
    cells = lesson("parent.grad += gradient", "parent.grad = gradient")
    cells = [c for c in cells if not c.source.startswith("claim(")]
    names = run(cells, until="engine_gap =")
    node, torch = names["logits_node"], names["torch"]
    probabilities = torch.softmax(names["class_logits"], dim=1)
    assert torch.allclose(torch.tensor(node.grad), probabilities / len(names["labels"]))
    a, b = names["Node"](3.0), names["Node"](4.0)
    names["backward"](names["add"](names["multiply"](a, b), a))
    assert a.grad == 4
