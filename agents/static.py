"""Best static assignment in hindsight: what never moving again could earn, chosen from the future.

A reference and no rule: it knows the whole episode. For each world a greedy choice, rig by rig and
twice over: each rig takes the network where it adds most to the fleet's profit, given where the
others stand, from the true hourly pay after dilution and slippage, less energy and the entry cost.
That is coordinate ascent, so a local optimum. The assignment is then lived like any policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.rules import Observation, read
from agents.search import Floats, live
from env.exogenous import Exogenous, Quotes
from env.networks.settlement import square_root_impact
from env.scenario import BURN_IN_H, Scenario
from env.world import World

SWEEPS = 2  # over the rigs
STRIDE_H = 4  # between the hours that are looked at


@dataclass(frozen=True)
class Pools:
    """Pay of every sub-pool, [T, B, 2N]: V w / (W + w), at most cap w."""

    value_usd: Tensor  # V, after the lock-up discount
    outside: Tensor  # W
    cap_usd: Tensor  # per unit of work; 1e9 = none


def pools(scenario: Scenario, exogenous: Exogenous) -> Pools:
    """The pay that own work meets in each hour, sub-pools [first tier | second tier]."""
    rules = scenario.rules
    q = Quotes(*exogenous.quotes[BURN_IN_H : BURN_IN_H + scenario.horizon_h].unbind(2))
    share = torch.cat((rules.tier_share[:, 0], rules.tier_share[:, 1]))
    kept = 1 - rules.lockup
    runs = q.up * q.open
    emission = (q.emission * q.token_usd * kept * runs).repeat(1, 1, 2) * share
    fee_kept = torch.where(rules.native > 0, kept, 1.0)
    demand = torch.minimum(q.demand_work, scenario.economics.utilisation_cap * q.outside_work)
    fees = demand * q.fee * q.fee_usd * fee_kept * runs
    # fees dilute in the outside work of both tiers; counting each tier's part as a pool of its own
    # leaves out what one tier's work takes from the other's fees
    outside = q.outside_work.repeat(1, 1, 2) * share
    cap = torch.where(
        fees.repeat(1, 1, 2) > 0, 1e9, (rules.cap_usd * kept).clamp(max=1e9).repeat(2)
    )
    return Pools(emission + fees.repeat(1, 1, 2) * share, outside.clamp_min(1e-9), cap)


def best_static(scenario: Scenario, seeds: list[int], shared: Exogenous) -> Floats:
    """Net USD per rig-day of the best static assignment in each world, [W]; shared: the future."""
    world = World.start(scenario, seeds, shared)
    place = best_places(World.start(scenario, seeds, shared))

    def policy(observation: Observation) -> Tensor:
        orders = torch.where(place == world.state.assignment, 0, place + 1)
        return orders if world.hour == 0 else torch.zeros_like(orders)

    return live(world, policy)


@torch.inference_mode()
def best_places(world: World) -> Tensor:
    """The network of each rig in fresh worlds, int64 [B, R]."""
    scenario, mass = world.scenario, world.fleet.mass
    networks, hours = scenario.network_count, scenario.horizon_h
    pool = _every(pools(scenario, world.exogenous), STRIDE_H)
    sampled = slice(BURN_IN_H, BURN_IN_H + hours, STRIDE_H)
    turnover = world.exogenous.turnover_usd[sampled][..., scenario.rules.token]  # [T, B, N]
    seen = world.observe()
    cost = read(seen, "pairs", "entry_usd") + _energy_usd(world)  # [B, R, N]
    here = read(seen, "pairs", "here") > 0
    cost = cost.masked_fill(~(here | (seen["action_mask"][..., 1:] > 0)), torch.inf)

    def revenue(work: Tensor, where: Tensor) -> Tensor:
        """USD of the episode from `work` in the sub-pools `where`, [B, N] both."""
        index = where.expand(len(turnover), -1, -1)
        tables = (pool.value_usd, pool.outside, pool.cap_usd)
        value, outside, cap = (table.gather(2, index) for table in tables)
        paid = torch.minimum(value * work / (outside + work), cap * work)
        sd = scenario.token_daily_sd[scenario.rules.token]
        coefficient = scenario.economics.impact_coefficient
        lost = square_root_impact(24 * paid, turnover, sd, coefficient).clamp(max=1.0)
        return (paid * (1 - lost)).mean(0) * hours

    place = world.state.assignment.clone()
    pool_of = torch.arange(networks, device=place.device) + networks * world.fleet.tier  # [B, R, N]
    own = torch.zeros_like(pool.outside[0])  # [B, 2N]
    for sweep in range(SWEEPS):
        for rig in range(place.shape[1]):
            where, adds = pool_of[:, rig], mass[:, rig]  # [B, N]
            if sweep:  # leave, to choose again
                own = _moved(own, where, adds, place[:, rig], -1.0)
            others = own.gather(1, where)
            gain = revenue(others + adds, where) - revenue(others, where) - cost[:, rig]
            place[:, rig] = gain.argmax(-1)
            own = _moved(own, where, adds, place[:, rig], 1.0)
    return place


def _every(pool: Pools, stride: int) -> Pools:
    return Pools(pool.value_usd[::stride], pool.outside[::stride], pool.cap_usd[::stride])


def _energy_usd(world: World) -> Tensor:
    """Energy of the episode on each network, running all the time: USD, [B, R, N]."""
    episode = slice(BURN_IN_H, BURN_IN_H + world.scenario.horizon_h)
    tariff = world.exogenous.tariff[episode].sum(0).gather(1, world.fleet.site)  # [B, R]
    load = world.scenario.rules.load
    return (world.fleet.owned * world.fleet.power_kw * tariff).unsqueeze(-1) * load


def _moved(own: Tensor, where: Tensor, adds: Tensor, choice: Tensor, sign: float) -> Tensor:
    """The fleet's work in each sub-pool [B, 2N] with one rig's added or taken at its choice [B]."""
    pick = choice.unsqueeze(-1)
    return own.scatter_add(1, where.gather(1, pick), sign * adds.gather(1, pick))
