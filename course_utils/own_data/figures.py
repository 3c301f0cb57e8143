"""Figures for the pages: inside the page as data, each with words for who cannot see it.

The plots are those of `plotting`; the alternative text says what the figure shows, with numbers.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from course_utils.history import History
from course_utils.intervals import Interval
from course_utils.metrics import ReliabilityBins
from course_utils.own_data.audit import Audit
from course_utils.own_data.goals import Goal
from course_utils.own_data.outcome import CurvePoint, Outcome
from course_utils.plotting import plot_confusion, plot_history, plot_intervals, plot_reliability

MOST_BARS = 30


@dataclass(frozen=True)
class Picture:
    """A figure as a page holds it: a ``data:`` address, and the words instead of it."""

    source: str
    alt: str


def draw(plot: Callable[[Axes], object], alt: str, size: tuple[float, float] = (6, 3.4)) -> Picture:
    """Draw on new axes in the course's style, and return the figure as a PNG in text."""
    with as_file(files("course_utils") / "course.mplstyle") as style, plt.style.context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure.add_subplot())
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return Picture(f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}", alt)


def counts_figure(audit: Audit) -> Picture:
    """Draw how many usable rows each class or tag has."""
    ranked = sorted(audit.counts.items(), key=lambda item: -item[1])
    shown = ranked[:MOST_BARS]
    names = [name[:30] for name, _ in shown]
    most, least = ranked[0], ranked[-1]

    def plot(ax: Axes) -> None:
        ax.barh(range(len(shown)), [count for _, count in shown])
        ax.set_yticks(range(len(shown)), names)
        ax.invert_yaxis()
        ax.set(xlabel="usable rows")

    alt = (
        f"Bars of usable rows for each of {len(ranked)} labels, from {most[1]:,} for {most[0]} "
        f"down to {least[1]:,} for {least[0]}."
    )
    return draw(plot, alt, (6, 1.2 + 0.25 * len(shown)))


def lengths_figure(audit: Audit) -> Picture:
    """Draw how long the texts are, and where they are cut."""
    tokens, edge = audit.tokens, audit.max_tokens
    cut = float(np.mean(tokens > edge))

    def plot(ax: Axes) -> None:
        ax.hist(np.minimum(tokens, 2 * edge), bins=40)
        ax.axvline(edge, color="#444444", linestyle="--", linewidth=1, label=f"cut at {edge}")
        ax.set(xlabel=f"tokens of a text (longer than {2 * edge}: there)", ylabel="texts")
        ax.legend()

    alt = (
        f"Histogram of tokens in a text: half have {np.median(tokens):.0f} or fewer, the longest "
        f"{tokens.max():,}; {cut:.1%} are longer than {edge}, where they are cut."
    )
    return draw(plot, alt)


def training_figure(history: History) -> Picture:
    """Draw training and validation loss."""
    best, last = history.best, history.evaluations[-1]
    alt = (
        f"Training loss over {len(history.steps)} steps, and the validation loss: lowest at step "
        f"{best.step} ({best.loss:.3f}), whose weights were kept; {last.loss:.3f} at the end."
    )
    return draw(lambda ax: plot_history(history, ax), alt)


def curve_figure(points: Sequence[CurvePoint], score: str) -> Picture:
    """Draw the score on validation against the number of training rows."""
    tuned = [(p.rows, p.model) for p in points if p.model is not None]

    def plot(ax: Axes) -> None:
        ax.plot([p.rows for p in points], [p.linear for p in points], "s--", label="counted words")
        ax.plot([r for r, _ in tuned], [s for _, s in tuned], "o-", label="fine-tuned")
        ax.set_xscale("log", base=2)
        ax.set_xticks([p.rows for p in points], [f"{p.rows:,}" for p in points])
        ax.minorticks_off()
        ax.set(xlabel="training rows (each step doubles)", ylabel=f"{score}, validation")
        ax.legend()

    words = "; ".join(
        f"{p.rows:,} rows: counted words {p.linear:.3f}"
        + (f", fine-tuned {p.model:.3f}" if p.model is not None else "")
        for p in points
    )
    return draw(plot, f"{score} on validation against training rows. {words}.")


def intervals_figure(scores: dict[str, Interval], score: str) -> Picture:
    """Draw a score of several models with its intervals."""
    words = "; ".join(f"{name} {found}" for name, found in scores.items())
    alt = f"{score} on the test set with intervals. {words}."
    return draw(lambda ax: plot_intervals(scores, ax, xlabel=score), alt, (6, 2.2))


def reliability_figure(found: Outcome) -> Picture:
    """Draw what was said against what was true."""
    assert found.reliability is not None
    bins = ReliabilityBins(**{name: np.array(v) for name, v in found.reliability.items()})
    gap = found.calibration["after"]
    alt = (
        "Share that was true against the probability said, on the test set; a calibrated model "
        f"lies on the diagonal. The mean gap is {gap:.3f}."
    )
    return draw(lambda ax: plot_reliability(bins, ax), alt, (4.2, 3.8))


def confusion_figure(found: Outcome, goal: Goal) -> Picture:
    """Draw the confusion matrix of a few classes."""
    matrix, names = found.confusion, goal.names
    assert matrix is not None
    off = matrix - np.diag(np.diag(matrix))
    true, said = np.unravel_index(off.argmax(), off.shape)
    alt = (
        f"Confusion matrix of {len(names)} classes on the test set: {np.trace(matrix)} of "
        f"{matrix.sum()} are right; the commonest error is {names[true]} taken for {names[said]} "
        f"({off.max()} times)."
    )

    def plot(ax: Axes) -> None:
        plot_confusion(matrix, [name[:20] for name in names], ax)
        ax.tick_params(axis="x", rotation=90 if len(names) > 3 else 0)

    side = 2.4 + 0.45 * len(names)
    return draw(plot, alt, (side + 0.8, side))
