"""The page to try a model, in a browser: what it shows, and that it asks nobody else."""

from __future__ import annotations

import pytest

from course_utils.serving.predictor import Prediction
from tests.serving import Known, listening
from tests.test_browser import PATIENCE_MS, page_maker  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow


class Tagged(Known):
    def __call__(self, texts):
        shares = {"cheap": 0.9, "fast": 0.2, "new": 0.7}
        tags = ("cheap", "new")
        return [Prediction(None, shares, None, 3, True, 0.5, tags) for _ in texts]


def watched(page):
    """What the page asks for, and what the browser forbids or cannot run."""
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    policy = "Content Security Policy"
    page.on("console", lambda message: policy in message.text and wrong.append(message.text))
    return asked, wrong


def judge(page, text: str, until: str) -> None:
    page.fill("#texts", text)
    page.click("button")
    page.wait_for_selector(until, timeout=PATIENCE_MS)


def test_texts_are_judged_and_shown_as_they_are(page_maker):  # noqa: F811
    page = page_maker()
    asked, wrong = watched(page)
    with listening(Known()) as url:
        page.goto(url, timeout=PATIENCE_MS)
        page.wait_for_selector("text=model known-1", timeout=PATIENCE_MS)
        judge(page, "abc\n\n<b>bold</b>", "article >> nth=1")
        first, second = page.locator("article").all_inner_texts()
        assert "abc" in first
        assert "rating 3.00, 3 tokens" in first
        assert "<b>bold</b>" in second  # and not bold
        assert page.locator(".best").count() == 2
        judge(page, "x" * 2001, "#problem:has-text('2,000 characters')")
        assert page.locator("article").count() == 0  # no old answer beside it
        page.close()
    assert wrong == []
    assert {address.removeprefix(url) for address in asked} <= {"/", "/model", "/predict", "data:,"}


def test_tags_and_warnings_are_shown(page_maker):  # noqa: F811
    page = page_maker()
    with listening(Tagged()) as url:
        page.goto(url, timeout=PATIENCE_MS)
        judge(page, "a", "article")
        best = page.locator(".best").all_inner_texts()
        assert [text.split()[0] for text in best] == ["cheap", "new"]
        shown = page.locator("article").inner_text()
        assert "cheap, new, 3 tokens, its end was cut off and not read, 50% unknown" in shown
        page.close()
