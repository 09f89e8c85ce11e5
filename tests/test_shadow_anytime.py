"""Laws of the confidence sequence: how often the verdict may be wrong, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from agents.anytime import FIRST_DAY, confidence_sequence, margin
from agents.statistics import Floats

YEAR = 365


def _series(noise: Floats, memory: float) -> Floats:
    """Autoregressive days of mean 0 from independent noise [W, D]."""
    days = noise.copy()
    for k in range(1, days.shape[1]):
        days[:, k] += memory * days[:, k - 1]
    return days[:, -YEAR:]


def _missed(days: Floats) -> float:
    """Share of the series whose interval misses the true mean 0 on at least one day of a year."""
    missed = 0
    for series in days:
        _, low, high = confidence_sequence(series)
        missed += bool(((low > 0) | (high < 0)).any())
    return missed / len(days)


@pytest.mark.parametrize(
    ("tails", "memory", "allowed"),
    [
        ("normal", 0.0, 0.05),
        ("normal", 0.3, 0.05),
        ("t3", 0.0, 0.05),
        ("t3", 0.3, 0.05),
        # beyond what it promises, the error doubles and no more: a memory of many days, gains of
        # every day paid for by rare losses (log-normal)
        ("normal", 0.6, 0.10),
        ("losses", 0.0, 0.10),
    ],
)
def test_the_truth_is_missed_on_any_day_of_a_year_no_more_often_than_promised(
    tails: str, memory: float, allowed: float
) -> None:
    """Optional stopping at its worst: whoever looks every day stops on the first wrong one."""
    generator = np.random.default_rng(1)
    size = (2000, YEAR + 60)
    noise = {
        "normal": lambda: generator.standard_normal(size),
        "t3": lambda: generator.standard_t(3, size),
        "losses": lambda: np.exp(0.5) - generator.lognormal(0.0, 1.0, size),
    }[tails]()
    assert _missed(_series(noise, memory)) <= allowed


def test_an_interval_for_one_day_is_wrong_when_it_is_watched() -> None:
    """The check above can fail: 1.96 standard errors miss in more than a third of the years."""
    days = np.random.default_rng(1).standard_normal((1000, YEAR))
    count = np.arange(1, YEAR + 1)
    means, errors = days.cumsum(1) / count, 1.96 / np.sqrt(count)
    assert (np.abs(means) > errors)[:, FIRST_DAY - 1 :].any(1).mean() > 0.33


def test_a_real_difference_is_found_in_time() -> None:
    """Half a standard deviation a day: within 90 days in more than eight of ten cases."""
    days = np.random.default_rng(2).standard_normal((500, 90)) + 0.5
    found = [confidence_sequence(series)[1][-1] > 0 for series in days]
    assert np.mean(found) > 0.8


def test_the_boundary_is_the_papers() -> None:
    """Worked by hand at t = 100, alpha = 0.05: r = (5.9915 + log 6.9915) / 60 = 0.13227."""
    grown = 100 * 0.132272 + 1
    by_hand = np.sqrt(2 * grown / (100**2 * 0.132272) * np.log(np.sqrt(grown) / 0.05))
    assert margin(np.array([100.0]))[0] == pytest.approx(by_hand, rel=1e-4)
    assert margin(np.array([100.0]))[0] == pytest.approx(0.3048, abs=2e-4)


def test_scale_and_shift_carry_over_and_no_interval_comes_early() -> None:
    days = np.random.default_rng(3).standard_normal(60)
    mean, low, high = confidence_sequence(days)
    for got, was in zip(confidence_sequence(1000.0 * days + 5e3), (mean, low, high), strict=True):
        assert got[FIRST_DAY:] == pytest.approx(1000.0 * was[FIRST_DAY:] + 5e3, rel=1e-6)
    assert np.isinf(low[: FIRST_DAY - 1]).all()
    assert np.isfinite(low[FIRST_DAY - 1 :]).all()
    assert (low[FIRST_DAY:] < mean[FIRST_DAY:]).all()


def test_a_series_without_variance_has_no_width() -> None:
    mean, low, high = confidence_sequence(np.full(40, 3.0))
    assert low[-1] == pytest.approx(3.0)
    assert high[-1] == pytest.approx(3.0)
    assert mean[-1] == pytest.approx(3.0)
