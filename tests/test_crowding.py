"""What a rig takes from its colleagues, against worlds lived again without it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import scenario
from learners import EAGER
from torch import Tensor

from env.crowding import crowding_usd
from env.scenario import Scenario, build_scenario
from env.state import Outcome, State
from env.transition import step
from env.vector_env import AllocationVectorEnv
from env.world import World

MIXED = {
    "rigs": [
        {"gpu": "rtx_4090", "gpu_count": 4, "count": 5, "site": "texas_dc"},
        {"gpu": "h100_sxm", "gpu_count": 8, "count": 2, "site": "texas_dc"},
        {"gpu": "rtx_3060", "gpu_count": 2, "count": 3, "site": "munich_home"},
    ]
}
HUGE = {"rigs": [{"gpu": "rtx_4090", "gpu_count": 64, "count": 20, "site": "texas_dc"}]}
SEEDS = list(range(6))


def without(world: World, rig: int) -> Outcome:
    """The hour in which that rig stands on *off*, the others hold."""
    assignment = world.state.assignment.clone()
    assignment[:, rig] = world.scenario.network_count - 1
    return held(replace(world.state, assignment=assignment), world)


def held(state: State, world: World) -> Outcome:
    """An hour in which every rig holds and none is down: what a rig that is down pays for its
    downtime also depends on the others, and is not counted."""
    hold = torch.zeros_like(state.assignment)
    hour = world.now._replace(rig_up=torch.ones_like(world.now.rig_up))
    return step(world.scenario, world.fleet, state, hold, hour)[1]


def found_and_expected(s: Scenario) -> tuple[Tensor, Tensor]:
    """Crowding by the closed form and by brute force, [B, R] USD."""
    world = World.start(s, SEEDS)
    outcome = held(world.state, world)
    taken = []
    for rig in range(s.rig_count):
        gained = without(world, rig).net_usd - outcome.net_usd
        taken.append(gained.sum(-1) - gained[:, rig])
    found = crowding_usd(s, world.fleet, world.now, outcome)
    return found, torch.stack(taken, -1)


@pytest.mark.parametrize(
    "networks",
    [
        ["render"],  # an anti-fleet rule above three rigs
        ["io_net"],  # two tiers, pay capped
        ["marlin"],  # a pool and metered requests in USD
        ["ritual"],  # vesting
        ["bittensor_subnet"],  # a tournament, sold through a constant-product pool
        ["bittensor_subnet", "bittensor_serverless"],
        ["morpheus", "heurist", "filecoin"],  # thin order books
    ],
)
def test_it_is_what_the_others_earn_more_without_the_rig(networks: list[str]) -> None:
    """To 2 %: what dilution takes would itself lose some slippage, which the closed form leaves."""
    found, expected = found_and_expected(build_scenario(MIXED, {"names": networks}, horizon=2))
    noise = 5e-6 * float(expected.abs().max()) + 2e-4  # of float32 sums over the fleet
    torch.testing.assert_close(found, expected, rtol=0.02, atol=noise)
    assert float(expected.max()) > 20 * noise


def test_metered_requests_are_shared_in_proportion_to_supply() -> None:
    """Fees alone, of a fleet that is much of the network."""
    found, expected = found_and_expected(build_scenario(HUGE, {"names": ["livepeer"]}, horizon=2))
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-2)
    assert float(expected.max()) > 0.2


def test_the_anti_fleet_rule_is_part_of_it() -> None:
    """Where many rigs share one pool that punishes fleets, one less is worth more than dilution."""
    s = build_scenario(MIXED, {"names": ["render"]}, horizon=2)
    tame = replace(s, rules=replace(s.rules, wallet_share=torch.zeros_like(s.rules.wallet_share)))
    world = World.start(s, SEEDS)
    strict, free = (
        crowding_usd(x, world.fleet, world.now, held(world.state, world)) for x in (s, tame)
    )
    assert bool((strict >= free - 1e-6).all())
    assert float(strict.sum()) > 1.02 * float(free.sum())


def test_a_rig_alone_takes_nothing() -> None:
    for networks in (["render"], ["marlin"], ["akash"], ["bittensor_subnet"]):
        one = {"rigs": [{"gpu": "h100_sxm", "gpu_count": 8, "count": 1, "site": "texas_dc"}]}
        s = build_scenario(one, {"names": networks}, horizon=2)
        world = World.start(s, SEEDS)
        taken = crowding_usd(s, world.fleet, world.now, held(world.state, world))
        assert float(taken.abs().max()) < 1e-4


@pytest.mark.parametrize("fleet", ["mixed", "random"])
def test_it_is_never_negative(fleet: str) -> None:
    world = World.start(scenario(fleet), SEEDS)
    for _ in range(10):
        hour = world.now
        _, outcome = world.step(EAGER(world.observe()))
        taken = crowding_usd(world.scenario, world.fleet, hour, outcome)
        assert bool(torch.isfinite(taken).all())
        slack = 1e-5 * float(outcome.gross_usd.max())
        assert float(taken.min()) > -slack
        assert bool((taken[outcome.mass == 0] <= slack).all())


def test_the_environment_reports_it_per_nominal_cost() -> None:
    s = scenario()
    shown = AllocationVectorEnv(3, scenario=s, output="torch", crowding=True)
    shown.reset(seed=4)
    world, hour = shown.world, shown.world.now
    hold = torch.zeros_like(world.state.assignment)
    _, outcome = step(s, world.fleet, world.state, hold, hour)
    expected = crowding_usd(s, world.fleet, hour, outcome)
    info = shown.step(hold)[4]
    torch.testing.assert_close(
        info["crowding_rig"], expected / world.fleet.nominal_usd_h.sum(-1, keepdim=True)
    )
    quiet = AllocationVectorEnv(3, scenario=s, output="torch")
    quiet.reset(seed=4)
    assert "crowding_rig" not in quiet.step(hold)[4]
