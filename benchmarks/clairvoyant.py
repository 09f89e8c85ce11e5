"""How far perfect foresight is above a rule, and how soon the bound comes down.

    python -m benchmarks.clairvoyant [WORLDS] [STEPS]

Prints, for test worlds of the default scenario, the rule's profit and the bound after each step,
both in USD per rig-day, and the seconds they took.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import torch

from agents.clairvoyant import BLOCK, block, loads, tighten
from agents.rules import EmaHysteresis
from agents.worlds import Split, world_seeds
from env.scenario import build_scenario
from env.world import World, future

RULE = EmaHysteresis(horizon_h=168.0)


@torch.inference_mode()
def measure(worlds: int, steps: int) -> None:
    scenario = build_scenario()
    seeds = world_seeds(Split.TEST, worlds)
    shared = future(scenario, seeds)
    begun = perf_counter()
    nets, bounds = [], []
    for first in range(0, worlds, BLOCK):
        rows = slice(first, first + BLOCK)
        part = block(shared, rows)
        lived = World.start(scenario, seeds[rows], part)
        start = lived.state.equity_usd
        own = loads(lived, RULE)
        nets.append(lived.state.equity_usd - start)
        bounds.append(tighten(World.start(scenario, seeds[rows], part), own, steps))
    net, bound = torch.cat(nets), torch.cat(bounds, 1)
    rig_days = scenario.rig_count * scenario.horizon_h / 24
    print(f"{worlds} worlds, {perf_counter() - begun:.0f} s, {torch.get_num_threads()} threads")
    print(f"rule   {net.mean() / rig_days:8.2f} USD per rig-day")
    for step, value in enumerate(bound.mean(1)):
        print(f"step {step:2d}{value / rig_days:8.2f}")
    print(f"worlds in which the rule exceeds the bound: {int((net > bound[-1]).sum())}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", type=int, nargs="?", default=32)
    parser.add_argument("steps", type=int, nargs="?", default=8, help="of tightening the bound")
    given = parser.parse_args()
    measure(given.worlds, given.steps)
