"""Where the bound's headroom comes from: what foresight of all but leases earns, and of leases.

    python -m benchmarks.headroom [WORLDS] [ROUNDS]

In test worlds of the default scenario, from below: the tuned rule; a planned fleet, which knows all
prices and outages but not which leases come; the bound on every such fleet's mean; the bound with
leases foreseen. The plan is made rig by rig against what the others' plans leave each network, for
some rounds, and then lived with the world's own leases. Being lived it is attainable, so whatever
lies between it and its bound is looseness or a better plan.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from agents.arrivals import arrivals, idle_work, new_leases
from agents.clairvoyant import BLOCK, clairvoyant
from agents.expected import expected_bound
from agents.lagrangian import by_hour, pay, pools
from agents.leases import Leases
from agents.rules import Policy
from agents.sequences import Plan, Rigs, follow, rigs
from agents.tuning import load_tuned
from agents.worlds import Split, world_seeds
from agents.worth import expect
from env.scenario import Scenario, build_scenario
from env.world import World, future


def alone(rig: Rigs, r: int) -> Rigs:
    """One of the rigs, with the lease that it starts with."""
    only = slice(r, r + 1)
    return replace(
        rig,
        mass=rig.mass[:, only],
        tier=rig.tier[:, only],
        barred=rig.barred[:, only],
        start=rig.start[only],
        up=rig.up[:, only],
        energy_usd=rig.energy_usd[:, only],
        locked=rig.locked[:, only],
        fixed_usd=rig.fixed_usd[only],
        leases=_of(rig.leases, r, *rig.start.shape),
    )


def _of(leases: Leases, r: int, count: int, worlds: int) -> Leases:
    network, place = leases.cell // (count * worlds), leases.cell % (count * worlds)
    first = leases.first[place[leases.first] // worlds == r]
    return replace(leases, cell=network * worlds + place % worlds, first=first)


def plans(world: World, rounds: int) -> Iterator[list[Plan]]:
    """The rigs' plans after each round; of fresh worlds."""
    q = by_hour(world.exogenous, world.scenario.horizon_h)
    pool, rig = pools(world.scenario, world.exogenous, q), rigs(world, q)
    market = arrivals(world, q)
    loads = [torch.zeros_like(pool.outside) for _ in rig.start]
    own = torch.zeros_like(pool.outside)
    made = [Plan.blank(rig)] * len(loads)
    for _ in range(rounds):
        for r in range(len(loads)):
            one = alone(rig, r)
            others = (own - loads[r]).clamp_min(0.0)
            mass = torch.cat((one.mass * (1 - one.tier), one.mass * one.tier)).squeeze(1)  # [2N, B]
            more = pay(pool, others + mass)[0] - pay(pool, others)[0]
            price = torch.where(mass > 0, more / mass.clamp_min(1e-9), 0.0)
            _, likely = new_leases(market, idle_work(market, others + mass))
            its = replace(market, work=market.work[:, r : r + 1])
            made[r] = expect(one, its, price, likely).plan
            loads[r] = follow(one, made[r])
            own = others + loads[r]
        yield made


def follower(world: World, made: list[Plan]) -> Policy:
    """Whoever is neither leased nor provisioning goes where its plan sends it in this hour."""
    leaves = torch.cat([plan.leaves for plan in made], 3)  # [T, 2, N, R, B]
    target = torch.cat([plan.target for plan in made], 1).long()  # [T, R, B]

    def orders(_: dict[str, Tensor]) -> Tensor:
        now = world.state
        here = now.assignment.T.expand(2, 1, *now.assignment.T.shape)
        warm, cold = leaves[world.hour].gather(1, here).squeeze(1)
        goes = torch.where(now.score.T < 0.5, cold, warm)
        free = (now.lease_h <= 0) & (now.provisioning_h <= 0)
        return torch.where(goes.T & free, target[world.hour].T + 1, 0)

    return orders


def earned(world: World, policy: Policy) -> Tensor:
    """Net profit of each of fresh worlds, USD."""
    before = world.state.equity_usd
    while not world.done:
        world.step(policy(world.observe()))
    return world.state.equity_usd - before


def measured(
    scenario: Scenario, seeds: list[int], name: str, rule: Policy, rounds: int
) -> dict[str, Tensor]:
    """By name what the same few worlds earn or cannot, USD [W]."""
    shared = future(scenario, seeds)

    def fresh() -> World:
        return World.start(scenario, seeds, shared)

    rows = {name: earned(fresh(), rule)}
    for number, made in enumerate(plans(fresh(), rounds), 1):
        world = fresh()
        rows[f"planned fleet, round {number}"] = earned(world, follower(world, made))
    rows["bound without foresight of leases"] = torch.as_tensor(
        expected_bound(scenario, seeds, shared)
    )
    rows["clairvoyant bound"] = torch.as_tensor(clairvoyant(scenario, seeds, shared, rule))
    return rows


@torch.inference_mode()
def main(worlds: int, rounds: int) -> None:
    torch.set_num_threads(1)
    scenario = build_scenario()
    tuned = load_tuned(scenario)
    if tuned is None:
        sys.exit("the default scenario has no stored rules: python evaluate.py tune=true")
    seeds, name = world_seeds(Split.TEST, worlds), tuned.best
    parts = [
        measured(scenario, seeds[first : first + BLOCK], name, tuned.rules[name], rounds)
        for first in range(0, worlds, BLOCK)
    ]
    rig_days = scenario.rig_count * scenario.horizon_h / 24
    means = {n: float(torch.cat([p[n] for p in parts]).mean()) / rig_days for n in parts[0]}
    print(f"{worlds} test worlds, net USD per rig-day")
    for row, mean in means.items():
        print(f"{row:34} {mean:6.2f}  {mean / means[name] - 1:+.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", type=int, nargs="?", default=32)
    parser.add_argument("rounds", type=int, nargs="?", default=4, help="of planning")
    given = parser.parse_args()
    main(given.worlds, given.rounds)
