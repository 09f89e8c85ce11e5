"""The Stable-Baselines3 adapter, held against SB3's own DummyVecEnv over single environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.checkpoint import Checkpoint, Statistics, load_checkpoint, save_checkpoint
from agents.sb3_env import FleetVecEnv
from agents.stock import NORMALISED, StockPolicy
from env.errors import InputError
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


def test_totals_add_up_what_the_hours_brought(scenario: Scenario) -> None:
    worlds = adapter(scenario, 2)
    worlds.reset()
    hold = np.zeros((2, scenario.rig_count), np.int64)
    rewards = [worlds.step(hold)[1].sum() for _ in range(4)]
    totals = worlds.take_totals()
    assert totals["hours"] == 8
    assert totals["reward"] == pytest.approx(sum(rewards), rel=1e-5)
    assert worlds.take_totals()["hours"] == 0


def test_a_torch_environment_is_refused(scenario: Scenario) -> None:
    with pytest.raises(InputError, match="output: expected numpy"):
        FleetVecEnv(AllocationVectorEnv(1, scenario=scenario, output="torch"))


def test_a_trained_policy_normalises_as_vec_normalize_does(scenario: Scenario) -> None:
    normalised = VecNormalize(adapter(scenario, 4), norm_obs_keys=list(NORMALISED))
    model = PPO("MultiInputPolicy", normalised, n_steps=8, batch_size=32, n_epochs=1, seed=0)
    model.learn(32)
    statistics = {
        k: Statistics(normalised.obs_rms[k].mean, normalised.obs_rms[k].var) for k in NORMALISED
    }
    policy = StockPolicy(model.policy, statistics)
    raw = normalised.get_original_obs()
    assert isinstance(raw, dict)
    expected, _ = model.predict(normalised.normalize_obs(raw), deterministic=True)
    orders = policy({key: torch.from_numpy(value) for key, value in raw.items()})
    np.testing.assert_array_equal(orders.numpy(), expected)


def test_a_checkpoint_comes_back_to_the_bit_and_the_latest_wins(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for step in (8, 16):
        weights = {"layer.weight": torch.randn(3, 2)}
        statistics = {"rigs": Statistics(rng.normal(size=(2, 3)), rng.random((2, 3)))}
        save_checkpoint(tmp_path, step, Checkpoint(weights, statistics))
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.weights["layer.weight"], weights["layer.weight"])
    np.testing.assert_array_equal(loaded.statistics["rigs"].mean, statistics["rigs"].mean)
    np.testing.assert_array_equal(loaded.statistics["rigs"].var, statistics["rigs"].var)


def test_a_missing_or_broken_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run: expected a run folder with a checkpoint"):
        load_checkpoint(tmp_path)
    path = save_checkpoint(tmp_path, 1, Checkpoint({"w": torch.ones(1)}, {}))
    (path / "policy.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="expected a readable checkpoint"):
        load_checkpoint(tmp_path)
