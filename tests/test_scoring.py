"""Scores: paired, independent of batch and company, and their intervals against SciPy."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from scipy import stats

from agents.rules import RULES, Policy
from agents.scoring import TAIL_H, as_csv, paired_interval, score_all, summarise
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
    np.testing.assert_allclose(one.moves, moves / rig_days)
    np.testing.assert_allclose(one.illegal, illegal / rig_days)


def test_a_score_depends_on_neither_batch_nor_company(scenario: Scenario) -> None:
    together = score_all(scenario, policies("hold", "greedy"), [7, 8, 9, 10])["greedy"]
    alone = score_all(scenario, policies("greedy"), [8, 9])["greedy"]
    np.testing.assert_array_equal(together.net_usd[1:3], alone.net_usd)


def test_the_early_score_leaves_out_the_last_hours() -> None:
    long = build_scenario("small", "core", horizon=TAIL_H + 24)
    short = build_scenario("small", "core", horizon=24)
    early = score_all(long, policies("hold"), [1, 2])["hold"].early_net_usd
    np.testing.assert_allclose(early, score_all(short, policies("hold"), [1, 2])["hold"].net_usd)


def test_the_interval_agrees_with_scipy() -> None:
    sample = np.random.default_rng(0).lognormal(size=200)
    ours = paired_interval(sample, 20_000)
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_the_interval_is_that_of_the_pairs_not_of_the_worlds() -> None:
    worlds = np.random.default_rng(0).normal(scale=1e6, size=50)
    low, high = paired_interval((worlds + 2.0) - worlds, 1000)
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_the_summary_compares_with_the_baseline(scenario: Scenario) -> None:
    scores = score_all(scenario, policies("hold", "greedy"), [0, 1, 2, 3])
    summary = summarise(scores, "hold", 500)
    gain = summary["greedy"]["over_hold"]
    expected = (scores["greedy"].net_usd - scores["hold"].net_usd).mean()
    assert gain["difference"] == pytest.approx(expected)
    assert gain["low_95"] <= gain["difference"] <= gain["high_95"]
    assert set(summary["hold"]["over_hold"].values()) == {0.0}


def test_the_csv_has_a_row_for_each_policy_and_world(scenario: Scenario) -> None:
    scores = score_all(scenario, policies("hold", "greedy"), [5, 6])
    rows = list(csv.DictReader(as_csv(scores, [5, 6]).splitlines()))
    assert [(row["policy"], row["seed"]) for row in rows] == [
        ("hold", "5"),
        ("hold", "6"),
        ("greedy", "5"),
        ("greedy", "6"),
    ]
    assert float(rows[2]["net_usd_rig_day"]) == pytest.approx(scores["greedy"].net_usd[0])
