"""The dashboard of lesson 16a: a tone over time, a chart that adds up, and its alarm."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from course_utils.alarms import (
    cusum,
    first_alarm,
    limit_for,
    quiet_streams,
    standardised,
)
from course_utils.inputs import vector
from course_utils.widgets.explorer import GREY, RED, Explorer, Stage, choice, image

RARE = (50, 200, 500)  # texts for each false alarm
FALLS = (0.0, 0.5, 1.0, 2.0)  # standard deviations
STREAMS, LENGTH = 100, 2500  # quiet ones, to set a limit: several times the rarest
SMOOTH = 10


def alarm_dashboard(topics: Mapping[str, Any]) -> Explorer:
    """Choose a topic, let its tone fall, and see when CUSUM notices.

    The first half of each topic is its quiet history and sets the limit. The fall begins in the
    middle of the second half.

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

    figure = Figure(figsize=(8, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    most = max(len(z) for z in series.values())
    above.set(xlim=(0, most + 1), ylim=(-5, 4), ylabel="tone (sd of history)")
    below.set(xlim=(0, most + 1), ylim=(0, 4 * max(limits.values())), xlabel="number of the text")
    below.set(ylabel="CUSUM")
    [dots] = above.plot([1], [0], ".", color=GREY, markersize=3)
    [mean] = above.plot([1], [0], color="#0072B2", linewidth=2)
    [sums] = below.plot([1], [0], color="#0072B2")
    limit_line = below.axhline(1, color=GREY, linestyle="--")
    moving = [dots, mean, sums, limit_line]
    for axes in (above, below):
        moving.append(axes.axvline(1, color=GREY, linestyle=":"))  # where the history ends
        moving.append(axes.axvline(1, color=RED, linewidth=2))  # the alarm
    stage = Stage(figure, moving)

    def step(topic: str, fall: float, rare: int) -> tuple[str, str]:
        z, limit = series[topic].copy(), limits[topic, rare]
        half, start = len(z) // 2, len(z) - len(z) // 4
        z[start:] -= fall
        chart = cusum(z[half:])
        when = int(first_alarm(chart, limit))
        found = half + when if when <= len(chart) else None
        places = np.arange(1, len(z) + 1)
        fading = [z[max(0, i - SMOOTH + 1) : i + 1].mean() for i in range(len(z))]
        dots.set_data(places, z)
        mean.set_data(places, fading)
        sums.set_data(places[half:], chart)
        limit_line.set_ydata([limit, limit])
        for ends, alarm in (moving[4:6], moving[6:8]):
            ends.set_xdata([half + 0.5] * 2)
            alarm.set_xdata([found or 0] * 2)
            alarm.set_visible(found is not None)
        fell = f"from number {start + 1} on lower by {fall:g} standard deviations"
        told = f"Alarm at {found}." if found else "No alarm."
        said = (
            f"{topic}: {len(z)} texts; {fell if fall else 'nothing was changed'}. "
            f"Limit {limit:.1f}, one false alarm in {rare} texts. {told}"
        )
        alt = "Above the tone of each text and its fading mean, below the CUSUM and its limit."
        return image(stage.png(), alt), html.escape(said)

    controls = {
        "topic": choice([(name, name) for name in series], "Topic"),
        "fall": choice([(f"{fall:g} sd", fall) for fall in FALLS], "Falls by"),
        "rare": choice([(f"one in {rare}", rare) for rare in RARE], "False alarms"),
    }
    controls["fall"].value, controls["rare"].value = FALLS[2], RARE[1]
    step(next(iter(series)), FALLS[2], RARE[1])
    return Explorer(controls, step, stage.png())
