"""The exercises' items, one module per lesson: cases, references, typical mistakes.

Each module has a tuple ``ITEMS``, in the order of the notebook. This package is the answer
book: the sandbox in which submissions run does not contain it.
"""

from importlib import import_module
from importlib.resources import files

from course_utils.grading.checks import Item


def lessons() -> list[str]:
    """Return the numbers of the lessons that have items, such as ``["01", "02"]``."""
    names = [path.name for path in files(__package__).iterdir()]
    return sorted(n[len("lesson_") :].removesuffix(".py") for n in names if n.startswith("lesson_"))


def load_items(lesson: str) -> tuple[Item, ...]:
    """Return the items of a lesson, in the order of its notebook.

    Raises
    ------
    ValueError
        If the lesson has no items.
    """
    if lesson not in lessons():
        raise ValueError(f"no exercises for lesson {lesson!r}: there are {', '.join(lessons())}")
    items: tuple[Item, ...] = import_module(f"{__package__}.lesson_{lesson}").ITEMS
    return items


def find_item(name: str) -> Item:
    """Return one item, such as ``"01.softmax_gradient"``.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    lesson = name.split(".")[0]
    items = {item.name: item for item in load_items(lesson)}
    if name not in items:
        raise ValueError(f"no item {name!r}: lesson {lesson} has {', '.join(items)}")
    return items[name]
