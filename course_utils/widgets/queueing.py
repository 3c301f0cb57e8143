"""Who waits how long in the queue of lesson 14: dials for load, batch and wait."""

import html
from collections.abc import Sequence

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from course_utils.inputs import above_0, finite_number, whole_number
from course_utils.widgets.explorer import GREY, LABELS, WIDE, Explorer, Stage, choice, image

REQUESTS = 400
LOADS = (0.1, 0.5, 0.9, 1.2, 1.8)  # of what one at a time can do
BATCHES = (1, 2, 4, 8, 16, 32)
WAITS = (0.0, 0.005, 0.02, 0.1)  # s


def answered(
    arrivals: Sequence[float] | np.ndarray, batch: int, wait: float, call: float, text: float
) -> tuple[np.ndarray, list[int]]:
    """Return when each request is answered, and how many were computed together each time.

    One model; a batch is closed when it is full or its first request has waited long enough, but
    not before the model is free. A request that came by then is in it.

    Parameters
    ----------
    arrivals : sequence of float
        When each request comes, ascending; one text each. In seconds, as all times here.
    batch : int
        Requests computed together, at most.
    wait : float
        How long the first of a batch waits for others.
    call, text : float
        Computing n texts takes ``call + n * text``.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> answered([0.0, 0.25, 2.0], batch=4, wait=0.5, call=1.0, text=0.0)
    (array([1.5, 1.5, 3.5]), [2, 1])
    """
    batch = whole_number(batch, "batch", least=1)
    for name, value in (("wait", wait), ("call", call), ("text", text)):
        finite_number(value, name, least=0)
    came = np.asarray(arrivals, dtype=float)
    done, sizes, free, first = np.empty(len(came)), [], 0.0, 0
    while first < len(came):
        last = first + batch - 1
        full = came[last] if last < len(came) else np.inf
        closes = max(free, min(came[first] + wait, full))
        count = min(batch, int(np.searchsorted(came, closes, side="right")) - first)
        free = closes + call + count * text
        done[first : first + count] = free
        sizes.append(count)
        first += count
    return done, sizes


def queue_dial(call: float = 0.008, text: float = 0.004) -> Explorer:
    """Turn load, batch and wait: which share of the clients has its answer by when.

    Parameters
    ----------
    call, text : float
        Computing n texts takes ``call + n * text`` seconds.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    Examples
    --------
    >>> print(queue_dial(call=0.008, text=0.004).said)
    75 requests/s, up to 8 together: p50 ... texts in a batch. One at a time: p50 ... ms.
    """
    call, text = above_0(call, "call"), above_0(text, "text")
    alone = call + text
    apart = np.random.default_rng(0).exponential(alone, REQUESTS)  # at a load of 1
    shares = np.arange(1, REQUESTS + 1) / REQUESTS
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.set(xscale="log", xlim=(500 * alone, 1000 * REQUESTS * alone), ylim=(0, 1.02))
    ax.set(xlabel="ms from asking to the answer", ylabel="share answered by then")
    ax.axhline(0.95, color=GREY, linestyle=":", linewidth=1)
    [single] = ax.plot([alone], [0.5], "--", color=GREY, label="one at a time")
    [line] = ax.plot([alone], [0.5], color="#0072B2", linewidth=2, label="as dialled")
    ax.legend(loc="lower right")
    stage = Stage(figure, [single, line])

    def step(load: float, batch: int, wait: float) -> tuple[str, str]:
        arrivals = np.cumsum(apart / load)
        told = []
        for artist, most, seconds in ((line, batch, wait), (single, 1, 0.0)):
            done, sizes = answered(arrivals, most, seconds, call, text)
            waited = 1000 * np.sort(done - arrivals)
            artist.set_data(waited, shares)
            p50, p95 = (waited[int(np.ceil(share * REQUESTS)) - 1] for share in (0.5, 0.95))
            told.append((f"p50 {p50:,.0f} ms, p95 {p95:,.0f} ms", np.mean(sizes)))
        (ours, size), (others, _) = told
        said = (
            f"{load / alone:.0f} requests/s, up to {batch} together: {ours}, {size:.1f} texts in "
            f"a batch. One at a time: {others}."
        )
        alt = "Share of clients answered against time, as dialled and one at a time."
        return image(stage.png(), alt), html.escape(said)

    controls = {
        "load": choice([(f"{load:g} of one at a time", load) for load in LOADS], "Requests"),
        "batch": choice([(str(batch), batch) for batch in BATCHES], "Batch"),
        "wait": ipywidgets.SelectionSlider(
            options=[(f"{1000 * wait:g} ms", wait) for wait in WAITS],
            description="Wait",
            style=LABELS,
            layout=WIDE,
        ),
    }
    for name, value in (("load", LOADS[2]), ("batch", 8), ("wait", WAITS[1])):
        controls[name].value = value
    step(LOADS[2], 8, WAITS[1])
    return Explorer(controls, step, stage.png())
