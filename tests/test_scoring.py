"""Scores: what the environment pays, independent of batch and company, and every hour counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.rules import RULES, Policy
from agents.scoring import ACCOUNTS, TAIL_H, blocks, follow, score_all
from agents.worlds import WORLDS_PER_SPLIT, Split, world_seeds
from env.scenario import Scenario, build_scenario
from env.state import CHARGES
from env.vector_env import AllocationVectorEnv
from env.world import World

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


def test_every_rig_hour_is_counted_once(scenario: Scenario) -> None:
    one = score_all(scenario, policies("greedy"), [0, 1, 2, 3])["greedy"]
    parts = sum(one.total(f"{state}_h") for state in ("earning", "idle", "provisioning", "down"))
    np.testing.assert_allclose(parts, one.total("rig_h"), rtol=1e-6)
    np.testing.assert_allclose(one.total("rig_h"), scenario.rig_count * HORIZON)
    assert min(one.total(f"{s}_h").sum() for s in ("idle", "provisioning", "down")) > 0


def test_the_accounts_sum_to_the_profit(scenario: Scenario) -> None:
    one = score_all(scenario, policies("greedy"), [0, 1, 2, 3])["greedy"]
    net = one.total("gross_usd") - sum(one.total(charge) for charge in CHARGES)
    np.testing.assert_allclose(net, one.hourly_usd.sum(0), rtol=1e-5)
    np.testing.assert_allclose(net, one.net_usd * one.rig_days, rtol=1e-5)


def test_what_moves_cost_is_a_part_of_what_was_booked(scenario: Scenario) -> None:
    scores = score_all(scenario, policies("hold", "greedy"), [0, 1, 2, 3])
    for account in ("moves", "gas_usd", "leaving_usd", "lost_usd", "provisioning_h"):
        assert scores["hold"].total(account).sum() == 0.0, account
    one = scores["greedy"]
    gas, burn = (one.accounts[:, ACCOUNTS.index(a)] for a in ("gas_usd", "burn_usd"))
    assert 0 < gas.sum() < burn.sum()
    assert (gas <= burn + 1e-6).all()
    booked = one.total("penalty_usd") + one.total("financing_usd")
    assert (one.total("leaving_usd") > 0).all()
    assert (one.total("leaving_usd") <= booked).all()


def test_a_path_tells_where_the_ledger_booked_the_hours(scenario: Scenario) -> None:
    one, path = follow(World.start(scenario, [4, 5, 6]), RULES["greedy"](), worlds=2)
    hours = one.accounts[:2, ACCOUNTS.index("rig_h")]  # [2, N]
    counted = [np.bincount(path.assignment[:, w].ravel(), minlength=6) for w in range(2)]
    np.testing.assert_array_equal(np.stack(counted), hours)
    assert path.moved.sum() == one.total("moves")[:2].sum()


def test_blocks_of_worlds_are_bounded_by_their_rigs() -> None:
    few, many = build_scenario("small", "core", horizon=2), build_scenario("large", "core")
    assert [len(b) for b in blocks(few, list(range(300)))] == [128, 128, 44]
    assert max(len(b) for b in blocks(many, list(range(300)))) * many.rig_count <= 8192
    assert [seed for b in blocks(many, list(range(300))) for seed in b] == list(range(300))
