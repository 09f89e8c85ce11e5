"""The Stable-Baselines3 adapter, held against SB3's own DummyVecEnv over single environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.sb3_env import FleetVecEnv
from env.gym_env import AllocationEnv
from env.scenario import Scenario, build_scenario
from env.vector_env import AllocationVectorEnv

HORIZON = 6


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario("small", "core", horizon=HORIZON)


def adapter(scenario: Scenario, rows: int, first_seed: int = 11) -> FleetVecEnv:
    return FleetVecEnv(AllocationVectorEnv(rows, scenario=scenario), first_seed)


def single() -> AllocationEnv:
    return AllocationEnv("small", "core", horizon=HORIZON)


def test_the_adapter_is_a_dummy_vec_env_over_two_episodes(scenario: Scenario) -> None:
    ours, theirs = adapter(scenario, 2), DummyVecEnv([single, single])
    theirs.seed(11)
    seen: Any = ours.reset()
    expected: Any = theirs.reset()
    rng = np.random.default_rng(0)
    for _ in range(2 * HORIZON + 1):
        for key in expected:
            np.testing.assert_array_equal(seen[key], expected[key])
        orders = rng.integers(scenario.network_count + 1, size=(2, scenario.rig_count))
        seen, reward, done, infos = ours.step(orders)
        expected, reward_0, done_0, infos_0 = theirs.step(orders)
        np.testing.assert_allclose(reward, reward_0, rtol=1e-6)
        np.testing.assert_array_equal(done, done_0)
        for info, info_0 in zip(infos, infos_0, strict=True):
            assert info.get("TimeLimit.truncated", False) == info_0["TimeLimit.truncated"]
            assert ("terminal_observation" in info) == ("terminal_observation" in info_0)
            for key, value in info.get("terminal_observation", {}).items():
                np.testing.assert_array_equal(value, info_0["terminal_observation"][key])


def test_masks_reach_sb3_contrib_row_by_row(scenario: Scenario) -> None:
    worlds = adapter(scenario, 3)
    observation = worlds.reset()
    assert isinstance(observation, dict)
    masks = get_action_masks(worlds)
    np.testing.assert_array_equal(masks, observation["action_mask"].reshape(3, -1) > 0)


def test_groups_are_put_one_after_the_other_as_one_batch_would_be(scenario: Scenario) -> None:
    pair = [AllocationVectorEnv(rows, scenario=scenario) for rows in (1, 2)]
    groups, batch = FleetVecEnv(pair, 11), adapter(scenario, 3)
    rng = np.random.default_rng(0)
    seen: Any = groups.reset()
    expected: Any = batch.reset()
    for _ in range(HORIZON + 1):
        for key in expected:
            np.testing.assert_array_equal(seen[key], expected[key])
        orders = rng.integers(scenario.network_count + 1, size=(3, scenario.rig_count))
        seen, reward, done, _ = groups.step(orders)
        expected, reward_0, done_0, _ = batch.step(orders)
        np.testing.assert_array_equal(reward, reward_0)
        np.testing.assert_array_equal(done, done_0)


def test_worlds_in_torch_look_the_same_through_the_adapter(scenario: Scenario) -> None:
    inside = FleetVecEnv(AllocationVectorEnv(2, scenario=scenario, output="torch"), 11)
    seen: Any = inside.reset()
    expected: Any = adapter(scenario, 2).reset()
    for key in expected:
        np.testing.assert_array_equal(seen[key], expected[key])
    hold = np.zeros((2, scenario.rig_count), np.int64)
    assert isinstance(inside.step(hold)[1], np.ndarray)


@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_stock_algorithms_train_on_groups_of_worlds(
    algorithm: type[PPO] | type[MaskablePPO], scenario: Scenario
) -> None:
    groups = [AllocationVectorEnv(2, scenario=scenario, output="torch") for _ in range(2)]
    normalised = VecNormalize(
        FleetVecEnv(groups, 0), norm_obs_keys=["rigs", "networks", "pairs", "market"]
    )
    model = algorithm(
        "MultiInputPolicy", normalised, n_steps=8, batch_size=32, n_epochs=1, seed=0, device="cpu"
    )
    before = [value.clone() for value in model.policy.parameters()]
    model.learn(64)
    after = list(model.policy.parameters())
    assert model.num_timesteps == 64
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
