"""What perfect foresight could earn: a bound that no policy exceeds in any world.

A network pays less the more of our own work is on it, so the sum of each rig's best sequence at
undiluted yields says little where networks are thin. For any prices mu[n, t] >= 0 of a unit of
work,

    sum_r DP_r(mu) + sum_{n,t} max_w (f_{n,t}(w) - mu[n,t] w)

bounds the profit of every plan, f being the fleet's pay for own work w (`agents.lagrangian`) and
DP_r a rig's best sequence when work is paid mu (`agents.sequences`): the fleet buys its rigs' work
at mu and resells it to the networks. As f is concave, the prices mu = f'(w) of any loads w put the
second maximum at w. The loads start from a good policy's and go to those of the best sequences by
Frank and Wolfe's steps ("An algorithm for quadratic programming", 1956), which maximise the fleet's
profit over mixtures of sequences; the bound is their duality gap above it. The least bound counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.lagrangian import by_hour, pay, pools
from agents.rules import Policy
from agents.sequences import follow, rigs, solve
from agents.statistics import Floats
from env.exogenous import Exogenous
from env.scenario import Scenario
from env.state import per_network
from env.world import World

BLOCK = 32  # worlds at a time, so that an hour of all rigs and networks fits the caches


@torch.inference_mode()
def clairvoyant(
    scenario: Scenario, seeds: list[int], shared: Exogenous, policy: Policy, steps: int = 8
) -> Floats:
    """Upper bound on the net profit of each world, USD of the whole episode, float64 [W].

    shared: the future of these seeds (`env.world.future`). policy: a good rule, from whose loads
    the prices start; a worse one only needs more `steps`.
    """
    parts = []
    for first in range(0, len(seeds), BLOCK):
        rows = slice(first, first + BLOCK)
        part = block(shared, rows)
        own = loads(World.start(scenario, seeds[rows], part), policy)
        parts.append(tighten(World.start(scenario, seeds[rows], part), own, steps)[-1])
    bound: Floats = torch.cat(parts).cpu().numpy()
    return bound


def block(shared: Exogenous, rows: slice) -> Exogenous:
    """The future of some of the worlds, views."""
    columns = {name: getattr(shared, name)[:, rows] for name in Exogenous.__dataclass_fields__}
    return Exogenous(**columns)


def tighten(world: World, own: Tensor, steps: int) -> Tensor:
    """The least bound on the profit of fresh worlds after 0, 1, ... steps, float64 [steps + 1, B].

    own [T, 2N, B]: work in each sub-pool to start from.
    """
    q = by_hour(world.exogenous, world.scenario.horizon_h)
    pool, rig = pools(world.scenario, world.exogenous, q), rigs(world, q)
    best: list[Tensor] = []
    for step in range(steps + 1):
        value, price = pay(pool, own)
        plan = solve(rig, price)
        bound = (value - price * own).double().sum((0, 1)) + plan.value_usd.double().sum(0)
        best.append(torch.minimum(bound, best[-1]) if best else bound)
        if step < steps:
            own = own + (follow(rig, plan) - own) / (step + 3)
    return torch.stack(best)


def loads(world: World, policy: Policy) -> Tensor:
    """Live fresh worlds under a policy: its work in each sub-pool, [T, 2N, B]."""
    networks, hours = world.scenario.network_count, []
    while not world.done:
        world.step(policy(world.observe()))
        pick = world.state.assignment.unsqueeze(-1)
        ready = (world.state.provisioning_h <= 0) & (world.state.score > 0)
        mass = world.fleet.mass.gather(2, pick).squeeze(-1) * ready
        tier = world.fleet.tier.gather(2, pick).squeeze(-1)
        hours.append(per_network(mass, world.state.assignment + networks * tier, 2 * networks))
    return torch.stack(hours).transpose(1, 2)
