"""The site: built from what is committed, whole, and readable with the network cut.

Links are checked in the files; formulas, images, search and requests to the outside in a browser,
if there is one.
"""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.test_browser import PATIENCE_MS, page_maker, shot  # noqa: F401  (a fixture)
from tools import site
from tools.notebooks import ROOT

pytest.importorskip("myst_nb", reason="the site's packages are missing: pip install -e .[site]")
pytestmark = pytest.mark.slow
FOLDERS = ("", "notebooks", "exercises", "docs")
FORMULA = "span.math.notranslate, div.math.notranslate"  # MathJax has .math of its own inside
BROKEN_FORMULA = ".MathJax_Error, .merror, .noError"


class Targets(HTMLParser):
    """What a page points to, and the places in it that may be pointed to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.without_words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.links += [v for k in ("href", "src") if (v := found.get(k)) and tag != "base"]
        self.places |= {v for k in ("id", "name") if (v := found.get(k))}
        if tag == "img" and not (found.get("alt") or "").strip():
            self.without_words.append(found.get("src") or "")


def broken_links(folder: Path, pages: dict[Path, Targets]) -> list[str]:
    found = []
    for page, targets in pages.items():
        for link in targets.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, place = link.partition("#")
            file = (page.parent / unquote(name.split("?")[0])).resolve() if name else page
            known = pages.get(file)
            if not file.exists():
                found.append(f"{page.relative_to(folder)}: {link}")
            elif place and known is not None and unquote(place) not in known.places:
                found.append(f"{page.relative_to(folder)}: {link}, no such place")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[Path, Targets]:
    folder = tmp_path_factory.mktemp("site").resolve()
    assert site.build(folder / "source", folder / "html") == 0
    found = [p for part in FOLDERS for p in sorted((folder / "html" / part).glob("*.html"))]
    return {path: Targets(path.read_text(encoding="utf-8")) for path in found}


def home(pages: dict[Path, Targets]) -> Path:
    return next(path for path in pages if path.name == "index.html").parent


def test_every_lesson_and_exercise_has_a_page(pages):
    for folder in ("notebooks", "exercises"):
        for path in (ROOT / folder).glob("*.ipynb"):
            assert home(pages) / folder / f"{path.stem}.html" in pages


def test_no_link_is_broken(pages):
    assert broken_links(home(pages), pages) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "a.html"
    page.write_text("<a href='b.html'>b</a> <a href='#c'>c</a> <a href='a.html'>a</a>")
    known = {page: Targets(page.read_text())}
    assert broken_links(tmp_path, known) == ["a.html: b.html", "a.html: #c, no such place"]


def test_every_image_of_a_lesson_has_words(pages):
    for path, targets in pages.items():
        if path.parent.name in ("notebooks", "exercises") or path.name == "index.html":
            ours = [src for src in targets.without_words if "logo" not in src]
            assert ours == [], path.name


def test_formulas_images_and_search_work_without_a_network(pages, page_maker):  # noqa: F811
    page, asked, errors = page_maker(), [], []
    page.route(
        re.compile("^(?!file:|data:|blob:)"),
        lambda route: (asked.append(route.request.url), route.abort()),
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    formulas = 0
    for path in pages:
        if path.parent.name not in ("notebooks", "exercises") and path.name != "index.html":
            continue
        page.goto(path.as_uri(), timeout=PATIENCE_MS)
        if page.locator(FORMULA).count():
            page.evaluate("new Promise(done => MathJax.Hub.Queue(() => done(1)))")
            made = page.locator(".MathJax, .MathJax_Display").count()
            assert made >= page.locator(FORMULA).count(), path.name
            formulas += made
        assert page.locator(BROKEN_FORMULA).count() == 0, path.name
        empty = "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert page.eval_on_selector_all("article img", empty) == [], path.name
        if os.environ.get("COURSE_SCREENSHOTS") or path.stem in ("index", "01_gradients"):
            shot(page, f"site_{path.parent.name}_{path.stem}")
    assert formulas > 50
    page.goto(f"{(home(pages) / 'search.html').as_uri()}?q=gradient", timeout=PATIENCE_MS)
    page.wait_for_selector("#search-results li a", timeout=PATIENCE_MS)
    excerpts = page.locator("#search-results p.context")  # a browser fetches no file for a page
    excerpts.first.wait_for(timeout=PATIENCE_MS)
    assert "gradient" in excerpts.first.inner_text().lower()
    shot(page, "site_search")
    assert errors == []
    assert asked == []
    page.close()
