"""How much a perfect forecast would add to the tuned rule: a check on the bound's headroom.

    python -m benchmarks.headroom 64        # validation worlds of the default scenario

The hindsight mover knows what every network will pay. In its share of the day (`ATTENTION`, so that
the fleet does not move as one) a rig goes wherever staying for good will turn out to be worth more
to the fleet, entry paid, at a discount of `GAMMA` an hour. It plans one move at a time, so it is no
bound.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from agents.foresight import foresee, prospect
from agents.outlook import Policy, attending, move_where
from agents.scoring import score
from agents.tuning import load_tuned
from agents.worlds import Split, world_seeds
from env.scenario import build_scenario
from env.world import World, future

GAMMA, ATTENTION = 0.995, 0.15


def hindsight_mover(world: World) -> Policy:
    """The mover in these fresh worlds; it looks into them while they are lived."""
    ahead = foresee(world.scenario, world, GAMMA)

    def orders(observation: dict[str, Tensor]) -> Tensor:
        gain = prospect(ahead, world, observation, marginal=True).gain
        return move_where(observation, attending(observation, ATTENTION, gain))

    return orders


def main() -> None:
    torch.set_num_threads(1)
    scenario = build_scenario()
    tuned = load_tuned(scenario)
    if tuned is None:
        sys.exit("the default scenario has no stored rules: python evaluate.py tune=true")
    seeds = world_seeds(Split.VALIDATION, int(sys.argv[1]) if len(sys.argv) > 1 else 32)
    shared = future(scenario, seeds)

    def mean(world: World, policy: Policy) -> float:
        return float(score(world, policy).net_usd.mean())

    rule = mean(World.start(scenario, seeds, shared), tuned.rules[tuned.best])
    world = World.start(scenario, seeds, shared)
    mover = mean(world, hindsight_mover(world))
    print(f"{tuned.best}: {rule:.2f} USD per rig-day in {len(seeds)} worlds")
    print(f"hindsight mover: {mover:.2f}, {mover / rule - 1:+.1%}")


if __name__ == "__main__":
    main()
