"""A mean that may be watched every day: a confidence sequence for a paired daily difference.

An ordinary interval is true at one sample size fixed in advance; who looks every day and stops when
it looks good is wrong far more often than it says. A confidence sequence holds at all days at once,
so that one may stop, go on or look again whenever one likes.
"""

from __future__ import annotations

import math

import numpy as np

from agents.statistics import LEVEL, Floats

FIRST_DAY = 28  # no interval before: the variance of fewer days is not known well enough
TIGHTEST_DAY = 60  # where the width is least for its level; it changes no guarantee
_PERSISTENCE = 0.95  # above which days would be taken for a trend


def margin(days: Floats, level: float = LEVEL) -> Floats:
    """Half-width in standard deviations of a day, after each number of days: the boundary of

        sqrt( 2 (t r + 1) / (t^2 r) * log( sqrt(t r + 1) / alpha ) ),    alpha = 1 - level,

    two-sided; r = (-2 log alpha + log(1 - 2 log alpha)) / TIGHTEST_DAY makes it tight near that
    day. Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: "Time-uniform central limit theory and
    asymptotic confidence sequences" (Annals of Statistics 52, 2024; arXiv:2103.06476), the Gaussian
    mixture boundary, after Robbins (1970).
    """
    alpha = 1.0 - level
    spread = (-2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha))) / TIGHTEST_DAY
    grown = days * spread + 1.0
    return np.sqrt(2.0 * grown / (days**2 * spread) * np.log(np.sqrt(grown) / alpha))


def confidence_sequence(values: Floats, level: float = LEVEL) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper end after each day of a daily series [D], which may have no day yet;
    infinite before FIRST_DAY.

    What it assumes, and what it makes of it:

    * asymptotic, as the central limit theorem is: days of finite variance whose mean does not move.
      Tails as heavy as Student's t with 3 degrees of freedom are covered. Small gains of every day
      paid for by rare losses are not quite: a year of log-normal losses is missed in 8 % of cases
      instead of 5. Room is left for one more day as extreme as the most extreme yet; a disaster of
      which there has been none is in no interval made of what there has been.
    * days may depend on each other, the effect fading as in a first-order autoregression (a fleet
      that once went elsewhere is elsewhere for days): the variance is that of the long run, never
      under that of independent days. Stronger memory, such as a season, is not covered.

    `tests/test_shadow.py` measures how often the true mean is missed on any day of a year.
    """
    count = np.arange(1.0, len(values) + 1.0)
    mean = values.cumsum() / count
    highest, lowest = np.maximum.accumulate(values), np.minimum.accumulate(values)
    extreme = np.maximum(highest - mean, mean - lowest)
    half = np.sqrt(_long_run_variance(values, count, mean)) * margin(count, level) + extreme / count
    half[: FIRST_DAY - 1] = np.inf
    return mean, mean - half, mean + half


def _long_run_variance(values: Floats, count: Floats, mean: Floats) -> Floats:
    """s^2 (1 + a) / (1 - a) after each day, with `a` the first autocorrelation, not under 0.

    The sample's autocorrelation is too small by about (1 + 3 a) / D, which is added back (Kendall:
    "Note on bias in the estimation of autocorrelation", Biometrika 1954).
    """
    total = values.cumsum()
    squares = np.maximum((values**2).cumsum() - total * mean, 0.0)
    products = np.concatenate(([0.0], values[1:] * values[:-1])).cumsum()
    ends = 2.0 * total - values - values[:1]  # sums of all but the last and of all but the first
    lagged = products - mean * ends + (count - 1.0) * mean**2
    found = np.maximum(lagged / np.maximum(squares, 1e-300), 0.0)
    memory = np.clip(found + (1.0 + 3.0 * found) / count, 0.0, _PERSISTENCE)
    return squares / np.maximum(count - 1.0, 1.0) * (1.0 + memory) / (1.0 - memory)
