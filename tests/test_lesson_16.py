"""Lesson 16 notices a mistake: a leak, a model that hears nothing, a chart that never forgets.

Cells of the lessons are run as they are, or with one text replaced, on the corpus or on made-up
tones; the claims that follow must hold, and fail where something was learned wrongly or not at all.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course_utils.claims import ClaimError, Claims
from tools.notebooks import ROOT, code_cells, to_notebook

FOLDER = ROOT / "notebooks" / "source"


def cells_of(name: str, first: str, last: str) -> list[str]:
    """The code cells from the one that has `first` to the one that has `last`."""
    cells = [cell.source for cell in code_cells(to_notebook((FOLDER / name).read_text("utf-8")))]
    start = next(i for i, cell in enumerate(cells) if first in cell)
    end = next(i for i, cell in enumerate(cells) if last in cell)
    return cells[start : end + 1]


def run(cells: list[str], known: dict[str, Any], old: str = "", new: str = "") -> Claims:
    """Run cells in order with one text replaced; return their claims."""
    assert not old or sum(cell.count(old) for cell in cells) == 1
    names = known | {"claim": Claims(), "np": np, "plt": plt, "show": lambda figure, alt: None}
    for cell in cells:
        exec(compile(cell.replace(old, new) if old else cell, "<cell>", "exec"), names)
    plt.close("all")
    return names["claim"]


# -- copies ---------------------------------------------------------------------------------------

COPIES = cells_of("16_applications.md", "load_exchanges", "with copies on one side")
COUNTER = "from collections import Counter\n"


def test_the_leak_is_as_the_lesson_says():
    assert len(run([COUNTER, *COPIES], {}).shown) == 3


def test_a_split_by_rows_is_noticed():
    by_rows = "lambda rows, *_, **__: (range(0, len(rows), 2), range(1, len(rows), 2))"
    with pytest.raises(ClaimError, match="with copies on one side it answers none"):
        run(
            [COUNTER, *COPIES],
            {},
            "from course_utils.dialogues import split_exchanges",
            f"split_exchanges = {by_rows}",
        )


# -- alarms ---------------------------------------------------------------------------------------

ALARMS = cells_of(
    "16a_opinion_monitoring.md", "limit_for, quiet_streams", "the same alarm is earlier"
)
CHARTS = "from course_utils.alarms import cusum, ewma, first_alarm\n"


def tones(agreement: float, seed: int) -> dict[str, Any]:
    """Editorials with people's ratings, and a model that goes with them as closely as said."""
    generator = np.random.default_rng(seed)
    human = generator.normal(size=480)
    score = agreement * human + np.sqrt(1 - agreement**2) * generator.normal(size=480)
    return {
        "documents": np.arange(1, 481),
        "history": np.arange(1, 481) <= 250,
        "human": human,
        "score": score,
        "correlation": lambda a, b: float(np.corrcoef(a, b)[0, 1]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_claims_about_alarms_hold_for_a_model_that_hears(seed):
    assert len(run([CHARTS, *ALARMS], tones(0.6, seed)).shown) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_that_hears_nothing_is_noticed(seed):
    with pytest.raises(ClaimError, match="the large surge is found"):
        run([CHARTS, *ALARMS], tones(0.0, seed))


@pytest.mark.slow
def test_a_chart_that_sees_one_value_only_is_noticed():
    with pytest.raises(ClaimError, match="adding up finds it sooner"):
        run([CHARTS, *ALARMS], tones(0.6, 0), '"CUSUM": cusum,', '"CUSUM": lambda z: ewma(z, 1),')
