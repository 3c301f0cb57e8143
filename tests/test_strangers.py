"""The tables that nobody tuned the course for: whole, as published, and a real run on one."""

from __future__ import annotations

import collections
import functools
import json
import sys

import pytest

from benchmarks import own_data
from course_utils.own_data.cleaning import usable_rows
from course_utils.own_data.goals import read_labels
from course_utils.own_data.requests import Request
from course_utils.own_data.strangers import book_pages, chinese_reviews, newsgroups
from course_utils.sources import CHINESE, NEWSGROUPS, SOURCES
from tests.own_tables import save_tiny_encoder


def test_chinese_reviews_are_all_there_and_half_of_them_are_copies():
    rows = chinese_reviews()
    assert collections.Counter(label for _, label in rows) == {
        "complaint": 18_576,
        "praise": 16_548,
    }
    distinct = len({text.strip() for text, _ in rows})
    assert 17_000 < distinct < 18_000
    goal, labels = read_labels([label for _, label in rows])
    kept, findings = usable_rows([text or None for text, _ in rows], labels, goal)
    found = {finding.title: len(finding.rows) for finding in findings}
    assert len(kept) < distinct
    assert found["repeated texts"] > 17_000
    assert found["conflicting labels"] > 47  # texts that stand in both classes, each twice or more


def test_the_newsgroups_are_divided_as_they_were_published():
    sizes = {"train": 11_293, "test": 7_528}
    for part, size in sizes.items():
        rows = newsgroups(part)
        assert len(rows) == size
        assert len({label for _, label in rows}) == 20
        assert all(text and text == text.lower() for text, _ in rows)
    assert rows[0][1] == "alt.atheism"
    with pytest.raises(ValueError, match="part must be train or test, got 'valid'"):
        newsgroups("valid")  # type: ignore[arg-type]


def test_half_of_the_pages_are_for_children():
    rows = book_pages()
    assert collections.Counter(label for _, label in rows) == {"children": 70, "adult": 70}
    assert len({text for text, _ in rows}) == 140


def test_what_is_kept_of_them_is_the_package_itself():
    for source in (CHINESE, NEWSGROUPS):
        assert source in SOURCES
        assert source.sha256 == source.package_sha256


@pytest.mark.slow
def test_the_benchmark_judges_all_on_the_same_rows(tmp_path, monkeypatch, capsys):
    """A rival that always says what is true, and one that is not installed."""
    monkeypatch.setenv("COURSE_ENCODER", str(save_tiny_encoder(tmp_path / "encoder")))
    monkeypatch.setitem(sys.modules, "setfit", None)
    monkeypatch.setattr(own_data, "Request", functools.partial(Request, epochs=1, curve=False))
    seen = {}

    def knows(goal, train, validation, test, seconds, seed):
        seen.update(sizes=(len(train), len(validation), len(test)), seconds=seconds)
        return test.targets

    monkeypatch.setitem(own_data.RIVALS, "knows", knows)
    found = own_data.run("pages", 140, 5.0, 0, ["knows", "setfit"])
    assert seen["sizes"] == found["sizes"]
    assert 0 < seen["seconds"] == found["seconds"]["fine-tuned"]
    assert found["scores"]["knows"]["macro F1"]["value"] == 1
    assert found["scores"]["setfit"].startswith("ModuleNotFoundError")
    (tmp_path / "results.jsonl").write_text(json.dumps(found) + "\n")
    own_data.show(tmp_path / "results.jsonl")
    shown = capsys.readouterr().out
    assert "pages, 140 rows, seed 0" in shown
    assert all(who in shown for who in ("fine-tuned", "counted words", "knows"))
