"""The README and lesson 00's map: generated parts in step, links that lead somewhere, no blanks."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tools.notebooks import ROOT, find_pairs, problems, read_notebook, repository, to_json
from tools.readme import (
    FIRST,
    PART,
    lesson_map,
    picture_is_stale,
    read_row,
    render,
    render_all,
    short_map,
)

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "GLOSSARY.md"]
DOCS = ("setup", "students", "instructors", "serving", "topics", "your_own_data")
PAGES += [f"docs/{name}.md" for name in DOCS]
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
    for path, text in render_all().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: python -m tools.readme"
    assert not picture_is_stale(), "stale: python -m tools.readme"


def test_every_lesson_is_on_the_map():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f"](notebooks/{path.name})" in lesson_map()
        assert (f"]({path.name})" in short_map()) == (path.stem != FIRST)
    assert "[00" not in short_map()  # it would open what is open


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


TOPICS = (ROOT / "docs/topics.md").read_text(encoding="utf-8")


def missing_sections(text: str) -> list[str]:
    """Sections named after a lesson's link, `[05](...): *The loop*`, that the lesson lacks."""
    found = []
    for stem, names in re.findall(r"notebooks/(\w+)\.ipynb\): ((?:\*[^*]+\*(?:, )?)+)", text):
        source = (ROOT / "notebooks/source" / f"{stem}.md").read_text(encoding="utf-8")
        headings = re.findall(r"^##+ (.+)$", source, re.M)
        found += [f"{stem}: {n}" for n in re.findall(r"\*([^*]+)\*", names) if n not in headings]
    return found


def test_the_page_of_topics_names_sections_that_exist():
    assert TOPICS.count(".ipynb): *") > 40
    assert missing_sections(TOPICS) == []


def test_a_section_that_is_gone_is_found():
    link = "[05](../notebooks/05_fine_tuning_bert.ipynb): *The loop*, *The lop*"
    assert missing_sections(link) == ["05_fine_tuning_bert: The lop"]


def test_the_page_of_topics_has_every_lesson():
    lessons = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    linked = set(re.findall(r"notebooks/(\w+\.ipynb)", TOPICS))
    # Lessons from 12 on may come some days before their rows.
    assert {name for name in linked if name < "12"} == {name for name in lessons if name < "12"}


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


def test_a_new_lesson_is_put_on_both_maps_and_nothing_is_executed(tmp_path):
    """Whoever builds lesson 09 has lesson 00 in step too: text and notebook, outputs and hash."""
    for folder in ("notebooks", "exercises", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("README.md", "pyproject.toml", "jupytext.toml"):
        shutil.copy(ROOT / name, tmp_path)
    [pair] = [p for p in find_pairs(tmp_path) if p.notebook.stem == FIRST]
    before = problems(pair, tmp_path)
    lesson = read_notebook(ROOT / "notebooks" / "08_overfitting.ipynb")
    lesson.cells[0].source = lesson.cells[0].source.replace(
        "# 08. Overfitting", "# 09. More: \\alpha"
    )
    (tmp_path / "notebooks" / "09_more.ipynb").write_text(to_json(lesson), encoding="utf-8")
    made = render_all(tmp_path)
    assert sorted(made) == sorted([tmp_path / "README.md", pair.source, pair.notebook])
    for path, text in made.items():
        assert text != path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        assert "[09 More](" in text
    assert problems(pair, tmp_path) == before
    now, then = (read_notebook(p) for p in (pair.notebook, ROOT / "notebooks" / f"{FIRST}.ipynb"))
    assert [c.get("outputs") for c in now.cells] == [c.get("outputs") for c in then.cells]


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
