"""A claim can fail; that is its use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course_utils.claims import ClaimError, Claims


@pytest.mark.parametrize(
    "true", [True, 2 > 1, np.bool_(True), np.array(True), torch.tensor(True), torch.ones(1).all()]
)
def test_a_true_statement_is_printed_and_remembered(true, capsys):
    claim = Claims()
    claim(true, "one thing holds")
    assert capsys.readouterr().out == "✓ one thing holds\n"
    assert claim.shown == ["one thing holds"]


@pytest.mark.parametrize("false", [False, np.bool_(False), np.array(False), torch.tensor(False)])
def test_a_false_statement_stops_the_notebook_with_the_statement(false, capsys):
    claim = Claims()
    with pytest.raises(ClaimError, match="not true here: one thing holds"):
        claim(false, "one thing holds")
    assert claim.shown == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "condition",
    [
        0.844,  # claim(accuracy, ...) where claim(accuracy > 0.8, ...) was meant
        1,
        0,
        "yes",
        None,
        [True],
        np.array(0.9),
        torch.tensor(0.9),
        np.array([True, True]),
        torch.tensor([True]),
        np.float64(1.0),
    ],
)
def test_what_is_not_a_truth_value_is_refused(condition):
    claim = Claims()
    with pytest.raises(TypeError, match="one True or False, got"):
        claim(condition, "accuracy is high")
    assert claim.shown == []


def test_the_summary_lists_each_statement_once_in_order(capsys):
    claim = Claims()
    for statement in ("first", "second", "first"):  # a cell that was run twice
        claim(True, statement)
    capsys.readouterr()
    claim.summary()
    assert capsys.readouterr().out == (
        "What we showed, each line checked above:\n1. first\n2. second\n"
    )


def test_two_lessons_do_not_share_their_claims():
    claim = Claims()
    claim(True, "mine")
    assert Claims().shown == []
