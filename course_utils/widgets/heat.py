"""A heat map over tokens, of lesson 15a: what each method says each token did."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from course_utils.inputs import numbers
from course_utils.widgets.explorer import Explorer, Stage, choice

TOWARDS, AGAINST = (0, 114, 178), (213, 94, 0)  # blue and vermilion: told apart by everybody


def token_heatmap(
    sentences: Sequence[Sequence[str]], methods: Mapping[str, Sequence[Any]]
) -> Explorer:
    """Leaf through sentences and methods; each token's number stands below it, with its sign.

    Colours are scaled to the largest number of a sentence and method, since methods have different
    units: compare signs and orders between methods, not sizes.

    Parameters
    ----------
    sentences : sequence of sequences of str
        The tokens of each sentence.
    methods : mapping of str to sequence of arrays
        For each sentence, one number for each of its tokens.

    Raises
    ------
    ValueError
        If there is no sentence or no method, or the numbers are not one for each token.

    Examples
    --------
    >>> heat = token_heatmap([["a", "dull", "film"]], {"occlusion": [[0.0, -1.5, 0.25]]})
    >>> print(heat.said)
    occlusion: 'dull' did most (-1.50), then 'film' (+0.25).
    """
    if not sentences or not methods or not all(len(tokens) for tokens in sentences):
        raise ValueError(f"need a sentence and a method, got {len(sentences)} and {len(methods)}")
    values = {name: _rows(rows, sentences, name) for name, rows in methods.items()}

    def step(sentence: int, method: str) -> tuple[str, str]:
        tokens, row = sentences[sentence], values[method][sentence]
        first, *others = np.argsort(-np.abs(row), kind="stable")[:2]
        words = f"{method}: '{tokens[first]}' did most ({row[first]:+.2f})"
        words += "".join(f", then '{tokens[i]}' ({row[i]:+.2f})" for i in others) + "."
        return _boxes(tokens, row), html.escape(words, quote=False)

    named = [(f"{i} of {len(sentences)}", i - 1) for i in range(1, len(sentences) + 1)]
    controls = {
        "sentence": choice(named, "Sentence"),
        "method": choice([(name, name) for name in values], "Method"),
    }
    first = {name: rows[0] for name, rows in values.items()}
    return Explorer(controls, step, Stage(_table(sentences[0], first), []).png())


def _rows(rows: Sequence[Any], sentences: Sequence[Sequence[str]], name: str) -> list[np.ndarray]:
    found = [numbers(row, name).astype(float) for row in rows]
    if [row.shape for row in found] != [(len(tokens),) for tokens in sentences]:
        raise ValueError(
            f"{name} must have one number per token of each sentence, "
            f"{[len(tokens) for tokens in sentences]}; got {[row.shape for row in found]}"
        )
    return found


def _shade(value: float, largest: float) -> str:
    """Return a colour between white, at 0, and blue or vermilion, at the largest."""
    share = 0.75 * abs(value) / largest if largest else 0.0
    parts = TOWARDS if value > 0 else AGAINST
    return "#" + "".join(f"{round(255 + share * (part - 255)):02X}" for part in parts)


def _boxes(tokens: Sequence[str], row: np.ndarray) -> str:
    largest = float(np.abs(row).max())
    boxes = [
        f'<span style="display: inline-block; margin: 2px; padding: 1px 5px; color: black; '
        f"border-radius: 4px; border: 1px solid #CCC; background: {_shade(value, largest)}; "
        f'text-align: center; line-height: 1.3">{html.escape(token)}<br>'
        f"<small>{value:+.2f}</small></span>"
        for token, value in zip(tokens, row, strict=True)
    ]
    return f'<div style="max-width: 60em">{"".join(boxes)}</div>'


def _table(tokens: Sequence[str], rows: Mapping[str, np.ndarray]) -> Figure:
    """Draw all methods below each other, for where nothing can be chosen."""
    figure = Figure(figsize=(min(14.0, 2 + 0.62 * len(tokens)), 1.1 + 0.38 * len(rows)))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for y, row in enumerate(rows.values()):
        largest = float(np.abs(row).max())
        for x, value in enumerate(row):
            ax.broken_barh([(x - 0.48, 0.96)], (y - 0.45, 0.9), facecolors=_shade(value, largest))
            ax.text(x, y, f"{value:+.2f}", ha="center", va="center", fontsize=7)
    ax.set_xticks(range(len(tokens)), tokens, rotation=90)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlim=(-0.5, len(tokens) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    ax.grid(False)
    return figure
