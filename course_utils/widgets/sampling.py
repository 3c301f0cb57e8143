"""What may be written next, of lesson 10: a temperature, and where the tail is cut."""

import html
from collections.abc import Sequence

import ipywidgets
import torch
from matplotlib.figure import Figure

from course_utils.generation import keep
from course_utils.widgets.explorer import LABELS, RED, WIDE, Explorer, Stage, image


def sampling_dial(
    tokens: Sequence[str], logits: torch.Tensor, *, temperature: float = 1.0, shown: int = 10
) -> Explorer:
    """Turn temperature, top-k and top-p, and see with what chance each token is drawn.

    Parameters
    ----------
    tokens : sequence of str
        The whole vocabulary, V tokens as a reader should see them.
    logits : Tensor of shape (V,)
        Of the next token.
    temperature : float
        Where the dial begins.
    shown : int
        Bars for so many of the likeliest; the last bar is all others.

    Raises
    ------
    ValueError
        If there are not as many tokens as logits, or not more than are to be shown.

    Examples
    --------
    >>> logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    >>> dial = sampling_dial(["good", "bad", "long", "odd"], logits, shown=2)
    >>> dial.controls["top_p"].value = 0.7
    >>> print(dial.said)
    Temperature 1.0, top-k off, top-p 0.70: 2 of 4 tokens may be drawn. 'good' has 0.67 (before: \
0.50); all outside the first 2 together have 0.00 (before: 0.25).
    """
    if logits.shape != (len(tokens),) or not 0 < shown < len(tokens):
        raise ValueError(
            f"need one logit for each token and more than {shown} of them, got "
            f"{len(tokens)} tokens and logits of shape {tuple(logits.shape)}"
        )
    logits = logits.detach().float().cpu()
    before = logits.softmax(dim=0)
    order = before.argsort(descending=True)
    best, rest = order[:shown], order[shown:]
    names = [repr(tokens[i]) for i in best.tolist()] + ["all others"]

    def bars_of(chances: torch.Tensor) -> list[float]:
        return [*chances[best].tolist(), chances[rest].sum().item()]

    figure = Figure(figsize=(8, 3.8), layout="constrained")
    ax = figure.subplots()
    heights = bars_of(before)
    ax.barh(range(len(names)), heights, color="#DDDDDD", label="as the model says it")
    bars = ax.barh(
        range(len(names)), heights, height=0.4, color="#0072B2", label="as it is drawn"
    ).patches
    bars[-1].set_color(RED)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="chance of being written next", xlim=(0, 1))
    ax.legend(loc="lower right")
    stage = Stage(figure, bars)

    def step(temperature: float, top_k: int, top_p: float) -> tuple[str, str]:
        chances = keep(logits, temperature=temperature, top_k=top_k or None, top_p=top_p)
        for bar, width in zip(bars, bars_of(chances), strict=True):
            bar.set_width(width)
        words = (
            f"Temperature {temperature:.1f}, top-k {top_k or 'off'}, top-p "
            f"{'off' if top_p == 1 else f'{top_p:.2f}'}: {int((chances > 0).sum()):,} of "
            f"{len(tokens):,} tokens may be drawn. {names[0]} has {chances[best[0]]:.2f} (before: "
            f"{heights[0]:.2f}); all outside the first {shown} together have "
            f"{chances[rest].sum():.2f} (before: {heights[-1]:.2f})."
        )
        alt = "Chances of the likeliest tokens and of all others, as said and as drawn."
        return image(stage.png(), alt), html.escape(words, quote=False)

    sliders = {
        "temperature": (ipywidgets.FloatSlider, temperature, 0.1, 2.0, 0.1, "Temperature"),
        "top_k": (ipywidgets.IntSlider, 0, 0, 50, 1, "Top-k (0: off)"),
        "top_p": (ipywidgets.FloatSlider, 1.0, 0.05, 1.0, 0.05, "Top-p (1: off)"),
    }
    controls = {
        name: kind(
            value=value, min=low, max=high, step=by, description=text, style=LABELS, layout=WIDE
        )
        for name, (kind, value, low, high, by, text) in sliders.items()
    }
    step(temperature, 0, 1.0)
    return Explorer(controls, step, stage.png())
