"""What training worlds show, as the ranges that a runtime measures its snapshots against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from agents.config import Config
from agents.graph import Inputs, PolicyGraph
from agents.scoring import blocks
from agents.serve.novelty import Hour, fit
from agents.worlds import Split, make_scenario, world_seeds
from env.observation import Facts, facts, remember
from env.scenario import Scenario
from env.world import World

WORLDS = 64
EVERY_H = 6  # hours from one order of the policy to the next; where rigs stand changes slowly


def training_ranges(graph: PolicyGraph, config: Config) -> dict[str, Any]:
    """The manifest's `training`: whole episodes of the run's own worlds, its policy in charge."""
    scenario = make_scenario(replace(config, device="cpu"), Split.TRAIN)
    seeds = blocks(scenario, world_seeds(Split.TRAIN, WORLDS, config.seed))[0]
    return fit(scenario.network_names, _hours(graph, scenario, seeds))


@torch.no_grad()
def _hours(graph: PolicyGraph, scenario: Scenario, seeds: list[int]) -> Iterator[Hour]:
    """Every hour of the worlds, before its step."""
    world = World.start(scenario, seeds)
    hold = torch.zeros_like(world.state.assignment)
    while not world.done:
        known = facts(scenario, world.fleet, world.state, world.now, world.static)
        yield as_hour(known, world)
        asked = world.hour % EVERY_H == 0
        world.step(graph(*Inputs.of(known, world.memory)).orders if asked else hold)


def as_hour(known: Facts, world: World) -> Hour:
    """Worlds before a step, as serving looks at them; known are their facts."""
    quotes, at = world.now.quotes, known.assignment
    memory = remember(world.memory, quotes.estimate, quotes.token_usd, 1.0)
    mass = known.mass.expand(len(at), -1, -1)  # [B, R, N]
    return Hour(
        networks=known.networks.double().numpy(),
        market=known.market.double().numpy(),
        memory=memory.double().numpy(),
        rigs=known.rigs.double().numpy(),
        mine=mass.gather(2, at[..., None]).squeeze(2).double().numpy(),
        assignment=at.numpy().copy(),
    )
