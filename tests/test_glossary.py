"""The glossary: each term once, in both languages, and links that land in its sections."""

from __future__ import annotations

import re

from tests.test_readme import anchors
from tools.glossary import link, terms
from tools.notebooks import ROOT, to_notebook

GLOSSARY = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
ROWS = [line.strip("|").split("|") for line in GLOSSARY.splitlines() if line.startswith("| ")]
SOURCES = sorted((ROOT / "notebooks" / "source").glob("*.md"))


def test_every_row_is_whole_and_has_chinese_or_the_name_the_field_uses():
    for row in ROWS:
        assert len(row) in (3, 4)
        assert all(cell.strip() for cell in row), row
    with_chinese = [row for row in ROWS if re.search(r"[\u4e00-\u9fff]", row[2])]
    assert len(with_chinese) > 0.95 * (len(ROWS) - 12)  # a dozen heads of tables


def test_no_term_is_there_twice():
    listed = re.findall(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \| \d\d \|$", GLOSSARY, re.M)
    assert len(listed) == len(set(listed)) > 90


def test_sections_are_where_links_lead():
    assert set(terms(GLOSSARY).values()) <= anchors(GLOSSARY)


def test_headings_are_in_lower_case():
    """GitHub's anchors are, whatever the heading is; JupyterLab's keep its capitals."""
    headings = re.findall(r"^## (.*)$", GLOSSARY, re.M)
    assert len(headings) > 10
    assert headings == [heading.lower() for heading in headings]


def test_links_of_lessons_lead_to_sections():
    for path in SOURCES:
        for place in re.findall(r"GLOSSARY\.md#([\w-]+)", path.read_text(encoding="utf-8")):
            assert place in anchors(GLOSSARY), f"{path.name}: #{place}"


def test_linking_twice_changes_nothing_and_leaves_code_alone():
    known = terms(GLOSSARY)
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        once = link(text, known)
        assert link(once, known) == once, path.name
        before, after = to_notebook(text), to_notebook(once)
        assert [c.source for c in before.cells if c.cell_type == "code"] == [
            c.source for c in after.cells if c.cell_type == "code"
        ]


def test_a_term_in_code_or_a_formula_is_left_alone():
    known = {"loss": "learning"}
    for text in ("```\n*loss*\n```\n", "$a *loss* b$", "# A *loss*\n", "**loss*"):
        assert link(text, known) == text
