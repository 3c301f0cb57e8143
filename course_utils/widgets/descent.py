"""A stepper down the loss of two weights, of lesson 01."""

from collections.abc import Callable, Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils.widgets.explorer import GREY, LABELS, RED, WIDE, Explorer, Stage, image


def gradient_descent_stepper(
    loss: Callable[[torch.Tensor], torch.Tensor],
    start: tuple[float, float],
    *,
    rates: Sequence[float],
    window: tuple[float, float, float, float],
    steps: int = 30,
    names: tuple[str, str] = ("first weight", "second weight"),
) -> Explorer:
    """Walk down the loss of two weights, step by step, at several learning rates.

    Parameters
    ----------
    loss : callable
        From a tensor (2,) to a scalar. Called about 1,700 times for the map, so let it be quick.
    start : (float, float)
        The weights before the first step.
    rates : sequence of float
        Learning rates to choose from.
    window : (float, float, float, float)
        Left, right, bottom and top of the map. A path may leave it.
    steps : int
        How many steps are taken at each rate.
    names : (str, str)
        What the two weights belong to.

    Raises
    ------
    ValueError
        If there is no rate or no step, or the window is empty.

    Examples
    --------
    >>> bowl = lambda theta: (theta**2).sum() / 2
    >>> stepper = gradient_descent_stepper(
    ...     bowl, (4.0, 0.0), rates=(0.5, 3.0), window=(-5, 5, -5, 5), steps=3)
    >>> stepper.controls["step"].value = 2
    >>> print(stepper.said)
    Learning rate 0.5, step 2 of 3: weights (1.00, 0.00), loss 0.500; it began at 8.000.
    >>> stepper.controls["rate"].value = 3.0  # twice as far, on the other side, at each step
    >>> print(stepper.said)
    Learning rate 3, step 2 of 3: weights (16.00, 0.00), loss 128.000; it began at 8.000.
    """
    left, right, bottom, top = window
    if not rates or steps < 1:
        raise ValueError(f"need a learning rate and a step or more, got {rates} and {steps}")
    if not (left < right and bottom < top):
        raise ValueError(f"window is left, right, bottom, top, and not empty; got {window}")
    paths = {float(rate): descend(loss, start, rate, steps) for rate in rates}
    xs, ys = np.linspace(left, right, 41), np.linspace(bottom, top, 41)
    with torch.no_grad():
        heights = [[float(loss(torch.tensor([x, y]).float())) for x in xs] for y in ys]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    field, curve = figure.subplots(1, 2, width_ratios=(5, 4))
    field.set(xlabel=f"weight of {names[0]}", ylabel=f"weight of {names[1]}")
    field.grid(False)
    low, high = np.min(heights), np.max(heights)
    levels = low + (high - low) * np.linspace(0.02, 1, 25) ** 2.5  # closer where it is flat
    field.contour(xs, ys, heights, levels=levels, colors="grey", linewidths=0.6)
    curve.set(xlabel="step", ylabel="loss", xlim=(-0.5, steps + 0.5))
    curve.set_ylim(low - 0.05 * (high - low), high)
    (walked,) = field.plot([], [], "o-", color=RED, markersize=4, linewidth=1.5)
    (coming,) = field.plot([], [], ":", color=GREY)
    (now,) = field.plot([], [], "o", color=GREY, markersize=8)
    (losses,) = curve.plot([], [], "o-", color=RED, markersize=4, linewidth=1.5)
    stage = Stage(figure, [walked, coming, now, losses])

    def step(rate: float, step: int) -> tuple[str, str]:
        path, loss_at = paths[rate]
        walked.set_data(*path[: step + 1].T)
        coming.set_data(*path[step : step + 2].T)
        now.set_data(*path[step : step + 1].T)
        losses.set_data(np.arange(step + 1), loss_at[: step + 1])
        words = (
            f"Learning rate {rate:g}, step {step} of {steps}: weights ({path[step, 0]:.2f}, "
            f"{path[step, 1]:.2f}), loss {loss_at[step]:.3f}; it began at {loss_at[0]:.3f}."
        )
        alt = "A map of the loss over two weights with the path so far, and the loss by step."
        return image(stage.png(), alt), words

    controls = {
        "rate": ipywidgets.SelectionSlider(
            options=[(f"{rate:g}", float(rate)) for rate in rates],
            description="Learning rate",
            style=LABELS,
        ),
        "step": ipywidgets.IntSlider(
            max=steps, description="Step", style=LABELS, layout=WIDE, value=min(5, steps)
        ),
    }
    step(float(rates[0]), min(5, steps))
    return Explorer(controls, step, stage.png())


def descend(
    loss: Callable[[torch.Tensor], torch.Tensor],
    start: Sequence[float],
    rate: float,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (steps + 1, 2) and the losses (steps + 1,) of plain gradient descent.

    Examples
    --------
    >>> descend(lambda theta: (theta**2).sum() / 2, (4.0, 0.0), rate=0.5, steps=2)[0].tolist()
    [[4.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    """
    theta = torch.tensor(start, dtype=torch.float32)
    path, losses = [], []
    for _ in range(steps + 1):
        leaf = theta.clone().requires_grad_()
        value = loss(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        path.append(theta.numpy())
        losses.append(value.item())
        theta = theta - rate * gradient
    return np.array(path), np.array(losses)
