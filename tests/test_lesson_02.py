"""The WordPiece of lesson 02, taken out of the lesson's text, against slower and foreign ones."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from itertools import pairwise
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from course_utils.datasets import load_corpus
from tools.notebooks import ROOT, code_cells, to_notebook

SOURCE = ROOT / "notebooks" / "source" / "02_text_to_batches.md"
NAMES = {"words", "spell", "Tally", "merge", "score", "most_frequent", "learn", "encode"}


@pytest.fixture(scope="module")
def lesson() -> SimpleNamespace:
    """The lesson's own definitions, and nothing else that it runs."""
    notebook = to_notebook(SOURCE.read_text(encoding="utf-8"))
    nodes = [node for cell in code_cells(notebook) for node in ast.parse(cell.source).body]
    found = [node for node in nodes if getattr(node, "name", None) in NAMES]
    space = {"re": re, "Counter": Counter, "defaultdict": defaultdict, "pairwise": pairwise}
    exec(compile(ast.Module(found, []), str(SOURCE), "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in NAMES})


@pytest.fixture(scope="module")
def counts(lesson) -> Counter[str]:
    return Counter(w for s in load_corpus("movies")[:100] for w in lesson.words(s.text))


def learn_by_recounting(lesson, counts, size, score, min_count):
    """The definition of the algorithm: everything counted anew for every merge."""
    spelling = {word: lesson.spell(word) for word in counts}
    vocabulary = sorted({piece for pieces in spelling.values() for piece in pieces})
    while len(vocabulary) < size:
        pieces, pairs = Counter(), Counter()
        for word, times in counts.items():
            pieces.update({p: n * times for p, n in Counter(spelling[word]).items()})
            pairs.update({p: n * times for p, n in Counter(pairwise(spelling[word])).items()})
        rated = [
            (score(n, pieces[p[0]], pieces[p[1]]), p) for p, n in pairs.items() if n >= min_count
        ]
        if not rated:
            break
        best = max(rated)[1]
        spelling = {word: lesson.merge(pieces, best) for word, pieces in spelling.items()}
        if (new := best[0] + best[1].removeprefix("##")) not in vocabulary:
            vocabulary.append(new)
    return vocabulary


@pytest.mark.parametrize(("rule", "min_count"), [("score", 1), ("score", 8), ("most_frequent", 2)])
def test_running_counts_give_what_recounting_gives(lesson, counts, rule, min_count):
    score = getattr(lesson, rule)
    found = lesson.learn(counts, 180, score, min_count)
    assert found == learn_by_recounting(lesson, counts, 180, score, min_count)
    assert len(found) > 120


def test_running_counts_survive_pairs_that_repeat_within_a_word(lesson):
    counts = Counter({"banana": 3, "nananana": 2, "aaaa": 5, "ana": 1})
    for rule in (lesson.score, lesson.most_frequent):
        found = lesson.learn(counts, 30, rule)
        assert found == learn_by_recounting(lesson, counts, 30, rule, 1)
        assert all(
            "".join(p.removeprefix("##") for p in lesson.encode(w, found)) == w for w in counts
        )


def test_merging_two_films_by_hand(lesson):
    """After "film" is one piece, only "##s" is left to join."""
    counts = Counter({"film": 3, "films": 1})
    letters = ["##i", "##l", "##m", "##s", "f"]
    found = lesson.learn(counts, 9, lesson.most_frequent)
    assert found[:5] == letters
    assert found[-1] == "films"
    assert "film" in found


def test_encoding_is_the_encoding_of_the_tokenizers_library(lesson, counts):
    vocabulary = lesson.learn(counts, 400, lesson.most_frequent)
    ids = {piece: number for number, piece in enumerate(["[UNK]", *vocabulary])}
    theirs = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    unseen = {w for s in load_corpus("movies")[100:300] for w in lesson.words(s.text)}
    for word in sorted(unseen | {"x" * 50, "日本", "日"}):
        assert lesson.encode(word, set(vocabulary)) == theirs.encode(word).tokens
