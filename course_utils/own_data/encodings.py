"""Which letters a file's bytes mean: told, marked, UTF-8, or guessed and said so.

Left out on purpose: guessing silently. Two encodings may both make letters of the same bytes, and
only a person sees that ``trčs`` should have been ``très``: a guess comes with a line to look at.
"""

import codecs

from charset_normalizer import from_bytes

# What files are really in, the commonest first: among a hundred encodings, a guess goes wrong.
COMMON = (
    *("utf_16_le", "utf_16_be", "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254"),
    *("cp1255", "cp1256", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"),
)
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(
    content: bytes, name: str, encoding: str | None = None
) -> tuple[str, str, tuple[str, ...]]:
    """Return a file's text, its encoding, and what had to be assumed.

    An encoding that is given is taken; else a byte order mark says it; else it is UTF-8, if that
    fits all bytes (other encodings hardly ever do by accident); else it is guessed.

    Raises
    ------
    ValueError
        If the bytes are no text, or not in this encoding.

    Examples
    --------
    >>> decode("schön".encode("utf-16"), "a.csv")
    ('schön', 'utf-16', ())
    """
    notes: tuple[str, ...] = ()
    if encoding is None:
        encoding = next((e for mark, e in BOMS if content.startswith(mark)), None)
    if encoding is None:
        try:
            encoding, text = "utf-8", content.decode("utf-8")
        except UnicodeDecodeError:
            encoding, text = _guess(content, name)
            example = next(line for line in text.splitlines() if not line.isascii())
            notes = (
                f"the encoding was guessed: {encoding}. Is this right: {example[:80]!r}? If it is "
                "not, say which it is: --encoding NAME",
            )
    else:
        try:
            text = content.decode(encoding)
        except LookupError:
            raise ValueError(
                f"there is no encoding {encoding!r}: common ones are utf-8, utf-16, cp1252, "
                "gb18030, big5, shift_jis, cp1251"
            ) from None
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise ValueError(
                f"{name} is not in the encoding {encoding}: the bytes "
                f"{content[error.start : error.start + 4]!r} in line {line} mean nothing there"
            ) from None
    if "\0" in text:
        raise ValueError(
            f"{name} holds zero bytes, as no text does. If it is UTF-16 without a mark, say "
            "--encoding utf-16-le"
        )
    return text, encoding, notes


def _guess(content: bytes, name: str) -> tuple[str, str]:
    """Return the encoding that makes the likeliest text of some bytes, and the text."""
    if b"\0" in content.replace(b"\0\0", b"\0")[:1000] and content.count(b"\0") < len(content) / 4:
        raise ValueError(f"{name} is no text file: it holds zero bytes")
    matches = from_bytes(content, cp_isolation=list(COMMON))
    best = matches.best()
    if best is None:
        raise ValueError(
            f"{name} is no text in any encoding that is tried here: is it a table? If it is, say "
            "in which encoding: --encoding NAME"
        )
    equal = [m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    likely = [encoding for match in equal for encoding in match.could_be_from_charset]
    # The commonest of those that fit as well.
    encoding = next((e for e in COMMON if e in likely), best.encoding)
    return encoding, content.decode(encoding)
