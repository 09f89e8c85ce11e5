"""Laws of shadow mode: the fleet on paper, and the log that it leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from asking import Client, Json, new_service, recorded

from agents.serve.errors import FieldError
from agents.serve.runtime import Policy
from agents.serve.service import Service
from agents.serve.shadow import Shadow
from agents.shadow import read_log


@pytest.fixture(scope="module")
def hours(bundle: Path) -> list[Json]:
    return recorded(bundle)


@pytest.fixture
def paper(bundle: Path, tmp_path: Path) -> tuple[Service, Path]:
    """A service in shadow mode, and its log."""
    log = tmp_path / "log.jsonl"
    return new_service(bundle, Shadow(log)), log


def _lines(log: Path) -> list[Json]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_shadow_mode_leads_a_fleet_on_paper_as_the_policy_would_have_led_it(
    paper: tuple[Service, Path], hours: list[Json]
) -> None:
    """The orchestrator ignores the policy; on paper each order is carried out and stands."""
    service, log = paper
    client = Client(service)
    first = {rig: row["network"] for rig, row in hours[0]["rigs"].items()}
    for snapshot in hours:
        stubborn = {rig: row | {"network": first[rig]} for rig, row in snapshot["rigs"].items()}
        answer = client.decide(snapshot | {"rigs": stubborn})
        assert answer.status_code == 200
        assert answer.json()["shadow"] is True
    header, *lines = _lines(log)
    assert header["manifest"]["bundle"] == service.policy.bundle.manifest["bundle"]
    places = first
    for line in lines:
        assert line["places"] == places
        assert {r: row["network"] for r, row in line["snapshot"]["rigs"].items()} == first
        assert all(places[rig] != to for rig, to in line["orders"].items())
        places = places | line["orders"]
    assert places != first  # it moved, so that the above was no empty law
    found = read_log(log)
    assert found.theirs.moves == 0
    assert found.ours.moves == sum(len(line["orders"]) for line in lines[:-1])


def test_shadow_mode_decides_as_live_while_the_orchestrator_obeys(
    bundle: Path, paper: tuple[Service, Path], hours: list[Json]
) -> None:
    service, _ = paper
    live = new_service(bundle)
    for snapshot in hours[:1]:
        assert service.decide(snapshot).orders == live.decide(snapshot).orders


def test_a_snapshot_sent_again_moves_nothing_on_paper(
    paper: tuple[Service, Path], hours: list[Json]
) -> None:
    service, log = paper
    for snapshot in hours:
        first, again = service.decide(snapshot), service.decide(snapshot)
        assert first.orders == again.orders
    assert len(_lines(log)) == 1 + len(hours)


def test_a_shadow_that_goes_live_knows_the_networks_and_forgets_its_paper(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    """So that no paper move dwells, and the real fleet is no stray that regret must explain."""
    state = tmp_path / "state"

    def service(shadow: Shadow | None) -> Service:
        def load() -> Policy:
            return Policy.load(bundle, state, shadow=shadow is not None)

        return Service(load, shadow, simulated=True)

    on_paper = service(Shadow(tmp_path / "log.jsonl"))
    for hour in hours[:12]:
        on_paper.decide(hour)
    before = on_paper.policy._memory.after
    assert before.moves.last
    live = service(None)
    remembered = live.policy._memory.after
    assert remembered.feeds == before.feeds != {}
    assert not remembered.moves.last
    assert remembered.regret.lead == ()
    assert live.decide(hours[12]).source != "hold"
    with pytest.raises(FieldError, match="--state-dir"):
        service(Shadow(tmp_path / "log.jsonl"))


def test_a_file_that_is_no_shadow_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content in ("a token without an end", '{"a": 1}\n'):
        path.write_text(content)
        with pytest.raises(FieldError, match="--shadow"):
            Shadow(path)
        assert path.read_text() == content


def test_a_log_is_taken_up_where_it_ended_and_half_a_line_is_cut(
    bundle: Path, paper: tuple[Service, Path], hours: list[Json]
) -> None:
    service, log = paper
    for snapshot in hours[:24]:
        service.decide(snapshot)
    before = _lines(log)
    with log.open("a") as file:
        file.write('{"snapshot": {"sche')
    again = new_service(bundle, Shadow(log))
    again.decide(hours[24])
    *kept, header, line = _lines(log)
    assert kept == before
    assert "manifest" in header
    assert line["places"] == before[-1]["places"] | before[-1]["orders"]


def test_a_log_that_cannot_be_written_costs_lines_and_no_answer(
    paper: tuple[Service, Path], hours: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full half-way through a line."""
    service, log = paper
    service.decide(hours[0])
    whole, write = log.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    service.decide(hours[1])
    assert log.read_bytes() == whole
    monkeypatch.undo()
    service.decide(hours[2])
    assert len(_lines(log)) == 3
