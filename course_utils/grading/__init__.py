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
9. `words`        text that others wrote, made harmless
10. `cells`        what is in a notebook file
11. `archives`     zip files, read in memory
12. `files`        the files that were handed in
13. `layouts`      who handed in what, by the names that platforms give
14. `submissions`  exactly one for each student and lesson
15. `sources`      read an answer's code without running it: what does it call?
16. `copies`       which answers are the same code?
17. `shell`        what a notebook finds around its code: magics, `display`, `input`
18. `execution`    executes cells as JupyterLab would
19. `runner`       runs a submission's cells and calls, inside the sandbox
20. `sandbox`      the walls around the runner (a subpackage)
21. `results`      a row of the grades
22. `messages`     what a submission's process may say
23. `run`          one submission's time in the sandbox
24. `judge`        what came of one item
25. `row`          from one submission to its row
26. `kept`         what one run leaves for the next
27. `workers`      threads of this machine, or a cluster
28. `grade`        a class
29. `tables`       files for grade books
30. `pages`        feedback and summary
31. `reports`      all that is written
32. `command`      ``course grade``
33. `clean_run`    a notebook in a new process, on a student's own machine
34. `session`      what only the open session had
35. `notebook_check` ``course check``
36. `progress`     ``course progress``

The answers are in a package of their own, `answer_book`, which students do not install.
"""

from course_utils.grading.visible import CheckFailed, check

__all__ = ["CheckFailed", "check"]
