"""Vesting: what tokens that unlock later are worth today.

A lock-up is priced as a discount for lack of marketability, by Finnerty's average-strike put.
"""

from __future__ import annotations

import math

from env.errors import InputError

HOURS_PER_YEAR = 8760.0
_STEPS = 64  # midpoints at which a linear unlock is averaged


def finnerty_discount(vol_annual: float, years: float) -> float:
    """Discount in [0, 0.3228) on a token that cannot be sold for `years`.

    John D. Finnerty, "An Average-Strike Put Option Model of the Marketability Discount", Journal of
    Derivatives 19(4), 2012: `D = N(v/2) - N(-v/2)` without dividends, where `v = v sqrt(T)` is
    `sqrt(s + ln(2 (e^s - s - 1)) - 2 ln(e^s - 1))`, `s = sigma^2 T`.
    """
    s = vol_annual * vol_annual * years
    if s <= 0:
        return 0.0
    if s < 1e-4:  # the logarithms cancel here; v^2 -> s / 3
        v2 = s / 3
    elif s > 30:  # e^s overflows later; v^2 -> ln 2
        v2 = math.log(2)
    else:
        v2 = s + math.log(2 * (math.exp(s) - s - 1)) - 2 * math.log(math.expm1(s))
    return math.erf(math.sqrt(v2) / (2 * math.sqrt(2)))


def unlock_hours(delay_h: float, linear_h: float) -> list[float]:
    """Hours after which equal parts of a tranche unlock: all at once, or one by one over a span."""
    return [delay_h + linear_h * (k + 0.5) / _STEPS for k in range(_STEPS)]


def lockup_discount(vesting: tuple[tuple[float, float, float], ...], vol_annual: float) -> float:
    """Discount on a payout, in [0, 0.3228), summed over its tranches (share, delay h, linear h).

    A linear unlock is the average over its span; what the tranches leave out is paid at once.
    Vesting shares above 1 in total raise InputError.
    """
    if sum(share for share, _, _ in vesting) > 1 + 1e-9:
        raise InputError("commitment.vesting", "shares that sum to at most 1", vesting)
    total = 0.0
    for share, delay_h, linear_h in vesting:
        parts = unlock_hours(delay_h, linear_h)
        mean = sum(finnerty_discount(vol_annual, h / HOURS_PER_YEAR) for h in parts) / len(parts)
        total += share * mean
    return total
