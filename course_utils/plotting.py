"""Records and arrays to matplotlib axes.

Every plotter draws on the axes it is given and returns them; none shows or saves. Colours
are those of M. Okabe and K. Ito, told apart by colour-blind readers; they live, with sizes
and fonts, in ``course.mplstyle`` beside this file.

`show` is the one function that displays. It carries the text that a reader who cannot see
the picture gets instead of it.
"""

from collections.abc import Sequence
from importlib.resources import as_file, files
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from course_utils.history import History
from course_utils.inputs import finite_number, numbers, whole_number
from course_utils.intervals import Interval
from course_utils.metrics import ReliabilityBins
from course_utils.thresholds import ThresholdTable


def use_style() -> None:
    """Apply the course's matplotlib style to the figures made from now on."""
    with as_file(files("course_utils") / "course.mplstyle") as path:
        plt.style.use(path)


def show(figure: Figure, alt: str) -> None:
    """Display a figure once, with its alternative text, and close it.

    Parameters
    ----------
    figure : Figure
    alt : str
        What the figure shows, for a reader who cannot see it: the kind of plot, what is on
        the axes, and what one learns from it.

    Raises
    ------
    ValueError
        If the text says next to nothing.
    """
    if not isinstance(alt, str) or len(alt.split()) < 5:
        raise ValueError(f"alt must say what the figure shows, in at least 5 words; got {alt!r}")
    from IPython.display import display  # only in a notebook

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def plot_history(history: History, ax: Axes, *, window: int = 20) -> Axes:
    """Draw the training loss (a running mean over `window` steps) and the validation loss.

    Raises
    ------
    ValueError
        If no step was taken, or `window` is below 1.
    """
    losses = np.array([record.loss for record in history.steps])
    if not len(losses):
        raise ValueError("the history has no steps: nothing was trained")
    window = min(whole_number(window, "window", least=1), len(losses))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    ax.plot(np.arange(window, len(losses) + 1), smooth, label=f"training, mean of {window} steps")
    steps = [record.step for record in history.evaluations]
    ax.plot(steps, [record.loss for record in history.evaluations], "o-", label="validation")
    ax.set(xlabel="optimiser step", ylabel="loss")
    ax.legend()
    return ax


def plot_confusion(confusion: np.ndarray, class_names: Sequence[str], ax: Axes) -> Axes:
    """Draw a confusion matrix (C, C): rows true, columns predicted, with counts.

    Raises
    ------
    ValueError
        If it is not square, a count is negative, or there is not one name for each class.
    """
    confusion = _square(confusion, class_names, "confusion")
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        ax.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    places = range(len(class_names))
    ax.set_xticks(places, class_names)
    ax.set_yticks(places, class_names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.grid(False)
    return ax


def plot_reliability(bins: ReliabilityBins, ax: Axes, *, label: str | None = None) -> Axes:
    """Draw what was true against what was said; a calibrated model lies on the diagonal.

    A dot's area is its share of the rows. Empty bins are left out.

    Raises
    ------
    ValueError
        If all bins are empty.
    """
    if not np.sum(bins.counts):
        raise ValueError("all bins are empty: there is nothing to draw")
    filled = bins.counts > 0
    said, was = bins.said[filled], bins.was[filled]
    (line,) = ax.plot(said, was, linewidth=1, label=label)
    area = 300 * bins.counts[filled] / bins.counts.sum()
    ax.scatter(said, was, s=area + 5, color=line.get_color())
    ax.axline((0, 0), slope=1, color="#444444", linestyle="--", linewidth=1)
    ax.set(xlabel="probability said", ylabel="share that was true", xlim=(0, 1), ylim=(0, 1))
    return ax


def plot_intervals(intervals: dict[str, Interval], ax: Axes, *, xlabel: str) -> Axes:
    """Draw named numbers with their intervals, the first on top.

    Raises
    ------
    ValueError
        If there is none.
    """
    names = list(intervals)
    if not names:
        raise ValueError("need an interval to draw, got none")
    values = np.array([intervals[name].value for name in names])
    ends = np.array([[intervals[name].low, intervals[name].high] for name in names])
    places = np.arange(len(names))[::-1]
    ax.errorbar(values, places, xerr=np.abs(ends.T - values), fmt="o", capsize=4)
    ax.set_yticks(places, names)
    ax.set(xlabel=xlabel, ylim=(-0.5, len(names) - 0.5))
    return ax


def plot_thresholds(table: ThresholdTable, ax: Axes, *, threshold: float | None = None) -> Axes:
    """Draw precision, recall and F1 against the threshold, and a line where it is set."""
    for name, style in (("precision", "-"), ("recall", "--"), ("f1", ":")):
        values = getattr(table, name)[:-1]
        ax.plot(table.thresholds[:-1], values, style, label=name.replace("f1", "F1"))
    if threshold is not None:
        threshold = finite_number(threshold, "threshold")
        ax.axvline(threshold, color="#444444", linestyle="--", linewidth=1)
    ax.set(xlabel="threshold on the probability", ylabel="score", xlim=(0, 1), ylim=(0, 1))
    ax.legend()
    return ax


def plot_costs(
    table: ThresholdTable, ax: Axes, *, misses: Sequence[float], false_alarm: float = 1.0
) -> Axes:
    """Draw the cost per row against the threshold, one curve for each price of a miss.

    A dot marks the cheapest threshold of each curve. Flagging nobody is the right end.

    Raises
    ------
    ValueError
        If there is no price, or one is negative or no number.
    """
    if not len(misses):
        raise ValueError("misses needs the price of a miss or more, got none")
    rows = table.caught[0] + table.missed[0] + table.false_alarms[0]
    ends = np.append(table.thresholds[:-1], 1.0)
    for miss, style in zip(misses, cycle(("-", "--", ":", "-.")), strict=False):
        cost = table.cost(miss, false_alarm) / rows
        (line,) = ax.plot(ends, cost, style, label=f"{miss:g}")
        ax.plot(ends[cost.argmin()], cost.min(), "o", color=line.get_color())
    ax.set(xlabel="threshold on the probability", ylabel="cost per row", xlim=(0, 1))
    ax.legend(title="price of a miss")
    return ax


def plot_attention(weights: np.ndarray, tokens: Sequence[str], ax: Axes) -> Axes:
    """Draw attention weights (T, T): row i says how token i distributes its attention.

    Raises
    ------
    ValueError
        If they are not one row and one column for each token, or not from 0 up.
    """
    weights = _square(weights, tokens, "weights")
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    places = range(len(tokens))
    ax.set_xticks(places, tokens, rotation=90)
    ax.set_yticks(places, tokens)
    ax.set(xlabel="is looked at (key)", ylabel="looks (query)")
    ax.grid(False)
    return ax


def label_points(points: np.ndarray, labels: Sequence[str], ax: Axes) -> Axes:
    """Write a label beside each point, where it covers no other label and no other point.

    Call it last: what changes the size or the limits of the axes afterwards moves the points
    apart or together, and not the labels' sizes with them.

    Parameters
    ----------
    points : ndarray of shape (N, 2)
        Places, in the units of the axes.
    labels : sequence of str
        N words.
    ax : Axes
    """
    ax.figure.canvas.figure.draw_without_rendering()  # lays it out: places are final now
    angles = np.radians(range(0, 360, 45))  # to the right first
    offsets = [(r * np.cos(angle), r * np.sin(angle)) for r in (5, 10, 16, 24) for angle in angles]
    screen = ax.transData.transform(points)  # (N, 2), pixels
    spots = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in screen]
    written: list[Bbox] = []
    for number, (point, label) in enumerate(zip(points, labels, strict=True)):
        text = ax.annotate(label, point, (0, 0), textcoords="offset points", fontsize=8)
        others = spots[:number] + spots[number + 1 :] + written
        covered = [_box_at(text, offset).count_overlaps(others) for offset in offsets]
        x, y = offsets[int(np.argmin(covered))]  # the first of the best: the nearest
        written.append(_box_at(text, (x, y)))
        if np.hypot(x, y) > 8:  # too far to see at once whose label it is
            line = {"arrowstyle": "-", "color": "#444444", "linewidth": 0.5}
            ax.annotate("", point, (x, y), textcoords="offset points", arrowprops=line)
    return ax


def _box_at(text: Annotation, offset: tuple[float, float]) -> Bbox:
    """Move a text to an offset from its point, growing away from it; the box it then fills."""
    side = ("center", "left", "right")[round(np.sign(round(offset[0])))]
    text.set(position=offset, ha=side, va="center")
    return text.get_window_extent()


def plot_tokens(
    tokens: Sequence[str], ids: Sequence[int], ax: Axes, *, line_width: int = 90
) -> Axes:
    """Draw tokens as boxes over their ids, in lines; pieces of one word share its colour.

    Raises
    ------
    ValueError
        If tokens and ids differ in number, or there are none.
    """
    if len(tokens) != len(ids) or not len(tokens):
        raise ValueError(f"need one id per token, got {len(tokens)} tokens and {len(ids)} ids")
    line_width = whole_number(line_width, "line_width", least=1)
    row, column, word = 0, 0, 0
    for token, number in zip(tokens, ids, strict=True):
        width = max(len(token), len(str(number))) + 2
        if column + width > line_width:
            row, column = row + 1, 0
        word += not token.startswith("##")
        special = token.startswith("[") and token.endswith("]") and len(token) > 2
        colour = "#E5E7E9" if special else ("#D6EAF8", "#FDEBD0")[word % 2]
        ax.broken_barh([(column + 0.1, width - 0.2)], (row - 0.42, 0.84), facecolors=colour)
        style: dict[str, Any] = {"ha": "center", "va": "center", "family": "monospace"}
        ax.text(column + width / 2, row - 0.13, token, fontsize=9, **style)
        ax.text(column + width / 2, row + 0.22, str(number), fontsize=7, color="#444444", **style)
        column += width
    ax.set(xlim=(0, line_width), ylim=(max(row, 1) + 0.5, -0.5))
    ax.axis("off")
    return ax


def plot_map(
    boxes: dict[str, tuple[float, float]], arrows: Sequence[tuple[str, str, str]], ax: Axes
) -> Axes:
    """Draw named boxes at their places and labelled arrows between them.

    Parameters
    ----------
    boxes : dict of str to (float, float)
        The text in each box and its centre, in percent of the width and height.
    arrows : sequence of (str, str, str)
        From the box beginning with this text, to the box beginning with that, and the words
        written on the arrow, or none.
    ax : Axes

    Raises
    ------
    ValueError
        If an arrow names no box, or more than one.
    """
    style = {"boxstyle": "round,pad=0.5", "facecolor": "#EAF2F8", "edgecolor": "#0072B2"}
    ground = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    drawn = {
        text: ax.text(x, y, text, fontsize=9, bbox=style, zorder=2, **centred)
        for text, (x, y) in boxes.items()
    }
    for *ends, words in arrows:
        found = [[text for text in boxes if text.startswith(end)] for end in ends]
        if any(len(texts) != 1 for texts in found):
            raise ValueError(f"an arrow needs one box at each end: {ends} matches {found}")
        (tail,), (head,) = found
        line = {"arrowstyle": "-|>", "color": "#444444", "shrinkA": 2, "shrinkB": 2}
        line |= {"patchA": drawn[tail].get_bbox_patch(), "patchB": drawn[head].get_bbox_patch()}
        # Drawn after the boxes: where an arrow ends depends on how large its box came out.
        ax.annotate("", boxes[head], xytext=boxes[tail], arrowprops=line, zorder=3)
        x, y = np.mean([boxes[tail], boxes[head]], axis=0)
        if words:
            ax.text(x, y, words, fontsize=8, style="italic", bbox=ground, zorder=4, **centred)
    ax.set(xlim=(0, 100), ylim=(0, 100))
    ax.axis("off")
    return ax


def _square(values: np.ndarray, names: Sequence[str], what: str) -> np.ndarray:
    """Return an array with one row and one column for each name, no value below 0."""
    array = numbers(values, what)
    if array.shape != (len(names), len(names)) or not array.size:
        raise ValueError(
            f"{what} must have a row and a column for each name, got {array.shape} for "
            f"{len(names)} names"
        )
    if array.min() < 0:
        raise ValueError(f"{what} must not be below 0, got {array.min()}")
    return array
