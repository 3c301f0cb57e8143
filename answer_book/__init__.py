"""The answer book: cases, right answers and typical mistakes, one module per lesson.

Each module ``lesson_NN`` has a tuple ``ITEMS``, in the order of the notebook. What an item is:
`course_utils.grading.items`. How a known-wrong answer is written as an edit of the right one:
`edits`; the diagnoses of a bug hunt: `bugs`.

This package is for instructors. It is not in the wheel that students install, and the sandbox
in which submissions run does not contain it.
"""

from importlib.resources import files


def lessons() -> list[str]:
    """Return the numbers of the lessons that have items, such as ``["01", "02"]``."""
    names = [path.name for path in files(__name__).iterdir()]
    return sorted(n[len("lesson_") :].removesuffix(".py") for n in names if n.startswith("lesson_"))
