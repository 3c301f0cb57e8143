"""What a notebook finds around its code: ``get_ipython()``, magics, ``display``, ``input``.

IPython's transformer turns ``%time f()`` into ``get_ipython().run_line_magic("time", "f()")``, and
`Shell` is what ``get_ipython()`` returns here. Magics that run code run it. What only shows
something, sets up the page or talks to the system does nothing.

Left out on purpose: IPython's own shell. It starts programs, keeps a history in a file, and repeats
``%timeit`` for seconds.
"""

import ast
import builtins
import codeop
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

# These need no % where they are a cell's only line; what follows the name tells them from Python.
BARE_MAGIC = re.compile(
    r"(cd|conda|config|env|load_ext|ls|matplotlib|pip|pwd|reload_ext|time|timeit|who|whos)"
    r"(?:[ \t]+[^\s=.,:()\[\]*/%&|^@<>!+].*)?"
)
TIMEIT_OPTIONS = re.compile(r"(?:-(?:[nrp]\s*\d+|[tcqov]+)(?:\s+|$))*")
NO_INPUT = (
    "input({}) has nobody to answer it when a notebook is run from top to bottom. Write the value "
    "into the cell instead, such as  name = 'Ada'"
)


class Ignored:
    """Whatever else is asked of the shell: attributes and calls without an effect."""

    def __getattr__(self, name: str) -> "Ignored":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> "Ignored":
        """Do nothing."""
        return self


class Shell:
    """The part of IPython's shell that changes what a notebook computes.

    Parameters
    ----------
    namespace : dict
        Where the cells run. ``In``, ``Out``, ``_`` and their like are put there.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.user_ns = self.user_global_ns = namespace
        self.config: dict[str, Any] = {}
        self.execution_count = 0
        self.quiet = False  # the cell ends with a semicolon
        self.compiler = codeop.Compile()  # keeps ``from __future__ import`` for later cells
        self.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.inputs = [""]
        self.outputs: dict[int, Any] = {}
        self.last = {"_": "", "__": "", "___": ""}  # as they are, unless students use the names
        namespace |= {"In": self.inputs, "_ih": self.inputs, "Out": self.outputs}
        namespace |= {"_oh": self.outputs, "get_ipython": self.get, "display": display, **self.last}

    def __getattr__(self, name: str) -> Ignored:
        if name.startswith("__"):
            raise AttributeError(name)
        return Ignored()

    def get(self) -> "Shell":
        """Be ``get_ipython``."""
        return self

    def lend(self) -> None:
        """Put in their places the functions that IPython's kernel replaces."""
        for name, own in {"input": no_input, "display": display, "get_ipython": self.get}.items():
            setattr(builtins, name, own)
        sys.displayhook = self.show

    def lend_to_ipython(self) -> None:
        """Do the same for students who import them, and for IPython itself."""
        import IPython
        import IPython.display
        from IPython.core import getipython

        for module in (IPython, getipython):
            vars(module)["get_ipython"] = self.get
        own = sys.modules[IPython.display.display.__module__]  # where it is varies with versions
        for module in (IPython.display, own):
            vars(module)["display"] = display

    def begin(self, source: str) -> None:
        """Take note of a cell that is about to run."""
        self.execution_count += 1
        self.inputs.append(source)
        self.quiet = source.rstrip().endswith(";")

    def show(self, value: Any) -> None:
        """Keep the value of a cell's last line, as ``_`` and in ``Out``."""
        if value is None or self.quiet:
            return
        space, last = self.user_ns, self.last
        if all(space.get(name) is last[name] for name in last):
            self.last = {"_": value, "__": last["_"], "___": last["__"]}
            space.update(self.last)
        self.outputs[self.execution_count] = space[f"_{self.execution_count}"] = value

    # --- Python that may hold magics --------------------------------------------------------

    def to_python(self, source: str) -> str:
        r"""Return a cell as Python: its magics and shell lines become calls of this shell.

        Examples
        --------
        >>> Shell({}).to_python("x = 7 % 2")
        'x = 7 % 2'
        >>> Shell({}).to_python("%matplotlib inline")
        "get_ipython().run_line_magic('matplotlib', 'inline')\n"
        """
        try:
            ast.parse(source)
            if not BARE_MAGIC.fullmatch(source.strip()):
                return source  # importing IPython takes 0.05 s: most cells do without
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            pass
        bare = BARE_MAGIC.fullmatch(source.strip())
        if bare and bare[1] not in self.user_ns:
            source = f"%{source.strip()}"
        from IPython.core.inputtransformer2 import TransformerManager

        self.lend_to_ipython()
        blank = source[: len(source) - len(source.lstrip())].count("\n")  # it would leave them out
        return "\n" * blank + str(TransformerManager().transform_cell(source))

    def compile_parts(self, source: str, name: str) -> list[CodeType]:
        """Compile Python in two: all but the last line, and this if it is an expression.

        The second part hands its value to `show`. Either may be a coroutine's code.
        """
        body = ast.parse(source, name).body
        last = [body.pop()] if body and isinstance(body[-1], ast.Expr) else []
        compiler: Any = self.compiler  # it takes trees as well as text
        parts = [compiler(ast.Module(body, []), name, "exec")]
        return parts + [compiler(ast.Interactive([one]), name, "single") for one in last]

    def evaluate(self, source: str, space: dict[str, Any]) -> Any:
        """Run the code of a line magic; return the value of its last line if it has one."""
        body = ast.parse(self.to_python(source)).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), "<magic>", "exec"), space)
        if isinstance(last, ast.Expr):
            return eval(compile(ast.Expression(last.value), "<magic>", "eval"), space)
        return None

    # --- magics -----------------------------------------------------------------------------

    def run_line_magic(self, name: str, line: str, *_: Any, **__: Any) -> Any:
        """Do what ``%name line`` does, if that is anything to the computation."""
        if name in ("time", "prun"):
            return self.evaluate(line, self.user_ns)
        if name == "timeit":
            return self.timeit(line)
        if name in ("env", "set_env") and "=" in line:
            variable, value = line.split("=", 1)
            os.environ[variable.strip()] = value.strip()
        return None

    def timeit(self, line: str, body: str | None = None) -> Any:
        """Run what is to be timed once, in a scope of its own; ``-o`` returns the result."""
        found = TIMEIT_OPTIONS.match(line)
        options, rest = (found[0], line[found.end() :]) if found else ("", line)
        space = dict(self.user_ns)  # as in a function: what is assigned there is not kept
        if body is not None:
            self.evaluate(rest, space)
        began = time.perf_counter()
        self.evaluate(rest if body is None else body, space)
        took = time.perf_counter() - began
        if "o" not in options:
            return None
        from IPython.core.magics.execution import TimeitResult

        return TimeitResult(1, 1, took, took, [took], 0.0, 3)

    def run_cell_magic(self, name: str, line: str, body: str) -> Any:
        """Do what ``%%name line`` does to a cell's other lines, but for `WRAPPERS`."""
        if name in WRAPPERS:
            return self.evaluate(body, self.user_ns)
        if name == "timeit":
            return self.timeit(line, body)
        if name in ("writefile", "file"):
            *options, path = line.split()
            with Path(path.strip("\"'")).open("a" if "-a" in options else "w") as file:
                file.write(body)
        return None

    magic = line_magic = cell_magic = run_line_magic

    def getoutput(self, *_: Any, **__: Any) -> list[str]:
        """Be ``files = !ls``: no program is run, so it says nothing."""
        return []


WRAPPERS = ("time", "prun", "capture")  # cell magics that run their cell as it is


@contextlib.contextmanager
def captured(line: str, namespace: dict[str, Any]) -> Iterator[None]:
    """Be ``%%capture name``: what is printed inside goes into an object of that name."""
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
    if names := [word for word in line.split() if not word.startswith("-")]:
        from IPython.utils.capture import CapturedIO

        namespace[names[0]] = CapturedIO(out, err, [])


def display(*_: Any, **options: Any) -> Ignored | None:
    """Show nothing, whatever it is; with a ``display_id``, return a handle that can be updated."""
    return Ignored() if options.get("display_id") else None


def no_input(prompt: object = "", *_: Any) -> str:
    """Say what to do instead of asking.

    Raises
    ------
    EOFError
        Always.
    """
    raise EOFError(NO_INPUT.format(repr(str(prompt)) if prompt else ""))
