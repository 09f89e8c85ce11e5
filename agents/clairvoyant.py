"""What perfect foresight could earn: a Lagrangian bound over each rig's best sequence.

A network pays less the more of our own work is on it, so the sum of each rig's best sequence at
undiluted yields says little where networks are thin. For any prices mu[n, t] >= 0 of a unit of
work,

    sum_r DP_r(mu) + sum_{n,t} max_w (f_{n,t}(w) - mu[n,t] w)

bounds the profit of every plan, f being the network's pay for own work w: each rig is paid mu for
its work and the fleet resells all work to the networks at their true, diluted pay. DP_r knows
prices, yields, outages and failures of the whole episode and pays true entry costs: burn and gas of
the hour, provisioning, the warm-up hour by hour, unbonding. Left out, so that the bound is loose
rather than wrong: slippage, anti-fleet penalties, pruning, broken leases, the mark of our own
registrations. Leases count at their expected use, not at the draws of this world; to that extent it
bounds the mean over worlds, not each world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from env.costs import financing_rate_h
from env.exogenous import Exogenous, Quotes
from env.scenario import BURN_IN_H, Scenario
from env.state import per_network
from env.world import World

STRETCH_H = 24  # hours recomputed at a time
WARM_H = 96  # hours of warm-up followed exactly; full pay after them


@dataclass(frozen=True)
class Pools:
    """Pay of every sub-pool, [T, B, 2N]: V w / (W + w), at most cap w."""

    value_usd: Tensor  # V, after the lock-up discount
    outside: Tensor  # W
    cap_usd: Tensor  # per unit of work; 1e9 = none


def pools(scenario: Scenario, exogenous: Exogenous) -> Pools:
    """The pay that own work meets in each hour, sub-pools [first tier | second tier]."""
    rules = scenario.rules
    q = Quotes(*exogenous.quotes[BURN_IN_H : BURN_IN_H + scenario.horizon_h].unbind(2))
    share = torch.cat((rules.tier_share[:, 0], rules.tier_share[:, 1]))
    kept = 1 - rules.lockup
    runs = q.up * q.open
    emission = (q.emission * q.token_usd * kept * runs).repeat(1, 1, 2) * share
    fee_kept = torch.where(rules.native > 0, kept, 1.0)
    demand = torch.minimum(q.demand_work, scenario.economics.utilisation_cap * q.outside_work)
    fees = demand * q.fee * q.fee_usd * fee_kept * runs
    # fees dilute in the outside work of both tiers; counting each tier's part as a pool of its own
    # leaves out what one tier's work takes from the other's fees
    outside = q.outside_work.repeat(1, 1, 2) * share
    cap = torch.where(
        fees.repeat(1, 1, 2) > 0, 1e9, (rules.cap_usd * kept).clamp(max=1e9).repeat(2)
    )
    return Pools(emission + fees.repeat(1, 1, 2) * share, outside.clamp_min(1e-9), cap)


def resale(pool: Pools, mu: Tensor) -> Tensor:
    """max over w >= 0 of f(w) - mu w, [T, B, 2N]."""
    mu = mu.clamp_min(1e-12)
    smooth = torch.sqrt((pool.value_usd * pool.outside / mu).clamp_min(1e-12)) - pool.outside
    kink = torch.where(
        pool.cap_usd < 1e9, pool.value_usd / pool.cap_usd - pool.outside, -pool.outside
    )
    best = torch.maximum(smooth, kink).clamp_min(0.0)
    paid = pool.value_usd * best / (pool.outside + best)
    gain = torch.minimum(paid, pool.cap_usd * best) - mu * best
    return gain.clamp_min(0.0)


def marginal(pool: Pools, own: Tensor) -> Tensor:
    """Pay of one more unit of work beside `own` [T, B, 2N]: the price mu to start from."""
    total = pool.outside + own
    slope = pool.value_usd * pool.outside / (total * total)
    return torch.minimum(slope, pool.cap_usd)


def bound(world: World, own: Tensor, steps: int = 40, rate: float = 0.15) -> Tensor:
    """Upper bound on the mean net profit, USD of the episode for each world, [B].

    world: fresh worlds at hour 0. own [T, B, 2N]: work of a good policy in each sub-pool by hour
    (`loads`), from which the prices start; `steps` of Adam on their logs tighten the bound. The
    gradient is the work that the best sequences supply less the work that is resold.
    """
    pool = pools(world.scenario, world.exogenous)
    some = 0.05 * (world.fleet.mass.sum(1)).repeat(1, 2)  # a price for networks nobody is on
    theta = torch.log(marginal(pool, torch.maximum(own, some)).clamp_min(1e-6)).requires_grad_()
    optimiser = torch.optim.Adam([theta], lr=rate)
    best = torch.full((len(world.seeds),), torch.inf)
    for step in range(steps + 1):
        mu = torch.exp(theta)
        total = resale(pool, mu).sum((0, 2)) + _sequences(world, mu).sum(1)
        best = torch.minimum(best, total.detach())
        if step < steps:
            optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimiser.zero_grad()
            total.sum().backward()
            optimiser.step()
    return best


def loads(world: World, policy: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
    """Live fresh worlds under a policy: (its work in each sub-pool [T, B, 2N], its profit [B])."""
    networks, hours = world.scenario.network_count, []
    start = world.state.equity_usd
    while not world.done:
        world.step(policy(world.observe()))
        pick = world.state.assignment.unsqueeze(-1)
        mass = world.fleet.mass.gather(2, pick).squeeze(-1)
        tier = world.fleet.tier.gather(2, pick).squeeze(-1)
        hours.append(per_network(mass, world.state.assignment + networks * tier, 2 * networks))
    return torch.stack(hours), world.state.equity_usd - start


def _sequences(world: World, mu: Tensor) -> Tensor:
    """Value of each rig's best sequence when a unit of work earns mu [T, B, 2N]: USD, [B, R].

    Backward over hours; a state is (network, hours of work on it). Entering pays burn and gas at
    once, works after the provisioning and warms up from zero.
    """
    scenario, fleet, rules = world.scenario, world.fleet, world.scenario.rules
    worlds, rigs, networks = fleet.work.shape
    pool_of = torch.arange(networks, device=mu.device) + networks * fleet.tier  # [B, R, N]
    age = torch.arange(1, WARM_H + 1, device=mu.device)
    warm = 1 - torch.exp(-age / rules.warmup_h.clamp_min(1e-3)[:, None])  # [N, K]
    warm = torch.exp(rules.concentration[:, None] * torch.log(warm))
    warm[:, -1] = 1.0
    delay = rules.provisioning_h.floor()
    first_part = 1 - (rules.provisioning_h - delay)  # of the first hour of work
    delays = delay.long().tolist()
    stay = torch.zeros(worlds, rigs, networks, WARM_H, device=mu.device)  # value from an hour on
    # value of the first hour of work at this hour and at the next ones
    begun = torch.zeros(max(delays) + 1, worlds, rigs, networks, device=mu.device)

    def day(stay: Tensor, begun: Tensor, mu: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """Go back over the hours `last`, `last` - 1, ... of one stretch."""
        for hour in range(last, last - len(mu), -1):
            pay, cost, leave, enter = _hour(world, mu[hour - last - 1], pool_of, hour)
            first = pay * first_part * warm[:, 0] - cost + stay[..., 1]
            begun = torch.cat((first[None], begun[:-1]))
            ready = torch.stack([begun[d, ..., n] for n, d in enumerate(delays)], -1)
            best_entry = (ready - enter).amax(-1, keepdim=True)  # [B, R, 1]
            grown = torch.cat((stay[..., 1:], stay[..., -1:]), -1)
            remain = pay.unsqueeze(-1) * warm - cost.unsqueeze(-1) + grown
            stay = torch.maximum(remain, (best_entry - leave).unsqueeze(-1))
        return stay, begun

    for last in range(scenario.horizon_h - 1, -1, -STRETCH_H):
        part = mu[max(last - STRETCH_H + 1, 0) : last + 1]
        # recomputed in the backward pass, so that an episode's tables are never all in memory
        stay, begun = checkpoint(day, stay, begun, part, last, use_reentrant=False)
    start = stay[..., -1].gather(2, world.state.assignment.unsqueeze(-1)).squeeze(-1)
    return start - _fixed(world)


def _hour(
    world: World, mu: Tensor, pool_of: Tensor, hour: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """On each network: (pay of a warm rig, its running cost, leaving, entering), [B, R, N].

    A rig that waits for a lease draws idle power, so there energy counts at the idle share only.
    """
    scenario, fleet, rules = world.scenario, world.fleet, world.scenario.rules
    now = world.exogenous.at(BURN_IN_H + hour)
    q = now.quotes
    up = now.rig_up.float().unsqueeze(-1)
    price = mu.unsqueeze(1).expand(-1, fleet.work.shape[1], -1).gather(2, pool_of)
    tariff = now.tariff.gather(1, fleet.site)
    load = rules.load * torch.where(rules.lease > 0, scenario.economics.idle_power_share, 1.0)
    runs = (q.up * q.open * rules.active * load).unsqueeze(1)
    energy = (fleet.owned * fleet.power_kw * tariff).unsqueeze(-1) * runs * up
    locked = rules.collateral_per_work * fleet.work + rules.collateral_per_rig
    financing = locked * q.token_usd.unsqueeze(1) * financing_rate_h(scenario)
    burn = (q.burn_usd + rules.gas_usd).unsqueeze(1)
    allowed = fleet.eligible & (q.open.unsqueeze(1) > 0)
    enter = torch.where(allowed, burn, torch.inf)
    return price * fleet.mass * up, energy + financing, financing * rules.unbonding_h, enter


def _fixed(world: World) -> Tensor:
    """Hosting and rent of the whole episode, [B, R]; nobody can avoid them."""
    episode = slice(BURN_IN_H, BURN_IN_H + world.scenario.horizon_h)
    rent = world.exogenous.rent_ratio[episode].sum(0).gather(1, world.fleet.gpu)
    return world.fleet.housing_usd_h * torch.where(
        world.fleet.owned > 0, float(world.scenario.horizon_h), rent
    )
