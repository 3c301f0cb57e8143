"""How outputs become answers: as the model's record says, or as usual where it says nothing."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from fastapi.testclient import TestClient

from course_utils.artefacts import load_artefact, made_of, trained
from course_utils.models import SentenceClassifier
from course_utils.serving.app import make_app
from course_utils.serving.limits import Limits
from course_utils.serving.predictor import Predictor
from course_utils.serving.rules import Rules, rules_of
from tests.serving import OUTPUTS, PATIENT, make, tiny_artefact, wait_until

TEXTS = ["Good.", "A dull film, and far too long for what it has to say.", "bad " * 60, "fine"]
CLASSES = {"kind": "classes", "max_tokens": 32}


def two() -> SentenceClassifier:
    """The tiny model with two outputs."""
    model = SentenceClassifier(make().encoder, 2).eval()
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.classifier.weight, std=2.0, generator=generator)
    return model


@pytest.fixture(scope="module")
def four_outputs(tmp_path_factory):
    return load_artefact(tiny_artefact(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def two_outputs(tmp_path_factory):
    record = made_of({"lr": 0.1}, two, data="d")
    cache = tmp_path_factory.mktemp("cache")
    return trained("two", two, record, ("rating", "bad"), cache=cache)


def with_use(artefact, **use):
    """The artefact as if its record had these rules."""
    return replace(artefact, record=artefact.record | {"use": use})


def logits_of(artefact, text: str, max_tokens: int = 32) -> torch.Tensor:
    encoded = artefact.tokenizer(
        [text], return_tensors="pt", truncation=True, max_length=max_tokens
    )
    with torch.no_grad():
        [logits] = artefact.model(encoded["input_ids"], encoded["attention_mask"]).logits
    return logits.double()


def test_without_rules_a_rating_is_a_number_and_the_rest_are_classes(four_outputs):
    predict = Predictor(four_outputs)
    logits = logits_of(four_outputs, TEXTS[1], 128)
    [found] = predict([TEXTS[1]])
    assert found.rating == pytest.approx(float(logits[0]), abs=1e-5)
    shares = dict(zip(OUTPUTS[1:], logits[1:].softmax(0).tolist(), strict=True))
    assert found.probabilities == pytest.approx(shares, abs=1e-5)
    assert (predict.max_tokens, found.tags) == (128, None)
    assert predict.card()["kind"] == "classes and rating"


def test_the_temperature_of_the_record_is_used(four_outputs):
    names = list(OUTPUTS)
    artefact = with_use(four_outputs, **CLASSES, names=names, temperature=2.5, threshold=None)
    for text, found in zip(TEXTS, Predictor(artefact)(TEXTS), strict=True):
        shares = (logits_of(artefact, text) / 2.5).softmax(0).tolist()
        assert found.probabilities == pytest.approx(
            dict(zip(OUTPUTS, shares, strict=True)), abs=1e-5
        )
        assert found.label == max(found.probabilities, key=found.probabilities.get)
        assert found.rating is None  # a class may have this name


def test_texts_are_cut_where_the_record_says(four_outputs):
    [found] = Predictor(with_use(four_outputs, kind="classes", max_tokens=16))([TEXTS[2]])
    assert (found.tokens, found.truncated) == (16, True)


@pytest.mark.parametrize("positive", [0, 1])
def test_the_threshold_of_the_record_decides(two_outputs, positive):
    """Between any two texts; at most one of these thresholds decides as one half would."""
    name = two_outputs.outputs[positive]
    shares = [float(logits_of(two_outputs, text).softmax(0)[positive]) for text in TEXTS]
    ordered = sorted(shares)
    for threshold in [(low + high) / 2 for low, high in itertools.pairwise(ordered)]:
        rules = CLASSES | {"threshold": threshold, "positive": positive}
        found = [each.label for each in Predictor(with_use(two_outputs, **rules))(TEXTS)]
        assert [label == name for label in found] == [share >= threshold for share in shares]
    likelier = [each.label for each in Predictor(with_use(two_outputs, **CLASSES))(TEXTS)]
    assert likelier == [
        two_outputs.outputs[share < 0.5]
        for share in (float(logits_of(two_outputs, text).softmax(0)[0]) for text in TEXTS)
    ]


@pytest.mark.parametrize("threshold", [None, 0.2, 0.8])
def test_tags_are_each_said_for_themselves(four_outputs, threshold):
    artefact = with_use(
        four_outputs, kind="tags", max_tokens=32, temperature=1.5, threshold=threshold
    )
    for text, found in zip(TEXTS, Predictor(artefact)(TEXTS), strict=True):
        shares = (logits_of(artefact, text) / 1.5).sigmoid().tolist()
        assert list(found.probabilities.values()) == pytest.approx(shares, abs=1e-5)
        expected = [n for n, s in zip(OUTPUTS, shares, strict=True) if s >= (threshold or 0.5)]
        assert list(found.tags) == expected
        assert found.label is found.rating is None


def test_a_rating_is_a_number_whatever_its_name():
    said = rules_of(["stars"], {"kind": "rating", "max_tokens": 32}).say(torch.tensor([3.5]))
    assert (said.rating, said.label, said.tags, said.probabilities) == (3.5, None, None, {})


def test_at_the_threshold_it_is_said():
    logits = torch.zeros(2)  # one half each
    assert Rules({"a": 0, "b": 1}, threshold=0.5, positive="b").say(logits).label == "b"
    assert Rules({"a": 0, "b": 1}, several=True, threshold=0.5).say(logits).tags == ("a", "b")


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("classes", "must be an object"),
        (CLASSES | {"bias": 1}, r"not known here: \['bias'\]"),
        ({"kind": "classes"}, r"lack \['max_tokens'\]"),
        ({"max_tokens": 8}, r"lack \['kind'\]"),
        (CLASSES | {"kind": "spans"}, "kind of use must be one of"),
        (CLASSES | {"kind": ["tags"]}, "kind of use must be one of"),
        (CLASSES | {"names": ["b", "a"]}, r"name \['b', 'a'\], and the model's outputs are"),
        (CLASSES | {"names": 3}, "name 3, and the model's outputs are"),
        (CLASSES | {"max_tokens": 0}, "max_tokens must be at least 1"),
        (CLASSES | {"temperature": 0}, "temperature must be above 0"),
        (CLASSES | {"temperature": "1"}, "temperature must be above 0"),
        (CLASSES | {"threshold": 1.5, "positive": 0}, "threshold must be at most 1"),
        (CLASSES | {"threshold": 0.5}, "one of two classes"),
        (CLASSES | {"positive": 1}, "one of two classes"),
        (CLASSES | {"threshold": 0.5, "positive": 2}, "0 or 1, got 2"),
        (CLASSES | {"threshold": 0.5, "positive": "a"}, "positive must be a whole number"),
        ({"kind": "tags", "max_tokens": 8, "threshold": 0.5, "positive": 1}, "one of two classes"),
        ({"kind": "rating", "max_tokens": 8}, "a rating is one output"),
    ],
)
def test_rules_that_make_no_sense_are_refused(use, words):
    with pytest.raises(ValueError, match=words):
        rules_of(["a", "b"], use)


def test_a_threshold_among_three_classes_is_refused():
    with pytest.raises(ValueError, match="one of two classes"):
        rules_of(["a", "b", "c"], CLASSES | {"threshold": 0.5, "positive": 0})


def test_tags_reach_the_client_and_the_counters(four_outputs):
    artefact = with_use(four_outputs, kind="tags", max_tokens=32, threshold=0.0)
    with TestClient(make_app(lambda: Predictor(artefact), Limits(**PATIENT))) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        [found] = client.post("/predict", json={"texts": ["a"]}).json()["predictions"]
        assert (found["label"], found["tags"]) == (None, list(OUTPUTS))
        rules = {"kind": "tags", "max_tokens": 32, "temperature": 1.0, "threshold": 0.0}
        assert rules.items() <= client.get("/model").json().items()
        assert 'labels_total{label="neutral"} 1.0' in client.get("/metrics").text.splitlines()


def test_rules_are_read_from_the_record_on_disk(tmp_path):
    """As ``course finetune`` and others write them: beside what made the model."""
    record = made_of({"lr": 0.1}, make, data="d")
    use = CLASSES | {"names": list(OUTPUTS), "temperature": 3.0, "threshold": None}
    folder = trained("ruled", make, record | {"use": use}, OUTPUTS, cache=tmp_path).folder
    assert json.loads((folder / "record.json").read_text())["made_of"]["use"] == use
    predict = Predictor(load_artefact(folder))
    assert (predict.rules.temperature, predict.max_tokens) == (3.0, 32)


def test_a_folder_without_a_version_in_its_name_gets_one_from_its_record(tmp_path):
    folder = tiny_artefact(tmp_path)
    assert Predictor(load_artefact(folder)).version == folder.name
    plain = folder.rename(tmp_path / "model")
    version = Predictor(load_artefact(plain)).version
    assert version.startswith("model-")
    content = json.loads((plain / "record.json").read_text())
    content["made_of"]["recipe"]["lr"] = 0.2
    (plain / "record.json").write_text(json.dumps(content))
    assert Predictor(load_artefact(plain)).version != version
