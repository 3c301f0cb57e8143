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

ALONE, BATCHED = "pipeline, one at a time", "pipeline, batches of 32"
CHANGED = 0.005  # the share of answers that the exit may change


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
    """Return all ways, and the exit between the two models in int8."""
    teacher, student = movie_model(), movie_student()
    usual = as_pipeline(movie_model())

    def data(texts: Sequence[str]) -> TokenizedDataset:
        return TokenizedDataset(texts, None, teacher.tokenizer)

    files, models = {}, {"teacher": teacher.model, "student": student.model}
    train = [review.text for review in split(load_corpus("movies")).train[:128]]
    for name, model in list(models.items()):
        models[f"{name}-smooth"] = smooth(model, eval_loader(data(train), 16))
    for name, model in models.items():
        export(model, folder / f"{name}.onnx")
        to_int8(folder / f"{name}.onnx", folder / f"{name}-int8.onnx")
        for file in (f"{name}.onnx", f"{name}-int8.onnx"):
            files[file] = from_file(folder / file), (folder / file).stat().st_size

    def sorted_by(run: Run, size: int) -> Way:
        def alone(text: str) -> object:
            return run(collate([data([text])[0]]))

        return Way(lambda texts: answer(run, data(texts)), size, alone)

    def piped(texts: Sequence[str], **options: int) -> np.ndarray:
        return np.array([[row["score"]] for row in usual(list(texts), **options)])

    whole = files["teacher.onnx"][1]
    ways = {
        ALONE: Way(piped, whole, usual, 120),
        BATCHED: Way(lambda texts: piped(texts, batch_size=32), whole, None, 256),
        "sorted, inference_mode": sorted_by(from_model(teacher.model), whole),
    }
    if computes_in_bfloat16("cpu"):
        ways["sorted, bfloat16"] = sorted_by(in_bfloat16(teacher.model), whole)
    names = {"teacher": "ONNX Runtime", "student": "student, ONNX Runtime"}
    ways["student, PyTorch"] = sorted_by(from_model(student.model), files["student.onnx"][1])
    for name, words in names.items():
        ways[f"{words}, float32"] = sorted_by(*files[f"{name}.onnx"])
        ways[f"{words}, int8"] = sorted_by(*files[f"{name}-int8.onnx"])
        ways[f"{words}, int8, smoothed"] = sorted_by(*files[f"{name}-smooth-int8.onnx"])

    small, small_size = files["student-smooth-int8.onnx"]
    large, large_size = files["teacher-smooth-int8.onnx"]
    rows = data(reviews)
    by_small, by_large = answer(small, rows), answer(from_model(teacher.model), rows)
    found = choose_exit(sureness(by_small), (by_small > 0)[:, 0] == (by_large > 0)[:, 0], CHANGED)

    def in_two(texts: Sequence[str]) -> np.ndarray:
        return answer_in_two(small, large, data(texts), sureness, found.threshold)[0]

    def one_in_two(text: str) -> object:
        batch = collate([data([text])[0]])
        outputs = small(batch)
        return outputs if sureness(outputs)[0] >= found.threshold else large(batch)

    ways["student, then teacher, int8"] = Way(in_two, small_size + large_size, one_in_two)
    return ways, found


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
        ways, found = ways_of(Path(folder), [review.text for review in parts.validation])
        print(f"{len(texts)} reviews, {options.threads} threads, {options.rounds} rounds; {found}")
        count = {name: len(texts[: way.most]) for name, way in ways.items()}
        timed = {
            name: lambda way=way: way.read(texts[: way.most])  # type: ignore[misc]
            for name, way in ways.items()
        }
        speed = rates(timed, count, options.rounds)
        right = {
            name: (way.read(texts)[:, 0] > 0) == positive
            for name, way in ways.items()
            if way.most is None
        }
        reference = right["sorted, inference_mode"]
        waits = {name: latencies(way.ask, texts[:200]) for name, way in ways.items() if way.ask}
    print("| | texts/s | x one at a time | x batched | points | MB | p50 ms | p95 | p99 |")
    print("|" + "---|" * 9)
    for name, way in ways.items():
        over = [_ratio(speed[name] / speed[base]) for base in (ALONE, BATCHED)]
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
