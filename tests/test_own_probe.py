"""The head of a fine-tune begins as a linear model of the encoder's vectors, for every goal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from course_utils.batching import TokenizedDataset
from course_utils.models import load_classifier, load_tokenizer
from course_utils.own_data.goals import Goal
from course_utils.own_data.parts import Part
from course_utils.own_data.plans import Plan, Settings
from course_utils.own_data.probe import STRENGTH, begin_at_probe, linear_probe, vectors_of
from course_utils.own_data.tuning import fine_tune

VECTORS = np.random.default_rng(0).normal(size=(90, 5))
THREE = Goal("classes", ("a", "b", "c"), "")
TAGS = Goal("tags", ("x", "y", "z"), "")


def shares(weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    logits = torch.from_numpy(VECTORS @ weights.T + biases)
    return logits.softmax(dim=1).numpy()


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_get_the_probabilities_of_logistic_regression(classes):
    goal = Goal("classes", tuple("abc"[:classes]), "")
    targets = VECTORS[:, :classes].argmax(axis=1)
    found = linear_probe(goal, VECTORS, targets)
    expected = (
        LogisticRegression(C=STRENGTH, max_iter=300).fit(VECTORS, targets).predict_proba(VECTORS)
    )
    assert np.allclose(shares(*found), expected, atol=1e-6)


def test_a_class_without_a_row_is_the_least_likely_one():
    targets = np.where(VECTORS[:, 0] > 0, 2, 0)
    found = shares(*linear_probe(THREE, VECTORS, targets))
    assert (found.argmax(axis=1) != 1).all()
    assert (found[:, 1] < 0.3).all()


def test_each_tag_has_a_model_of_its_own_and_a_constant_one_its_share():
    targets = np.stack([VECTORS[:, 1] > 0, np.ones(90), np.zeros(90)], axis=1).astype(int)
    weights, biases = linear_probe(TAGS, VECTORS, targets)
    said = 1 / (1 + np.exp(-(VECTORS @ weights.T + biases)))
    assert ((said[:, 0] > 0.5) == targets[:, 0]).mean() > 0.9
    assert np.allclose(said[:, 1], 90.5 / 91)
    assert np.allclose(said[:, 2], 0.5 / 91)


def test_a_rating_is_ridge_regression():
    ratings = VECTORS @ np.arange(5.0) + 2
    weights, biases = linear_probe(Goal("rating", ("rating",), ""), VECTORS, ratings)
    expected = Ridge(alpha=1.0).fit(VECTORS, ratings).predict(VECTORS)
    assert np.allclose((VECTORS @ weights.T + biases)[:, 0], expected)


def test_the_model_says_what_the_probe_says_and_its_encoder_is_untouched():
    texts = ["a fine film", "fine and warm", "two hours of my life", "a dull film", "so dull"] * 4
    targets = np.array([1, 1, 0, 0, 0] * 4)
    goal = Goal("classes", ("bad", "good"), "")
    model, fresh = load_classifier(2, seed=1), load_classifier(2, seed=1)
    data = TokenizedDataset(texts, targets.tolist(), load_tokenizer())
    begin_at_probe(model, goal, data, targets)
    for name, weight in model.encoder.state_dict().items():
        assert torch.equal(weight, fresh.encoder.state_dict()[name])
    weights, biases = linear_probe(goal, vectors_of(model, data), targets)
    batch = load_tokenizer()(texts[:5], padding=True, return_tensors="pt")
    with torch.inference_mode():
        said = model(batch.input_ids, batch.attention_mask).logits
    vectors = vectors_of(fresh, data)[:5]
    assert np.allclose(said, vectors @ weights.T + biases, atol=0.05)  # bfloat16 where there is
    assert said.argmax(dim=1).tolist() == [1, 1, 0, 0, 0]
    assert isinstance(model.classifier, torch.nn.Linear)  # it was given back


@pytest.mark.parametrize("kind", ["classes", "rating"])
def test_a_fine_tune_that_hardly_learns_says_what_the_probe_says(kind):
    texts = ("a fine film", "fine and warm", "two hours of my life", "a dull film", "so dull") * 4
    classes, ratings = np.array([1, 1, 0, 0, 0] * 4), np.array([9.0, 8.0, 3.0, 2.0, 1.0] * 4)
    rating = kind == "rating"
    goal = Goal(kind, ("rating",) if rating else ("bad", "good"), "")
    part = Part(tuple(range(20)), texts, ratings if rating else classes)
    plan = Plan(rows=20, epochs=1, curve=(), seconds_per_text=0.1, seconds=1.0)
    settings = Settings(max_tokens=16, lr=1e-8)
    tuned = fine_tune(goal, part, part, settings, load_tokenizer(), plan, progress=False)
    if rating:
        assert np.allclose(tuned.logits[:, 0], ratings, atol=0.5)
    else:
        assert tuned.logits.argmax(axis=1).tolist() == classes.tolist()
