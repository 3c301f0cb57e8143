"""What longer pretraining on unlabelled Chinese reviews is worth: lesson 16c beyond its minutes.

    python -m benchmarks.chinese_pretraining                    # some minutes for each seed
    python -m benchmarks.chinese_pretraining --passes 0 4 16 --seeds 3 --labels 500 2000
    python -m benchmarks.chinese_pretraining --show             # what has been measured so far

Lesson 16c's reviews, vocabulary and model; 1,000 reviews judge. A run is so many passes of lesson
04's questions over the half without labels (0: random weights), then the same fine-tune. Beside it
a linear model on counted characters; with ``COURSE_CHINESE_ENCODER`` a public encoder, fine-tuned,
too. Each run is a line in build/chinese_pretraining.jsonl and is not run again.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from course_utils.batching import TokenizedDataset, eval_loader, train_loader
from course_utils.blocks import Config
from course_utils.intervals import seed_interval
from course_utils.models import SentenceClassifier
from course_utils.optimization import make_optimizer, make_schedule
from course_utils.own_data.cleaning import key_of
from course_utils.own_data.strangers import chinese_reviews
from course_utils.pretraining import LanguageModel, ask_hidden, look_at_neighbours
from course_utils.training import evaluate, training_steps
from course_utils.transformer import Transformer, load_bert
from course_utils.vocabulary import MASK, train_vocabulary

RESULTS = Path("build/chinese_pretraining.jsonl")
VARIABLE = "COURSE_CHINESE_ENCODER"
Row = tuple[str, int]  # text, 1 for praise


def reviews() -> tuple[list[Row], list[Row], list[str]]:
    """Return the reviews that judge, those with labels and those without, as in the lesson."""
    labels_of: dict[str, dict[str, str]] = {}
    for text, label in chinese_reviews():
        if text.strip():
            labels_of.setdefault(key_of(text), {}).setdefault(label, text)
    once = [(next(iter(f.values())), int("praise" in f)) for f in labels_of.values() if len(f) == 1]
    short = [row for row in once if 8 <= len(row[0]) <= 48]
    short = [short[n] for n in np.random.default_rng(0).permutation(len(short))]
    judge, rest = short[:1000], short[1000:]
    half = len(rest) // 2
    return judge, rest[:half], [text for text, _ in rest[half:]]


def small(vocabulary: int, seed: int, size: int, layers: int) -> Transformer:
    """Return a BERT from random weights, two heads of which look at their neighbours."""
    torch.manual_seed(seed)
    config = Config(vocabulary, size, 4, layers, 4 * size, max_tokens=64, dropout=0.0)
    encoder = Transformer(config)
    look_at_neighbours(encoder)
    return encoder


def pretrain(
    encoder: Transformer,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    passes: int,
    seed: int,
) -> None:
    """Ask for three in ten of the characters, so many times; changes the encoder in place."""
    corpus = TokenizedDataset(texts, None, tokenizer, max_tokens=64)
    model, source = LanguageModel(encoder), torch.Generator().manual_seed(seed)
    ids = torch.tensor([token for row in corpus.input_ids for token in row[1:-1]])
    shares = torch.bincount(ids, minlength=len(tokenizer)) + 0.5
    shares[:5] = 1e-3
    with torch.no_grad():
        model.bias.copy_((shares / shares.sum()).log())
    loader, optimizer = train_loader(corpus, 32, seed=seed), make_optimizer(model, 2e-3)
    schedule = make_schedule(optimizer, passes * len(loader))
    for batch in (batch for _ in range(passes) for batch in loader):
        questions = ask_hidden(
            batch.input_ids,
            batch.attention_mask,
            mask_id=MASK,
            special_ids=range(5),
            vocab_size=len(tokenizer),
            generator=source,
            share=0.3,
        )
        loss = cross_entropy(model(questions), questions.answers)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def fine_tune(
    encoder: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    judge: Sequence[Row],
    seed: int,
    lr: float = 1e-3,
    epochs: int = 4,
) -> float:
    """Return the share of the judging reviews that is right after the lesson's fine-tune."""
    data, seen = (
        TokenizedDataset([t for t, _ in part], [y for _, y in part], tokenizer, max_tokens=64)
        for part in (rows, judge)
    )
    torch.manual_seed(seed)
    model = SentenceClassifier(encoder, 2)
    optimizer, loader = make_optimizer(model, lr), train_loader(data, 16, seed=seed)
    schedule = make_schedule(optimizer, epochs * len(loader))
    for _ in range(epochs):
        for _ in training_steps(model, loader, cross_entropy, optimizer, schedule):
            pass
    said = evaluate(model, eval_loader(seen), cross_entropy).logits.argmax(dim=1)
    return float((said.numpy() == np.array([label for _, label in judge])).mean())


def counted(rows: Sequence[Row], judge: Sequence[Row]) -> float:
    """Return the share that a linear model on characters and pairs of them has right."""
    characters = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(characters, LogisticRegression(C=10, max_iter=1000))
    model.fit([text for text, _ in rows], [label for _, label in rows])
    return float(model.score([text for text, _ in judge], [label for _, label in judge]))


def run(what: str, labels: Sequence[int], seed: int, size: int, layers: int) -> dict[str, Any]:
    """Measure one way: a number of passes, ``counted``, or ``public``."""
    judge, labelled, unlabelled = reviews()
    order, begun = np.random.default_rng(seed).permutation(len(labelled)), time.perf_counter()
    draws = {count: [labelled[n] for n in order[:count]] for count in labels}
    if what == "counted":
        right = {count: counted(rows, judge) for count, rows in draws.items()}
    elif what == "public":
        folder = os.environ[VARIABLE]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        right = {
            count: fine_tune(load_bert(folder), tokenizer, rows, judge, seed, 5e-5, 2)
            for count, rows in draws.items()
        }
    else:
        own = train_vocabulary(unlabelled, 3000, max_tokens=64)
        encoder = small(len(own), seed, size, layers)
        if int(what):
            pretrain(encoder, unlabelled, own, int(what), seed)
        weights = {name: value.clone() for name, value in encoder.state_dict().items()}
        right = {}
        for count, rows in draws.items():
            encoder.load_state_dict(weights)
            right[count] = fine_tune(encoder, own, rows, judge, seed)
    seconds = round(time.perf_counter() - begun, 1)
    return {"what": what, "seed": seed, "size": size, "layers": layers, "right": right} | {
        "seconds": seconds,
        "threads": torch.get_num_threads(),
    }


def kept() -> list[dict[str, Any]]:
    """Return the runs so far."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def show() -> None:
    """Print what has been measured, with intervals over the seeds."""
    found = kept()
    for what, size, layers in sorted({(r["what"], r["size"], r["layers"]) for r in found}):
        rows = [r for r in found if (r["what"], r["size"], r["layers"]) == (what, size, layers)]
        seconds = np.mean([r["seconds"] for r in rows])
        print(f"{what}, size {size}, {layers} layers, {len(rows)} seeds, {seconds:.0f} s each:")
        for count in sorted({c for r in rows for c in r["right"]}, key=int):
            values = np.array([r["right"][count] for r in rows if count in r["right"]])
            print(f"  {count:>6} {seed_interval(values) if len(values) > 1 else values[0]}")


def main() -> None:
    """Run what is missing, then show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, nargs="*", default=[0, 4, 16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    ways = ["counted", *(["public"] if os.environ.get(VARIABLE) else []), *map(str, options.passes)]
    done = {(r["what"], r["seed"], r["size"], r["layers"]) for r in kept()}
    for seed in range(0 if options.show else options.seeds):
        for what in ways:
            if (what, seed, options.size, options.layers) not in done:
                found = run(what, options.labels, seed, options.size, options.layers)
                print(found, flush=True)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
    show()


if __name__ == "__main__":
    main()
