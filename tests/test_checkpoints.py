"""Checkpoints: whole or absent, everything in them, and never somebody's program."""

from __future__ import annotations

import os
import pickle
import random

import numpy as np
import pytest
import torch

from course_utils import checkpoints
from course_utils.checkpoints import RunFolder, random_state, save_atomically, set_random_state
from course_utils.history import History
from tests.processes import KILLED, Running, die

SETTINGS = {"lr": 2e-5, "epochs": 2}


def draws() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.normal()),
        float(torch.randn(())),
        float(torch.rand(3).sum()),
    ]


def test_every_generator_continues_where_it_was(tmp_path):
    random.gauss(0, 1)  # makes two numbers and keeps one: that, too, is state
    np.random.normal()
    save_atomically(random_state(), tmp_path / "state.pt")
    expected = draws()
    assert draws() != expected
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draws() == expected


def test_a_second_save_replaces_the_first_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "last.pt"
    for step in (1, 2):
        save_atomically({"step": step, "weights": torch.full((3,), step)}, path)
    found = torch.load(path, weights_only=True)
    assert found["step"] == 2
    assert found["weights"].tolist() == [2, 2, 2]
    assert os.listdir(tmp_path) == ["last.pt"]


def save_and_die(path, where: str) -> None:
    def half(content: object, file) -> None:
        file.write(b"the first half of it")
        file.flush()
        die()

    if where == "while writing":
        checkpoints.torch.save = half
    else:
        os.replace = die
    save_atomically({"step": 2}, path)


@pytest.mark.parametrize("where", ["while writing", "before renaming"])
def test_a_process_killed_while_saving_leaves_the_checkpoint_of_before(tmp_path, where):
    path = tmp_path / "last.pt"
    save_atomically({"step": 1}, path)
    assert Running(save_and_die, path, where).exit_code() == KILLED
    assert torch.load(path, weights_only=True) == {"step": 1}
    save_atomically({"step": 3}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert os.listdir(tmp_path) == ["last.pt"]


def test_what_cannot_be_saved_leaves_the_checkpoint_of_before(tmp_path):
    path = tmp_path / "last.pt"
    save_atomically({"step": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_atomically({"step": 2, "unsaveable": lambda: 0}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}


# --- the folder of a run ----------------------------------------------------------------------


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def existing(tmp_path):
    """A folder that holds a run of three steps."""
    run = RunFolder(tmp_path / "run", SETTINGS, resume=False)
    run.save_last({"history": History(stopped_early=True)})
    run.save_best({"weights": torch.ones(2)})
    return tmp_path / "run"


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_folder_is_made_and_holds_nothing_to_resume(tmp_path, resume):
    run = RunFolder(tmp_path / "a" / "b", SETTINGS, resume=resume)
    assert run.found is None
    assert (tmp_path / "a" / "b").is_dir()


def test_a_run_is_found_again(existing):
    run = RunFolder(existing, SETTINGS, resume=True)
    history = History()
    run.restore({"history": history})
    assert history == History(stopped_early=True)
    assert run.load_best()["weights"].tolist() == [1, 1]


def test_without_a_folder_nothing_is_kept_and_nothing_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(None, SETTINGS, resume=False)
    run.save_last({"history": History()})
    run.save_best({"weights": torch.ones(2)})
    assert run.found is None
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten_unasked(existing):
    before = contents(existing)
    with pytest.raises(ValueError, match=f"{existing} already holds a run: pass resume=True"):
        RunFolder(existing, SETTINGS, resume=False)
    assert contents(existing) == before


def test_settings_that_changed_are_named_with_both_values(existing):
    before = contents(existing)
    changed = {"lr": 3e-5, "epochs": 2, "warmup": 0.1}
    with pytest.raises(ValueError, match=r"lr was 2e-05, is 3e-05, warmup was None, is 0\.1$"):
        RunFolder(existing, changed, resume=True)
    assert contents(existing) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "another object", "weights"])
def test_a_damaged_checkpoint_is_named_and_left_alone(existing, damage):
    path = existing / "last.pt"
    whole = path.read_bytes()
    if damage == "another object":
        torch.save([1, 2], path)
    elif damage == "weights":
        path.write_bytes((existing / "best.pt").read_bytes())
    else:
        bad = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not a checkpoint"}
        path.write_bytes(bad[damage])
    before = contents(existing)
    with pytest.raises(ValueError, match=f"cannot read the checkpoint {path} .*move it away"):
        RunFolder(existing, SETTINGS, resume=True)
    assert contents(existing) == before


def test_damaged_or_missing_best_weights_are_named(existing):
    run = RunFolder(existing, SETTINGS, resume=True)
    run.best.write_bytes(b"half")
    with pytest.raises(ValueError, match=f"cannot read the checkpoint {run.best}"):
        run.load_best()
    run.best.unlink()
    with pytest.raises(ValueError, match=r"best\.pt \(FileNotFoundError\)"):
        run.load_best()


class Burglar:
    """What an unpickler would run on reading it."""

    def __init__(self, traces) -> None:
        self.traces = traces

    def __reduce__(self):
        return (os.mkdir, (str(self.traces),))


def test_a_checkpoint_from_elsewhere_cannot_run_code(existing, tmp_path):
    traces = tmp_path / "burgled"
    torch.save({"settings": SETTINGS, "state": Burglar(traces)}, existing / "last.pt")
    with pytest.raises(ValueError, match="cannot read the checkpoint"):
        RunFolder(existing, SETTINGS, resume=True)
    assert not traces.exists()
    torch.load(existing / "last.pt", weights_only=False)
    assert traces.exists(), "the burglar would have come in"
