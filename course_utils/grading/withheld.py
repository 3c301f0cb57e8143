"""Withhold what an item re-implements: while an answer runs, the library's own solution raises.

Where an exercise asks for a function that the library has, calling that one is no answer. So the
code of such a function is exchanged for one that raises, which reaches every name it was imported
under. In place of a module that was not imported yet stands one that refuses it. Both are
undone afterwards: next to an answer, comparing it with the library is welcome.

What runs beside student code can be undone by student code. `sources` looks for the same calls
in the text of a submission, from outside.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, NoReturn

LIBRARY_CALLED = "LibraryCalled"  # the name of its type, as outcomes hold it


class LibraryCalled(Exception):
    """An answer called what it is to re-implement."""


def refuse(name: str) -> NoReturn:
    """Raise `LibraryCalled`."""
    raise LibraryCalled(f"this calls the library's own {name}")


class Refusing:
    """Stands for a function that is not Python's: to call it, or a method of it, is refused."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *given: Any, **named: Any) -> NoReturn:
        """Refuse."""
        refuse(self._name)

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        refuse(self._name)


class Closed(ModuleType):
    """Stands for a module not imported yet: it refuses what is withheld, and is it for all else."""

    def __init__(self, name: str, names: Sequence[str], undo: contextlib.ExitStack) -> None:
        super().__init__(name)
        self._withheld, self._undo = names, undo

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self.__name__}.{attribute}"
        if name in self._withheld:
            refuse(name)
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = import_module(self.__name__)
        for known in self._withheld:
            if known.rpartition(".")[0] == self.__name__:
                _exchange(module, known.rpartition(".")[2], known, self._undo)
        return getattr(module, attribute)


@contextlib.contextmanager
def withhold(names: Sequence[str]) -> Iterator[None]:
    """Within it, calling one of these functions or classes raises `LibraryCalled`.

    Parameters
    ----------
    names : sequence of str
        Such as ``"course_utils.intervals.mcnemar"``.

    Examples
    --------
    >>> from textwrap import dedent as an_alias
    >>> with withhold(["textwrap.dedent"]):
    ...     an_alias(" x")
    Traceback (most recent call last):
        ...
    course_utils.grading.withheld.LibraryCalled: this calls the library's own textwrap.dedent
    >>> an_alias(" x")
    'x'
    """
    with contextlib.ExitStack() as undo:
        for name in names:
            module, _, attribute = name.rpartition(".")
            if module not in sys.modules and module.startswith("torch."):
                continue  # importing PyTorch needs all of it
            if module not in sys.modules:
                sys.modules[module] = Closed(module, names, undo)
                undo.callback(_open, module)
            elif not isinstance(sys.modules[module], Closed):
                _exchange(sys.modules[module], attribute, name, undo)
        yield


def _open(module: str) -> None:
    """Let a module be imported again."""
    if isinstance(sys.modules.get(module), Closed):
        del sys.modules[module]


def _exchange(module: Any, attribute: str, name: str, undo: contextlib.ExitStack) -> None:
    """Exchange the code of a function or of a class's initialiser, or what is not Python itself."""
    found = getattr(module, attribute)
    function = vars(found).get("__init__") if isinstance(found, type) else found
    if isinstance(function, FunctionType):
        undo.callback(setattr, function, "__code__", function.__code__)
        function.__code__ = _refusing(name, len(function.__code__.co_freevars))
    else:
        undo.callback(setattr, module, attribute, found)
        setattr(module, attribute, Refusing(name))


def _refusing(name: str, cells: int) -> Any:
    """Return code that refuses; Python wants as many free variables as the code it replaces has."""
    free = [f"v{number}" for number in range(cells)]
    lines = ["def outer():", *(f"    {v} = None" for v in free)]
    lines += ["    def stopped(*given, **named):", *(f"        {v}" for v in free)]
    lines += [f"        from {__name__} import refuse", f"        refuse({name!r})"]
    space: dict[str, Any] = {}
    exec("\n".join([*lines, "    return stopped"]), space)
    return space["outer"]().__code__
