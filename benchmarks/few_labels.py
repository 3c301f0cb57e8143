"""SetFit on the sentences of lesson 11a: the tool that people would use, at its own settings.

    python -m pip install setfit             # not among the course's packages
    python -m benchmarks.few_labels          # about two minutes for a draw of 8 per class
    python -m benchmarks.few_labels --sizes 8 64 --draws 3 --iterations 20
    python -m benchmarks.few_labels --show   # what has been measured so far

The same film sentences as in the lesson, the same draws, the same 400 that judge. SetFit trains
the whole encoder, the lesson its last block only. Beside it a linear model on the encoder's
vectors, and the lexicon. Each run is a line in build/few_labels.jsonl and is not run again.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from course_utils.batching import TokenizedDataset
from course_utils.datasets import Sentence, load_corpus, targets
from course_utils.intervals import seed_interval
from course_utils.lexicon import lexicon_score, load_lexicon
from course_utils.models import encoder_path, load_tokenizer
from course_utils.splits import split

RESULTS = Path("build/few_labels.jsonl")
TOKENS, JUDGES, POOL = 22, slice(0, 400), slice(1000, 1800)  # as in the lesson


def film_sentences() -> tuple[list[Sentence], list[Sentence]]:
    """Return the sentences that judge, and those that labels are drawn from."""
    train = split(load_corpus("movies")).train
    lengths = TokenizedDataset([s.text for s in train], None, load_tokenizer()).lengths()
    short = [s for s, n in zip(train, lengths, strict=True) if n <= TOKENS]
    return short[JUDGES], short[POOL]


def draw(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Return rows, as many of each class; the lesson's own draw."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.concatenate([order[labels[order] == c][:per_class] for c in (0, 1)])


def setfit(texts: list[str], labels: np.ndarray, seed: int, iterations: int) -> Any:
    """Train SetFit at its own rates; `iterations` pairs of each kind for each sentence."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=16,
            num_iterations=iterations,
            seed=seed,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": texts, "label": labels.tolist()})
        model = SetFitModel.from_pretrained(encoder_path())
        Trainer(model=model, args=arguments, train_dataset=data).train()
    return model


def run(per_class: int, seed: int, iterations: int) -> dict[str, Any]:
    """Train and judge both methods on one draw."""
    from sentence_transformers import SentenceTransformer

    judge, pool = film_sentences()
    truth = targets(judge)
    rows = draw(targets(pool), per_class, seed)
    texts, labels = [pool[row].text for row in rows], targets(pool)[rows]
    fresh = [sentence.text for sentence in judge]
    frozen = SentenceTransformer(encoder_path(), device="cpu")
    linear = LogisticRegression(max_iter=1000).fit(frozen.encode(texts), labels)
    begun = time.perf_counter()
    model = setfit(texts, labels, seed, iterations)
    seconds = time.perf_counter() - begun
    return {
        "per_class": per_class,
        "seed": seed,
        "iterations": iterations,
        "setfit": float((np.asarray(model.predict(fresh)) == truth).mean()),
        "linear": float((linear.predict(frozen.encode(fresh)) == truth).mean()),
        "seconds": round(seconds, 1),
    }


def kept() -> list[dict[str, Any]]:
    """Return the runs so far."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def show() -> None:
    """Print what has been measured, with intervals over the draws."""
    judge, _ = film_sentences()
    lexicon = load_lexicon()
    right = np.mean(
        [
            (lexicon_score(s.text, lexicon) > 0) == t
            for s, t in zip(judge, targets(judge), strict=True)
        ]
    )
    print(f"lexicon, no label: {right:.3f}")
    found = kept()
    for size, iterations in sorted({(row["per_class"], row["iterations"]) for row in found}):
        rows = [r for r in found if (r["per_class"], r["iterations"]) == (size, iterations)]
        seconds = np.mean([r["seconds"] for r in rows])
        print(
            f"{size} per class, {iterations} iterations, {len(rows)} draws, {seconds:.0f} s each:"
        )
        for name in ("setfit", "linear"):
            values = np.array([r[name] for r in rows])
            print(f"  {name:7} {seed_interval(values) if len(values) > 1 else values[0]}")


def main() -> None:
    """Run what is missing, then show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    done = {(r["per_class"], r["seed"], r["iterations"]) for r in kept()}
    for size in [] if arguments.show else arguments.sizes:
        for seed in range(arguments.draws):
            if (size, seed, arguments.iterations) not in done:
                found = run(size, seed, arguments.iterations)
                print(found, flush=True)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    show()


if __name__ == "__main__":
    main()
