"""What the service tells Prometheus, and what it keeps from the collector of garbage."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from asking import Client, Json, new_service, recorded
from served import fresh

from agents.serve import http
from agents.serve.book import Book
from agents.serve.metrics import Metrics
from agents.serve.service import Service
from agents.serve.state import Memory, Paper, Regret, State

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def hours(bundle: Path) -> list[Json]:
    return recorded(bundle)


def test_metrics_count_what_was_answered(bundle: Path, hours: list[Json]) -> None:
    client = Client(new_service(bundle))
    moves = 0
    for snapshot in hours[:12]:
        moves += len(client.decide(snapshot).json()["moves"])
    client.send(b"{")
    told = client.measured()
    decided = sum(v for k, v in told.items() if k.startswith("fleet_decisions_total"))
    assert decided == told["fleet_decide_seconds_count"] == 12
    assert told["fleet_moves_total"] == moves
    assert told['fleet_refusals_total{status="400"}'] == 1
    name = json.loads((bundle / "manifest.json").read_text())["bundle"]
    assert told[f'fleet_bundle{{bundle="{name}"}}'] == 1


def test_metrics_tell_the_regret_and_whether_its_budget_is_spent(
    bundle: Path, hours: list[Json]
) -> None:
    service = Service(lambda: fresh(bundle), simulated=True)
    client = Client(service)
    told = client.measured()
    assert told["fleet_regret_usd"] == told["fleet_regret_spent"] == 0.0
    regret = Regret(rule=Paper(Book({}, 7.5)), lead=((0.0, 0.0),), spent=True)
    service.policy._memory = Memory(State(regret=regret))
    told = client.measured()
    assert (told["fleet_regret_usd"], told["fleet_regret_spent"]) == (7.5, 1.0)
    for snapshot in hours[:3]:
        regret_usd = client.decide(snapshot).json()["regret_usd"]
        assert client.measured()["fleet_regret_usd"] == pytest.approx(regret_usd)


def test_metrics_count_states_that_could_not_be_saved_through_an_exchange_of_bundles(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    service = Service(lambda: fresh(bundle, state=tmp_path), simulated=True)
    client = Client(service)
    client.decide(hours[0])
    assert client.measured()["fleet_states_not_saved_total"] == 0
    file = tmp_path / "state.json"
    file.rename(tmp_path / "saved")
    file.mkdir()  # no file can take its place
    assert client.decide(hours[1]).status_code == 200
    file.rmdir()
    assert service.reload()
    assert client.measured()["fleet_states_not_saved_total"] == 1
    client.decide(hours[2])
    assert client.measured()["fleet_states_not_saved_total"] == 1
    assert {*os.listdir(tmp_path)} == {"state.json", "saved"}


def test_what_stays_is_frozen_before_the_first_request_and_after_a_reload(
    bundle: Path,
) -> None:
    """The server, which would wait for requests, tells in its place what was frozen by then."""
    script = (
        "import gc, sys, uvicorn; from agents.serve import __main__\n"
        "uvicorn.Server.run = lambda *_, **__: print(gc.get_freeze_count())\n"
        "sys.exit(__main__.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "http", str(bundle), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 10_000
    metrics = Metrics(Service(lambda: fresh(bundle)))
    try:
        gc.unfreeze()
        http._reload(metrics)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_what_stays_is_walked_by_no_collection_and_what_a_bundle_leaves_behind_is_freed() -> None:
    class Bundle:
        itself: Bundle

    try:
        old = Bundle()
        old.itself = old
        left = weakref.ref(old)
        http.freeze()
        assert not any(one is old for one in gc.get_objects())
        del old
        http.freeze()
        assert left() is None
    finally:
        gc.unfreeze()
