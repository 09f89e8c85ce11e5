"""Regret in hindsight: optimal against enumeration, split by cause, priced as the world pays."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from simulated import lone, settled
from torch import Tensor

from agents.hindsight import CAUSES, Prospect, best_path, hourly_value, prospect, regret, split
from agents.rules import RULES
from agents.scoring import follow
from env.scenario import Scenario, build_scenario
from env.transition import step
from env.world import World

HOURS = 5


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario("small", "default", horizon=72)


def random_prospect(seed: int, hours: int, worlds: int, networks: int) -> Prospect:
    """Random yields and costs of one rig in each world; some networks cannot be entered."""
    make = torch.Generator().manual_seed(seed)
    shape = (hours, worlds, 1, networks)
    enter = 2 * torch.rand(shape, generator=make)
    enter = torch.where(torch.rand(shape, generator=make) < 0.2, torch.inf, enter)
    return Prospect(
        torch.randn(shape, generator=make), enter, 0.2 * torch.rand(shape, generator=make)
    )


def places(values: list[int]) -> Tensor:
    """A path of one rig in one world, [T, 1, 1]."""
    return torch.tensor(values)[:, None, None]


def test_no_path_is_worth_more_than_the_best_one() -> None:
    ahead = random_prospect(0, HOURS, worlds=40, networks=3)
    start = torch.zeros(40, 1, dtype=torch.int64)
    best = hourly_value(ahead, start, best_path(ahead, start)).sum(0)
    every = [
        hourly_value(ahead, start, torch.tensor(path)[:, None, None].expand(HOURS, 40, 1)).sum(0)
        for path in product(range(3), repeat=HOURS)
    ]
    torch.testing.assert_close(best, torch.stack(every).amax(0))


def test_every_cause_costs_at_least_nothing_and_they_sum_to_the_regret() -> None:
    ahead = random_prospect(1, hours=60, worlds=200, networks=4)
    start = torch.randint(4, (200, 1), generator=torch.Generator().manual_seed(2))
    best = best_path(ahead, start)
    # our path: the optimum of yields seen with an error, so that it is now together, now apart
    error = random_prospect(3, hours=60, worlds=200, networks=4).yield_usd
    own = best_path(replace(ahead, yield_usd=ahead.yield_usd + 0.5 * error), start)
    moved = own != torch.cat((start[None], own[:-1]))
    loss = hourly_value(ahead, start, best) - hourly_value(ahead, start, own)
    parts = split(start, own, best, moved, loss)
    assert (parts > -1e-9).all()
    assert (parts > 0.1).any(0).all()  # each cause occurs
    torch.testing.assert_close(parts.sum(1), loss.sum((0, 2)))


@pytest.mark.parametrize(
    ("own", "best", "cause"),
    [
        ([0, 0, 0, 1, 1], [0, 1, 1, 1, 1], "late"),
        ([0, 0, 0, 0, 0], [0, 1, 1, 1, 1], "missed"),
        ([0, 0, 0, 0, 0], [0, 1, 1, 0, 0], "missed"),
        ([0, 2, 2, 2, 2], [0, 1, 1, 1, 1], "wrong"),
        ([0, 0, 2, 1, 1], [0, 1, 1, 1, 1], "wrong"),
        ([0, 2, 2, 0, 0], [0, 0, 0, 0, 0], "unneeded"),
        ([2, 2, 2, 2, 2], [0, 0, 0, 1, 1], "unneeded"),
    ],
)
def test_a_gap_is_named_by_our_part_in_it(own: list[int], best: list[int], cause: str) -> None:
    start, path, other = torch.zeros(1, 1, dtype=torch.int64), places(own), places(best)
    moved = path != torch.cat((start[None], path[:-1]))
    loss = torch.where(path != other, 1.0, 0.0).double()
    parts = dict(zip(CAUSES, split(start, path, other, moved, loss)[0].tolist(), strict=True))
    assert parts == {**dict.fromkeys(CAUSES, 0.0), cause: float(loss.sum())}


def test_a_slot_lost_to_a_newcomer_is_no_move_of_ours() -> None:
    start, out, stays = torch.zeros(1, 1, dtype=torch.int64), [0, 2, 2, 0, 0], [0, 0, 0, 0, 0]
    moved = torch.tensor([False, False, False, True, False])[:, None, None]
    loss = torch.where(places(out) != places(stays), 1.0, 0.0).double()
    parts = split(start, places(out), places(stays), moved, loss)[0]
    assert parts.tolist() == [2.0, 0.0, 0.0, 0.0]  # late: back with our next move


def test_the_true_yield_is_what_the_world_pays_a_rig_that_stays(scenario: Scenario) -> None:
    """Gross less lock-up, energy and financing; leases apart, which the world draws at random."""
    seeds = list(range(16))
    world = World.start(scenario, seeds)
    start = world.state.assignment
    hold = RULES["hold"]()
    own, paid, steady = [], [], []
    for _ in range(24):
        own.append(world.state.assignment)
        _, out = world.step(hold(world.observe()))
        paid.append(out.gross_usd - out.lockup_usd - out.energy_usd - out.financing_usd)
        warm = (world.state.score > 0.999).all(-1, keepdim=True)  # nobody is back from a failure
        stayed = world.state.assignment == start
        steady.append((out.earning_h == 1) & (scenario.rules.lease[start] == 0) & stayed & warm)
    path, still = torch.stack(own), torch.stack(steady)
    ahead = prospect(World.start(scenario, seeds), path, slice(0, len(seeds)))
    expected = ahead.yield_usd.gather(-1, path.unsqueeze(-1)).squeeze(-1)
    assert still.float().mean() > 0.2
    torch.testing.assert_close(torch.stack(paid)[still], expected[still], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("elsewhere", [0, 1, 3])
def test_a_rig_is_judged_with_itself_in_the_wallet_where_it_is_and_where_it_would_be(
    elsewhere: int,
) -> None:
    """Render pays the availability of the k-th rig of a wallet `exp(-0.65 (k - 3))`, RNP-015."""
    world = lone("render", "rtx_4090", 1, 6)
    own = torch.zeros(1, 1, 6, dtype=torch.int64)
    own[..., 6 - elsewhere :] = 1  # off
    seen = prospect(world, own, slice(0, 1)).yield_usd[0, 0, :, 0]
    for rig, rigs in ((0, 6 - elsewhere), (5, 7 - elsewhere if elsewhere else 6)):
        state = settled(world.state)
        there = torch.arange(6)[None] < rigs  # this many on Render, the others off
        state = replace(state, assignment=torch.where(there, 0, 1))
        hold = torch.zeros_like(state.assignment)
        out = step(world.scenario, world.fleet, state, hold, world.now)[1]
        paid = out.gross_usd - out.lockup_usd - out.energy_usd - out.financing_usd
        assert float(seen[rig]) == pytest.approx(float(paid[0, 0]), rel=1e-5), rigs


@pytest.mark.parametrize("name", ["hold", "greedy", "ema_hysteresis"])
def test_regret_is_what_separates_the_rigs_from_their_best_paths(
    name: str, scenario: Scenario
) -> None:
    world = World.start(scenario, [1, 2, 3])
    _, path = follow(world, RULES[name](), worlds=3)
    found = regret(world, path)
    np.testing.assert_allclose(found.parts_usd.sum(1), found.best_usd - found.own_usd, atol=1e-6)
    assert (found.parts_usd > -1e-6).all()
    assert (found.best_usd > found.own_usd).all()
    if name == "hold":  # whoever never moves only misses moves, or loses a slot
        assert found.parts_usd[:, :3].sum() == 0.0


def test_regret_of_a_world_does_not_depend_on_its_company(scenario: Scenario) -> None:
    ema = RULES["ema_hysteresis"]()
    many, one = World.start(scenario, [1, 2, 3]), World.start(scenario, [1])
    together = regret(many, follow(many, ema, worlds=3)[1])
    alone = regret(one, follow(one, ema, worlds=1)[1])
    np.testing.assert_allclose(together.parts_usd[:1], alone.parts_usd, rtol=1e-9)
