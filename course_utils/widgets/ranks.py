"""A dial for the rank, of lesson 09: how much of a matrix its first directions keep."""

import html
from collections.abc import Mapping
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from course_utils.inputs import as_array
from course_utils.widgets.explorer import GREY, LABELS, RED, WIDE, Explorer, Stage, choice, image


def rank_dial(matrices: Mapping[str, Any], *, rank: int = 8) -> Explorer:
    """Turn the rank, and see what share of a matrix it keeps, beside what noise would keep.

    Parameters
    ----------
    matrices : mapping of str to array or Tensor of shape (D_out, D_in)
        By the name under which they are offered, such as the changes that fine-tuning made.
    rank : int
        Where the dial begins; at most the smaller side of the smallest matrix.

    Raises
    ------
    ValueError
        If there is no matrix, one has not two dimensions or holds zeros alone, or `rank` is out
        of range.

    Examples
    --------
    >>> dial = rank_dial({"change": np.diag([3.0, 2.0, 1.0])}, rank=1)
    >>> print(dial.said.split(";")[0])
    Rank 1 keeps 64% of change
    >>> dial.controls["rank"].value = 2
    >>> print(dial.said.split(";")[0])
    Rank 2 keeps 93% of change
    """
    shares = {name: _kept(_matrix(values, name)) for name, values in matrices.items()}
    if not shares:
        raise ValueError("need a matrix or more, got none")
    shapes = {name: _matrix(values, name).shape for name, values in matrices.items()}
    most = min(len(kept) for kept in shares.values())
    if not 1 <= rank <= most:
        raise ValueError(f"rank must be from 1 to {most}, got {rank}")
    noise = {
        name: _kept(np.random.default_rng(0).normal(size=shape)) for name, shape in shapes.items()
    }
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    ax = figure.subplots()
    ax.set(xscale="log", xlim=(0.9, most), ylim=(0, 1.02))
    ax.set(xlabel="directions kept, k", ylabel="share kept")
    (curve,) = ax.plot([], [], label="the matrix")
    (random,) = ax.plot([], [], "--", color=GREY, label="random numbers of its shape")
    (line,) = ax.plot([rank] * 2, [0, 1.02], ":", color=RED)
    (dots,) = ax.plot([], [], "o", color=RED)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above: curves fill the axes
    stage = Stage(figure, [curve, random, line, dots])

    def step(matrix: str, rank: int) -> tuple[str, str]:
        kept, by_chance = shares[matrix], noise[matrix]
        k = np.arange(1, len(kept) + 1)
        curve.set_data(k, kept)
        random.set_data(k, by_chance)
        line.set_xdata([rank] * 2)
        dots.set_data([rank] * 2, [kept[rank - 1], by_chance[rank - 1]])
        rows, columns = shapes[matrix]
        words = (
            f"Rank {rank} keeps {kept[rank - 1]:.0%} of {matrix}; of random numbers it would keep "
            f"{by_chance[rank - 1]:.0%}. It takes {rank * (rows + columns):,} numbers, the whole "
            f"matrix {rows * columns:,}."
        )
        alt = "Share of a matrix that its first directions keep, and of random numbers."
        return image(stage.png(), alt), html.escape(words)

    controls = {
        "matrix": choice([(name, name) for name in shares], "Matrix"),
        "rank": ipywidgets.IntSlider(
            value=rank, min=1, max=most, description="Rank", style=LABELS, layout=WIDE
        ),
    }
    step(controls["matrix"].value, rank)
    return Explorer(controls, step, stage.png())


def _matrix(values: Any, name: str) -> np.ndarray:
    found = as_array(values, name).astype(float)
    if found.ndim != 2 or not found.any():
        raise ValueError(f"{name} must be a matrix with a number other than 0, got {found.shape}")
    return found


def _kept(matrix: np.ndarray) -> np.ndarray:
    """Return for each k which share of the squared matrix its first k directions keep."""
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    return squares.cumsum() / squares.sum()
