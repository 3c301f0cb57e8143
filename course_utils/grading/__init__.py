"""Exercises that say why an answer is wrong, and a grader that cannot be fooled.

In a notebook: ``from course_utils.grading import check``. Reading order:

1. `wire`         plain data, all that crosses between student code and the grader
2. `calls`        run a student's object on a case (goes into the sandbox)
3. `compare`      are two values equal and, if not, in what way?
4. `checks`       what an item is: cases, call, verify; the student's `check`
5. `items`        the lessons' items (never goes into the sandbox)
6. `submissions`  find each student's notebook in folders and LMS downloads
7. `runner`       runs a submission's cells and calls, inside the sandbox
8. `sandbox`      the walls around the runner (a subpackage)
9. `grade`        from submissions to results
10. `reports`     from results to tables and feedback pages
11. `command`     ``course grade``
"""

from course_utils.grading.checks import CheckFailed, check

__all__ = ["CheckFailed", "check"]
