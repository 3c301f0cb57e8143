"""The course in a real JupyterLab, in a real browser: open, run, move a dial, save.

Needs a Chromium and the playwright package (`pip install -e ".[dev]"` brings the latter; neither
downloads a browser). Without one the tests are skipped and say so. Screenshots are kept in
``build/screenshots``, or where ``COURSE_SCREENSHOTS`` says, for people to look at.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import make
from tools.notebooks import ROOT, code_cells, read_notebook

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SHOTS = Path(os.environ.get("COURSE_SCREENSHOTS", ROOT / "build" / "screenshots"))
LESSON = "01_gradients"  # the cheapest that computes something and shows a picture
PATIENCE_MS = 120_000  # this suite runs beside others on slow machines
FIRST_PAGE_S = 10.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

SETUP = """\
import numpy as np, torch
from course_utils import widgets
from course_utils.models import load_tokenizer
from course_utils.plotting import use_style
use_style()
random = np.random.default_rng(0)
labels = (random.random(800) < 0.1).astype(int)
scores = 1 / (1 + np.exp(-(random.normal(size=800) + 2 * labels - 1.5)))
tokens = "[CLS] the film is not as bad as they say . [SEP]".split()
attention = random.random((6, 12, 12, 12)) ** 8
attention /= attention.sum(axis=-1, keepdims=True)
epochs = np.arange(1, 11)
runs = {"plain": (np.exp(-epochs / 3), 0.4 + 0.01 * (epochs - 4) ** 2),
        "weight decay": (np.exp(-epochs / 4), 0.42 + 0.006 * (epochs - 5) ** 2)}
valley = lambda theta: (theta**2 * torch.tensor([1.0, 8.0])).sum() / 2"""
CALLS = {
    "threshold": "widgets.threshold_dial(labels, scores)",
    "descent": "widgets.gradient_descent_stepper(valley, (4.0, 2.0), rates=(0.05, 0.2, 0.24, 0.26),"
    " window=(-5, 5, -3, 3))",
    "tokens": "widgets.token_explorer(['An unflinchingly dull film. ' * 6, 'Lovely.'],"
    " load_tokenizer())",  # longer than the cut, so that moving it shows
    "attention": "widgets.attention_viewer(attention, tokens)",
    "stopping": "widgets.overfitting_explorer(runs)",
    "mixing": "widgets.mixing_dial({'movies': 400, 'nyt': 25})",
    "sampling": "widgets.sampling_dial([f'w{i}' for i in range(60)],"
    " torch.linspace(3.0, -3.0, 60))",
    "queue": "widgets.queue_dial(call=0.008, text=0.004)",
    "scaling": "widgets.loss_scale_dial(random.normal(size=1000) / 1e5)",
    "ranks": "widgets.rank_dial({'change': random.normal(size=(96, 64)), 'one': np.eye(64)})",
    "heat": "widgets.token_heatmap([['a', 'dull', 'film'], ['good']],"
    " {'occlusion': [[0, -2, 1], [3]], 'attention': [[1, 2, 1], [4]]})",
    "chat": "widgets.chat_window(lambda text: ('Try another port.', len(text) / 20),"
    " ['mouse is dead', 'no sound'])",
    "alarms": "widgets.alarm_dashboard({name: random.normal(size=80) for name in ('a', 'b')})",
}


def find_browser() -> str | None:
    return os.environ.get("COURSE_BROWSER") or next(
        (path for name in BROWSERS if (path := shutil.which(name))), None
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def page_maker() -> Iterator[Callable[[], Any]]:
    """Makes fresh browser pages; skips, with the reason, where there is no browser."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="the playwright package is missing"
    )
    browser_path = find_browser()
    if browser_path is None:
        pytest.skip("no Chromium found: apt install chromium, or set COURSE_BROWSER to its path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield lambda: browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


@pytest.fixture(scope="module")
def lab(page_maker, tmp_path_factory) -> Iterator[tuple[str, Path, float]]:
    """A JupyterLab on a folder with a lesson and a notebook of widgets: (url, folder, start)."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "docs").mkdir()
    for part in ("notebooks", "exercises"):
        (folder / part).mkdir()
        shutil.copy(ROOT / part / f"{LESSON}.ipynb", folder / part)
    shutil.copytree(ROOT / "notebooks" / "source", folder / "notebooks" / "source")
    shutil.copytree(ROOT / "docs" / "images", folder / "docs" / "images")
    cells = [new_markdown_cell("# Widgets\n\n## All five"), new_code_cell(SETUP)]
    cells += [new_code_cell(call) for call in CALLS.values()]
    nbformat.write(
        new_notebook(
            cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P"}}
        ),
        folder / "widgets.ipynb",
    )
    settings = tmp_path_factory.mktemp("settings")
    tracker = "@jupyterlab/notebook-extension:tracker"
    # Off-screen cells are otherwise not rendered, and a test could not find them.
    ours = make.LAB_SETTINGS | {tracker: make.LAB_SETTINGS[tracker] | {"windowingMode": "none"}}
    for name, values in ours.items():
        package, _, plugin = name.partition(":")
        (settings / package).mkdir(parents=True, exist_ok=True)
        (settings / package / f"{plugin}.jupyterlab-settings").write_text(json.dumps(values))
    port, token = free_port(), secrets.token_hex(16)
    home = tmp_path_factory.mktemp("home")
    for name, content in make.NOT_FOR_LESSONS.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(json.dumps(content))
    environment = os.environ | {
        "JUPYTER_PREFER_ENV_PATH": "0",  # so that what `make lab` writes there counts from here
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home),
        "JUPYTER_CONFIG_DIR": str(home),
    }
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += [
        f"--IdentityProvider.token={token}",
        "--allow-root",
        f"--ServerApp.root_dir={folder}",
        f"--ContentsManager.hide_globs={make.NOT_LISTED!r}",
    ]
    start = time.monotonic()
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{base}/api?token={token}"), 120, "the server")
        # A workspace for each notebook: JupyterLab would open the tabs of the last one again.
        yield f"{base}/lab/workspaces/{{}}/tree/{{}}?token={token}", folder, start
    finally:
        server.terminate()
        server.wait(30)


def open_notebook(page: Any, url: str, path: str) -> None:
    page.goto(url.format("widgets", path), timeout=PATIENCE_MS)
    # Until the status bar says so, running cells would open a dialogue that asks for a kernel.
    page.wait_for_selector("text=| Idle", timeout=PATIENCE_MS)
    page.wait_for_selector(".jp-NotebookPanel .jp-MarkdownOutput h1", timeout=PATIENCE_MS)


def run_all(page: Any, expected: int, timeout_s: float) -> None:
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")

    def done() -> bool:
        prompts = page.eval_on_selector_all(
            ".jp-CodeCell .jp-InputPrompt", "found => found.map(x => x.textContent)"
        )
        finished = [bool(re.search(r"\[\d+\]", text)) for text in prompts]
        return sum(finished) >= expected and not any("*" in text for text in prompts)

    page.wait_for_timeout(1000)
    wait_for(done, timeout_s, "all cells to have run")


def without_alt(page: Any) -> int:
    """How many pictures in outputs have no alternative text; there must be pictures."""
    pictures = page.locator(".jp-OutputArea img")
    assert pictures.count() > 0
    return int(page.locator(".jp-OutputArea img:not([alt]), .jp-OutputArea img[alt='']").count())


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"))


WATCH = """cell => {
    const words = () => cell.querySelector("[role=status]")?.innerText;
    const before = words();
    window.step = new Promise((done, fail) => {
        let start;
        addEventListener("keydown", () => (start = performance.now()), {capture: true, once: true});
        new MutationObserver((_, watching) => {
            if (!words() || words() === before) return;
            watching.disconnect();
            requestAnimationFrame(() => done(performance.now() - start));
        }).observe(cell, {subtree: true, childList: true, characterData: true});
        setTimeout(() => fail(new Error(`a key changed nothing: ${before}`)), 20000);
    });
}"""


def latency_ms(page: Any, cell: Any, key: str) -> float:
    """From a key press to the frame in which the words below the picture say something else.

    Both are timed in the page, so that what this test itself takes does not count.
    """
    cell.evaluate(WATCH)
    page.keyboard.press(key)
    return float(page.evaluate("window.step"))


def test_a_lesson_opens_runs_and_is_saved(page_maker, lab):
    url, folder, start = lab
    page, errors = page_maker(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if "activat" in m.text else None)
    page.goto(url.format("lesson", f"notebooks/{LESSON}.ipynb"), timeout=PATIENCE_MS)
    page.wait_for_selector(".jp-MarkdownOutput h1", timeout=PATIENCE_MS)
    page.wait_for_selector(".jp-RenderedImage img", timeout=PATIENCE_MS)
    seconds = time.monotonic() - start
    print(f"first page of the lesson {seconds:.1f} s after the start of JupyterLab")
    if os.environ.get("COURSE_QUIET_MACHINE"):  # a stopwatch says nothing beside other tests
        assert seconds < FIRST_PAGE_S
    page.wait_for_selector("text=| Idle", timeout=PATIENCE_MS)
    shot(page, "lesson_opened")
    assert without_alt(page) == 0
    assert page.locator(".jp-toast-message, .Toastify__toast").count() == 0  # no news, no offers
    bars = page.inner_text("#jp-top-panel") + page.inner_text(".jp-NotebookPanel-toolbar")
    assert "Run" in bars
    assert "Nbgrader" not in bars
    assert "Validate" not in bars

    page.click("[data-id=table-of-contents]")
    page.wait_for_selector(".jp-tocItem", timeout=PATIENCE_MS)
    headings = page.locator(".jp-tocItem").all_inner_texts()
    assert any("What we showed" in heading for heading in headings)
    shot(page, "lesson_contents")

    path = folder / "notebooks" / f"{LESSON}.ipynb"
    cells = len(code_cells(read_notebook(path)))
    run_all(page, cells, timeout_s=600)  # the cell for Colab is folded and shows no prompt
    assert page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
    assert without_alt(page) == 0
    assert "What we showed, each line checked above" in page.inner_text(".jp-NotebookPanel")
    before = path.read_bytes()
    page.keyboard.press("Control+s")
    written = lambda: path.read_bytes() not in (before, b"")  # noqa: E731
    wait_for(written, 60, "the file to be written")
    wait_for(lambda: path.read_bytes().rstrip().endswith(b"}"), 60, "the end of the file")
    saved = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in saved.cells if cell.cell_type == "code"]
    assert counts == list(range(1, cells + 2))

    page.click(f".jp-MarkdownOutput a:has-text('exercises/{LESSON}.ipynb')")
    page.wait_for_selector(".jp-MarkdownOutput h1:has-text('exercises')", timeout=PATIENCE_MS)
    in_front = page.eval_on_selector_all(
        "#jp-main-dock-panel .lm-TabBar-tabLabel",
        "labels => labels.map(label => getComputedStyle(label, '::before').content)",
    )
    assert in_front == ["none", '"exercises/"']
    shot(page, "exercises_opened")
    assert errors == []
    page.close()


def test_a_notebook_that_is_only_opened_is_not_changed(page_maker, lab):
    """Neither for JupyterLab, which would ask and save it by and by, nor for git."""
    url, folder, _ = lab
    shutil.copy(ROOT / "exercises" / f"{LESSON}.ipynb", folder / "exercises")
    path = folder / "exercises" / f"{LESSON}.ipynb"
    before = path.read_bytes()
    page = page_maker()
    page.goto(url.format("opened", f"exercises/{LESSON}.ipynb"), timeout=PATIENCE_MS)
    page.wait_for_selector("text=| Idle", timeout=PATIENCE_MS)
    page.wait_for_timeout(3000)  # JupyterLab writes when the kernel has introduced itself
    changed = page.locator(".lm-TabBar-tab.jp-mod-dirty")
    assert changed.count() == 0
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    assert path.read_bytes() == before
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.type("# mine")  # what a person does is noticed as ever
    changed.wait_for(timeout=PATIENCE_MS)
    page.close()


def test_the_texts_of_lessons_are_not_listed_but_can_be_opened(page_maker, lab):
    url, folder, _ = lab
    assert (folder / "notebooks" / "source" / f"{LESSON}.md").exists()
    page = page_maker()
    page.goto(url.format("files", f"notebooks/source/{LESSON}.md"), timeout=PATIENCE_MS)
    text = page.locator("#jp-main-dock-panel .cm-content").filter(has_text="kernelspec")
    text.wait_for(timeout=PATIENCE_MS)  # the editor stands before its text does
    page.goto(url.format("folder", "notebooks"), timeout=PATIENCE_MS)
    page.wait_for_selector(".jp-DirListing-itemText", timeout=PATIENCE_MS)
    names = page.locator(".jp-DirListing-itemText").all_inner_texts()
    assert f"{LESSON}.ipynb" in names
    assert "source" not in names
    shot(page, "files")
    page.close()


def test_every_widget_follows_the_keyboard(page_maker, lab):
    url, _, _ = lab
    page = page_maker()
    open_notebook(page, url, "widgets.ipynb")
    run_all(page, len(CALLS) + 1, timeout_s=300)
    cells = page.locator(".jp-CodeCell")
    for number, name in enumerate(CALLS, start=1):
        cell = cells.nth(number)
        cell.locator("[role=status]").wait_for(timeout=PATIENCE_MS)
        handle = cell.locator(".noUi-handle").last
        handle.scroll_into_view_if_needed()
        handle.focus()
        times = [latency_ms(page, cell, key) for key in MOVES[name] * 3]
        print(f"{name}: {min(times):.0f} to {max(times):.0f} ms from key to words")
        for other in range(cell.locator(".noUi-handle").count() - 1):
            cell.locator(".noUi-handle").nth(other).focus()
            latency_ms(page, cell, "ArrowRight")
        # JupyterLab would take the keys of a dropdown: arrows for moving, x for cutting the cell.
        assert cell.locator("select").count() == 0
        assert min(times) < 1000
        assert cell.locator("[role=status]").inner_text().strip()
        images = cell.locator("img")
        assert images.count() == (name not in ("tokens", "heat", "chat"))  # these are HTML
        if images.count():
            assert images.first.get_attribute("alt")
            assert images.first.evaluate("image => image.naturalWidth") > 300
        cell.scroll_into_view_if_needed()
        shot(page, f"widget_{name}")
    page.close()


MOVES = {
    "threshold": ["ArrowRight", "ArrowLeft"],  # the last control: the price of a miss
    "descent": ["ArrowRight", "ArrowLeft"],
    "tokens": ["ArrowLeft", "ArrowRight"],
    "attention": ["ArrowRight", "ArrowLeft"],
    "stopping": ["ArrowLeft", "ArrowRight"],
    "mixing": ["ArrowRight", "ArrowLeft"],
    "sampling": ["ArrowLeft", "ArrowRight"],
    "queue": ["ArrowRight", "ArrowLeft"],  # the last control: the wait
    "scaling": ["ArrowRight", "ArrowLeft"],
    "ranks": ["ArrowLeft", "ArrowRight"],
    "heat": ["ArrowRight", "ArrowLeft"],
    "chat": ["ArrowRight", "ArrowLeft"],  # the last control: the threshold
    "alarms": ["ArrowRight", "ArrowLeft"],  # the last control: how rare false alarms are
}
