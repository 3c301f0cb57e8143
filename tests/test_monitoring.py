"""The drift detector: silent as often as it promises, loud when the texts have changed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from course_utils.monitoring import Drift, DriftDetector, ks_distance

WINDOW = 100


def texts(generator: np.random.Generator, count: int, shift: float = 0.0) -> dict:
    """Signals as texts have them: skewed, whole, mostly zero, and dependent on each other."""
    length = generator.gamma(3.0, 8.0, count)
    return {
        "score": 1 / (1 + np.exp(-generator.normal(shift, 1, count) - length / 50)),
        "tokens": np.round(length),
        "unknown": generator.binomial(30, 0.005, count) / 30,
    }


@pytest.mark.parametrize("whole", [False, True])
def test_the_distance_is_scipys(whole):
    generator = np.random.default_rng(0)
    for _ in range(20):
        first, second = generator.normal(0, 3, 30), generator.normal(1, 3, 50)
        first, second = (np.round(first), np.round(second)) if whole else (first, second)
        expected = stats.ks_2samp(first, second).statistic
        assert ks_distance(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("size", [50, 200])
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_false_alarms_are_as_often_as_chosen(rate, size):
    """Over references as well as windows: both are samples."""
    generator, windows = np.random.default_rng(1), 300
    alarms = 0
    for seed in range(windows):
        detector = DriftDetector(texts(generator, size), rate, draws=200, seed=seed)
        alarms += detector.check(texts(generator, WINDOW)).alarm
    # At most as often; not much more rarely either, or changes would be missed.
    error = np.sqrt(rate * (1 - rate) / windows)
    assert rate - 4 * error - 0.01 < alarms / windows < rate + 3 * error


def test_more_signals_do_not_mean_more_false_alarms():
    generator = np.random.default_rng(2)
    alarms = 0
    for seed in range(200):
        reference = {str(i): generator.normal(size=200) for i in range(12)}
        detector = DriftDetector(reference, 0.1, draws=200, seed=seed)
        alarms += detector.check({k: generator.normal(size=WINDOW) for k in reference}).alarm
    assert 0.04 < alarms / 200 < 0.16  # twelve separate tests at this rate: 0.72


def test_rare_values_do_not_raise_an_alarm_by_being_new():
    """One text in 500 has an unknown token; often the reference has none, and the window one."""
    generator = np.random.default_rng(6)
    alarms = 0
    for seed in range(200):
        reference = {"unknown": generator.random(300) < 0.002}
        detector = DriftDetector(reference, 0.05, draws=200, seed=seed)
        alarms += detector.check({"unknown": generator.random(WINDOW) < 0.002}).alarm
    assert alarms / 200 < 0.09


def test_a_change_is_noticed_and_named():
    generator = np.random.default_rng(3)
    detector = DriftDetector(texts(generator, 1000), 0.01, draws=1000)
    found = [detector.check(texts(generator, WINDOW, shift=1.0)) for _ in range(20)]
    assert sum(drift.alarm for drift in found) >= 19
    assert {drift.changed[0] for drift in found if drift.alarm} == {"score"}


def test_another_script_is_noticed_by_its_unknown_tokens():
    generator = np.random.default_rng(4)
    detector = DriftDetector(texts(generator, 1000))
    window = texts(generator, WINDOW)
    window["unknown"][: WINDOW // 3] = 0.9
    assert detector.check(window).changed == ("unknown",)


def test_a_signal_that_never_moved():
    detector = DriftDetector({"unknown": np.zeros(500)})
    assert not detector.check({"unknown": np.zeros(WINDOW)}).alarm
    assert detector.check({"unknown": [0.0] * 80 + [0.5] * 20}).changed == ("unknown",)


def test_one_seed_gives_one_set_of_limits():
    reference = texts(np.random.default_rng(5), 400)
    window = texts(np.random.default_rng(6), 50)
    first, again, other = (
        DriftDetector(reference, 0.05, draws=500, seed=s).check(window) for s in (0, 0, 1)
    )
    assert first == again
    assert first.distances == other.distances
    assert first.limits != other.limits


def test_the_farthest_is_named_first():
    drift = Drift({"a": 0.3, "b": 0.5, "c": 0.1}, {"a": 0.2, "b": 0.2, "c": 0.2})
    assert drift.changed == ("b", "a")
    assert drift.alarm
    assert not Drift({"a": 0.2}, {"a": 0.2}).alarm


@pytest.mark.parametrize(
    ("reference", "keywords", "words"),
    [
        ({}, {}, "named signals"),
        ([1, 2], {}, "named signals"),
        ({"a": [1, 2, 3, 4], "b": [1, 2]}, {}, "one value per text"),
        ({"a": np.zeros((4, 2))}, {}, "one value per text"),
        ({"a": [1, 2, np.nan, 3]}, {}, "must be complete"),
        ({"a": [1, 2, 3, 4]}, {"false_alarm": 0.001}, "take 10000 or more"),
        ({"a": [1, 2, 3, 4]}, {"false_alarm": 1}, "between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(reference, keywords, words):
    with pytest.raises(ValueError, match=words):
        DriftDetector(reference, **keywords)


def test_a_window_must_be_like_the_reference():
    detector = DriftDetector({"a": np.arange(10)})
    with pytest.raises(ValueError, match=r"expected the signals \['a'\], got \['b'\]"):
        detector.check({"b": [1, 2, 3]})
    with pytest.raises(ValueError, match="must be complete"):
        detector.check({"a": [1, np.nan]})
