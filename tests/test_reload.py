"""Laws of the exchange of bundles: what goes over, what is left alone, when it is tried."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from asking import Client, Json, exchange, new_service, rebuilt, recorded

import agents.serve.service
from agents.serve import http
from agents.serve.columns import Columns
from agents.serve.runtime import Policy
from agents.serve.service import Service, Watch
from agents.serve.snapshot import Snapshot, parse


@pytest.fixture(scope="module")
def hours(bundle: Path) -> list[Json]:
    return recorded(bundle)


def test_a_new_bundle_takes_over_with_what_was_remembered(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    """After an exchange it is decided as without one: averages and moves went over. Only the
    regret budget is the new bundle's own."""
    live = rebuilt(bundle, tmp_path, "live")
    changed, unchanged = new_service(live), new_service(live)
    for snapshot in hours[:8]:
        changed.decide(snapshot)
        unchanged.decide(snapshot)
    exchange(live, rebuilt(bundle, tmp_path, "fresh"))
    assert changed.reload()
    assert changed.policy.bundle.manifest["bundle"] == "fresh"
    for snapshot in hours[8:16]:
        said, expected = (s.decide(snapshot).to_json() for s in (changed, unchanged))
        own = {"bundle": None, "regret_usd": None}
        assert said | own == expected | own


def test_a_bundle_that_fails_its_check_leaves_the_old_one(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    live = rebuilt(bundle, tmp_path, "live")
    service = new_service(live)
    client = Client(service)
    model = live / "policy.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    client.metrics.reload()
    assert client.get("/v1/model").json()["bundle"] == "live"
    assert client.decide(hours[0]).status_code == 200
    assert 'fleet_reloads_total{result="refused"} 1.0' in client.get("/metrics").text


def test_a_reload_reads_the_operators_guardrails_again_and_keeps_the_old_ones_if_they_are_broken(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parser, limits = argparse.ArgumentParser(), tmp_path / "limits.yaml"
    http.add_arguments(parser)
    more = {"bundle": bundle, "guardrails": limits, "state_dir": None}
    options = argparse.Namespace(**vars(parser.parse_args([])), **more)
    options.public_key = options.signature = None
    limits.write_text("deny: [akash]")
    client = Client(Service(http._loader(options)))

    def denied() -> list[str]:
        return client.get("/v1/model").json()["guardrails"]["deny"]

    assert denied() == ["akash"]
    limits.write_text("deny: [vast]")
    assert denied() == ["akash"]
    client.metrics.reload()
    assert denied() == ["vast"]
    limits.write_text("denny: [akash]")
    client.metrics.reload()
    assert denied() == ["vast"]
    (refused,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert vars(refused)["fields"]["reason"].startswith("guardrails.denny: expected one of")


def test_a_snapshot_is_read_while_others_are_decided_on_and_again_after_an_exchange(
    bundle: Path, hours: list[Json], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large body must not hold up the small ones, and is decided by the bundle that read it."""
    live = rebuilt(bundle, tmp_path, "live")
    service = new_service(live)
    read: list[str] = []

    def slowly(snapshot: Json, columns: Columns) -> Snapshot:
        read.append(service.policy.bundle.manifest["bundle"])
        if len(read) == 1:
            assert not service._exchange.locked()  # else the reload would wait for ever
            exchange(live, rebuilt(bundle, tmp_path, "fresh"))
            assert service.reload()
        return parse(snapshot, columns)

    monkeypatch.setattr(agents.serve.service, "parse", slowly)
    assert service.decide(hours[0]).bundle == "fresh"
    assert read == ["live", "fresh"]


def test_whatever_a_new_bundle_raises_the_old_one_goes_on(bundle: Path) -> None:
    """An error that nobody thought of must not end the watch."""
    policies = [Policy.load(bundle)]
    service = Service(policies.pop)  # the second time, there is none: an IndexError
    before = service.policy
    assert not service.reload()
    assert service.policy is before


def test_a_folder_is_tried_once_when_it_has_come_to_rest(tmp_path: Path) -> None:
    tried: list[str] = []
    folder = tmp_path / "live"
    folder.mkdir()
    file = folder / "a"
    file.write_text("old")
    watch = Watch(folder, lambda: tried.append(file.read_text()))
    watch.look()
    for k in range(5):  # a copy in progress
        file.write_text(f"half of it, {k * 'and more'}")
        watch.look()
    folder.rename(tmp_path / "away")
    watch.look()
    watch.look()
    assert tried == []
    (tmp_path / "away").rename(folder)
    file.write_text("whole")
    for _ in range(4):
        watch.look()
    assert tried == ["whole"]
    watch.ask()
    watch.look()
    assert tried == ["whole", "whole"]


def test_a_signal_may_ask_while_another_asks(tmp_path: Path) -> None:
    """A handler runs between any two steps of the main thread, also of the same handler: it must
    not wait for a lock that the interrupted one holds."""
    watch = Watch(tmp_path, lambda: None)
    inside = False

    def interrupt(*_: Any) -> Any:
        nonlocal inside
        if not inside:
            inside = True
            watch.ask()
            inside = False
        return interrupt

    def ask() -> None:
        sys.settrace(interrupt)
        watch.ask()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert not asking.is_alive()
