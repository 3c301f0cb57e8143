"""The walls around student code: namespaces, resource limits, a filter of system calls, a watch.

Inside there is no network, no other submission, no answer book, no home, and nothing that can be
written but small memory disks that vanish. A `Session` starts the runner there, exchanges lines
with it, watches what it uses, and ends everything that it started.

Linux with bubblewrap only. Elsewhere, and where the system forbids it (Ubuntu 24.04's AppArmor
does), `probe` says so, and the grader refuses to run unless told to go on unprotected. Which
attack is stopped by which wall, and what remains possible: ``docs/grader.md``. Reading order:

1. `limits`       what one submission may use
2. `syscalls`     the filter of system calls
3. `filesystem`   what files are seen inside
4. `bubblewrap`   the commands that put a process behind the walls
5. `namespaces`   walls that a process makes around itself
6. `first`        the first process inside, which takes over orphans
7. `nursery`      inside: holds PyTorch, forks a walled process per submission
8. `watch`        what a submission uses, seen from outside
9. `cores`        a core for each submission; `cgroups`, a control group where there may be one
10. `start`       ways to start a submission's process; `births` is the nursery's
11. `session`     one submission's time behind the walls
12. `attempts`    attempts on the walls, made from inside; `probe` makes them
"""

from course_utils.grading.sandbox.bubblewrap import FIRST_USER, command
from course_utils.grading.sandbox.limits import Limits, SandboxError
from course_utils.grading.sandbox.probe import probe
from course_utils.grading.sandbox.session import Ending, Session
from course_utils.grading.sandbox.syscalls import system_call_filter

__all__ = [
    "FIRST_USER",
    "Ending",
    "Limits",
    "SandboxError",
    "Session",
    "command",
    "probe",
    "system_call_filter",
]
