"""What a guardrail closes is as if it were closed: rigs go to the next best network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import LOOSE, Json, ask, fresh, later, recorded
from snapshots import Rig, by_hand

from agents.serve.closings import close, closings, full
from agents.serve.guardrails import Guardrails
from agents.serve.snapshot import Snapshot

FREE: Json = {**LOOSE, "min_dwell_h": 0.0, "max_moves_share_h": 1.0, "min_history_h": 0.0}


def three(**changes: Any) -> Snapshot:
    """Rigs on a, b and b; networks a, b, c and off."""
    networks = {name: {"estimate_usd": 1.0, **changes.get(name, {})} for name in "abc"}
    return by_hand([{"on": "a"}, {"on": "b"}, {"on": "b"}], networks)[0]


def test_what_is_denied_down_unknown_or_without_facts_is_closed_and_told_once() -> None:
    snapshot = three(b={"up": 0.0})
    g = Guardrails(deny=("a",), min_history_h=6.0)
    barred, history_h = np.array([False, False, False, False]), np.array([9.0, 9.0, 2.0, 0.0])
    shut, acted = closings(snapshot, barred, history_h, g)
    assert shut.tolist() == [True, True, True, False]  # off needs no history
    assert [(one.guardrail, one.text) for one in acted] == [
        ("deny", "a is not entered: it is on the deny list"),
        ("down", "b is not entered: it is down"),
        ("min_history_h", "c is not entered: it is known for 2.0 h of 6"),
    ]
    shut, acted = closings(snapshot, barred, np.zeros(4), replace(g, deny=()))
    assert shut.tolist() == [True, True, True, False]
    text = "no network is entered: known for 0.0 h of 6 at most"
    assert [one.text for one in acted] == [text, "b is not entered: it is down"]
    shut, acted = closings(snapshot, ~barred, history_h, g)
    assert shut.all()
    assert acted == ()  # feeds have told of them
    assert closings(three(a={"open": 0.0}), barred, np.full(4, 9.0), g)[1] == ()  # closed anyway


def test_what_no_rig_could_have_entered_is_closed_and_not_told_of() -> None:
    rigs: list[Rig] = [{"on": "a", "work": {"c": 0.0}}, {"on": "a", "work": {"c": 0.0}}]
    snapshot = by_hand(rigs, {name: {"estimate_usd": 1.0} for name in "abc"})[0]
    g = Guardrails(deny=("a", "b", "c"), min_history_h=0.0)
    shut, acted = closings(snapshot, np.zeros(4, bool), np.full(4, 9.0), g)
    assert shut.tolist() == [True, True, True, False]
    assert [one.network for one in acted] == ["b"]


def test_a_network_is_full_with_the_rigs_on_it_and_those_on_their_way() -> None:
    snapshot, g = three(), Guardrails(max_network_rigs={"b": 2, "c": 1, "off": 0})
    none, acted = full(snapshot, None, g)
    assert none.tolist() == [False, True, False, True]
    assert [one.guardrail for one in acted] == ["max_network_rigs"] * 2
    assert acted[0].text == "b is not entered: 2 rigs there at most"
    assert full(snapshot, np.array([0, 0, 1, 0]), g)[0].tolist() == [False, True, True, True]
    half = Guardrails(max_network_share=0.5)  # of three rigs one, and any number may be off
    none, acted = full(snapshot, None, half)
    assert none.tolist() == [True, True, False, False]
    assert {one.guardrail for one in acted} == {"max_network_share"}


def test_a_fleet_that_stands_on_one_network_is_not_told_that_it_is_full() -> None:
    together = by_hand([{"on": "a"}, {"on": "a"}], {"a": {}, "b": {}})[0]
    for g in (Guardrails(), Guardrails(max_network_rigs={"a": 2, "b": 1})):
        none, acted = full(together, np.array([0, 0, 0]), g)
        assert not none.any()
        assert acted == ()


def test_closing_leaves_the_snapshot_as_it_was() -> None:
    snapshot = three(c={"open": 0.0})
    assert close(snapshot, np.array([False, False, True, False])) is snapshot
    shut = close(snapshot, np.array([True, False, False, False]))
    assert shut.on("open").tolist() == [0.0, 1.0, 0.0, 1.0]
    assert snapshot.on("open").tolist() == [1.0, 1.0, 0.0, 1.0]
    assert (
        np.delete(shut.networks, [*shut.columns.networks.index].index("open"), 1)
        == np.delete(snapshot.networks, [*shut.columns.networks.index].index("open"), 1)
    ).all()


def live(folder: Path, changed: Any = None, **limits: Any) -> list[dict[str, str]]:
    """The orders of two days in which the fleet obeys; changed: what is done to each snapshot."""
    policy, told = fresh(folder, **{**FREE, **limits}), []
    places: dict[str, str] = {}
    for hour, snapshot in enumerate(recorded(folder)):
        sent = later(snapshot, 0.0) if hour else snapshot
        for name, rig in sent["rigs"].items():
            place = places.get(name, rig["network"])
            gone = {"tenure_h": 0.0, "provisioning_h": 0.0, "leaving_usd": 0.0}
            sent["rigs"][name] = {**rig, **(gone if name in places else {}), "network": place}
        if changed:
            changed(sent)
        orders = ask(policy, sent).orders
        places |= orders
        told.append(orders)
    return told


def most_entered(folder: Path, **limits: Any) -> str:
    entered = [network for orders in live(folder, **limits) for network in orders.values()]
    return max({*entered} - {"off"}, key=entered.count)


@pytest.mark.parametrize("who", ["policy", "rule"])
def test_a_denied_network_costs_no_more_than_the_network(bundle: Path, who: str) -> None:
    """The policy and the rule order as if it were closed, and still move."""
    limits: Json = {"max_novelty": 0.0} if who == "rule" else {}
    best = most_entered(bundle, **limits)

    def shut(snapshot: Json) -> None:
        snapshot["networks"][best]["open"] = False

    without = live(bundle, shut, **limits)
    assert without != live(bundle, **limits)
    assert live(bundle, deny=[best], **limits) == without
    told = ask(fresh(bundle, deny=[best], **limits), recorded(bundle)[0]).acted
    assert [one.network for one in told if one.guardrail == "deny"] == [best]
    assert live(bundle, max_network_rigs={best: 0}, **limits) == without
    assert any(without) or who == "rule"  # for whose fleet nothing else is worth a move


def test_nothing_enters_a_network_that_is_down_and_no_rig_that_is_down_moves(bundle: Path) -> None:
    best = most_entered(bundle)
    hit = next(iter(next(o for o in live(bundle) if best in o.values())))

    def fallen(snapshot: Json) -> None:
        snapshot["networks"][best]["up"] = False

    def broken(snapshot: Json) -> None:
        snapshot["rigs"][hit]["up"] = False

    assert all(best not in orders.values() for orders in live(bundle, fallen))
    assert any(live(bundle, fallen))
    assert all(hit not in orders for orders in live(bundle, broken))
