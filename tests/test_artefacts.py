"""A trained model is found, made when it is missing or of other making, and never half there."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from course_utils import artefacts, movie_model
from course_utils.artefacts import code_hash, damage, load_artefact, made_of, trained
from course_utils.batching import collate
from course_utils.models import SentenceClassifier
from course_utils.sources import DataError
from course_utils.training import forward
from tests import tiny
from tests.processes import Running, give_up_rights

OUTPUTS = ("negative", "positive")


def make() -> SentenceClassifier:
    """A model with weights that only its making knows."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        attn_implementation="eager",
    )
    torch.manual_seed(5)
    return SentenceClassifier(BertModel(config), 2).eval()


def record(lr: float = 0.1) -> dict:
    return made_of({"lr": lr}, make, data="d")


class Counted:
    """`make`, and how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> SentenceClassifier:
        self.times += 1
        return make()


def test_it_is_made_once_and_says_the_same_afterwards(tmp_path, capsys):
    counted = Counted()
    first = trained("tiny", counted, record(), OUTPUTS, takes="a moment", cache=tmp_path)
    assert "Training tiny, once; it takes a moment. Why: it is not in the cache." in (
        capsys.readouterr().out
    )
    second = trained("tiny", counted, record(), OUTPUTS, cache=tmp_path)
    assert (counted.times, capsys.readouterr().out) == (1, "")
    assert second.outputs == OUTPUTS
    assert second.record == record()
    assert not second.model.training
    encoded = second.tokenizer(["A film.", "Bad"], padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    with torch.no_grad():
        logits = [m(ids, mask).logits for m in (make(), first.model, second.model)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_its_card_says_what_made_it_and_is_under_the_checksum(tmp_path):
    folder = trained("tiny", make, record(), OUTPUTS, cache=tmp_path).folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {folder.name}\n")
    assert "Gives: negative, positive." in card
    assert "lr 0.1" in card
    assert record()["encoder"] in card
    assert card.count("Not answered yet.") == 4
    (folder / "README.md").write_text("another")
    assert damage(folder) == "README.md is damaged (its checksum differs)"


def test_no_pickle_is_among_its_files(tmp_path):
    folder = trained("tiny", make, record(), OUTPUTS, cache=tmp_path).folder
    names = {file.name for file in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "record.json"} <= names
    assert not [name for name in names if name.endswith((".pt", ".bin", ".pkl", ".pickle"))]


def test_another_recipe_is_another_model_and_the_sentence_says_what_differs(tmp_path, capsys):
    counted = Counted()
    trained("tiny", counted, record(0.1), OUTPUTS, cache=tmp_path)
    capsys.readouterr()
    trained("tiny", counted, record(0.2), OUTPUTS, cache=tmp_path)
    assert counted.times == 2
    assert "made with other settings (recipe lr)" in capsys.readouterr().out
    trained("tiny", counted, record(0.1), OUTPUTS, cache=tmp_path)
    assert counted.times == 2  # the first is still there


def test_only_the_newest_are_kept(tmp_path):
    for step in range(artefacts.KEPT + 2):
        folder = trained("tiny", make, record(step + 1.0), OUTPUTS, cache=tmp_path).folder
        os.utime(folder, (step, step))
    trained("other", make, record(), OUTPUTS, cache=tmp_path)
    kept = [path.name for path in (tmp_path / "models").glob("tiny-*") if path.is_dir()]
    assert len(kept) == artefacts.KEPT


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_noticed_and_made_again(tmp_path, capsys, file):
    counted = Counted()
    folder = trained("tiny", counted, record(), OUTPUTS, cache=tmp_path).folder
    with (folder / file).open("r+b") as opened:
        opened.seek(100)
        opened.write(b"XX")
    assert damage(folder) == f"{file} is damaged (its checksum differs)"
    with pytest.raises(ValueError, match="damaged"):
        load_artefact(folder)
    capsys.readouterr()
    trained("tiny", counted, record(), OUTPUTS, cache=tmp_path)
    assert counted.times == 2
    assert f"{file} is damaged" in capsys.readouterr().out
    assert damage(folder) == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "record.json").unlink(),
        lambda folder: (folder / "record.json").write_text("{"),
        lambda folder: (folder / "record.json").write_text("[]"),
        lambda folder: (folder / "record.json").write_text('{"files": 3}'),
    ],
)
def test_a_folder_that_is_not_whole_is_made_again(tmp_path, spoil: Callable[[Path], object]):
    counted = Counted()
    folder = trained("tiny", counted, record(), OUTPUTS, cache=tmp_path).folder
    spoil(folder)
    assert "missing or cannot be read" in damage(folder)
    trained("tiny", counted, record(), OUTPUTS, cache=tmp_path)
    assert counted.times == 2


def test_training_that_fails_leaves_nothing(tmp_path):
    def fails() -> SentenceClassifier:
        raise FloatingPointError("the loss became nan")

    with pytest.raises(FloatingPointError):
        trained("tiny", fails, record(), OUTPUTS, cache=tmp_path)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] in ([], [".lock"])


def slow_and_counted(cache: Path, log: Path) -> float:
    def slow() -> SentenceClassifier:
        with log.open("a") as file:
            file.write("trained\n")
        time.sleep(1)
        return make()

    found = trained("tiny", slow, record(), OUTPUTS, cache=cache)
    return float(found.model.classifier.weight.sum())


def test_two_processes_that_ask_at_once_train_once(tmp_path):
    running = [Running(slow_and_counted, tmp_path, tmp_path / "log") for _ in range(3)]
    assert len({process.result() for process in running}) == 1
    assert (tmp_path / "log").read_text() == "trained\n"


def read_without_rights(cache: Path) -> str:
    give_up_rights()
    return trained("tiny", make, record(), OUTPUTS, cache=cache).outputs[1]


def ask_without_rights(cache: Path) -> str:
    give_up_rights()
    try:
        trained("tiny", make, record(9.0), OUTPUTS, cache=cache)
    except DataError as error:
        return str(error)
    return "no error"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="file permissions of POSIX")
def test_a_cache_that_cannot_be_written_serves_what_it_has(tmp_path):
    for folder in (tmp_path, *tmp_path.parents):  # pytest's are its own user's, workers' one deeper
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    folder = trained("tiny", make, record(), OUTPUTS, cache=tmp_path).folder
    assert Running(read_without_rights, tmp_path).result() == "positive"
    assert "COURSE_CACHE" in Running(ask_without_rights, tmp_path).result()
    assert damage(folder) == ""


def test_everything_that_decides_the_result_is_in_the_record(monkeypatch):
    before = record()
    assert set(before) == {"recipe", "code", "data", "encoder", "versions"}
    assert set(before["code"]) == {*artefacts.MODULES, "make"}
    assert len(before["encoder"]) == 64
    assert made_of({"lr": 0.1}, make, data="other") != before
    assert made_of({"lr": 0.1}, tiny.model, data="d")["code"]["make"] != before["code"]["make"]
    monkeypatch.setattr(artefacts, "versions", lambda: {"torch": "9", "transformers": "9"})
    assert record()["versions"] != before["versions"]
    original = artefacts._source_of
    monkeypatch.setattr(artefacts, "_source_of", lambda name: original(name) + "\nx = 1")
    assert record()["code"]["training"] != before["code"]["training"]


def test_comments_and_docstrings_do_not_train_anew():
    source = 'def f(x):\n    """Old."""\n    return x  # one\n'
    assert code_hash(source) == code_hash('def f(x):\n    """New."""\n\n    return x\n')
    assert code_hash(source) != code_hash(source.replace("return x", "return -x"))


@pytest.mark.parametrize("recipe", [{"lr": torch.tensor(1.0)}, {"f": make}])
def test_a_recipe_is_plain_data(recipe):
    with pytest.raises(ValueError, match="a recipe must be numbers"):
        made_of(recipe, make, data="d")


def test_a_record_is_text_that_people_can_read(tmp_path):
    folder = trained("tiny", make, record(), OUTPUTS, cache=tmp_path).folder
    content = json.loads((folder / "record.json").read_text())
    assert content["made_of"]["recipe"] == {"lr": 0.1}
    assert content["outputs"] == list(OUTPUTS)


def test_there_is_no_model_in_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="no usable model"):
        load_artefact(tmp_path)


def test_the_movie_model_trains_by_the_published_recipe(tmp_path, monkeypatch):
    """With a tiny encoder and few reviews; the real run is lesson 05's."""
    reviews = tiny.reviews(40)
    monkeypatch.setattr(movie_model, "load_corpus", lambda name: reviews)
    monkeypatch.setattr(
        movie_model, "load_classifier", lambda outputs, seed: _with_outputs(outputs)
    )
    found = movie_model.movie_model(tmp_path)
    assert found.outputs == ("rating", "negative", "neutral", "positive")
    assert found.record["recipe"]["lr"] == 1e-4
    assert found.record["recipe"]["epochs"] == 2
    encoded = found.tokenizer("A good film.")["input_ids"]
    assert len(encoded) == 6
    batch = collate([tiny_example(encoded)])
    assert forward(found.model, batch).shape == (1, 4)


def tiny_example(ids: list[int]):
    from course_utils.batching import Example

    return Example(0, ids, 0)


def _with_outputs(outputs: int) -> SentenceClassifier:
    return SentenceClassifier(make().encoder, outputs)
