"""Same seed, same world, to the bit: whatever the batch, the row, the policy, the interruption."""

import pickle
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import scenario
from torch import Tensor

import env  # noqa: F401
from env.errors import InputError
from env.exogenous import Exogenous
from env.scenario import Scenario
from env.shocks import episode_seed
from env.vector_env import AllocationVectorEnv
from env.world import World, future, observe_from_history

HOURS = 30


def random_orders(s: Scenario, worlds: int, hour: int) -> Tensor:
    """The same orders for every world, so that rows can be compared."""
    generator = torch.Generator().manual_seed(hour)
    row = torch.randint(0, s.network_count + 1, (s.rig_count,), generator=generator)
    keep = torch.rand(s.rig_count, generator=generator) < 0.7
    return torch.where(keep, 0, row).expand(worlds, -1)


def lived(s: Scenario, seeds: list[int], hours: int = HOURS) -> tuple[World, dict[str, Tensor]]:
    world = World.start(s, seeds)
    observation = world.observe()
    for hour in range(hours):
        world.step(random_orders(s, len(seeds), hour))
        observation = world.observe()
    return world, observation


def equal(a: Exogenous, b: Exogenous, row_a: int, row_b: int) -> bool:
    return all(
        torch.equal(getattr(a, f.name)[:, row_a], getattr(b, f.name)[:, row_b]) for f in fields(a)
    )


@pytest.mark.parametrize("fleet", ["small", "random"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_world_does_not_know_its_batch_or_its_row(fleet: str, batch: int) -> None:
    s = scenario(fleet)
    alone, seen_alone = lived(s, [41])
    row = batch - 1
    seeds = list(range(1000, 1000 + batch))
    seeds[row] = 41
    many, seen = lived(s, seeds)
    assert equal(alone.exogenous, many.exogenous, 0, row)
    for name, value in seen.items():
        assert torch.equal(value[row], seen_alone[name][0]), name
    for f in fields(alone.state):
        a, b = getattr(alone.state, f.name), getattr(many.state, f.name)
        assert torch.equal(a[0], b[row]), f.name


@pytest.mark.slow
def test_a_world_is_the_same_among_1024() -> None:
    s = scenario(horizon=12)
    alone, seen_alone = lived(s, [41], 6)
    seeds = list(range(1024))
    many, seen = lived(s, seeds, 6)
    assert equal(alone.exogenous, many.exogenous, 0, 41)
    for name, value in seen.items():
        assert torch.equal(value[41], seen_alone[name][0]), name


def test_two_policies_see_the_same_exogenous_world(small: Scenario) -> None:
    holding = World.start(small, [3])
    for _ in range(HOURS):
        holding.step(torch.zeros(1, small.rig_count, dtype=torch.int64))
    restless, _ = lived(small, [3])
    assert not torch.equal(holding.state.assignment, restless.state.assignment)
    assert equal(holding.exogenous, restless.exogenous, 0, 0)
    assert equal(future(small, [3]), restless.exogenous, 0, 0)


def test_single_and_vector_environment_agree_to_the_bit() -> None:
    arguments: dict[str, Any] = {"fleet": "small", "horizon": 24}
    one = gymnasium.make("Nirmaan/Allocation-v0", **arguments)
    many = gymnasium.make_vec("Nirmaan/Allocation-v0", num_envs=3, **arguments)
    seen_one, _ = one.reset(seed=12)
    seen_many, _ = many.reset(seed=10)
    s = one.unwrapped.scenario  # type: ignore[attr-defined]
    for hour in range(23):
        for name in seen_one:
            np.testing.assert_array_equal(seen_one[name], seen_many[name][2])
        orders = random_orders(s, 3, hour).numpy()
        seen_one, reward_one, _, _, _ = one.step(orders[0])
        seen_many, reward_many, _, _, _ = many.step(orders)
        assert reward_one == float(reward_many[2])


def test_autoreset_starts_the_next_episode_of_each_row() -> None:
    vector = AllocationVectorEnv(2, fleet="small", horizon=3)
    vector.reset(seed=5)
    hold = np.zeros((2, 8), dtype=np.int64)
    for _ in range(3):
        seen, _, terminated, truncated, info = vector.step(hold)
    assert truncated.all()
    assert not terminated.any()
    assert vector.world.hour == 0
    assert vector.world.seeds.tolist() == [episode_seed(5, 1), episode_seed(6, 1)]
    single = gymnasium.make("Nirmaan/Allocation-v0", fleet="small", horizon=3)
    single.reset(seed=5)
    again, _ = single.reset()
    for name in again:
        np.testing.assert_array_equal(again[name], seen[name][0])
    assert set(info["final_info"]["ledger"]) >= {"gross_usd", "net_usd", "burn_usd"}


@pytest.mark.parametrize("how", ["save", "pickle"])
def test_going_on_from_a_saved_state_changes_nothing(small: Scenario, how: str) -> None:
    whole, seen_whole = lived(small, [8, 9])
    world, _ = lived(small, [8, 9], 11)
    if how == "save":
        world = World.restore(small, world.save())
    else:
        world = pickle.loads(pickle.dumps(world))
    for hour in range(11, HOURS):
        world.step(random_orders(small, 2, hour))
        seen = world.observe()
    for name, value in seen.items():
        assert torch.equal(value, seen_whole[name]), name
    assert torch.equal(world.state.ledger, whole.state.ledger)


@pytest.mark.parametrize("fleet", ["small", "random"])
@pytest.mark.parametrize("hours", [0, 1, 17])
def test_an_observation_needs_nothing_later_than_its_hour(fleet: str, hours: int) -> None:
    s = scenario(fleet)
    orders = [random_orders(s, 2, hour) for hour in range(hours)]
    _, seen = lived(s, [20, 21], hours)
    from_history = observe_from_history(s, [20, 21], orders)
    for name, value in seen.items():
        assert torch.equal(value, from_history[name]), name


def test_adding_a_network_leaves_the_others_alone() -> None:
    core, whole = scenario(networks="core"), scenario()
    a, b = future(core, [4]), future(whole, [4])
    for name in core.network_names[:-1]:
        i, j = core.network_names.index(name), whole.network_names.index(name)
        assert torch.equal(a.quotes[:, :, :, i], b.quotes[:, :, :, j]), name


def test_different_seeds_are_different_worlds(small: Scenario) -> None:
    world = World.start(small, [1, 2])
    assert not torch.equal(world.exogenous.quotes[:, 0], world.exogenous.quotes[:, 1])
    assert not torch.equal(world.state.assignment[0], world.state.assignment[1])


def test_looking_twice_or_not_at_all_changes_nothing(small: Scenario) -> None:
    _, seen = lived(small, [8, 9], 7)
    blind, curious = (World.start(small, [8, 9]) for _ in range(2))
    for hour in range(7):
        orders = random_orders(small, 2, hour)
        blind.step(orders)
        for _ in range(3):
            curious.observe()
        curious.step(orders)
    for name, value in seen.items():
        assert torch.equal(value, blind.observe()[name]), name
        assert torch.equal(value, curious.observe()[name]), name


def test_an_episode_ends_once(small: Scenario) -> None:
    world = World.start(small, [1])
    hold = torch.zeros(1, small.rig_count, dtype=torch.int64)
    for _ in range(small.horizon_h):
        world.step(hold)
    assert world.done
    with pytest.raises(InputError, match="an hour before the episode's end at 48"):
        world.step(hold)


def test_batches_without_a_seed_differ_and_go_on_with_new_episodes() -> None:
    first, second = (AllocationVectorEnv(2, fleet="small", horizon=4) for _ in "ab")
    first.reset()
    second.reset()
    begun = {*first.world.seeds.tolist(), *second.world.seeds.tolist()}
    assert len(begun) == 4
    first.reset()
    assert begun.isdisjoint(first.world.seeds.tolist())


def test_environments_without_a_seed_differ() -> None:
    first, second = (
        gymnasium.make("Nirmaan/Allocation-v0", fleet="small", horizon=4) for _ in "ab"
    )
    assert not np.array_equal(first.reset()[0]["networks"], second.reset()[0]["networks"])
