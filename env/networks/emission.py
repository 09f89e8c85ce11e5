"""Emission: how many tokens a network mints, as a function of its supply or of the date.

Each small function is a formula of the network's own documents, in its own units;
`tokens_per_hour` turns a schedule of the catalogue into the series that the simulator uses.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from env.catalog import Schedule
from env.errors import InputError

CATALOGUE_DATE = datetime.date(2026, 11, 23)  # hour 0 is 00:00 UTC of this day
DAYS_PER_YEAR = 365.0
FILECOIN_EPOCH_S = 30.0

Hours = NDArray[np.float64]


def halvings(issued: float, cap: float) -> int:
    """`floor(log2(1 / (1 - issued / cap)))`: halvings passed when `issued` tokens exist.

    Bittensor, for TAO and for each subnet's alpha:
    opentensor/subtensor@14bc6f9f:pallets/subtensor/src/coinbase/block_emission.rs.
    """
    return math.floor(math.log2(1 / (1 - issued / cap)))


def tao_block_emission(issuance: float, cap: float = 21e6) -> float:
    """TAO (or alpha) minted in one block at this issuance; 0 once the cap is reached."""
    return 0.0 if issuance >= cap else math.ldexp(1.0, -halvings(issuance, cap))


def morpheus_per_day(
    date: datetime.date, first_day: datetime.date, start: float, step: float
) -> float:
    """MOR minted on `date`: `start` on day 1, then `step` less each day, never negative.

    14,400 and 2.468994701 from 2024-02-08:
    MorpheusAIs/Docs@7beede8b: "Token Emission Schedule".
    """
    return max(0.0, start - step * (date - first_day).days)


def geometric_per_hour(first: float, decay: float, hour: float) -> float:
    """Tokens of hour `hour` (0 = the first): `first (1 - decay)^hour`.

    io.net: 500 M x 8 % / 8,760 in the first hour, 1.38869523959793e-5 less each hour for 175,319
    hours; docs.iog.net/docs/token-emission-schedule.
    """
    return first * math.exp(hour * math.log1p(-decay))


def filecoin_lambda() -> float:
    """Decay per epoch of both mints, `ln 2 / (6 years of 30-second epochs)`.

    filecoin-project/builtin-actors@b0a3bdd6:actors/reward/src/logic.rs, LAMBDA.
    """
    return math.log(2) / (6 * DAYS_PER_YEAR * 86400 / FILECOIN_EPOCH_S)


def simple_mint(epoch: float, total: float = 330e6) -> float:
    """FIL of the simple mint in one epoch: `total (e^lambda - 1) e^(-lambda epoch)`, logic.rs."""
    rate = filecoin_lambda()
    return total * math.expm1(rate) * math.exp(-rate * epoch)


def baseline_mint(theta_from: float, theta_to: float, total: float = 770e6) -> float:
    """FIL of the baseline mint while effective network time (epochs) goes from one to the other.

    `total (e^(-lambda theta_from) - e^(-lambda theta_to))`, compute_baseline_supply in logic.rs.
    """
    rate = filecoin_lambda()
    return -total * math.exp(-rate * theta_from) * math.expm1(-rate * (theta_to - theta_from))


def baseline_power(years: float, initial_eib: float) -> float:
    """Baseline storage power in EiB, doubling every year (BASELINE_EXPONENT in logic.rs)."""
    return initial_eib * math.exp(years * math.log(2))


def effective_time(theta_years: float, power_eib: float, years: float, initial_eib: float) -> float:
    """Effective network time after `years` of constant power below the baseline.

    theta solves `CumsumBaseline(theta) = CumsumRealised(t)` (compute_r_theta in logic.rs), that is
    `b(theta) dtheta = power dt`; with `b = b0 2^theta` it has the closed form below.
    """
    level = baseline_power(theta_years, 1.0) + math.log(2) * power_eib / initial_eib * years
    return math.log2(level)


def livepeer_inflation(inflation: float, bonded: float, target: float, change: float) -> float:
    """Next round's inflation: up by `change` below the target bonding rate, down above it.

    livepeer/protocol@f225b10c:contracts/token/Minter.sol, setInflation.
    """
    if bonded < target:
        return inflation + change
    return max(0.0, inflation - change) if bonded > target else inflation


def tokens_per_hour(schedule: Schedule, hours: NDArray[np.generic]) -> Hours:
    """Tokens minted in each hour for the whole network, float64, same shape as `hours`.

    hours count from the catalogue's date and may be negative (before it).
    """
    return _KINDS[schedule.kind](schedule, np.asarray(hours, dtype=np.float64))


def _constant(schedule: Schedule, hours: Hours) -> Hours:
    return np.full(hours.shape, schedule.tokens_per_day / 24)


def _halving(schedule: Schedule, hours: Hours) -> Hours:
    """`tokens_per_day` times the block emission at the hour's issuance.

    Supply grows by `issued_per_day` before the next halving (it may exceed `tokens_per_day`, which
    counts only what is shared out), half of that after it, and so on.
    """
    grow = schedule.parameters.get("issued_per_day", schedule.tokens_per_day) / 24
    if schedule.cap <= 0:
        raise InputError(
            "emission.schedule.cap", "the maximal supply, for kind halving", schedule.cap
        )
    times, factors = _halving_steps(
        schedule.issued, schedule.cap, grow, float(hours.max(initial=0))
    )
    factor = np.asarray(factors)[np.searchsorted(times, hours, side="right")]
    return schedule.tokens_per_day / 24 * factor


def _halving_steps(
    issued: float, cap: float, full_rate: float, last_h: float
) -> tuple[list[float], list[float]]:
    """Hours at which emission halves up to `last_h`, and the factors before, between and after."""
    times, factors = [], [tao_block_emission(issued, cap)]
    clock = 0.0
    while full_rate > 0 and clock <= last_h and factors[-1] > 0:
        threshold = cap * (1 - factors[-1] / 2)
        clock += (threshold - issued) / (full_rate * factors[-1])
        issued = threshold
        times.append(clock)
        factors.append(factors[-1] / 2)
    return times, factors


def _linear(schedule: Schedule, hours: Hours) -> Hours:
    """Day by day, each day's tokens spread evenly over its hours."""
    first_day = _first_day(schedule)
    days = np.floor(hours / 24).astype(np.int64)
    distinct, place = np.unique(days, return_inverse=True)
    start, step = schedule.tokens_per_day, schedule.decay_per_day
    per_day = np.array(
        [
            morpheus_per_day(CATALOGUE_DATE + datetime.timedelta(int(d)), first_day, start, step)
            for d in distinct
        ]
    )
    return np.asarray(per_day[place].reshape(hours.shape) / 24)


def _first_day(schedule: Schedule) -> datetime.date:
    try:
        return datetime.date.fromisoformat(schedule.start_date or "")
    except ValueError:
        raise InputError(
            "emission.schedule.start_date", "a date as YYYY-MM-DD", schedule.start_date
        ) from None


def _geometric(schedule: Schedule, hours: Hours) -> Hours:
    """`tokens_per_day / 24` in the first hour of `start_date`, `decay_per_hour` less each hour."""
    since = 24 * (CATALOGUE_DATE - _first_day(schedule)).days
    first, decay = schedule.tokens_per_day / 24, schedule.decay_per_hour
    minted = [
        geometric_per_hour(first, decay, h + since) if h + since >= 0 else 0.0 for h in hours.flat
    ]
    return np.reshape(np.array(minted), hours.shape)


def _baseline(schedule: Schedule, hours: Hours) -> Hours:
    """Simple and baseline mint; power in EiB, theta in years, epoch at the catalogue's date."""
    p = _parameters(schedule, ("epoch", "theta_years", "power_eib", "baseline_eib"))
    per_hour = 3600 / FILECOIN_EPOCH_S
    year_h = DAYS_PER_YEAR * 24
    year_epochs = year_h * per_hour

    def theta(hour: float) -> float:
        years = effective_time(p["theta_years"], p["power_eib"], hour / year_h, p["baseline_eib"])
        return years * year_epochs

    simple = [per_hour * simple_mint(p["epoch"] + per_hour * h) for h in hours.flat]
    baseline = [baseline_mint(theta(h), theta(h + 1)) for h in hours.flat]
    return np.reshape(np.add(simple, baseline), hours.shape)


def _inflation(schedule: Schedule, hours: Hours) -> Hours:
    """Supply times inflation, minted round by round; inflation moves with the bonding rate."""
    p = _parameters(schedule, ("per_round", "change", "bonded", "target", "round_h"))
    rounds = np.maximum(np.floor(hours / p["round_h"]), 0).astype(np.int64)
    supply, inflation, minted = schedule.issued, p["per_round"], []
    for _ in range(int(rounds.max(initial=0)) + 1):
        minted.append(supply * inflation)
        supply += minted[-1]
        inflation = livepeer_inflation(inflation, p["bonded"], p["target"], p["change"])
    return np.asarray(np.array(minted)[rounds] / p["round_h"])


def _parameters(schedule: Schedule, names: tuple[str, ...]) -> dict[str, float]:
    missing = [name for name in names if name not in schedule.parameters]
    if missing:
        raise InputError(
            f"emission.schedule.parameters of kind {schedule.kind}",
            f"the keys {', '.join(names)}",
            sorted(schedule.parameters),
        )
    return schedule.parameters


_KINDS: dict[str, Callable[[Schedule, Hours], Hours]] = {
    "constant": _constant,
    "halving": _halving,
    "linear": _linear,
    "geometric": _geometric,
    "baseline": _baseline,
    "inflation": _inflation,
}
