"""The README: its generated parts are in step, its links lead somewhere, nothing is left blank."""

from __future__ import annotations

import re
import subprocess

import pytest

from tools.notebooks import ROOT, repository
from tools.readme import PART, lesson_map, picture_is_stale, read_row, render

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "GLOSSARY.md"]
PAGES += [f"docs/{name}.md" for name in ("setup", "students", "instructors")]
GENERATED = re.compile(r"README\.md|pyproject\.toml|(notebooks|exercises)/\w+\.ipynb")


def anchors(text: str) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: str, text: str) -> list[str]:
    found = []
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, place = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        if not path.exists():
            found.append(target)
        elif place and path.suffix == ".md":
            there = text if not file else path.read_text(encoding="utf-8")
            found += [target] * (place not in anchors(there))
    return found


def test_generated_parts_are_in_step():
    assert render(README) == README, "stale: python -m tools.readme"
    assert not picture_is_stale(), "stale: python -m tools.readme"


def test_every_lesson_is_on_the_map():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f"](notebooks/{path.name})" in lesson_map()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    if not path.exists():
        pytest.skip(f"{page} is not written yet")
    assert dead_links(page, path.read_text(encoding="utf-8")) == []


def test_a_dead_link_is_found():
    assert dead_links("README.md", "[a](gone.md) [b](#gone) [c](README.md) [d](https://x)") == [
        "gone.md",
        "#gone",
    ]


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"\b(TODO|TBD|FIXME|REPOSITORY|OWNER|YOUR[-_ ]ORG|lorem)\b", README)
    assert "example.com" not in README


def test_the_address_stands_in_one_place():
    """Whoever moves the project changes a line of pyproject.toml and builds."""
    address = repository()
    assert address
    names = subprocess.run(
        ["git", "grep", "-l", "-I", "-F", address.removeprefix("https://github.com/")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if names.returncode > 1:
        pytest.skip("not a git checkout")
    assert [name for name in names.stdout.splitlines() if not GENERATED.fullmatch(name)] == []


def test_a_stale_map_is_noticed():
    now = render(README)
    stale = now.replace("| lesson |", "| Lesson |", 1)
    assert stale != now
    assert render(stale) == now


def test_a_map_without_its_place_is_an_error():
    with pytest.raises(ValueError, match="0 times"):
        render(README.replace("<!-- end of lesson map -->", ""))
    with pytest.raises(ValueError, match="2 times"):
        render(README + PART.format("lesson map", ""))


def test_a_header_without_objectives_is_an_error(tmp_path):
    path = tmp_path / "00_x.ipynb"
    path.write_text(
        '{"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# 00. X"}],'
        ' "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    )
    with pytest.raises(ValueError, match="00_x"):
        read_row(path, tmp_path)
