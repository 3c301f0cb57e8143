"""The project's address: whoever publishes the course sets it everywhere with one command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import make
from tools import site
from tools.address import main, remote_address, set_address, web_address
from tools.notebooks import COLAB, ROOT, on_github, read_notebook, repository, tags

STAND_IN = "/".join(["fine-tuning-from-scratch"] * 2)  # so that this file does not hold it
git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git on this machine")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """What a clone of the project has, without its history."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                           capture_output=True)  # fmt: skip
    if names.returncode:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("published") / "course"
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    set_address(f"https://github.com/{STAND_IN}", folder)  # whatever it is in this checkout
    return folder


@pytest.fixture
def course(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "course")


def run(course: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the copy, with the copy's own code."""
    return subprocess.run([sys.executable, "-m", *command], cwd=course, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": ""})  # fmt: skip


def files_with(course: Path, words: str) -> list[str]:
    """The files that hold some words, tests not counted: they speak of addresses."""
    return sorted(
        path.relative_to(course).as_posix()
        for path in course.rglob("*")
        if path.is_file()
        and path.parent != course / "tests"
        and words.encode() in path.read_bytes()
    )


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:ada/course.git\n", "https://github.com/ada/course"),
        ("github.com:ada/course", "https://github.com/ada/course"),
        ("ssh://git@github.com/ada/course.git", "https://github.com/ada/course"),
        ("ssh://git@ssh.github.com:443/ada/course.git", "https://ssh.github.com/ada/course"),
        ("git://github.com/ada/course.git/", "https://github.com/ada/course"),
        ("https://github.com/ada/course.git", "https://github.com/ada/course"),
        ("https://github.com/ada/course/", "https://github.com/ada/course"),
        ("https://ada:ghp_secret@github.com/ada/course", "https://github.com/ada/course"),
        ("git@gitlab.com:group/sub/course.git", "https://gitlab.com/group/sub/course"),
        ("https://git.school.edu:8443/ada/course.git", "https://git.school.edu:8443/ada/course"),
    ],
)
def test_what_git_clones_becomes_what_a_browser_opens(remote, address):
    assert web_address(remote) == address
    assert web_address(address) == address


@pytest.mark.parametrize(
    "remote",
    ["", "/srv/git/course.git", "../course", "C:\\course", "C:/course", "file:///srv/course.git",
     "https://github.com", "https://github.com/", "localhost:ada/course", "ada/course",
     'https://github.com/ada/"course', "https://github.com/ada/my course"],
)  # fmt: skip
def test_what_is_not_on_the_web_is_refused(remote):
    with pytest.raises(ValueError, match="an address like"):
        web_address(remote)


@pytest.mark.slow
def test_one_command_leaves_no_stand_in(course):
    """All is in step afterwards, without an execution, and the second time nothing changes."""
    before = files_with(course, STAND_IN)
    assert len(before) > 15
    done = run(course, "tools.address", "git@github.com:ada/course.git")
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} files written" in done.stdout
    assert files_with(course, STAND_IN) == []
    assert files_with(course, "ada/course") == before
    readme = (course / "README.md").read_text(encoding="utf-8")
    assert "git clone https://github.com/ada/course\ncd course && make lab\n" in readme
    again = run(course, "tools.address", "https://github.com/ada/course")
    assert "everything leads there already" in again.stdout
    for tool in (["tools.notebooks", "check"], ["tools.exercises", "check"]):
        assert changed_verdicts(run(ROOT, *tool), run(course, *tool)) == []
    assert run(course, "tools.readme", "--check").returncode == 0


def changed_verdicts(*runs: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines of a check that are not the same in both runs; in step is in step in each."""
    there, here = (run.stdout.splitlines() for run in runs)
    assert len(there) > 5
    return sorted(set(there) ^ set(here))


def test_elsewhere_than_on_github_there_is_no_badge_and_the_cell_stays(course, tmp_path):
    set_address("https://gitlab.com/ada/course", course)
    assert files_with(course, STAND_IN) == []
    assert files_with(course, "colab.research.google.com/github") == ["tools/notebooks.py"]
    text = (course / "notebooks" / "01_gradients.ipynb").read_text(encoding="utf-8")
    assert "git+https://gitlab.com/ada/course" in text
    assert not on_github("https://gitlab.com/ada/course")
    pytest.importorskip("myst_nb", reason="the site's packages are missing: pip install -e .[site]")
    site.stage(course, tmp_path / "staged")
    assert '"launch_buttons": {},' in (tmp_path / "staged" / "conf.py").read_text(encoding="utf-8")


@git
def test_the_address_is_that_of_the_remote(course):
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:ada/course.git"]):
        subprocess.run(["git", "-C", str(course), *command], check=True)
    assert remote_address(course) == "https://github.com/ada/course"
    done = run(course, "tools.address")
    assert done.returncode == 0, done.stderr
    assert repository(course) == "https://github.com/ada/course"


@git
def test_without_a_remote_it_must_be_named(course):
    done = run(course, "tools.address")
    assert done.returncode == 1
    assert done.stderr == 'address: git knows no remote "origin" here: name the address\n'


def test_the_address_is_no_stand_in():
    """Said with every run of the tests, until whoever publishes the course sets it."""
    [line] = [each for each in make.project_file().splitlines() if each.startswith("Repository")]
    if line.endswith("# a stand-in"):
        pytest.xfail("badges, Colab cells and the README lead to a stand-in: say `make address`")
    assert STAND_IN not in line


@git
def test_a_clone_of_a_folder_is_told_what_is_needed(course):
    for command in (["init", "-q"], ["remote", "add", "origin", "/home/ada/course"]):
        subprocess.run(["git", "-C", str(course), *command], check=True)
    done = run(course, "tools.address")
    assert done.returncode == 1
    assert done.stderr.endswith("is needed, got '/home/ada/course'\n")


def test_a_bad_address_changes_nothing(capsys):
    before = (ROOT / "pyproject.toml").read_bytes()
    assert main(["not an address"]) == 1
    assert "an address like https://github.com/you/course" in capsys.readouterr().err
    assert (ROOT / "pyproject.toml").read_bytes() == before


def test_a_stand_in_is_said_until_it_is_replaced(course, monkeypatch, capsys):
    monkeypatch.setattr(make, "ROOT", course)
    project = course / "pyproject.toml"
    make.remind_of_address()
    assert capsys.readouterr().out == ""
    # As the project came: this line is what whoever publishes it has not changed yet.
    line = f'Repository = "https://github.com/{STAND_IN}"'
    text = project.read_text(encoding="utf-8")
    assert line in text
    project.write_text(text.replace(line, f"{line}  # a stand-in"), encoding="utf-8")
    make.remind_of_address()
    assert "make address" in capsys.readouterr().out
    set_address(f"https://github.com/{STAND_IN}", course)
    make.remind_of_address()
    assert capsys.readouterr().out == ""


def test_only_students_notebooks_have_the_cells(course):
    set_address("https://github.com/ada/course", course)
    for path in (course / "solutions").glob("*.ipynb"):
        assert not [cell for cell in read_notebook(path).cells if COLAB in tags(cell)]
    assert files_with(course / "solutions", "ada/course") == []
