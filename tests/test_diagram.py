"""The map of ideas: every box and arrow that is asked for is drawn, and nothing else is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Annotation

from course_utils.plotting import plot_map

BOXES = {"model": (20.0, 80.0), "task\none of many": (80.0, 20.0), "text": (50.0, 5.0)}


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_boxes_and_arrows(ax):
    assert plot_map(BOXES, [("model", "task", "serves"), ("text", "model", "")], ax) is ax
    ax.figure.canvas.draw()
    words = [text.get_text() for text in ax.texts]
    assert words == [*BOXES, "", "serves", ""]  # an arrow is an annotation without text
    arrows = [text for text in ax.texts if isinstance(text, Annotation)]
    assert [(arrow.xyann, arrow.xy) for arrow in arrows] == [
        (BOXES["model"], BOXES["task\none of many"]),
        (BOXES["text"], BOXES["model"]),
    ]


@pytest.mark.parametrize("end", ["nowhere", "t"])  # no box; two boxes
def test_an_arrow_needs_one_box_at_each_end(ax, end):
    with pytest.raises(ValueError, match="one box at each end"):
        plot_map(BOXES, [("model", end, "")], ax)
