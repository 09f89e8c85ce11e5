"""Tuning: paired, repeatable, never worse than what it started from, and stored by scenario."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from agents.rules import (
    RULES,
    SHIPPED,
    BreakEven,
    EmaHysteresis,
    Greedy,
    Hold,
    PercentThreshold,
    Rule,
)
from agents.scoring import futures, score
from agents.search import draw, rungs, score_each, tune
from agents.static import best_static
from agents.tuning import load_tuned, scenario_hash, tuned_rules
from agents.worlds import Split, world_seeds
from env.errors import InputError
from env.scenario import Scenario, build_scenario
from env.world import future

HORIZON = 24
SEEDS = list(range(10))


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return build_scenario("small", "core", horizon=HORIZON)


def quiet(_: str) -> None:
    """Say nothing."""


def test_rules_that_live_side_by_side_score_as_they_do_alone(scenario: Scenario) -> None:
    rules: list[Rule] = [Hold(), Greedy(), PercentThreshold(3.0)]
    together = score_each(rules, scenario, SEEDS[:4])
    worlds = futures(scenario, SEEDS[:4])
    for rule, row in zip(rules, together, strict=True):
        np.testing.assert_allclose(row, score(scenario, worlds, rule).net_usd, rtol=1e-5)


def test_rungs_cover_every_world_once() -> None:
    for worlds in (2, 8, 9, 24, 25, 128):
        spans = rungs(worlds, settings=9)
        assert [w for start, stop in spans for w in range(start, stop)] == list(range(worlds))
    assert rungs(128, settings=1) == [(0, 128)]


def test_tuning_stays_in_its_ranges_and_repeats_itself(scenario: Scenario) -> None:
    found = [tune(EmaHysteresis(), scenario, SEEDS, settings=5) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].settings == 6
    for knob, (low, high) in EmaHysteresis.KNOBS.items():
        assert low <= getattr(found[0].rule, knob) <= high


def test_the_tuned_rule_is_never_worse_than_the_default_in_its_worlds(scenario: Scenario) -> None:
    found = tune(EmaHysteresis(), scenario, SEEDS, settings=5)
    scores = score_each([EmaHysteresis(), found.rule], scenario, SEEDS).mean(1)
    assert scores[1] == pytest.approx(found.net_usd)
    assert scores[1] >= scores[0]


def test_halving_finds_what_the_full_search_finds(scenario: Scenario) -> None:
    seeds = list(range(24))
    settings = draw(BreakEven(), 11)
    full = score_each(settings, scenario, seeds).mean(1)
    found = tune(BreakEven(), scenario, seeds, 11)
    assert found.net_usd >= full.max() - 0.05 * (full.max() - full.min())


@pytest.fixture(scope="module")
def stored(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the knobs of the scenario: one random setting, two worlds."""
    folder = tmp_path_factory.mktemp("tuned")
    tuned_rules(scenario, 1, 2, quiet, folder)
    return folder


def test_stored_knobs_come_back_without_a_search(scenario: Scenario, stored: Path) -> None:
    said: list[str] = []
    tuned = tuned_rules(scenario, 1, 2, said.append, stored)
    assert said == []
    assert tuned == load_tuned(scenario, stored)
    assert set(tuned.rules) == {*RULES, *SHIPPED}
    assert tuned.best in tuned.rules
    file = yaml.safe_load((stored / f"{scenario_hash(scenario)}.yaml").read_text())
    for name, row in file["rules"].items():
        again = score_each([tuned.rules[name]], scenario, world_seeds(Split.TRAIN, 2)).mean()
        assert again == pytest.approx(row["net_usd_rig_day"], rel=1e-3, abs=1e-3)


def test_a_file_names_no_folder_of_the_machine(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "closes.csv"
    monkeypatch.setattr(sys, "argv", ["/some/where/train.py", "seed=1", f"market.prices={prices}"])
    tuned_rules(scenario, 1, 1, quiet, tmp_path)
    text = next(tmp_path.glob("*.yaml")).read_text()
    assert "command: python train.py seed=1 market.prices=closes.csv" in text
    assert "/" not in text


def test_a_broken_file_is_named(scenario: Scenario, stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    file = next(tmp_path.glob("*.yaml"))
    file.write_text(file.read_text().replace("best:", "bets:"))
    with pytest.raises(InputError, match=rf"{file.name}: "):
        load_tuned(scenario, tmp_path)


def test_the_opponent_is_the_best_in_training_worlds(scenario: Scenario, stored: Path) -> None:
    file = yaml.safe_load((stored / f"{scenario_hash(scenario)}.yaml").read_text())
    worth = {name: row["net_usd_rig_day"] for name, row in file["rules"].items()}
    assert worth[file["best"]] == max(worth.values())


def test_a_larger_search_than_the_stored_one_is_made(
    scenario: Scenario, stored: Path, tmp_path: Path
) -> None:
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    said: list[str] = []
    tuned_rules(scenario, 2, 2, said.append, tmp_path)
    assert len(said) > len(RULES)


def test_an_unknown_scenario_never_gets_the_knobs_of_another(
    scenario: Scenario, stored: Path
) -> None:
    assert load_tuned(dataclasses.replace(scenario, horizon_h=HORIZON + 1), stored) is None


def test_without_settings_nothing_is_stored(scenario: Scenario, tmp_path: Path) -> None:
    found = tuned_rules(scenario, 0, 2, quiet, tmp_path)
    assert found.rules["ema_hysteresis"] == EmaHysteresis()
    assert not found.sought
    assert not list(tmp_path.iterdir())


def test_the_hash_is_that_of_the_scenario_and_not_of_how_it_was_named(scenario: Scenario) -> None:
    names = ["vast", "render_compute", "morpheus", "akash", "bittensor_subnet"]
    same = build_scenario("small", {"names": names}, horizon=HORIZON)
    assert scenario_hash(same) == scenario_hash(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"fleet": "mixed"},
        {"networks": {"names": ["akash", "vast"]}},
        {"market": {"kind": "synthetic", "alt_loading": 0.5}},
        {"objective": "log_growth"},
        {"horizon": HORIZON + 1},
    ],
)
def test_the_hash_changes_with_whatever_defines_the_worlds(
    scenario: Scenario, change: dict[str, object]
) -> None:
    base = {"fleet": "small", "networks": "core", "horizon": HORIZON}
    other = build_scenario(**{**base, **change})  # type: ignore[arg-type]
    assert scenario_hash(other) != scenario_hash(scenario)


def test_the_hash_changes_with_one_network_parameter(scenario: Scenario) -> None:
    first = dataclasses.replace(scenario.networks[0], target_margin=0.123)
    other = dataclasses.replace(scenario, networks=(first, *scenario.networks[1:]))
    assert scenario_hash(other) != scenario_hash(scenario)


def replayed(path: Path, **keys: object) -> Scenario:
    market = {"kind": "replay", "prices": str(path), **keys}
    return build_scenario("small", "core", market, horizon=HORIZON)


def closes(path: Path, last: float = 1.0) -> Path:
    """A file of 100 weeks of daily closes."""
    day = datetime.date(2023, 1, 1)
    rows = [f"{day + datetime.timedelta(k)},{100 + k % 7},{5 + k % 3}" for k in range(700)]
    path.write_text("\n".join(["date,BTC,AKT", *rows, f"2024-12-01,100,{last}"]) + "\n")
    return path


@pytest.mark.filterwarnings("ignore")
def test_the_hash_of_a_replay_is_of_its_content_not_of_path_or_split(tmp_path: Path) -> None:
    first = closes(tmp_path / "a.csv")
    (tmp_path / "elsewhere").mkdir()
    moved = closes(tmp_path / "elsewhere" / "b.csv")
    known = scenario_hash(replayed(first, split="train"))
    assert scenario_hash(replayed(moved, split="test")) == known
    assert scenario_hash(replayed(closes(first, last=2.0), split="train")) != known
    assert scenario_hash(replayed(moved, split="train", start="2023-02-01")) != known


def test_best_static_beats_staying_on_average() -> None:
    seeds = list(range(16))
    longer = build_scenario("small", "core", horizon=240)
    best = best_static(longer, seeds, future(longer, seeds))
    assert best.shape == (16,)
    assert best.mean() > score(longer, futures(longer, seeds), Hold()).net_usd.mean()


def test_scores_need_no_gradients(scenario: Scenario) -> None:
    assert torch.is_grad_enabled()
    score_each([Hold()], scenario, [0])
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("fleet", "networks", "horizon"), [("mixed", "default", 720), ("small", "core", 48)]
)
def test_the_knobs_of_the_default_and_of_the_smoke_worlds_ship(
    fleet: str, networks: str, horizon: int
) -> None:
    tuned = load_tuned(build_scenario(fleet, networks, horizon=horizon))
    assert tuned is not None, "the worlds changed: tune them again and keep configs/tuned"
    assert set(tuned.rules) == {*RULES, *SHIPPED}
