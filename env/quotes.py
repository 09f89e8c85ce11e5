"""What the networks mint, charge and publish in each hour: the recursion of the outside world.

Outside work follows profit with a lag, burns follow registrations, estimates follow the truth with
lag, noise and faults. Nothing here depends on our own work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from env.events import jumps, spells
from env.hour import Quotes
from env.market import Prices
from env.networks import registration
from env.networks.allocation import use_of_supply
from env.networks.settlement import pegged_value
from env.rules import Rules
from env.scenario import BURN_IN_H, Scenario
from env.shocks import Stream, exponential, normals, uniform, words

CHUNK_H = 128  # hours of random words drawn at a time, to bound memory
OUTSIDE_FLOOR, OUTSIDE_CEILING = 1e-3, 1e3  # outside work relative to hour 0


def simulate_quotes(
    scenario: Scenario, seeds: Tensor, start_day: Tensor, prices: Prices, total: int
) -> Tensor:
    """[T, B, len(Quotes), N]: the recursion of outside work, burn and estimates over the hours."""
    rules, e = scenario.rules, scenario.economics
    worlds, networks = seeds.shape[0], scenario.network_count
    alive, open_ = _life(scenario, seeds, total)
    token_usd = prices.token_usd[:total, :, rules.token]  # [T, B, N]
    token_usd = torch.where(alive, token_usd, token_usd * e.dead_token_share)
    rule = torch.exp(
        jumps(
            seeds,
            Stream.RULE_CHANGE,
            rules.index,
            rules.rule_changes_per_h,
            rules.rule_change_sd,
            total,
        )
    )
    hour = torch.arange(total, device=seeds.device)[:, None] + 24 * start_day  # [T, B]
    scheduled = scenario.emission_tokens_h.T[hour]  # [T, B, N]
    emission = scheduled * rule * open_
    up = ~spells(
        seeds,
        Stream.NETWORK_OUTAGE,
        rules.index,
        rules.outages_per_h,
        rules.outage_mean_h,
        total,
    )
    fee, fee_usd = _fees(scenario, prices, token_usd, total)
    out = torch.empty(total, worlds, len(Quotes._fields), networks, device=seeds.device)
    columns = Quotes(*out.unbind(2))
    for column, values in (
        (columns.token_usd, token_usd),
        (columns.emission, emission),
        (columns.fee, fee),
        (columns.fee_usd, fee_usd),
        (columns.up, up.float()),
        (columns.open, open_.float()),
    ):
        column.copy_(values)
    # a burn is paid in the token that quotes the network's own: TAO for a subnet
    columns.burn_token_usd.copy_(prices.token_usd[:total, :, scenario.token_quote[rules.token]])
    _recursion(scenario, seeds, columns, scheduled[0], total)
    return out


def _life(scenario: Scenario, seeds: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """(not dead, launched and not dead), bool [T, B, N]; nothing dies or starts in the burn-in."""
    rules = scenario.rules
    w = words(seeds[:, None], Stream.LIFE, rules.index, torch.zeros_like(rules.index))
    death = BURN_IN_H + exponential(w[0]) / rules.deaths_per_h.clamp_min(1e-12)
    late = uniform(w[1]) < rules.unlaunched
    launch = torch.where(
        late, BURN_IN_H + exponential(w[2]) * scenario.economics.launch_mean_h, -1.0
    )
    hour = torch.arange(total, device=seeds.device)[:, None, None]
    alive = hour < death
    return alive, alive & (hour > launch)


def _fees(
    scenario: Scenario, prices: Prices, token_usd: Tensor, total: int
) -> tuple[Tensor, Tensor]:
    """Posted price per work unit in USD or tokens, and what a unit of it is worth, [T, B, N]."""
    rules = scenario.rules
    rent = torch.log(prices.rent_ratio[:total]).mean(-1, keepdim=True)  # the rent index
    fee = rules.fee * torch.exp(rules.rent_elasticity * rent)
    # the oracle's average over the window, then sold at the price of this hour
    twap_usd = _twap(token_usd, rules.twap_h)
    worth = torch.where(rules.native > 0, pegged_value(token_usd, twap_usd, rules.fee_spread), 1.0)
    return fee, torch.where(rules.fee_in_token > 0, token_usd, worth)


def _twap(price: Tensor, window_h: Tensor) -> Tensor:
    """Time-weighted average over the `window_h` [N] hours that end now of a price [T, B, N], taken
    to move in straight lines between the hours and to have stood still before the first."""
    previous = torch.cat((price[:1], price[:-1]))
    weight = 0.5 * window_h.clamp(max=1.0)
    average = (1 - weight) * price + weight * previous
    for hours in sorted({round(h) for h in window_h.tolist() if h > 1}):
        columns = (window_h.round() == hours).nonzero().squeeze(1)
        moved = 0.5 * (price + previous)[..., columns].double()  # mean of each hour
        area = torch.cat((moved[:1].expand(hours, -1, -1), moved)).cumsum(0)
        average[..., columns] = ((area[hours:] - area[:-hours]) / hours).float()
    return average


def _recursion(scenario: Scenario, seeds: Tensor, q: Quotes, scheduled: Tensor, total: int) -> None:
    """Fill outside work, demand, burn, registrations and estimates hour by hour, in place.

    scheduled [B, N]: emission of the first hour by the calendar, of closed networks too.
    """
    rules, e = scenario.rules, scenario.economics
    outside0, demand0 = _equilibrium(scenario, seeds, q, scheduled)
    keep = 0.5 ** (1 / e.noise_half_life_h)
    keep_demand = 0.5 ** (1 / e.lease_demand_half_life_h)
    kick, kick_demand = (1 - keep**2) ** 0.5, (1 - keep_demand**2) ** 0.5
    lag = 1 - torch.exp(-1 / rules.lag_h.clamp_min(1e-3))
    spike, stop = _feed_faults(scenario, seeds, total)
    outside = outside0
    noise = torch.zeros_like(outside0)
    demand_noise, log_burn, smooth, estimate, age = noise, noise, noise, noise, noise
    for hour in range(total):
        if hour % CHUNK_H == 0:
            z = _network_draws(scenario, seeds, hour)
        now = hour % CHUNK_H
        demand_noise = keep_demand * demand_noise + kick_demand * z[1][now]
        demand = demand0 * torch.exp(rules.demand_sd * demand_noise) * q.open[hour]
        use = use_of_supply(demand, outside, e.utilisation_cap)
        truth = q.emission[hour] * q.token_usd[hour] / outside
        truth = torch.minimum(truth, rules.cap_usd) + use * q.fee[hour] * q.fee_usd[hour]
        count = _registrations(rules, log_burn, z[2][now])
        noise = keep * noise + kick * z[0][now]
        smooth = truth if hour == 0 else smooth + lag * (truth - smooth)
        fresh = smooth * torch.exp(rules.estimate_sd * noise + spike[hour]) * q.open[hour]
        frozen = stop[hour] & (hour > 0)
        estimate = torch.where(frozen, estimate, fresh)
        age = torch.where(frozen, age + 1.0, 0.0)
        q.outside_work[hour] = outside
        q.demand_work[hour] = demand
        burn_tokens = registration.burn(log_burn, rules.burn_tokens, rules.burn_max_tokens)
        q.burn_usd[hour] = burn_tokens * q.burn_token_usd[hour]
        q.registrations[hour] = count
        q.estimate[hour] = estimate
        q.estimate_age_h[hour] = age
        log_burn = registration.bump(log_burn, count, rules.burn_step)
        log_burn = registration.decay(log_burn, 1.0, rules.burn_half_life_h)
        # suppliers wait for a launch, and nobody leaves a network that is dead
        outside = torch.where(
            q.open[hour] > 0, _outside_after(rules, outside, outside0, truth), outside
        )


def _registrations(rules: Rules, log_burn: Tensor, z: Tensor) -> Tensor:
    """Others' registrations of an hour: Poisson in the normal approximation, fewer when dear."""
    rate = rules.registrations_per_h * torch.exp(-log_burn)
    return torch.floor(rate + torch.sqrt(rate) * z + 0.5).clamp_min(0.0)


def _outside_after(rules: Rules, outside: Tensor, outside0: Tensor, truth: Tensor) -> Tensor:
    """Outside work after an hour in which a unit of it earned `truth`, all [B, N].

    Outside work follows profit with a lag, `W <- W exp(kappa dt clip(margin / target - 1, -3, 3))`
    (for a negative target the difference is divided by its size), where the margin is that of the
    reference GPU at the published price, without own work.
    """
    scale = rules.margin.abs().clamp_min(0.05)
    margin = 1 - rules.reference_cost / truth.clamp_min(1e-30)
    drive = ((margin - rules.margin) / scale).clamp(-3.0, 3.0)
    outside = outside * torch.exp(rules.entry_per_h * drive)
    outside = torch.minimum(outside, outside0 * OUTSIDE_CEILING)
    return torch.maximum(outside, outside0 * OUTSIDE_FLOOR)


def _equilibrium(
    scenario: Scenario, seeds: Tensor, q: Quotes, scheduled: Tensor
) -> tuple[Tensor, Tensor]:
    """Outside work and demand at which the reference GPU earns its target margin, with noise.

    Emission networks: W = emission value / (cost / (1 - margin) - fees per work), also before they
    launch, by the emission `scheduled` [B, N]; the others have their size in the catalogue. [B, N]
    both.
    """
    rules = scenario.rules
    need = rules.reference_cost / (1 - rules.margin)
    fees = rules.utilisation * q.fee[0] * q.fee_usd[0]
    value = torch.where(q.open[0] > 0, q.emission[0], scheduled) * q.token_usd[0]
    work = torch.where(value > 0, value / (need - fees).clamp_min(0.05 * need), rules.outside_work)
    w = words(seeds[:, None], Stream.BASIS, rules.index, torch.zeros_like(rules.index))
    level = torch.exp(scenario.economics.start_level_sd * normals(w[0], w[1])[0])
    outside = (work * level).clamp_min(1e-6)
    return outside, rules.utilisation * outside


def _network_draws(scenario: Scenario, seeds: Tensor, start: int) -> tuple[Tensor, ...]:
    """Normals for estimate noise, demand noise and registrations, [CHUNK_H, B, N] each."""
    hours = torch.arange(start, start + CHUNK_H, device=seeds.device)[:, None, None]
    w = words(seeds[:, None], Stream.NETWORK_HOUR, scenario.rules.index, hours)
    a, b = normals(w[0], w[1])
    return a, b, normals(w[2], w[3])[0]


def _feed_faults(scenario: Scenario, seeds: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Log size of the spike that distorts each estimate, and whether its feed stands still."""
    rules, e = scenario.rules, scenario.economics
    one = torch.ones((), device=seeds.device)
    wrong = spells(
        seeds, Stream.ESTIMATE_SPIKE, rules.index, rules.spikes_per_h, one * e.spike_mean_h, total
    )
    stop = spells(
        seeds, Stream.ESTIMATE_STOP, rules.index, rules.stops_per_h, one * e.stop_mean_h, total
    )
    return wrong * e.spike_log_size, stop
