"""Throughput of `course_utils.training.fit` by kind of attention, batch size and precision.

    python -m benchmarks.settings                               # on the best device there is
    python -m benchmarks.settings --reviews 96 --rounds 1       # a quick look

The second epoch is timed: the first one also warms up the device. What counts is the ratio between
two lines of one run.
"""

import argparse
import itertools
import time

import numpy as np

from benchmarks.training import LR, load_data
from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.models import load_classifier, load_tokenizer
from course_utils.optimization import Precision
from course_utils.recipe import Recipe
from course_utils.runtime import pick_device, seed_everything
from course_utils.training import fit

PRECISIONS: tuple[Precision, ...] = ("float32", "auto")


def second_epoch(
    data: TokenizedDataset, attention: str, batch_size: int, precision: Precision
) -> float:
    """Train for two epochs; return the examples per second of the second."""
    seed_everything(0)
    model = load_classifier(2, seed=0, attention=attention)
    loader = train_loader(data, batch_size, seed=0)
    one_row = TokenizedDataset(["."], np.array([0]), load_tokenizer())  # fit also validates
    ends: list[float] = []
    fit(
        model,
        loader,
        eval_loader(one_row),
        recipe=Recipe(epochs=2, lr=LR, precision=precision),
        progress=False,
        on_epoch_end=lambda record: ends.append(time.perf_counter()),
    )
    return len(data) / (ends[1] - ends[0])


def main() -> None:
    """Measure and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=2400, help="training examples per run")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()

    data, _ = load_data(arguments.reviews)
    print(f"{pick_device()}, {arguments.reviews} reviews, second epoch")
    arms = list(itertools.product(("eager", "sdpa"), (16, 64), PRECISIONS))
    for round_, (attention, size, precision) in itertools.product(range(arguments.rounds), arms):
        speed = second_epoch(data, attention, size, precision)
        print(
            f"round {round_ + 1}: {attention}, batches of {size}, {precision}: "
            f"{speed:.0f} examples/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
