"""Label words after prompts: batched, cached and alone give one answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course_utils.generation import Wrapped
from course_utils.llama import load_llama
from course_utils.prompting import (
    Prompt,
    calibrate,
    label_scores,
    normalise,
    pad_left,
    word_ids,
)
from tests import tiny_decoders
from tests.test_llama import sharpen

TEXTS = ["the film", "other", "an end to all of the weather, the mother said", "then"]
PROMPT = Prompt((" bad", " Good"), before="It: ", after="\nSo:")


@pytest.fixture(scope="module", params=["ours", "gpt2"])
def model(request, tmp_path_factory):
    if request.param == "gpt2":
        return Wrapped(sharpen(tiny_decoders.gpt2()))
    folder = tmp_path_factory.mktemp("llama")
    sharpen(tiny_decoders.llama()).save_pretrained(folder)
    return load_llama(str(folder))


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_decoders.tokenizer(eos_token="<|im_end|>")


def words(tokenizer) -> Prompt:
    """Single-character tokens: the space before a word is one here, and the same for all."""
    return Prompt(("b", "G"), before=PROMPT.before, after=PROMPT.after)


@pytest.mark.parametrize("shots", ["", "the other\nSo:b\n\n"])
def test_scores_are_those_of_each_text_alone(model, tokenizer, shots):
    prompt = Prompt(("b", "G"), before="It: ", after="\nSo:", shots=shots)
    scores = label_scores(model, tokenizer, TEXTS, prompt, batch_size=3)
    asked = word_ids(tokenizer, prompt.words)
    for text, row in zip(TEXTS, scores, strict=True):
        ids = tokenizer(shots, add_special_tokens=False)["input_ids"]
        ids += tokenizer(prompt.around(text), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits, _ = model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))
        expected = logits[0, -1].log_softmax(dim=-1)[asked]
        assert row.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_words_that_begin_alike_are_refused(tokenizer):
    with pytest.raises(ValueError, match="must begin with different tokens"):
        word_ids(tokenizer, (" bad", " Good"))  # both begin with the space's token


def test_a_prompt_solved_ends_in_its_answer():
    assert PROMPT.solved("a bore", 0) == "It: a bore\nSo: bad"


def test_padding_is_on_the_left():
    ids, mask = pad_left([[5, 6], [7], [8, 9, 10]], pad_id=3)
    assert ids.tolist() == [[3, 5, 6], [3, 3, 7], [8, 9, 10]]
    assert mask.tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 1]]


def test_calibration_makes_an_empty_text_undecided():
    reference = np.log([[0.05, 0.15], [0.02, 0.03]])
    even = np.exp(calibrate(reference[:1], reference[:1]))
    assert even.tolist() == [[pytest.approx(0.5), pytest.approx(0.5)]]
    scores = np.log(np.random.default_rng(0).random((5, 2)))
    calibrated = calibrate(scores, reference)
    assert np.exp(calibrated).sum(axis=1) == pytest.approx(1)
    # By the formula: each probability divided by the mean one of the references.
    mean = np.array([[0.25, 0.75], [0.4, 0.6]]).mean(axis=0)
    divided = normalise(scores) / mean
    expected = divided / divided.sum(axis=1, keepdims=True)
    assert np.exp(calibrated) == pytest.approx(expected)


def test_calibration_keeps_the_order_of_texts():
    scores = np.log(np.random.default_rng(1).random((9, 2)))
    moved = calibrate(scores, np.log([[0.1, 0.6]]))
    margins = [x[:, 1] - x[:, 0] for x in (scores, moved)]
    assert (margins[0].argsort() == margins[1].argsort()).all()


def test_no_text_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="text"):
        label_scores(model, tokenizer, [], words(tokenizer))
