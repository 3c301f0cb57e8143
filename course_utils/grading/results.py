"""What grading gives: a row for each student and lesson, and the options it was made with."""

import traceback
from dataclasses import dataclass, field

from course_utils.grading.items import Item
from course_utils.grading.sandbox import Limits, SandboxError
from course_utils.grading.submissions import Submission
from course_utils.grading.words import clean

STATUSES = (
    "ok",  # every cell ran, every item was called
    "failed",  # a cell or an item raised an exception
    "timeout",
    "crashed",
    "out of memory",
    "corrupt",  # not a notebook
    "missing",
    "tampered",  # only what no accident does: forged messages, a check replaced by its own tick
    "internal error",  # the grader's own fault, or the machine's
)
UNGRADED = ("missing", "corrupt", "internal error")  # they say nothing about any item
NOT_STARTED = "the sandbox did not start"


@dataclass(frozen=True)
class ItemResult:
    """One item of one submission; nothing in it tells a hidden case or a right answer."""

    name: str
    points: int
    most: int
    diagnosis: str = ""
    message: str = ""
    only_hidden: bool = False
    error: str = ""


@dataclass(frozen=True)
class Result:
    """One row of the grades.

    Attributes
    ----------
    student, lesson, status, detail : str
    items : tuple of ItemResult
    file, platform_id : str
        As in `Submission`.
    cell_errors : tuple of str
    again : str
        What came of grading it again alone, if that made a difference or was not done.
    traceback : str
        Of an internal error, for the instructor only.
    """

    student: str
    lesson: str
    status: str
    detail: str
    items: tuple[ItemResult, ...]
    file: str = ""
    platform_id: str = ""
    cell_errors: tuple[str, ...] = ()
    again: str = ""
    traceback: str = ""

    @property
    def score(self) -> int:
        """Points gained."""
        return sum(item.points for item in self.items)

    @property
    def most(self) -> int:
        """Points there were to gain."""
        return sum(item.most for item in self.items)


@dataclass(frozen=True)
class Settings:
    """How a class is graded."""

    seed: int
    limits: Limits = field(default_factory=Limits)
    protected: bool = True
    hidden: tuple[str, ...] = ()  # folders that no submission may see; no result depends on them


def blank(submission: Submission, items: tuple[Item, ...], status: str, detail: str) -> Result:
    """Return a row without points."""
    return Result(
        submission.student,
        submission.lesson,
        status,
        detail,
        tuple(ItemResult(item.name, 0, item.points) for item in items),
        submission.file,
        submission.platform_id,
    )


def internal_error(submission: Submission, items: tuple[Item, ...], error: BaseException) -> Result:
    """Return the row of a submission at which the grader itself failed.

    Its detail is for all to read and holds no word of the exception's message.
    """
    words = f"the grader failed here ({type(error).__name__}); report.json tells your teacher why"
    words = NOT_STARTED if isinstance(error, SandboxError) else words
    told = clean("".join(traceback.format_exception(error)), 20_000)
    row = blank(submission, items, "internal error", words)
    return Result(**(vars(row) | {"traceback": told}))
