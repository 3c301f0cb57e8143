"""When to stop training, of lesson 08: two curves that part, and what patience would keep."""

import html
from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from course_utils.widgets.explorer import GREY, LABELS, RED, WIDE, Explorer, Stage, choice, image


def stop_early(losses: np.ndarray, patience: int) -> tuple[int, int]:
    """Return the last epoch that is run, and the best so far, which is kept; counted from 1.

    Training ends when `patience` epochs in a row brought no new lowest validation loss.

    Examples
    --------
    >>> stop_early(np.array([3.0, 2.0, 2.5, 1.0, 4.0]), patience=1)  # misses the fourth
    (3, 2)
    >>> stop_early(np.array([3.0, 2.0, 2.5, 1.0, 4.0]), patience=2)
    (5, 4)
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            return epoch + 1, best + 1
    return len(losses), best + 1


def overfitting_explorer(
    runs: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, patience: int = 2
) -> Explorer:
    """Compare how training and validation loss part, and what early stopping would keep.

    Parameters
    ----------
    runs : mapping of str to (losses, losses)
        By the name of a method: the training and the validation loss after each epoch.
    patience : int
        Epochs without a new best validation loss before training ends.

    Raises
    ------
    ValueError
        If there is no run, or the two losses of one differ in number.

    Examples
    --------
    >>> explorer = overfitting_explorer({"plain": ([3, 2, 1], [3, 2.5, 2.8])}, patience=1)
    >>> print(explorer.said)
    plain, patience 1: stops after epoch 3 of 3, keeps epoch 2. Validation loss 2.500 kept, 2.800 \
at the end; the gap to training is 0.500 there, 1.800 at the end.
    """
    if not runs or any(len(train) != len(held) or not len(held) for train, held in runs.values()):
        raise ValueError("need a run or more, each with as many training as validation losses")
    curves = {
        name: tuple(np.asarray(x, dtype=float) for x in losses) for name, losses in runs.items()
    }
    longest = max(len(held) for _, held in curves.values())
    highest = max(losses.max() for pair in curves.values() for losses in pair)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    ax = figure.subplots()
    for _, held in curves.values():
        ax.plot(np.arange(1, len(held) + 1), held, color="#BBBBBB", linewidth=1)
    (training,) = ax.plot([], [], "o-", color="#0072B2", label="training")
    (validation,) = ax.plot([], [], "o-", color=RED, label="validation (grey: other methods)")
    (stopped,) = ax.plot([], [], "--", color=GREY, linewidth=1, label="training stops")
    (kept,) = ax.plot([], [], "*", color="#009E73", markersize=16, label="weights that are kept")
    ax.set(xlabel="epoch", ylabel="loss", xlim=(0.5, longest + 0.5), ylim=(0, 1.05 * highest))
    figure.legend(loc="outside right upper")
    stage = Stage(figure, [training, validation, stopped, kept])

    def step(method: str, patience: int) -> tuple[str, str]:
        fit, held = curves[method]
        last, best = stop_early(held, patience)
        epochs = np.arange(1, len(held) + 1)
        training.set_data(epochs, fit)
        validation.set_data(epochs, held)
        stopped.set_data([last, last], [0, 1.05 * highest])
        kept.set_data([best], [held[best - 1]])
        gaps = held - fit
        words = (
            f"{method}, patience {patience}: stops after epoch {last} of {len(held)}, keeps epoch "
            f"{best}. Validation loss {held[best - 1]:.3f} kept, {held[-1]:.3f} at the end; "
            f"the gap to training is {gaps[best - 1]:.3f} there, {gaps[-1]:.3f} at the end."
        )
        alt = "Training and validation loss by epoch, where training stops, and what is kept."
        return image(stage.png(), alt), html.escape(words)

    controls = {
        "method": choice([(name, name) for name in curves], "Method"),
        "patience": ipywidgets.IntSlider(
            value=patience,
            min=1,
            max=longest,
            description="Patience in epochs",
            style=LABELS,
            layout=WIDE,
        ),
    }
    step(next(iter(curves)), patience)
    return Explorer(controls, step, stage.png())
