"""Exercises that say why an answer is wrong, and a grader that cannot be fooled.

In a notebook: ``from course_utils.grading import check``. Reading order; a module imports only
from those above it:

1. `wire`         plain data, all that crosses between student code and the grader
2. `withheld`     while an answer runs, the library's own solution is not there
3. `calls`        run a student's object on a case (goes into the sandbox)
4. `compare`      are two values equal and, if not, in what way?
5. `checks`       what answers are judged by, and `verify`, which judges
6. `rules`        the lessons' own predicates over results
7. `visible`      the student's `check`, by keys that the course ships (``keys/``)
8. `items`        what an item of the answer book is, and keys made from it
9. `submissions`  find each student's notebook in folders and LMS downloads
10. `sources`     read an answer's code without running it: what does it call?
11. `copies`      which answers are the same code?
12. `shell`       what a notebook finds around its code: magics, `display`, `input`
13. `execution`   executes cells as JupyterLab would
14. `runner`      runs a submission's cells and calls, inside the sandbox
15. `sandbox`     the walls around the runner
16. `grade`       from submissions to results
17. `reports`     from results to tables and feedback pages
18. `command`     ``course grade``
19. `clean_run`   a notebook in a new process, on a student's own machine
20. `session`     what only the open session had
21. `notebook_check` ``course check``
22. `progress`    ``course progress``

The answers are in a package of their own, `answer_book`, which students do not install.
"""

from course_utils.grading.visible import CheckFailed, check

__all__ = ["CheckFailed", "check"]
