"""Leases with the luck of each world: what an idle rig could earn on a network of leases.

Whether a lease arrives is drawn for each rig and hour, and the probability falls with own work. A
rig is given every lease that could reach it: it is leased in an hour if any lease that could have
begun by then lasts until then, an arrival being tested at the use without the fleet's work, and in
a queue after the longest possible wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from env.hour import Quotes
from env.networks.allocation import lease_hazard, lease_probability, use_of_supply
from env.scenario import BURN_IN_H
from env.world import World


@dataclass(frozen=True)
class Leases:
    """L of the networks work by leases."""

    networks: Tensor  # int64 [L]
    gain_usd: Tensor  # [T, L, R, B] at most, beyond what the rig earns there without a lease


def leases(world: World, q: Quotes) -> Leases:
    """The leases of fresh worlds; q [T, N, B]."""
    scenario, rules, state = world.scenario, world.scenario.rules, world.state
    networks = (rules.lease > 0).nonzero().squeeze(1)
    of = rules.queue[networks][:, None, None], rules.lease_mean_h[networks][:, None, None]
    use = use_of_supply(q.demand_work, q.outside_work, scenario.economics.utilisation_cap)
    hazard = lease_hazard(use, rules.lease_mean_h[:, None])[:, networks]  # [T, L, B]
    work = world.fleet.work.permute(2, 1, 0)[networks]  # [L, R, B]
    here = networks[:, None, None] == state.assignment.T
    left = torch.where(here, state.lease_h.T, 0.0)  # [L, R, B]
    rate = torch.where(here, state.lease_rate.T, 0.0)
    kept = torch.where(rules.native > 0, 1 - rules.lockup, 1.0)[networks, None, None]
    loud = torch.where(q.emission > 0, 0.0, 1 - scenario.economics.idle_power_share)[:, networks]
    loud = loud * rules.load[networks, None]
    standby = (rules.standby_tokens * (1 - rules.lockup))[networks, None] * q.token_usd[:, networks]
    tariff = world.exogenous.tariff.permute(0, 2, 1)
    power = (world.fleet.owned * world.fleet.power_kw).T
    gains = []
    for t in range(scenario.horizon_h):
        now = world.exogenous.at(BURN_IN_H + t)
        up = now.rig_up.T.float() * q.open[t, networks].unsqueeze(1)
        left = left * up
        chance = lease_probability(hazard[t].unsqueeze(1), torch.full_like(left, t), of[0])
        on = up * q.up[t, networks].unsqueeze(1)
        begins = (chance > now.arrival.T) & (on > 0)
        fresh = (of[1] * now.lease_draw.T).clamp_min(1.0)
        fee = q.fee[t, networks].unsqueeze(1) * work
        rate = torch.where(begins, torch.maximum(torch.where(left > 0, rate, 0.0), fee), rate)
        left = torch.where(begins, torch.maximum(left, fresh), left)
        pay = rate * q.fee_usd[t, networks].unsqueeze(1) * kept * left.clamp(max=1.0)
        extra = loud[t].unsqueeze(1) * power * tariff[BURN_IN_H + t].gather(0, world.fleet.site.T)
        idle = standby[t].unsqueeze(1)
        gains.append(on * torch.maximum(torch.where(left > 0, pay - extra, idle), idle))
        left = (left - 1).clamp_min(0.0)
    return Leases(networks, torch.stack(gains))
