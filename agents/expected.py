"""What no policy earns on average, were all known but the leases to come: a tighter bound.

`agents.clairvoyant` lets every rig know which hour brings a lease and how long it lasts. No policy
knows, and the draws are independent of all else, so a price for that knowledge may be charged that
cancels on average for whoever lacks it: each lease of rig r is bought at its worth nu, and for each
hour listed idle the rig is paid E[nu] p, p being the probability that the lease comes
(`agents.worth`). This is the dual bound of Brown, Smith and Sun, "Information Relaxations and
Duality in Stochastic Dynamic Programs" (Operations Research 58(4), 2010, 785-801,
doi:10.1287/opre.1090.0796): perfect information, with a penalty of mean zero.

p falls with the fleet's own work w on the network. With k the most that E[nu] is to any rig for a
unit of its work, listed hopes of V USD bring `p V <= k g(V / k)`, g(i) the new leases that i units
of idle work bring (`agents.arrivals`): concave in V, so leases are one more thing that the fleet's
rigs sell at a price, as they sell work in `agents.clairvoyant`.

The bound holds for the mean of worlds. In a world whose leases are lucky a policy may exceed it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agents.arrivals import arrivals, chance, idle_work, new_leases
from agents.clairvoyant import block
from agents.lagrangian import by_hour, pay, pools
from agents.sequences import Listed, follow, rigs, solve
from agents.statistics import Floats
from agents.worth import expect, priced
from env.exogenous import Exogenous
from env.scenario import Scenario
from env.world import World

RIGS_AT_ONCE = 1024  # of all worlds together, to bound memory
LAST = 2  # steps with the leases that come: the least bound counts


@torch.inference_mode()
def expected_bound(
    scenario: Scenario, seeds: list[int], shared: Exogenous, steps: int = 12
) -> Floats:
    """Bound on the mean over worlds of any policy's net profit, USD of the episode, float64 [W].

    shared: the future of these seeds (`env.world.future`). steps: of the prices.
    """
    parts = []
    worlds = max(RIGS_AT_ONCE // scenario.rig_count, 1)
    for first in range(0, len(seeds), worlds):
        rows = slice(first, first + worlds)
        part = block(shared, rows)
        parts.append(_bound(World.start(scenario, seeds[rows], part), steps))
    bound: Floats = torch.cat(parts).cpu().numpy()
    return bound


def _bound(world: World, steps: int) -> Tensor:
    """[B] of fresh worlds. What leases are worth is settled before their draws are looked at."""
    q = by_hour(world.exogenous, world.scenario.horizon_h)
    pool, rig = pools(world.scenario, world.exogenous, q), rigs(world, q)
    market = arrivals(world, q)
    own = torch.zeros_like(pool.outside)
    for step in range(steps):
        _, price = pay(pool, own)
        _, likely = new_leases(market, idle_work(market, own))
        worth = expect(rig, market, price, likely)
        own = own + (follow(rig, worth.plan) - own) / (step + 2)
    offered, hope = priced(rig.leases, market, worth)
    rig = replace(rig, leases=offered)
    dearest = (hope / market.work.clamp_min(1e-9)).amax(2)  # k
    most = chance(market, torch.zeros_like(market.outside))
    bounds = []
    for step in range(steps, steps + LAST):
        value, price = pay(pool, own)
        idle = idle_work(market, own)
        come, likely = new_leases(market, idle)
        plan = solve(rig, price, Listed(hope, likely, most))
        resold = (value - price * own).double().sum((0, 1))
        resold = resold + (dearest * (come - likely * idle)).double().sum((0, 1))
        bounds.append(resold + plan.value_usd.double().sum(0))
        own = own + (follow(rig, plan) - own) / (step + 2)
    return torch.stack(bounds).amin(0)
