"""Throughput of `course_utils.training.fit` beside the transformers `Trainer`.

    make bench                     # or: python -m benchmarks.training
    python -m benchmarks.training --reviews 320 --rounds 1     # a quick look

Every round trains the same encoder on the same reviews, with the same batch size, learning
rate, warm-up and number of threads, four ways in turn: `fit`, which uses bfloat16 where
the processor has it, `fit` held to float32, `Trainer` as it comes, and `Trainer` grouping by
length, each in a process of its own, so that none inherits another's
memory or settings. The order within a round is rotated, so a machine that slows down does
not favour one of them. What counts is the ratio within a round.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from course_utils.batching import TokenizedDataset, collate, eval_loader, train_loader
from course_utils.datasets import load_corpus, targets
from course_utils.models import load_classifier, load_tokenizer
from course_utils.optimization import Precision
from course_utils.recipe import Recipe
from course_utils.runtime import computes_in_bfloat16, pick_device, seed_everything, versions
from course_utils.splits import split
from course_utils.system import usable_cores
from course_utils.training import evaluate, fit, forward

BATCH_SIZE = 16
LR = 5e-5
WARMUP = 0.1


def train_with_fit(
    data: TokenizedDataset, seed: int, precision: Precision = "auto"
) -> tuple[nn.Module, float]:
    """Train one epoch with `fit`; return the model and examples per second."""
    model = load_classifier(2, seed=seed)
    loader = train_loader(data, BATCH_SIZE, seed=seed)
    ends: list[float] = []  # fit also validates; the clock stops at the last training step
    one_row = TokenizedDataset(["."], np.array([0]), load_tokenizer())
    start = time.perf_counter()
    history = fit(
        model,
        loader,
        eval_loader(one_row),
        recipe=Recipe(epochs=1, lr=LR, warmup=WARMUP, precision=precision),
        progress=False,
        on_epoch_end=lambda record: ends.append(time.perf_counter()),
    )
    return model, history.epochs[0].examples / (ends[0] - start)


def mean_loss(
    outputs: SequenceClassifierOutput, labels: torch.Tensor, num_items_in_batch: int | None = None
) -> torch.Tensor:
    """Return the cross-entropy; `Trainer` asks for it by these argument names."""
    return nn.functional.cross_entropy(outputs.logits, labels)


def train_with_trainer(data: TokenizedDataset, seed: int, sampling: str) -> tuple[nn.Module, float]:
    """Train one epoch with `Trainer`; return the model and examples per second."""
    tokenizer = load_tokenizer()
    model = load_classifier(2, seed=seed, attention="sdpa")  # what from_pretrained chooses
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)}
        for ids, label in zip(data.input_ids, data.labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LR,
            warmup_steps=WARMUP,
            weight_decay=0.01,
            train_sampling_strategy=sampling,
            seed=seed,
            report_to="none",
            save_strategy="no",
            label_names=["labels"],
            dataloader_pin_memory=False,
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            compute_loss_func=mean_loss,
        )
        trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return model.eval(), len(rows) / seconds


def matmul_rate(
    dtype: torch.dtype,
    size: int = 1024,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the rate of a matrix product in FLOP/s, as this machine reaches it now."""
    a, b = torch.randn(2, size, size).to(pick_device(), dtype)
    for _ in range(3):
        (a @ b)[0, 0].item()
    start, count = clock(), 0
    while clock() - start < seconds:
        (a @ b)[0, 0].item()  # a GPU is waited for
        count += 1
    return 2 * size**3 * count / (clock() - start)


def flops_per_example(data: TokenizedDataset, seed: int, batches: int = 20) -> float:
    """Return the floating-point operations of a training step per example, counted."""
    model = load_classifier(2, seed=seed).train()
    sampler = train_loader(data, BATCH_SIZE, seed=seed).batch_sampler
    chosen = list(sampler)[:batches]  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter:
        for rows in chosen:
            batch = collate([data[row] for row in rows])
            nn.functional.cross_entropy(forward(model, batch), batch.labels).backward()
    return counter.get_total_flops() / sum(map(len, chosen))


@dataclass(frozen=True)
class Measured:
    """One run: speed in examples/s, validation loss, a matrix product's rate in FLOP/s."""

    speed: float
    loss: float
    matmul: float


ARMS: dict[str, Callable[[TokenizedDataset, int], tuple[nn.Module, float]]] = {
    "fit": train_with_fit,
    "fit in float32": partial(train_with_fit, precision="float32"),
    "Trainer": partial(train_with_trainer, sampling="random"),
    "Trainer, by length": partial(train_with_trainer, sampling="group_by_length"),
}


def load_data(reviews: int) -> tuple[TokenizedDataset, TokenizedDataset]:
    """Return that many training reviews, and all validation reviews."""
    splits, tokenizer = split(load_corpus("movies")), load_tokenizer()
    chosen = np.random.default_rng(0).permutation(len(splits.train))[:reviews]
    parts = [splits.train[i] for i in chosen], splits.validation
    train, validation = (
        TokenizedDataset([r.text for r in rows], targets(rows), tokenizer) for rows in parts
    )
    return train, validation


def measure(name: str, reviews: int, seed: int) -> Measured:
    """Train once in this process; called in one of its own."""
    train, validation = load_data(reviews)
    half = name == "fit" and computes_in_bfloat16(pick_device())
    rate = matmul_rate(torch.bfloat16 if half else torch.float32)
    seed_everything(seed)
    model, speed = ARMS[name](train, seed)
    loss = evaluate(model, eval_loader(validation), nn.functional.cross_entropy).loss
    return Measured(speed, loss, rate)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=960, help="training examples per run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    names = list(ARMS)
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for round_ in range(arguments.rounds):
        for name in names[round_ % 4 :] + names[: round_ % 4]:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found = process.submit(measure, name, arguments.reviews, round_).result()
            runs[name].append(found)
            print(f"round {round_ + 1}: {name}: {found.speed:.1f} examples/s", flush=True)

    packages = versions()
    print(
        f"\n{pick_device()}, {usable_cores()} cores, {torch.get_num_threads()} threads, "
        f"batch {BATCH_SIZE},",
        end=" ",
    )
    print(f"{arguments.reviews} reviews, torch {packages['torch']}, transformers", end=" ")
    print(f"{packages['transformers']}\n")
    print("| | examples/s, median | fit is faster by | validation loss, mean |")
    print("|---|---|---|---|")
    for name in names:
        pairs = zip(runs["fit"], runs[name], strict=True)
        ratio = statistics.median(fitted.speed / other.speed for fitted, other in pairs)
        speed = statistics.median(run.speed for run in runs[name])
        loss = statistics.mean(run.loss for run in runs[name])
        print(f"| {name} | {speed:.1f} | {ratio:.2f} | {loss:.3f} |")
    train, _ = load_data(arguments.reviews)
    flops = flops_per_example(train, 0)
    print("\nOf the rate of a 1024 x 1024 matrix product, measured before each run:")
    for name in names[:2]:
        reached = flops * statistics.median(run.speed for run in runs[name])
        rate = statistics.median(run.matmul for run in runs[name])
        print(f"{name} computes {reached / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s,", end=" ")
        print(f"{reached / rate:.0%}")


if __name__ == "__main__":
    main()
