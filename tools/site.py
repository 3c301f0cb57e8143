"""Build the course as web pages that need neither a server nor a network.

    python -m tools.site             # into build/site; open build/site/index.html

Sphinx with myst-nb and sphinx-book-theme, over the outputs that are committed: nothing is executed.
The pages are the repository's own files, copied to ``build/site-source`` with three changes: the
cells for Colab become the theme's button, a figure's words move to where myst-nb looks for them,
and links to files that are not pages (source code, the licence) lead to the repository.

Formulas are drawn by the MathJax of the package jupyter-server-mathjax, copied into the site.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import shutil
import sys
from html import escape as html_escape
from pathlib import Path

from nbformat import NotebookNode

from tools.notebooks import ROOT, code_cells, on_github, read_notebook, repository, to_json

SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
PAGES = (
    "docs/setup.md",
    "docs/students.md",
    "docs/your_own_data.md",
    "docs/capstone_rubric.md",
    "docs/instructors.md",
    "docs/grader.md",
    "docs/serving.md",
    "docs/topics.md",
    "docs/several_machines.md",
    "GLOSSARY.md",
    "CONTRIBUTING.md",
)
LINK = re.compile(r"(?<!\!)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)

CONFIG = """\
project = "Fine-Tuning From Scratch"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 3
myst_update_mathjax = False
suppress_warnings = ["misc.highlighting_failure"]  # a shortened traceback is no Python
mathjax_path = "mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full"
mathjax2_config = {{
    "messageStyle": "none",
    # The one font that is there; a formula in a local font would look different everywhere.
    "HTML-CSS": {{"availableFonts": [], "webFont": "STIX-Web", "imageFont": None}},
}}
html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_copy_source = False
html_theme_options = {{
    "repository_url": "{address}",
    "repository_branch": "main",
    "use_repository_button": True,
    "launch_buttons": {launch_buttons},
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # one search field is enough: the side bar has it
}}
"""
CSS = """\
.cell_output pre, .cell_output .output { overflow-x: auto; }
.bd-article table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; }
summary { cursor: pointer; }
.bd-article img.align-right { max-width: 48%; height: auto; }
/* The theme makes every .math a flex box that hides what sticks out: formulas float above lines. */
span.math.notranslate, span.math .MathJax { display: inline !important; overflow: visible; }
.MathJax span.math { display: inline-block !important; overflow: visible !important; }
"""
# Opened from a disk, a page may not fetch another one. Search does, for the lines it shows below
# each title; under file: it gets them from here.
EXCERPTS = """\
const TEXTS = %s;
if (location.protocol === "file:") {
  const fetchFile = window.fetch, folder = new URL(".", location.href).href;
  window.fetch = (url, ...more) => {
    const page = new URL(url, location.href).href.split(/[?#]/)[0].slice(folder.length);
    return page in TEXTS ? Promise.resolve(new Response(TEXTS[page])) : fetchFile(url, ...more);
  };
}
"""


def contents(root: Path = ROOT) -> str:
    """The tree of pages, for the side bar."""
    parts = []
    for caption, names in {
        "Lessons": [f"notebooks/{p.stem}" for p in sorted((root / "notebooks").glob("*.ipynb"))],
        "Exercises": [f"exercises/{p.stem}" for p in sorted((root / "exercises").glob("*.ipynb"))],
        "Beside them": [name.removesuffix(".md") for name in PAGES if (root / name).exists()],
    }.items():
        entries = "\n".join(names)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```")
    return "\n\n".join(parts)


def relink(text: str, page: str, pages: set[str], address: str) -> str:
    """Lead links to files that are no pages to the repository instead.

    >>> relink("[a](../LICENSE) [b](x.md#y)", "docs/p.md", {"docs/x.md"}, "https://git")
    '[a](https://git/blob/main/LICENSE) [b](x.md#y)'
    """

    def lead(match: re.Match[str]) -> str:
        words, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        file = os.path.normpath(os.path.join(os.path.dirname(page), target.split("#")[0]))
        if file == "README.md":
            home = os.path.relpath("index.md", os.path.dirname(page) or ".")
            return f"[{words}]({home})"
        if file in pages or file.startswith("docs/images/"):
            return match[0]
        return f"[{words}]({address}/blob/main/{file})"

    def outside_code(text: str) -> str:
        ends = [0, *[end for m in CODE.finditer(text) for end in m.span()], len(text)]
        spans = [text[a:b] for a, b in itertools.pairwise(ends)]
        return "".join(s if n % 2 else LINK.sub(lead, s) for n, s in enumerate(spans))

    return outside_code(text)


def describe_figures(notebook: NotebookNode) -> None:
    """Put a figure's words where myst-nb takes an image's alternative text from."""
    for cell in code_cells(notebook):
        words = [
            output.metadata.get("image/png", {}).get("alt", "")
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        if any(words):
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(words)}}


def stage(root: Path = ROOT, source: Path = SOURCE) -> None:
    """Write what Sphinx reads."""
    address = repository(root) or ""
    if source.exists():
        shutil.rmtree(source)
    notebooks = [*root.glob("notebooks/*.ipynb"), *root.glob("exercises/*.ipynb")]
    names = {path.relative_to(root).as_posix() for path in notebooks}
    names |= {name for name in PAGES if (root / name).exists()}
    (source / "_static").mkdir(parents=True)
    (source / "_static" / "course.css").write_text(CSS, encoding="utf-8")
    buttons = {"colab_url": "https://colab.research.google.com"} if on_github(address) else {}
    config = CONFIG.format(address=address, launch_buttons=buttons)
    (source / "conf.py").write_text(config, encoding="utf-8")
    shutil.copytree(root / "docs" / "images", source / "docs" / "images")
    shutil.copytree(mathjax(), source / "_static" / "mathjax")
    for path in notebooks:
        place = path.relative_to(root).as_posix()
        notebook = read_notebook(path)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = relink(cell.source, place, names, address)
        describe_figures(notebook)
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).write_text(to_json(notebook), encoding="utf-8")
    for place in [*(name for name in names if name.endswith(".md")), "README.md"]:
        text = relink((root / place).read_text(encoding="utf-8"), place, names, address)
        if place == "README.md":
            text, place = f"{text}\n{contents(root)}\n", "index.md"
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).write_text(text, encoding="utf-8")


def mathjax() -> Path:
    """The folder of MathJax."""
    spec = importlib.util.find_spec("jupyter_server_mathjax")
    if spec is None or spec.origin is None:
        raise SystemExit('The packages for the site are missing: pip install -e ".[site]"')
    return Path(spec.origin).parent / "static"


def build(source: Path = SOURCE, site: Path = SITE, root: Path = ROOT) -> int:
    """Build all pages; a warning is an error."""
    stage(root, source)
    from sphinx.cmd.build import build_main

    failed = build_main(["-W", "--keep-going", "-q", "-E", "-b", "html", str(source), str(site)])
    if not failed:
        embed_excerpts(source, site)
    return failed


def embed_excerpts(source: Path, site: Path) -> None:
    """Give the search page the text of all others, for where it cannot fetch them."""
    from bs4 import BeautifulSoup

    texts = {}
    for page in sorted(source.rglob("*.md")) + sorted(source.rglob("*.ipynb")):
        name = page.relative_to(source).with_suffix(".html")
        html = BeautifulSoup((site / name).read_text(encoding="utf-8"), "html.parser")
        for mark in html.select("a.headerlink"):
            mark.decompose()
        text = " ".join(" ".join(part.get_text(" ") for part in html.select("article")).split())
        texts[name.as_posix()] = f'<div role="main">{html_escape(text, quote=False)}</div>'
    script = EXCERPTS % json.dumps(texts, ensure_ascii=False)
    (site / "_static" / "excerpts.js").write_text(script, encoding="utf-8")
    search = (site / "search.html").read_text(encoding="utf-8")
    tag = '<script src="_static/excerpts.js"></script>\n</head>'
    if "</head>" not in search:
        raise ValueError("Sphinx's search page has no head to put the excerpts into")
    (site / "search.html").write_text(search.replace("</head>", tag, 1), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--output", type=Path, default=SITE, help="the folder to write")
    options = parser.parse_args(arguments)
    failed = build(site=options.output)
    if not failed:
        print(f"Open {options.output / 'index.html'} in a browser.")
    return failed


if __name__ == "__main__":
    sys.exit(main())
