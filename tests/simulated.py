"""What the simulator itself computes, for the published facts: rules, mints and one rig's hour."""

from __future__ import annotations

import datetime
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from conftest import scenario
from torch import Tensor

from env import catalog
from env.exogenous import Hour, Quotes
from env.networks import emission, vesting
from env.scenario import BURN_IN_H, build_scenario
from env.state import Outcome, State
from env.transition import step
from env.world import World


def index(network: str) -> int:
    return scenario().network_names.index(network)


def rule(network: str, name: str, place: int | None = None) -> float:
    """A network's parameter in the tensors that the step reads."""
    value = getattr(scenario().rules, name)[index(network)]
    return float(value if place is None else value[place])


def work(network: str, gpu: str) -> float:
    """Work units of one GPU, from the tensor that the fleet is built from."""
    s = scenario()
    return float(s.work[s.gpu_names.index(gpu), index(network)])


def schedule(network: str) -> catalog.Schedule:
    found = scenario().networks[index(network)].emission
    assert found is not None
    return found.schedule


def minted(network: str, date: str) -> float:
    """Tokens the loaded schedule mints for all on a date, summed over its hours."""
    days = (datetime.date.fromisoformat(date) - emission.CATALOGUE_DATE).days
    return float(emission.tokens_per_hour(schedule(network), 24 * days + np.arange(24)).sum())


def provided(network: str, days: int = 1) -> float:
    """Tokens for providers in the first days from the catalogue's date, as the step shares them."""
    hours = scenario().emission_tokens_h[index(network), BURN_IN_H : BURN_IN_H + 24 * days]
    return float(hours.double().sum())


def provider_share(network: str) -> float:
    """Part of the first day's mint that reaches providers."""
    return provided(network) / minted(network, emission.CATALOGUE_DATE.isoformat())


def vested(network: str, days: float) -> float:
    """Share of a payout unlocked by then, from the unlocks that the lock-up discount averages."""
    tranches = scenario().networks[index(network)].commitment.vesting
    free = 1 - sum(share for share, _, _ in tranches)
    for share, delay_h, linear_h in tranches:
        free += share * float(
            np.mean([h <= 24 * days for h in vesting.unlock_hours(delay_h, linear_h)])
        )
    return free


@cache
def lone(network: str, gpu: str, gpus: int, rigs: int, owned: bool = True) -> World:
    """A fleet of identical rigs with one network to work on, at hour 0."""
    group = {"gpu": gpu, "gpu_count": gpus, "count": rigs, "site": "texas_dc", "owned": owned}
    s = build_scenario({"rigs": [group]}, {"names": [network]}, horizon=1)
    return World.start(s, [0])


def stage(world: World, quotes: dict[str, float]) -> Hour:
    """The world's first hour with everything working, an endless supply of others, and `quotes`."""
    table = world.now.table.clone()
    calm = {"up": 1.0, "open": 1.0, "registrations": 0.0, "emission": 0.0, "outside_work": 1e12}
    for name, value in {**calm, "token_usd": 1.0, "fee_usd": 1.0, **quotes}.items():
        table[:, Quotes._fields.index(name), 0] = value
    up = torch.ones_like(world.now.rig_up)
    return world.now._replace(quotes=Quotes(*table.unbind(1)), table=table, rig_up=up)


def settled(state: State) -> State:
    """Every rig long on network 0, fully warm, long idle and without a lease."""
    values = {"provisioning_h": 0.0, "tenure_h": 1e6, "score": 1.0, "idle_h": 1e3}
    filled: dict[str, Tensor] = {
        name: torch.full_like(getattr(state, name), value)
        for name, value in {**values, "lease_h": 0.0, "lease_rate": 0.0}.items()
    }
    return replace(state, assignment=torch.zeros_like(state.assignment), **filled)


def lived(
    network: str,
    gpu: str,
    *,
    gpus: int = 1,
    rigs: int = 1,
    owned: bool = True,
    up: bool = True,
    leased: bool = False,
    **quotes: float,
) -> Outcome:
    """One hour of `step` for rigs that stay where they are, in an hour set up by `quotes`.

    With `leased` a lease begins at the price the network posts at the catalogue's rents.
    """
    world = lone(network, gpu, gpus, rigs, owned)
    if leased:
        quotes = {"demand_work": 5e11, "fee": float(world.scenario.rules.fee[0]), **quotes}
    hour = stage(world, quotes)._replace(
        arrival=torch.full_like(world.now.arrival, 0.0 if leased else 1.0),
        rig_up=torch.full_like(world.now.rig_up, up),
    )
    before = settled(world.state)
    hold = torch.zeros_like(before.assignment)
    return step(world.scenario, world.fleet, before, hold, hour)[1]


def entered(network: str, gpu: str, *, rigs: int, **quotes: float) -> tuple[Outcome, State]:
    """One hour of `step` in which all rigs leave *off* and register on the network."""
    world = lone(network, gpu, 1, rigs)
    before = settled(world.state)
    off = torch.full_like(before.assignment, world.scenario.network_count - 1)
    before = replace(before, assignment=off)
    after, outcome = step(
        world.scenario, world.fleet, before, torch.ones_like(off), stage(world, quotes)
    )
    return outcome, after
