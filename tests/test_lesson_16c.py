"""Lesson 16c: the cell for a public Chinese checkpoint works, and its small claims can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from course_utils.models import quiet_loading
from course_utils.vocabulary import train_vocabulary
from tests.lesson_code import code_of, failing_claim, run, with_mistake

CELLS = code_of("16c_chinese_and_other_heads")
SET_UP = CELLS[0]
VARIABLE = "COURSE_CHINESE_ENCODER"
MISTAKES = {  # what the cell holds, correct code, broken code, and words of the claim
    "every piece gets the label": (
        "def align",
        "word is None or word == before",
        "word is None",
        "only the first piece of a word",
    ),
    "names counted by words": (
        "def names",
        "found.add((start, place))",
        "found.add((start, start + 1))",
        "a name cut short is no name",
    ),
    "labels of the line before": (
        "labels_of = {}",
        "setdefault(label, text)",
        "setdefault('the same', text)",
        "some texts stand in both classes",
    ),
    "patches of another shape": (
        "points.unfold",
        "unfold(1, 2, 2).unfold(2, 2, 2)",
        "unfold(2, 2, 2).unfold(1, 2, 2)",
        "the second patch is",
    ),
}


def cell_with(words: str) -> int:
    """The number of the only cell that holds these words, but for those that call it."""
    found = [n for n, source in enumerate(CELLS) if words in source]
    assert found, words
    return found[0]


def save_tiny_chinese_encoder(folder: Path, texts: list[str]) -> None:
    """A BERT of one narrow layer with random weights, and a vocabulary of these texts."""
    tokenizer = train_vocabulary(texts, 400, max_tokens=64)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(), quiet_loading():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("named", [True, False], ids=["a checkpoint", "none"])
def test_a_public_checkpoint_is_fine_tuned_by_the_same_code(named, tmp_path, monkeypatch, capsys):
    rows = [(text * 3, label) for text, label in [("很好看", 1), ("不好慢", 0)] * 10]
    if named:
        save_tiny_chinese_encoder(tmp_path, [text for text, _ in rows])
        monkeypatch.setenv(VARIABLE, str(tmp_path))
    else:
        monkeypatch.delenv(VARIABLE, raising=False)
    names = run([SET_UP]) | {"judge": rows, "own": None, "draw": lambda count, seed: rows}
    names["truth"] = names["np"].array([label for _, label in rows])
    unknown, own = CELLS[cell_with("def unknown_share")], CELLS[cell_with("own = train_vocab")]
    definition = unknown[unknown.index("def ") : unknown.index("lost =")]
    imports = own[: own.index("own =")]
    tuned, public = (CELLS[cell_with(f"def {name}")] for name in ("fine_tuned", "public_encoder"))
    names = run([definition, imports, tuned, public], names)
    said = capsys.readouterr().out
    if named:
        assert "0.00% [UNK]" in said
        assert names["encoder"].config.hidden_size == 16
        assert set(names["said"].tolist()) <= {0, 1}
    else:
        assert f"no {VARIABLE} is set" in said


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_a_claim(mistake):
    words, correct, broken, statement = MISTAKES[mistake]
    start = cell_with(words)
    cells = [SET_UP, *NEEDS.get(words, []), CELLS[start], *([CELLS[start + 1]] * (words in TWO))]
    run(cells)
    assert statement in failing_claim(with_mistake(cells, correct, broken))


TWO = ("points.unfold",)  # their claim is in the next cell
NEEDS = {
    "def align": [
        "OUT, BEGIN, IN = range(3)",
        "from course_utils.models import load_tokenizer\nenglish = load_tokenizer()",
    ],
    "def names": ["OUT, BEGIN, IN = range(3)"],
    "points.unfold": ["import matplotlib.pyplot as plt"],
}
