"""The corpora: as published, cleaned, and what a model is to predict."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from course_utils.datasets import CORPORA, Sentence, clean_text, load_corpus, targets

# Rows, duplicate texts, ratings at most -0.5, between, at least +0.5
PUBLISHED = {
    "movies": (10_605, 2, 5_076, 533, 4_996),
    "tweets": (4_200, 0, 1_087, 768, 2_345),
    "amazon": (3_708, 11, 1_235, 723, 1_750),
    "nyt": (5_190, 71, 1_783, 2_220, 1_187),
}


@pytest.mark.parametrize("name", CORPORA)
def test_counts_are_those_published(name):
    corpus = load_corpus(name)
    raw = load_corpus(name, clean=False)
    classes = Counter(targets(corpus, "three_class").tolist())
    found = (len(corpus), len(raw) - len({sentence.text for sentence in raw}))
    assert (*found, classes[0], classes[1], classes[2]) == PUBLISHED[name]
    assert len({sentence.id for sentence in corpus}) == len(corpus)
    assert all(-4 <= sentence.rating <= 4 and sentence.text for sentence in corpus)


@pytest.mark.parametrize(("name", "documents"), [("amazon", 300), ("nyt", 498)])
def test_sentences_know_their_document(name, documents):
    corpus = load_corpus(name)
    assert all(sentence.id.startswith(f"{sentence.document}_") for sentence in corpus)
    assert len({sentence.document for sentence in corpus}) == documents


@pytest.mark.parametrize("name", ["movies", "tweets"])
def test_sentences_without_documents_stand_alone(name):
    assert all(sentence.document == sentence.id for sentence in load_corpus(name))


def test_a_corpus_reads_like_a_sequence_and_prints_short():
    corpus = load_corpus("movies")
    assert corpus[0].text.startswith("The Rock is destined")
    assert corpus[0].rating == pytest.approx(2.2667, abs=1e-4)
    assert isinstance(corpus[:3], tuple)
    assert corpus[-1] == list(corpus)[-1]
    assert "Rock" not in repr(corpus)


@pytest.mark.parametrize("name", CORPORA)
def test_cleaning_decodes_entities_mends_spaces_and_counts_both(name):
    raw, clean = load_corpus(name, clean=False), load_corpus(name)
    entity = re.compile(r"&(#\d+|#x[0-9a-f]+|amp|lt|gt|quot|apos|nbsp);", re.IGNORECASE)
    with_entity = sum(bool(entity.search(sentence.text)) for sentence in raw)
    assert clean.cleaned["entities"] >= with_entity > 0
    assert not any(entity.search(sentence.text) for sentence in clean)
    assert not any(re.search(r"\s\s|^\s|\s$|[\n\t]", sentence.text) for sentence in clean)
    changed = sum(a.text != b.text for a, b in zip(raw, clean, strict=True))
    assert max(clean.cleaned.values()) <= changed <= sum(clean.cleaned.values())
    assert raw.cleaned == {"entities": 0, "white_space": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I &lt;3 it &amp; you", "I <3 it & you"),
        ("&quot;fine&quot;&#39;s", '"fine"\'s'),
        ("caf&eacute;\u00a0 bar\t\n", "café bar"),
        ("Skadden &amp;amp; Flom, you&amp;#39;d", "Skadden & Flom, you'd"),  # as found in nyt
        ("R&D at 5 < 6", "R&D at 5 < 6"),
        ("", ""),
    ],
)
def test_clean_text(text, expected):
    assert clean_text(text) == expected


def test_an_unknown_corpus_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown corpus 'imdb': choose from movies, tweets"):
        load_corpus("imdb")


# --- targets -----------------------------------------------------------------------------------


def rated(*ratings: float) -> list[Sentence]:
    return [Sentence(str(i), str(i), f"text {i}", r) for i, r in enumerate(ratings)]


def test_targets_on_their_borders():
    rows = rated(-4.0, -0.5, -0.4999, 0.0, 0.0001, 0.4999, 0.5, 4.0)
    assert targets(rows, "three_class").tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert targets(rows, "binary").tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert targets(rows, "rating").tolist() == pytest.approx([r.rating for r in rows])


def test_targets_have_the_types_the_losses_want():
    rows = rated(1.0, -1.0)
    assert targets(rows, "binary").dtype == targets(rows, "three_class").dtype == np.int64
    assert targets(rows, "rating").dtype == np.float32


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="unknown target 'stars': choose from"):
        targets(rated(1.0), "stars")
