"""Laws of shadow mode held against a live twin: the same world, which the same bundle really leads.

The twins live on networks where all that a decision rests on is published: without leases and
tournaments, whose luck a rig on paper cannot have. There the fleet on paper is the live one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from asking import Json
from snapshots import Rig, by_hand

from agents.golden import clock
from agents.serve.runtime import Decision, Policy
from agents.serve.service import Service
from agents.serve.shadow import Shadow, _elsewhere
from agents.serve.snapshot import Snapshot
from agents.shadow import Fleet, Rehearsal, read_log
from agents.snapshots import Names, to_snapshot
from benchmarks.shadow import main as measure
from benchmarks.shadow import told_usd_day
from env.observation import column, derive, facts
from env.scenario import build_scenario
from env.world import World

NETWORKS = ("bittensor_serverless", "io_net", "render", "heurist", "morpheus", "livepeer")
HOURS = 60
AWAY_AT = 7  # the hour in which an orchestrator takes all rigs away

Places = Mapping[str, str]
Led = Callable[[int, Decision], Places]  # what an orchestrator does in an hour: rig -> network


class Watched(Policy):
    """A policy that keeps the snapshots that it is asked about."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.asked: list[Snapshot] = []

    def answer(self, seen: Snapshot, now: float) -> Decision:
        self.asked.append(seen)
        return super().answer(seen, now)


class Life(NamedTuple):
    """Hours of a world with a shadow beside its orchestrator."""

    sent: list[Json]
    asked: list[Snapshot]  # the fleet on paper
    orders: list[dict[str, str]]
    valued: Rehearsal


def _live(bundle: Path, log: Path, led: Led, **guardrails: Any) -> Life:
    """Let an orchestrator lead a world."""
    world = World.start(build_scenario("small", {"names": [*NETWORKS]}, horizon=HOURS), [3])
    names = Names.of(world, 0)

    def load() -> Policy:
        return Watched.load(bundle, guardrails=guardrails, shadow=True)

    service, sent, ordered = Service(load, Shadow(log), simulated=True), [], []
    for hour in range(HOURS):
        known = facts(world.scenario, world.fleet, world.state, world.now, world.static)
        time = clock(float(known.market[0, column("market", "hour_of_day")]), hour)
        averages = derive(known, world.memory, 1.0)[1] if hour == 0 else None
        sent.append(to_snapshot(known, 0, names, time, averages))
        decision = service.decide(sent[-1])
        ordered.append(decision.orders)
        orders = torch.zeros(1, len(names.rigs), dtype=torch.int64)
        for rig, network in led(hour, decision).items():
            orders[0, names.rigs.index(rig)] = names.networks.index(network) + 1
        world.step(orders)
    assert isinstance(service.policy, Watched)
    return Life(sent, service.policy.asked, ordered, read_log(log))


def _obeys(hour: int, decision: Decision) -> Places:
    return decision.orders


def _holds(hour: int, decision: Decision) -> Places:
    return {}


def _takes_away(hour: int, decision: Decision) -> Places:
    """All rigs are switched off at an hour, whatever they are on."""
    return dict.fromkeys([*decision.orders, *decision.holds], "off") if hour == AWAY_AT else {}


@pytest.fixture(scope="module")
def live(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """The bundle leads, by its rule: what a network answers, another's last pay may tip over."""
    return _live(bundle, tmp_path_factory.mktemp("live") / "l.jsonl", _obeys, max_novelty=0.0)


@pytest.mark.parametrize("led", [_holds, _takes_away])
def test_the_fleet_on_paper_is_the_one_that_the_bundle_would_have_led(
    bundle: Path, tmp_path: Path, live: Life, led: Led
) -> None:
    """Hour by hour the same orders, and in the end the same profit and moves, whatever the
    orchestrator did meanwhile with the real fleet."""
    paper = _live(bundle, tmp_path / "l.jsonl", led, max_novelty=0.0)
    assert paper.orders == live.orders
    assert sum(map(len, live.orders)) > 5  # or the law would be empty
    assert paper.valued.ours.usd == pytest.approx(live.valued.theirs.usd, abs=1e-6)
    assert paper.valued.ours.moves == live.valued.theirs.moves
    assert live.valued.ours.usd == pytest.approx(live.valued.theirs.usd, abs=1e-6)
    assert paper.valued.theirs.usd.sum() != pytest.approx(paper.valued.ours.usd.sum(), rel=0.01)
    for ours, theirs in zip(paper.asked, live.asked, strict=True):
        np.testing.assert_allclose(ours.networks, theirs.networks, rtol=1e-6)
        np.testing.assert_array_equal(ours.assignment, theirs.assignment)
        np.testing.assert_allclose(ours.of("leaving_usd"), theirs.of("leaving_usd"), rtol=1e-4)
    assert max(seen.of("leaving_usd").max() for seen in paper.asked) > 1.0


def test_a_rig_whose_real_one_is_taken_away_goes_on_on_paper_as_if_it_had_stayed(
    bundle: Path, tmp_path: Path
) -> None:
    """Against rigs that stay where the orchestrator put them, where they provision for eleven hours
    and warm up: the same in every hour, unless they were down, which on paper stops no clock."""

    def puts(hour: int, decision: Decision) -> Places:
        rigs = [*decision.orders, *decision.holds]
        return dict.fromkeys(rigs, "livepeer") if hour == AWAY_AT - 2 else {}

    def puts_and_takes(hour: int, decision: Decision) -> Places:
        return puts(hour, decision) or _takes_away(hour, decision)

    still = {"deny": [*NETWORKS, "off"]}
    stays = _live(bundle, tmp_path / "s.jsonl", puts, **still)
    paper = _live(bundle, tmp_path / "p.jsonl", puts_and_takes, **still)
    compared = 0
    for hour in range(AWAY_AT + 1, HOURS):
        ours, theirs = paper.asked[hour], stays.asked[hour]
        np.testing.assert_array_equal(ours.assignment, theirs.assignment)
        up = np.min([seen.of("up") for seen in stays.asked[: hour + 1]], 0) > 0
        compared += int(up.sum())
        for name, within in (("provisioning_h", 1e-4), ("tenure_h", 1e-4), ("score", 0.03)):
            assert ours.of(name)[up] == pytest.approx(theirs.of(name)[up], abs=within)
    assert compared > 100


def test_a_rig_on_paper_that_is_down_used_no_energy_and_earned_nothing() -> None:
    """Nor does one whose network is down: it costs its housing and no more."""
    owned = {"owned": 1.0, "power_kw": 2.0, "tariff_usd_kwh": 0.25, "housing_usd_h": 0.1}
    rigs: list[Rig] = [{"on": "a", **owned}, {"on": "a", **owned, "up": 0.0}, {"on": "b", **owned}]
    pays = {"estimate_usd": 1.0, "warmup_h": 1.0}
    paper, _ = by_hand(rigs, {"a": pays, "b": {**pays, "up": 0.0}})
    told = [_elsewhere(paper, r, paid, 100.0) for r, paid in enumerate((0.7, 0.0, 0.0))]
    assert [row["last_gross_usd"] for row in told] == pytest.approx([0.7 + 0.5, 0.0, 0.0])
    assert [row["last_net_usd"] for row in told] == pytest.approx([0.7 - 0.1, -0.1, -0.1])


def test_a_rig_that_is_off_on_paper_works_no_hours_and_has_no_score() -> None:
    paper, _ = by_hand([{"on": "off"}, {"on": "a"}], {"a": {"estimate_usd": 1.0}})
    off, at_work = (_elsewhere(paper, r, 0.0, 5.0) for r in range(2))
    assert (off["tenure_h"], off["score"]) == (0.0, 0.0)
    assert (at_work["tenure_h"], at_work["score"]) == (5.0, 1.0)


def test_what_a_log_tells_is_by_the_day_of_the_hours_that_it_knows_of() -> None:
    """Not of those before its first line, nor of a gap, for which neither fleet is paid."""
    nothing, none = np.zeros(4), np.zeros(4, np.int64)
    ours = Fleet(np.array([0.0, 2.0, 0.0, 4.0]), nothing, 0, 0.0)
    theirs = Fleet(np.array([0.0, 1.0, 0.0, 1.0]), nothing, 0, 0.0)
    told = Rehearsal("any", none, np.array([0.0, 1.0, 0.0, 2.0]), ours, theirs, 0.0, 1)
    assert told_usd_day(told) == pytest.approx(24.0 * (6.0 - 2.0) / 3.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "not a folder that can be read"),
        (["--fleet", "tiny"], "fleet: expected one of"),
        (["--hours", "1"], "--hours: expected at least 2, got 1"),
        (["--worlds", "0"], "--worlds: expected at least 1, got 0"),
    ],
)
def test_a_shadow_is_not_measured_on_wrong_input_and_it_is_said_in_one_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], words: str
) -> None:
    read = bundle if wrong else tmp_path / "none"
    with pytest.raises(SystemExit) as stopped:
        measure([str(read), str(tmp_path / "logs"), *wrong])
    assert stopped.value.code == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert words in said.splitlines()[-1]
