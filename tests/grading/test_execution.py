"""Cells run in the grader as in JupyterLab: compared with a real kernel, cell by cell."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from course_utils.grading import CheckFailed, check
from course_utils.grading.calls import attempt, function
from course_utils.grading.results import Settings
from course_utils.grading.row import grade_one
from course_utils.grading.sandbox import Limits
from course_utils.grading.submissions import Submission
from tests.grading.hostile import SOLUTION

# Each is what some honest notebook holds. `seen` collects what the cells found.
CELLS = [
    "seen = {}",
    "import asyncio\nawait asyncio.sleep(0)\nseen['await'] = await asyncio.sleep(0, 'slept')",
    "async def three():\n    for n in range(3):\n        yield n\n",
    "async for n in three():\n    x = n",
    "seen['async for'] = x",
    "class Door:\n    async def __aenter__(self): return 'in'\n"
    "    async def __aexit__(self, *given): pass\n"
    "async with Door() as where:\n    seen['async with'] = where",
    "async def late(): seen['task'] = 'done'\ntask = asyncio.create_task(late())",
    "await task",
    "seen['loop'] = asyncio.get_running_loop().is_running()",
    "asyncio.run(late())",  # an error in a notebook, and so here
    "[n async for n in three()]",
    "seen['_'] = list(_)",
    "seen['numbers'] = [Out[11], _11, In[11]]",
    "40 + 2;",
    "seen['quiet'] = 14 in Out",
    "[_ for _ in 'ab']\n_ = 'mine'\n5",
    "seen['mine'] = _",
    "%matplotlib inline\n%config InlineBackend.figure_format = 'retina'\n%load_ext autoreload",
    "%%time\n# a comment\ny = 6 * 7\ny",
    "seen['time'] = [y, Out[19]]",
    "%time z = y + 1\nw = %time z + 1\nseen['line'] = [z, w]",
    "\n\n%%capture said\nprint('hello')",
    "seen['said'] = said.stdout\n",
    "%%timeit -n 1 -r 1\nlost = 1\nseen['timed'] = 'ran'",
    "seen['lost'] = 'lost' in globals()",
    "result = %timeit -n 1 -r 1 -o z + 1\nseen['timeit'] = result.best >= 0",
    "?seen\nlen?\nfor _ in range(2):\n    %time pass\nseen['help'] = True",
    "!true\n!!true\nsaid = !true\nseen['shell'] = list(said)",
    "%%bash\ntrue",
    "%%html\n<b>bold</b>",
    "  indented = 1\n  seen['indented'] = indented",
    ">>> seen['prompt'] = 1\n>>> seen['prompt']",
    "display(seen, 1, None)\nhandle = display(1, display_id=True)\nhandle.update(2)",
    "from IPython.display import HTML, Markdown, clear_output, display as show\n"
    "show(HTML('<b>x</b>'))\nshow(1, display_id='a').update(3)\nclear_output(wait=True)",
    "from IPython import get_ipython as mine\nseen['shell is there'] = mine() is get_ipython()",
    "get_ipython().run_line_magic('matplotlib', 'inline')\nget_ipython().ast_node_interactivity",
    "seen['space'] = get_ipython().user_ns is globals()",
    "from __future__ import annotations\ndef f(x: nobody): return x",
    "def g(x: nobody): return x\nseen['future'] = g.__annotations__",
    "%env COURSE_TEST=7\nimport os\nseen['env'] = os.environ['COURSE_TEST']",
    "%%writefile written.py\nvalue = 3",
    "import written\nseen['written'] = written.value",
    "matplotlib inline",
    "pwd",
    "next(iter([]))",
    "raise SystemExit",
    "x = = 1",
    "return 3",
    "input('name: ')",
    "'in a' if False else %time",
    "import matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\nax.plot([1, 2])\nplt.show()",
    "import pickle\nclass Mine: pass\n"
    "seen['pickled'] = type(pickle.loads(pickle.dumps(Mine()))) is Mine",
    "seen['main'] = __name__",
    "",
    "seen['count'] = len(In)",
]
DRIVER = """
import builtins, json, os, sys, types
module = sys.modules["__main__"] = types.ModuleType("__main__")
namespace = vars(module)
from course_utils.grading.execution import run_cells
cells, failed = json.loads(sys.stdin.readline()), {}
sys.stdout, out = open(os.devnull, "w"), sys.stdout
def send(kind, number, failure):
    failed[number] = failure
run_cells(cells, 30.0, namespace, send)
json.dump([namespace.get("seen"), failed], out)
out.flush()
os._exit(0)
"""


def run(cells, folder):
    """What the grader's way of running leaves in `seen`, and which cells failed how."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(cells) + "\n",
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg"},
        timeout=120,
    )
    assert done.stdout, done.stderr
    seen, failed = json.loads(done.stdout)
    return seen, {int(number): failure for number, failure in failed.items()}


@pytest.mark.slow
def test_the_same_as_in_a_kernel(tmp_path):
    """No cell but the one that asks differs, nor what any of them found."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    notebook.cells.append(new_code_cell("import json; print(json.dumps(seen))"))
    for name in ("kernel", "grader"):
        (tmp_path / name).mkdir()
    place = {"metadata": {"path": str(tmp_path / "kernel")}}
    NotebookClient(notebook, timeout=60, allow_errors=True, resources=place).execute()
    errors = {
        number: [o for o in cell.outputs if o.output_type == "error"]
        for number, cell in enumerate(notebook.cells, start=1)
    }
    expected = {number: found[0].ename for number, found in errors.items() if found}
    wanted = json.loads(notebook.cells[-1].outputs[-1].text)
    seen, failed = run(CELLS, tmp_path / "grader")
    assert seen == wanted
    asks = CELLS.index("input('name: ')") + 1
    assert expected.pop(asks) == "StdinNotImplementedError"
    assert failed.pop(asks)[0] == "EOFError"
    assert {number: failure[0] for number, failure in failed.items()} == expected
    assert len(expected) >= 6  # some do fail, in both


def test_input_says_what_to_do_instead(tmp_path):
    _, failed = run(["name = input('name: ')"], tmp_path)
    _name, message, lines = failed[1]
    assert "input('name: ') has nobody to answer it" in message
    assert "Write the value into the cell" in message
    assert lines[0] == "cell 1, line 1: name = input('name: ')"


def test_a_traceback_counts_lines_as_the_notebook_does(tmp_path):
    cells = [
        "\n%matplotlib inline\n1 / 0",
        "%%time\n%%capture out\n\n1 / 0",
        "async def f():\n    1 / 0\n\nawait f()",
    ]
    _, failed = run(cells, tmp_path)
    assert failed[1][2] == ["cell 1, line 3: 1 / 0"]
    assert failed[2][2] == ["cell 2, line 4: 1 / 0"]
    assert failed[3][2] == ["cell 3, line 4: await f()", "cell 3, line 2: 1 / 0"]


def test_what_a_plain_notebook_does_not_need_is_not_imported(tmp_path):
    """Their import takes 0.05 and 0.03 s, of 0.3 for a whole submission."""
    cells = ["import sys\nseen = sorted({'IPy' 'thon', 'a' 'syncio'} & set(sys.modules))"]
    assert run(cells, tmp_path)[0] == []
    assert run(["%matplotlib inline", *cells], tmp_path)[0] == ["IPython"]
    assert "asyncio" in run(["async def f(): pass", *cells], tmp_path)[0]


@pytest.mark.skipif(os.name == "nt", reason="no timers there: the process is ended instead")
def test_a_cell_that_waits_for_ever_is_stopped_and_the_next_ones_run(tmp_path):
    cells = ["import asyncio\nseen = []", "await asyncio.sleep(1000)", "await asyncio.sleep(0, 1)"]
    cells.append("seen.append(_)")
    driver = DRIVER.replace("30.0", "0.5")
    assert driver != DRIVER
    done = subprocess.run(
        [sys.executable, "-c", driver], input=json.dumps(cells) + "\n", text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    seen, failed = json.loads(done.stdout)
    assert seen == [1]
    assert {n: f[0] for n, f in failed.items()} == {"2": "TimeLimit"}


# -- answers -------------------------------------------------------------------------------------


async def double(x):
    await asyncio.sleep(0)
    return 2 * x


def test_an_async_answer_is_awaited():
    assert attempt(function, double, {"x": 3}).value == 6


def test_also_where_a_loop_is_running_as_in_a_notebook():
    async def cell():
        return attempt(function, double, {"x": 3}).value

    assert asyncio.run(cell()) == 6


def test_what_an_async_answer_raises_is_its_own():
    async def broken(x):
        raise KeyError(x)

    assert attempt(function, broken, {"x": 3}).failure.type_name == "KeyError"


def test_the_check_in_a_notebook_awaits_too(capsys):
    async def log_sum_exp(logits):
        largest = logits.max(axis=1)
        await asyncio.sleep(0)
        return largest + __import__("numpy").log(
            __import__("numpy").exp(logits - largest[:, None]).sum(axis=1)
        )

    async def wrong(logits):
        return logits

    async def cell():
        check("01.log_sum_exp", log_sum_exp)
        with pytest.raises(CheckFailed):
            check("01.log_sum_exp", wrong)

    asyncio.run(cell())
    assert "✓ 01.log_sum_exp" in capsys.readouterr().out


# -- whole notebooks, behind the walls -----------------------------------------------------------


def solved(edit) -> bytes:
    notebook = nbformat.read(SOLUTION, as_version=4)
    edit(notebook)
    return nbformat.writes(notebook).encode()


def with_await(notebook):
    """Every answer that is a function becomes a coroutine function; the rest of a cell awaits."""
    answers = "bce_gradient|log_sum_exp|softmax_gradient|finite_difference|train"
    for cell in notebook.cells:
        if cell.cell_type == "code" and not cell.source.startswith("check("):
            cell.source = re.sub(rf"(?<!def )\b({answers})\(", r"await \1(", cell.source)
            cell.source = re.sub(rf"^def (?=({answers})\()", "async def ", cell.source, flags=re.M)
    notebook.cells.insert(0, new_code_cell("import asyncio\nawait asyncio.sleep(0)"))


def with_magics(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code" and "BEGIN SOLUTION" in cell.source:
            cell.source = "%%time\n" + cell.source
    extra = ["%matplotlib inline\n!pip list\n%pip install numpy", "display(bce_gradient)", "train?"]
    notebook.cells[0:0] = [new_code_cell(extra[0])]
    notebook.cells += [new_code_cell(source) for source in extra[1:]]


@pytest.mark.slow
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("edit", [with_await, with_magics])
def test_honest_work_gets_full_marks(edit):
    submission = Submission("ada", "01", "01_gradients.ipynb", solved(edit))
    result = grade_one(submission, Settings(seed=77, limits=Limits(seconds=240)))
    assert (result.score, result.cell_errors) == (result.most, ()), result
    assert result.status == "ok"
