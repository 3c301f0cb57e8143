"""How much of the training each task gets, of lesson 11: a dial for the temperature."""

import html
from collections.abc import Mapping

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from course_utils.inputs import whole_number
from course_utils.tasks import mixing_shares
from course_utils.widgets.explorer import GREY, LABELS, WIDE, Explorer, Stage, image

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, float("inf"))


def mixing_dial(
    sizes: Mapping[str, int], *, drawn: int | None = None, temperature: float = 1.0
) -> Explorer:
    """Turn the temperature: which share of the batches each task gets, how often a row is seen.

    Parameters
    ----------
    sizes : mapping of str to int
        Rows of each task, by its name.
    drawn : int, optional
        Rows drawn in the whole run; as many as there are, if not given.
    temperature : float
        One of `TEMPERATURES`, where the dial starts.

    Raises
    ------
    ValueError
        If there is no task, a task has no row, or the temperature is not on the dial.

    Examples
    --------
    >>> print(mixing_dial({"large": 900, "small": 100}, temperature=float("inf")).said)
    Temperature infinity: large gets 50%, each row seen 0.6 times; small gets 50%, each row \
seen 5.0 times.
    """
    if temperature not in TEMPERATURES:
        raise ValueError(f"temperature must be one of {TEMPERATURES}, got {temperature}")
    names, counts = list(sizes), np.array(list(sizes.values()))
    natural = mixing_shares(counts.tolist())
    total = int(counts.sum()) if drawn is None else whole_number(drawn, "drawn", least=1)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = np.arange(len(names))
    left.plot(places, natural, "_", color=GREY, markersize=34, label="in proportion to size")
    bars = left.bar(places, natural, width=0.6, color="#0072B2")
    seen = right.bar(places, natural, width=0.6, color="#009E73")
    most = total * float(mixing_shares(counts.tolist(), float("inf")).max()) / counts.min()
    right.axhline(1, color=GREY, linestyle=":", linewidth=1)
    left.set(ylabel="share of the training rows", ylim=(0, 1))
    right.set(ylabel="times each row is seen", ylim=(0, 1.1 * max(most, 1)))
    for ax in (left, right):
        ax.set_xticks(places, [f"{n}\n{c} rows" for n, c in zip(names, counts, strict=True)])
    left.legend(loc="upper right")
    stage = Stage(figure, [*bars, *seen])

    def step(temperature: float) -> tuple[str, str]:
        shares = mixing_shares(counts.tolist(), temperature)
        times = shares * total / counts
        for heights, patches in ((shares, bars), (times, seen)):
            for height, patch in zip(heights, patches, strict=True):
                patch.set_height(height)
        told = "; ".join(
            f"{name} gets {share:.0%}, each row seen {time:.1f} times"
            for name, share, time in zip(names, shares, times, strict=True)
        )
        shown = "infinity" if np.isinf(temperature) else f"{temperature:g}"
        alt = (
            "Bars: each task's share of the training rows, and how often each of its rows is seen."
        )
        return image(stage.png(), alt), html.escape(f"Temperature {shown}: {told}.")

    controls = {
        "temperature": ipywidgets.SelectionSlider(
            options=[("infinity" if np.isinf(t) else f"{t:g}", t) for t in TEMPERATURES],
            value=temperature,
            description="Temperature",
            style=LABELS,
            layout=WIDE,
        )
    }
    step(temperature)
    return Explorer(controls, step, stage.png())
