"""Money over time: what a lock-up costs, held against an option priced by quadrature."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from env.networks import vesting


def test_finnerty_grows_with_time_and_volatility() -> None:
    years = [vesting.finnerty_discount(1.0, y) for y in (0.0, 1e-5, 1e-4, 0.01, 0.25, 1, 5, 29, 31)]
    assert years[0] == 0.0
    assert all(a <= b for a, b in itertools.pairwise(years))
    vols = [vesting.finnerty_discount(v, 0.5) for v in (0.2, 0.5, 1.0, 2.0)]
    assert all(a < b for a, b in itertools.pairwise(vols))
    # short lock-ups: v^2 -> sigma^2 T / 3, so D -> sigma sqrt(T / 3) / sqrt(2 pi)
    assert vesting.finnerty_discount(0.1, 0.5) == pytest.approx(0.1 / math.sqrt(12 * math.pi), 1e-2)


@pytest.mark.parametrize("variance", [0.04, 0.5, 2.0])
def test_finnerty_is_an_option_to_exchange_the_average_price_for_the_last(variance: float) -> None:
    # both lognormal by their moments, by quadrature: E[A^2] = mean of e^(s min(u, v)) and
    # E[A S] = mean of e^(s u), so v^2 = s + ln E[A^2] - 2 ln E[A S]
    u = (np.arange(2000) + 0.5) / 2000
    average = np.mean(np.exp(variance * np.minimum(u[:, None], u[None, :])))
    spread = variance + math.log(average) - 2 * math.log(np.mean(np.exp(variance * u)))
    normal = statistics.NormalDist().cdf
    expected = normal(math.sqrt(spread) / 2) - normal(-math.sqrt(spread) / 2)
    ours = vesting.finnerty_discount(math.sqrt(variance), 1.0)
    assert ours == pytest.approx(expected, rel=1e-3)


def test_lockup_discount_averages_its_tranches() -> None:
    later = vesting.lockup_discount(((1.0, 8760, 0),), 1.0)
    assert later == pytest.approx(vesting.finnerty_discount(1.0, 1.0))
    linear = vesting.lockup_discount(((1.0, 0, 8760),), 1.0)
    steps = np.linspace(0, 1, 20_001)[1:]
    mean = np.mean([vesting.finnerty_discount(1.0, float(s)) for s in steps])
    assert linear == pytest.approx(float(mean), rel=2e-3)
    assert vesting.lockup_discount(((0.5, 0, 8760),), 1.0) == pytest.approx(linear / 2)
    assert vesting.lockup_discount((), 1.0) == 0.0
