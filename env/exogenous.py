"""The part of a world that no action touches, simulated for a whole episode from its seed.

Prices, outside work, demand, outages, estimates: time-major tensors [T, B, ...], so that an hour is
one contiguous slab. Two policies on one seed read the same tensors, which makes every comparison
paired and the perfect-information bound computable.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from env.events import jumps, spells
from env.market import Prices, simulate_prices
from env.networks import registration
from env.networks.allocation import use_of_supply
from env.networks.settlement import pegged_value
from env.reliability import rig_availability
from env.scenario import BURN_IN_H, START_DAYS, Scenario
from env.shocks import Stream, exponential, name_hash, normals, uniform, words
from env.state import Fleet, select

BLOCK = 128  # worlds simulated at a time on a CPU
CHUNK_H = 128  # hours of random words drawn at a time, to bound memory
OUTSIDE_FLOOR, OUTSIDE_CEILING = 1e-3, 1e3  # outside work relative to hour 0


class Quotes(NamedTuple):
    """The networks in one hour, each [B, N] (or [T, B, N] for all hours)."""

    token_usd: Tensor  # price of the network's token
    emission: Tensor  # tokens per hour for all providers; 0 while dead or unlaunched
    outside_work: Tensor  # work units supplied by everyone else
    demand_work: Tensor  # work units that customers would use
    fee: Tensor  # price per work unit and hour in use, after the take rate, USD or tokens
    fee_usd: Tensor  # USD received per unit of fee
    up: Tensor  # 1 while the network works
    open: Tensor  # 1 while it exists: launched and not dead
    burn_usd: Tensor  # registration burn of a rig, without our own mark on it
    burn_token_usd: Tensor  # price of the token it is paid in
    registrations: Tensor  # by others in this hour
    estimate: Tensor  # published USD per work unit and hour
    estimate_age_h: Tensor


class Hour(NamedTuple):
    """Everything exogenous in one hour."""

    quotes: Quotes  # [B, N] each
    table: Tensor  # [B, len(Quotes), N] the same as one tensor
    btc_usd: Tensor  # [B]
    rent_ratio: Tensor  # [B, G]
    turnover_usd: Tensor  # [B, P] daily turnover
    quote_usd: Tensor  # [B, P] price of each token's quote token, 1 for USD
    tariff: Tensor  # [B, S] USD per kWh
    hour_of_day: Tensor  # [B] UTC
    rig_up: Tensor  # bool [B, R]
    arrival: Tensor  # [B, R] uniform: a lease arrives where it is below the probability
    lease_draw: Tensor  # [B, R] standard exponential: length of a lease that starts now


@dataclass(frozen=True)
class Exogenous:
    """The exogenous world; hour 0 is the start of the burn-in, `burn_in_h` that of the episode."""

    quotes: Tensor  # [T, B, len(Quotes), N] in the order of Quotes
    btc_usd: Tensor  # [T, B]
    rent_ratio: Tensor  # [T, B, G]
    turnover_usd: Tensor  # [T, B, P]
    quote_usd: Tensor  # [T, B, P]
    tariff: Tensor  # [T, B, S]
    hour_of_day: Tensor  # [T, B]
    rig_up: Tensor  # bool [T, B, R]
    arrival: Tensor  # [T, B, R]
    lease_draw: Tensor  # [T, B, R]

    @property
    def hours(self) -> int:
        return self.quotes.shape[0]

    def at(self, hour: int) -> Hour:
        """Views of one hour; no copy."""
        rest = (getattr(self, f.name)[hour] for f in fields(self)[1:])
        table = self.quotes[hour]
        return Hour(Quotes(*table.unbind(1)), table, *rest)

    def until(self, hour: int) -> Exogenous:
        """The same world cut after `hour`: what is known then."""
        return replace(self, **{f.name: getattr(self, f.name)[: hour + 1] for f in fields(self)})


def simulate(
    scenario: Scenario,
    fleet: Fleet,
    seeds: Tensor,
    hours: int | None = None,
    prices: Prices | None = None,
) -> Exogenous:
    """The exogenous world of each seed (int64 [B]), burn-in included.

    `hours` after the burn-in default to the horizon. Fewer give the same world cut short, to the
    bit: nothing here looks ahead (interpolated replay prices apart, which `prices` can carry).
    On a CPU large batches are simulated in blocks that fit its caches.
    """
    worlds = len(seeds)
    if worlds <= BLOCK or seeds.device.type != "cpu" or prices is not None:
        return _simulate(scenario, fleet, seeds, hours, prices)
    out: Exogenous | None = None
    for start in range(0, worlds, BLOCK):
        rows = slice(start, start + BLOCK)
        part = _simulate(scenario, select(fleet, rows), seeds[rows], hours, None)
        if out is None:
            out = Exogenous(
                **{
                    f.name: (one := getattr(part, f.name)).new_empty(
                        len(one), worlds, *one.shape[2:]
                    )
                    for f in fields(part)
                }
            )
        for f in fields(part):
            getattr(out, f.name)[:, rows] = getattr(part, f.name)
    assert out is not None
    return out


def _simulate(
    scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int | None, prices: Prices | None
) -> Exogenous:
    total = BURN_IN_H + 1 + (scenario.horizon_h if hours is None else hours)
    full = simulate_prices(scenario.market, seeds) if prices is None else prices
    start_day, start_hour = _start(seeds)
    clock = torch.arange(total, device=seeds.device)
    hour_of_day = (clock[:, None] + start_hour) % 24  # [T, B]
    tariff = scenario.tariff.T.contiguous()[hour_of_day]  # [T, B, S]
    arrival, lease_draw = _rig_draws(fleet, seeds, total)
    token_usd = full.token_usd[:total]
    return Exogenous(
        quotes=_quotes(scenario, seeds, start_day, full, total),
        btc_usd=full.btc_usd[:total],
        rent_ratio=full.rent_ratio[:total],
        turnover_usd=full.turnover_ratio[:total] * scenario.token_turnover,
        quote_usd=token_usd[:, :, scenario.token_quote],
        tariff=tariff,
        hour_of_day=hour_of_day.float(),
        rig_up=rig_availability(scenario, fleet, seeds, total),
        arrival=arrival,
        lease_draw=lease_draw,
    )


def _start(seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Day after the catalogue's date and hour of the day of the burn-in's start, int64 [B]."""
    index = torch.tensor(name_hash("start"), device=seeds.device)
    w = words(seeds, Stream.START, index, torch.zeros_like(index))
    return (uniform(w[0]) * START_DAYS).long(), (uniform(w[1]) * 24).long()


def _rig_draws(fleet: Fleet, seeds: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Arrival uniforms and lease lengths, [T, B, R]; four words make two hours."""
    arrival, length = [], []
    for start in range(0, total, CHUNK_H):
        pairs = torch.arange(start // 2, (start + CHUNK_H) // 2, device=seeds.device)
        w = words(seeds[:, None], Stream.RIG_HOUR, fleet.index, pairs[:, None, None])
        arrival.append(torch.stack((uniform(w[0]), uniform(w[1])), 1).flatten(0, 1))
        length.append(torch.stack((exponential(w[2]), exponential(w[3])), 1).flatten(0, 1))
    return torch.cat(arrival)[:total], torch.cat(length)[:total]


def _quotes(
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
    emission = scenario.emission_tokens_h.T[hour] * rule * open_
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
    _recursion(scenario, seeds, columns, total)
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
    previous = torch.cat((token_usd[:1], token_usd[:-1]))
    weight = 0.5 * rules.twap_h.clamp(max=1.0)
    twap_usd = (1 - weight) * token_usd + weight * previous
    worth = torch.where(rules.native > 0, pegged_value(token_usd, twap_usd, rules.fee_spread), 1.0)
    return fee, torch.where(rules.fee_in_token > 0, token_usd, worth)


def _recursion(scenario: Scenario, seeds: Tensor, q: Quotes, total: int) -> None:
    """Fill outside work, demand, burn, registrations and estimates hour by hour, in place.

    Outside work follows profit with a lag, `W <- W exp(kappa dt clip(margin / target - 1, -3, 3))`
    (for a negative target the difference is divided by its size), where the margin is that of the
    reference GPU at the published price, without own work.
    """
    rules, e = scenario.rules, scenario.economics
    outside0, demand0 = _equilibrium(scenario, seeds, q)
    keep = 0.5 ** (1 / e.noise_half_life_h)
    keep_demand = 0.5 ** (1 / e.lease_demand_half_life_h)
    kick, kick_demand = (1 - keep**2) ** 0.5, (1 - keep_demand**2) ** 0.5
    lag = 1 - torch.exp(-1 / rules.lag_h.clamp_min(1e-3))
    scale = rules.margin.abs().clamp_min(0.05)
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
        # registrations: Poisson in the normal approximation, fewer when the burn is dear
        rate = rules.registrations_per_h * torch.exp(-log_burn)
        count = torch.floor(rate + torch.sqrt(rate) * z[2][now] + 0.5).clamp_min(0.0)
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
        margin = 1 - rules.reference_cost / truth.clamp_min(1e-30)
        drive = ((margin - rules.margin) / scale).clamp(-3.0, 3.0)
        outside = outside * torch.exp(rules.entry_per_h * drive)
        outside = torch.minimum(outside, outside0 * OUTSIDE_CEILING)
        outside = torch.maximum(outside, outside0 * OUTSIDE_FLOOR)


def _equilibrium(scenario: Scenario, seeds: Tensor, q: Quotes) -> tuple[Tensor, Tensor]:
    """Outside work and demand at which the reference GPU earns its target margin, with noise.

    Emission networks: W = emission value / (cost / (1 - margin) - fees per work); the others have
    their size in the catalogue. [B, N] both.
    """
    rules = scenario.rules
    need = rules.reference_cost / (1 - rules.margin)
    fees = rules.utilisation * q.fee[0] * q.fee_usd[0]
    value = _launch_emission(scenario, q) * q.token_usd[0]
    work = torch.where(value > 0, value / (need - fees).clamp_min(0.05 * need), rules.outside_work)
    w = words(seeds[:, None], Stream.BASIS, rules.index, torch.zeros_like(rules.index))
    level = torch.exp(scenario.economics.start_level_sd * normals(w[0], w[1])[0])
    outside = (work * level).clamp_min(1e-6)
    return outside, rules.utilisation * outside


def _launch_emission(scenario: Scenario, q: Quotes) -> Tensor:
    """Emission at the start even of a network not yet launched, [B, N]."""
    return torch.where(q.open[0] > 0, q.emission[0], scenario.emission_tokens_h[:, 0])


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
