"""Fleets on paper beside the real one, and the window over which the rule's lead is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from snapshots import NOW, Rig, by_hand, even, fed

from agents.serve.accounting import account, terms, value_moves
from agents.serve.book import Book, moved
from agents.serve.case import Case
from agents.serve.closings import close, full
from agents.serve.guardrails import Bars, Guardrails
from agents.serve.regret import WINDOW_H, Fleet, lost_usd, settle
from agents.serve.snapshot import Snapshot
from agents.serve.state import HOUR_S, Order, Paper, Regret, State

REAL = {"rig-0": "a", "rig-1": "b"}


def two_rigs() -> tuple[Snapshot, np.ndarray]:
    rigs: list[Rig] = [{"on": "a", "leaving_usd": 4.0}, {"on": "b"}]
    return by_hand(rigs, {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 3.0}})


def found(place: dict[str, str], *absent: str) -> Fleet:
    """A fleet on paper with these places in an hour of the two rigs, which lacks networks."""
    snapshot, memory = two_rigs()
    offered = terms(snapshot, memory, even())
    worth = value_moves(snapshot, offered)
    return Fleet.of(Paper(Book(place)), snapshot, snapshot, worth, offered, Guardrails(), absent)


@pytest.mark.parametrize(
    ("place", "apart"),
    [
        (REAL, False),
        ({"rig-0": "b", "rig-1": "b"}, True),
        ({"rig-0": "a"}, True),  # rig-1 is new to it
        ({**REAL, "gone": "a"}, True),
        ({}, False),  # it begins where the real one is
    ],
)
def test_a_fleet_is_apart_when_it_has_other_rigs_or_they_stand_elsewhere(
    place: dict[str, str], apart: bool
) -> None:
    assert found(place).apart is apart


def test_a_fleet_whose_rig_waits_for_its_network_is_apart_though_the_real_one_is_off() -> None:
    rigs: list[Rig] = [{"on": "off"}]
    snapshot, memory = by_hand(rigs, {"a": {"estimate_usd": 1.0}})
    offered = terms(snapshot, memory, even())
    paper, worth = Paper(Book({"rig-0": "away"})), value_moves(snapshot, offered)
    fleet = Fleet.of(paper, snapshot, snapshot, worth, offered, Guardrails(), {"away"})
    assert fleet.apart


def test_a_rig_that_waits_for_its_network_takes_no_order_and_none_of_the_hours_moves() -> None:
    fleet = found({"rig-0": "away", "rig-1": "a"}, "away")
    g = Guardrails(max_moves_h=1, max_payback_h=1e9)
    bars = Bars(np.zeros(2, bool), np.zeros(3, bool))
    orders = fleet.guarded(np.array([2, 2]), bars, np.full(3, np.inf), g)
    assert orders.tolist() == [0, 2]
    assert fleet.after(orders, 1.0).book.place == {"rig-0": "away", "rig-1": "b"}


def test_a_fleet_that_stands_elsewhere_is_valued_as_a_real_one_would_be_there() -> None:
    snapshot, memory = two_rigs()
    there = found({"rig-0": "b", "rig-1": "b"})
    assert there.seen.assignment.tolist() == [1, 1]
    alone = account(moved(snapshot, np.array([1, 1])), memory, even())
    for ours, theirs in zip(there.worth, alone, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_fleet_that_stands_elsewhere_finds_the_networks_full_that_are_full_there() -> None:
    """And not those on which the real fleet has no room: its third rig goes to the other one."""
    rigs: list[Rig] = [{"on": "a"}, {"on": "b"}, {"on": "off"}]
    snapshot, memory = by_hand(rigs, {name: {"estimate_usd": 1.0} for name in "ab"})
    g, offered = Guardrails(max_network_rigs={"b": 1}), terms(snapshot, memory, even())
    real = close(snapshot, full(snapshot, None, g)[0])
    assert real.on("open").tolist() == [1.0, 0.0, 1.0]
    for at, is_open in (("a", [1.0, 1.0, 1.0]), ("b", [1.0, 0.0, 1.0])):
        paper = Paper(Book({"rig-0": at, "rig-1": "a", "rig-2": "off"}))
        fleet = Fleet.of(paper, snapshot, real, value_moves(real, offered), offered, g)
        assert fleet.seen.on("open").tolist() == is_open
        assert fleet.worth.legal[2].tolist() == [True, at == "a", False]


def test_the_real_fleet_finds_a_network_full_to_which_its_orders_are_on_their_way() -> None:
    """So that its other rigs are sent elsewhere at once, and not only once it has arrived."""
    rigs: list[Rig] = [{"on": "a"}, {"on": "a"}]
    snapshot = fed(by_hand(rigs, {name: {"estimate_usd": 1.0} for name in "ab"})[0])
    g = Guardrails(max_network_rigs={"b": 1}, min_history_h=0.0)
    bars = Bars(np.zeros(2, bool), np.zeros(3, bool))
    before = State(NOW - HOUR_S, places=dict.fromkeys(snapshot.rig_names, "a"))
    for orders, is_open in (({}, 1.0), ({"rig-0": Order("b", NOW - HOUR_S)}, 0.0)):
        case = Case.of(replace(before, orders=orders), snapshot, bars, even(), g)
        assert case.seen.on("open").tolist() == [1.0, is_open, 1.0]
        assert [one.network for one in case.acted] == ["b"] * (is_open == 0.0)
        assert case.led.seen.on("open").tolist() == case.seen.on("open").tolist()


def test_the_lead_is_counted_over_the_window_and_no_longer() -> None:
    regret = Regret()
    for hour in range(int(WINDOW_H) + 3):
        rule = Paper(Book(REAL, 2.0 * hour))  # it gains 2 USD on the policy each hour
        regret = settle(Paper(), rule, regret, hour * HOUR_S, budget_usd=1e9)
        assert lost_usd(regret) == 2.0 * min(hour, WINDOW_H)
    assert len(regret.lead) == WINDOW_H + 1


def test_what_the_first_orders_cost_is_in_the_window_until_it_has_passed() -> None:
    regret, fallen = Regret(), []
    for hour in range(int(WINDOW_H) + 2):
        regret = settle(Paper(Book(REAL, -7.0)), Paper(), regret, hour * HOUR_S, budget_usd=5.0)
        fallen.append((lost_usd(regret), regret.spent))
    assert fallen == [(7.0, True)] * int(WINDOW_H + 1) + [(0.0, False)]
