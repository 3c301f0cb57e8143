"""Lesson 16 notices a mistake: a leak, a model that hears nothing, a chart that never forgets.

Cells of the lessons are run as they are, or with one text replaced, on the corpus or on made-up
tones; the claims that follow must hold, and fail where something was learned wrongly or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course_utils.claims import Claims
from tests.lesson_code import between, code_of, failing_claim, run, with_mistake


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


def known(**more: Any) -> dict[str, Any]:
    """What the cells before have made known."""
    return {"claim": Claims(), "np": np, "plt": plt, "show": lambda figure, alt: None} | more


# -- copies ---------------------------------------------------------------------------------------

COPIES = [
    "from collections import Counter",
    *between(code_of("16_applications"), "load_exchanges", "with copies on one side"),
]


def test_the_leak_is_as_the_lesson_says():
    assert len(run(COPIES, known())["claim"].shown) == 3


def test_a_split_by_rows_is_noticed():
    by_rows = "lambda rows, *_, **__: (range(0, len(rows), 2), range(1, len(rows), 2))"
    mistaken = with_mistake(
        COPIES,
        "from course_utils.dialogues import split_exchanges",
        f"split_exchanges = {by_rows}",
    )
    assert "with copies on one side it answers none" in failing_claim(mistaken, known())


# -- alarms ---------------------------------------------------------------------------------------

ALARMS = [
    "from course_utils.alarms import cusum, ewma, first_alarm",
    *between(
        code_of("16a_opinion_monitoring"), "limit_for, quiet_streams", "the same alarm is earlier"
    ),
]


def tones(agreement: float, seed: int) -> dict[str, Any]:
    """Editorials with people's ratings, and a model that goes with them as closely as said."""
    generator = np.random.default_rng(seed)
    human = generator.normal(size=480)
    score = agreement * human + np.sqrt(1 - agreement**2) * generator.normal(size=480)
    return known(
        documents=np.arange(1, 481),
        history=np.arange(1, 481) <= 250,
        human=human,
        score=score,
        correlation=lambda a, b: float(np.corrcoef(a, b)[0, 1]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_claims_about_alarms_hold_for_a_model_that_hears(seed):
    assert len(run(ALARMS, tones(0.6, seed))["claim"].shown) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_that_hears_nothing_is_noticed(seed):
    assert "the large surge is found" in failing_claim(ALARMS, tones(0.0, seed))


@pytest.mark.slow
def test_a_chart_that_sees_one_value_only_is_noticed():
    mistaken = with_mistake(ALARMS, '"CUSUM": cusum,', '"CUSUM": lambda z: ewma(z, 1),')
    assert "adding up finds it sooner" in failing_claim(mistaken, tones(0.6, 0))
