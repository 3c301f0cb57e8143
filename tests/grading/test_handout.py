"""The zip for students: no answer in it, and what they need is there and works."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

from tests.grading.hostile import ROOT
from tools.handout import main


def test_no_answer_is_handed_out(tmp_path, capsys):
    path = tmp_path / "course.zip"
    assert main([str(path)]) == 0
    assert "no answer among them" in capsys.readouterr().out
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    tops = {name.split("/")[1] for name in names}
    assert {"course_utils", "notebooks", "exercises", "make.py", "pyproject.toml"} <= tops
    assert not tops & {"answer_book", "solutions", "tests"}
    program = (
        f"import sys\nsys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n"
        "import importlib.util\nassert importlib.util.find_spec('answer_book') is None\n"
        "from course_utils.grading import check\nimport numpy as np\n"
        "sigmoid = lambda z: 1 / (1 + np.exp(-z))\n"
        "check('01.bce_gradient', lambda z, y: (sigmoid(z) - y) / len(z))\n"
        "check('01.bce_gradient', lambda z, y: sigmoid(z) - y)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "course")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "✓ 01.bce_gradient: right on all 4 cases (2 points)" in done.stdout, done.stderr
    assert "too large by a factor of B" in done.stderr
