"""Pairs of students with the same code: renamed, reformatted, commented; and those who are not."""

from __future__ import annotations

import symtable

from course_utils.grading import sources
from course_utils.grading.copies import answer_source, normal_form, pairs
from course_utils.grading.sources import answer_code

MINE = """
def f1(labels, predicted):
    total = 0.0
    for c in sorted(set(labels)):
        hits = sum(a == b == c for a, b in zip(labels, predicted))
        total += 2 * hits / (labels.count(c) + predicted.count(c))
    return total / len(set(labels))
"""
RENAMED = """
def f1(y: list, y_hat: list) -> float:
    '''My own work.'''
    s: float = 0.0   # the sum
    for klass in sorted(set(y)):
        n = sum(p == q == klass
                for p, q in zip(y, y_hat))
        s += 2 * n / (y.count(klass) + y_hat.count(klass))
    return s / len(set(y))
"""
OTHER = """
def f1(labels, predicted):
    classes = sorted(set(labels))
    scores = []
    for c in classes:
        hits = len([1 for a, b in zip(labels, predicted) if a == c and b == c])
        scores.append(2 * hits / (labels.count(c) + predicted.count(c)))
    return sum(scores) / len(classes)
"""


def test_renaming_and_formatting_change_nothing():
    assert normal_form(MINE) == normal_form(RENAMED)
    assert normal_form(MINE) != normal_form(OTHER)


def test_a_number_or_an_operator_makes_another_answer():
    assert normal_form(MINE) != normal_form(MINE.replace("2 *", "3 *"))
    assert normal_form(MINE) != normal_form(MINE.replace("zip", "map"))


def test_the_pair_is_found_and_nobody_else():
    found = pairs({"ada": {"06.f1": MINE}, "bob": {"06.f1": RENAMED}, "eve": {"06.f1": OTHER}})
    assert [(pair.first, pair.second, pair.items) for pair in found] == [("ada", "bob", ("06.f1",))]


def test_what_everybody_has_weighs_nothing():
    common = {name: {"06.f1": MINE} for name in "abcdefgh"}
    rare = {"x": {"06.f1": OTHER}, "y": {"06.f1": OTHER}}
    found = pairs(common | rare)
    assert (found[0].first, found[0].second) == ("x", "y")
    assert found[0].weight == round(3.3219280948873626 - 1, 2)  # log2(10) - log2(2)
    assert found[1].weight < 0.4


def test_more_items_weigh_more():
    one, both = {"1": MINE}, {"1": MINE, "2": OTHER}
    found = pairs({"a": both, "b": both, "c": one, "d": {}})
    assert (found[0].first, found[0].second, found[0].items) == ("a", "b", ("1", "2"))


def test_short_answers_and_broken_ones_are_left_out():
    short = "def f(p, y):\n    return (p - y) / len(y)"
    assert pairs({"a": {"1": short}, "b": {"1": short}}) == []
    assert pairs({"a": {"1": "def f(:"}, "b": {"1": "def f(:"}}, fewest=0) != []
    assert pairs({"a": {"1": "def f(:"}, "b": {"1": "def f(:"}}) == []


def test_an_answer_is_its_definition_and_what_it_uses():
    cells = ["import numpy as np\nunused = 3", "def helper(x): return np.exp(x)", "%time\nx = 1"]
    cells += ["def answer(x):\n    return helper(x) + 1"]
    source = answer_source(cells, "answer")
    assert "helper" in source
    assert "unused" not in source
    assert "import" not in source


def test_hostile_sources_are_harmless():
    deep = "def f(x):\n    return " + "(" * 5000 + "x" + ")" * 5000
    assert (
        pairs({"a": {"1": deep}, "b": {"1": "\0"}, "c": {"1": "f = " + "-" * 100_000 + "1"}}) == []
    )


def test_what_dozens_have_makes_no_pairs():
    """A class of thousands with one natural answer would make millions of pairs."""
    everybody = {f"s{n:03}": {"06.f1": MINE} for n in range(31)}
    assert pairs(everybody) == []
    assert len(pairs(dict(list(everybody.items())[:30]))) == 30 * 29 / 2


def test_a_notebook_is_read_once_for_all_its_items(monkeypatch):
    """Or finding copies in a large class takes longer than grading it on a cluster."""
    cells = [f"import math\ndef f{n}(x): return math.exp(x) + {n}" for n in range(10)]
    sources.read_cell.cache_clear()
    seen = []
    table = symtable.symtable
    monkeypatch.setattr(
        "course_utils.grading.sources.symtable.symtable",
        lambda text, *rest: seen.append(text) or table(text, *rest),
    )
    for n in range(10):
        assert answer_source(cells, f"f{n}").startswith(f"def f{n}(")
    assert len(seen) == 20  # statements


def test_what_is_remembered_is_small(monkeypatch):
    """Cells come from students: a thousand long ones must not stay in memory."""
    kept = sources.read_cell
    long = "x = [" + "1, " * 4000 + "]"
    before = kept.cache_info().currsize
    assert len(answer_code([long], "x")) == 1
    assert kept.cache_info().currsize == before
    for n in range(300):
        answer_code([f"x = {n}"], "x")
    assert kept.cache_info().currsize <= 100
