"""What learning platforms let an instructor download, and what students do to files."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from course_utils.grading.submissions import Corrupt, collect, read_cells, read_roster

PLAIN = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def marked(lesson: str, code: str = "x = 1") -> str:
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": [code]}
    metadata = {"course": {"exercise": f"{lesson}_topic"}}
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def fill(folder, files):
    for number, (name, text) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        os.utime(path, (1000 + number, 1000 + number))
    return folder


def zipped(tmp_path, files):
    path = tmp_path / "download.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def rows(source, lessons=("01",), roster=()):
    return {(s.student, s.lesson): s for s in collect(source, list(lessons), list(roster))}


@pytest.mark.parametrize("wrap", ["", "submissions/", "export/2026/"])
@pytest.mark.parametrize(
    ("name", "student", "number"),
    [
        ("ada/01_gradients.ipynb", "ada", ""),
        ("ada/ps1/01_gradients.ipynb", "ada", ""),
        ("Ada Lovelace_4711_assignsubmission_file_/01_gradients.ipynb", "Ada Lovelace", "4711"),
        ("Ada Lovelace_4711_assignsubmission_file/g.ipynb", "Ada Lovelace", "4711"),
        ("submission_99/01_gradients.ipynb", "submission_99", ""),
        ("ada/01_gradients.ipynb.txt", "ada", ""),
        ("ada/01_gradients.IPYNB.json", "ada", ""),
    ],
)
def test_one_folder_per_student(tmp_path, wrap, name, student, number):
    source = fill(tmp_path, {wrap + name: marked("01"), wrap + "bob/01_x.ipynb": marked("01")})
    found = rows(source)
    assert set(found) == {(student, "01"), ("bob", "01")}
    assert found[student, "01"].platform_id == number
    assert found[student, "01"].raw


@pytest.mark.parametrize(
    ("name", "student", "number"),
    [
        ("lovelaceada_4711_900_01_gradients.ipynb", "lovelaceada", "4711"),
        ("lovelaceada_LATE_4711_900_01_gradients-2.ipynb", "lovelaceada", "4711"),
        ("ada_01_gradients.ipynb", "ada", ""),
        ("01_gradients_Ada.ipynb", "Ada", ""),
        ("01_gradients (3).ipynb", "01_gradients (3)", ""),
    ],
)
def test_one_file_per_student(tmp_path, name, student, number):
    found = rows(zipped(tmp_path, {name: marked("01"), "bob_1_2_01_x.ipynb": marked("01")}))
    assert set(found) == {(student, "01"), ("bob", "01")}
    assert found[student, "01"].platform_id == number


def test_the_newest_attempt_counts_and_is_named(tmp_path):
    names = ["ada/try 2/01_gradients.ipynb", "ada/01_gradients (1).ipynb", "ada/01_gradients.ipynb"]
    files = {name: marked("01", f"attempt = {n}") for n, name in enumerate(names)}
    found = rows(fill(tmp_path, files))["ada", "01"]
    assert b"attempt = 2" in found.raw
    assert found.notes == ("the newest of 3 attempts counts: 01_gradients.ipynb",)


def test_at_one_time_the_later_copy_counts(tmp_path):
    files = {f"ada/01_gradients{n}.ipynb": marked("01", n) for n in (" (2)", "", " (10)", " (1)")}
    assert b" (10)" in rows(zipped(tmp_path, files))["ada", "01"].raw


def test_metadata_tell_more_than_names(tmp_path):
    files = {"ada/homework.ipynb": marked("02"), "ada/02_old.ipynb": marked("01")}
    found = rows(fill(tmp_path, files), lessons=("01", "02"))
    assert found["ada", "01"].file == "02_old.ipynb"
    assert found["ada", "02"].file == "homework.ipynb"


def test_a_renamed_file_without_metadata_is_taken_and_noted(tmp_path):
    source = fill(tmp_path, {"ada/final_FINAL.ipynb": PLAIN})
    assert rows(source)["ada", "01"].notes
    assert rows(source, lessons=("01", "02"))["ada", "02"].problem.startswith("no notebook")


def test_a_cell_cannot_pretend_to_be_metadata(tmp_path):
    source = fill(tmp_path, {"ada/01_x.ipynb": marked("01", 'y = {"exercise": "02_topic"}')})
    assert rows(source)["ada", "01"].file == "01_x.ipynb"


def test_everyone_has_a_row(tmp_path):
    source = fill(tmp_path, {"ada/01_x.ipynb": marked("01"), "bob/essay.pdf": "%PDF"})
    (tmp_path / "carl").mkdir()
    found = rows(source, roster=["ada", "dora"])
    assert {student for student, _ in found} == {"ada", "bob", "carl", "dora"}
    assert "essay.pdf" in found["bob", "01"].problem
    assert "empty folder" in found["carl", "01"].problem
    assert found["dora", "01"].problem == "nothing was handed in"


def test_namesakes_are_kept_apart(tmp_path):
    name = "Ada B_{}_assignsubmission_file_/01_x.ipynb"
    found = rows(zipped(tmp_path, {name.format(n): marked("01") for n in (1, 2)}))
    assert {student for student, _ in found} == {"Ada B (1)", "Ada B (2)"}


def test_a_students_own_zip_is_opened_once(tmp_path):
    inner = zipped(tmp_path, {"work/01_gradients.ipynb": marked("01")}).read_bytes()
    deeper = zipped(tmp_path, {"again.zip": inner}).read_bytes()
    source = zipped(tmp_path, {"ada/mine.zip": inner, "bob/mine.zip": deeper, "carl/x.zip": b"PK"})
    found = rows(source)
    assert found["ada", "01"].raw
    assert not found["bob", "01"].raw
    assert "again.zip (a zip file in a zip file)" in found["bob", "01"].problem
    assert "x.zip (a damaged zip file" in found["carl", "01"].problem


def test_litter_is_ignored(tmp_path):
    files = {
        "ada/01_x.ipynb": marked("01", "good"),
        "ada/.ipynb_checkpoints/01_x-checkpoint.ipynb": marked("01", "old"),
        "ada/._01_x.ipynb": "mac",
        "__MACOSX/ada/01_x.ipynb": "mac",
    }
    for source in (zipped(tmp_path, files), fill(tmp_path / "folder", files)):
        found = rows(source)
        assert set(found) == {("ada", "01")}
        assert b"good" in found["ada", "01"].raw


def test_names_in_two_forms_of_unicode_are_one(tmp_path):
    source = zipped(tmp_path, {"Jose\u0301/01_x.ipynb": marked("01")})
    assert set(rows(source, roster=["José"])) == {("José", "01")}


def test_names_whose_encoding_is_not_declared(tmp_path):
    """As old Moodle writes them: UTF-8 bytes, and no flag that says so."""
    source = zipped(tmp_path, {"xxxx/01_x.ipynb": marked("01"), "bob/01_x.ipynb": marked("01")})
    source.write_bytes(source.read_bytes().replace(b"xxxx", "J\u00fcr".encode()))
    assert set(rows(source)) == {("J\u00fcr", "01"), ("bob", "01")}


def test_what_is_no_folder_and_no_zip(tmp_path):
    with pytest.raises(FileNotFoundError):
        collect(tmp_path / "nothing", ["01"])
    (tmp_path / "x.ipynb").write_text(PLAIN)
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        collect(tmp_path / "x.ipynb", ["01"])


def test_roster(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text("\ufeffStudent,email\nada,a@x\n\nbob\n", encoding="utf-8")
    assert read_roster(path) == ["ada", "bob"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding):
    cells, notes = read_cells(
        json.dumps({"cells": [{"cell_type": "code", "source": "é"}]}, ensure_ascii=False).encode(
            encoding
        )
    )
    assert cells[0].source == "é"
    assert bool(notes) == (encoding in ("utf-16", "cp1252"))


def test_old_notebooks_are_read():
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["a\n", "b"]}]}]}
    assert read_cells(json.dumps(old).encode())[0][0].source == "a\nb"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \n",
        b"{}",
        b"[]",
        b"null",
        b'{"cells": 3}',
        b'{"cells": [3]}',
        b'{"cells": [{"cell_type": "code", "source": 3}]}',
        b'{"cells": [{"cell_type": "code", "source": [3]}]}',
        b'{"cells": [{"cell_type": "code", "metadata": [], "source": ""}]}',
        b"[" * 200_000,
        b"1" * 6000,
        b'{"cells": [{"cell_type": "code", "source": "' + b"x" * 1_000_001 + b'"}]}',
        b"\x81\x8d\x8f",
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_what_is_no_notebook(raw):
    with pytest.raises(Corrupt):
        read_cells(raw)
