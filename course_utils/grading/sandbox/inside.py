"""What bubblewrap starts inside the walls: the first process, which forks the runner."""

from course_utils.grading import runner
from course_utils.grading.sandbox.first import be_first

if __name__ == "__main__":
    be_first(runner.main)
