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
# A folder inside a subpackage (grading/rules) belongs to single lessons: content, not library.
LIBRARY = [p for p in MODULES if len(p.relative_to(PACKAGE).parts) <= 2 or "sandbox" in p.parts]
MOST_LINES = 250  # blank ones not counted: a module reads in one sitting
# Packed tighter than that, for now. These may shrink and not grow; one that fits leaves the list.
PACKED = {
    "training": 300,
    "inputs": 300,
    "plotting": 275,
}


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


def inner_order(package: Path) -> list[str]:
    """The modules of a subpackage, as its own docstring lists them; empty if it lists none."""
    doc = ast.get_docstring(tree_of(package / "__init__.py")) or ""
    return re.findall(r"^\d+\. `(\w+)`", doc, re.M)


def inner_downward_imports(tree: ast.AST, package: str, module: str, order: list[str]) -> set[str]:
    """What a module of a subpackage imports from it although it does not come before it there.

    `module` is the name below the subpackage (``wire``, or ``calls.lesson_01`` in a folder of it).
    """
    top, *inside = module.split(".")
    allowed = set(order[: order.index(top) + bool(inside)])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == f"course_utils.{package}":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        prefix = f"course_utils.{package}."
        found |= {name.removeprefix(prefix).split(".")[0] for name in names if prefix in name}
    return found - allowed


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


ORDERED = {  # subpackages whose own docstring gives an order
    path.parent: inner_order(path.parent)
    for path in MODULES
    if path.stem == "__init__" and path.parent.parent == PACKAGE and inner_order(path.parent)
}


def test_subpackages_give_an_order():
    assert [package.name for package in ORDERED] == ["grading", "own_data", "serving"]


@pytest.mark.parametrize("package", ORDERED, ids=lambda package: package.name)
def test_inner_reading_order_lists_every_module_once(package):
    parts = {
        path.relative_to(package).parts[0].removesuffix(".py")
        for path in MODULES
        if path.is_relative_to(package) and path != package / "__init__.py"
    }
    assert sorted(ORDERED[package]) == sorted(parts)


@pytest.mark.parametrize(
    ("package", "path"),
    [
        (package, path)
        for package in ORDERED
        for path in MODULES
        if path.is_relative_to(package) and path != package / "__init__.py"
    ],
    ids=lambda path: name_of(path),
)
def test_inner_imports_point_upward_only(package, path):
    module = _module(path).removeprefix(f"{package.name}.")
    order = ORDERED[package]
    assert not inner_downward_imports(tree_of(path), package.name, module, order)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_imports_the_answer_book(path):
    """Students do not have it. Who needs it asks `grading.items`, which says so."""
    for node in ast.walk(tree_of(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "answer_book" for name in names)


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
    assert lines_of(path) <= PACKED.get(name_of(path), MOST_LINES)


def lines_of(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines())


def test_no_exception_outlives_its_need():
    for name in PACKED:
        assert lines_of(PACKAGE / f"{name.replace('.', '/')}.py") > MOST_LINES, name


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


@pytest.mark.parametrize(
    "source",
    [
        "from course_utils.grading.items import x",
        "from course_utils.grading import items",
        "import course_utils.grading.items",
        "from course_utils.grading.checks import x",
        "def f():\n    from course_utils.grading.items import x",
    ],
)
def test_downward_import_inside_a_subpackage_is_found(source):
    order = ["wire", "checks", "items"]
    assert inner_downward_imports(ast.parse(source), "grading", "checks", order)


@pytest.mark.parametrize("module", ["checks", "rules.lesson_01", "rules.__init__"])
def test_upward_imports_inside_a_subpackage_pass(module):
    order = ["wire", "checks", "rules", "items"]
    source = "from course_utils.grading import wire\nfrom course_utils.grading.wire import x"
    assert not inner_downward_imports(ast.parse(source), "grading", module, order)


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
