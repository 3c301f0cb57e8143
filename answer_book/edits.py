"""A known-wrong answer as an edit of the right one: its source, with one text replaced.

    Mistake("missing_mean", "too large by a factor of B", edit(bce_gradient, " / len(logits)", ""))

The right answer stays plain code. Each text that is replaced must occur exactly once in it, so
that an edit cannot silently hit another place, or nothing, when the right answer is rewritten.
"""

import functools
import inspect
import itertools
import sys
import textwrap
from typing import Any


def edit(right: Any, *texts: str, within: tuple[Any, ...] = ()) -> Any:
    r"""Return the right answer with some texts of its source replaced.

    Parameters
    ----------
    right : function or class
        Defined at the top of its module. Names it uses must be defined above the edit.
    *texts : str
        Old, new, old, new, ... All are looked for in the source as it is, and replaced at once.
    within : tuple of function or class
        Helpers of `right` whose source may be edited too: the copy returned here uses the edited
        ones, all others go on as they were.

    Raises
    ------
    ValueError
        If an old text does not occur exactly once, two overlap, or `right` is a closure.

    Examples
    --------
    >>> edit(double, "2 * x", "3 * x")(5)  # doctest: +SKIP
    15
    """
    source = "\n\n".join(_source(each) for each in (*within, right))
    module = sys.modules[right.__module__]
    space = dict(vars(module))
    name = f"<{right.__name__}, edited>"
    exec(compile(_replaced(source, texts, right.__name__), name, "exec"), space)
    return space[right.__name__]


def _replaced(source: str, texts: tuple[str, ...], name: str) -> str:
    """Return the source with each old text replaced by the new one."""
    if not texts or len(texts) % 2:
        raise ValueError(f"{name}: an edit is an old text and a new one, got {len(texts)} texts")
    places = []
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        if (count := source.count(old)) != 1:
            raise ValueError(f"{name}: the text to replace occurs {count} times, not once: {old!r}")
        start = source.index(old)
        places.append((start, start + len(old), new))
    places.sort()
    for (_, end, _), (start, _, new) in itertools.pairwise(places):
        if start < end:
            raise ValueError(f"{name}: two edits overlap, the second one is to {new!r}")
    for start, end, new in reversed(places):
        source = source[:start] + new + source[end:]
    return source


@functools.cache
def _source(thing: Any) -> str:
    """Return the source of a function or class, as it stands in its module."""
    plain = inspect.unwrap(thing)  # what a decorator such as torch.no_grad() stands around
    if "<locals>" in plain.__qualname__:
        raise ValueError(f"{plain.__qualname__} is defined inside a function: move it to the top")
    return textwrap.dedent(inspect.getsource(plain))
