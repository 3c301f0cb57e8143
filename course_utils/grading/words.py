r"""Text that others wrote, made harmless: for files, pages, tables and terminals.

Names, messages and paths come from students. A lone surrogate in one cannot be written to a file,
an escape sequence repaints a terminal, a bidirectional control shows ``exe.txt`` for ``txt.exe``,
and a cell that begins with ``=`` is run by a spreadsheet. All text passes `clean` where it comes
in, once; `cell` quotes what goes into a table.
"""

import re
import unicodedata

# What a terminal takes for a command: CSI and OSC sequences in both spellings, then any other.
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*"
    r"(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?"
)
JOINERS = "\u200c\u200d"  # invisible, and letters of Persian and many emoji need them
LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# A formula begins a cell, or what another separator makes one. Full-width and small forms count.
FORMULA = "=+-@＝＋－＠﹦﹢﹣﹫"
STARTS = re.compile(rf"(?:^|(?<=[;,|\"]))(?=\s*[{re.escape(FORMULA)}])")


def clean(text: str, most: int = 2000) -> str:
    r"""Return text without surrogates, control characters and escape sequences.

    Lines stay lines and tabs stay tabs; what is taken out in the middle leaves a mark.

    Examples
    --------
    >>> clean("\x1b[31mred\x1b[0m, \ud800, \x00")
    'red, \ufffd, \ufffd'
    >>> clean("a\u202etxt.exe")
    'a\ufffdtxt.exe'
    """
    text = LINE_ENDS.sub("\n", ESCAPES.sub("", text[: 2 * most]))
    return "".join(map(_harmless, text))[:most]


def line(text: str, most: int = 200) -> str:
    r"""Return text cleaned, in one line and one form of Unicode.

    Examples
    --------
    >>> line("  Jose\u0301\n\tA. ")
    'José A.'
    """
    return unicodedata.normalize("NFC", " ".join(clean(text, 4 * most).split()))[:most]


def cell(text: str) -> str:
    """Return text for a cell of a table that no spreadsheet takes for a formula.

    Also where it is opened with another separator than it was written with.

    Examples
    --------
    >>> cell("=1+1"), cell("x;@SUM(A1)"), cell("＝1")
    ("'=1+1", "x;'@SUM(A1)", "'＝1")
    """
    return STARTS.sub("'", " ".join(re.split(r"[\r\n\t]+", text)))


def _harmless(character: str) -> str:
    if character in "\n\t" or character in JOINERS or character == " ":
        return character
    kind = unicodedata.category(character)
    wrong = kind in ("Cc", "Cf", "Cs", "Zl", "Zp") or ord(character) & 0xFFFE == 0xFFFE
    return "\ufffd" if wrong else character
