"""The Gymnasium and Stable-Baselines3 contract, over every fleet and objective."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import scenario
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import env  # noqa: F401
from env.errors import InputError
from env.gym_env import AllocationEnv
from env.observation import COLUMNS
from env.scenario import build_scenario
from env.vector_env import AllocationVectorEnv

ID = "Nirmaan/Allocation-v0"
# what we accept: physical units are not bounded; tables are neither vectors nor images
ACCEPTED_BY_GYMNASIUM = ("A Box observation space minimum value is -infinity", "maximum value is")
ACCEPTED_BY_SB3 = [
    "Your observation action_mask has an unconventional shape",
    "Your observation networks has an unconventional shape",
    "It seems that your observation pairs is an image but its `dtype` is (float32)",
    "It seems that your observation space pairs is an image but the upper and lower bounds",
    "The minimal resolution for an image is 36x36",
    "Your observation rigs has an unconventional shape",
]


def made(**arguments: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(ID, **{"fleet": "small", "horizon": 24, **arguments})


@pytest.mark.parametrize("fleet", ["small", "mixed", "random"])
@pytest.mark.parametrize("objective", ["profit", "log_growth", "downside"])
def test_gymnasiums_checker_passes(fleet: str, objective: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(made(fleet=fleet, objective=objective).unwrapped, skip_render_check=True)
    messages = [str(w.message) for w in caught]
    unexpected = [m for m in messages if not any(a in m for a in ACCEPTED_BY_GYMNASIUM)]
    assert unexpected == []


def test_stable_baselines3s_checker_passes() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sb3_check_env(made().unwrapped)
    assert len(caught) == len(ACCEPTED_BY_SB3)
    for one, accepted in zip(caught, ACCEPTED_BY_SB3, strict=True):
        assert str(one.message).startswith(accepted)


@pytest.mark.slow
def test_stock_ppo_trains_unchanged() -> None:
    model = PPO("MultiInputPolicy", made(horizon=720), n_steps=256, seed=0)
    model.learn(2048)
    assert model.num_timesteps == 2048


@pytest.mark.slow
def test_maskable_ppo_trains_unchanged() -> None:
    from sb3_contrib import MaskablePPO

    model = MaskablePPO("MultiInputPolicy", made(horizon=720), n_steps=256, seed=0)
    model.learn(2048)
    assert model.num_timesteps == 2048


def test_make_vec_builds_the_batched_environment() -> None:
    vector = gymnasium.make_vec(ID, num_envs=5, fleet="small", horizon=8)
    assert isinstance(vector.unwrapped, AllocationVectorEnv)
    seen, _ = vector.reset(seed=1)
    assert vector.observation_space.contains(seen)
    seen, reward, terminated, truncated, info = vector.step(vector.action_space.sample())
    assert vector.observation_space.contains(seen)
    assert reward.shape == (5,)
    assert not terminated.any()
    assert not truncated.any()
    np.testing.assert_allclose(info["reward_rig"].sum(-1), reward, rtol=1e-5, atol=1e-6)


def test_an_episode_ends_by_truncation_with_its_ledger() -> None:
    world = made(horizon=5)
    world.reset(seed=0)
    for hour in range(5):
        _, _, terminated, truncated, info = world.step(np.zeros(8, dtype=np.int64))
        assert not terminated
        assert truncated == (hour == 4)
    ledger = info["ledger"]
    assert ledger["rig_h"].sum() == 5 * 8
    assert set(ledger) >= {"tokens", "gross_usd", "slippage_usd", "lockup_usd", "net_usd"}


def test_observations_share_no_memory() -> None:
    world = made()
    first, _ = world.reset(seed=0)
    kept = {k: v.copy() for k, v in first.items()}
    second, *_ = world.step(world.action_space.sample())
    for name in first:
        np.testing.assert_array_equal(first[name], kept[name])
        assert not np.shares_memory(first[name], second[name])


def test_no_column_of_the_observation_is_always_the_same() -> None:
    """Over worlds, hours and networks each column says something."""
    seen: dict[str, list[np.ndarray]] = {group: [] for group in COLUMNS}
    vector = AllocationVectorEnv(16, fleet="random", horizon=200)
    vector.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(100):
        orders = np.where(rng.random((16, 32)) < 0.1, vector.action_space.sample(), 0)
        observation, *_ = vector.step(orders)
        for group in COLUMNS:
            seen[group].append(observation[group].reshape(-1, len(COLUMNS[group])))
    for group, columns in COLUMNS.items():
        table = np.concatenate(seen[group])
        same = [c.name for k, c in enumerate(columns) if np.ptp(table[:, k]) == 0]
        assert same == [], group


def test_the_column_table_matches_the_arrays() -> None:
    observation, _ = made().reset(seed=0)
    for group, columns in COLUMNS.items():
        assert observation[group].shape[-1] == len(columns)
        assert len({c.name for c in columns}) == len(columns)
        assert all(c.unit and c.meaning for c in columns)


def test_the_mask_is_flat_for_sb3_contrib_and_hold_is_always_legal() -> None:
    world = made()
    observation, _ = world.reset(seed=0)
    mask = world.unwrapped.action_masks()  # type: ignore[attr-defined]
    assert mask.shape == (8 * (scenario().network_count + 1),)
    assert mask.dtype == bool
    assert observation["action_mask"][:, 0].all()


def test_the_initial_assignment_really_is_random() -> None:
    world = made()
    starts = [tuple(world.reset(seed=s)[0]["pairs"][:, :, 0].argmax(-1)) for s in range(20)]
    assert len(set(starts)) > 10


def test_writing_into_an_observation_leaves_the_mask_alone() -> None:
    vector = AllocationVectorEnv(2, fleet="small", networks="core", horizon=4)
    seen, _ = vector.reset(seed=0)
    for _ in range(3):
        before = vector.action_masks().copy()
        vector.action_masks()[:] = False
        seen["action_mask"][:] = 1 - seen["action_mask"]
        np.testing.assert_array_equal(vector.action_masks(), before)
        seen, *_ = vector.step(np.zeros((2, 8), dtype=np.int64))
        expected = seen["action_mask"].reshape(2, -1) > 0
        np.testing.assert_array_equal(vector.action_masks(), expected)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(7, dtype=np.int64), r"action: expected shape \(8,\), got \(7,\)"),
        (np.zeros(8), "action: expected whole numbers, got dtype"),
        (np.full(8, 99), r"action: expected orders in 0\.\.\d+, got \(99, 99\)"),
        (np.full(8, -1), r"action: expected orders in 0\.\.\d+, got \(-1, -1\)"),
    ],
)
def test_a_wrong_action_is_one_clear_line(action: np.ndarray, message: str) -> None:
    world = AllocationEnv(fleet="small", horizon=4)
    world.reset(seed=0)
    with pytest.raises(InputError, match=message):
        world.step(action)


def test_stepping_before_reset_is_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        AllocationEnv(fleet="small", horizon=4).step(np.zeros(8, dtype=np.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fleet": "huge"}, "fleet: expected one of .*mixed.*, got 'huge'"),
        ({"fleet": {"rigs": []}}, "fleet: expected either `rigs` or `random_rigs` above 0"),
        ({"fleet": {"random_rigs": 0}}, "fleet: expected either `rigs` or `random_rigs` above 0"),
        (
            {"fleet": {"rigs": [{"gpu": "rtx_1", "gpu_count": 1, "count": 1, "site": "texas_dc"}]}},
            "fleet.rigs.gpu: expected one of .*rtx_4090.*, got 'rtx_1'",
        ),
        (
            {"fleet": {"rigs": [{"gpu": "l4", "gpu_count": 1, "count": 1, "site": "moon"}]}},
            "fleet.rigs.site: expected one of .*texas_dc.*, got 'moon'",
        ),
        (
            {"fleet": {"rigs": [{"gpu": "l4", "gpu_count": -1, "count": 1, "site": "moon"}]}},
            "fleet: rigs.0.gpu_count: expected greater than or equal to 1, got -1",
        ),
        ({"networks": "none"}, "network: expected one of .*default.*, got 'none'"),
        ({"networks": {"names": []}}, "network.names: expected a list of different network names"),
        ({"networks": {"names": ["doge"]}}, "network: expected a path .* got 'doge'"),
        ({"networks": {"names": ["vast", "vast"]}}, "network.names: expected a list of different"),
        ({"objective": "greed"}, "objective: expected one of .*profit.*, got 'greed'"),
        ({"objective": {"kind": "profit", "x": 1}}, "objective: x: no such key"),
        ({"horizon": 0}, "horizon: expected a whole number of hours above 0, got 0"),
        ({"horizon": 1.5}, "horizon: expected a whole number of hours above 0, got 1.5"),
        ({"horizon": 10_000_000}, "horizon: expected at most 100000 hours, got 10000000"),
        ({"device": "banana"}, "device: expected a device of this machine"),
        ({"device": "cuda:99"}, "device: expected a device of this machine"),
    ],
)
def test_wrong_arguments_name_the_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_scenario(**{"fleet": "small", "horizon": 24, **arguments})
    assert "\n" not in str(caught.value)


def test_wrong_vector_arguments_name_the_key() -> None:
    with pytest.raises(InputError, match="num_envs: expected a number above 0, got 0"):
        AllocationVectorEnv(0, fleet="small")
    with pytest.raises(InputError, match="render_mode: expected ansi or rgb_array, got 'human'"):
        AllocationEnv(render_mode="human")
    with pytest.raises(InputError, match=r"render_mode: expected none for .* 'ansi'"):
        gymnasium.make_vec(ID, num_envs=2, fleet="small", horizon=4, render_mode="ansi")
    with pytest.raises(InputError, match="seed: expected 2 seeds, one a row"):
        AllocationVectorEnv(2, fleet="small", horizon=4).reset(seed=[1])


NEW_NETWORK = """\
kind: emerging
token: AKT
reference_gpu: rtx_4090
work: {kind: fp16}
target_margin: 0.9
min_vram_gb: 16
emission:
  schedule: {kind: constant, tokens_per_day: 500}
  provider_share: 0.5
commitment: {provisioning_h: 2, warmup_h: 12, gas_usd: 1}
"""


def test_a_new_network_is_one_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "newcomer.yaml"
    path.write_text(NEW_NETWORK)
    names = [n for n in scenario().network_names if n != "off"]
    world = AllocationEnv(fleet="small", networks={"names": [*names, str(path)]}, horizon=8)
    assert world.scenario.network_names[-2:] == ("newcomer", "off")
    world.reset(seed=0)
    choice = world.scenario.network_names.index("newcomer") + 1
    world.step(np.where(world._mask[:, choice], choice, 0))
    for _ in range(7):
        *_, info = world.step(np.zeros(8, dtype=np.int64))
    assert info["ledger"]["gross_usd"][choice - 1] > 0
