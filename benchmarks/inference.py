"""Lesson 05's model asked in many ways: texts a second, right answers, bytes, waiting times.

    python -m benchmarks.inference                      # three rounds on all validation reviews
    python -m benchmarks.inference --rounds 5 --threads 1 --reviews 1200

All ways are timed in turn, from the text to the answer, in one process; what counts is the ratio to
the pipeline within a round. Right answers are compared on the same reviews, with a paired interval.
The reviews are the validation part and, if more are asked for, training reviews: enough for clocks;
for right answers lesson 13 opens the sealed test.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertPreTrainedModel, pipeline
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from course_utils.artefacts import Artefact
from course_utils.batching import Batch, TokenizedDataset, collate, eval_loader
from course_utils.datasets import load_corpus, targets
from course_utils.distillation import movie_student
from course_utils.exporting import export, from_file, from_model, to_int8
from course_utils.inference import Exit, Run, answer, answer_in_two, choose_exit, latencies, rates
from course_utils.intervals import bootstrap_interval, seed_interval
from course_utils.movie_model import movie_model
from course_utils.runtime import computes_in_bfloat16
from course_utils.smoothing import smooth
from course_utils.splits import split

ALONE, SIZES = "pipeline, one at a time", (8, 16, 32)
CHANGED = 0.001  # the share of answers that a second reading may leave changed


class ForPipeline(BertPreTrainedModel):
    """A classifier as `transformers.pipeline` wants one, with its first output alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.encoder.config)
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return the rating, shape (B, 1)."""
        return SequenceClassifierOutput(logits=self.model(input_ids, attention_mask).logits[:, :1])


def as_pipeline(artefact: Artefact) -> Any:
    coat = ForPipeline(artefact.model)
    coat.config.update({"num_labels": 1, "problem_type": "regression"})
    artefact.model.encoder.set_attn_implementation("sdpa")  # as transformers would choose
    logging.set_verbosity(logging.CRITICAL)  # "not supported", it says of any class of one's own
    return pipeline("text-classification", model=coat, tokenizer=artefact.tokenizer)


def in_bfloat16(model: nn.Module) -> Run:
    run = from_model(model)

    def rounded(batch: Batch) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return run(batch)

    return rounded


@dataclass(frozen=True)
class Way:
    """One way to answer: texts to outputs, the bytes of its weights, and a text alone."""

    read: Callable[[Sequence[str]], np.ndarray]
    size: int
    ask: Callable[[str], object] | None = None
    most: int | None = None  # a slow way is timed on some of the texts


def ways_of(folder: Path, reviews: Sequence[str]) -> tuple[dict[str, Way], Exit]:
    """Return all ways, and the exit from int8 to float32, chosen on these texts."""
    teacher, student = movie_model(), movie_student()
    usual = as_pipeline(movie_model())

    def data(texts: Sequence[str]) -> TokenizedDataset:
        return TokenizedDataset(texts, None, teacher.tokenizer)

    train = [review.text for review in split(load_corpus("movies")).train[:128]]
    sizes = {}
    for name, model in (("teacher", teacher.model), ("student", student.model)):
        for kind, made in (("", model), ("-smooth", smooth(model, eval_loader(data(train), 16)))):
            export(made, folder / f"{name}{kind}.onnx")
            to_int8(folder / f"{name}{kind}.onnx", folder / f"{name}{kind}-int8.onnx")
    to_int8(folder / "teacher.onnx", folder / "teacher-matrix-int8.onnx", per_channel=False)
    for file in folder.glob("*.onnx"):
        sizes[file.stem] = file.stat().st_size
    cores = torch.get_num_threads()

    def run_of(name: str, threads: int | None = None) -> Run:
        return from_file(folder / f"{name}.onnx", threads=threads)

    def sorted_by(run: Run, size: int, batch_size: int = 32, streams: int = 1) -> Way:
        def alone(text: str) -> object:
            return run(collate([data([text])[0]]))

        return Way(lambda texts: answer(run, data(texts), batch_size, streams=streams), size, alone)

    def piped(texts: Sequence[str], **options: int) -> np.ndarray:
        return np.array([[row["score"]] for row in usual(list(texts), **options)])

    whole = sizes["teacher"]
    ways = {ALONE: Way(piped, whole, usual, 120)}
    for size in SIZES:
        ways[f"pipeline, batches of {size}"] = Way(
            lambda texts, size=size: piped(texts, batch_size=size),  # type: ignore[misc]
            whole,
            None,
            256,
        )
    ways["sorted, inference_mode"] = sorted_by(from_model(teacher.model), whole)
    if computes_in_bfloat16("cpu"):
        ways["sorted, bfloat16"] = sorted_by(in_bfloat16(teacher.model), whole)
    ways["student, PyTorch"] = sorted_by(from_model(student.model), sizes["student"])
    for name, words in {
        "teacher": "ONNX Runtime, float32",
        "teacher-matrix-int8": "int8, a scale a matrix",
        "teacher-int8": "int8, a scale a row",
        "teacher-smooth-int8": "int8, a scale a row, smoothed",
        "student-smooth-int8": "student, int8, smoothed",
    }.items():
        ways[words] = sorted_by(run_of(name), sizes[name])
    for name, words in {
        "teacher": "float32, in streams",
        "teacher-smooth-int8": "int8, smoothed, in streams",
        "student-smooth-int8": "student, int8, in streams",
    }.items():
        ways[words] = sorted_by(run_of(name, 1), sizes[name], 8, cores)

    quick, exact = run_of("teacher-smooth-int8", 1), run_of("teacher", 1)
    first, second = (answer(run, data(reviews), 8, streams=cores) for run in (quick, exact))
    found = choose_exit(sureness(first), (first > 0)[:, 0] == (second > 0)[:, 0], CHANGED)

    def twice(texts: Sequence[str]) -> np.ndarray:
        threshold = found.threshold
        return answer_in_two(quick, exact, data(texts), sureness, threshold, 8, streams=cores)[0]

    def twice_alone(text: str) -> object:
        batch = collate([data([text])[0]])
        outputs = quick(batch)
        return outputs if sureness(outputs)[0] >= found.threshold else exact(batch)

    both = whole + sizes["teacher-smooth-int8"]
    ways["int8, near zero again in float32"] = Way(twice, both, twice_alone)
    return ways, found


def evenly(texts: list[str], most: int | None) -> list[str]:
    """Return some of the texts from all over: their lengths have an order of their own."""
    return texts[:: max(1, -(-len(texts) // most))] if most else texts


def sureness(outputs: np.ndarray) -> np.ndarray:
    return np.abs(outputs[:, 0])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--reviews", type=int, default=531)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    parts = split(load_corpus("movies"))
    reviews = [*parts.validation, *parts.train][: options.reviews]
    texts, positive = [review.text for review in reviews], targets(reviews) == 1
    with tempfile.TemporaryDirectory() as folder:
        products = [sentence.text for sentence in load_corpus("amazon")[::2]]
        unseen = [*(review.text for review in parts.validation), *products]
        ways, found = ways_of(Path(folder), unseen)
        print(f"{len(texts)} reviews, {options.threads} threads, {options.rounds} rounds; {found}")
        parts_of = {name: evenly(texts, way.most) for name, way in ways.items()}
        count = {name: len(part) for name, part in parts_of.items()}
        timed = {
            name: lambda way=way, part=parts_of[name]: way.read(part)  # type: ignore[misc]
            for name, way in ways.items()
        }
        speed = rates(timed, count, options.rounds)
        batches = [f"pipeline, batches of {size}" for size in SIZES]
        best = max(batches, key=lambda name: statistics.median(speed[name]))
        right = {
            name: (way.read(texts)[:, 0] > 0) == positive
            for name, way in ways.items()
            if way.most is None
        }
        reference = right["sorted, inference_mode"]
        waits = {name: latencies(way.ask, texts[:200]) for name, way in ways.items() if way.ask}
    print(f"batched: {best}")
    print("| | texts/s | x one at a time | x batched | points | MB | p50 ms | p95 | p99 |")
    print("|" + "---|" * 9)
    for name, way in ways.items():
        over = [_ratio(speed[name] / speed[base]) for base in (ALONE, best)]
        points = "0"
        if name in right and right[name] is not reference:
            points = _points(right[name], reference)
        times = (
            [f"{np.percentile(waits[name], q):.1f}" for q in (50, 95, 99)]
            if name in waits
            else [""] * 3
        )
        cells = [
            name,
            f"{statistics.median(speed[name]):.0f}",
            *over,
            points,
            f"{way.size / 1e6:.0f}",
            *times,
        ]
        print("| " + " | ".join(cells) + " |")


def _ratio(ratios: np.ndarray) -> str:
    if len(ratios) < 2:
        return f"{ratios[0]:.2f}"
    found = seed_interval(ratios)
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _points(right: np.ndarray, reference: np.ndarray) -> str:
    found = bootstrap_interval(lambda a, b: 100 * (a.mean() - b.mean()), right, reference)
    return f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


if __name__ == "__main__":
    main()
