"""Which answers are the same code? A list of pairs for the instructor's eyes, never a penalty.

Answers are compared after renaming: names become numbers in the order in which they appear, and
comments, docstrings, annotations and layout are dropped. Short answers are the same by necessity,
so they are left out, and so is what dozens have in common. What several have weighs little: a
pair's weight is the sum over its items of how rare that code is in the class.
"""

import ast
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from course_utils.grading.sources import answer_code

MOST_ALIKE = 30  # what more than these have in common is how one writes it: no pairs of it
FEWEST_NODES = 40  # of a syntax tree: two lines of arithmetic have about so many


@dataclass(frozen=True)
class Pair:
    """Two students with the same code.

    Attributes
    ----------
    first, second : str
    items : tuple of str
        Those in which their code is the same.
    weight : float
        In bits: two answers that nobody else has in a class of 32 weigh 4 an item.
    """

    first: str
    second: str
    items: tuple[str, ...]
    weight: float


def pairs(sources: Mapping[str, Mapping[str, str]], fewest: int = FEWEST_NODES) -> list[Pair]:
    r"""Return all pairs of students who share code, the most remarkable first.

    Parameters
    ----------
    sources : dict of str to dict of str to str
        Of each student the source of each item's answer (see `answer_source`).
    fewest : int
        Nodes in the syntax tree of an answer that is long enough to be compared.

    Examples
    --------
    >>> one = "def f(x):\n    total = 0\n    for a in x: total += a * a\n    return total"
    >>> two = "def f(values):  # mine\n  s = 0\n  for v in values: s += v * v\n  return s"
    >>> pairs({"ada": {"01.f": one}, "bob": {"01.f": two}}, fewest=5)
    [Pair(first='ada', second='bob', items=('01.f',), weight=0.0)]
    """
    having: dict[tuple[str, str], list[str]] = defaultdict(list)  # item and form -> students
    for student, answers in sorted(sources.items()):
        for item, source in answers.items():
            form, nodes = normal_form(source)
            if nodes >= fewest:
                having[item, form].append(student)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    weight: dict[tuple[str, str], float] = defaultdict(float)
    for (item, _), students in sorted(having.items()):
        if len(students) > MOST_ALIKE:
            continue
        for pair in combinations(students, 2):
            shared[pair].append(item)
            weight[pair] += math.log2(len(sources) / len(students))
    found = [Pair(*pair, tuple(items), round(weight[pair], 2)) for pair, items in shared.items()]
    return sorted(found, key=lambda pair: (-pair.weight, -len(pair.items), pair.first, pair.second))


def answer_source(cells: Sequence[str], target: str) -> str:
    """Return the code of an answer: its definition and what that uses, but for imports."""
    code = answer_code(cells, target)
    kept = [s for s in code if not isinstance(s, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(statement) for statement in kept)


def normal_form(source: str) -> tuple[str, int]:
    r"""Return code with all that renaming and formatting can change taken out, and its nodes.

    Examples
    --------
    >>> normal_form("def f(x: int): 'doc'; return x + 1")[0]
    'def v0(v1):\n    return v1 + 1'
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "", 0
    renamed = _Renamed()
    tree = renamed.visit(tree)
    return ast.unparse(tree), sum(1 for _ in ast.walk(tree))


class _Renamed(ast.NodeTransformer):
    """Number the names that the code itself binds, in order of appearance; drop mere words."""

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}

    def number(self, name: str) -> str:
        return self.numbers.setdefault(name, f"v{len(self.numbers)}")

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.bound = {n.id for n in ast.walk(node) if _binds(n)} | {  # type: ignore[attr-defined]
            n.arg for n in ast.walk(node) if isinstance(n, ast.arg)
        }
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        self.bound |= {n.name for n in ast.walk(node) if isinstance(n, kinds)}
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = node.name if node.name.startswith("__") else self.number(node.name)
        node.returns = None
        node.body = _without_words(node.body)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name, node.body = self.number(node.name), _without_words(node.body)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self.number(node.arg))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        plain = ast.Assign([node.target], node.value)
        return self.generic_visit(ast.copy_location(plain, node))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.bound:
            node.id = self.number(node.id)
        return node


def _binds(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _without_words(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return a body without docstrings and other strings that do nothing."""

    def does_nothing(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)

    return [statement for statement in body if not does_nothing(statement)] or [ast.Pass()]
