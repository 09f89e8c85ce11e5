"""Scores: what the environment pays, independent of batch and company, and every hour counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.rules import RULES, Policy
from agents.scoring import TAIL_H, score_all
from agents.worlds import WORLDS_PER_SPLIT, Split, world_seeds
from env.scenario import Scenario, build_scenario
from env.vector_env import AllocationVectorEnv

HORIZON = 48


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario("small", "core", horizon=HORIZON)


def policies(*names: str) -> dict[str, Policy]:
    return {name: RULES[name]() for name in names}


def test_the_splits_share_no_world_and_only_training_depends_on_the_run() -> None:
    seeds = {split: set(world_seeds(split, 4096, run_seed=255)) for split in Split}
    assert not seeds[Split.TRAIN] & seeds[Split.VALIDATION]
    assert not seeds[Split.VALIDATION] & seeds[Split.TEST]
    assert max(seeds[Split.TRAIN]) < WORLDS_PER_SPLIT
    assert world_seeds(Split.TEST, 3, run_seed=0) == world_seeds(Split.TEST, 3, run_seed=7)
    assert not set(world_seeds(Split.TRAIN, 64, 0)) & set(world_seeds(Split.TRAIN, 64, 1))


def test_a_score_is_what_the_environment_pays(scenario: Scenario) -> None:
    seeds, greedy = [3, 4, 5], RULES["greedy"]()
    one = score_all(scenario, {"greedy": greedy}, seeds)["greedy"]
    worlds = AllocationVectorEnv(3, scenario=scenario, output="torch")
    observation, _ = worlds.reset(seed=seeds)
    net, illegal = torch.zeros(3, dtype=torch.float64), torch.zeros(3)
    for _ in range(HORIZON):
        observation, _, _, _, info = worlds.step(greedy(observation))
        net += info["net_usd"]
        illegal += info["illegal"]
    rig_days = scenario.rig_count * HORIZON / 24
    moves = info["final_info"]["ledger"]["moves"].sum(-1)
    np.testing.assert_allclose(one.net_usd, net / rig_days, rtol=1e-5)
    np.testing.assert_allclose(one.total("moves"), moves)
    np.testing.assert_allclose(one.illegal, illegal)
    np.testing.assert_allclose(one.rig_days, rig_days)


def test_a_score_depends_on_neither_batch_nor_company(scenario: Scenario) -> None:
    together = score_all(scenario, policies("hold", "greedy"), [7, 8, 9, 10])["greedy"]
    alone = score_all(scenario, policies("greedy"), [8, 9])["greedy"]
    np.testing.assert_array_equal(together.net_usd[1:3], alone.net_usd)


def test_the_early_score_leaves_out_the_last_hours() -> None:
    long = build_scenario("small", "core", horizon=TAIL_H + 24)
    short = build_scenario("small", "core", horizon=24)
    early = score_all(long, policies("hold"), [1, 2])["hold"].early_net_usd
    np.testing.assert_allclose(early, score_all(short, policies("hold"), [1, 2])["hold"].net_usd)
