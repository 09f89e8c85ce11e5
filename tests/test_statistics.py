"""Statistics of paired worlds against SciPy and arithmetic written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from agents import statistics
from agents.statistics import Floats

RNG = np.random.default_rng(0)
SHAPES = st.tuples(st.integers(1, 5), st.integers(4, 40))
SERIES = arrays(np.float64, SHAPES, elements=st.floats(-9, 9))


def draws(worlds: int, count: int = 4000) -> statistics.Whole:
    return statistics.resamples(worlds, count)


def test_gap_closed_is_the_ratio_of_sums_not_the_mean_of_ratios() -> None:
    policy, tuned, bound = np.array([5.0, 2.0]), np.array([4.0, 2.0]), np.array([6.0, 8.0])
    # (5 + 2 - 4 - 2) / (6 + 8 - 4 - 2) = 1 / 8, where the mean of ratios would be (1/2 + 0/6) / 2
    assert statistics.gap_closed(policy, tuned, bound) == 1 / 8
    assert statistics.gap_closed(tuned, tuned, bound) == 0.0
    assert statistics.gap_closed(bound, tuned, bound) == 1.0


def test_gap_closed_of_several_seeds_is_that_of_their_mean() -> None:
    tuned, bound = np.array([4.0, 2.0]), np.array([6.0, 8.0])
    seeds = np.array([[5.0, 2.0], [7.0, 4.0]])
    each = [statistics.gap_closed(row, tuned, bound) for row in seeds]  # 1/8 and 5/8
    assert statistics.gap_closed(seeds, tuned, bound) == pytest.approx(np.mean(each)) == 3 / 8


def test_without_room_below_the_bound_nothing_is_said() -> None:
    worlds = np.ones(8)
    assert np.isnan(statistics.gap_closed(worlds + 1, worlds, worlds))
    assert np.isnan(statistics.gap_interval(worlds + 1, worlds, worlds, draws(8))).all()


def test_a_gap_that_is_the_same_in_every_world_has_an_interval_of_no_width() -> None:
    """The worlds differ by thousands, the policy closes a quarter of the gap in each of them."""
    tuned = RNG.normal(scale=1e3, size=64)
    room = RNG.uniform(1.0, 5.0, size=64)
    interval = statistics.gap_interval(tuned + room / 4, tuned, tuned + room, draws(64))
    assert interval == pytest.approx((0.25, 0.25))


def test_the_gap_interval_agrees_with_scipys_bootstrap_of_the_ratio() -> None:
    tuned = RNG.normal(size=100)
    room, gain = RNG.uniform(1.0, 3.0, size=100), RNG.normal(0.5, 1.0, size=100)
    ours = statistics.gap_interval(tuned + gain, tuned, tuned + room, draws(100, 20_000))
    theirs = stats.bootstrap(
        (gain, room),
        lambda g, r, axis: g.sum(axis) / r.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_interval_of_a_mean_agrees_with_scipy_and_with_the_normal_law() -> None:
    sample = RNG.lognormal(size=400)
    low, high = statistics.paired_interval(sample, draws(400, 20_000))
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.01)
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / 20, rel=0.05)


def test_intervals_narrow_with_worlds_and_widen_with_noise() -> None:
    noise = RNG.normal(size=1600)

    def width(gain: Floats) -> float:
        tuned = np.zeros(len(gain))
        low, high = statistics.gap_interval(gain, tuned, tuned + 10.0, draws(len(gain)))
        return high - low

    assert width(1 + noise[:100]) == pytest.approx(4 * width(1 + noise), rel=0.3)
    assert width(1 + 2 * noise[:100]) == pytest.approx(2 * width(1 + noise[:100]))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """400 experiments of 64 worlds with a true gap closed of 0.3."""
    shared = draws(64, 1000)
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        tuned, room = rng.normal(size=64), rng.uniform(1.0, 3.0, size=64)
        gain = 0.3 * room + rng.normal(scale=0.5, size=64)
        low, high = statistics.gap_interval(tuned + gain, tuned, tuned + room, shared)
        covered += low <= 0.3 <= high
    assert 0.90 < covered / 400 < 0.98


@given(scores=SERIES)
@settings(max_examples=50, deadline=None)
def test_the_interquartile_mean_is_scipys_trimmed_mean(scores: Floats) -> None:
    theirs = stats.trim_mean(scores, proportiontocut=0.25, axis=None)
    assert statistics.iqm(scores) == pytest.approx(theirs, abs=1e-12)


def test_the_interval_of_the_interquartile_mean_is_a_bootstrap_of_whole_worlds() -> None:
    scores = RNG.normal(size=(3, 50)) + RNG.normal(scale=5.0, size=50)
    index = draws(50, 300)
    values = [stats.trim_mean(scores[:, row], 0.25, axis=None) for row in index]
    expected = np.quantile(values, (0.025, 0.975))
    assert statistics.iqm_interval(scores, index) == pytest.approx(tuple(expected))


def test_probability_of_improvement_is_the_mann_whitney_statistic_of_each_world() -> None:
    ours = RNG.integers(0, 4, size=(4, 30)).astype(float)  # with ties
    theirs = RNG.integers(0, 4, size=(3, 30)).astype(float)
    each = [stats.mannwhitneyu(a, b).statistic / 12 for a, b in zip(ours.T, theirs.T, strict=True)]
    assert statistics.probability_of_improvement(ours, theirs) == pytest.approx(np.mean(each))
    assert statistics.probability_of_improvement(theirs, theirs[::-1]) == pytest.approx(0.5)


def test_a_day_is_24_hours_and_what_is_left_of_one_is_left_out() -> None:
    hourly = np.ones((50, 3))
    np.testing.assert_array_equal(statistics.daily(hourly), np.full((2, 3), 24.0))
    np.testing.assert_array_equal(statistics.daily(hourly[:5]), np.full((1, 3), 5.0))


def test_sharpe_and_sortino_of_four_days_by_hand() -> None:
    days = np.array([[3.0], [-1.0], [1.0], [1.0]])
    # mean 1; deviations 2, -2, 0, 0: variance 8 / 3; one loss of 1 in four days: sqrt(1 / 4)
    assert statistics.sharpe(days) == pytest.approx(1 / np.sqrt(8 / 3) * np.sqrt(365))
    assert statistics.sortino(days) == pytest.approx(1 / 0.5 * np.sqrt(365))
    assert np.isinf(statistics.sortino(np.abs(days))).all()
    assert np.isnan(statistics.sharpe(days[:1])).all()


def test_the_conditional_value_at_risk_counts_the_edge_in_part() -> None:
    values = np.array([4.0, -2.0, 0.0, 6.0, 8.0, 1.0, 2.0, 3.0, 9.0, 5.0])
    assert statistics.cvar(values, 0.2) == (-2.0 + 0.0) / 2
    assert statistics.cvar(values, 0.25) == pytest.approx((-2.0 + 0.0 + 0.5 * 1.0) / 2.5)
    assert statistics.cvar(values, 0.05) == -2.0  # half of the worst value is all of the tail
    assert statistics.cvar(values, 1.0) == pytest.approx(values.mean())


def test_the_drawdown_is_the_deepest_fall_from_a_peak() -> None:
    hourly = np.array([[10.0, 1.0], [20.0, 1.0], [-39.0, 1.0], [50.0, 1.0], [-40.0, 1.0]])
    # equity 100, 110, 130, 91, 141, 101: falls of 39 / 130 and 40 / 141
    np.testing.assert_allclose(
        statistics.drawdown(hourly, np.array([100.0, 100.0])), [39 / 130, 0.0]
    )
