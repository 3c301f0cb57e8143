"""Link the terms that a lesson introduces to GLOSSARY.md.

    python -m tools.glossary 01 04       # these lessons' sources; then build them
    python -m tools.glossary             # all

A lesson sets a term in italics or bold where it introduces it. The first such place of each term in
the glossary becomes a link; a lesson that already links to a term's section keeps its words. Prose
only: nothing needs to be executed again. Running it twice changes nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tools.notebooks import ROOT, write_if_changed

ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \| \d\d \|$")
# Neither code, nor formulas, nor headings, nor what is a link already.
UNTOUCHED = re.compile(
    r"^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|^#.*?$|^---\n.*?^---$|\[[^\]]*\]\([^)]*\)",
    re.M | re.S,
)


def terms(glossary: str) -> dict[str, str]:
    """Each term, in lower case, and the name of the section it stands in.

    >>> terms("## How to learn\\n\\n| loss, risk | a charge | 损失 | 01 |\\n")
    {'loss': 'how-to-learn', 'risk': 'how-to-learn'}
    """
    found, section = {}, ""
    for line in glossary.splitlines():
        if line.startswith("## "):
            section = re.sub(r"[^\w\- ]", "", line[3:].lower()).replace(" ", "-")
        elif row := ROW.match(line):
            for term in re.split(r", (?![^(]*\))", re.sub(r" \(.*?\)", "", row[1])):
                found[term.lower()] = section
    return found


def link(text: str, known: dict[str, str]) -> str:
    """A lesson's text with the first emphasised place of each term made a link.

    >>> print(link("A *loss*, again a *loss*, and two **risks**.", {"loss": "a", "risk": "b"}))
    A [*loss*](../GLOSSARY.md#a), again a *loss*, and two [**risks**](../GLOSSARY.md#b).
    >>> link("`*loss*` and [*loss*](x)", {"loss": "a"})
    '`*loss*` and [*loss*](x)'
    """
    done = set(re.findall(r"\[\*+([^*\]]+?)s?\*+\]\(\.\./glossary", text.lower()))
    words = "|".join(re.escape(term) for term in sorted(known, key=len, reverse=True))
    emphasised = re.compile(rf"(?<!\*)(\*\*?)(({words})s?)\1(?!\*)", re.I)

    def once(match: re.Match[str]) -> str:
        term = match[3].lower()
        if term in done:
            return match[0]
        done.add(term)
        return f"[{match[0]}](../GLOSSARY.md#{known[term]})"

    parts, end = [], 0
    for match in UNTOUCHED.finditer(text):
        parts += [emphasised.sub(once, text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, emphasised.sub(once, text[end:])])


def main(names: list[str] | None = None) -> int:
    names = sys.argv[1:] if names is None else names
    known = terms((ROOT / "GLOSSARY.md").read_text(encoding="utf-8"))
    for path in sorted(Path(ROOT / "notebooks" / "source").glob("*.md")):
        if names and not path.name.startswith(tuple(names)):
            continue
        text = path.read_text(encoding="utf-8")
        new = link(text, known)
        write_if_changed(path, new)
        print(f"{path.stem:<36}{new.count('GLOSSARY.md') - text.count('GLOSSARY.md')} links made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
