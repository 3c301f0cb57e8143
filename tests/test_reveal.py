"""What a lesson shows of the library is what the library runs.

A cell tagged ``library:course_utils.module.name`` shows one definition in full. It is compared with
the library's own as syntax trees: comments and line breaks may differ, and so may docstrings and
type annotations, which the lesson's prose stands in for. Everything that is executed may not. A
name may go deeper (``course_utils.batching.BucketSampler.batches``), and a cell may have more than
one such tag.

The same tests run on notebooks that break the rule, so that it is not a rule that cannot fail.
"""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tools.notebooks import ROOT, code_cells, find_pairs, read_notebook, tags, to_notebook

TAG = "library:"
NOTEBOOKS = [pair.notebook for pair in find_pairs() if pair.notebook.exists()]
SOURCES = [pair.source for pair in find_pairs() if pair.source.exists()]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Executed(ast.NodeTransformer):
    """Drop docstrings and type annotations: what is left is what runs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._bare(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._bare(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # The fields of a dataclass are annotations, and they are executed.
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        rest = [n for n in node.body if not isinstance(n, ast.AnnAssign)]
        kept = {id(n): n for n in fields} | {id(n): self.visit(n) for n in rest}
        node.body = [kept[id(n)] for n in node.body]
        node.bases = [_unsubscripted(base) for base in node.bases]
        return _without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is None:
            return None
        return ast.Assign([node.target], node.value, lineno=node.lineno)

    def _bare(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        return _without_docstring(node)


def _unsubscripted(base: ast.expr) -> ast.expr:
    """``Dataset[Example]`` as a base is a note to the type checker: at run time, ``Dataset``."""
    return base.value if isinstance(base, ast.Subscript) else base


def _without_docstring(node: Definition) -> Definition:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return node


def executed(node: Definition) -> str:
    """Canonical text of what a definition executes."""
    copy = ast.parse(ast.unparse(node)).body[0]
    return ast.unparse(ast.fix_missing_locations(Executed().visit(copy)))


def find_definitions(body: list[ast.stmt], names: list[str]) -> list[Definition]:
    """Every definition of ``names[0]`` in a body; inside those, of ``names[1]``; and so on."""
    found = [n for n in body if isinstance(n, Definition) and n.name == names[0]]
    if len(names) == 1:
        return found
    return [inner for node in found for inner in find_definitions(node.body, names[1:])]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def library_definition(dotted: str) -> Definition:
    """Find ``course_utils.module.name`` in the library's source.

    Raises
    ------
    LookupError
        If there is no such definition: it was renamed, or the tag has a typing error.
    """
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        path = ROOT.joinpath(*parts[:cut]).with_suffix(".py")
        if path.is_file():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            # The last one counts: before it come the overloads of a type checker.
            if found := find_definitions(tree.body, parts[cut:]):
                return found[-1]
            break
    raise LookupError(f"the library has no {dotted}")


def differences(notebook: NotebookNode) -> list[str]:
    """Say what each tagged cell shows that is not what the library runs."""
    found = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        for dotted in (t.removeprefix(TAG) for t in sorted(tags(cell)) if t.startswith(TAG)):
            where = f"code cell {number}, {dotted}"
            try:
                library = library_definition(dotted)
                shown = find_definitions(ast.parse(cell.source).body, [library.name])
            except (LookupError, SyntaxError) as error:
                found.append(f"{where}: {error}")
                continue
            if len(shown) != 1:
                found.append(f"{where}: the cell defines it {len(shown)} times, expected once")
            elif executed(shown[0]) != executed(library):
                lines = difflib.unified_diff(
                    executed(library).splitlines(),
                    executed(shown[0]).splitlines(),
                    "library",
                    "lesson",
                    lineterm="",
                )
                found.append("\n".join([f"{where}:", *lines]))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_shows_what_the_library_runs(path: Path):
    assert differences(read_notebook(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_source_shows_what_the_library_runs(path: Path):
    """Also before the notebook is built from it."""
    assert differences(to_notebook(path.read_text(encoding="utf-8"))) == []


# --- the rule can fail ------------------------------------------------------------------------

CUT = "course_utils.batching.cut"
FAITHFUL = '''
def cut(items: list[int], size):
    """Cut."""
    # into pieces
    return [
        items[start : start + size] for start in range(0, len(items), size)
    ]
'''


def shows(source: str, *names: str) -> NotebookNode:
    tagged = new_code_cell(source, metadata={"tags": [TAG + name for name in names]})
    return new_notebook(cells=[new_code_cell("x = 1"), tagged])


def test_comments_layout_docstring_and_annotations_are_free():
    assert differences(shows(FAITHFUL, CUT)) == []
    assert differences(shows(f"import math\n\n{FAITHFUL}\ncut([1, 2], 1)", CUT)) == []


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (FAITHFUL.replace("start + size]", "start + size + 1]"), "+    return [items[start:start"),
        (FAITHFUL.replace("0, len", "1, len"), "+    return"),
        (FAITHFUL.replace("items: list[int], size", "items, size=2"), "+def cut(items, size=2)"),
        (FAITHFUL.replace("items", "rows"), "+def cut(rows, size)"),
        ("@cache\n" + FAITHFUL.strip(), "+@cache"),
        (FAITHFUL + FAITHFUL, "defines it 2 times"),
        ("cut = None", "defines it 0 times"),
        ("def cut(:", "invalid syntax"),
    ],
)
def test_a_changed_copy_is_found(changed, complaint):
    (problem,) = differences(shows(changed, CUT))
    assert problem.startswith(f"code cell 2, {CUT}:")
    assert complaint in problem


def test_a_name_the_library_does_not_have_is_found():
    for name in ("course_utils.batching.gone", "course_utils.gone.cut", "course_utils"):
        (problem,) = differences(shows(FAITHFUL, name))
        assert f"the library has no {name}" in problem


def test_a_cell_without_the_tag_may_show_anything():
    assert differences(new_notebook(cells=[new_code_cell("def cut(): ...")])) == []


def test_a_dataclass_is_compared_field_by_field():
    name = "course_utils.batching.Example"
    example = "@dataclass(frozen=True, slots=True)\nclass Example:\n    index: int\n"
    example += "    input_ids: list[int]\n    label: int | float\n"
    assert differences(shows(example, name)) == []
    for changed in (
        example.replace("    label: int | float\n", ""),
        example.replace("index: int", "index: str"),
        example.replace("frozen=True, ", ""),
        example.replace("    index: int\n    input_ids", "    input_ids: list\n    index"),
    ):
        assert len(differences(shows(changed, name))) == 1


def test_a_method_can_be_shown_alone_or_in_its_class():
    library = library_definition("course_utils.batching.RandomSampler")
    method = "course_utils.batching.RandomSampler.batches"
    whole = ast.unparse(library)
    assert differences(shows(whole, "course_utils.batching.RandomSampler")) == []
    assert differences(shows(ast.unparse(library_definition(method)), method)) == []
    changed = whole.replace("permutation", "integers")
    assert differences(shows(changed, "course_utils.batching.RandomSampler")) != []


def test_two_definitions_in_one_cell():
    names = ("course_utils.datasets.clean_text", "course_utils.datasets.mend_spaces")
    both = "\n\n".join(ast.unparse(library_definition(name)) for name in names)
    assert differences(shows(both, *names)) == []
    (problem,) = differences(shows(both.replace("strip", "lstrip"), *names))
    assert names[1] in problem
