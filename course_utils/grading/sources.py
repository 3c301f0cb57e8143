"""Read an answer's code without running it: what belongs to it, what library it calls.

`answer_code` follows names from the object that an item asks for to whatever it uses in the
notebook. `library_calls` looks in there for the library's own solution: imported under any name,
reached through its module, or named in a string that could be handed to ``getattr``,
``importlib`` or ``exec``. It reads text and executes nothing.

What it does not see: a name put together from pieces while the notebook runs. That one is met by
`withheld`, beside the answer.
"""

import ast
import functools
import symtable
from collections.abc import Iterable, Sequence

Statement = tuple[ast.stmt, set[str], set[str]]  # and the names that it binds, and uses
MOST_KEPT = 5_000  # characters of a cell that is remembered: a syntax tree is large


def statements(cell: str) -> list[ast.stmt]:
    """Return the statements of a cell; one that is not Python has none.

    Lines of IPython's own (``%``, ``!``, ``?``) are left out.
    """
    lines = [line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
    try:
        return ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []


def bound_and_used(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """Return the names of the notebook that a statement gives a value, and those that it reads.

    What is local to a function is neither; Python's own symbol tables know.
    """
    try:
        tables = [symtable.symtable(ast.unparse(statement), "cell", "exec")]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return set(), set()
    bound, used = set(), set()
    for table in tables:  # grows while we walk it
        tables += table.get_children()
        whole = table.get_type() == "module"
        for symbol in table.get_symbols():
            if whole or symbol.is_global():
                if symbol.is_assigned() or symbol.is_imported():
                    bound.add(symbol.get_name())
                if symbol.is_referenced():
                    used.add(symbol.get_name())
    return bound, used


@functools.lru_cache(maxsize=100)  # a notebook has some twenty
def read_cell(cell: str) -> list[Statement]:
    """Return the statements of a cell, each with the names that it binds and uses.

    A cell is asked for with every item, and many students have the same: the last ones are
    remembered. Nobody may change what is returned.
    """
    return [(each, *bound_and_used(each)) for each in statements(cell)]


def answer_code(cells: Iterable[str], target: str) -> list[ast.stmt]:
    r"""Return the statements that the object `target` is made of and uses, in their order.

    Examples
    --------
    >>> cells = ["import math\nunused = 1", "def f(x): return g(x)", "g = math.exp"]
    >>> [ast.unparse(s).split("(")[0] for s in answer_code(cells, "f")]
    ['import math', 'def f', 'g = math.exp']
    """
    every: list[Statement] = []
    for cell in cells:
        every += read_cell(cell) if len(cell) <= MOST_KEPT else read_cell.__wrapped__(cell)
    by_name: dict[str, list[int]] = {}
    for index, (_, bound, _) in enumerate(every):
        for name in bound:
            by_name.setdefault(name, []).append(index)
    waiting, seen = [target], {target}
    chosen = {index for index, (statement, _, _) in enumerate(every) if _is_star(statement)}
    while waiting:
        for index in by_name.get(waiting.pop(), []):
            if index not in chosen:
                chosen.add(index)
                new = every[index][2] - seen
                waiting += new
                seen |= new
    return [every[index][0] for index in sorted(chosen)]


def _is_star(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"


def library_calls(cells: Iterable[str], target: str, withheld: Sequence[str]) -> list[str]:
    """Return which of the withheld functions the code of an answer reaches.

    Parameters
    ----------
    cells : iterable of str
    target : str
        The object that the item asks for.
    withheld : sequence of str
        Such as ``"course_utils.intervals.mcnemar"``.

    Examples
    --------
    >>> cells = ["import course_utils.intervals as m", "def p(a, b): return m.mcnemar(a, b).p"]
    >>> library_calls(cells, "p", ["course_utils.intervals.mcnemar"])
    ['course_utils.intervals.mcnemar']
    """
    code = answer_code(cells, target)
    meaning = _imports(code)
    nodes = [node for statement in code for node in ast.walk(statement)]
    prose = _prose(nodes)
    found: set[str] = set()
    for node in nodes:
        if id(node) not in prose:
            found |= _reached(node, meaning, withheld)
    return sorted(found)


def _prose(nodes: Sequence[ast.AST]) -> set[int]:
    """Return which strings only stand there, as docstrings do, where no code asks for these."""
    if any("__doc__" in (_text(node), getattr(node, "attr", "")) for node in nodes):
        return set()
    return {id(n.value) for n in nodes if isinstance(n, ast.Expr) and _text(n.value)}


def _text(node: ast.AST) -> str:
    """Return a string constant's text; empty for any other node."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else ""  # type: ignore[attr-defined]


def _imports(code: Sequence[ast.stmt]) -> dict[str, set[str]]:
    """Return what each name that is imported anywhere in the code may stand for."""
    meaning: dict[str, set[str]] = {}
    for node in (node for statement in code for node in ast.walk(statement)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                meaning.setdefault(name, set()).add(alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                meaning.setdefault(alias.asname or alias.name, set()).add(whole)
    return meaning


def _reached(node: ast.AST, meaning: dict[str, set[str]], withheld: Sequence[str]) -> set[str]:
    """Return which of the withheld functions one node names."""
    if isinstance(node, ast.Name | ast.Attribute):
        return _dotted(node, meaning) & set(withheld)
    if isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        stars = {name for name in withheld if f"{name.rpartition('.')[0]}.*" in names}
        return (names & set(withheld)) | stars
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = set(node.value.replace("(", " ").replace(".", " ").split())
        module = node.value.strip()
        return {
            name
            for name in withheld
            if name.rpartition(".")[2] == module
            or ((name.rpartition(".")[0] in node.value) and name.rpartition(".")[2] in words)
        }
    return set()


def _dotted(node: ast.expr, meaning: dict[str, set[str]]) -> set[str]:
    """Return the full names that ``a.b.c`` may stand for."""
    if isinstance(node, ast.Name):
        return meaning.get(node.id, set())
    if isinstance(node, ast.Attribute):
        return {f"{base}.{node.attr}" for base in _dotted(node.value, meaning)}
    return set()
