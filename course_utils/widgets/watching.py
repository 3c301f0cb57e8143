"""The dashboard of lesson 16a: a tone over time, a chart that adds up, and its alarm."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from course_utils.alarms import (
    cusum,
    first_alarm,
    limit_for,
    quiet_streams,
    standardised,
)
from course_utils.inputs import vector
from course_utils.widgets.explorer import GREY, RED, Explorer, Stage, choice, counted, image

RARE = (50, 200, 500)  # texts for each false alarm
FALLS = (0.0, 0.5, 1.0, 2.0)  # standard deviations
STREAMS, LENGTH = 100, 2500  # quiet ones, to set a limit: several times the rarest
SMOOTH = 10


def alarm_dashboard(topics: Mapping[str, Any]) -> Explorer:
    """Choose a topic, let its tone fall, and see when CUSUM notices.

    The first half of each topic is its quiet history and sets the limit. The fall begins in the
    middle of the second half. An alarm before it is a false one: the chart begins again at 0.

    Parameters
    ----------
    topics : mapping of str to array of shape (T,)
        The tone of a topic's texts, in order; 12 or more of each, not all equal in the history.

    Raises
    ------
    ValueError
        If there is no topic, or one is too short or constant.

    Examples
    --------
    >>> tone = np.random.default_rng(0).normal(size=80)
    >>> dashboard = alarm_dashboard({"prices": tone, "service": tone})
    >>> dashboard.controls["fall"].value = 2.0
    >>> print(dashboard.said)
    prices: 80 texts; from number 61 on lower by 2 standard deviations. Limit ... Alarm at ...
    """
    if not topics:
        raise ValueError("need a topic to watch, got none")
    series, limits = {}, {}
    for name, values in topics.items():
        tone = vector(values, f"topics[{name!r}]").astype(float)
        if len(tone) < 12:
            raise ValueError(f"{name} has {len(tone)} texts: need 12 or more to halve them")
        z = standardised(tone, tone[: len(tone) // 2])
        series[name] = z
        quiet = cusum(quiet_streams(z[: len(z) // 2], STREAMS, LENGTH, seed=0))
        limits.update({(name, rare): limit_for(quiet, rare) for rare in RARE})

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    most = max(len(z) for z in series.values())
    above.set(xlim=(0, most + 1), ylim=(-5, 4), ylabel="tone (sd of history)")
    below.set(xlim=(0, most + 1), ylim=(0, 4 * max(limits.values())), xlabel="number of the text")
    below.set(ylabel="CUSUM")
    [dots] = above.plot([1], [0], ".", color=GREY, markersize=3)
    [mean] = above.plot([1], [0], color="#0072B2", linewidth=2)
    [sums] = below.plot([1], [0], color="#0072B2")
    limit_line = below.axhline(1, color=GREY, linestyle="--", label="limit")
    ends = [
        axes.axvline(1, color=GREY, linestyle=":", label="history ends") for axes in (above, below)
    ]
    falls = [axes.axvline(1, color="black", label="fall begins") for axes in (above, below)]
    alarms = [_lines(axes, "-", "alarm") for axes in (above, below)]
    false = [_lines(axes, "-.", "false alarm") for axes in (above, below)]
    named = [ends[0], limit_line, falls[0], alarms[0], false[0]]
    figure.legend(handles=named, loc="outside upper center", ncols=len(named))
    moving = [dots, mean, sums, limit_line, *ends, *falls, *alarms, *false]
    stage = Stage(figure, moving)

    def step(topic: str, fall: float, rare: int) -> tuple[str, str]:
        z, limit = series[topic].copy(), limits[topic, rare]
        half, start = len(z) // 2, len(z) - len(z) // 4
        z[start:] -= fall
        before = start - half if fall else len(z) - half  # watched while nothing has happened
        chart, numbers = watch(z[half:], limit, before)
        early = [half + number for number in numbers if number <= before]
        found = [half + number for number in numbers if number > before]
        places = np.arange(1, len(z) + 1)
        fading = [z[max(0, i - SMOOTH + 1) : i + 1].mean() for i in range(len(z))]
        dots.set_data(places, z)
        mean.set_data(places, fading)
        sums.set_data(places[half:], chart)
        limit_line.set_ydata([limit, limit])
        for end, begin in zip(ends, falls, strict=True):
            end.set_xdata([half + 0.5] * 2)
            begin.set_xdata([start + 0.5] * 2)
            begin.set_visible(bool(fall))
        for lines, at in ((alarms, found), (false, early)):
            for line in lines:
                line.set_data(np.repeat(at, 3), [0, 1, np.nan] * len(at))
        fell = f"from number {start + 1} on lower by {counted(fall, 'standard deviation')}"
        told = _told(early, found, fall, start)
        said = (
            f"{topic}: {len(z)} texts; {fell if fall else 'nothing was changed'}. "
            f"Limit {limit:.1f}, one false alarm in {rare} texts. {told}"
        )
        alt = (
            "Above the tone of each text and its fading mean, below the CUSUM and its limit. "
            "Upright lines mark where the history ends, where the fall begins, and each alarm."
        )
        return image(stage.png(), alt), html.escape(said)

    controls = {
        "topic": choice([(name, name) for name in series], "Topic"),
        "fall": choice([(f"{fall:g} sd", fall) for fall in FALLS], "Falls by"),
        "rare": choice([(f"one in {rare}", rare) for rare in RARE], "False alarms"),
    }
    controls["fall"].value, controls["rare"].value = FALLS[2], RARE[1]
    step(next(iter(series)), FALLS[2], RARE[1])
    return Explorer(controls, step, stage.png())


def watch(z: Any, limit: float, before: int) -> tuple[np.ndarray, list[int]]:
    """Return the chart and the numbers of its alarms, counted from 1.

    After an alarm among the first `before` values, a false one, the chart begins again at 0.
    After the first alarm behind them it goes on.

    Examples
    --------
    >>> chart, alarms = watch([-3.0, 0.0, -3.0, -3.0], limit=2, before=2)
    >>> chart.tolist(), alarms
    ([2.5, 0.0, 2.5, 5.0], [1, 3])
    """
    chart: list[float] = []
    alarms: list[int] = []
    while len(chart) < len(z):
        rest = cusum(z[len(chart) :])
        when = int(first_alarm(rest, limit))
        if when <= len(rest):
            alarms.append(len(chart) + when)
            if alarms[-1] <= before:
                rest = rest[:when]
        chart.extend(rest)
    return np.array(chart), alarms


def _lines(axes: Axes, style: str, label: str) -> Line2D:
    """Return upright lines from the lower end of the axes to the upper, none of them as yet."""
    across = axes.get_xaxis_transform()
    [lines] = axes.plot([], [], style, color=RED, linewidth=2, label=label, transform=across)
    return lines


def _told(early: Sequence[int], found: Sequence[int], fall: float, start: int) -> str:
    """Say which alarms were false, and how late the true one is."""
    told = ""
    if early:
        numbers = " and ".join(", ".join(map(str, early)).rsplit(", ", 1))
        told = f"False alarm{'s' * (len(early) > 1)} at {numbers}"
        told += ", before the fall; the chart begins again at 0. " if fall else "."
    if found:
        told += f"Alarm at {found[0]}: a delay of {counted(found[0] - start, 'text')}."
    elif fall or not early:
        told += "No alarm after the fall began." if fall else "No alarm."
    return told
