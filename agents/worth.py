"""What a lease is worth to a rig that does not know which will come, and what it costs then.

The best sequence of each rig at given prices, as in `agents.sequences`, but leases come with their
probability instead of the world's draws. It forgets how long a lease will last and how long a rig
has waited, so its value is no bound. The worth of a lease that begins in hour t and ends in e,

    nu(t, e) = sum of pay over t..e-1 + V(e) - V(t + 1),

V being the value of waiting, is a price for it: whoever pays nu for each lease and is paid
E[nu] p for each hour of waiting gains nothing by knowing the draws, so far as V is right. On
average both cancel whatever V is, because E[nu] is exact: with `later` the pay of an hour less what
waiting loses in it, nu is a sum of `later`, and E[nu] follows backward over hours, a lease going on
for another hour with a probability that does not depend on its age.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from agents.arrivals import Arrivals
from agents.leases import Leases
from agents.sequences import Plan, Rigs, earnings, move, stages_of, stay


class Expected(NamedTuple):
    """What leases are worth, USD; L networks of leases."""

    plan: Plan
    first_usd: Tensor  # [T, L, R, B] gain of an hour in which a lease begins
    later_usd: Tensor  # [T, L, R, B] of each later hour, served in full
    fee_usd: Tensor  # [T, L, R, B] the fee in it
    mean_usd: Tensor  # [T, L, R, B] expected worth of a lease that begins in this hour


def expect(rig: Rigs, market: Arrivals, price: Tensor, chance: Tensor) -> Expected:
    """Plan at prices [T, 2N, B] where an idle rig is leased with probability chance [T, L, B]."""
    plan, stages, lent = Plan.blank(rig), stages_of(rig.delay_h), market.networks
    warm, cold = torch.zeros(2, *rig.mass.shape, device=price.device)  # from the next hour on
    waits = warm.new_zeros(len(stages.before), *warm.shape[1:])
    table = warm.new_zeros(4, len(price), len(lent), *warm.shape[1:])  # the columns of Expected
    goes_on = market.goes_on.unsqueeze(1)
    served = goes_on + (1 - goes_on) * market.last_h.unsqueeze(1)
    leased, worth = table.new_zeros(2, *table.shape[2:])  # value of a lease that goes on
    for t in range(len(price) - 1, -1, -1):
        now = earnings(rig, price[t], t)
        states = stay(rig, now, warm, cold)
        following = warm.index_select(0, lent)
        pool, on = now.warm.index_select(0, lent), now.on.index_select(0, lent)
        fee = on * market.fee_usd[t].unsqueeze(1) * market.work
        extra = on * market.load[t].unsqueeze(1) * rig.energy_usd[t]
        first = fee - extra
        gain = on * (first + goes_on * (leased - following))
        for state in states:
            state.index_add_(0, lent, chance[t].unsqueeze(1) * gain.clamp_min(0.0))
        waits, gone, where = move(rig, stages, now, t, states[2], waits)
        warm, cold = plan.decide(t, states[:2], gone, where)
        idle = warm.index_select(0, lent)
        lasts = market.exists[t].unsqueeze(1) & (rig.up[t] > 0)
        later = torch.where(lasts, pool + fee - extra - (idle - following), 0.0)
        table[:, t] = torch.stack((first, later, fee * lasts, on * (first + goes_on * worth)))
        unserved = (1 - served) * fee
        worth = torch.where(lasts, later - unserved + goes_on * worth, 0.0)
        stays = pool + fee - extra - unserved + following + goes_on * (leased - following)
        leased = torch.where(lasts, stays, idle)
    return Expected(plan, *table)


def priced(offered: Leases, market: Arrivals, worth: Expected) -> tuple[Leases, Tensor]:
    """(leases with their price, what a listed rig may hope for [T, L, R, B]), zero on average.

    At an auction a lease costs its worth. In a queue, whose probabilities depend on the wait, it
    costs what its length adds to the mean: there the arrival stays foreseen. A worth that is
    negative on average is no hope.
    """
    hope = worth.mean_usd.clamp_min(0.0)
    at = offered.hour, offered.cell
    price = _worth_usd(offered, worth) - worth.mean_usd.flatten(1)[at]
    auction = market.auction.unsqueeze(1)
    hope_at_auction = hope * auction
    price = price + hope_at_auction.flatten(1)[at]
    price = torch.where(hope.flatten(1)[at] > 0, price, 0.0)
    price[offered.first] = 0.0
    return replace(offered, price_usd=price), hope_at_auction


def _worth_usd(offered: Leases, worth: Expected) -> Tensor:
    """nu of each lease that could begin, [M]."""
    begin, end, cell = offered.hour, offered.end, offered.cell
    sums = worth.later_usd.flatten(1).double().cumsum(0)  # before an hour: [hour - 1]
    later = sums[end - 1, cell] - sums[begin, cell]
    unserved = (end - offered.until_h).clamp_min(0.0) * (end > begin + 1)
    lost = unserved * worth.fee_usd.flatten(1)[end - 1, cell]
    return (worth.first_usd.flatten(1)[begin, cell] + later - lost).float()
