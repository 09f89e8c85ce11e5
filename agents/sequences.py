"""The best sequence of networks for each rig that knows the future, by dynamic programming.

Work is paid at given prices, so that rigs do not meet and each can be solved alone. Backward over
hours; the state is (network, warm-up). A rig of deficit d = 1 - score earns `mass (1 - d)^a`, and d
falls by the factor q each hour of work and rises again while the rig or the network is down, as in
`env.transition`. The value is convex in d (a maximum of sums of convex functions), so the value
between d = 0 and d = 1 lies below the chord: two states per network bound it, and are exact for a
rig that stays long enough. Provisioning is exact: one state for every hour left of it, which only
pass while the rig is up. Leaving before it ends is never worth while, because *off* costs nothing.

Exact too are burns without our own mark, gas, energy with its idle share, capital on collateral,
unbonding, slashing, failures and outages. Left out, which only loosens: pruning (leaving a
tournament is free instead), the own mark on burns, capital while provisioning; a
fault is fined at the pay under the whole fleet's work. Leases see `agents.leases`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from agents.lagrangian import request_usd
from agents.leases import Leases, earn, hold, leases, leave_or_go_on
from env.costs import financing_rate_h
from env.hour import Quotes
from env.networks.allocation import use_of_supply
from env.scenario import BURN_IN_H
from env.state import per_network
from env.world import World


@dataclass(frozen=True)
class Rigs:
    """What the hours hold for each rig at any price; N networks, R rigs, worlds last."""

    mass: Tensor  # [N, R, B]
    tier: Tensor  # [N, R, B]
    barred: Tensor  # [N, R, B] infinite where the rig may never go
    start: Tensor  # int64 [R, B]
    up: Tensor  # [T, R, B]
    runs: Tensor  # [T, N, B] 1 where the network pays
    energy_usd: Tensor  # [T, R, B] at full load
    load: Tensor  # [T, N, B] share of it
    standby_usd: Tensor  # [T, N, B] for an hour available, leased or not
    unit_usd: Tensor  # [T, N, B] a request's pay for a unit of work without dilution
    fine_usd: Tensor  # [T, N, B] for each unit of mass and hour down
    token_usd: Tensor  # [T, N, B]
    locked: Tensor  # [N, R, B] tokens of collateral
    enter_usd: Tensor  # [T, N, B] infinite while closed
    leases: Leases
    fixed_usd: Tensor  # [R, B] hosting and rent, which nobody avoids
    warm: Tensor  # [N, 1, 1] share of full pay in the first hour of work
    warmup: Tensor  # [N, 1, 1] part of the deficit that an hour of work removes
    concentration: Tensor  # [N, 1, 1]
    first: Tensor  # [N, 1, 1] worked share of the hour in which provisioning ends
    delay_h: Tensor  # int64 [N] whole hours of provisioning
    slash_h: Tensor  # [N, 1, 1] share of the collateral lost in an hour down
    financing_h: float
    unbonding_h: Tensor  # [N, 1, 1]


def rigs(world: World, q: Quotes) -> Rigs:
    """Everything the sequences need of fresh worlds that does not depend on prices of work."""
    scenario, fleet, rules = world.scenario, world.fleet, world.scenario.rules
    episode = slice(BURN_IN_H, BURN_IN_H + scenario.horizon_h)
    pair = (2, 1, 0)
    tariff = world.exogenous.tariff[episode].permute(0, 2, 1)  # [T, S, B]
    site = fleet.site.T.expand(len(tariff), -1, -1)
    ratio = world.exogenous.rent_ratio[episode]
    ratio = ratio.gather(2, fleet.gpu.expand(len(ratio), *fleet.gpu.shape))  # [T, B, R]
    rent = (ratio * world.exogenous.rig_up[episode]).sum(0)  # [B, R]
    delay = rules.provisioning_h.floor()

    def column(values: Tensor) -> Tensor:
        return values[:, None, None]

    use = use_of_supply(q.demand_work, q.outside_work, scenario.economics.utilisation_cap)
    unit = request_usd(scenario, q) * use
    sure = (q.emission > 0) | (unit > 0)
    load = torch.where(sure, 1.0, scenario.economics.idle_power_share) * rules.load[:, None]
    most = fleet.mass.sum(1).T  # [N, B]
    share = torch.where(rules.tier_share > 0, rules.tier_share, 1.0).amin(1)[:, None]
    fault = (rules.fault_multiple * (1 - rules.wallet_share))[:, None] * torch.minimum(
        q.emission / (q.outside_work + most / share) * q.token_usd, rules.cap_usd[:, None]
    )
    # of two tiers the rate is E s / (W s + w), at least E / (W + w / s) with the smaller s
    warm = torch.exp(rules.concentration * torch.log(rules.warmup_rate.clamp_min(1e-9)))
    least = fleet.mass.permute(pair) * column((1 - rules.provisioning_h + delay) * warm)
    return Rigs(
        mass=fleet.mass.permute(pair),
        tier=fleet.tier.permute(pair).float(),
        barred=torch.where(fleet.eligible, 0.0, torch.inf).permute(pair),
        start=world.state.assignment.T.contiguous(),
        up=world.exogenous.rig_up[episode].permute(0, 2, 1).float().contiguous(),
        runs=q.up * q.open * rules.active[:, None],
        energy_usd=(fleet.owned * fleet.power_kw).T * tariff.gather(1, site),
        load=load,
        standby_usd=(rules.standby_tokens * (1 - rules.lockup) * rules.lease)[:, None]
        * q.token_usd,
        unit_usd=unit,
        fine_usd=fault,
        token_usd=q.token_usd,
        locked=(rules.collateral_per_work * fleet.work + rules.collateral_per_rig).permute(pair),
        enter_usd=torch.where(q.open > 0, q.burn_usd + rules.gas_usd[:, None], torch.inf),
        leases=leases(world, q, least),
        fixed_usd=(
            fleet.housing_usd_h * torch.where(fleet.owned > 0, float(scenario.horizon_h), rent)
        ).T,
        warm=column(torch.where(rules.concentration >= 1, warm, 1.0)),  # concave below 1: no chord
        warmup=column(rules.warmup_rate),
        concentration=column(rules.concentration),
        first=column(1 - (rules.provisioning_h - delay)),
        delay_h=delay.long(),
        slash_h=column(rules.slash_per_h * rules.active),
        financing_h=financing_rate_h(scenario),
        unbonding_h=column(torch.where(rules.slots > 0, 0.0, rules.unbonding_h)),
    )


@dataclass(frozen=True)
class Listed:
    """What an idle rig is paid for being listed where leases are auctioned; see `agents.worth`."""

    worth_usd: Tensor  # [T, L, R, B] of the lease that may come
    chance: Tensor  # [T, L, B] that it comes, as one more unit of the fleet's work has it
    most: Tensor  # [T, L, B] without any work of ours: what is not yet mass meets no more


@dataclass(frozen=True)
class Plan:
    """What the dynamic programme decided; networks, rigs, worlds."""

    value_usd: Tensor  # [R, B] of the whole episode from the start
    leaves: Tensor  # bool [T, 2, N, R, B] warm or cold, whether a rig leaves
    target: Tensor  # uint8 [T, R, B] for where
    leased: Tensor  # int16 [T, L + 1, R, B] end of the lease an idle rig takes; 0 = none

    @classmethod
    def blank(cls, rig: Rigs) -> Plan:
        """Nobody takes a lease; the rest is to be filled."""
        hours, networks, worlds = rig.runs.shape
        shape = (rig.up.shape[1], worlds)

        def room(dtype: torch.dtype, *sizes: int) -> Tensor:
            return torch.zeros(hours, *sizes, *shape, dtype=dtype, device=rig.up.device)

        leased = room(torch.int16, len(rig.leases.networks) + 1)
        leaves = room(torch.bool, 2, networks)
        return cls(torch.zeros_like(rig.fixed_usd), leaves, room(torch.uint8), leased)

    def decide(
        self, t: int, states: tuple[Tensor, Tensor], gone: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Note who leaves for `where`; (warm, cold) value before the hour, [N, R, B] both."""
        self.target[t] = where
        for state, leaves in zip(states, self.leaves[t], strict=True):
            torch.gt(gone, state, out=leaves)
        return torch.maximum(states[0], gone), torch.maximum(states[1], gone)


def solve(rig: Rigs, price: Tensor, listed: Listed | None = None) -> Plan:
    """The best sequences at prices [T, 2N, B] of a unit of work in each sub-pool."""
    plan, stages = Plan.blank(rig), stages_of(rig.delay_h)
    warm, cold = torch.zeros(2, *rig.mass.shape, device=price.device)  # from the next hour on
    waits = warm.new_zeros(len(stages.before), *warm.shape[1:])  # by hours of provisioning
    offered, lent = rig.leases, rig.leases.networks
    held = hold(offered, plan.leased[0, :-1].shape)
    for t in range(len(price) - 1, -1, -1):
        now = earnings(rig, price[t], t)
        states = stay(rig, now, warm, cold)
        take, ends, going = earn(offered, held, t, now, rig.energy_usd[t], warm)
        plan.leased[t, :-1] = ends * (take > states[0].index_select(0, lent))
        for state in states:
            state.index_copy_(0, lent, torch.maximum(state.index_select(0, lent), take))
        if listed is not None:
            _list(rig, listed, t, states)
        waits, gone, where = move(rig, stages, now, t, states[2], waits)
        leave_or_go_on(offered, held, t, going, gone)
        warm, cold = plan.decide(t, states[:2], gone, where)
    value = warm.gather(0, rig.start.unsqueeze(0)).squeeze(0)
    value.view(-1)[offered.cell[offered.first] % value.numel()] = held.value_usd[offered.first]
    return replace(plan, value_usd=value - rig.fixed_usd)


def _list(rig: Rigs, listed: Listed, t: int, states: tuple[Tensor, Tensor, Tensor]) -> None:
    """Pay a rig that is not yet leased for being listed, warm or by the part that is mass."""
    chance, most = listed.chance[t].unsqueeze(1), listed.most[t].unsqueeze(1)
    warm, first = (v.index_select(0, rig.leases.networks) for v in (rig.warm, rig.first))
    for state, mass in zip(states, (torch.ones_like(warm), warm, warm * first), strict=True):
        paid = listed.worth_usd[t] * (most + (chance - most) * mass)
        state.index_add_(0, rig.leases.networks, paid)


def stay(rig: Rigs, now: Earnings, warm: Tensor, cold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value of an hour on each network and what follows: warm, cold, provisioning ends in it."""
    drift = rig.warmup * (warm - cold)
    later = cold + now.on * drift
    return now.warm + (warm - drift) + now.on * drift, now.cold + later, now.first + later


def move(
    rig: Rigs, stages: Stages, now: Earnings, t: int, begins: Tensor, waits: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(value of the stages of provisioning, of leaving each network [N, R, B], the best target)."""
    waits = _provision(stages, waits, begins, rig.up[t], now.capital)
    reach = waits.index_select(0, stages.entry) - rig.enter_usd[t].unsqueeze(1) - rig.barred
    best, where = reach.max(0)
    return waits, best - now.capital * rig.unbonding_h, where


class Stages(NamedTuple):
    """One state for each whole hour of provisioning left, network by network."""

    before: Tensor  # int64 [S] the state an hour of provisioning later
    entry: Tensor  # int64 [N] where a rig that moves begins
    last: Tensor  # int64 [N] where it works for the rest of the hour


def stages_of(delay_h: Tensor) -> Stages:
    entry = torch.cumsum(delay_h + 1, 0) - 1
    states = torch.arange(int(entry[-1]) + 1, device=delay_h.device)
    return Stages((states - 1).clamp_min(0), entry, entry - delay_h)


def _provision(
    stages: Stages, waits: Tensor, begins: Tensor, up: Tensor, capital: Tensor
) -> Tensor:
    """The value of every state of provisioning an hour earlier, [S, R, B]; it needs the rig up."""
    starts = torch.where(up > 0, begins, waits.index_select(0, stages.last) - capital)
    waits = torch.where(up > 0, waits.index_select(0, stages.before), waits)
    return waits.index_copy_(0, stages.last, starts)


class Earnings(NamedTuple):
    """What an hour on each network brings a rig without a lease, USD, [N, R, B]."""

    on: Tensor  # 1 where it works
    warm: Tensor
    cold: Tensor  # in its first hour of work
    first: Tensor  # the same where provisioning ends within the hour
    capital: Tensor  # that part of it which is the price of locked collateral


def earnings(rig: Rigs, price: Tensor, t: int) -> Earnings:
    up = rig.up[t]
    on = rig.runs[t].unsqueeze(1) * up
    locked = rig.locked * rig.token_usd[t].unsqueeze(1)
    capital = locked * rig.financing_h
    low, high = price.chunk(2)
    pay = (low.unsqueeze(1) + rig.tier * (high - low).unsqueeze(1)) * rig.mass
    # a rig offers all its work to requests from its first hour, but dilutes them by its mass only:
    # what is not yet mass meets at most the undiluted use
    slow = pay * rig.warm + rig.unit_usd[t].unsqueeze(1) * rig.mass * (1 - rig.warm)
    energy = rig.load[t].unsqueeze(1) * rig.energy_usd[t] - rig.standby_usd[t].unsqueeze(1)
    fixed = capital + (1 - up) * (rig.slash_h * locked + rig.fine_usd[t].unsqueeze(1) * rig.mass)
    cold = on * (slow - energy)
    return Earnings(
        on, on * (pay - energy) - fixed, cold - fixed, cold * rig.first - capital, capital
    )


def follow(rig: Rigs, plan: Plan) -> Tensor:
    """The work that the plan brings to each sub-pool, [T, 2N, B]."""
    hours, networks, _ = rig.runs.shape
    delay = (rig.delay_h + 1 - rig.first[:, 0, 0]).float()  # provisioning in hours
    here, left = rig.start, torch.zeros_like(rig.up[0])
    deficit = torch.zeros_like(left)
    lent = rig.leases.networks
    row = torch.full((networks,), len(lent), device=here.device)
    row[lent] = torch.arange(len(lent), device=here.device)
    busy = torch.zeros_like(left)  # until when it is leased
    first = rig.leases.first
    busy.view(-1)[rig.leases.cell[first] % busy.numel()] = rig.leases.end[first].float()
    loads = []
    for t in range(hours):
        asked = plan.leaves[t].gather(1, here.expand(2, 1, *here.shape))[:, 0]  # [2, R, B]
        goes = torch.where(deficit > 0.5, asked[1], asked[0]) & (left <= 0) & (busy <= t)
        here = torch.where(goes, plan.target[t].long(), here)
        left = torch.where(goes, delay[here], left)
        deficit = torch.where(goes, 1.0, deficit)
        lease = plan.leased[t].gather(0, row[here].unsqueeze(0))[0]
        busy = torch.where((busy <= t) & (left < 1), lease.float(), busy)
        runs = rig.runs[t].gather(0, here) * rig.up[t]
        works = (1 - left).clamp(0.0, 1.0) * runs
        speed = rig.warmup[here, 0, 0]
        deficit = deficit + speed * ((works <= 0).float() - deficit)
        left = (left - rig.up[t]).clamp_min(0.0)
        pick = here.unsqueeze(0)
        mass = rig.mass.gather(0, pick)[0] * works
        mass = mass * torch.exp(
            rig.concentration[here, 0, 0] * torch.log((1 - deficit).clamp_min(1e-9))
        )
        pool = here + networks * rig.tier.gather(0, pick)[0].long()
        loads.append(per_network(mass.T.contiguous(), pool.T, 2 * networks))
    return torch.stack(loads).transpose(1, 2)
