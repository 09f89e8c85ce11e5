"""A run's training: the best policy is kept, and a resumed run is the uninterrupted one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import scenario
from learners import EAGER, TINY
from rich.console import Console
from safetensors.torch import load_file

import agents.recording
from agents.checkpoint import (
    Best,
    last_checkpoint,
    load_best,
    load_training,
    save_checkpoint,
    state,
)
from agents.network import NetworkConfig
from agents.outlook import Observation
from agents.recording import COLUMNS, Record
from agents.scoring import futures, score
from agents.terminal import progress
from agents.tracking import Tracker, TrackingConfig
from agents.training import AgentConfig, load_policy, make_model, train
from agents.tuning import Tuned
from agents.validation import Validated, Validation
from agents.worlds import Split, world_seeds
from env.errors import InputError
from env.scenario import Scenario
from env.world import World

TUNED = Tuned({"break_even": EAGER}, "break_even")
OFF = TrackingConfig(mode="disabled", project="test", entity=None, name=None)
HOURS = 10  # of a rollout; an episode has 24, and the first one of the first group 12


def small() -> Scenario:
    return scenario("small", "core", 24)


def agent(**changes: Any) -> AgentConfig:
    values: dict[str, Any] = {
        "kind": "fleet_ppo",
        "total_timesteps": 6 * 4 * HOURS,
        "groups": 2,
        "num_envs": 4,
        "n_steps": HOURS,
        "batch_size": 8,
        "n_epochs": 1,
        "learning_rate": 3e-2,
        "gamma": 0.98,
        "gae_lambda": 0.9,
        "clip_range": 0.2,
        "ent_coef": 0.0,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
        "credit": "marginal",
        "foresight": True,
        "hindsight": 1.0,
        "sample_share": 0.5,
        "network": TINY,
    }
    return AgentConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def validation() -> Validation:
    return Validation.prepare(small(), world_seeds(Split.VALIDATION, 3), TUNED)


def job(run: Path, validation: Validation, resume: bool = False, **changes: Any) -> list[float]:
    """A training job with its record; returns the steps that were shown."""
    shown: list[float] = []
    config, left = agent(**changes), load_training(run) if resume else None
    best = load_best(run) if resume else None
    resumed_at = left["num_timesteps"] if left else None
    with Tracker(run, OFF, {}, resumed_at=resumed_at) as tracker:
        record = Record(config, run, tracker, validation, lambda s, *_: shown.append(s), best)
        train(config, small(), TUNED, 7, record, left)
    return shown


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, validation: Validation) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole")
    assert job(run, validation) == [40, 80, 120, 160, 200, 240]
    return run


def interrupted(run: Path, validation: Validation, saved: int, **changes: Any) -> None:
    """A job stopped in the worst moment: the row is written, its checkpoint (after `saved`) is not;
    and then resumed."""
    left = saved + 1

    def stop(*args: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        save_checkpoint(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(agents.recording, "save_checkpoint", stop)
        if saved < 6:
            with pytest.raises(KeyboardInterrupt):
                job(run, validation, **changes)
        else:
            job(run, validation, **changes)
    rows = len((run / "metrics.csv").read_text().splitlines())
    assert rows == min(1 + saved + 2, 1 + 7)
    torch.manual_seed(999)
    job(run, validation, resume=True, **changes)


def same_files(ours: Path, expected: Path) -> None:
    """Metrics, weights and state of two runs, byte for byte."""
    assert (ours / "metrics.csv").read_bytes() == (expected / "metrics.csv").read_bytes()
    for name in ("policy", "training"):
        for suffix in ("json", "safetensors"):
            file = f"{name}.{suffix}"
            one, other = last_checkpoint(ours) / file, last_checkpoint(expected) / file
            assert one.read_bytes() == other.read_bytes(), file


@pytest.mark.parametrize("saved", [0, 1, 3, 6])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    saved: int, whole: Path, validation: Validation, tmp_path: Path
) -> None:
    interrupted(tmp_path, validation, saved)
    same_files(tmp_path, whole)


@pytest.mark.slow
def test_so_is_a_compiled_one(validation: Validation, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    job(whole, validation, compile=True)
    interrupted(parted, validation, 3, compile=True)
    same_files(parted, whole)


def test_every_row_has_all_columns_and_scores_stand_in_the_start_and_the_end(whole: Path) -> None:
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["global_step"]) for row in rows] == [0, 40, 80, 120, 160, 200, 240]
    for row in rows[1:]:
        assert all(value for name, value in row.items() if not name.startswith("validation/"))
    assert rows[0]["validation/net_usd_rig_day"]
    assert rows[-1]["validation/net_usd_rig_day"]


def test_validations_come_at_whole_rollouts_about_eight_times() -> None:
    for rollouts in (1, 7, 8, 9, 31, 1000):
        config = agent(total_timesteps=40 * rollouts)
        assert config.validation_every % config.rollout == 0
        assert min(rollouts, 4) <= config.total_timesteps / config.validation_every <= 8


def test_the_policy_that_did_best_is_the_one_that_is_kept(
    whole: Path, validation: Validation
) -> None:
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    scores = {
        int(row["global_step"]): float(row["validation/net_usd_rig_day"])
        for row in rows
        if row["validation/net_usd_rig_day"]
    }
    best = load_best(whole)
    assert best.score.net_usd_rig_day == max(scores.values())
    assert scores[best.step] == best.score.net_usd_rig_day
    again = validation.score(load_policy(whole, small()))
    assert again == best.score


def test_a_run_that_only_gets_worse_ends_with_the_rule_it_began_with(
    validation: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter(range(100, 0, -1))
    monkeypatch.setattr(Validation, "score", lambda *_: Validated(float(next(falling)), None, 0.0))
    job(tmp_path, validation, total_timesteps=80)
    assert load_best(tmp_path).step == 0
    model = make_model(agent(), small(), EAGER, 0)
    start = {name: v for name, v in model.policy.state_dict().items() if name.endswith("knobs")}
    kept = load_best(tmp_path).weights
    for name, value in start.items():
        assert torch.equal(kept[name], value)
    assert not kept["network.score.weight"].any()  # the layer that starts at zero


def test_the_gap_is_zero_for_the_rule_and_one_for_the_bound(validation: Validation) -> None:
    assert validation.score(EAGER).gap_closed == 0.0
    assert (validation.bound >= validation.tuned).all()


def test_a_score_on_validation_worlds_is_the_evaluations(validation: Validation) -> None:
    seeds = world_seeds(Split.VALIDATION, 3)
    apart = score(small(), futures(small(), seeds), EAGER)
    assert validation.score(EAGER).net_usd_rig_day == pytest.approx(float(apart.net_usd.mean()))


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_profit_gap_speed_and_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 10.0, 14.0))
    monkeypatch.setattr("agents.terminal.monotonic", lambda: next(clock))
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with progress(1000, console) as show:
        show(200, 1.0, None)  # how long it took to get here is not known: the run may be resumed
        show(600, 2.5, 0.123)
    said = out.getvalue()
    assert "+2.50 USD per rig-day, validation gap closed 12.3%, 100 steps/s, 0:00:04 left" in said
    assert "600/1000" in said


def test_a_checkpoint_is_one_folder_without_pickle(whole: Path) -> None:
    (folder,) = (whole / "checkpoints").iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    data = json.loads((folder / "policy.json").read_text())
    assert NetworkConfig(**data["network"]) == TINY
    fitting = make_model(agent(), small(), EAGER, 0).policy.state_dict()
    assert load_file(folder / "policy.safetensors").keys() == fitting.keys()


def test_one_policy_gives_legal_orders_to_any_fleet_and_catalogue(whole: Path) -> None:
    for s in (small(), scenario("mixed", "default", 24), scenario("random", "core", 24)):
        seen: Observation = World.start(s, [3, 4]).observe()
        orders = load_policy(whole, s)(seen)
        assert orders.shape == (2, s.rig_count)
        assert (seen["action_mask"].gather(2, orders.unsqueeze(-1)) > 0).all()


def test_a_missing_broken_or_foreign_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run: expected a run folder with a checkpoint"):
        load_policy(tmp_path, small())
    with pytest.raises(InputError, match="resume: expected a run folder with a checkpoint"):
        load_training(tmp_path)
    model = make_model(agent(), small(), EAGER, 0)
    other = NetworkConfig(width=8, pair_width=8, sharpness=1.0)
    best = Best(0, Validated(0.0, None, 0.0), other, model.policy.state_dict())
    folder = save_checkpoint(tmp_path, 1, best, {})
    with pytest.raises(InputError, match=r"policy.safetensors: expected weights of this network"):
        load_policy(tmp_path, small())
    (folder / "policy.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="expected a readable checkpoint"):
        load_policy(tmp_path, small())


def test_what_training_depends_on_comes_back_to_the_bit(tmp_path: Path) -> None:
    model = make_model(agent(), small(), EAGER, 0)
    model.learn(40, log_interval=None)  # type: ignore[arg-type]
    before = state(model)
    best = Best(0, Validated(0.0, 0.5, 0.0), TINY, model.policy.state_dict())
    save_checkpoint(tmp_path, 40, best, before)
    assert load_best(tmp_path).score == best.score
    assert same(load_training(tmp_path), before)


def same(loaded: Any, saved: Any) -> bool:
    """Equality of two nests, where JSON makes keys texts."""
    if isinstance(saved, torch.Tensor):
        return loaded.dtype == saved.dtype and torch.equal(loaded, saved)
    if isinstance(saved, dict):
        return loaded.keys() == {str(key) for key in saved} and all(
            same(loaded[str(key)], value) for key, value in saved.items()
        )
    if isinstance(saved, list):
        return len(loaded) == len(saved) and all(map(same, loaded, saved))
    return bool(loaded == saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 3}, "agent.num_envs: expected a multiple of groups = 3, got 4"),
        ({"batch_size": 12}, "agent.batch_size: expected a divisor of num_envs \\* n_steps = 40"),
        ({"batch_size": 5}, "agent.batch_size: expected a multiple of num_envs / groups = 2"),
    ],
)
def test_numbers_that_do_not_fit_together_are_named(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        agent(**changes).check()
