"""Splits without leaks, each part a sample, the test set sealed."""

from __future__ import annotations

import copy
import pprint
import re
from collections import Counter

import numpy as np
import pytest

from course_utils.datasets import CORPORA, Sentence, load_corpus, targets
from course_utils.splits import SealedTestError, Splits, leakage_groups, split


def rated(*ratings: float) -> list[Sentence]:
    return [Sentence(str(i), str(i), f"text {i}", r) for i, r in enumerate(ratings)]


SHARES = {"train": 0.4, "validation": 0.1, "test": 0.5}


def parts(splits: Splits) -> dict[str, tuple[Sentence, ...]]:
    opened = copy.copy(splits).unseal("to test the split itself")
    return {"train": opened.train, "validation": opened.validation, "test": opened.test}


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip() or text


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("stratify", ["three_class", "binary"])
def test_each_part_has_its_share_of_each_class(name, stratify):
    corpus = load_corpus(name)
    whole = np.bincount(targets(corpus, stratify))
    for part, rows in parts(split(corpus, **SHARES, stratify=stratify)).items():
        found = np.bincount(targets(rows, stratify), minlength=len(whole))
        # whole documents cannot be dealt out exactly; a sentence alone can
        slack = 6 if name in ("amazon", "nyt") else 2
        assert np.abs(found - SHARES[part] * whole).max() <= slack, (part, found)


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_document_and_no_text_is_on_two_sides(name, seed):
    corpus = load_corpus(name)
    sides = list(parts(split(corpus, **SHARES, seed=seed)).values())
    for key in (lambda row: row.document, lambda row: plain(row.text), lambda row: row.id):
        values = [{key(row) for row in side} for side in sides]
        assert sum(len(v) for v in values) == len(set().union(*values))
    assert sum(len(side) for side in sides) == len(corpus)


def test_shares_below_one_leave_the_rest_out():
    corpus = load_corpus("movies")
    sides = parts(split(corpus, train=0.1, validation=0.05, test=0.2))
    sizes = [len(rows) for rows in sides.values()]
    assert sizes == pytest.approx([1060, 530, 2121], abs=3)
    assert len({row.id for rows in sides.values() for row in rows}) == sum(sizes)


def test_the_default_trains_on_half_of_the_reviews():
    """The paper's protocol: half to train on (with what validates), half to test."""
    corpus = load_corpus("movies")
    splits = split(corpus)
    sizes = {name: len(rows) for name, rows in parts(splits).items()}
    assert sizes["train"] <= len(corpus) / 2 + 1
    assert sizes["test"] > 4 * sizes["validation"] > 0


def test_the_seed_decides_the_split_and_nothing_else_does():
    corpus = load_corpus("movies")
    np.random.seed(1)
    first = parts(split(corpus, seed=3))
    np.random.seed(2)
    assert parts(split(corpus, seed=3)) == first
    other = parts(split(corpus, seed=4))
    shared = {row.id for row in first["train"]} & {row.id for row in other["train"]}
    assert 0.2 < len(shared) / len(first["train"]) < 0.8


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("at", [slice(None, 200), slice(-200, None)], ids=["first", "last"])
def test_a_slice_of_a_part_is_a_sample_of_it(name, part, at):
    """In file order the first 800 training reviews are 97% positive, and groups come by size."""
    rows = parts(split(load_corpus(name)))[part]
    labels, sizes = targets(rows, "binary"), Counter(row.document for row in rows)
    siblings = np.array([sizes[row.document] for row in rows])
    for values in (labels, siblings):
        error = values.std() / np.sqrt(min(200, len(rows)))
        assert abs(values[at].mean() - values.mean()) < 4 * error + 1e-9


def test_leakage_groups_follow_chains_of_documents_and_copies():
    """Document 1 shares a text with 2, and 2 another with 3: all three belong together."""
    rows = [
        Sentence("1_1", "1", "Works well.", 1.0),
        Sentence("2_1", "2", "works WELL", 1.0),
        Sentence("4_1", "4", "Alone.", 1.0),
        Sentence("2_2", "2", "Broke.", -1.0),
        Sentence("3_1", "3", "broke!", -1.0),
        Sentence("5_1", "5", ":)", 1.0),  # nothing but punctuation: compared as it is
        Sentence("6_1", "6", ":(", -1.0),
    ]
    assert leakage_groups(rows) == [[0, 1, 3, 4], [2], [5], [6]]
    assert leakage_groups([]) == []


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.0}, "each be above 0"),
        ({"test": -0.1}, "each be above 0"),
        ({"validation": float("nan")}, "each be above 0"),
        ({"train": 0.8, "validation": 0.2, "test": 0.2}, "together at most 1"),
    ],
)
def test_impossible_shares_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        split(load_corpus("amazon"), **{**SHARES, **shares})


def test_too_few_sentences_for_three_parts_are_refused():
    with pytest.raises(ValueError, match="2 sentences in 2 groups are too few"):
        split(rated(1.0, -1.0), **SHARES)
    one_document = [Sentence(f"1_{i}", "1", f"text {i}", 1.0) for i in range(50)]
    with pytest.raises(ValueError, match="50 sentences in 1 groups are too few"):
        split(one_document, **SHARES)


def test_stratifying_by_rating_or_by_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="choose three_class or binary"):
        split(rated(1.0, -1.0), stratify="rating")
    with pytest.raises(ValueError, match="unknown target"):
        split(rated(1.0, -1.0), stratify="stars")


# --- the seal ----------------------------------------------------------------------------------

SECRET = Sentence("9", "9", "a sentence nobody may see", 1.5)


@pytest.fixture
def sealed() -> Splits:
    return Splits(rated(1.0), rated(-1.0), [SECRET])


def test_the_test_set_is_sealed_and_the_error_says_how_to_open_it(sealed):
    with pytest.raises(SealedTestError, match=r"splits\.validation, then call splits\.unseal\("):
        _ = sealed.test
    with pytest.raises(SealedTestError):
        copy.deepcopy(sealed).test  # noqa: B018


def test_printing_a_sealed_split_gives_nothing_away(sealed):
    for text in (repr(sealed), str(sealed), f"{sealed}", pprint.pformat(sealed)):
        assert SECRET.text not in text
        assert "sealed" in text
        assert "unsealed" not in text


def test_a_stated_purpose_opens_it_and_is_on_record(sealed):
    assert sealed.unseal("final report") is sealed
    assert sealed.test == (SECRET,)
    assert sealed.purpose == "final report"
    assert "unsealed for: final report" in repr(sealed)


def test_the_same_purpose_may_be_repeated_and_another_may_not(sealed):
    sealed.unseal("final report").unseal("final report")
    with pytest.raises(SealedTestError, match="'final report'; it cannot also serve 'tuning'"):
        sealed.unseal("tuning")
    assert sealed.purpose == "final report"


@pytest.mark.parametrize("purpose", ["", "  \n"])
def test_an_empty_purpose_is_none(sealed, purpose):
    with pytest.raises(ValueError, match="state the purpose"):
        sealed.unseal(purpose)
    with pytest.raises(SealedTestError):
        _ = sealed.test
