"""Scores: what the environment pays, independent of batch and company, and every hour counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents import scoring
from agents.rules import RULES
from agents.scoring import ACCOUNTS, TAIL_H, Score, blocks, follow, futures, score
from agents.worlds import RUN_SEEDS, TRAINING_BLOCK, WORLDS_PER_SPLIT, Split, world_seeds
from env.scenario import Scenario, build_scenario
from env.state import CHARGES
from env.vector_env import AllocationVectorEnv
from env.world import World

HORIZON = 48


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario("small", "core", horizon=HORIZON)


def lived(scenario: Scenario, name: str, seeds: list[int]) -> Score:
    """A rule in the worlds of these seeds."""
    return score(scenario, futures(scenario, seeds), RULES[name]())


def test_the_splits_share_no_world_and_only_training_depends_on_the_run() -> None:
    seeds = {split: set(world_seeds(split, 4096, run_seed=255)) for split in Split}
    assert not seeds[Split.TRAIN] & seeds[Split.VALIDATION]
    assert not seeds[Split.VALIDATION] & seeds[Split.TEST]
    assert max(seeds[Split.TRAIN]) < WORLDS_PER_SPLIT
    assert world_seeds(Split.TEST, 3, run_seed=0) == world_seeds(Split.TEST, 3, run_seed=7)
    assert not set(world_seeds(Split.TRAIN, 64, 0)) & set(world_seeds(Split.TRAIN, 64, 1))


def test_every_seed_that_a_run_may_have_has_training_worlds_of_its_own() -> None:
    firsts = [world_seeds(Split.TRAIN, 1, seed)[0] for seed in range(RUN_SEEDS)]
    assert len(set(firsts)) == RUN_SEEDS == 256
    assert min(np.diff(firsts)) == TRAINING_BLOCK
    assert firsts[-1] + TRAINING_BLOCK == WORLDS_PER_SPLIT


def test_a_score_is_what_the_environment_pays(scenario: Scenario) -> None:
    seeds, greedy = [3, 4, 5], RULES["greedy"]()
    one = lived(scenario, "greedy", seeds)
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


def test_a_score_depends_on_neither_batch_nor_company(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = futures(scenario, [7, 8, 9, 10])
    score(scenario, shared, RULES["hold"]())
    together = score(scenario, shared, RULES["greedy"]())
    np.testing.assert_array_equal(together.net_usd[1:3], lived(scenario, "greedy", [8, 9]).net_usd)
    monkeypatch.setattr(scoring, "WORLDS_AT_ONCE", 3)  # a block of three and one of one
    apart = lived(scenario, "greedy", [7, 8, 9, 10])
    np.testing.assert_array_equal(together.hourly_usd, apart.hourly_usd)
    np.testing.assert_array_equal(together.accounts, apart.accounts)


def test_the_early_score_leaves_out_the_last_hours() -> None:
    long = build_scenario("small", "core", horizon=TAIL_H + 24)
    short = build_scenario("small", "core", horizon=24)
    early = lived(long, "hold", [1, 2]).early_net_usd
    np.testing.assert_allclose(early, lived(short, "hold", [1, 2]).net_usd)


def test_every_rig_hour_is_counted_once(scenario: Scenario) -> None:
    one = lived(scenario, "greedy", [0, 1, 2, 3])
    parts = sum(one.total(f"{state}_h") for state in ("earning", "idle", "provisioning", "down"))
    np.testing.assert_allclose(parts, one.total("rig_h"), rtol=1e-6)
    np.testing.assert_allclose(one.total("rig_h"), scenario.rig_count * HORIZON)
    assert min(one.total(f"{s}_h").sum() for s in ("idle", "provisioning", "down")) > 0


def test_the_accounts_sum_to_the_profit(scenario: Scenario) -> None:
    one = lived(scenario, "greedy", [0, 1, 2, 3])
    net = one.total("gross_usd") - sum(one.total(charge) for charge in CHARGES)
    np.testing.assert_allclose(net, one.hourly_usd.sum(0), rtol=1e-5)
    np.testing.assert_allclose(net, one.net_usd * one.rig_days, rtol=1e-5)


def test_what_moves_cost_is_a_part_of_what_was_booked(scenario: Scenario) -> None:
    still, one = (lived(scenario, name, [0, 1, 2, 3]) for name in ("hold", "greedy"))
    for account in ("moves", "gas_usd", "leaving_usd", "lost_usd", "provisioning_h"):
        assert still.total(account).sum() == 0.0, account
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
