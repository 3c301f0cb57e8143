"""What was once observed beside student code is judged from outside: forging it gains nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from course_utils.grading.grade import grade_all
from course_utils.grading.results import Settings
from course_utils.grading.sandbox import Limits
from course_utils.grading.sources import library_calls
from course_utils.grading.submissions import Submission
from course_utils.grading.withheld import LibraryCalled, withhold
from tests.grading.hostile import SOLUTION, notebook
from tests.grading.hostile_observed import BANK, LIBRARY, MCNEMAR

SETTINGS = Settings(seed=77, limits=Limits(seconds=120))


def solution_of(lesson):
    [path] = SOLUTION.parent.glob(f"{lesson}_*.ipynb")
    return path


@pytest.fixture(scope="module")
def graded(walls, tmp_path_factory):
    given = [
        Submission(each.name, each.item[:2], "x.ipynb", notebook(each.cell))
        for each in (*BANK, *LIBRARY)
    ]
    results = grade_all(given, SETTINGS, tmp_path_factory.mktemp("observed"), jobs=2)
    return {result.student: result for result in results}


@pytest.mark.slow
@pytest.mark.parametrize("forged", [*BANK, *LIBRARY], ids=lambda forged: forged.name)
def test_gains_nothing_and_is_told_why(graded, forged):
    result = graded[forged.name]
    [item] = [item for item in result.items if item.name == forged.item]
    assert result.score == 0, result
    assert item.diagnosis == forged.diagnosis, item
    if forged.item == MCNEMAR:
        assert "course_utils.intervals.mcnemar" in item.message
        assert "write it yourself" in item.message


NAMES = ("course_utils.intervals.mcnemar",)


@pytest.mark.parametrize(
    "cell",
    [
        "from course_utils.intervals import mcnemar as g\ndef f(): return g()",
        "import course_utils.intervals\ndef f(): return course_utils.intervals.mcnemar()",
        "import course_utils.intervals as m\nf = m.mcnemar",
        "from course_utils import intervals\ndef f(): return intervals.mcnemar()",
        "from course_utils.intervals import *\ndef f(): return mcnemar()",
        "def f():\n    from course_utils.intervals import mcnemar\n    return mcnemar()",
        "from course_utils import intervals\ndef f(): return getattr(intervals, 'mcnemar')()",
        "def f(): exec('from course_utils.intervals import mcnemar')",
        "from course_utils.intervals import mcnemar\nhelp_me = mcnemar\ndef f(): return help_me()",
        "from course_utils.intervals import mcnemar\nclass A: g = mcnemar\ndef f(): return A.g()",
        "def f():\n    'from course_utils.intervals import mcnemar'\n    exec(f.__doc__)",
        "def f():\n    'course_utils.intervals.mcnemar'\n    return eval(getattr(f, '__doc__'))",
    ],
)
def test_the_library_is_seen_in_the_code(cell):
    assert library_calls([cell], "f", NAMES) == list(NAMES)


@pytest.mark.parametrize(
    "cell",
    [
        "def f(): return 1",
        "from course_utils.intervals import mcnemar\ndef f(): return 1\nprint(mcnemar(), f())",
        "def mcnemar(): return 1\ndef f(): return mcnemar()",
        "from course_utils.intervals import seed_interval\ndef f(): return seed_interval()",
        "def f():\n    'As mcnemar did, in 1947.'\n    return 1",
        "def f():\n    'The same as course_utils.intervals.mcnemar(a, b).p_value.'\n    return 1",
        "this is not Python\n",
    ],
)
def test_comparing_with_the_library_is_welcome(cell):
    assert library_calls(["%matplotlib inline", cell], "f", NAMES) == []


@pytest.mark.parametrize(
    "answer",
    [
        "import torch\ndef log_sum_exp(z): return torch.logsumexp(torch.tensor(z), 1).numpy()",
        "from scipy.special import logsumexp\ndef log_sum_exp(z): return logsumexp(z, axis=1)",
        "import numpy as np\ndef log_sum_exp(z): return np.logaddexp.reduce(z, axis=1)",
    ],
)
def test_a_stable_log_sum_exp_is_not_one_call(answer):
    from course_utils.grading.items import load_items

    [item] = [item for item in load_items("01") if item.target == "log_sum_exp"]
    assert len(library_calls([answer], item.target, item.withheld)) == 1


def test_withheld_and_given_back():
    from course_utils.intervals import mcnemar, seed_interval

    before = mcnemar.__code__
    with withhold(NAMES):
        with pytest.raises(LibraryCalled, match=r"course_utils\.intervals\.mcnemar"):
            mcnemar()
        assert seed_interval.__code__
    assert mcnemar.__code__ is before


def test_methods_of_what_is_not_python_are_withheld_too():
    import numpy as np

    with withhold(["numpy.logaddexp"]):
        with pytest.raises(LibraryCalled, match=r"numpy\.logaddexp"):
            np.logaddexp.reduce(np.zeros((1, 2)), axis=1)
        with pytest.raises(LibraryCalled, match=r"numpy\.logaddexp"):
            np.logaddexp(0, 0)
    assert np.logaddexp.reduce([0.0, 0.0]) > 0.69


def test_a_module_not_imported_yet_refuses_that_one_name_only():
    program = """
import sys
from course_utils.grading.withheld import LibraryCalled, withhold
assert "course_utils.intervals" not in sys.modules
with withhold(["course_utils.intervals.mcnemar"]):
    try:
        from course_utils.intervals import mcnemar
    except LibraryCalled:
        print("refused")
    from course_utils.intervals import seed_interval
    import course_utils.intervals as m
    try:
        m.mcnemar([True], [False])
    except LibraryCalled:
        print("refused again")
from course_utils.intervals import mcnemar
print(mcnemar.__code__.co_name, seed_interval.__name__)
with withhold(["course_utils.claims.Claims"]):
    pass
assert "course_utils.claims" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "refused\nrefused again\nmcnemar seed_interval\n", done.stderr


def test_every_withheld_name_is_there():
    """A function that was renamed would be withheld no more, and nobody would notice."""
    from importlib import import_module

    from course_utils.grading.items import lessons, load_items

    for item in (item for lesson in lessons() for item in load_items(lesson)):
        for name in item.withheld:
            module, _, attribute = name.rpartition(".")
            assert callable(getattr(import_module(module), attribute)), name
        with withhold(item.withheld):
            pass


def test_no_solution_calls_what_is_withheld():
    from course_utils.grading.items import lessons, load_items

    for lesson in lessons():
        cells = json.loads(solution_of(lesson).read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for item in load_items(lesson):
            assert library_calls(sources, item.target, item.withheld) == [], item.name
