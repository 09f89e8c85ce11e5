"""How often leases come to the fleet's listed work, and how long they last, in expectation.

An idle rig is leased within the hour with a probability p(w) that falls with the fleet's own work w
(`env.networks.allocation`). So i units of idle work bring `i p(w) <= i p(i)` units of new leases on
average, which is concave in i as `D i / ((W + i - D) m + D)`, or taken at its peak where demand D
exceeds supply W so far that more listed work brings fewer leases. A length is exponential and at
least an hour: whatever a lease has lasted, it goes on for another hour with probability exp(-1/m).

In a queue the probability rises with the wait. Here queues stand for auctions of the same mean
wait, which serves to value leases; `agents.expected` counts on no more of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.lagrangian import own_work
from env.hour import Quotes
from env.networks.allocation import lease_hazard, lease_probability, use_of_supply
from env.world import World


@dataclass(frozen=True)
class Arrivals:
    """The L networks of leases; worlds last."""

    networks: Tensor  # int64 [L]
    auction: Tensor  # bool [L, 1] no queue: the probability does not depend on the wait
    alone: Tensor  # bool [L, 1] supply is not work there: own work is taken to lower nothing
    goes_on: Tensor  # [L, 1] probability that a lease lasts for another hour
    last_h: Tensor  # [L, 1] mean part served of a lease's last hour, but for leases of an hour
    mean_h: Tensor  # [L, 1]
    runs: Tensor  # [T, L, B] 1 where the network pays
    exists: Tensor  # bool [T, L, B] a lease outlasts an outage of the network, not its end
    fee_usd: Tensor  # [T, L, B] for an hour and unit of leased work, after the lock-up discount
    demand: Tensor  # [T, L, B] work
    outside: Tensor  # [T, L, B] work
    work: Tensor  # [L, R, B] that a rig leases out
    load: Tensor  # [T, L, B] of energy that a lease adds
    cap: float  # of the share of supply in use


def arrivals(world: World, q: Quotes) -> Arrivals:
    """The networks of leases of these worlds; q [T, N, B]."""
    scenario, rules = world.scenario, world.scenario.rules
    networks = (rules.lease > 0).nonzero().squeeze(1)
    kept = torch.where(rules.native > 0, 1 - rules.lockup, 1.0)
    mean_h = rules.lease_mean_h[networks, None]
    goes_on = torch.exp(-1 / mean_h)
    idle = torch.where(q.emission > 0, 0.0, 1 - scenario.economics.idle_power_share)
    return Arrivals(
        networks=networks,
        auction=rules.queue[networks, None] == 0,
        alone=rules.concentration[networks, None] != 1,
        goes_on=goes_on,
        last_h=mean_h - goes_on / (1 - goes_on),
        mean_h=mean_h,
        runs=(q.up * q.open * rules.active[:, None])[:, networks],
        exists=(q.open * rules.active[:, None])[:, networks] > 0,
        fee_usd=(q.fee * q.fee_usd * kept[:, None])[:, networks],
        demand=q.demand_work[:, networks],
        outside=q.outside_work[:, networks],
        work=world.fleet.work.permute(2, 1, 0)[networks],
        load=(idle * rules.load[:, None])[:, networks],
        cap=scenario.economics.utilisation_cap,
    )


def chance(market: Arrivals, work: Tensor) -> Tensor:
    """Probability that an idle rig is leased within the hour beside own work [T, L, B]."""
    use = use_of_supply(market.demand, market.outside + work, market.cap)
    hazard = lease_hazard(use, market.mean_h)
    zero = torch.zeros_like(hazard)
    return lease_probability(hazard, zero, zero) * market.runs


def new_leases(market: Arrivals, idle: Tensor) -> tuple[Tensor, Tensor]:
    """(units of work leased anew within the hour, what one more idle unit adds), [T, L, B] both."""
    m, demand = market.mean_h, market.demand
    now = chance(market, idle)
    capped = demand >= market.cap * (market.outside + idle)
    fixed = (market.outside - demand) * m + demand  # p = D / (fixed + m i)
    peak = (demand / market.cap - market.outside).clamp_min(0.0)
    full = chance(market, torch.zeros_like(idle))
    falls = fixed <= 0
    slope = torch.where(falls, 0.0, now * fixed / (fixed + m * idle).clamp_min(1e-20))
    value = torch.where(falls, full * torch.minimum(idle, peak), now * idle)
    return value, torch.where(capped, now, slope)


def idle_work(market: Arrivals, own: Tensor) -> Tensor:
    """About how much of the fleet's work waits for a lease, [T, L, B]; own [T, 2N, B].

    A lease of m hours follows a wait of 1 / p; the estimate only sets where prices start.
    """
    work = own_work(own)[:, market.networks]
    share = 1 / (1 + chance(market, work) * market.mean_h)
    return torch.where(market.alone, 0.0, work * share)
