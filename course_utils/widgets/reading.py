"""How a model reads: its tokens (lesson 02), and who looks at whom (lesson 03)."""

import html
from collections.abc import Sequence

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from course_utils.plotting import plot_attention, plot_tokens
from course_utils.widgets.explorer import (
    LABELS,
    RED,
    WIDE,
    Explorer,
    Stage,
    choice,
    counted,
    image,
)


def token_explorer(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int = 32
) -> Explorer:
    """See what a tokenizer makes of a sentence, one of `texts` or one that you type.

    Parameters
    ----------
    texts : sequence of str
        Sentences to choose from.
    tokenizer : PreTrainedTokenizerBase
    max_tokens : int
        Where the second control begins to cut, from 4 to 64.

    Raises
    ------
    ValueError
        If there is no text, or `max_tokens` is out of range.

    Examples
    --------
    >>> from course_utils.models import load_tokenizer
    >>> explorer = token_explorer(["A dull film."], load_tokenizer())
    >>> explorer.controls["own"].value = "Unwatchable"
    >>> print(explorer.said)
    11 characters, 1 word, 5 tokens with [CLS] and [SEP]; none unknown, none cut.
    """
    if not texts or not 4 <= max_tokens <= 64:
        raise ValueError(f"need a text, and max_tokens from 4 to 64; got {texts} and {max_tokens}")

    def pieces(text: str, max_tokens: int) -> tuple[list[str], list[int], list[str]]:
        """Return the tokens, their ids, and what was cut."""
        ids = tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]
        whole = tokenizer(text)["input_ids"]
        cut = whole[len(ids) - 1 : -1] if whole != ids else []
        tokens, dropped = (list(tokenizer.convert_ids_to_tokens(part)) for part in (ids, cut))
        return tokens, ids, dropped

    def step(sentence: str, own: str, max_tokens: int) -> tuple[str, str]:
        text = own.strip() or sentence
        tokens, ids, cut = pieces(text, max_tokens)
        unknown = tokens.count(tokenizer.unk_token)
        words = (
            f"{counted(len(text), 'character')}, {counted(len(text.split()), 'word')}, "
            f"{counted(len(tokens), 'token')} with "
            f"{tokenizer.cls_token} and {tokenizer.sep_token}; {unknown or 'none'} unknown, "
            f"{len(cut) or 'none'} cut."
        )
        return _token_html(tokens, ids, cut), words

    controls = {
        "sentence": choice(
            [(f"{i} of {len(texts)}", text) for i, text in enumerate(texts, start=1)], "Sentence"
        ),
        "own": ipywidgets.Text(
            description="or your own",
            placeholder="type here",
            style=LABELS,
            layout=WIDE,
        ),
        "max_tokens": ipywidgets.IntSlider(
            value=max_tokens, min=4, max=64, description="Cut at", style=LABELS, layout=WIDE
        ),
    }
    figure = Figure(figsize=(9, 1.6), layout="constrained")
    plot_tokens(*pieces(texts[0], max_tokens)[:2], figure.subplots())
    return Explorer(controls, step, Stage(figure, []).png())


def _token_html(tokens: Sequence[str], ids: Sequence[int], cut: Sequence[str]) -> str:
    """Return tokens as coloured boxes over their ids; pieces of a word share its colour."""
    colours, word, boxes = ("#D6EAF8", "#FDEBD0"), 0, []
    for token, number in [*zip(tokens, ids, strict=True), *((token, None) for token in cut)]:
        special = token.startswith("[") and token.endswith("]") and len(token) > 2
        word += not token.startswith("##")
        colour = "#E5E7E9" if special else colours[word % 2]
        style = "opacity: 0.5; text-decoration: line-through; " if number is None else ""
        below = "cut" if number is None else f"{number}"
        boxes.append(
            f'<span style="display: inline-block; margin: 2px; padding: 1px 5px; color: black; '
            f"border-radius: 4px; background: {colour}; {style}text-align: center; "
            f'line-height: 1.3">{html.escape(token)}<br>'
            f'<small style="color: #444">{below}</small></span>'
        )
    return f'<div style="max-width: 60em">{"".join(boxes)}</div>'


def attention_viewer(weights: np.ndarray, tokens: Sequence[str]) -> Explorer:
    """Leaf through the attention maps of every layer and head, and follow one token.

    Parameters
    ----------
    weights : array of shape (L, H, T, T)
        Each row, over the keys, sums to 1.
    tokens : sequence of str, length T

    Raises
    ------
    ValueError
        If shapes do not fit, or the rows are not shares.

    Examples
    --------
    >>> weights = np.array([[[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [1.0, 0.0]]]])  # L=1, H=2, T=2
    >>> viewer = attention_viewer(weights, ["good", "film"])
    >>> viewer.controls["head"].value, viewer.controls["token"].value = 1, 1
    >>> print(viewer.said)
    Layer 0, head 1: 'film' looks at 'good' (100%), 'film' (0%).
    """
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 4 or weights.shape[2:] != (len(tokens), len(tokens)):
        raise ValueError(f"need (L, H, T, T) with T = {len(tokens)} tokens, got {weights.shape}")
    if not np.allclose(weights.sum(axis=-1), 1, atol=1e-3) or weights.min() < 0:
        raise ValueError("each row of weights must be shares that sum to 1: no logits, no sums")
    T = len(tokens)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    grid, bars = figure.subplots(1, 2, width_ratios=(5, 4))
    plot_attention(weights[0, 0], tokens, grid)
    grid.tick_params(labelsize=9)
    lengths = bars.barh(range(T), np.zeros(T), color="#0072B2")
    bars.set_yticks(range(T), tokens, fontsize=9)
    bars.set(xlim=(0, 1), ylim=(T - 0.5, -0.5), xlabel="share of its attention")
    (row,) = grid.plot([], [], color=RED)
    cells = grid.images[0]
    stage = Stage(figure, [cells, row, *lengths])

    def step(layer: int, head: int, token: int) -> tuple[str, str]:
        shares = weights[layer, head, token]
        cells.set_data(weights[layer, head])
        edges = [-0.5, T - 0.5, T - 0.5, -0.5, -0.5]
        row.set_data(edges, [token + d for d in (-0.45, -0.45, 0.45, 0.45, -0.45)])
        for bar, share in zip(lengths, shares, strict=True):
            bar.set_width(share)
        most = np.argsort(-shares, kind="stable")[:3]
        seen = ", ".join(f"'{tokens[i]}' ({shares[i]:.0%})" for i in most)
        words = f"Layer {layer}, head {head}: '{tokens[token]}' looks at {seen}."
        alt = "The attention map of one head, and the shares of one token's attention as bars."
        return image(stage.png(), alt), html.escape(words, quote=False)

    def slider(description: str, size: int) -> ipywidgets.IntSlider:
        return ipywidgets.IntSlider(max=size - 1, description=description, style=LABELS)

    controls = {
        "layer": slider("Layer", weights.shape[0]),
        "head": slider("Head", weights.shape[1]),
        "token": ipywidgets.SelectionSlider(
            # The space keeps two equal tokens apart: an option must be unique.
            options=[(f"{i} {token}", i) for i, token in enumerate(tokens)],
            description="Token that looks",
            style=LABELS,
            layout=WIDE,
        ),
    }
    step(0, 0, 0)
    return Explorer(controls, step, stage.png())
