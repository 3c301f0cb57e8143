"""What learning platforms let an instructor download, and what students do to files."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import zipfile

import pytest

from course_utils.grading.cells import Corrupt, given_cells_changed, read_cells
from course_utils.grading.items import load_items
from course_utils.grading.submissions import collect, read_roster
from tests.grading.hostile import ROOT

ITEMS = load_items("01")

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


def without_metadata(lesson: str) -> str:
    """What is left of an exercise when an editor drops what it does not know."""
    content = json.loads(marked(lesson))
    content["cells"] *= 2
    content["cells"] += [
        {"cell_type": "code", "source": [f'check("{lesson}.{name}", {name})'], "outputs": []}
        for name in ("one", "two")
    ]
    return json.dumps(content | {"metadata": {}})


@pytest.mark.parametrize("text", [marked("03"), without_metadata("03")], ids=["marked", "checks"])
def test_another_lessons_notebook_is_named_as_what_it_is(tmp_path, text):
    """Also where it is called as the one that was expected: it would get 0 points in silence."""
    found = rows(fill(tmp_path, {"ada/05_fine_tuning.ipynb": text}), lessons=("05",))["ada", "05"]
    assert found.file == ""
    assert found.problem == (
        "05_fine_tuning.ipynb is the notebook of lesson 03; lesson 05 was expected"
    )


def test_one_check_of_another_lesson_changes_nothing(tmp_path):
    extra = {"cell_type": "code", "source": ['check("01.one", one)'], "outputs": []}
    content = json.loads(without_metadata("03"))
    content["cells"].insert(0, extra)
    found = rows(fill(tmp_path, {"ada/x.ipynb": json.dumps(content)}), lessons=("03",))
    assert found["ada", "03"].file == "x.ipynb"


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


# -- who a student is, in the layouts of real downloads ------------------------------------------

WORK = {"01_gradients.ipynb": "01"}


def packed(files: dict[str, str], time=(2026, 1, 1, 0, 0, 0)) -> bytes:
    """What a student packed; values are lessons, or a notebook's text."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            text = marked(content) if len(content) == 2 else content
            archive.writestr(zipfile.ZipInfo(name, time), text, zipfile.ZIP_DEFLATED)
    return file.getvalue()


CANVAS = {
    "lovelaceada_4711_9001_01_gradients.ipynb": ("lovelaceada", "4711"),
    "lovelaceada_LATE_4711_9001_01_gradients.ipynb": ("lovelaceada", "4711"),
    "lovelaceada_4711_9001_01_gradients-3.ipynb": ("lovelaceada", "4711"),
    "o_neilsean_12_9002_work_2_3_final.zip": ("o_neilsean", "12"),
    "王小明_13_9003_01_gradients.ipynb": ("王小明", "13"),
    "müller-lüdenscheidt_LATE_14_9004_a.zip": ("müller-lüdenscheidt", "14"),
    "anon_x7Kp2_9005_01_gradients.ipynb": ("anon_x7Kp2", ""),
    "LATE_anon_x7Kp2_9005_01_gradients.ipynb": ("anon_x7Kp2", ""),
    "typedin_15_text.html": ("typedin", "15"),
    "linked_LATE_16_link.html": ("linked", "16"),
    "student7_17_9006_18_9007_bob.ipynb": ("student7", "17"),
}
MOODLE = {
    "Ada Lovelace_4711_assignsubmission_file_/01_gradients.ipynb": ("Ada Lovelace", "4711"),
    "Ada Lovelace_4711_assignsubmission_file/01_gradients.ipynb": ("Ada Lovelace", "4711"),
    "Ada Lovelace_4711_assignsubmission_file_01_gradients.ipynb": ("Ada Lovelace", "4711"),
    "Ada Lovelace_4711_assignsubmission_onlinetext_/onlinetext.html": ("Ada Lovelace", "4711"),
    "José Ñandú_12_assignsubmission_file_/sub/folder/01_gradients.ipynb": ("José Ñandú", "12"),
    "Participant 99_12_assignsubmission_file_/work.zip": ("Participant 99", "12"),
    "Team 7_3_assignsubmission_file_/work.zip": ("Team 7", "3"),
    "Default group_assignsubmission_file_/01_gradients.ipynb": ("Default group", ""),
    "Ada_1_assignsubmission_file_Bob_2_assignsubmission_file_x.ipynb": ("Ada", "1"),
}


@pytest.mark.parametrize(("name", "who"), {**CANVAS, **MOODLE}.items(), ids=str)
@pytest.mark.parametrize("unpacked", [False, True])
def test_names_as_canvas_and_moodle_write_them(tmp_path, name, who, unpacked):
    content = packed(WORK) if name.endswith(".zip") else marked("01").encode()
    source = zipped(tmp_path, {name: content, "bob_1_2_01_x.ipynb": marked("01")})
    if unpacked:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "unpacked")
        source = tmp_path / "unpacked"
    found = rows(source)
    assert set(found) == {(who[0], "01"), ("bob", "01")}
    assert found[who[0], "01"].platform_id == who[1]
    assert bool(found[who[0], "01"].raw) == (not name.endswith(".html"))


def test_late_is_said(tmp_path):
    names = ["ada_LATE_1_9_01_x.ipynb", "bob_2_8_01_x.ipynb"]
    found = rows(zipped(tmp_path, {name: marked("01") for name in names}))
    assert found["ada", "01"].notes == ("marked as late",)
    assert found["bob", "01"].notes == ()


@pytest.mark.parametrize("unpacked", [False, True])
def test_three_archives_from_canvas_are_three_students(tmp_path, unpacked):
    """Seen: NAME_11_101_work.zip of three students became one row."""
    names = ["ada_11_101_work.zip", "bob_12_102_work.zip", "carl_LATE_13_103_work.zip"]
    own = {name: packed({"01_gradients.ipynb": marked("01", name)}) for name in names}
    source = zipped(tmp_path, own)
    if unpacked:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "in")
        source = tmp_path / "in"
    found = rows(source)
    assert {(s, found[s, "01"].platform_id) for s, _ in found} == {
        *(("ada", "11"), ("bob", "12"), ("carl", "13"))
    }
    for name in names:
        assert name.encode() in found[name.split("_")[0], "01"].raw


@pytest.mark.parametrize(
    "inside",
    [
        "bob_12_102_01_gradients.ipynb",
        "bob/01_gradients.ipynb",
        "bob_12_assignsubmission_file_/01_gradients.ipynb",
        "../bob_12_102_01_gradients.ipynb",
        "submission_12/01_gradients.ipynb",
    ],
)
@pytest.mark.parametrize(
    "layout",
    ["{}_102_01_gradients.ipynb", "{}_assignsubmission_file_/01_gradients.ipynb", "{}/01_x.ipynb"],
)
def test_a_classmate_cannot_be_packed(tmp_path, layout, inside):
    """Seen: a file named after a classmate in one's own zip replaced the classmate's 14 points."""
    mine = packed({inside: marked("01", "mallory")}, time=(2099, 1, 1, 0, 0, 0))
    theirs = layout.format("bob_12")
    own = (
        layout.format("mallory_66")
        .replace("01_gradients.ipynb", "w.zip")
        .replace("01_x.ipynb", "w.zip")
    )
    found = rows(zipped(tmp_path, {theirs: marked("01", "bob"), own: mine}))
    assert len(found) == 2
    (bob,) = (s for s in found.values() if s.student.startswith("bob"))
    assert b"bob" in bob.raw
    assert b"mallory" not in bob.raw
    assert not bob.notes


def test_a_lone_folder_of_a_student_is_no_wrapping(tmp_path):
    """One student handed in, and made folders named after a classmate."""
    name = "Mallory_66_assignsubmission_file_/Bob_12_assignsubmission_file_/01_x.ipynb"
    assert set(rows(zipped(tmp_path, {name: marked("01")}))) == {("Mallory", "01")}
    source = zipped(tmp_path, {"submitted/mallory/bob/01_x.ipynb": marked("01")})
    assert set(rows(source, roster=["mallory"])) == {("mallory", "01")}


def test_times_inside_an_archive_never_beat_anothers(tmp_path):
    """The platform says which came last; a packed file may be from 2099 or 1980."""
    old, new = (
        packed({"01_a.ipynb": marked("01", "first")}, (2099, 1, 1, 0, 0, 0)),
        marked("01", "last"),
    )
    source = fill(tmp_path / "in", {"ada/notes.txt": "", "bob/01_x.ipynb": marked("01")})
    (source / "ada" / "w.zip").write_bytes(old)
    (source / "ada" / "01_b.ipynb").write_text(new)
    os.utime(source / "ada" / "w.zip", (1000, 1000))
    os.utime(source / "ada" / "01_b.ipynb", (2000, 2000))
    assert b"last" in rows(source)["ada", "01"].raw
    canvas = {
        "ada_1_200_01_b.ipynb": new,
        "ada_1_100_w.zip": old,
        "bob_2_1_01_x.ipynb": marked("01"),
    }
    assert b"last" in rows(zipped(tmp_path, canvas))["ada", "01"].raw


def test_within_one_archive_its_times_count(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for year, code in ((2026, "new"), (2025, "old")):
            info = zipfile.ZipInfo(f"{code}/01_x.ipynb", (year, 1, 1, 0, 0, 0))
            archive.writestr(info, marked("01", code))
    source = zipped(tmp_path, {"ada/w.zip": file.getvalue(), "bob/01_x.ipynb": marked("01")})
    assert b"new" in rows(source)["ada", "01"].raw


METADATA = """\
submission_9001:
  :submitters:
  - :name: Ada Lovelace
    :sid: '4711'
    :email: ada@example.org
  :created_at: 2026-01-08 07:59:15.119990000 Z
  :score: 0.0
submission_9002:
  :submitters:
  - :name: Bob
  - :name: Carl
  :results: !ruby/object:Some::Thing {a: 1}
submission_9003:
  :submitters:
  - :name: Ada Lovelace
"""


@pytest.mark.parametrize("wrap", ["", "assignment_77_export/"])
def test_gradescope_export(tmp_path, wrap):
    """One folder per submission, and a file of names beside them: it is no student."""
    files = {
        f"{wrap}submission_{n}/01_gradients.ipynb": marked("01") for n in (9001, 9002, 9003, 9004)
    }
    files[f"{wrap}submission_9004/submission_metadata.yml"] = "submission_9001: {}"
    found = rows(zipped(tmp_path, files | {f"{wrap}submission_metadata.yml": METADATA}))
    assert {student for student, _ in found} == {
        *("Ada Lovelace", "Ada Lovelace [2]", "Bob, Carl", "submission_9004")
    }
    broken = rows(zipped(tmp_path, files | {f"{wrap}submission_metadata.yml": "a: [\x00"}))
    assert {student for student, _ in broken} == {f"submission_{n}" for n in range(9001, 9005)}


def test_nbgrader_layout(tmp_path):
    files = {
        f"submitted/{student}/ps1/{name}": text
        for student in ("ada", "bob")
        for name, text in (("01_gradients.ipynb", marked("01")), ("timestamp.txt", "2026"))
    }
    for source in (zipped(tmp_path, files), fill(tmp_path / "course", files)):
        found = rows(source)
        assert set(found) == {("ada", "01"), ("bob", "01")}
        assert all(found.values())


def test_names_that_look_alike_are_kept_apart(tmp_path):
    """Control characters, length, spaces: two places of the platform are two rows."""
    long = "x" * 150
    names = ["a\x01", "a\x02", "b ", "b", long + "1", long + "2", "c\u202e", "c\u202d"]
    found = rows(zipped(tmp_path, {f"{name}/01_x.ipynb": marked("01", name) for name in names}))
    assert len(found) == len(names)
    assert all(student.isprintable() for student, _ in found)


def test_hand_named_files_with_numbers_are_two_students(tmp_path):
    files = {f"{name}.ipynb": marked("01", name) for name in ("1234-1", "1234-2", "ada", "ada (1)")}
    found = rows(zipped(tmp_path, files))
    assert {student for student, _ in found} == {"1234-1", "1234-2", "ada"}
    assert "2 attempts" in found["ada", "01"].notes[0]


def test_a_folder_of_one_download_is_refused(tmp_path):
    """Whose is it? A guess would give the whole class one row."""
    folder = fill(tmp_path / "in", {})
    folder.mkdir()
    zipped(folder, {f"{name}/01_x.ipynb": marked("01") for name in ("ada", "bob")})
    with pytest.raises(ValueError, match=r"only download\.zip: pass that file itself"):
        rows(folder)
    (folder / "download.zip").rename(folder / "ada_1_2_work.zip")
    assert set(rows(folder)) == {("ada", "01")}


# -- what cannot be read is a row ------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are Unix's")
def test_anything_may_have_a_notebooks_name(tmp_path):
    """Pipes would block for ever, and sockets, links and folders are no files."""
    source = fill(tmp_path / "in", {"zoe/01_x.ipynb": marked("01")})
    for student in ("pipe", "socket", "folder", "loop", "away", "zip", "deep"):
        (source / student).mkdir()
    os.mkfifo(source / "pipe" / "01_x.ipynb")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(source / "socket")  # an address is short
        server.bind("01_x.ipynb")
        os.chdir(source)
    (source / "folder" / "01_x.ipynb").mkdir()
    (source / "loop" / "01_x.ipynb").symlink_to("01_x.ipynb")
    (source / "away").rmdir()
    (source / "away").symlink_to("/etc")
    os.mkfifo(source / "zip" / "w.zip")
    os.mkfifo(source / "top_1_2_01_x.ipynb")
    deep = source / "deep" / "/".join("d" * 60)
    deep.mkdir(parents=True)
    found = {student: s for (student, _), s in rows(source).items()}
    assert set(found) == {"zoe", "pipe", "socket", "folder", "loop", "away", "zip", "deep", "top"}
    for student in ("pipe", "socket", "loop", "away", "zip", "top"):
        assert "a link or device" in found[student].problem
    assert "an empty folder" in found["folder"].problem
    assert "nested too deep" in found["deep"].problem
    assert found["zoe"].raw


UNREADABLE = """
import encodings.utf_8_sig, os, sys
from pathlib import Path
from course_utils.grading.submissions import collect
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for one in collect(Path(sys.argv[1]), ["01"]):
    print(one.student, bool(one.raw), one.problem, sep="|")
"""


def test_what_one_may_not_read_is_a_row(tmp_path):
    """As an ordinary user; root, who may read all, becomes one for it."""
    source = fill(
        tmp_path / "in", {f"{s}/01_x.ipynb": marked("01") for s in ("ada", "bob", "carl")}
    )
    (source / "dora").mkdir()
    (source / "dora" / "inner").mkdir()
    (source / "ada" / "01_x.ipynb").chmod(0)
    (source / "bob").chmod(0)
    (source / "dora" / "inner").chmod(0)
    command = [sys.executable, "-c", UNREADABLE, str(source)]
    if os.geteuid() == 0:
        for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    for name in ("bob", "dora/inner"):
        (source / name).chmod(0o755)
    found = {row.split("|")[0]: row.split("|")[1:] for row in done.stdout.splitlines()}
    assert set(found) == {"ada", "bob", "carl", "dora"}, done.stderr
    assert found["carl"][0] == "True"
    for student in ("ada", "bob", "dora"):
        assert found[student][0] == "False"
        assert "cannot be read: Permission denied" in found[student][1]


# -- memory does not depend on what was handed in ----------------------------------------------


def bomb() -> bytes:
    """1.8 MB with 60 notebooks of 31 MB each."""
    text = marked("01")[:-1] + " " * 31_000_000 + "}"
    return packed({f"{n:02}/01_x.ipynb": text for n in range(60)})


HUNGRY = {
    "many large notebooks": bomb,
    "many files": lambda: packed({f"{n}.txt": "" for n in range(60_000)}),
    "brackets": lambda: packed({"01_x.ipynb": '{"cells": [' + "[]," * 10_000_000 + "[]]}"}),
    "commas": lambda: packed({"01_x.ipynb": '{"cells": [' + "1," * 15_000_000 + "1]}"}),
    "nested": lambda: packed({"w.zip": "PK" * 30_000_000, "01_x.ipynb": "01"}),
    "code": lambda: packed({"01_x.ipynb": marked("01", "x" * 30_000_000)}),
    "cells": lambda: packed({"01_x.ipynb": many_cells(200_000)}),
}


def many_cells(count: int) -> str:
    cell = '{"cell_type": "code", "source": "", "metadata": {}}'
    return f'{{"cells": [{", ".join([cell] * count)}]}}'


MEASURED = """
import resource, sys
from pathlib import Path
from course_utils.grading.submissions import collect
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = collect(Path(sys.argv[1]), ["01"])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, sum(len(s.raw) for s in found) // 1024, *(s.student for s in found))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts in kilobytes")
@pytest.mark.parametrize("kind", HUNGRY)
def test_a_small_archive_is_no_large_memory(tmp_path, kind):
    """Seen: 1.8 MB drove the grader to 1.8 GB. Five such students, one honest neighbour."""
    raw = HUNGRY[kind]()
    assert len(raw) < 8_000_000
    files = {f"student{n}_{n}_{n}_w.zip": raw for n in range(5)} | {
        "zoe_9_9_01_x.ipynb": marked("01")
    }
    source = zipped(tmp_path, files)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(source)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    grown, held, *students = done.stdout.split()
    assert students == [*(f"student{n}" for n in range(5)), "zoe"]
    assert int(grown) < 450
    assert int(held) < 6_000


def test_ways_of_packing_that_need_much_memory_are_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("01_x.ipynb", marked("01"))
    found = rows(zipped(tmp_path, {"ada/w.zip": file.getvalue(), "bob/01_x.ipynb": marked("01")}))
    assert "not deflate" in found["ada", "01"].problem


def test_a_member_that_is_larger_than_it_says(tmp_path):
    raw = packed({"01_x.ipynb": marked("01") + " " * 1_000_000})
    size = (len(marked("01")) + 1_000_000).to_bytes(4, "little")
    lying = raw.replace(size, (10).to_bytes(4, "little"))
    assert lying != raw
    found = rows(zipped(tmp_path, {"ada/w.zip": lying, "bob/01_x.ipynb": marked("01")}))
    assert not found["ada", "01"].raw
    assert found["bob", "01"].raw


def test_empty_archives_and_folders_are_rows(tmp_path):
    files = {
        "ada/w.zip": packed({}),
        "bob/.DS_Store": "",
        "carl/": "",
        "zoe/01_x.ipynb": marked("01"),
    }
    found = {student: s for (student, _), s in rows(zipped(tmp_path, files)).items()}
    assert set(found) == {"ada", "bob", "carl", "zoe"}
    assert "an empty zip file" in found["ada"].problem
    assert "an empty folder" in found["bob"].problem
    assert "an empty folder" in found["carl"].problem


# -- given cells -----------------------------------------------------------------------------------


def given(*sources, kind="code", name="check_train"):
    mark = {"nbgrader": {"grade_id": name, "locked": True}}
    cells = [{"cell_type": kind, "source": s, "metadata": mark} for s in sources]
    cells += [
        {
            "cell_type": "code",
            "source": f'check("{item.name}", {item.target})',
            "metadata": {"nbgrader": {"grade_id": f"check_{item.target}", "locked": True}},
        }
        for item in ITEMS
        if item.target != "train"
    ]
    return read_cells(json.dumps({"cells": cells}).encode())[0]


CHECK = 'check("01.train", train)'


@pytest.mark.parametrize(
    ("cells", "said", "forged"),
    [
        (given(CHECK), False, False),
        (given("check('01.train',train)  # mine"), False, False),
        (given(CHECK, CHECK), True, False),  # a copy
        (given(CHECK, kind="markdown"), True, False),
        (given(), True, False),
        (given(""), True, False),
        (given("# " + CHECK), True, False),
        (given("# later ✓ " + CHECK), True, False),
        (given("print('✓ 01.train: right on all 5 cases (6 points)')"), True, True),
        (given(CHECK, "print('✓')"), True, True),
    ],
)
def test_what_is_said_of_given_cells(cells, said, forged):
    found, accused = given_cells_changed(cells, ITEMS)
    assert bool(found) == said
    assert accused == forged
