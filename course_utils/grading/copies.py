"""Who gave the same code? A list of pairs for the instructor's eyes, and never a penalty.

Two answers are the same if they are equal after formatting, comments and docstrings are dropped and
all names of their own are replaced by numbers, in the order in which they appear. Two people can
write the same, so short answers are left out, and so is what a tenth of the class wrote alike:
that is how one writes it. Handed-out stubs are no answers.

Left out on purpose: similarity. A score invites a threshold, and a threshold an accusation.
"""

import ast
import builtins
from collections.abc import Iterable
from dataclasses import dataclass

LEAST_NODES = 60  # of the syntax tree
FEW, SHARE = 4, 0.1  # so many may be a pair or a group of copies; more is how one writes it


@dataclass(frozen=True)
class Pair:
    """Two students whose answers to one item are the same code."""

    item: str
    one: str
    other: str


def pairs(sources: dict[str, dict[str, str]]) -> list[Pair]:
    """Return pairs of students who gave the same code, sorted by item.

    Of more than two alike each is paired with the first.

    Parameters
    ----------
    sources : dict
        For each student, for each item, the source of the answer.
    """
    found = []
    for item in sorted({item for answers in sources.values() for item in answers}):
        alike: dict[str, list[str]] = {}
        for student in sorted(sources):
            if form := normal_form(sources[student].get(item, "")):
                alike.setdefault(form, []).append(student)
        answered = sum(map(len, alike.values()))
        for first, *others in alike.values():
            if len(others) < max(FEW, SHARE * answered):
                found += [Pair(item, first, other) for other in others]
    return found


def normal_form(source: str) -> str:
    r"""Return what two copies have in common; empty if it is no answer, or too short to tell.

    Examples
    --------
    >>> one = "def f(a, b):\n    '''Doc.'''\n    c = a + b  # Why.\n    return c" + " + c" * 30
    >>> other = "def f(x, y):\n    z = x + y\n    return z" + "+z" * 30
    >>> normal_form(one) == normal_form(other) != ""
    True
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ""
    if any(_is_stub(node) for node in ast.walk(tree)):
        return ""
    try:
        tree = _Renaming(tree).visit(tree)
        nodes = sum(not isinstance(node, ast.expr_context) for node in ast.walk(tree))
        return ast.dump(tree) if nodes >= LEAST_NODES else ""
    except RecursionError:
        return ""


def _is_stub(node: ast.AST) -> bool:
    if not isinstance(node, ast.Raise) or node.exc is None:
        return False
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


class _Renaming(ast.NodeTransformer):
    """Replaces names that the code itself binds, and drops docstrings."""

    def __init__(self, tree: ast.AST) -> None:
        self.own = set(_bound(tree)) - set(dir(builtins))
        self.numbers: dict[str, str] = {}

    def _new(self, name: str) -> str:
        return self.numbers.setdefault(name, f"_{len(self.numbers)}") if name in self.own else name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._new(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._new(node.arg))  # without its type

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns = self._new(node.name), None
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name, node.body = self._new(node.name), _without_docstring(node.body)
        return self.generic_visit(node)


def _bound(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    match first:
        case ast.Expr(ast.Constant(str())):
            return body[1:] or [ast.Pass()]
    return body


def answers(cells: Iterable[str], targets: Iterable[str]) -> dict[str, str]:
    """Return the last definition of each target in the cells of a notebook, as source."""
    found: dict[str, str] = {}
    wanted = set(targets)
    for cell in cells:
        try:
            body = ast.parse(cell).body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted:
                found[node.name] = ast.get_source_segment(cell, node) or ""
    return found
