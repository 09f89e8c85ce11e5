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


def _stubborn(hours: list[Json]) -> list[Json]:
    """The hours of an orchestrator that never moves a rig."""
    first = {rig: row["network"] for rig, row in hours[0]["rigs"].items()}
    return [
        hour | {"rigs": {rig: row | {"network": first[rig]} for rig, row in hour["rigs"].items()}}
        for hour in hours
    ]


def _flooded(hours: list[Json]) -> list[Json]:
    """Hours in which one network pays far more than all others, and later on another more still."""
    flooded = []
    for k, hour in enumerate(hours):
        name, times = ("heurist", 1e3) if k < 20 else ("render", 1e6)
        row = hour["networks"][name]
        rows = hour["networks"] | {name: row | {"estimate_usd": times * row["estimate_usd"]}}
        flooded.append(hour | {"networks": rows})
    return flooded


def test_a_snapshot_sent_again_moves_nothing_on_paper(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    """And is answered as at first, also where a rig that had moved on paper moves again, and by a
    service that was started anew meanwhile."""
    log, state = tmp_path / "log.jsonl", tmp_path / "state"
    lax = {"min_dwell_h": 0.0, "estimate_clip": 1e6, "max_novelty": 0.0}

    def service() -> Service:
        return Service(
            lambda: Policy.load(bundle, state, lax, shadow=True), Shadow(log), simulated=True
        )

    asked, moved, again = service(), set[str](), 0
    for snapshot in _flooded(_stubborn(hours)):
        first = asked.decide(snapshot)
        twice = moved.intersection(first.orders)
        second = service().decide(snapshot) if twice else asked.decide(snapshot)
        assert (first.source, first.orders) == (second.source, second.orders)
        again += len(twice)
        moved.update(first.orders)
    assert again  # or the law would be weaker than it says
    assert len([line for line in _lines(log) if "snapshot" in line]) == len(hours)


def test_a_shadow_that_was_started_anew_goes_on_as_one_that_never_stopped(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    """Also with rigs that the orchestrator took away before, and a network without a row then."""
    network, told = _busiest(hours[0]), _stubborn(hours)[:8]
    told[4:] = [_without(hour, network) for hour in told[4:]]
    told[4:6] = [hour | {"networks": hours[k]["networks"]} for k, hour in enumerate(told[4:6], 4)]
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    for log, stops in ((whole, ()), (parts, (5, 7))):
        service = _held(bundle, log)
        for k, snapshot in enumerate(told):
            if k in stops:
                service = _held(bundle, log)
            service.decide(snapshot)
    hourly = [[line for line in _lines(log) if "since" in line] for log in (whole, parts)]
    for one, other in zip(*hourly, strict=True):
        for key in ("places", "since", "away"):
            assert one[key] == other[key]
    assert hourly[0][-1]["away"]
    away = [
        r for r, row in told[-1]["rigs"].items() if row["network"] != hourly[0][-1]["places"][r]
    ]
    assert away
    for rig in away:  # and not since the restart
        assert hourly[0][-1]["since"][rig] == hourly[0][3]["since"][rig]


def _busiest(snapshot: Json) -> str:
    """The network with most rigs."""
    places = [row["network"] for row in snapshot["rigs"].values()]
    return max(sorted({*places} - {"off"}), key=places.count)


def _without(snapshot: Json, *networks: str) -> Json:
    """A snapshot in which rows are missing; the real rigs there are told to be off."""
    rows = {name: row for name, row in snapshot["networks"].items() if name not in networks}
    rigs = {
        rig: row | {"network": "off"} if row["network"] in networks else row
        for rig, row in snapshot["rigs"].items()
    }
    return snapshot | {"networks": rows, "rigs": rigs}


def _held(bundle: Path, log: Path) -> Service:
    """A service in shadow mode whose bundle may enter nothing."""
    names = json.loads((bundle / "manifest.json").read_text())["catalog"]["networks"]
    held = {"deny": [*names, "off"]}
    return Service(lambda: Policy.load(bundle, guardrails=held), Shadow(log), simulated=True)


def test_rigs_on_paper_wait_for_the_row_of_their_network_and_then_go_on(
    bundle: Path, hours: list[Json], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Six hours without it: they keep their place, are not asked about, and one line an hour says
    so; when it is back they are there, by no move."""
    log = tmp_path / "log.jsonl"
    service, network = _held(bundle, log), _busiest(hours[0])
    there = {rig for rig, row in hours[0]["rigs"].items() if row["network"] == network}
    answers = [
        service.decide(_without(hour, network) if 3 <= k < 9 else hour)
        for k, hour in enumerate(_stubborn(hours)[:12])
    ]
    lines = _lines(log)[1:]
    for k, (line, answer) in enumerate(zip(lines, answers, strict=True)):
        assert {rig for rig, at in line["places"].items() if at == network} == there
        waits = {rig for rig in there if "has no row" in answer.holds[rig]}
        assert waits == (there if 3 <= k < 9 else set())
        assert not answer.orders
    for rig in there:
        assert [line["since"][rig] for line in lines[3:9]] == [lines[2]["since"][rig]] * 6
    assert len([r for r in caplog.records if f"{network} has no row" in r.message]) == 6
    found = read_log(log)
    assert found.ours.moves == 0


def test_rigs_on_paper_are_off_once_the_row_of_their_network_was_away_for_too_long(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    """`max_gap_h` is six hours: in the seventh they are off, and stay so when it is back."""
    log = tmp_path / "log.jsonl"
    service, network = _held(bundle, log), _busiest(hours[0])
    there = {rig for rig, row in hours[0]["rigs"].items() if row["network"] == network}
    for k, hour in enumerate(_stubborn(hours)[:14]):
        service.decide(_without(hour, network) if 3 <= k < 10 else hour)
    lines = _lines(log)[1:]
    for rig in there:
        assert [line["places"][rig] for line in lines] == [network] * 9 + ["off"] * 5
    assert read_log(log).ours.moves == 0


def test_a_fleet_on_paper_without_any_row_is_answered(
    bundle: Path, hours: list[Json], tmp_path: Path
) -> None:
    service = _held(bundle, tmp_path / "log.jsonl")
    service.decide(hours[0])
    networks = {row["network"] for row in hours[0]["rigs"].values()} - {"off"}
    answer = service.decide(_without(hours[1], *networks))
    assert (answer.orders, answer.source) == ({}, "policy")


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
