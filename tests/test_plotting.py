"""Plotters draw what they are given on the axes they are given, and only `show` displays."""

from __future__ import annotations

import base64

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from course_utils.history import EvalRecord, History, StepRecord
from course_utils.intervals import Interval
from course_utils.metrics import ReliabilityBins
from course_utils.plotting import (
    label_points,
    plot_confusion,
    plot_history,
    plot_intervals,
    plot_reliability,
    show,
    use_style,
)

HISTORY = History(
    steps=[StepRecord(i, float(i), 1e-5, 16) for i in range(1, 31)],
    evaluations=[EvalRecord(10, 4.0), EvalRecord(30, 2.0)],
)
BINS = ReliabilityBins(
    said=np.array([0.1, np.nan, 0.9]), was=np.array([0.2, np.nan, 0.7]), counts=np.array([3, 0, 1])
)
PLOTS = {
    "history": lambda ax: plot_history(HISTORY, ax),
    "confusion": lambda ax: plot_confusion(np.array([[3, 1], [0, 0]]), ["no", "yes"], ax),
    "intervals": lambda ax: plot_intervals({"a": Interval(0.8, 0.7, 0.9)}, ax, xlabel="accuracy"),
    "reliability": lambda ax: plot_reliability(BINS, ax),
}


@pytest.fixture
def axes():
    with mpl.rc_context():
        figure, axes = plt.subplots(1, 2)
        yield axes
        plt.close(figure)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plotter_returns_its_axes_and_neither_shows_nor_opens_nor_touches_others(
    name, axes, monkeypatch
):
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("a plotter must not show"))
    before = plt.get_fignums()
    assert PLOTS[name](axes[1]) is axes[1]
    assert plt.get_fignums() == before
    assert axes[1].has_data()
    assert not axes[0].has_data()
    assert axes[1].get_xlabel()


def test_the_training_curve_is_the_running_mean(axes):
    ax = plot_history(HISTORY, axes[0], window=4)
    training, validation = ax.get_lines()
    assert training.get_xdata().tolist() == list(range(4, 31))
    assert training.get_ydata()[0] == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert training.get_ydata()[-1] == pytest.approx((27 + 28 + 29 + 30) / 4)
    assert validation.get_xydata().tolist() == [[10, 4], [30, 2]]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["training, mean of 4 steps", "validation"]


def test_a_run_shorter_than_the_window_is_drawn(axes):
    short = History(steps=HISTORY.steps[:3], evaluations=HISTORY.evaluations[:1])
    assert plot_history(short, axes[0]).get_lines()[0].get_ydata().tolist() == [2.0]


def test_a_confusion_matrix_shows_counts_where_they_belong(axes):
    """Rows are true classes; the colour is the share of the row, also of an empty one."""
    ax = plot_confusion(np.array([[1200, 400], [0, 0]]), ["no", "yes"], axes[0])
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts == {(0, 0): "1,200", (1, 0): "400", (0, 1): "0", (1, 1): "0"}
    assert ax.get_images()[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["no", "yes"]
    assert ax.get_xlabel().startswith("predicted")
    assert ax.get_ylabel().startswith("true")


def test_intervals_keep_their_order_from_the_top(axes):
    given = {"first": Interval(0.8, 0.7, 0.95), "second": Interval(0.5, 0.5, 0.6)}
    ax = plot_intervals(given, axes[0], xlabel="F1")
    heights = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    assert heights["first"] > heights["second"]
    segments = ax.collections[0].get_segments()
    assert segments[0][:, 0].tolist() == pytest.approx([0.7, 0.95])
    assert segments[1][:, 0].tolist() == pytest.approx([0.5, 0.6])


def test_a_reliability_plot_leaves_empty_bins_out_and_shows_how_many_rows_the_others_have(axes):
    ax = plot_reliability(BINS, axes[0], label="a model")
    assert ax.get_lines()[0].get_xydata().tolist() == [[0.1, 0.2], [0.9, 0.7]]
    first, second = ax.collections[0].get_sizes()
    assert first - second == pytest.approx(300 * (0.75 - 0.25))


def test_the_style_is_colour_blind_safe():
    with mpl.rc_context():
        mpl.rcdefaults()
        use_style()
        colours = [colour["color"] for colour in mpl.rcParams["axes.prop_cycle"]]
    okabe_ito = {"E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7", "000000"}
    assert {colour.lstrip("#").upper() for colour in colours} <= okabe_ito
    assert len(set(colours)) == len(colours) >= 6


@pytest.mark.parametrize("alt", ["", "a plot", "loss by optimiser step"])
def test_a_figure_without_a_description_is_not_shown(alt, axes):
    with pytest.raises(ValueError, match="at least 5 words"):
        show(axes[0].figure, alt=alt)
    assert plt.fignum_exists(axes[0].figure.number)


CELL = """
import matplotlib.pyplot as plt
from course_utils.plotting import show
figure, ax = plt.subplots()
ax.plot([1, 2])
show(figure, alt="A straight line that rises from one to two.")
"""


def test_in_a_notebook_a_figure_appears_once_with_its_description():
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell("plt.get_fignums()")]
    )
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown, figures = (cell.outputs for cell in notebook.cells)
    assert [output.output_type for output in shown] == ["display_data"]
    assert shown[0].metadata["image/png"]["alt"] == "A straight line that rises from one to two."
    assert base64.b64decode(shown[0].data["image/png"]).startswith(b"\x89PNG")
    assert figures[0].data["text/plain"] == "[]", "closed, so that the next cell does not repeat it"


def test_labels_cover_neither_each_other_nor_points(axes):
    """Eight points in a heap: beside their points, most of the labels would cover another."""
    rng = np.random.default_rng(0)
    points, words = rng.normal(0, 0.03, (8, 2)), [f"word {i}" for i in range(8)]
    ax = axes[0]
    ax.scatter(*points.T, s=14)
    ax.set(xlim=(-1, 1), ylim=(-1, 1))
    assert label_points(points, words, ax) is ax
    ax.figure.draw_without_rendering()
    labels = [text for text in ax.texts if text.get_text()]
    assert [label.get_text() for label in labels] == words
    boxes = [label.get_window_extent() for label in labels]
    for number, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:number] + boxes[number + 1 :]) == 0
        assert not box.contains(*ax.transData.transform(points[number]))


def test_a_label_alone_stands_right_of_its_point(axes):
    axes[0].set(xlim=(0, 1), ylim=(0, 1))
    label_points(np.array([[0.5, 0.5]]), ["alone"], axes[0])
    (label,) = axes[0].texts
    assert label.get_position() == (5, 0)
    with pytest.raises(ValueError, match="shorter"):
        label_points(np.zeros((2, 2)), ["one"], axes[0])
