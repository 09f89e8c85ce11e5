"""Tracking: our own record, and a sink that never stops a run."""

from __future__ import annotations

import csv
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from agents import backfill
from agents.tracking import Tracker, TrackingConfig, artifact_name, choose_mode, group_hash

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


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_auto_is_online_with_a_key_or_a_login(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text(f"machine {host} login user password not-a-key\n")
    assert choose_mode(config("auto"), lambda _: None) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")  # the login is another's
    assert choose_mode(config("auto"), lambda _: None) == "offline"
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
        wait_for(file, expected)


@pytest.mark.slow
def test_tables_and_the_names_of_data_are_kept_offline(tmp_path: Path) -> None:
    source = tmp_path / "moves.csv"
    source.write_text("hour,world,from,to,share\n3,2097152,akash,render,0.25\n4,2097152,off,io,\n")
    digests = {"prices.csv": "1" * 64}
    with Tracker(tmp_path, config("offline"), PLAIN) as tracker:
        tracker.table("moves", source)
        tracker.data(digests)
        tracker.data({})  # of a simulated market
    (stored,) = tmp_path.glob("wandb/offline-run-*/files/media/table/tables/moves*.json")
    table = json.loads(stored.read_text())
    assert table["columns"] == ["hour", "world", "from", "to", "share"]
    assert table["data"] == [[3, 2097152, "akash", "render", 0.25], [4, 2097152, "off", "io", None]]
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    name = artifact_name("data", "any run", digests)
    assert name == artifact_name("data", "another", dict(digests))
    assert name != artifact_name("data", "any run", {"prices.csv": "2" * 64})
    wait_for(file, name)


def wait_for(file: Path, expected: str) -> None:
    """The service writes on after `finish` returned."""
    deadline = time.monotonic() + 20
    while expected.encode() not in file.read_bytes():
        assert time.monotonic() < deadline, expected
        time.sleep(0.05)


LINEAGE = {
    "data": {"prices.csv": "1" * 64},
    "checkpoint": {"policy.safetensors": "2" * 64},
    "evaluation": {"scores.csv": "3" * 64},
}


def finished(run: Path, lineage: dict[str, Any]) -> Path:
    """A run folder as training leaves it, for its links."""
    run.mkdir()
    (run / "wandb.json").write_text(json.dumps({"id": "abc", "name": run.name}))
    (run / "lineage.json").write_text(json.dumps(lineage))
    (run / "config.yaml").write_text("tracking: {project: gpus, entity: team}\n")
    return run


@pytest.mark.slow
def test_backfill_links_every_source_to_its_run_with_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used: list[tuple[str, str]] = []

    class Run:
        def __init__(self, path: str) -> None:
            self.path = path

        def use_artifact(self, artifact: str) -> None:
            used.append((self.path, artifact))

    class Api:
        def __init__(self, timeout: int) -> None:
            pass

        def run(self, path: str) -> Run:
            return Run(path)

        def artifact(self, name: str) -> str:
            return name

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("wandb.Api", Api)
    replayed, simulated = (
        finished(tmp_path / name, {**LINEAGE, "data": data})
        for name, data in (("replayed", LINEAGE["data"]), ("simulated", {}))
    )
    backfill.main([str(replayed), str(simulated)])
    data = artifact_name("data", "abc", LINEAGE["data"])
    assert used == [
        ("team/gpus/abc", f"team/gpus/{data}:latest"),
        ("team/gpus/abc", "team/gpus/checkpoint-abc:latest"),
        ("team/gpus/abc", "team/gpus/checkpoint-abc:latest"),
    ]
    assert capsys.readouterr().out.splitlines() == [
        f"W&B: run replayed (abc) uses {data}",
        "W&B: run replayed (abc) uses checkpoint-abc",
        "W&B: run simulated (abc) uses checkpoint-abc",
    ]


@pytest.mark.parametrize("missing", ["lineage.json", "wandb.json", None])
def test_backfill_without_a_record_or_a_key_is_exit_code_2_and_one_line(
    missing: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(tmp_path / "run", LINEAGE)
    if missing:
        (run / missing).unlink()
    with pytest.raises(SystemExit) as stop:
        backfill.main([str(run)])
    (said,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert (f"with {missing}" if missing else "WANDB_API_KEY: expected a W&B key") in said


@pytest.mark.slow
def test_backfill_without_a_server_is_exit_code_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("agents.tracking._INIT_TIMEOUT_S", 1.0)
    with pytest.raises(SystemExit) as stop:
        backfill.main([str(finished(tmp_path / "run", LINEAGE))])
    (said,) = capfd.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert "W&B: expected a server with the synced run team/gpus/abc" in said


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


def test_links_that_fail_after_an_online_run_cost_a_line_that_says_how_to_add_them(
    tmp_path: Path,
) -> None:
    class Sink:
        def finish(self, exit_code: int) -> None:
            assert exit_code == 0

    run, said = finished(tmp_path / "run", LINEAGE), list[str]()
    with Tracker(run, config("disabled"), PLAIN, said.append) as tracker:
        tracker._wandb, tracker._online = Sink(), True
    (line,) = said
    assert "WANDB_API_KEY" in line
    assert f"`python -m agents.backfill {run}` tries again" in line
