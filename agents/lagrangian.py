"""What networks pay a fleet for its work, as a concave function of the work, with its slope.

A pool of emission E pays `P(w) = min(E w / (W + w), cap w)` for own work w beside outside work W.
Of a sale P the market takes the share s(P) (square-root impact, or the constant-product pool of a
subnet), so the fleet keeps `(1 - lockup) P (1 - s(P))`. Past its peak that is replaced by the peak,
which bounds it and is concave. Metered requests add `fee w min(D / (W + w), cap)`.

The sale of one sub-pool stands alone here: what the same token's other sales add to the slippage is
left out, and so is the penalty on many rigs of one wallet. Both only lower the pay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from env.exogenous import Exogenous, Quotes
from env.scenario import BURN_IN_H, Scenario

_HUGE = 1e30  # in place of infinity, which times zero would be no number


@dataclass(frozen=True)
class Pools:
    """Every sub-pool in every hour, [T, 2N, B], first tiers before second tiers; USD per hour."""

    emission_usd: Tensor
    outside: Tensor  # work
    cap_usd: Tensor  # per unit of work
    kept: Tensor  # 1 - lockup, [2N, 1]
    impact: Tensor  # share of a sale P lost in an order book, over sqrt(P)
    reserve_usd: Tensor  # of the constant-product pool, huge where there is none
    fees_usd: Tensor  # requests: what customers would pay, if their demand were met
    supply: Tensor  # requests: outside work of all tiers
    fee_cap_usd: Tensor  # per unit of work


def by_hour(exogenous: Exogenous, horizon_h: int) -> Quotes:
    """The quotes of the episode's hours with worlds last, [T, N, B] each."""
    episode = exogenous.quotes[BURN_IN_H : BURN_IN_H + horizon_h]  # [T, B, Q, N]
    return Quotes(*episode.permute(2, 0, 3, 1).contiguous())


def pools(scenario: Scenario, exogenous: Exogenous, q: Quotes) -> Pools:
    """The pools that a fleet's work meets; q [T, N, B] from `by_hour`."""
    rules, economics = scenario.rules, scenario.economics
    episode = slice(BURN_IN_H, BURN_IN_H + scenario.horizon_h)
    share = rules.tier_share.T.reshape(-1, 1)  # [2N, 1]
    runs = q.up * q.open
    turnover = exogenous.turnover_usd[episode].permute(0, 2, 1)[:, rules.token]  # [T, N, B]
    quote = exogenous.quote_usd[episode].permute(0, 2, 1)[:, rules.token]
    reserve = scenario.token_pool_quote[rules.token, None] * quote
    book = economics.impact_coefficient * scenario.token_daily_sd[rules.token, None]
    impact = torch.where(reserve > 0, 0.0, book * torch.sqrt(24 / turnover))
    unit = request_usd(scenario, q)
    return Pools(
        emission_usd=_twice(q.emission * q.token_usd * runs) * share,
        outside=(_twice(q.outside_work) * share).clamp_min(1e-20),
        cap_usd=rules.cap_usd.clamp(max=_HUGE).repeat(2)[:, None].expand_as(_twice(runs)),
        kept=(1 - rules.lockup).repeat(2)[:, None],
        impact=_twice(impact),
        reserve_usd=_twice(torch.where(reserve > 0, reserve, _HUGE)),
        fees_usd=_twice(unit * q.demand_work * runs),
        supply=_twice(q.outside_work).clamp_min(1e-20),
        fee_cap_usd=_twice(unit * economics.utilisation_cap * runs),
    )


def own_work(loads: Tensor) -> Tensor:
    """The fleet's work on each network, both tiers: [T, 2N, B] -> [T, N, B]."""
    first, second = loads.chunk(2, 1)
    return first + second


def request_usd(scenario: Scenario, q: Quotes) -> Tensor:
    """USD for a unit of work in use by metered requests, after the lock-up discount: [T, N, B]."""
    rules = scenario.rules
    kept = torch.where(rules.native > 0, 1 - rules.lockup, 1.0)
    return q.fee * q.fee_usd * (rules.request * kept)[:, None]


def pay(pool: Pools, work: Tensor) -> tuple[Tensor, Tensor]:
    """(the fleet's pay for its work, what one more unit adds), USD, [T, 2N, B] both."""
    total = pool.outside + work
    rate = pool.emission_usd / total
    capped = rate > pool.cap_usd
    paid = torch.minimum(rate, pool.cap_usd) * work
    slope = torch.where(capped, pool.cap_usd, rate * (pool.outside / total))
    peak = (2 / 3 / pool.impact.clamp_min(1e-12)).square()  # of P (1 - impact sqrt(P))
    sold = torch.minimum(paid, peak)
    lost = pool.impact * torch.sqrt(sold)
    left = pool.reserve_usd / (pool.reserve_usd + sold)
    value = pool.kept * sold * left * (1 - lost)
    slope = slope * pool.kept * (1 - 1.5 * lost).clamp_min(0.0) * left * left
    supply = pool.supply + work
    use_usd = pool.fees_usd / supply
    full = use_usd > pool.fee_cap_usd
    value = value + torch.minimum(use_usd, pool.fee_cap_usd) * work
    slope = slope + torch.where(full, pool.fee_cap_usd, use_usd * (pool.supply / supply))
    return value, slope


def _twice(values: Tensor) -> Tensor:
    """Networks' values for both of their tiers: [T, N, B] -> [T, 2N, B]."""
    return torch.cat((values, values), 1)
