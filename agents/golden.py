"""Decisions that torch made, recorded: what an exported graph and a runtime are held against.

Every case is an hour that the policy lived in training worlds of a run's own networks and market.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from agents.config import Config
from agents.graph import Answer, Inputs, PolicyGraph
from agents.serve.bundle import UNCLEAR
from agents.snapshots import Names, to_snapshot
from agents.worlds import Split, make_scenario, world_seeds
from env.observation import column, facts
from env.scenario import Scenario
from env.world import World

HOURS = 48  # of a sequence
CLEAR = 1e-2  # margin above which an order is compared at every load
FLEETS = ((4, None), (6, 5))  # rigs and networks (None = all) of each sequence
CANDIDATES = 64  # worlds of which the one with the most moves is kept
DATE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)  # any day: only the hour of it counts


def scenario_of(config: Config, rigs: int, hours: int, networks: int | None = None) -> Scenario:
    """A run's training scenario with a random fleet of `rigs`, on its first `networks` networks."""
    names = config.network["names"][:networks]
    small = replace(
        config,
        fleet={"random_rigs": rigs},
        network={"names": names},
        horizon=hours,
        device="cpu",
    )
    return make_scenario(small, Split.TRAIN)


@torch.no_grad()
def live(
    graph: PolicyGraph, scenario: Scenario, worlds: int, hours: int
) -> Iterator[tuple[World, Inputs, Answer]]:
    """The hours of training worlds that follow the graph's orders: before each of its steps."""
    world = World.start(scenario, world_seeds(Split.TRAIN, worlds))
    for _ in range(hours):
        known = facts(scenario, world.fleet, world.state, world.now, world.static)
        inputs = Inputs.of(known, world.memory)
        answer = graph(*inputs)
        yield world, inputs, answer
        world.step(answer.orders)


def golden(graph: PolicyGraph, config: Config) -> dict[str, Any]:
    """The content of `golden.json`: sequences of snapshots and what torch ordered in them."""
    return {"sequences": [_sequence(graph, config, *size) for size in FLEETS]}


def _sequence(
    graph: PolicyGraph, config: Config, rigs: int, networks: int | None
) -> dict[str, Any]:
    """The hours of the world, among some, in which the policy moved most.

    dt_h is what the graph was run with: 0 in the first hour, whose averages come with the snapshot.
    """
    scenario = scenario_of(config, rigs, HOURS, networks)
    lived = list(live(graph, scenario, CANDIDATES, HOURS))
    moves = [((a.orders > 0) & (a.margin > CLEAR)).sum(-1) for _, _, a in lived]
    row = int(torch.stack(moves).sum(0).argmax())
    names = Names.of(lived[0][0], row)
    hours = []
    for hour, (_, inputs, answer) in enumerate(lived):
        time = clock(float(inputs.market[row, column("market", "hour_of_day")]), hour)
        averages = None if hour else answer.memory_out
        hours.append(
            {
                "dt_h": 1.0 if hour else 0.0,
                "snapshot": to_snapshot(inputs.known, row, names, time, averages),
                "orders": _orders(answer, row, names),
            }
        )
    return {"hours": hours}


def clock(hour_of_day: float, hour: int) -> datetime.datetime:
    """A time in UTC for an episode's hour that shows this hour of the day, one hour after another.

    Worlds know no date; every episode begins on `DATE`.
    """
    return DATE + datetime.timedelta(hours=round(hour_of_day - hour) % 24 + hour)


def _orders(answer: Answer, row: int, names: Names) -> dict[str, str | None]:
    """By rig: the network it is sent to, None = hold, UNCLEAR where the margin is small."""
    choices: list[str | None] = [None, *names.networks]
    rows = zip(names.rigs, answer.orders[row].tolist(), answer.margin[row].tolist(), strict=True)
    return {rig: choices[order] if margin > CLEAR else UNCLEAR for rig, order, margin in rows}
