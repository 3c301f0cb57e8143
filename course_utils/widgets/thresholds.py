"""A dial for the threshold, of lessons 06 and 07: what moving it buys and costs."""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from course_utils.plotting import plot_confusion, plot_costs, plot_thresholds
from course_utils.thresholds import threshold_table
from course_utils.widgets.explorer import GREY, LABELS, WIDE, Explorer, Stage, counted, image


def threshold_dial(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    costs: Sequence[float] = (1.0, 3.0, 10.0),
    threshold: float = 0.5,
    class_names: tuple[str, str] = ("common", "rare"),
) -> Explorer:
    """Turn the threshold, and see the confusion matrix, the scores and the cost.

    Parameters
    ----------
    labels : array of shape (N,)
        1 for the class that is looked for, else 0. Of the validation set, never of the test set.
    scores : array of shape (N,)
        Probabilities of that class.
    costs : sequence of float
        Prices of a missed row, in false alarms. A second control chooses among them.
    threshold : float
        Where the dial begins; rounded to hundredths.
    class_names : (str, str)
        Names of the classes 0 and 1.

    Raises
    ------
    ValueError
        If a score is not a probability, no price is given, or `threshold_table` refuses.

    Examples
    --------
    >>> dial = threshold_dial(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]), costs=(1, 5))
    >>> dial.controls["threshold"].value = 0.3
    >>> print(dial.said)
    At 0.30, 3 of 4 are called rare: 2 hits, 1 false alarm; 0 of 2 missed. Precision 0.67, recall \
1.00, F1 0.80. A miss costs 1 false alarm: 0.250 for each row; the least is 0.250, at 0.40.
    """
    if not len(costs) or min(costs) <= 0:
        raise ValueError(f"costs need one price or more, all above 0, got {costs}")
    table = threshold_table(labels, scores)
    if table.thresholds[0] < 0 or table.thresholds[-2] > 1:
        raise ValueError("scores must be probabilities, from 0 to 1")
    rows = len(labels)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    curves, matrix, money = figure.subplots(1, 3, width_ratios=(3, 2, 3))
    plot_thresholds(table, curves)
    plot_confusion(np.ones((2, 2), dtype=int), class_names, matrix)
    plot_costs(table, money, misses=costs)
    for ax, title in ((curves, None), (money, "price of a miss")):  # above: lines move below
        ax.legend(title=title, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(ax.lines))
    cells, numbers = matrix.images[0], list(matrix.texts)
    (line,) = curves.plot([0.5, 0.5], [0, 1], color=GREY, linestyle="--", linewidth=1)
    (here,) = money.plot([0.5, 0.5], money.get_ylim(), color=GREY, linestyle="--", linewidth=1)
    (dots,) = curves.plot([], [], "o", color=GREY)
    (paid,) = money.plot([], [], "o", color=GREY, markerfacecolor="white", markersize=9)
    # Nobody pays more than flagging everyone, or no one, costs: dear misses would hide the rest.
    top = 1.6 * max(table.false_alarms[0], min(costs) * table.caught[0]) / rows
    money.set_ylim(0, top)
    here.set_ydata([0, top])
    stage = Stage(figure, [line, here, dots, paid, cells, *numbers])

    def step(threshold: float, price: float) -> tuple[str, str]:
        at = table.place(threshold)
        caught, missed, alarms = (
            int(counts[at]) for counts in (table.caught, table.missed, table.false_alarms)
        )
        scores_here = [float(x[at]) for x in (table.precision, table.recall, table.f1)]
        cost = table.cost(price) / rows
        line.set_xdata([threshold] * 2)
        here.set_xdata([threshold] * 2)
        dots.set_data([threshold] * 3, scores_here)
        paid.set_data([threshold], [cost[at]])
        confusion = np.array([[rows - caught - missed - alarms, alarms], [missed, caught]])
        _recount(cells, numbers, confusion)
        words = (
            f"At {threshold:.2f}, {caught + alarms:,} of {rows:,} are called {class_names[1]}: "
            f"{counted(caught, 'hit')}, {counted(alarms, 'false alarm')}; "
            f"{missed:,} of {caught + missed:,} missed. "
            "Precision {:.2f}, recall {:.2f}, F1 {:.2f}. ".format(*scores_here)
            + f"A miss costs {counted(price, 'false alarm')}: {cost[at]:.3f} for each row; "
            f"the least is {cost.min():.3f}, at {_hundredth(table.cheapest(price)):.2f}."
        )
        alt = "Precision, recall and F1, the confusion matrix, and the cost against the threshold."
        return image(stage.png(), alt), html.escape(words)

    controls = {
        "threshold": ipywidgets.FloatSlider(
            value=round(threshold, 2),
            max=1.0,
            step=0.01,
            description="Threshold",
            style=LABELS,
            layout=WIDE,
        ),
        "price": ipywidgets.SelectionSlider(
            options=[(f"{cost:g}", float(cost)) for cost in costs],
            description="Price of a miss",
            style=LABELS,
            layout={"width": "20em"},
        ),
    }
    buttons = {
        "Best F1": lambda: {"threshold": _hundredth(table.best_f1())},
        "Cheapest": lambda: {
            "threshold": _hundredth(table.cheapest(controls["price"].value)),
        },
    }
    step(controls["threshold"].value, controls["price"].value)
    return Explorer(controls, step, stage.png(), buttons)


def _hundredth(threshold: float) -> float:
    """Return where the slider stands for a threshold: rounded down, 1 for infinity.

    Down, because a row is flagged when its probability is at least the threshold.
    """
    return float(np.floor(100 * min(threshold, 1.0) + 1e-9) / 100)


def _recount(cells: Any, numbers: Sequence[Any], confusion: np.ndarray) -> None:
    """Put other counts into a picture made by `plot_confusion`."""
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    cells.set_data(shares)
    for text, count, share in zip(numbers, confusion.flat, shares.flat, strict=True):
        text.set_text(f"{count:,}")
        text.set_color("white" if share > 0.5 else "black")
