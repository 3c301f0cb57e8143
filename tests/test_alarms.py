"""Charts for a stream that falls: by hand, by formula, and as rare as they were set."""

from __future__ import annotations

import numpy as np
import pytest

from course_utils.alarms import (
    cusum,
    ewma,
    first_alarm,
    limit_for,
    quiet_streams,
    run_length,
    standardised,
)

NOISE = np.random.default_rng(0).normal(size=(200, 1500))


def test_cusum_of_many_streams_is_that_of_each():
    plain = []
    for row in NOISE[:3, :50]:
        total, chart = 0.0, []
        for z in row:
            total = max(0.0, total - z - 0.5)
            chart.append(total)
        plain.append(chart)
    assert np.allclose(cusum(NOISE[:3, :50]), plain)


def test_standardised_is_in_standard_deviations_of_history():
    history = [1.0, 3.0, 5.0, 7.0]  # mean 4, standard deviation 5 ** 0.5
    assert standardised([4.0, 9.0], history) == pytest.approx([0, 5**0.5])


def test_leading_axes_are_streams_of_their_own():
    streams = NOISE[:6, :50].reshape(2, 3, 50)
    for chart in (cusum, ewma):
        found = first_alarm(chart(streams), 1.0)
        assert found.tolist() == [[int(first_alarm(chart(z), 1.0)) for z in row] for row in streams]


def test_ewma_is_a_sum_of_fading_weights():
    z = NOISE[0, :40]
    weights = 0.2 * 0.8 ** np.arange(40)[::-1]
    assert ewma(z, 0.2)[-1] == pytest.approx(-(weights @ z))
    assert np.allclose(ewma(z, 1), -z)  # the last value alone


def test_a_fall_raises_both_and_a_rise_neither():
    fall, rise = np.full(30, -1.0), np.full(30, 1.0)
    for chart in (cusum, ewma):
        assert chart(fall)[-1] > 0.9
        assert chart(rise).max() <= 0


@pytest.mark.parametrize("chart", [cusum, ewma])
def test_false_alarms_are_as_rare_on_fresh_streams_as_they_were_set(chart):
    quiet = np.random.default_rng(1).gamma(3, size=300)  # skewed, as no formula assumes
    z = standardised(quiet, quiet)
    limit = limit_for(chart(quiet_streams(z, 300, 1500, seed=2)), 150)
    fresh = run_length(chart(quiet_streams(z, 300, 1500, seed=3)), limit)
    assert 120 < fresh < 185


def test_the_limit_of_normal_noise_is_that_of_the_tables():
    """Allowance 0.5 and limit 4: one alarm in 336 values, one-sided (Siegmund's approximation)."""
    assert 270 < run_length(cusum(NOISE), 4.0) < 410
    assert limit_for(cusum(NOISE), 336) == pytest.approx(4.0, abs=0.2)


def test_a_limit_just_below_would_give_too_many():
    chart = cusum(NOISE[:50])
    limit = limit_for(chart, 100)
    assert run_length(chart, limit) >= 100
    lower = np.unique(chart)[np.searchsorted(np.unique(chart), limit) - 1]
    assert run_length(chart, lower) < 100


def test_a_shift_is_found_and_the_sooner_the_larger_it_is():
    when = []
    for fall in (0.5, 1.0, 2.0):
        streams = NOISE.copy()
        streams[:, 50:] -= fall
        found = first_alarm(cusum(streams), 4.0)
        when.append((found[found > 50] - 50).mean())
    assert when[0] > 2 * when[1] > 3 * when[2]


def test_a_stream_without_alarm_ends_after_itself():
    assert first_alarm(np.zeros((2, 7)), 1.0).tolist() == [8, 8]
    assert run_length(np.zeros((2, 7)), 1.0) == np.inf


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: standardised([1.0], [2.0, 2.0]), "differ"),
        (lambda: standardised([1.0], [2.0]), "two values"),
        (lambda: standardised([1.0], [[1.0, 2.0]]), "two values"),
        (lambda: limit_for(cusum(NOISE[:2, :20]), 0.5), "wanted must be at least 1"),
        (lambda: ewma([1.0], weight=1.5), "at most 1"),
        (lambda: ewma([1.0], weight=0), "above 0"),
        (lambda: cusum([1.0], allowance=-1), "allowance"),
        (lambda: limit_for(cusum(NOISE[:2, :20]), 10_000), "too short or too few"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_streams_that_end_without_an_alarm_count_as_time_that_was_watched():
    """One value in fifty passes the limit; most streams of 30 end before that."""
    chart = np.random.default_rng(4).random((4000, 30))
    assert 46 < run_length(chart, 0.98) < 54
