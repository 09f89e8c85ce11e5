"""Virtual fleets: worked examples, and the laws that make two books comparable."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import Rig, by_hand, even, lived, valued

from agents.serve.accounting import account, rule_orders
from agents.serve.book import FINANCING_A_YEAR, Book, moved, placed, standing, step
from agents.serve.snapshot import Snapshot
from env.parsing import preset

A, B, OFF = 1, 2, 3  # orders on the networks below


def two_rigs() -> Snapshot:
    """rig-0 on a, paid 1 USD/h there and 3 on b; rig-1 on b, paid 3 and 1; b costs 10 to enter."""
    deep = {"outside_work": 1e12}
    networks = {
        "a": {**deep, "estimate_usd": 1.0},
        "b": {**deep, "estimate_usd": 3.0, "burn_usd": 10.0},
    }
    rigs: list[Rig] = [{"on": "a", "leaving_usd": 4.0}, {"on": "b", "leaving_usd": 5.0}]
    return by_hand(rigs, networks)[0]


def after(
    book: Book, snapshot: Snapshot, orders: list[int], dt_h: float = 1.0, absent: str = ""
) -> Book:
    stands = standing(book.place, snapshot, {absent} - {""})
    seen = moved(snapshot, stands.at)
    return step(book, stands, seen, valued(seen), np.array(orders, np.int64), dt_h)


def test_hours_are_paid_where_the_rigs_stood_and_moves_after_them() -> None:
    book = Book({"rig-0": "a", "rig-1": "b"}, 100.0)
    found = after(book, two_rigs(), [B, 0], dt_h=2.0)
    # 2 h of 1 + 3 USD, then 10 USD to enter b and 4 USD to leave a
    assert found.usd == pytest.approx(100.0 + 2.0 * 4.0 - 14.0)
    assert found.place == {"rig-0": "b", "rig-1": "b"}


def test_a_virtual_rig_pays_to_enter_even_where_the_real_one_stands() -> None:
    book = Book({"rig-0": "a", "rig-1": "a"})
    found = after(book, two_rigs(), [0, B], dt_h=1.0)
    # leaving a costs nothing: it has neither leases nor collateral, and the real rig-1 is on b
    assert found.usd == pytest.approx(2.0 - 10.0)
    assert found.place == {"rig-0": "a", "rig-1": "b"}


def test_ordering_where_it_stands_or_to_hold_costs_nothing() -> None:
    book = Book({"rig-0": "b", "rig-1": "b"})
    found = after(book, two_rigs(), [B, 0])
    assert found.place == book.place
    assert found.usd == pytest.approx(6.0)


def test_rigs_that_appear_start_where_they_are_and_those_that_vanish_stop_earning() -> None:
    book = Book({"rig-0": "b", "gone": "b"}, 1.0)
    found = after(book, two_rigs(), [0, 0])
    assert found.usd == pytest.approx(1.0 + 3.0)  # rig-1 is new: unpaid for the hour before
    assert found.place == {"rig-0": "b", "rig-1": "b"}
    assert after(Book(), two_rigs(), [B, 0]).place == {"rig-0": "b", "rig-1": "b"}


def test_a_rig_on_a_network_that_vanished_goes_on_where_it_really_is() -> None:
    found = after(Book({"rig-0": "gone", "rig-1": "b"}), two_rigs(), [0, 0])
    assert found.place == {"rig-0": "a", "rig-1": "b"}
    assert found.usd == pytest.approx(1.0 + 3.0)


def test_a_rig_whose_network_is_missing_for_a_while_keeps_its_place_unpaid_and_unmoved() -> None:
    book = Book({"rig-0": "away", "rig-1": "b"})
    found = after(book, two_rigs(), [B, 0], absent="away")
    assert found.place == book.place
    assert found.usd == pytest.approx(3.0)
    at, known, waits, left = standing(book.place, two_rigs(), {"away"})
    assert left == {}
    assert at.tolist() == [2, 1]  # it counts as off meanwhile
    assert known.tolist() == [True, True]
    assert waits.tolist() == [True, False]
    assert after(found, two_rigs(), [B, 0]).place["rig-0"] == "b"  # no longer waited for


def test_rigs_that_are_left_out_with_their_network_keep_their_places() -> None:
    """Whoever sends no row of a network cannot send the rigs that really stand there."""
    book = Book({"rig-0": "a", "rig-1": "b", "rig-2": "b"})
    found = after(book, two_rigs(), [0, 0], absent="away")
    assert found.place == book.place
    assert found.usd == pytest.approx(1.0 + 3.0)
    assert after(book, two_rigs(), [0, 0]).place == {"rig-0": "a", "rig-1": "b"}


@pytest.mark.parametrize("fault", ["closed", "not eligible", "unknown cost"])
def test_an_order_that_cannot_be_carried_out_is_a_hold(fault: str) -> None:
    snapshot = two_rigs()
    if fault == "closed":
        snapshot.on("open")[1] = 0.0
    elif fault == "not eligible":
        snapshot.work[0, 1] = 0.0
    else:
        snapshot.on("burn_usd")[1] = math.nan
    book = Book({"rig-0": "a", "rig-1": "b"})
    found = after(book, snapshot, [B, 0])
    assert found.place == book.place
    assert found.usd == pytest.approx(4.0)


def test_an_unknown_yield_earns_nothing_and_spoils_nothing() -> None:
    snapshot = two_rigs()
    snapshot.on("estimate_usd")[1] = math.nan
    found = after(Book({"rig-0": "a", "rig-1": "b"}), snapshot, [0, 0])
    assert found.usd == pytest.approx(1.0)


orders = st.lists(st.integers(0, 3), min_size=2, max_size=2)
broken = st.sampled_from([math.nan, math.inf, -math.inf, -1e9, 0.0, 1e300])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_facts_spoil_a_book(data: st.DataObject) -> None:
    snapshot = two_rigs()
    tables = (snapshot.rigs, snapshot.networks, snapshot.work)
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from(tables))
        row = data.draw(st.integers(0, len(table) - 1))
        table[row, data.draw(st.integers(0, table.shape[1] - 1))] = data.draw(broken)
    place = data.draw(st.sampled_from("ab"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        book = Book({"rig-0": "a", "rig-1": place}, 1.0)
        found = after(book, snapshot, data.draw(orders))
        seen = placed(found, snapshot)
        again = after(found, seen, data.draw(orders))
    assert math.isfinite(found.usd)
    assert math.isfinite(again.usd)
    assert set(found.place.values()) <= {"a", "b", "off"}


def test_a_placed_snapshot_is_that_of_a_fleet_which_stands_there() -> None:
    book = Book({"rig-0": "b", "rig-1": "b"})
    seen = placed(book, two_rigs())
    assert seen.assignment.tolist() == [1, 1]
    assert seen.on("own_work").tolist() == [0.0, 2.0, 0.0]
    assert seen.on("own_rigs").tolist() == [0.0, 2.0, 0.0]
    assert seen.of("leaving_usd").tolist() == [0.0, 5.0]
    assert two_rigs().assignment.tolist() == [0, 1]


def test_leaving_where_only_the_virtual_rig_stands_costs_what_is_expected() -> None:
    # on a leases last 48 h on average and 12 h are lost by leaving: 48 (1 - exp(-1/4)) = 10.62 h
    # of 2 units at 1.5 USD; 100 USD a unit and 40 USD are locked for 438 h, a twentieth of a year,
    # at 12 % a year: 2 * 1.5 * 10.6177 + 240 * 0.05 * 0.12 = 33.293 USD
    terms = {"lease": 1.0, "lease_mean_h": 48.0, "break_h": 12.0, "unbonding_h": 438.0}
    terms |= {"collateral_usd": 100.0, "rig_collateral_usd": 40.0, "estimate_usd": 1.5}
    rig: Rig = {"on": "b", "work": {"a": 2.0}, "leaving_usd": 4.0}
    snapshot, _ = by_hand([rig], {"a": terms, "b": {"estimate_usd": 1.0}})
    there = Book({"rig-0": "a"})
    expected = pytest.approx(33.293, abs=1e-3)
    assert placed(there, snapshot).of("leaving_usd")[0] == expected
    stays, leaves = (after(there, snapshot, [order], dt_h=0.0).usd for order in (0, B))
    assert stays - leaves == expected
    assert placed(Book({"rig-0": "b"}), snapshot).of("leaving_usd")[0] == 4.0


def test_a_book_that_follows_the_fleet_earns_its_present_pay_exactly() -> None:
    """Conservation: along a lived world, hold orders where the fleet really is."""
    rule = even(horizon_h=125.0)
    rng = np.random.default_rng(5)

    def stay(seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.zeros(seen["action_mask"].shape[:2], dtype=torch.int64)

    book, expected = Book(), 0.0
    for _, _, snapshot, memory in lived("mixed", "core", stay, hours=12, seeds=[3]):
        here = {
            rig: snapshot.network_names[n]
            for rig, n in zip(snapshot.rig_names, snapshot.assignment, strict=True)
        }
        book = Book(here, book.usd)  # a tournament may have moved a rig to off
        found = account(snapshot, memory, rule)
        dt_h = float(rng.uniform(0.5, 2.0))
        stands = standing(book.place, snapshot)
        book = step(book, stands, snapshot, found, np.zeros(len(here), np.int64), dt_h)
        expected += float(found.paid_usd_h.sum()) * dt_h
        assert book.usd == pytest.approx(expected, rel=1e-12)
        assert book.place == here
    assert expected != 0.0


@settings(max_examples=100, deadline=None)
@given(
    same=st.lists(orders, max_size=3),
    mine=st.lists(orders, min_size=1, max_size=4),
    usd=st.floats(-1e3, 1e3),
)
def test_books_differ_by_their_orders_alone(
    same: list[list[int]], mine: list[list[int]], usd: float
) -> None:
    snapshot = two_rigs()
    first = second = Book()
    for order in same:
        first, second = after(first, snapshot, order), after(second, snapshot, order)
    assert first == second
    ahead = replace(second, usd=second.usd + usd)
    for order in mine:  # and money already made changes no later difference
        second, ahead = after(second, snapshot, order), after(ahead, snapshot, order)
    assert ahead.place == second.place
    assert ahead.usd - second.usd == pytest.approx(usd, abs=1e-9)


def test_the_rules_book_beats_holding_on_yields_that_stand_still() -> None:
    # the rule moves for what pays back within its horizon; when nothing changes it comes out ahead
    rule = even(horizon_h=50.0)
    snapshot = two_rigs()
    held = follows = Book({"rig-0": "a", "rig-1": "b"})
    for _ in range(51):
        held = after(held, snapshot, [0, 0])
        seen = placed(follows, snapshot)
        ordered = rule_orders(seen, valued(seen), rule)
        follows = after(follows, snapshot, ordered.tolist())
    assert follows.place == {"rig-0": "b", "rig-1": "b"}
    # 50 h at 2 USD more, the first hour still on a, less 14 USD to leave a and enter b
    assert follows.usd - held.usd == pytest.approx(50 * 2.0 - 14.0)


def test_an_empty_fleet_keeps_its_book() -> None:
    snapshot, _ = by_hand([], {"a": {}})
    assert after(Book({}, 7.0), snapshot, []) == Book({}, 7.0)


def test_capital_costs_on_paper_what_it_costs_in_the_simulator() -> None:
    """Serving knows no configuration, so the rate stands in the code a second time."""
    assert preset("catalog", "economics")["financing_rate_annual"] == FINANCING_A_YEAR
