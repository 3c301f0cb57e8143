"""`course finetune` on tables that nobody tuned it for, beside what people would pick instead.

    python -m benchmarks.own_data newsgroups --rows 2000 --minutes 5
    python -m benchmarks.own_data chinese pages --minutes 2 --rivals setfit autogluon
    python -m benchmarks.own_data --show      # what has been measured so far

Every rival gets the rows that `course finetune` trains on and those it chooses by, as many seconds
as `course finetune` took in all, and is judged on the same sealed test rows, once. scikit-learn's
TF-IDF with a linear model is in each report already ("counted words").

    python -m pip install setfit              # neither is among the course's packages
    python -m pip install "autogluon.tabular[lightgbm]"

A rival that is not installed, or fails, is a line that says so. Each run is a line in
build/own_data.jsonl.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from course_utils.intervals import Interval
from course_utils.models import encoder_path
from course_utils.own_data.decisions import with_intervals
from course_utils.own_data.finetune import PURPOSE, finetune
from course_utils.own_data.goals import Goal
from course_utils.own_data.parts import OwnSplits, Part
from course_utils.own_data.requests import Request, look
from course_utils.own_data.strangers import Row, book_pages, chinese_reviews, newsgroups
from course_utils.runtime import seed_everything

RESULTS = Path("build/own_data.jsonl")
TRIED = 5  # steps of SetFit, to see how long one takes
TABLES: dict[str, Callable[[], Sequence[Row]]] = {
    "chinese": chinese_reviews,
    "newsgroups": lambda: [*newsgroups("train"), *newsgroups("test")],
    "pages": book_pages,
}
Rival = Callable[[Goal, Part, Part, Part, float, int], np.ndarray]


def write_table(path: Path, rows: Sequence[Row], count: int, seed: int) -> None:
    """Write some rows, drawn by the seed, as CSV."""
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *(rows[n] for n in order)])


def setfit(
    goal: Goal, train: Part, validation: Part, test: Part, seconds: float, seed: int
) -> np.ndarray:
    """Train SetFit at its own rates for as many steps as there is time; return what it says."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # the head needs some of the time too: a tenth is kept for it
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = time.perf_counter() - begun > 0.9 * seconds
            return control

    texts, targets = _both(train, validation)
    data = Dataset.from_dict({"text": texts, "label": targets.tolist()})
    with tempfile.TemporaryDirectory() as folder:

        def trainer(steps: int) -> Any:
            arguments = TrainingArguments(
                output_dir=folder,
                batch_size=16,
                max_steps=steps,  # without it SetFit lists all pairs, too many for long texts
                seed=seed,
                save_strategy="no",
                report_to="none",
                show_progress_bar=False,
            )
            seed_everything(seed)
            model = SetFitModel.from_pretrained(encoder_path())
            return Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()])

        begun = time.perf_counter()
        short = trainer(TRIED)
        short.train_embeddings(texts, targets.tolist(), args=short.args)
        taken = time.perf_counter() - begun
        long = trainer(max(1, int((0.85 * seconds - taken) / (taken / TRIED))))
        long.train()
        return np.asarray(long.model.predict(list(test.texts))).astype(int)


def autogluon(
    goal: Goal, train: Part, validation: Part, test: Part, seconds: float, seed: int
) -> np.ndarray:
    """Let AutoGluon choose among its tabular models, which count n-grams of texts."""
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    texts, targets = _both(train, validation)
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor("label", path=folder, eval_metric="f1_macro", verbosity=0)
        frame = pd.DataFrame({"text": texts, "label": targets})
        predictor.fit(frame, time_limit=seconds)
        return predictor.predict(pd.DataFrame({"text": test.texts})).to_numpy()


RIVALS: dict[str, Rival] = {"setfit": setfit, "autogluon": autogluon}


def _both(train: Part, validation: Part) -> tuple[list[str], np.ndarray]:
    return [*train.texts, *validation.texts], np.concatenate([train.targets, validation.targets])


def run(name: str, rows: int, minutes: float, seed: int, rivals: Sequence[str]) -> dict[str, Any]:
    """Train all on one table; return one line of results."""
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place, f"{name}.csv"), Path(place, "out")
        write_table(path, TABLES[name](), rows, seed)
        request = Request(path, "text", "label", out=out, minutes=minutes, seed=seed)
        begun = time.perf_counter()
        finetune(request)
        seconds = time.perf_counter() - begun
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        looked = look(request)
        splits = OwnSplits(looked.rows, looked.goal, seed)
    test = splits.unseal(PURPOSE)  # for the same purpose: all are judged once, on the same rows
    scores, took = dict(results["outcome"]["scores"]), {"fine-tuned": seconds}
    for rival in rivals:
        begun = time.perf_counter()
        try:
            said = RIVALS[rival](looked.goal, splits.train, splits.validation, test, seconds, seed)
        except Exception as error:  # theirs, of any kind: the others' numbers stay
            scores[rival] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        took[rival] = time.perf_counter() - begun
        found = with_intervals(looked.goal, test.targets, said)
        scores[rival] = {score: vars(interval) for score, interval in found.items()}
    return {
        "table": name,
        "rows": looked.audit.used,
        "sizes": splits.sizes,
        "seed": seed,
        "minutes": minutes,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "seconds": took,
        "scores": scores,
        "verdict": results["verdict"],
    }


def show(results: Path = RESULTS) -> None:
    """Print what has been measured so far, one line for each model."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    for found in map(json.loads, lines):
        print(f"{found['table']}, {found['rows']:,} rows, seed {found['seed']}: {found['verdict']}")
        for who, scores in found["scores"].items():
            said = scores if isinstance(scores, str) else Interval(**scores["macro F1"])
            print(f"    {who:16} {found['seconds'].get(who, float('nan')):7.0f} s  {said}")


def main() -> None:
    """Read the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), default=[])
    parser.add_argument("--show", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"tables are {', '.join(TABLES)}, got {', '.join(sorted(unknown))}")
    for name in [] if options.show else options.tables:
        found = run(name, options.rows, options.minutes, options.seed, options.rivals)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    show()


if __name__ == "__main__":
    main()
