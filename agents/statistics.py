"""Statistics of paired worlds: gap closed, its interval, robust means, and risk.

Arrays are float64: scores [S, W] of S training seeds in the same W worlds (a rule is one row),
hourly series [T, W]. Agarwal et al.: "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (NeurIPS 2021) is the source of the interquartile mean and the probability of
improvement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

LEVEL = 0.95  # of every interval
DAYS_PER_YEAR = 365.0  # networks pay on every day
_CHUNK = 1000  # resamples at a time, to bound memory


def resamples(worlds: int, count: int, seed: int = 0) -> Whole:
    """Worlds drawn with replacement, int64 [count, W].

    One draw serves all policies and all training seeds, so that every comparison stays paired and
    each seed keeps its weight (strata): the interval speaks of these seeds in new worlds.
    """
    return np.random.default_rng(seed).integers(worlds, size=(count, worlds))


def percentiles(draws: Floats) -> tuple[float, float]:
    """The interval that holds the middle LEVEL of bootstrap draws [K].

    Efron: "Bootstrap methods: another look at the jackknife" (Annals of Statistics, 1979).
    """
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(draws, (tail, 1.0 - tail))
    return float(low), float(high)


def paired_interval(difference: Floats, draws: Whole) -> tuple[float, float]:
    """Interval of the mean of paired differences [S, W], or [W]."""
    by_world = np.atleast_2d(difference).mean(0)
    return percentiles(by_world[draws].mean(1))


def gap_closed(policy: Floats, tuned: Floats, bound: Floats) -> float:
    """(J_policy - J_tuned) / (J_bound - J_tuned), a ratio of sums; policy [S, W], others [W].

    0 = no better than the tuned rule, 1 = the bound. Not a number where the bound leaves no room.
    """
    room = float((bound - tuned).sum())
    gain = float((np.atleast_2d(policy).mean(0) - tuned).sum())
    return gain / room if room > 0 else float("nan")


def gap_interval(policy: Floats, tuned: Floats, bound: Floats, draws: Whole) -> tuple[float, float]:
    """Interval of `gap_closed`; numerator and denominator are of the same worlds in each draw."""
    gain, room = np.atleast_2d(policy).mean(0) - tuned, bound - tuned
    rooms = room[draws].sum(1)
    if (rooms <= 0).any():
        return float("nan"), float("nan")
    return percentiles(gain[draws].sum(1) / rooms)


def iqm(scores: Floats) -> float:
    """Interquartile mean over seeds x worlds: the middle half, a mean trimmed by 25 % a side."""
    return float(_iqm(scores.ravel()[None])[0])


def iqm_interval(scores: Floats, draws: Whole) -> tuple[float, float]:
    """Interval of the interquartile mean of scores [S, W], or [W]."""
    rows = np.atleast_2d(scores)
    parts = [
        _iqm(np.moveaxis(rows[:, draws[k : k + _CHUNK]], 0, 1).reshape(-1, rows.size))
        for k in range(0, len(draws), _CHUNK)
    ]
    return percentiles(np.concatenate(parts))


def _iqm(rows: Floats) -> Floats:
    """Interquartile mean of each row [K, M]; a quarter is rounded down, as SciPy's trim_mean."""
    size = rows.shape[1]
    cut = size // 4
    return np.partition(rows, (cut, size - cut - 1), axis=1)[:, cut : size - cut].mean(1)


def probability_of_improvement(ours: Floats, theirs: Floats) -> float:
    """P(ours > theirs) averaged over worlds, over all pairs of seeds; a tie counts half.

    In each world the Mann-Whitney statistic over the number of pairs; ours [S, W], theirs [Q, W].
    """
    a, b = np.atleast_2d(ours)[:, None], np.atleast_2d(theirs)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def daily(hourly: Floats) -> Floats:
    """Sums over whole days, [D, W]; a series under a day is one day."""
    days = max(len(hourly) // 24, 1)
    whole = hourly[: days * 24]
    return whole.reshape(days, -1, hourly.shape[1]).sum(1)


def sharpe(days: Floats) -> Floats:
    """Annual Sharpe ratio of each world's daily profit [D, W] against zero: [W].

    mean / standard deviation x sqrt(365). The numerator is profit after all costs, capital on
    collateral included, so the riskless alternative is zero. Sharpe: "The Sharpe Ratio" (Journal of
    Portfolio Management, 1994). Not a number for fewer than two days.
    """
    if len(days) < 2:
        return np.full(days.shape[1], np.nan)
    return _ratio(days.mean(0), days.std(0, ddof=1))


def sortino(days: Floats) -> Floats:
    """The same over the downside deviation, the root mean square of daily losses: [W].

    Infinite in a world without a losing day. Sortino, Price: "Performance Measurement in a Downside
    Risk Framework" (Journal of Investing, 1994).
    """
    return _ratio(days.mean(0), np.sqrt((np.minimum(days, 0.0) ** 2).mean(0)))


def _ratio(mean: Floats, deviation: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean / deviation * np.sqrt(DAYS_PER_YEAR)


def cvar(values: Floats, share: float = 0.05) -> float:
    """Mean of the worst `share` of the values (conditional value at risk, of a profit).

    The value at the edge counts with the part of it that belongs to the tail. Rockafellar, Uryasev:
    "Optimization of Conditional Value-at-Risk" (Journal of Risk, 2000).
    """
    ranked = np.sort(values.ravel())
    tail = share * ranked.size
    whole = int(tail)
    edge = (tail - whole) * ranked[min(whole, ranked.size - 1)]
    return float((ranked[:whole].sum() + edge) / tail)


def drawdown(hourly: Floats, start: Floats) -> Floats:
    """Largest fall of equity from its peak so far, as a share of that peak: [W].

    hourly [T, W] profit, start [W] equity at hour 0, both USD.
    """
    equity = np.concatenate((start[None], start + hourly.cumsum(0)))
    peak = np.maximum.accumulate(equity)
    return ((peak - equity) / peak).max(0)
