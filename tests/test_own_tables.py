"""People's own files: every format and encoding comes back whole; what is broken is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from course_utils.own_data.encodings import decode
from course_utils.own_data.tables import read_table
from tests.own_tables import as_csv

# Commas, quotes, line breaks, five scripts, an emoji; labels that pandas takes for missing ones.
TEXTS = ['A "good", long film', "two\nlines", "café; naïve", "这个很好", "Ужас", "🎬 fine", "a\tb"]
LABELS = ["NA", "null", "1", "None", "0", "nan", "NA"]
ROWS = list(zip(TEXTS, LABELS, strict=True))
COLUMNS = ("text", "label")


def cells(path: Path, **how) -> list[tuple]:
    table = read_table(path, COLUMNS, **how)
    return list(zip(table.cells["text"], table.cells["label"], strict=True))


def records() -> list[dict[str, str]]:
    return [{"id": str(i), "text": t, "label": label} for i, (t, label) in enumerate(ROWS)]


FORMS = {
    "comma.csv": lambda path: path.write_text(as_csv(ROWS, COLUMNS), encoding="utf-8", newline=""),
    "semicolon.csv": lambda path: path.write_text(
        as_csv(ROWS, COLUMNS, delimiter=";"), encoding="utf-8", newline=""
    ),
    "tab.tsv": lambda path: path.write_text(
        as_csv(ROWS, COLUMNS, delimiter="\t"), encoding="utf-8", newline=""
    ),
    "old_mac.csv": lambda path: path.write_text(
        as_csv(ROWS, COLUMNS, lineterminator="\r", quoting=csv.QUOTE_ALL),
        encoding="utf-8",
        newline="",
    ),
    "lines.jsonl": lambda path: path.write_text(
        "\n".join(json.dumps(record) for record in records()) + "\n\n"
    ),
    "list.json": lambda path: path.write_text(json.dumps(records(), indent=1)),
    "columns.parquet": lambda path: pd.DataFrame(records()).to_parquet(path),
    "book.xlsx": lambda path: pd.DataFrame(records()).to_excel(path, index=False),
    "no_suffix": lambda path: pd.DataFrame(records()).to_parquet(path),  # its bytes say what it is
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_comes_back_cell_by_cell(name, tmp_path):
    path = tmp_path / name
    FORMS[name](path)
    before = path.read_bytes()
    assert cells(path) == ROWS
    assert path.read_bytes() == before


ENCODINGS = {
    "utf-8": TEXTS,
    "utf-8-sig": TEXTS,
    "utf-16": TEXTS,
    "utf-32": TEXTS,
    "utf-16-le": TEXTS,  # without a mark
    "cp1252": ["Le café était très bon, déjà vu", "It’s “fine” – naïve", "schön und süß"],
    "cp1250": ["Bardzo dobry film, polecam", "żółć gęślą jaźń", "zła jakość, nie polecam"],
    "cp1251": ["Очень хороший фильм, рекомендую", "Ужасное качество"],
    "koi8_r": ["Очень хороший фильм, рекомендую", "Ужасное качество"],
    "gb18030": ["这个产品非常好用，我很喜欢", "质量太差了，不推荐购买"],
    "big5": ["這個產品非常好用，我很喜歡", "品質太差了，不推薦購買"],
    "shift_jis": ["この製品はとても良いです", "品質が悪い。二度と買いません"],
    "euc_kr": ["이 제품은 매우 좋습니다", "품질이 나쁩니다. 추천하지 않습니다"],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_found_out(encoding, tmp_path):
    rows = [(text, str(i % 2)) for i, text in enumerate(ENCODINGS[encoding] * 20)]
    path = tmp_path / "table.csv"
    path.write_bytes(as_csv(rows).encode(encoding))
    assert cells(path) == rows
    assert cells(path, encoding=encoding) == rows
    table = read_table(path, COLUMNS)
    if not encoding.startswith("utf") or encoding == "utf-16-le":
        assert "was guessed" in table.notes[0]
    else:
        assert not table.notes


def test_a_guess_shows_a_line_to_look_at(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("text,label\nplain,1\ntrès bon,0\n".encode("cp1252"))
    [note] = read_table(path, COLUMNS).notes
    assert "très bon" in note
    assert "--encoding" in note


def test_numbers_are_read_as_they_are_written_in_classes(tmp_path):
    """A column with a gap holds floats in a spreadsheet and in Parquet: 1.0 is still class 1."""
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1, None, 2.5]})
    for name, write in (("a.xlsx", frame.to_excel), ("a.parquet", frame.to_parquet)):
        write(tmp_path / name, index=False)
        assert [label for _, label in cells(tmp_path / name)] == ["1", None, "2.5"]


def test_lists_of_tags_stay_lists(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b"], "label": [["x", "y"], []]})
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(frame.to_json(orient="records", lines=True))
    for path in (tmp_path / "a.parquet", tmp_path / "a.jsonl"):
        assert cells(path) == [("a", ["x", "y"]), ("b", [])]


def test_missing_is_an_empty_cell_and_nothing_else(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,NA\n  ,0\nfine\n")
    assert cells(path) == [(None, "NA"), (None, "0"), ("fine", None)]
    assert "1 line has fewer cells" in read_table(path, COLUMNS).notes[0]


def test_quotes_of_other_kinds(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"a \\"good\\" film, really",1\n')
    assert cells(path) == [('a "good" film, really', "1")]
    path.write_text('text\tlabel\n"great" film\t1\nthe 5" disk\t0\n')
    assert cells(path) == [('"great" film', "1"), ('the 5" disk', "0")]
    assert "quotation marks" in read_table(path, COLUMNS).notes[0]


def test_a_text_as_long_as_a_book(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(as_csv([("word " * 60_000, "1")]))
    assert len(cells(path)[0][0]) == 300_000


def test_the_sheet_with_the_columns_is_found(tmp_path):
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"notes": ["read me"]}).to_excel(book, sheet_name="About", index=False)
        for name, text in (("May", "fine"), ("June", "dull")):
            frame = pd.DataFrame({"text": [text], "label": ["x"]})
            frame.to_excel(book, sheet_name=name, index=False)
    assert cells(path) == [("fine", "x")]
    assert cells(path, sheet="June") == [("dull", "x")]
    assert "sheet 'June' has these columns too, not read" in read_table(path, COLUMNS).notes[0]
    with pd.ExcelWriter(path) as book:  # a wider sheet first, a blank after a name
        pd.DataFrame(columns=list("abcde")).to_excel(book, sheet_name="Wide", index=False)
        frame.rename(columns={"text": "text "}).to_excel(book, sheet_name="May", index=False)
    assert cells(path) == [("dull", "x")]


OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
BAD = {  # content, file name, arguments, the sentence that helps
    "empty": (b"", "a.csv", {}, "a.csv is empty"),
    "blank": (b"\n \n", "a.csv", {}, "a.csv is empty"),
    "names only": (b"text,label\n", "a.csv", {}, "line of column names and no row below"),
    "another name": (b"Text,stars\na,1\n", "a.csv", {}, "no column 'text'.*Did you mean 'Text'"),
    "no names": (b"a fine film,1\nb,0\n", "a.csv", {}, "no column 'text'.*'a fine film', '1'"),
    "name twice": (b"text,label,text\na,1,b\n", "a.csv", {}, "2 columns 'text': rename all but"),
    "a cell too many": (b"text,label\nfine,1\nwell, no,0\n", "a.csv", {}, "line 3: 3 cells, where"),
    "open quote": (b'text,label\n"fine,1\nb,0\n', "a.csv", {}, "line 2: the quotation marks"),
    "open quote in the first line": (b'"text,label\n' + b"a,1\n" * 50_000, "a.csv", {},
                                     "line 1: the quotation marks"),
    "odd quotes": (b'text,label\n"a "good" film",1\n', "a.csv", {}, 'written twice: "a ""good""'),
    "old workbook": (OLD_EXCEL, "a.xls", {}, "old format, or one with a password"),
    "zip of something": (b"PK\x03\x04" + bytes(99), "a.docx", {}, "cannot be read as a workbook"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "a.csv.gz", {}, "this is a gzip file: unpack"),
    "PDF": (b"%PDF-1.7\n", "a.pdf", {}, "this is a PDF file"),
    "broken Parquet": (b"PAR1" + bytes(99), "a.parquet", {}, "cannot be read as Parquet"),
    "bytes": (bytes(range(256)) * 9, "a.csv", {}, "no text"),
    "wrong encoding": ("text,label\né,1\n".encode("cp1252"), "a.csv", {"encoding": "utf-8"},
                       r"not in the encoding utf-8: the bytes .* in line 2"),
    "no encoding": (b"text,label\na,1\n", "a.csv", {"encoding": "utf-9"}, "there is no encoding"),
    "long delimiter": (b"text,label\na,1\n", "a.csv", {"delimiter": "::"}, "one character, got"),
    "broken line": (b'{"text": "a", "label": 1}\n{"text": \n', "a.jsonl", {}, "line 2 is no JSON"),
    "broken list": (b'[{"text": "a"}', "a.json", {}, "is no JSON"),
    "not objects": (b'[["a", 1], ["b", 2]]', "a.json", {}, "row 1 must be an object.*got list"),
    "an object as text": (b'{"text": {"en": "a"}, "label": 1}', "a.jsonl", {}, "row 1 .*got dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_the_sentence_that_helps(case, tmp_path):
    content, name, how, sentence = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_table(path, COLUMNS, **how)
    assert path.read_bytes() == content


def test_what_is_not_there(tmp_path):
    (tmp_path / "reviews.csv").write_text("text,label\na,1\n")
    with pytest.raises(ValueError, match=r"does not exist.*Did you mean reviews\.csv\?"):
        read_table(tmp_path / "review.csv", COLUMNS)
    with pytest.raises(ValueError, match="is a folder"):
        read_table(tmp_path, COLUMNS)
    with pytest.raises(ValueError, match="must be different ones"):
        read_table(tmp_path / "reviews.csv", ["text", "text"])
    pd.DataFrame({"text": ["a"], "label": [1]}).to_excel(tmp_path / "b.xlsx", index=False)
    with pytest.raises(ValueError, match="no sheet 'June'"):
        read_table(tmp_path / "b.xlsx", COLUMNS, sheet="June")


@pytest.mark.parametrize(("name", "package"), [("a.xlsx", "openpyxl"), ("a.parquet", "pyarrow")])
def test_a_missing_package_is_named_with_its_remedy(name, package, tmp_path, monkeypatch):
    frame = pd.DataFrame({"text": ["a"], "label": [1]})
    (frame.to_excel if name.endswith("xlsx") else frame.to_parquet)(tmp_path / name, index=False)

    def missing(*_: object, **__: object) -> None:
        raise ImportError(f"no module named {package}")

    monkeypatch.setattr(pd, "read_excel" if name.endswith("xlsx") else "read_parquet", missing)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install .*\[tables\]"):
        read_table(tmp_path / name, COLUMNS)


def test_the_csv_module_is_left_as_it_was(tmp_path):
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(as_csv([("a", "1")]))
    cells(tmp_path / "a.csv")
    assert csv.field_size_limit() == before


def test_zero_bytes_are_no_text():
    with pytest.raises(ValueError, match="zero bytes"):
        decode(b"text,label\n\0\0,1\n", "a.csv")
    plain = "text,label\nfine,1\n".encode("utf-16-le")  # every second byte is 0, and all is UTF-8
    with pytest.raises(ValueError, match="say --encoding utf-16-le"):
        decode(plain, "a.csv")
    assert decode(plain, "a.csv", "utf-16-le")[0] == "text,label\nfine,1\n"
