"""The written rules of a lesson, each a function over a notebook that returns what is wrong.

``tools/notebooks.py`` says whether text and notebook are in step and nbval whether the code still
gives the same outputs. This file holds the rest: what a lesson must contain, what it must not
hide, and what it must not give away about the machine it ran on. Every rule is also run on a
small notebook that breaks it, so that none of them is a rule that cannot fail.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.notebooks import (
    MACHINE_PATH,
    ROOT,
    UNCOMPARED_TAGS,
    WIDGET_TEXT,
    WIDGET_VIEW,
    code_cells,
    find_pairs,
    problems,
    read_notebook,
    tags,
    text_of,
)

Rule = Callable[[NotebookNode, Path], list[str]]

PAIRS = find_pairs()
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GENERATED = sorted((ROOT / "exercises").glob("*.ipynb"))
ALL = [*LESSONS, *sorted((ROOT / "solutions").glob("*.ipynb")), *GENERATED]

CLOSING = ("What we showed", "What to read", "Check yourself", "Next")
MOST_LINES = 25
MOST_LINES_WHOLE = 45
BUDGET_MINUTES = {"05_fine_tuning_bert": 8.0}  # all others: 4
BUDGET_GB = 3.0
MOST_WORDS = 1000  # of prose between one picture and the next
# What a reader's eye rests on: an image, a figure among a cell's outputs, a table.
PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img\b[^>]*>|(?:^\|.*\n?)+", re.M)
MEASURED = re.compile(
    r"^\*\*Measured:\*\* ([\d.]+) min and ([\d.]+) GB peak memory on a \d+-core CPU$", re.M
)
# What differs between two correct runs: durations, rates, progress bars, addresses, ids.
VOLATILE = re.compile(
    # Not "90 minutes" or "the 1980s": people write that in reviews.
    r"\b\d+[.,]\d+\s?(?:ms|µs|s|sec|seconds|min|minutes)\b|\b\d+ ?(?:ms|µs)\b|\b\d{1,3} s\b(?!['-])"
    r"|\d\s?(?:it|examples|tokens)/s|s/it\b|\d%\|.*\||\bat 0x"
    r"|\b\d[\d.,]*\s?(?:MB|MiB|GB|GiB|[GT]FLOP/s)"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-|\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d"
)
SAYS_ERROR = re.compile(r"\b(?:error|exception|raise[sd]?|fail|fails|refuse[sd]?)\b", re.I)


# -- reading a notebook -------------------------------------------------------------------------


def prose(notebook: NotebookNode) -> str:
    """All Markdown, without fenced code, in which nothing is a heading or a link."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return re.sub(r"^(```|~~~).*?^\1", "", "\n\n".join(cells), flags=re.M | re.S)


def section(notebook: NotebookNode, title: str) -> str | None:
    """The text under a level-two heading, up to the next one; None without that heading."""
    found = re.search(
        rf"^## {re.escape(title)}[^\n]*\n(.*?)(?=^## |\Z)", prose(notebook), re.M | re.S
    )
    return found[1] if found else None


def python_of(cell: NotebookNode) -> str:
    """A cell's Python, without magics and shell lines."""
    lines = [f"pass  # {ln}" if ln.startswith(("%", "!")) else ln for ln in cell.source.split("\n")]
    return "\n".join(lines)


def called_names(cell: NotebookNode) -> list[str]:
    """Names of the functions called in a cell; empty for one that is broken on purpose."""
    try:
        tree = ast.parse(python_of(cell))
    except SyntaxError:
        return []
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in calls]


def only_claims(cell: NotebookNode) -> bool:
    """True for a cell of nothing but ``claim(...)`` lines, or ``claim.summary()``."""
    try:
        body = ast.parse(python_of(cell)).body
    except SyntaxError:
        return False
    values = [node.value if isinstance(node, ast.Expr) else None for node in body]
    calls = [ast.unparse(v.func) if isinstance(v, ast.Call) else "" for v in values]
    return bool(calls) and set(calls) <= {"claim", "claim.summary"}


# -- rules for lessons --------------------------------------------------------------------------


def title_first(notebook: NotebookNode, path: Path) -> list[str]:
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        return ["the first cell does not begin with the title, '# ...'"]
    titles = re.findall(r"^# .+", prose(notebook), re.M)
    return [] if len(titles) == 1 else [f"{len(titles)} level-one headings, expected one"]


def objectives(notebook: NotebookNode, path: Path) -> list[str]:
    text = section(notebook, "What you will be able to do")
    if text is None:
        return ["no section '## What you will be able to do'"]
    count = len(re.findall(r"^(?:[-*]|\d+\.) ", text, re.M))
    return [] if 2 <= count <= 5 else [f"{count} objectives, expected 2 to 5 bullets"]


def prerequisites(notebook: NotebookNode, path: Path) -> list[str]:
    found = re.search(
        r"^(?:## Prerequisites\b|\*\*Prerequisites:\*\*[ \t]*\S)", prose(notebook), re.M
    )
    return [] if found else ["neither '## Prerequisites' nor a line '**Prerequisites:** ...'"]


def measured(notebook: NotebookNode, path: Path) -> list[str]:
    if not MEASURED.search(prose(notebook)):
        return ["no '**Measured:**' line with numbers: `python tools/notebooks.py build` writes it"]
    return []


def within_budget(notebook: NotebookNode, path: Path) -> list[str]:
    found = MEASURED.search(prose(notebook))
    if not found:
        return []  # `measured` says so
    minutes, gigabytes = float(found[1]), float(found[2])
    limit = BUDGET_MINUTES.get(path.stem, 4.0)
    return [f"takes {minutes} min, more than {limit}"] * (minutes > limit) + [
        f"takes {gigabytes} GB, more than {BUDGET_GB}"
    ] * (gigabytes > BUDGET_GB)


def closing(notebook: NotebookNode, path: Path) -> list[str]:
    headings = re.findall(r"^## (.+?)\s*$", prose(notebook), re.M)
    missing = [f"no section '## {title}'" for title in CLOSING if title not in headings]
    if missing:
        return missing
    ends = [title for title in headings if title in CLOSING]
    return [] if headings[-4:] == list(CLOSING) else [f"does not end {CLOSING}, but {ends}"]


def self_check(notebook: NotebookNode, path: Path) -> list[str]:
    text = section(notebook, "Check yourself")
    if text is None:
        return []  # `closing` says so
    folded = re.findall(r"<details>\s*<summary>.+?</summary>(.+?)</details>", text, re.S)
    answers = [answer for answer in folded if answer.strip()]
    if 2 <= len(answers) <= 8:
        return []
    return [f"{len(answers)} folded answers (<details><summary>), expected 2 to 8"]


def shows_claims(notebook: NotebookNode, path: Path) -> list[str]:
    cells = [cell for cell in code_cells(notebook) if "claim" in called_names(cell)]
    return [] if cells else ["no cell calls claim(...): what did the lesson show?"]


def short_cells(notebook: NotebookNode, path: Path) -> list[str]:
    """A definition shown whole, as it stands in the library, may be longer than other cells."""
    found = []
    for n, cell in enumerate(code_cells(notebook), start=1):
        whole = any(tag.startswith("library:") for tag in tags(cell))
        length, limit = len(cell.source.splitlines()), MOST_LINES_WHOLE if whole else MOST_LINES
        if length > limit:
            found.append(f"In [{n}] has {length} lines, more than {limit}")
    return found


def prose_before_code(notebook: NotebookNode, path: Path) -> list[str]:
    """Claims may follow what they are about directly; all other code is led up to."""
    found, before, number = [], "nothing", 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            number += 1
            if before != "markdown" and not (before == "code" and only_claims(cell)):
                found.append(f"In [{number}] has no prose before it")
        before = cell.cell_type if cell.source.strip() else before
    return found


def rests_the_eye(notebook: NotebookNode, path: Path) -> list[str]:
    """A thousand words need a picture; what stands under the closing headings is not counted."""
    return [
        f"{len(words):,} words without a picture, from {' '.join(words[:8])!r}"
        for words in between_pictures(notebook)
        if len(words) > MOST_WORDS
    ]


def between_pictures(notebook: NotebookNode) -> list[list[str]]:
    """The words of prose before the first picture, between two, and after the last."""
    page = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            no_prose = r"^(```|~~~).*?^\1|\$\$.*?\$\$"  # fenced code, a formula on its own line
            page.append(re.sub(no_prose, "", cell.source, flags=re.M | re.S))
        elif any(kind.startswith("image/") for out in cell.outputs for kind in out.get("data", {})):
            page.append("![a figure](output)")
    body = re.split(rf"^## {CLOSING[0]}", "\n\n".join(page), flags=re.M)[0]
    return [part.split() for part in PICTURE.split(body)]


# -- rules for every notebook -------------------------------------------------------------------


def images_described(notebook: NotebookNode, path: Path) -> list[str]:
    """Pictures without words are nothing to a screen reader; and they do not fail to load."""
    found = []
    for n, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            for kind in output.get("data", {}):
                alt = output.metadata.get(kind, {}).get("alt", "")
                if kind.startswith("image/") and not alt.strip():
                    found.append(
                        f"In [{n}] shows {kind} without alt text: plotting.show(..., alt=)"
                    )
    text = prose(notebook)
    found += [f"no alternative text: {m}" for m in re.findall(r"!\[\s*\]\([^)]*\)", text)]
    for tag in re.findall(r"<img\b[^>]*>", text):
        if not re.search(r"\balt\s*=\s*(['\"])\s*\S.*?\1", tag):
            found.append(f"no alternative text: {tag}")
    return found


def links_resolve(notebook: NotebookNode, path: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(notebook))
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    targets += re.findall(r"\b(?:src|href)\s*=\s*['\"]([^'\"]+)", text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.M)
    found = []
    for target in targets:
        if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
            continue  # an address, or a place in this notebook
        file = (path.parent / target.split("#")[0]).resolve()
        if not file.is_relative_to(ROOT):
            found.append(f"link leaves the project: {target}")
        elif not file.exists():
            found.append(f"link to nothing: {target}")
    return found


def links_look_like_links(notebook: NotebookNode, path: Path) -> list[str]:
    """JupyterLab shows code inside a link as code: nobody would think of clicking it."""
    return re.findall(r"\[`[^`\n]*`\]\([^)]*\)", prose(notebook))


def hides_no_error(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    before = ""
    number = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            before = cell.source
            continue
        number += 1
        unsolved = path.parent.name == "exercises" and cell.source.startswith("check(")
        said = unsolved or SAYS_ERROR.search(before.split("\n\n")[-1])
        if "raises-exception" in tags(cell) and not said:
            found.append(f"In [{number}] may raise, and the paragraph before it does not say so")
        found += [f"In [{number}] {what}" for what in _hidden_errors(cell)]
    return found


def _hidden_errors(cell: NotebookNode) -> list[str]:
    found = []
    if re.search(r"^\s*%%?capture\b", cell.source, re.M):
        found.append("captures its output: %%capture hides errors and warnings")
    if re.search(r"\|\|\s*true|2>\s*/dev/null", cell.source):
        found.append("discards a shell command's failure")
    if re.search(r"NBVAL_SKIP", cell.source) or "nbval-skip" in tags(cell):
        found.append("is never run by the tests: nbval-skip")
    try:
        tree = ast.parse(python_of(cell))
    except SyntaxError as error:
        return found if "raises-exception" in tags(cell) else [*found, f"is not Python: {error}"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = {getattr(n, "id", "") for n in ast.walk(node.type)} if node.type else {""}
            empty = all(
                isinstance(n, ast.Pass)
                or (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
                for n in node.body
            )
            if node.type is None:
                found.append("has a bare except")
            elif empty and names & {"Exception", "BaseException"}:
                found.append("catches every exception and does nothing")
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            passed = {getattr(argument, "id", "") for argument in node.args}
            if name == "suppress" and passed & {"Exception", "BaseException"}:
                found.append("suppresses every exception")
    return found


def compared_claims(notebook: NotebookNode, path: Path) -> list[str]:
    """A claim in a cell whose output is ignored is prose, not a checked statement."""
    found = []
    for n, cell in enumerate(code_cells(notebook), start=1):
        ignored = tags(cell) & UNCOMPARED_TAGS or re.search(r"NBVAL_(IGNORE|RAISES)", cell.source)
        if "claim" in called_names(cell) and ignored:
            found.append(f"In [{n}] makes a claim and is not compared: give claims their own cell")
    return found


def volatile_tagged(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    for n, cell in enumerate(code_cells(notebook), start=1):
        if tags(cell) & UNCOMPARED_TAGS:
            continue
        for output in cell.outputs:
            text = text_of(output)
            if match := VOLATILE.search(text):
                found.append(f"In [{n}] prints {match[0]!r}, which varies: nbval-ignore-output")
            if output.get("name") == "stderr":
                found.append(f"In [{n}] writes to stderr: nbval-ignore-output, or mend the warning")
            if WIDGET_TEXT in text or WIDGET_VIEW in output.get("data", {}):
                found.append(f"In [{n}] shows a widget: nbval-ignore-output")
    return found


def no_machine_path(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    for n, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            text = text_of(output)
            leaks = [m[0] for m in MACHINE_PATH.finditer(text)]
            leaks += [str(p) for p in (ROOT, Path.home()) if f"{p}/" in text]
            found += [f"In [{n}] gives away a path: {leak}" for leak in leaks]
    return found


FOR_LESSONS: list[Rule] = [
    title_first,
    objectives,
    prerequisites,
    measured,
    within_budget,
    closing,
    self_check,
    shows_claims,
    short_cells,
    prose_before_code,
    rests_the_eye,
]
FOR_ALL: list[Rule] = [
    images_described,
    links_resolve,
    links_look_like_links,
    hides_no_error,
    compared_claims,
    volatile_tagged,
    no_machine_path,
]


# -- the notebooks of this project --------------------------------------------------------------


def name_of(value: object) -> str:
    if isinstance(value, NotebookNode):
        return "broken"  # its repr has random ids, and xdist wants equal names in all workers
    if isinstance(value, Path):
        return f"{value.parent.name}/{value.stem}"
    return getattr(value, "name", getattr(value, "__name__", str(value)))


@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_in_step(pair):
    assert problems(pair) == []


@pytest.mark.parametrize("rule", FOR_LESSONS, ids=name_of)
@pytest.mark.parametrize("path", LESSONS, ids=name_of)
def test_lesson(path, rule):
    assert rule(read_notebook(path), path) == []


@pytest.mark.parametrize("rule", FOR_ALL, ids=name_of)
@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_notebook(path, rule):
    assert rule(nbformat.read(path, as_version=4), path) == []


# -- every rule can fail ------------------------------------------------------------------------

GOOD_HEAD = """# A lesson

## What you will be able to do

- tell one from two
- tell two from three

**Prerequisites:** none

**Measured:** 0.8 min and 0.9 GB peak memory on a 2-core CPU

The [licence](../LICENSE) and an ![open book](../README.md)."""
GOOD_TAIL = """## What we showed

- one is less than two

## What to read

- a paper

## Check yourself

<details><summary>Why?</summary>

Because.
</details>
<details><summary>How?</summary> So. </details>

## Next

The next lesson."""
PATH = ROOT / "notebooks" / "99_sample.ipynb"


def code(source: str, *tags: str, text: str = "", **data: str) -> NotebookNode:
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    return new_code_cell(source, metadata={"tags": list(tags)}, outputs=outputs)


def lesson(*cells: NotebookNode | str, head: str = GOOD_HEAD, tail: str = GOOD_TAIL):
    made = [new_markdown_cell(c) if isinstance(c, str) else c for c in (head, *cells, tail)]
    return new_notebook(cells=made)


def figure(alt: str | None) -> NotebookNode:
    metadata = {} if alt is None else {"image/png": {"alt": alt}}
    cell = code("show(figure)")
    cell.outputs = [new_output("display_data", {"image/png": "aGVsbG8="}, metadata=metadata)]
    return cell


def warning() -> NotebookNode:
    cell = code("warn()")
    cell.outputs = [new_output("stream", name="stderr", text="beware\n")]
    return cell


def widget() -> NotebookNode:
    cell = code("interact(f)")
    cell.outputs = [new_output("display_data", {"text/plain": WIDGET_TEXT})]
    return cell


def test_a_good_lesson_breaks_no_rule():
    notebook = lesson(
        code("x = 1\nx", text="1"),
        code('claim(x < 2, "one is less than two")', text="✓ one is less than two"),
        code("claim.summary()", text="1. one is less than two"),
        "Reviews may say anything.",
        code("print(reviews[0])", text="90 minutes of the 1980s; 2 s-curves / 3,000 words"),
        "The next line raises a `TypeError`.",
        code("1 + 'a'", "raises-exception"),
        "A picture, and a time.",
        figure("a straight line"),
        "Slow:",
        code("%time x", "nbval-ignore-output", text="0.4 s, at 0x..., <site-packages>/torch"),
    )
    broken = {rule.__name__: rule(notebook, PATH) for rule in FOR_LESSONS + FOR_ALL}
    assert not any(broken.values()), broken


@pytest.mark.parametrize(
    "picture",
    [figure("a line"), "![a box](box.svg)", '<img src="a.svg" alt="a box">', "| a |\n|---|\n| 1 |"],
    ids=["output", "image", "tag", "table"],
)
def test_a_picture_ends_a_stretch_of_words(picture):
    words = "word " * 600
    assert rests_the_eye(lesson(words, picture, words), PATH) == []
    assert rests_the_eye(lesson(words, words), PATH) != []


@pytest.mark.parametrize(
    ("rule", "notebook"),
    [
        (title_first, lesson(head="Hello.\n\n# Too late")),
        (title_first, lesson("# A second title")),
        (title_first, new_notebook()),
        (objectives, lesson(head="# No objectives")),
        (objectives, lesson(head="# T\n\n## What you will be able to do\n\n- one thing")),
        (objectives, lesson(head="# T\n\n## What you will be able to do\n\n" + "- a\n" * 6)),
        (prerequisites, lesson(head=GOOD_HEAD.replace("**Prerequisites:** none", ""))),
        (
            prerequisites,
            lesson(head=GOOD_HEAD.replace("Prerequisites:** none", "Prerequisites:**")),
        ),
        (measured, lesson(head=GOOD_HEAD.replace("0.8 min", "a while"))),
        (measured, lesson(head=GOOD_HEAD.replace("**Measured:**", "Measured:"))),
        (within_budget, lesson(head=GOOD_HEAD.replace("0.8 min", "4.1 min"))),
        (within_budget, lesson(head=GOOD_HEAD.replace("0.9 GB", "3.1 GB"))),
        (closing, lesson(tail=GOOD_TAIL.replace("## What to read", "## Reading"))),
        (closing, lesson(tail=GOOD_TAIL + "\n\n## One more thing")),
        (self_check, lesson(tail=GOOD_TAIL.replace("<details><summary>How?</summary>", ""))),
        (self_check, lesson(tail=GOOD_TAIL.replace(" So. ", ""))),
        (shows_claims, lesson(code("print('claim(x)')"))),
        (short_cells, lesson(code("x = 1\n" * 26))),
        (short_cells, lesson(code("x = 1\n" * 46, "library:course_utils.a.b"))),
        (prose_before_code, lesson(code("x = 1"), code("y = 2"))),
        (prose_before_code, new_notebook(cells=[code("claim(1, 'first of all')")])),
        (prose_before_code, lesson(code("x = 1"), " ", code("y = 2"))),
        (rests_the_eye, lesson("word " * 1001)),
        (rests_the_eye, lesson("word " * 600, code("print(1)", text="1"), "word " * 600)),
        (rests_the_eye, lesson(figure("a line"), "word " * 1001, figure("a line"))),
        (images_described, lesson(figure(None))),
        (images_described, lesson(figure(" "))),
        (images_described, lesson("![](../README.md)")),
        (images_described, lesson('<img src="../README.md" alt="">')),
        (images_described, lesson('<img src="../README.md">')),
        (links_resolve, lesson("[gone](98_gone.ipynb)")),
        (links_resolve, lesson("[out](../../elsewhere/README.md)")),
        (links_resolve, lesson('<a href="98_gone.ipynb">gone</a>')),
        (links_resolve, lesson("[gone][1]\n\n[1]: 98_gone.ipynb")),
        (links_look_like_links, lesson("Then [`this`](../README.md).")),
        (hides_no_error, lesson(code("try:\n    f()\nexcept:\n    print('oh')"))),
        (hides_no_error, lesson(code("try:\n    f()\nexcept Exception:\n    pass"))),
        (hides_no_error, lesson(code("try:\n    f()\nexcept (OSError, Exception) as e:\n    ..."))),
        (hides_no_error, lesson(code("with suppress(Exception):\n    f()"))),
        (hides_no_error, lesson(code("%%capture\nf()"))),
        (hides_no_error, lesson(code("!false || true"))),
        (hides_no_error, lesson(code("f()", "nbval-skip"))),
        (hides_no_error, lesson(code("f(]"))),
        (hides_no_error, lesson("An ordinary sentence.", code("f()", "raises-exception"))),
        (compared_claims, lesson(code("claim(x, 'so')", "nbval-ignore-output"))),
        (compared_claims, lesson(code("# NBVAL_IGNORE_OUTPUT\nclaims.claim(x, 'so')"))),
        (volatile_tagged, lesson(code("f()", text="took 3.2 s"))),
        (volatile_tagged, lesson(code("f()", text="50.1 examples/s"))),
        (volatile_tagged, lesson(code("f()", text="in 20 ms"))),
        (volatile_tagged, lesson(code("f()", text="100%|████| 5/5 [00:01<00:00]"))),
        (volatile_tagged, lesson(code("f()", text="<object at 0x...>"))),
        (volatile_tagged, lesson(code("f()", text="peak 1.2 GB"))),
        (volatile_tagged, lesson(warning())),
        (volatile_tagged, lesson(widget())),
        (no_machine_path, lesson(code("f()", text="in /home/ada/course/x.py"))),
        (no_machine_path, lesson(code("f()", text=f"in {ROOT}/x.py"))),
        (no_machine_path, lesson(code("f()", text="File \x1b[32m/home/ada/x.py:3\x1b[39m"))),
        (no_machine_path, lesson(code("f()", text=r"in C:\Users\ada\x.py"))),
    ],
    ids=name_of,
)
def test_rule_can_fail(rule, notebook):
    assert rule(notebook, PATH)


def test_every_rule_is_proven():
    """A rule added to the lists above needs a notebook that breaks it."""
    marks = test_rule_can_fail.pytestmark
    proven = {case[0] for mark in marks if mark.name == "parametrize" for case in mark.args[1]}
    assert proven == set(FOR_LESSONS + FOR_ALL)
