"""What a run will train: planned to a budget before it begins, and said.

Left out on purpose: searching for rates and sizes. One recipe that is known to work, and
validation that says when to stop, leave little to gain, and a search costs many times the run.
"""

from dataclasses import dataclass

import numpy as np

from course_utils.inputs import above_0

READINGS = 8000  # texts to be read in training, all epochs together, where there are so many
FEWEST_ROWS = 30


@dataclass(frozen=True)
class Settings:
    """What is decided about every fine-tune of a run.

    Attributes
    ----------
    max_tokens, batch_size, seed : int
    lr : float
    """

    max_tokens: int
    batch_size: int = 16
    lr: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """How much is trained, and how long that will take.

    Attributes
    ----------
    rows : int
        Training rows.
    epochs : int
        At most: training ends when the validation loss no longer falls.
    curve : tuple of int
        Smaller numbers of rows that are trained on too, for the learning curve.
    seconds_per_text : float
        Measured, forwards and backwards.
    seconds : float
        Estimated, of all of it.
    cuts : tuple of str
        What the budget took away.
    """

    rows: int
    epochs: int
    curve: tuple[int, ...]
    seconds_per_text: float
    seconds: float
    cuts: tuple[str, ...] = ()


def looks_per_epoch(epochs: int) -> int:
    """Return how often in an epoch validation is asked: where there are few, twice.

    Examples
    --------
    >>> looks_per_epoch(2), looks_per_epoch(10)
    (2, 1)
    """
    return 2 if epochs <= 3 else 1


def make_plan(
    rows: int,
    validation: int,
    seconds_per_text: float,
    *,
    test: int = 0,
    minutes: float | None = None,
    epochs: int | None = None,
    curve: bool = True,
) -> Plan:
    """Return what can be trained within a budget; without one, all that is worth it.

    When time is short, the learning curve goes first, then epochs down to two, then rows.

    Raises
    ------
    ValueError
        If the budget is too small for anything; it says what is needed.

    Examples
    --------
    >>> plan = make_plan(400, 100, 0.02)
    >>> plan.epochs, plan.curve, round(plan.seconds)
    (10, (100, 200), 167)
    >>> make_plan(400, 100, 0.02, minutes=1).cuts
    ('no learning curve of the model', 'at most 6 epochs')
    """
    wished = epochs or int(np.clip(-(-READINGS // rows), 2, 10))
    sizes = tuple(size for size in (rows // 4, rows // 2) if size >= FEWEST_ROWS)

    def seconds(some: int, times: int, points: tuple[int, ...] = ()) -> float:
        looks = (1 + len(points)) * validation / 3  # read without gradients: a third
        trained = times * (some + sum(points) + looks_per_epoch(times) * looks)
        probed = (some + sum(points)) / 3  # read once, for where the head begins
        return seconds_per_text * (probed + trained + looks + test / 3)  # and judged at the end

    budget = float("inf") if minutes is None else 60 * above_0(minutes, "minutes")
    cuts, points = list[str](), sizes
    if points and (not curve or seconds(rows, wished, points) > budget):
        points = ()
        cuts += ["no learning curve of the model"] * (minutes is not None)  # else by choice
    times = wished
    if seconds(rows, times) > budget:
        fitting = (n for n in range(wished, 1, -1) if seconds(rows, n) <= budget)
        times = next(fitting, min(2, wished))
        cuts += [f"at most {times} epochs"] * (times < wished)
    some = rows
    if seconds(rows, times) > budget:
        some = int(rows - (seconds(rows, times) - budget) / ((times + 1 / 3) * seconds_per_text))
        cuts.append(f"{some:,} of {rows:,} training rows")
    if some < min(FEWEST_ROWS, rows):
        least = seconds(min(FEWEST_ROWS, rows), times) / 60
        raise ValueError(
            f"{minutes:g} minutes are too few: with this encoder on this machine it takes "
            f"{max(least, 0.01):.2f} or more to learn anything"
        )
    return Plan(some, times, points, seconds_per_text, seconds(some, times, points), tuple(cuts))
