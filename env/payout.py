"""Who earns what this hour: from work supplied to tokens and USD for each rig."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from env.hour import Hour
from env.networks.allocation import (
    lease_hazard,
    lease_probability,
    pool_rate,
    use_of_supply,
    wallet_factor,
)
from env.networks.settlement import amm_impact, square_root_impact
from env.scenario import Scenario
from env.state import Posting, State, per_network
from env.terms import Terms


@dataclass(frozen=True)
class Market:
    """What one unit of our work meets on each network this hour, own work included."""

    pool_tokens: Tensor  # [B, N, 2] tokens per unit of mass, by sub-pool
    use: Tensor  # [B, N] share of supply in use
    hazard: Tensor  # [B, N] lease arrivals per idle hour


@dataclass(frozen=True)
class Pay:
    """Earnings of each rig before liquidation, [B, R]."""

    tokens: Tensor  # native tokens
    native_usd: Tensor  # their market value
    cash_usd: Tensor  # fees paid in USD
    lease_h: Tensor  # state of the lease after the hour
    lease_rate: Tensor
    idle_h: Tensor
    earning: Tensor  # 1 where the rig earned this hour (or the part of it that it worked)


def market(scenario: Scenario, hour: Hour, post: Posting) -> Market:
    """Dilute every network by our own work."""
    rules, q = scenario.rules, hour.quotes
    n = scenario.network_count
    own = per_network(post.mass, post.assignment + n * post.tier, 2 * n).unflatten(-1, (2, n))
    rigs = per_network((post.working > 0).float(), post.assignment, n)
    share = rules.tier_share.T  # [2, N]
    rate = pool_rate(
        share * q.emission.unsqueeze(1), share * q.outside_work.unsqueeze(1), own
    )  # [B, 2, N]
    rate = torch.minimum(rate, (rules.cap_usd / q.token_usd).unsqueeze(1))
    factor = wallet_factor(rigs, rules.wallet_free, rules.wallet_decay, rules.wallet_share)
    supply = q.outside_work + own.sum(1)
    use = use_of_supply(q.demand_work, supply, scenario.economics.utilisation_cap)
    return Market(
        pool_tokens=rate * factor.unsqueeze(1),
        use=use,
        hazard=lease_hazard(use, rules.lease_mean_h),
    )


def pool_tokens(scenario: Scenario, met: Market, post: Posting) -> Tensor:
    """Tokens per unit of mass in each rig's sub-pool, [B, R]."""
    return met.pool_tokens.flatten(1).gather(
        1, post.assignment + scenario.network_count * post.tier
    )


def pay(
    scenario: Scenario, hour: Hour, met: Market, here: Terms, post: Posting, state: State
) -> Pay:
    """Pay every rig for its place in the pool, its lease or its requests."""
    index = post.assignment.unsqueeze(1).expand(-1, 2, -1)
    use, hazard = torch.stack((met.use, met.hazard), 1).gather(2, index).unbind(1)
    token_usd, fee_usd, fee, native = here.token_usd, here.fee_usd, here.fee, here.native
    is_lease = here.lease > 0
    stayed = 1 - post.moved
    idle_h = state.idle_h * stayed
    held = (state.lease_h * stayed * post.up * here.open) > 0  # a failure breaks the lease
    on = post.working > 0
    arrives = hour.arrival < lease_probability(hazard, idle_h, here.queue)
    begins = ~held & on & is_lease & arrives
    left = torch.where(begins, (here.lease_mean_h * hour.lease_draw).clamp_min(1.0), state.lease_h)
    rate = torch.where(begins, fee * post.work, state.lease_rate)
    leased = held | begins
    served = torch.where(leased, left.clamp(max=1.0), 1.0)  # a lease may end within the hour
    waiting = on & ~leased & is_lease
    requested = here.request * use * fee * post.work
    units_usd = post.working * served * fee_usd * torch.where(leased, rate, requested)
    native_fee_usd = native * units_usd
    pool = pool_tokens(scenario, met, post) * post.mass
    tokens = pool + here.standby_tokens * post.working + native_fee_usd / token_usd
    left = torch.where(leased, (left - 1).clamp_min(0.0), 0.0)
    return Pay(
        tokens=tokens,
        native_usd=tokens * token_usd,
        cash_usd=units_usd - native_fee_usd,
        lease_h=left,
        lease_rate=torch.where(left > 0, rate, 0.0),
        idle_h=torch.where(waiting, idle_h + post.working, 0.0),
        earning=torch.where((units_usd > 0) | (pool > 0), post.working, 0.0),
    )


def slippage(scenario: Scenario, hour: Hour, sale_usd: Tensor, token: Tensor) -> Tensor:
    """Share of each rig's sale lost in liquidation, [B, R]; all our sales of a token add up.

    Order books: square-root impact on Q = 24 times the hour's sale against the day's turnover.
    Subnet tokens: the constant-product pool. sale_usd [B, R], token int64 [B, R].
    """
    total = per_network(sale_usd, token, len(scenario.token_names))  # [B, P]
    book = square_root_impact(
        24 * total,
        hour.turnover_usd,
        scenario.token_daily_sd,
        scenario.economics.impact_coefficient,
    )
    pool_usd = scenario.token_pool_quote * hour.quote_usd
    lost = torch.where(scenario.token_pool_quote > 0, amm_impact(total, pool_usd), book)
    return lost.clamp(0.0, 1.0).gather(1, token)
