"""The paper's table of four corpora by four, at full length: train on each, test on each.

    python -m benchmarks.four_by_four train movies    # also: tweets, amazon, nyt, all
    python -m benchmarks.four_by_four test movies     # opens the sealed tests for that model, once
    python -m benchmarks.four_by_four report          # the table, from what was kept

Each model sees half of its corpus (`all`: half of each), two epochs, batches of 16, at lesson
05's rate with lesson 05's two heads; the weights with the lowest loss on its own validation part
are kept. A run that was interrupted goes on where it was when the same command is given again.
What was decided was decided before `test`: the recipe is lesson 05's, not tuned for any corpus,
the classes are the predicted rating cut at -0.5 and +0.5, as there.

Results are kept in build/four_by_four. `test` refuses to look a second time.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.datasets import CORPORA, Sentence, load_corpus, targets
from course_utils.intervals import Interval, bootstrap_interval
from course_utils.lexicon import lexicon_score, load_lexicon
from course_utils.models import load_classifier, load_tokenizer
from course_utils.movie_model import MOVIE_RECIPE
from course_utils.runtime import seed_everything
from course_utils.splits import Splits, split
from course_utils.tasks import Score, rating_and_class_loss, score
from course_utils.training import evaluate, fit

FOLDER = Path("build/four_by_four")
NAMES = ("tweets", "movies", "amazon", "nyt")  # the order of the paper's table


def dataset(sentences: list[Sentence]) -> TokenizedDataset:
    """Tokenise sentences; their labels are the ratings."""
    texts = [sentence.text for sentence in sentences]
    return TokenizedDataset(texts, targets(sentences, "rating"), load_tokenizer())


def train(name: str, splits: dict[str, Splits]) -> None:
    """Train on one corpus or on all; keep the best weights; say how they do on validation."""
    chosen = list(NAMES) if name == "all" else [name]
    parts = [
        dataset([row for corpus in chosen for row in getattr(splits[corpus], part)])
        for part in ("train", "validation")
    ]
    seed_everything(0)
    model = load_classifier(4, seed=0)
    loaders = train_loader(parts[0], 16, seed=0), eval_loader(parts[1])
    run = FOLDER / f"{name}-run"
    history = fit(
        model,
        *loaders,
        rating_and_class_loss,
        MOVIE_RECIPE,
        folder=run,
        resume=True,
        progress=False,
    )
    torch.save(model.state_dict(), FOLDER / f"{name}.pt")
    print(f"{name}: best validation loss {history.best.loss:.3f} at step {history.best.step}")
    for corpus in NAMES:
        data = dataset(list(splits[corpus].validation))
        said = evaluate(model, eval_loader(data), rating_and_class_loss).logits[:, 0].numpy()
        found = score(data.labels, said)
        print(f"  on {corpus}'s validation part: F1 {found.f1:.3f}, r {found.r:.3f}")


def test(name: str, splits: dict[str, Splits]) -> None:
    """Judge one model on all four test parts; refuse if that has been done."""
    kept = FOLDER / f"{name}.json"
    if kept.exists():
        raise SystemExit(f"{kept} is there: the sealed tests have spoken about this model")
    model = load_classifier(4, seed=0)
    model.load_state_dict(torch.load(FOLDER / f"{name}.pt", weights_only=True))
    found = {}
    for corpus in NAMES:
        data = dataset(list(splits[corpus].unseal("the table of four by four").test))
        logits = evaluate(model, eval_loader(data), rating_and_class_loss).logits
        found[corpus] = logits[:, 0].double().tolist()
        print(name, corpus, score(data.labels, np.array(found[corpus])), flush=True)
    kept.write_text(json.dumps(found))


def intervals(ratings: np.ndarray, said: np.ndarray) -> tuple[Interval, Interval]:
    """Return weighted F1 and r of one model on one corpus, with bootstrap intervals."""

    def one(name: str) -> Interval:
        def statistic(a: np.ndarray, b: np.ndarray) -> float:
            found: Score = score(a, b)
            return float(getattr(found, name))

        return bootstrap_interval(statistic, ratings, said, resamples=400)

    return one("f1"), one("r")


def report(splits: dict[str, Splits]) -> None:
    """Print the table of every model that was tested, and of the lexicon, with intervals."""
    tests = {corpus: splits[corpus].unseal("the table of four by four").test for corpus in NAMES}
    lexicon = load_lexicon()
    said = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    said["lexicon"] = {
        corpus: [10 * lexicon_score(row.text, lexicon) for row in tests[corpus]] for corpus in NAMES
    }
    print(f"| trained on | {' | '.join(NAMES)} |\n|{'---|' * 5}")
    for name in sorted(said, key=lambda name: (*NAMES, "all", "lexicon").index(name)):
        cells = []
        for corpus in NAMES:
            ratings = targets(tests[corpus], "rating").astype(float)
            f1, r = intervals(ratings, np.array(said[name][corpus]))
            cells.append(
                f"{f1.value:.3f} ({f1.low:.3f}-{f1.high:.3f}); "
                f"r {r.value:.3f} ({r.low:.3f}-{r.high:.3f})"
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("train", "test", "report"))
    parser.add_argument("name", nargs="?", choices=(*NAMES, "all"))
    arguments = parser.parse_args()
    if (arguments.name is None) != (arguments.stage == "report"):
        parser.error("train and test need the name of a corpus, or all; report needs none")
    FOLDER.mkdir(parents=True, exist_ok=True)
    splits = {corpus: split(load_corpus(corpus)) for corpus in CORPORA}
    if arguments.stage == "train":
        train(arguments.name, splits)
    elif arguments.stage == "test":
        test(arguments.name, splits)
    else:
        report(splits)


if __name__ == "__main__":
    main()
