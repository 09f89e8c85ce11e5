"""Tracking: our own record, and a sink that never stops a run."""

from __future__ import annotations

import csv
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from agents.tracking import Tracker, TrackingConfig, choose_mode, group_hash

PLAIN: dict[str, Any] = {"seed": 0, "horizon": 24, "tracking": {"mode": "auto"}}
ROW = {"global_step": 64, "rollout/reward_hour": 0.25}


def config(mode: Any) -> TrackingConfig:
    return TrackingConfig(mode=mode, project="test", entity=None, name=None)


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_auto_is_offline_without_a_key_and_says_so_in_one_line() -> None:
    said: list[str] = []
    assert choose_mode(config("auto"), said.append) == "offline"
    assert len(said) == 1
    assert "offline" in said[0]


def test_auto_is_online_with_a_key_or_a_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password not-a-key\n")
    assert choose_mode(config("auto"), lambda _: None) == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "not-a-key")
    assert choose_mode(config("auto"), lambda _: None) == "online"


def test_the_group_is_the_configuration_without_its_seed() -> None:
    assert group_hash(PLAIN) == group_hash({**PLAIN, "seed": 1, "tracking": {"mode": "offline"}})
    assert group_hash(PLAIN) != group_hash({**PLAIN, "horizon": 48})


def test_the_record_is_on_disk_after_every_row_and_keeps_the_clock_apart(tmp_path: Path) -> None:
    with Tracker(tmp_path, config("disabled"), PLAIN) as tracker:
        tracker.log(ROW)
        first = (tmp_path / "metrics.csv").read_text()
        tracker.log({**ROW, "global_step": 128})
    assert first == "global_step,rollout/reward_hour\n64,0.25\n"
    timing = list(csv.DictReader((tmp_path / "timing.csv").open()))
    assert [row["global_step"] for row in timing] == ["64", "128"]
    assert not (tmp_path / "wandb").exists()


def test_a_resumed_record_goes_on_after_its_step_whatever_was_written_later(tmp_path: Path) -> None:
    with Tracker(tmp_path, config("disabled"), PLAIN) as tracker:
        for step in (64, 128, 192):
            tracker.log({**ROW, "global_step": step})
    with (tmp_path / "metrics.csv").open("a") as stream:
        stream.write("12")  # a torn line
    with Tracker(tmp_path, config("disabled"), PLAIN, resumed_at=128) as tracker:
        pass  # stopped again before its first row
    with Tracker(tmp_path, config("disabled"), PLAIN, resumed_at=128) as tracker:
        tracker.log({**ROW, "global_step": 192, "rollout/reward_hour": 0.5})
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows == ["global_step,rollout/reward_hour", "64,0.25", "128,0.25", "192,0.5"]
    assert len((tmp_path / "timing.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_a_resumed_run_keeps_its_identity_and_its_artifacts_come_from_each_other(
    tmp_path: Path,
) -> None:
    identities = []
    for resumed_at in (None, 64):
        with Tracker(tmp_path, config("offline"), PLAIN, resumed_at=resumed_at) as tracker:
            tracker.log({**ROW, "global_step": 64 if resumed_at is None else 128, "empty": None})
            tracker.artifact("scores", [tmp_path / "metrics.csv"], {"policy": "0" * 64})
        identities.append(json.loads((tmp_path / "wandb.json").read_text()))
    assert identities[0] == identities[1]
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    for file, expected in itertools.product(files, (f"scores-{identities[0]['id']}", "0" * 64)):
        deadline = time.monotonic() + 20  # the service writes on after `finish` returned
        while expected.encode() not in file.read_bytes():
            assert time.monotonic() < deadline, expected
            time.sleep(0.05)


@pytest.mark.slow
def test_offline_writes_beside_the_record_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Tracker(tmp_path, config("offline"), PLAIN) as tracker:
        tracker.log(ROW)
        tracker.summary({"eval/gain": 1.0})
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    identity = json.loads((tmp_path / "wandb.json").read_text())
    assert identity["mode"] == "offline"
    assert identity["group"] == group_hash(PLAIN)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_server_that_is_not_there_costs_a_line_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("agents.tracking._INIT_TIMEOUT_S", 1.0)
    said: list[str] = []
    with Tracker(tmp_path, config("online"), PLAIN, said.append) as tracker:
        tracker.log(ROW)
    assert len(said) == 1
    assert "could not start online" in said[0]
    assert (tmp_path / "metrics.csv").read_text().endswith("64,0.25\n")
    assert json.loads((tmp_path / "wandb.json").read_text())["mode"] == "offline"


def test_a_sink_that_fails_later_is_dropped_after_one_line(tmp_path: Path) -> None:
    class Broken:
        def log(self, row: dict[str, Any]) -> None:
            raise OSError("no space left")

    said: list[str] = []
    with Tracker(tmp_path, config("disabled"), PLAIN, said.append) as tracker:
        tracker._wandb = Broken()
        tracker.log(ROW)
        tracker.log(ROW)
    assert said == ["W&B: stopped recording there (no space left)"]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
