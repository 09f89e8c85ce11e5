"""Regret against the best moves in hindsight, and what kind of mistake it came from.

Each rig is judged alone, the rest of the fleet where it was. On network n in hour t it would have
earned the true yield y[n, t]: pay after dilution by outside work and by the others' own work, less
the lock-up discount, energy and capital on collateral; nothing while the rig or the network is
down. Leases count at their expected use. A move at t costs

    leaving (unbonding) + burn + gas + (provisioning + warm-up hours) * y[n, t].

Slippage, broken leases and pruning are left out. Dynamic programming over the hours gives the best
path of each rig in this accounting; regret is its value less that of the rig's own path. Hours in
which the two stand on different networks form gaps. Each gap has one cause:

    late      hindsight moved, we followed it there afterwards with our next move
    missed    hindsight moved, we did not move before the gap closed
    wrong     both moved, to different networks; or our next move went elsewhere
    unneeded  we moved, hindsight stayed

A rig that lost its slot to a newcomer counts as left behind by hindsight, not as a move of ours.
Every gap costs at least nothing, because between its ends hindsight's path is optimal too, and the
four parts sum to the regret.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.scoring import Path
from agents.statistics import Floats
from env.costs import energy_usd, financing_rate_h
from env.networks.allocation import pool_rate, use_of_supply, wallet_factor
from env.scenario import BURN_IN_H
from env.state import Fleet, per_network, select
from env.terms import at
from env.world import World

CAUSES = ("late", "wrong", "unneeded", "missed")
_LATE, _WRONG, _UNNEEDED, _MISSED = range(len(CAUSES))
RIGS_AT_ONCE = 1024  # rigs times worlds whose hours lie in memory at once
_OPEN = len(CAUSES)  # hindsight moved; late, wrong or missed depends on our next move


@dataclass(frozen=True)
class Regret:
    """USD of the episode for each world, in this module's accounting."""

    best_usd: Floats  # [W] hindsight's paths
    own_usd: Floats  # [W] our paths
    parts_usd: Floats  # [W, len(CAUSES)], not negative, sums to best - own


@dataclass(frozen=True)
class Prospect:
    """What every network would bring each rig, float32 [T, B, R, N]."""

    yield_usd: Tensor
    enter_usd: Tensor  # infinite where it cannot be entered
    leave_usd: Tensor


@torch.no_grad()
def regret(world: World, path: Path) -> Regret:
    """The regret of a path in the first worlds of a batch, those that the path is of."""
    worlds, rigs = path.start.shape
    size = max(RIGS_AT_ONCE // rigs, 1)
    parts = [_regret(world, path, slice(k, min(k + size, worlds))) for k in range(0, worlds, size)]
    best, own, split = (torch.cat(p).cpu().numpy() for p in zip(*parts, strict=True))
    return Regret(best, own, split)


def _regret(world: World, path: Path, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    device = world.seeds.device
    start = torch.as_tensor(path.start[rows], device=device)
    own = torch.as_tensor(path.assignment[:, rows], device=device).long()
    moved = torch.as_tensor(path.moved[:, rows], device=device)
    ahead = prospect(world, own, rows)
    best = best_path(ahead, start)
    ours, theirs = hourly_value(ahead, start, own), hourly_value(ahead, start, best)
    parts = split(start, own, best, moved, theirs - ours)
    return theirs.sum((0, 2)), ours.sum((0, 2)), parts


def prospect(world: World, own: Tensor, rows: slice) -> Prospect:
    """Yields and entry costs in some worlds, given where the fleet was: own int64 [T, B, R]."""
    fleet = select(world.fleet, rows)
    hours = [_hour(world, fleet, rows, own[t], t) for t in range(len(own))]
    return Prospect(*(torch.stack(values) for values in zip(*hours, strict=True)))


def best_path(ahead: Prospect, start: Tensor) -> Tensor:
    """The best network of each rig in each hour, int64 [T, B, R], from `start` [B, R]."""
    later = torch.zeros_like(ahead.yield_usd[0], dtype=torch.float64)  # value by present network
    goes, target = [], []
    for pay, enter, leave in zip(
        reversed(ahead.yield_usd), reversed(ahead.enter_usd), reversed(ahead.leave_usd), strict=True
    ):
        stay = pay + later
        arrive, network = (stay - enter).max(-1, keepdim=True)
        move = arrive - leave
        goes.append(move > stay)
        target.append(network.squeeze(-1))
        later = torch.maximum(stay, move)
    here, path = start, []
    for go, network in zip(reversed(goes), reversed(target), strict=True):
        here = torch.where(at(go, here), network, here)
        path.append(here)
    return torch.stack(path)


def hourly_value(ahead: Prospect, start: Tensor, path: Tensor) -> Tensor:
    """Yield less the cost of moving in each hour of a path [T, B, R]: float64 of that shape."""
    before = torch.cat((start[None], path[:-1]))
    pick = path.unsqueeze(-1)
    earned = ahead.yield_usd.gather(-1, pick).squeeze(-1).double()
    enter = ahead.enter_usd.gather(-1, pick).squeeze(-1)
    leave = ahead.leave_usd.gather(-1, before.unsqueeze(-1)).squeeze(-1)
    return earned - torch.where(path != before, (enter + leave).double(), 0.0)


def split(start: Tensor, own: Tensor, best: Tensor, moved: Tensor, loss: Tensor) -> Tensor:
    """Sum the hourly losses [T, B, R] over gaps and book each gap under its cause: [B, CAUSES].

    own and best int64 [T, B, R], both from `start`; moved: True where an order moved our rig.
    """
    shape = start.shape
    parts = loss.new_zeros(shape[0], len(CAUSES))
    apart = torch.zeros(shape, dtype=torch.bool, device=start.device)
    cause = torch.full(shape, _OPEN, device=start.device)
    lost = loss.new_zeros(shape)

    def book(which: Tensor, lost: Tensor, cause: Tensor) -> None:
        named = torch.where(cause == _OPEN, _MISSED, cause)
        parts.scatter_add_(1, named, torch.where(which, lost, 0.0))

    before = start
    for ours, theirs, order, now in zip(own, best, moved, loss, strict=True):
        was, apart = apart, ours != theirs
        opened = torch.where(order, torch.where(theirs != before, _WRONG, _UNNEEDED), _OPEN)
        joined = torch.where(order, torch.where(apart, _WRONG, _LATE), _OPEN)
        cause = torch.where(was, torch.where(cause == _OPEN, joined, cause), opened)
        lost = lost + torch.where(was | apart, now, 0.0)
        closed = was & ~apart
        book(closed, lost, cause)
        lost = torch.where(closed, 0.0, lost)
        before = theirs
    book(apart, lost, cause)
    return parts


def _hour(
    world: World, fleet: Fleet, rows: slice, own: Tensor, hour: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(yield, entering, leaving) of each rig on each network, [B, R, N]; own int64 [B, R]."""
    scenario, rules = world.scenario, world.scenario.rules
    now = world.exogenous.at(BURN_IN_H + hour)
    q = type(now.quotes)(*(v[rows].unsqueeze(1) for v in now.quotes))  # [B, 1, N]
    up = now.rig_up[rows].float()
    pool, rigs, work = _others(fleet, own, up, scenario.network_count)
    kept = 1.0 - rules.lockup
    share = torch.stack((rules.tier_share[:, 0], rules.tier_share[:, 1]))[
        fleet.tier, torch.arange(scenario.network_count, device=own.device)
    ]  # [B, R, N]
    rate = pool_rate(share * q.emission, share * q.outside_work, pool + fleet.mass)
    rate = torch.minimum(rate, rules.cap_usd / q.token_usd)
    rate = rate * wallet_factor(
        rigs + 1.0, rules.wallet_free, rules.wallet_decay, rules.wallet_share
    )
    supply = q.outside_work + work + fleet.mass
    use = use_of_supply(q.demand_work, supply, scenario.economics.utilisation_cap)
    fees = use * (rules.lease + rules.request) * q.fee * q.fee_usd * fleet.work
    fees = fees * torch.where(rules.native > 0, kept, 1.0)
    standby = rules.lease * rules.standby_tokens
    pay = (rate * fleet.mass + standby) * q.token_usd * kept + fees
    waits = rules.lease * (1.0 - use) * (1.0 - scenario.economics.idle_power_share)
    full = energy_usd(fleet, now.tariff[rows], torch.ones_like(up)).unsqueeze(-1)
    net = (pay - full * rules.load * (1.0 - waits)) * rules.active
    locked = (rules.collateral_per_work * fleet.work + rules.collateral_per_rig) * q.token_usd
    capital = locked * financing_rate_h(scenario)
    lost_h = rules.provisioning_h + rules.warmup_h
    enter = q.burn_usd + rules.gas_usd + lost_h * net.clamp_min(0.0)
    allowed = fleet.eligible & (q.open > 0)
    runs = up.unsqueeze(-1) * q.up * q.open
    return net * runs - capital, torch.where(allowed, enter, torch.inf), capital * rules.unbonding_h


def _others(fleet: Fleet, own: Tensor, up: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rest of the fleet as each rig meets it: (mass in its sub-pool, rigs, mass), [B, R, N]."""
    mine = torch.nn.functional.one_hot(own, n).float() * up.unsqueeze(-1)
    mass = at(fleet.mass, own) * up
    pools = per_network(mass, own + n * at(fleet.tier, own), 2 * n).unflatten(-1, (2, n))
    away = mine * mass.unsqueeze(-1)
    pool = pools.gather(1, fleet.tier) - away  # the tier that the rig is or would be in
    rigs = per_network(up, own, n).unsqueeze(1) - mine
    work = pools.sum(1, keepdim=True) - away
    return pool.clamp_min(0.0), rigs.clamp_min(0.0), work.clamp_min(0.0)
