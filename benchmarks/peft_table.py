"""Eleven ways to fine-tune the whole encoder, at two numbers of labels and three seeds each.

    python -m benchmarks.peft_table                    # all of it: 20 minutes, quiet thread
    python -m benchmarks.peft_table --minutes 7        # as far as that goes; the next call goes on
    python -m benchmarks.peft_table --show             # the table of what has been measured so far

Every run is a line in ``build/peft_table.jsonl``; what is there is not run again. The reviews are
short ones (at most 25 tokens) of the training part, and so are the 600 that judge, which no setting
was chosen on: the learning rates come from trial runs that were scored on the validation part.
Lesson 09 runs a smaller one itself, and quotes from this one.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from course_utils.adapters import AdapterLinear, LoRALinear, SoftPrompt, adapt
from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.datasets import load_corpus, targets
from course_utils.deltas import bytes_of, trained_tensors
from course_utils.intervals import seed_interval
from course_utils.models import count_parameters, freeze, load_classifier, load_tokenizer
from course_utils.optimization import make_optimizer, make_schedule
from course_utils.splits import split
from course_utils.training import evaluate, training_steps

RESULTS = Path("build/peft_table.jsonl")
SEEDS, JUDGES = 3, 600
EPOCHS = {100: 4, 400: 2}  # by number of labels
LINEAR = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
HALVES = ["attention.output.dense", "output.dense"]


# --- the methods: each changes a classifier in place ------------------------------------------


def probe(model: Any, steps: int) -> None:
    """Train the head alone."""
    freeze(model.encoder)


def bitfit(model: Any, steps: int) -> None:
    """Train vectors, that is biases and LayerNorm, and the head."""
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(parameter.ndim < 2)


def own(targets: list[str], wrap: Callable[[nn.Module], nn.Module]) -> Callable[[Any, int], None]:
    """Wrap layers in something of `course_utils.adapters`."""

    def change(model: Any, steps: int) -> None:
        adapt(model, targets, wrap, also=["classifier"])

    return change


def prompt(model: Any, steps: int) -> None:
    """Put 16 trained vectors before every text."""
    model.encoder = SoftPrompt(model.encoder, 16)


def by_peft(config: Callable[[int], peft.PeftConfig]) -> Callable[[Any, int], None]:
    """Hand the encoder to `peft`; the head stays ours."""

    def change(model: Any, steps: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.encoder = peft.get_peft_model(model.encoder, config(steps))

    return change


def adalora(steps: int) -> peft.PeftConfig:
    """Begin with rank 12, give away two thirds of it by half of the run."""
    return peft.AdaLoraConfig(
        init_r=12,
        target_r=4,
        tinit=steps // 10,
        tfinal=steps // 2,
        deltaT=1,
        total_step=steps,
        target_modules=["query", "value"],
    )


def ia3(steps: int) -> peft.PeftConfig:
    """Scale keys, values and the inside of the feed-forward part by trained vectors."""
    return peft.IA3Config(
        target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]
    )


def dora(steps: int) -> peft.PeftConfig:
    """LoRA of rank 8, with a trained length for each output beside it (Liu et al., 2024)."""
    return peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], use_dora=True)


def prefix(steps: int) -> peft.PeftConfig:
    """Put 16 trained keys and values before those of the text, in every block."""
    return peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=16)


METHODS: dict[str, tuple[float, Callable[[Any, int], None]]] = {
    "full fine-tuning": (1e-4, lambda model, steps: None),
    "linear probe": (1e-2, probe),
    "BitFit": (2e-3, bitfit),
    "LoRA, q and v, rank 8": (2e-3, own(["query", "value"], partial(LoRALinear, rank=8))),
    "DoRA, q and v, rank 8": (2e-3, by_peft(dora)),
    "LoRA, all, rank 8": (1e-3, own(LINEAR, partial(LoRALinear, rank=8))),
    "adapters, width 32": (1e-3, own(HALVES, partial(AdapterLinear, width=32))),
    "AdaLoRA, q and v, 12 to 4": (5e-3, by_peft(adalora)),
    "IA3": (1e-2, by_peft(ia3)),
    "prefix, 16": (1e-2, by_peft(prefix)),
    "soft prompt, 16": (1e-2, prompt),
}


# --- a run ------------------------------------------------------------------------------------


def step_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> int:
    """Return what a training step holds at once, in bytes: counted, not sampled.

    Weights, gradients, the optimiser's moments, and what the forward pass keeps for the backward.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    state = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    trained = [p for p in model.parameters() if p.requires_grad]
    return bytes_of(model.parameters()) + bytes_of(trained) + bytes_of(state) + sum(kept.values())


def run(method: str, labels: int, seed: int, data: Any) -> dict[str, Any]:
    """Train once, judge once."""
    pool, judges = data
    rows = pool[seed * 500 : seed * 500 + labels]
    lr, change = METHODS[method]
    torch.manual_seed(seed)
    model = load_classifier(2, seed=seed)
    loader = train_loader(dataset(rows), 16, seed=seed)
    total = EPOCHS[labels] * len(loader)
    change(model, total)
    optimizer = make_optimizer(model, lr)
    schedule = make_schedule(optimizer, total)
    allocate = getattr(getattr(model.encoder, "base_model", None), "update_and_allocate", None)
    began, step = time.process_time(), 0
    for _ in range(EPOCHS[labels]):
        for _record in training_steps(model, loader, cross_entropy, optimizer, schedule):  # type: ignore[arg-type]
            step += 1
            if allocate:  # without it AdaLoRA never gives any rank away
                allocate(step)
    seconds = (time.process_time() - began) / (EPOCHS[labels] * labels)
    found = evaluate(model, eval_loader(dataset(judges)), cross_entropy)  # type: ignore[arg-type]
    return {
        "method": method,
        "labels": labels,
        "seed": seed,
        "lr": lr,
        "trained": count_parameters(model, trainable=True),
        "bytes": bytes_of(trained_tensors(model).values()),
        "step_bytes": step_bytes(model.train(), optimizer, next(iter(loader))),
        "seconds": seconds,
        "accuracy": (found.logits.argmax(dim=1) == found.labels).double().mean().item(),
    }


def dataset(reviews: list[Any]) -> TokenizedDataset:
    """Return reviews as tokens, with labels 0 and 1."""
    return TokenizedDataset([r.text for r in reviews], targets(reviews), load_tokenizer())


def load_data() -> tuple[list[Any], list[Any]]:
    """Return short reviews to learn from, and others to judge by."""
    train = split(load_corpus("movies")).train
    lengths = TokenizedDataset([r.text for r in train], None, load_tokenizer()).lengths()
    short = [r for r, n in zip(train, lengths, strict=True) if n <= 25]
    order = np.random.default_rng(9).permutation(len(short))
    chosen = [short[i] for i in order]
    return chosen[JUDGES:], chosen[:JUDGES]


# --- all runs ---------------------------------------------------------------------------------


def read() -> list[dict[str, Any]]:
    """Return what has been measured so far."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def accuracies(lines: list[dict[str, Any]], method: str, labels: int) -> dict[int, float]:
    """Return the share right of one method with so many labels, by seed."""
    mine = [x for x in lines if (x["method"], x["labels"]) == (method, labels)]
    return {x["seed"]: x["accuracy"] for x in mine}


def show(lines: list[dict[str, Any]]) -> None:
    """Print the table, as Markdown; differences are paired by seed, which decides the reviews."""
    heads = ["method", "rate", "trained", "on disk", "in a step", "time", "100 labels"]
    heads += ["400 labels", "points against full, 400"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    full = np.mean([x["seconds"] for x in lines if x["method"] == "full fine-tuning"])
    for method in METHODS:
        mine = [x for x in lines if x["method"] == method]
        if not mine:
            continue
        cells = []
        for labels in EPOCHS:
            values = list(accuracies(lines, method, labels).values())
            if len(values) < SEEDS:
                cells.append(f"{len(values)} of {SEEDS} runs")
                continue
            found = seed_interval(np.array(values))
            cells.append(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})")
        ours, theirs = (accuracies(lines, m, 400) for m in (method, "full fine-tuning"))
        gaps = [100 * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
        if method != "full fine-tuning" and len(gaps) == SEEDS:
            gap = seed_interval(np.array(gaps))
            cells.append(f"{gap.value:+.1f} ({gap.low:+.1f} to {gap.high:+.1f})")
        else:
            cells.append("")
        first, seconds = mine[0], np.mean([x["seconds"] for x in mine])
        print(
            f"| {method} | {first['lr']:g} | {first['trained']:,} | {first['bytes'] / 1e3:,.0f} kB "
            f"| {first['step_bytes'] / 1e6:.0f} MB | {seconds / full:.2f} | {' | '.join(cells)} |"
        )


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after")
    parser.add_argument("--show", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    started, done = time.perf_counter(), read()
    if not arguments.show:
        RESULTS.parent.mkdir(exist_ok=True)
        data = load_data()
        have = {(x["method"], x["labels"], x["seed"]) for x in done}
        wanted = [(m, n, s) for n in (400, 100) for s in range(SEEDS) for m in METHODS]
        for key in wanted:
            if key in have or time.perf_counter() - started > 60 * arguments.minutes:
                continue
            line = run(*key, data)
            print(line, flush=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    show(read())


if __name__ == "__main__":
    main()
