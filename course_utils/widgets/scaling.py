"""A dial for the loss scale, of lesson 12: which of a gradient's numbers fit into float16."""

import html
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from course_utils.inputs import as_array
from course_utils.widgets.explorer import GREY, LABELS, WIDE, Explorer, Stage, image

SMALLEST, FULL, LARGEST = -24, -14, 16  # float16, as powers of two: zero below, coarse, too large
POWERS = range(0, 33, 2)


def loss_scale_dial(gradient: Any, *, power: int = 0) -> Explorer:
    """Turn the loss scale, and see which of a gradient's numbers float16 can hold.

    Parameters
    ----------
    gradient : array or Tensor
        Zeros in it are left out.
    power : int
        The scale is two to this power; one of `POWERS`, where the dial begins.

    Raises
    ------
    ValueError
        If no number is left, one is not finite, or `power` is not on the dial.

    Examples
    --------
    >>> dial = loss_scale_dial(2.0 ** np.array([-30.0, -20, -10, 0]))
    >>> print(dial.said)
    Loss times 2^0: 25% of the gradient is zero in float16, 25% is coarse, 0% is infinite.
    >>> dial.controls["power"].value = 16
    >>> print(dial.said)
    Loss times 2^16: 0% of the gradient is zero in float16, 0% is coarse, 25% is infinite.
    """
    values = np.abs(as_array(gradient, "gradient").astype(float)).ravel()
    values = values[values > 0]
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("a gradient needs a number other than 0, and all of them finite")
    if power not in POWERS:
        raise ValueError(f"power must be one of {list(POWERS)}, got {power}")
    magnitudes = np.log2(values)
    edges = np.arange(-48, 49)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    ax = figure.subplots()
    counts = np.histogram(magnitudes, edges)[0]
    (hill,) = ax.plot(edges[:-1] + 0.5, counts, drawstyle="steps-mid")
    ax.axvspan(edges[0], SMALLEST, color=GREY, alpha=0.5, hatch="//", label="zero in float16")
    ax.axvspan(SMALLEST, FULL, color=GREY, alpha=0.25, label="coarse")
    ax.axvspan(LARGEST, edges[-1], color=GREY, alpha=0.5, hatch="..", label="infinite")
    ax.set(xlabel="magnitude, as a power of two", ylabel="numbers", xlim=(-40, 40))
    figure.legend(loc="outside upper center", ncols=3)  # beside the fields, whose hatching hid it
    stage = Stage(figure, [hill])

    def step(power: int) -> tuple[str, str]:
        hill.set_xdata(edges[:-1] + 0.5 + power)
        with np.errstate(over="ignore"):
            held = (values * 2.0**power).astype(np.float16).astype(float)
        zero, infinite = (held == 0).mean(), np.isinf(held).mean()
        coarse = ((held > 0) & (held < 2.0**FULL)).mean()
        words = (
            f"Loss times 2^{power}: {zero:.0%} of the gradient is zero in float16, "
            f"{coarse:.0%} is coarse, {infinite:.0%} is infinite."
        )
        alt = "Histogram of a gradient's magnitudes over the range of float16."
        return image(stage.png(), alt), html.escape(words)

    controls = {
        "power": ipywidgets.SelectionSlider(
            options=[(f"2^{p}", p) for p in POWERS],
            value=power,
            description="Loss times",
            style=LABELS,
            layout=WIDE,
        )
    }
    step(power)
    return Explorer(controls, step, stage.png())
