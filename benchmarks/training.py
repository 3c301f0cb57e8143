"""Throughput of `course_utils.training.fit` beside the transformers `Trainer`.

    make bench                     # or: python -m benchmarks.training
    python -m benchmarks.training --reviews 320 --rounds 1     # a quick look

Every round trains the same encoder on the same reviews, with the same batch size, learning
rate, warm-up and number of threads, three ways in turn: `fit`, `Trainer` as it comes, and
`Trainer` grouping by length. The order within a round is rotated, so a machine that slows
down does not favour one of them. What counts is the ratio within a round.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from course_utils.batching import TokenizedDataset, collate, eval_loader, train_loader
from course_utils.datasets import load_corpus, split, targets
from course_utils.models import load_classifier, load_tokenizer
from course_utils.runtime import seed_everything, usable_cores, versions
from course_utils.training import evaluate, fit, forward

BATCH_SIZE = 16
LR = 5e-5
WARMUP = 0.1


def train_with_fit(data: TokenizedDataset, seed: int) -> tuple[nn.Module, float]:
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
        epochs=1,
        lr=LR,
        warmup=WARMUP,
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


def matmul_rate(size: int = 1024, seconds: float = 2.0) -> float:
    """Return the rate of a float32 matrix product in FLOP/s, as this machine reaches it now."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    for _ in range(3):
        a @ b
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        a @ b
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - start)


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


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=960, help="training examples per run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    splits = split(load_corpus("movies"))
    chosen = np.random.default_rng(0).permutation(len(splits.train))[: arguments.reviews]
    rows = [splits.train[i] for i in chosen]
    tokenizer = load_tokenizer()
    data = TokenizedDataset([r.text for r in rows], targets(rows), tokenizer)
    held_out = splits.validation
    validation = eval_loader(
        TokenizedDataset([r.text for r in held_out], targets(held_out), tokenizer)
    )
    arms: dict[str, Callable[[int], tuple[nn.Module, float]]] = {
        "fit": lambda seed: train_with_fit(data, seed),
        "Trainer": lambda seed: train_with_trainer(data, seed, "random"),
        "Trainer, by length": lambda seed: train_with_trainer(data, seed, "group_by_length"),
    }
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    losses: dict[str, list[float]] = {name: [] for name in arms}
    rates: list[float] = []
    for round_ in range(arguments.rounds):
        names = list(arms)
        for name in names[round_ % 3 :] + names[: round_ % 3]:
            rates.append(matmul_rate())
            seed_everything(round_)
            model, speed = arms[name](round_)
            speeds[name].append(speed)
            losses[name].append(evaluate(model, validation, nn.functional.cross_entropy).loss)
            print(f"round {round_ + 1}: {name}: {speed:.1f} examples/s", flush=True)

    found = versions()
    print(f"\n{usable_cores()} cores, {torch.get_num_threads()} threads, torch {found['torch']}, ")
    print(f"transformers {found['transformers']}; {len(rows)} reviews, batch {BATCH_SIZE}\n")
    print("| | examples/s, median | fit is faster by | validation loss, mean |")
    print("|---|---|---|---|")
    for name in arms:
        ratio = statistics.median(a / b for a, b in zip(speeds["fit"], speeds[name], strict=True))
        speed, loss = statistics.median(speeds[name]), statistics.mean(losses[name])
        print(f"| {name} | {speed:.1f} | {ratio:.2f} | {loss:.3f} |")
    reached = flops_per_example(data, 0) * statistics.median(speeds["fit"])
    rate = statistics.median(rates)
    print(f"\nfit computes {reached / 1e9:.0f} GFLOP/s, {reached / rate:.0%} of the", end=" ")
    print(f"{rate / 1e9:.0f} GFLOP/s of a 1024 x 1024 matrix product here")


if __name__ == "__main__":
    main()
