"""What the package's own docstring promises about its modules, read from the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import course_utils

PACKAGE = Path(course_utils.__file__).resolve().parent
READING_ORDER = re.findall(r"^\d+\. `(\w+)`", course_utils.__doc__ or "", re.M)
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
# A folder inside a subpackage (grading/items) holds exercises: content, not library.
LIBRARY = [p for p in MODULES if len(p.relative_to(PACKAGE).parts) <= 2 or "sandbox" in p.parts]
MOST_LINES = 450  # blank ones not counted: a module reads in one sitting


def name_of(path: Path) -> str:
    """The name below the package: ``batching``, ``grading.wire``, ``grading`` for its __init__."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.AST) -> set[str]:
    """Modules of this package that are imported anywhere in a tree, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("course_utils." if node.level else "") + (node.module or "")
            base = base.rstrip(".")
            names = [f"{base}.{a.name}" for a in node.names] if base == "course_utils" else [base]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("course_utils.")}
    return found


def downward_imports(tree: ast.AST, module: str, order: list[str]) -> set[str]:
    """What `module` imports although it does not come before it in the reading order.

    A module inside a subpackage (``grading.wire``) may import from that subpackage.
    """
    top, *inner = module.split(".")
    allowed = set(order[: order.index(top) + bool(inner)])
    return imported_modules(tree) - allowed


def public_definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes, and the public methods of those classes."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append(node)
            found += public_definitions(node) if isinstance(node, ast.ClassDef) else []
    return found


def is_overload(node: ast.AST) -> bool:
    names = [getattr(d, "id", "") for d in getattr(node, "decorator_list", [])]
    return "overload" in names


def unannotated(function: ast.FunctionDef) -> list[str]:
    """Parameters without a type, and ``return`` if that has none."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a]
    bare = [a.arg for a in every if a.annotation is None and a.arg not in ("self", "cls")]
    return bare + ["return"] * (function.returns is None)


def test_import_is_light():
    code = "import sys; import course_utils; print(*sys.modules, sep='\\n')"
    bare = "import sys; print(*sys.modules, sep='\\n')"
    before, after = (
        set(
            subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for program in (bare, code)
    )
    assert "course_utils" in after
    assert "torch" not in after
    assert after - before == {"course_utils"}  # not even its own modules


def test_reading_order_lists_every_module_once():
    """A new module is added to the list in the docstring of `course_utils/__init__.py`."""
    assert sorted(READING_ORDER) == sorted({name_of(path).split(".")[0] for path in MODULES})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_upward_only(path):
    if name_of(path).split(".")[0] in READING_ORDER:  # the test above says if not
        assert not downward_imports(tree_of(path), _module(path), READING_ORDER)


def _module(path: Path) -> str:
    """`name_of`, but a subpackage's __init__ counts as inside: it may import from its parts."""
    return name_of(path) + (".__init__" if path.stem == "__init__" else "")


def test_no_module_imports_the_package_for_its_names():
    """``from course_utils import x`` of anything but a module would need a fuller __init__."""
    names = {name_of(path).split(".")[0] for path in MODULES}
    for path in MODULES:
        assert imported_modules(tree_of(path)) <= names, name_of(path)


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_public_things_are_documented_and_typed(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in public_definitions(tree):
        if is_overload(node):
            continue
        assert ast.get_docstring(node), f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            assert not unannotated(node), f"{node.name}: {unannotated(node)}"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_modules_are_short(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


# -- the rules above can fail -------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "from course_utils.b import x",
        "import course_utils.c",
        "from course_utils import c",
        "from .b import x",
        "from . import c",
        "def f():\n    from course_utils.b import x",
        "if TYPE_CHECKING:\n    from course_utils.unlisted import x",
    ],
)
def test_downward_import_is_found(source):
    assert downward_imports(ast.parse(source), "b", ["a", "b", "c"])


@pytest.mark.parametrize("module", ["b.inner", "b.__init__"])
def test_a_subpackage_may_import_its_own_parts(module):
    order = ["a", "b", "c"]
    assert not downward_imports(ast.parse("from course_utils.b.wire import x"), module, order)
    assert downward_imports(ast.parse("from course_utils.c import x"), module, order) == {"c"}


def test_upward_and_foreign_imports_pass():
    source = "import torch\nfrom course_utils.a import x\nfrom course_utils import a\nimport b"
    assert not downward_imports(ast.parse(source), "b", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ("def f(x: int) -> int: ...", []),
        ("def f(x, *, y: int) -> int: ...", ["x"]),
        ("def f(*args: int, **kwargs): ...", ["kwargs", "return"]),
        ("def f(self) -> None: ...", []),
    ],
)
def test_missing_types_are_found(source, bare):
    [function] = ast.parse(source).body
    assert unannotated(function) == bare


def test_methods_are_looked_at():
    source = "class A:\n    def f(self): ...\n    def _g(self): ...\n\ndef _h(): ..."
    assert [node.name for node in public_definitions(ast.parse(source))] == ["A", "f"]
