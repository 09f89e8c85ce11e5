"""Leases with the luck of each world, as gains that a rig may collect on networks of leases.

The draws that bring leases are each rig's own and known: in hour t a lease arrives where a uniform
lies below a probability, and lasts for a drawn time. Own work lowers the probability, so a rig is
offered every lease that would reach it beside no more than its own work. In a queue the probability
rises with the wait, so a draw is a lease for whoever has waited long enough: a rig that starts to
wait at `join` or before. The rig may refuse a lease (with more own work it would not have come) and
may leave one, at the network's penalty. A lease ends with its time or when the rig fails, as in
`env.payout`, and its fee is that of the hour it began in.

Left out, which only loosens: slippage on fees paid in tokens, and the warm-up of a pool's pay while
a lease lasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from env.hour import Quotes
from env.networks.allocation import lease_hazard, lease_probability, use_of_supply
from env.scenario import BURN_IN_H
from env.world import World


@dataclass(frozen=True)
class Leases:
    """M leases that could begin, on L networks; a cell is a flat index into [L, R, B]."""

    networks: Tensor  # int64 [L]
    cell: Tensor  # int64 [M]
    hour: Tensor  # int64 [M] in which it begins
    end: Tensor  # int64 [M] first hour that is not leased
    until_h: Tensor  # [M] when its time runs out
    rate: Tensor  # [M] fee for the rig's work
    price_usd: Tensor  # [M] of beginning it, 0 for perfect foresight; see `agents.worth`
    going: tuple[Tensor, ...]  # by hour: leases that last in it, those that begin in it at the end
    begin: tuple[int, ...]  # by hour: how many begin
    join: tuple[Tensor, ...]  # by hour: leases for which waiting must have begun by then
    first: Tensor  # int64, leases that last from before the first hour
    fee_usd: Tensor  # [T, L, B] for a unit of fee, after the lock-up discount
    owed_usd: Tensor  # [T, L, B] the same before it, for penalties
    break_h: Tensor  # [L, 1, 1]
    load: Tensor  # [T, L, B] of energy that a lease adds


class _Drawn(NamedTuple):
    """Leases of one hour, [m] each, see `Leases`."""

    cell: Tensor
    join: Tensor
    hour: Tensor
    end: Tensor
    until_h: Tensor
    rate: Tensor


def leases(world: World, q: Quotes, least: Tensor) -> Leases:
    """The leases of fresh worlds; q [T, N, B], least [N, R, B] the least mass of a rig at work."""
    scenario, rules = world.scenario, world.scenario.rules
    networks = (rules.lease > 0).nonzero().squeeze(1)
    kept = (1 - rules.lockup[networks])[:, None]
    fee_usd = q.fee_usd[:, networks]
    idle = torch.where(q.emission > 0, 0.0, 1 - scenario.economics.idle_power_share)
    begun, drawn = _drawn(world, q, networks, least[networks])
    every = _joined([begun, *drawn])
    going = _going([_joined([begun, drawn[0]]), *drawn[1:]])
    waiting = torch.argsort(every.join, stable=True)[len(begun.cell) :]  # nobody joins at -1
    sizes = torch.bincount(every.join[waiting], minlength=scenario.horizon_h)
    return Leases(
        networks=networks,
        cell=every.cell,
        hour=every.hour,
        end=every.end,
        until_h=every.until_h,
        rate=every.rate,
        price_usd=torch.zeros_like(every.rate),
        going=going,
        begin=tuple(len(d.cell) for d in drawn),
        join=waiting.split(sizes.tolist()),
        first=torch.arange(len(begun.cell), device=least.device),
        fee_usd=fee_usd * torch.where(rules.native[networks, None] > 0, kept, 1.0),
        owed_usd=fee_usd,
        break_h=rules.break_h[networks, None, None],
        load=idle[:, networks] * rules.load[networks, None],
    )


def _joined(drawn: list[_Drawn]) -> _Drawn:
    return _Drawn(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))


def _drawn(world: World, q: Quotes, networks: Tensor, least: Tensor) -> tuple[_Drawn, list[_Drawn]]:
    """(leases from before the first hour, those that may begin in each hour)."""
    scenario, rules = world.scenario, world.scenario.rules
    episode = slice(BURN_IN_H, BURN_IN_H + scenario.horizon_h)
    up = world.exogenous.rig_up[episode].permute(0, 2, 1).unsqueeze(1)  # [T, 1, R, B]
    runs = up & (q.open[:, networks] > 0).unsqueeze(2)  # [T, L, R, B]
    breaks = _next_false(runs)
    mean_h = rules.lease_mean_h[networks, None, None]
    queue = rules.queue[networks, None, None] > 0
    work = world.fleet.work.permute(2, 1, 0)[networks]
    waited = torch.zeros_like(breaks[0])
    drawn = []
    for t in range(scenario.horizon_h):
        now = world.exogenous.at(BURN_IN_H + t)
        supply = q.outside_work[t, networks].unsqueeze(1) + least
        demand = q.demand_work[t, networks].unsqueeze(1)
        use = use_of_supply(demand, supply, scenario.economics.utilisation_cap)
        wait = _wait(lease_hazard(use, mean_h), now.arrival.T, queue)
        on = runs[t] & (q.up[t, networks] > 0).unsqueeze(1)
        cell = (on & (wait <= waited) & (work > 0)).flatten().nonzero().squeeze(1)
        length = (mean_h * now.lease_draw.T).clamp_min(1.0).flatten()[cell]
        fee = (q.fee[t, networks].unsqueeze(1) * work).expand_as(on).flatten()[cell]
        drawn.append(_lease(cell, t, t - wait.flatten()[cell].long(), length, fee, breaks))
        waited = torch.where(on, waited + 1, 0)
    state = world.state
    held = (networks[:, None, None] == state.assignment.T) & (state.lease_h.T > 0) & runs[0]
    cell = held.flatten().nonzero().squeeze(1)
    left, rate = (v.T.expand_as(held).flatten()[cell] for v in (state.lease_h, state.lease_rate))
    return _lease(cell, 0, torch.full_like(cell, -1), left, rate, breaks), drawn


def _lease(
    cell: Tensor, hour: int, join: Tensor, length: Tensor, rate: Tensor, breaks: Tensor
) -> _Drawn:
    """Leases from `hour` on, until their time runs out or the rig or the network breaks them."""
    broken = breaks[hour].flatten()[cell].long()
    end = torch.minimum(hour + length.ceil().long(), broken)
    return _Drawn(cell, join, torch.full_like(cell, hour), end, hour + length, rate)


def _wait(hazard: Tensor, drawn: Tensor, queue: Tensor) -> Tensor:
    """Whole hours that a rig must have waited for this draw to bring a lease; many if none does.

    A queue's probability `1 - exp(-(pi / 2) hazard^2 t)` exceeds the draw u after more than
    `-log(1 - u) / ((pi / 2) hazard^2)` hours; the margin covers rounding.
    """
    never = 1e9
    least = -torch.log1p(-drawn) / ((math.pi / 2) * hazard * hazard).clamp_min(1e-12)
    in_queue = torch.floor(least * (1 - 1e-4)).clamp(max=never) + 1
    chance = lease_probability(hazard, torch.zeros_like(hazard), torch.zeros_like(hazard))
    return torch.where(queue, in_queue, torch.where(drawn < chance * (1 + 1e-5), 0.0, never))


def _next_false(runs: Tensor) -> Tensor:
    """The next hour, this one included, in which a cell does not run: int16 [T, ...]; T if none."""
    hours = len(runs)
    found = torch.empty(runs.shape, dtype=torch.int16, device=runs.device)
    following = torch.full_like(found[0], hours)
    for t in range(hours - 1, -1, -1):
        following = torch.where(runs[t], following, t)
        found[t] = following
    return found


def _going(drawn: list[_Drawn]) -> tuple[Tensor, ...]:
    """By hour: the leases that earn in it, those that begin in it last."""
    alive = end = torch.empty(0, dtype=torch.int64, device=drawn[0].cell.device)
    going, known = [], 0
    for t, new in enumerate(drawn):
        goes = end > t
        fresh = torch.arange(known, known + len(new.cell), device=alive.device)
        known += len(new.cell)
        alive, end = torch.cat((alive[goes], fresh)), torch.cat((end[goes], new.end))
        going.append(alive)
    return tuple(going)


@dataclass(frozen=True)
class Held:
    """What leases are worth while the programme goes back over the hours; changed in place."""

    value_usd: Tensor  # [M] of a lease from the next hour on, then of the wait for it
    waiting_usd: Tensor  # [L R B] sum of idle hours from this one to the end


def hold(offered: Leases, shape: torch.Size) -> Held:
    """Before the last hour, for [L, R, B] cells."""
    value = torch.zeros(len(offered.cell), device=offered.rate.device)
    return Held(value, torch.zeros(shape.numel(), device=value.device))


class Alone(Protocol):
    """What an hour without a lease brings, [N, R, B]."""

    @property
    def on(self) -> Tensor: ...

    @property
    def warm(self) -> Tensor: ...


def earn(
    offered: Leases, held: Held, t: int, alone: Alone, energy: Tensor, later: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(value of the best lease to join now [L, R, B], its end there, of going on with each lease).

    energy [R, B] of an hour at full load; later [N, R, B]: value of the next hour without a lease.
    """
    on, idle, later = (v.index_select(0, offered.networks) for v in (alone.on, alone.warm, later))
    ids = offered.going[t]
    cell, end = offered.cell.index_select(0, ids), offered.end.index_select(0, ids)
    extra = offered.load[t].unsqueeze(1) * energy
    fee = _pick(on * offered.fee_usd[t].unsqueeze(1), cell) * offered.rate.index_select(0, ids)
    served = (offered.until_h.index_select(0, ids) - t).clamp(max=1.0)
    following = torch.where(end == t + 1, _pick(later, cell), held.value_usd.index_select(0, ids))
    value = _pick(idle - on * extra, cell) + fee * served + following
    held.waiting_usd.add_(idle.flatten())
    new = len(ids) - offered.begin[t]
    started = value[new:] - offered.price_usd.index_select(0, ids[new:])
    started = started - held.waiting_usd.index_select(0, cell[new:])
    held.value_usd.index_copy_(0, ids[new:], started)
    join = offered.join[t]
    at = offered.cell.index_select(0, join)
    offers = (held.value_usd.index_select(0, join)) + held.waiting_usd.index_select(0, at)
    best = torch.full_like(held.waiting_usd, -torch.inf)
    best.scatter_reduce_(0, at, offers, "amax")
    won = offers == best.index_select(0, at)
    ends = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
    ends[at[won]] = offered.end[join[won]].to(torch.int16)
    return best.view_as(idle), ends.view_as(idle), value


def _pick(values: Tensor, cell: Tensor) -> Tensor:
    return values.flatten().index_select(0, cell)


def leave_or_go_on(offered: Leases, held: Held, t: int, value: Tensor, gone: Tensor) -> None:
    """Let the going leases go on for `value`, or be left for `gone` [N, R, B] less the penalty."""
    count = len(offered.going[t]) - offered.begin[t]
    ids = offered.going[t][:count]
    cell = offered.cell.index_select(0, ids)
    gone = gone.index_select(0, offered.networks)
    owed = _pick(offered.owed_usd[t].unsqueeze(1).expand_as(gone), cell)
    hours = _pick(offered.break_h.expand_as(gone), cell)
    left = torch.minimum(offered.until_h.index_select(0, ids) - t, hours)
    leaving = _pick(gone, cell) - offered.rate.index_select(0, ids) * owed * left
    held.value_usd.index_copy_(0, ids, torch.maximum(value[:count], leaving))
