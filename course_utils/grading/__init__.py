"""Exercises that say why an answer is wrong, and a grader that cannot be fooled.

In a notebook: ``from course_utils.grading import check``. Reading order:

1. `wire`         plain data, all that crosses between student code and the grader
2. `calls`        run a student's object on a case (goes into the sandbox)
3. `compare`      are two values equal and, if not, in what way?
4. `checks`       what an item is: cases, call, verify; the student's `check`
5. `items`        the lessons' items (never goes into the sandbox)
6. `words`        text that others wrote, made harmless
7. `cells`        what is in a notebook file
8. `archives`     zip files, read in memory
9. `files`        the files that were handed in
10. `layouts`     who handed in what, by the names that platforms give
11. `submissions` exactly one for each student and lesson
12. `runner`      runs a submission's cells and calls, inside the sandbox
13. `sandbox`     the walls around the runner
14. `results`     a row of the grades
15. `messages`    what a submission's process may say
16. `run`         one submission's time in the sandbox
17. `judge`       what came of one item
18. `row`         from one submission to its row
19. `kept`        what one run leaves for the next
20. `workers`     threads of this machine, or a cluster
21. `grade`       a class
22. `copies`      who gave the same code?
23. `tables`      files for grade books
24. `pages`       feedback and summary
25. `reports`     all that is written
26. `command`     ``course grade``
"""

from course_utils.grading.checks import CheckFailed, check

__all__ = ["CheckFailed", "check"]
