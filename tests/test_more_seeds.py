"""More seeds for a lesson's comparison: the lesson's own code, with one number changed."""

from __future__ import annotations

import pytest

from benchmarks.more_seeds import code_with


@pytest.mark.parametrize("lesson", ["11a_few_labels", "15_trust", "16b_recommendation"])
def test_only_the_number_of_seeds_differs(lesson):
    eight, nine = (code_with(lesson, n).splitlines() for n in (8, 9))
    [changed] = [pair for pair in zip(eight, nine, strict=True) if pair[0] != pair[1]]
    assert changed[1] == changed[0].replace("range(8)", "range(9)")
    compile("\n".join(eight), lesson, "exec")


@pytest.mark.parametrize("lesson", ["01_gradients", "08_overfitting"])
def test_a_lesson_without_such_a_number_is_refused(lesson):
    with pytest.raises(ValueError, match="must say SEEDS = range"):
        code_with(lesson, 8)
