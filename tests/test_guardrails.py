"""Guardrails: each one acting, on a worked example, and the line it gives."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from snapshots import NOW, Rig, by_hand, fed, valued

from agents.serve.columns import MARKET, NETWORKS, RIGS
from agents.serve.errors import FieldError
from agents.serve.feeds import feeds
from agents.serve.guardrails import (
    Acted,
    Bars,
    Counters,
    Guardrails,
    apply,
    clip,
    settings,
)
from agents.serve.snapshot import Snapshot

FREE = Guardrails(min_dwell_h=0.0, max_moves_share_h=1.0, min_history_h=0.0)
PAYS = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 2.0}, "c": {"estimate_usd": 3.0}}
A, B, C, OFF = 1, 2, 3, 4  # orders on the networks above
Ints = NDArray[np.int64]


def fleet(count: int = 4, **rig: Any) -> Snapshot:
    """Rigs on a, the later ones gaining the more by a move."""
    rigs = [{"on": "a", "work": dict.fromkeys("abc", 1.0 + k), **rig} for k in range(count)]
    return by_hand(rigs, PAYS)[0]


def at_rest(snapshot: Snapshot, **changes: Any) -> Counters:
    """Counters of rigs that never moved and networks known for ever."""
    rigs, networks = snapshot.work.shape
    counters = Counters(np.full(rigs, np.inf), np.full(networks, np.inf), 0)
    return replace(counters, **changes)


def no_bars(snapshot: Snapshot) -> Bars:
    rigs, networks = snapshot.work.shape
    return Bars(np.zeros(rigs, bool), np.zeros(networks, bool))


def admit(
    orders: list[int], g: Guardrails, snapshot: Snapshot | None = None, **counters: Any
) -> tuple[list[int], tuple[Acted, ...]]:
    """`apply` with nothing in the way but g and what a test puts there."""
    on = fleet(len(orders)) if snapshot is None else snapshot
    out, acted = apply(np.array(orders), on, valued(on), no_bars(on), at_rest(on, **counters), g)
    return out.tolist(), acted


def test_legal_orders_within_all_limits_pass_as_they_are() -> None:
    assert admit([B, 0, C, B], FREE) == ([B, 0, C, B], ())


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (A, "rig-0 holds and does not move to a: it is there already"),
        (B, "rig-0 holds and does not move to b: it is not eligible"),
        (C, "rig-0 holds and does not move to c: closed to new rigs"),
        (5, "rig-0 holds: not an order"),
        (-1, "rig-0 holds: not an order"),
        (np.iinfo(np.int64).min, "rig-0 holds: not an order"),
    ],
)
def test_what_cannot_be_done_is_a_hold(order: int, why: str) -> None:
    networks = {**PAYS, "c": {"estimate_usd": 3.0, "open": 0.0}}
    snapshot, _ = by_hand([{"on": "a", "work": {"b": 0.0}}], networks)
    out, acted = admit([order], FREE, snapshot)
    assert out == [0]
    assert [(one.guardrail, one.text) for one in acted] == [("legal", why)]


def test_a_rig_whose_order_is_on_its_way_is_given_no_other() -> None:
    on_way, since_h = np.array([True, False]), np.array([2.0, np.inf])
    out, acted = admit([B, B], FREE, on_way=on_way, since_move_h=since_h)
    assert out == [0, B]
    text = "rig-0 holds and does not move to b: ordered 2.0 h ago and not seen there yet, of 6"
    assert [(one.guardrail, one.text) for one in acted] == [("max_gap_h", text)]


def test_where_no_limit_binds_a_network_has_room_for_all() -> None:
    assert admit([B], FREE, arriving=np.array([0, 1, 0, 0])) == ([B], ())


def test_calls_a_little_early_do_not_cost_an_hour_of_dwell_or_history() -> None:
    g = replace(FREE, min_dwell_h=6.0, min_history_h=6.0)
    early_h = 5.95
    assert admit([B], g, since_move_h=np.array([early_h]), history_h=np.full(4, early_h))[0] == [B]
    assert admit([B], g, since_move_h=np.array([5.9]))[0] == [0]
    assert admit([B], g, history_h=np.full(4, 5.9))[0] == [0]


def test_nothing_moves_to_a_network_that_is_down_and_no_rig_that_is_down_moves() -> None:
    networks = {**PAYS, "c": {"estimate_usd": 3.0, "up": 0.0}}
    snapshot, _ = by_hand([{"on": "a"}, {"on": "a", "up": 0.0}, {"on": "a"}], networks)
    out, acted = admit([C, B, B], FREE, snapshot)
    assert out == [0, 0, B]
    assert [(one.guardrail, one.text) for one in acted] == [
        ("down", "rig-0 holds and does not move to c: that network is down"),
        ("down", "rig-1 holds and does not move to b: it is down"),
    ]


@pytest.mark.parametrize(
    "orders",
    [
        np.array([math.nan, 2.0]),
        np.array([math.inf, 2.0]),
        np.array([2.5, 2.0]),
        np.array([1e300, 2.0]),
    ],
)
def test_orders_that_are_no_whole_numbers_are_holds(orders: NDArray[np.float64]) -> None:
    on = fleet(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out, acted = apply(orders, on, valued(on), no_bars(on), at_rest(on), FREE)  # type: ignore[arg-type]
    assert out.tolist() == [0, 2]
    assert [one.text for one in acted] == ["rig-0 holds: not an order"]


@pytest.mark.parametrize("orders", [np.zeros((2, 2), np.int64), np.array(["2", "2"]), np.array(2)])
def test_orders_of_a_wrong_shape_or_kind_hold_the_fleet(orders: NDArray[Any]) -> None:
    on = fleet(2)
    out, acted = apply(orders, on, valued(on), no_bars(on), at_rest(on), FREE)
    assert out.tolist() == [0, 0]
    assert len(acted) == 2


def test_a_network_whose_value_is_unknown_is_not_entered() -> None:
    networks = {**PAYS, "b": {"estimate_usd": math.nan}}
    out, acted = admit([B], FREE, by_hand([{"on": "a"}], networks)[0])
    assert out == [0]
    assert acted[0].text == "rig-0 holds and does not move to b: its value is unknown"


def test_deny_keeps_rigs_out_but_does_not_drive_them_away() -> None:
    out, acted = admit([B, C], replace(FREE, deny=("a", "b", "elsewhere")))
    assert out == [0, C]
    text = "rig-0 holds and does not move to b: it is on the deny list"
    assert acted == (Acted("deny", "rig-0", "b", text),)


def test_min_dwell_counts_from_the_last_move() -> None:
    since = np.array([5.9, 6.0])
    out, acted = admit([B, B], replace(FREE, min_dwell_h=6.0), since_move_h=since)
    assert out == [0, B]
    text = "rig-0 holds and does not move to b: 5.9 h since its last move, of 6"
    assert acted == (Acted("min_dwell_h", "rig-0", "b", text),)


@pytest.mark.parametrize(
    ("tenure_h", "provisioning_h", "order"),
    [(5.0, 0.0, 0), (6.0, 0.0, B), (0.0, 0.5, 0), (0.0, 0.0, B)],
)
def test_min_dwell_believes_the_rig_where_no_move_is_remembered(
    tenure_h: float, provisioning_h: float, order: int
) -> None:
    on = fleet(1, tenure_h=tenure_h, provisioning_h=provisioning_h)
    assert admit([B], replace(FREE, min_dwell_h=6.0), on)[0] == [order]


def test_a_network_known_for_too_short_is_not_entered_but_off_is() -> None:
    g = replace(FREE, min_history_h=6.0)
    losing = by_hand([{"on": "a", "owned": 1.0, "power_kw": 9.0, "tariff_usd_kwh": 1.0}] * 2, PAYS)[
        0
    ]
    out, acted = admit([B, OFF], g, losing, history_h=np.array([9.0, 5.0, 9.0, 0.0]))
    assert out == [0, OFF]
    text = "rig-0 holds and does not move to b: known for 5.0 h of 6"
    assert acted == (Acted("min_history_h", "rig-0", "b", text),)


@pytest.mark.parametrize(("burn_usd", "order"), [(99.0, B), (101.0, 0)])
def test_an_entry_cost_must_come_back_in_time(burn_usd: float, order: int) -> None:
    # a pays 1 USD/h and b 2, but for what one unit in a thousand dilutes: about 1 USD/h gained
    networks = {**PAYS, "b": {"estimate_usd": 2.0, "burn_usd": burn_usd}}
    snapshot, _ = by_hand([{"on": "a"}], networks)
    out, acted = admit([B], replace(FREE, max_payback_h=100.0), snapshot)
    assert out == [order]
    if order == 0:
        text = "101.00 USD of entry, at 0.9990 an hour not back in 100 h"
        assert acted == (
            Acted("max_payback_h", "rig-0", "b", f"rig-0 holds and does not move to b: {text}"),
        )


def test_a_move_that_loses_by_the_hour_is_never_paid_back() -> None:
    out, acted = admit([OFF], replace(FREE, max_payback_h=1e9))
    assert out == [0]
    text = "rig-0 holds and does not move to off: it would earn 0.9990 USD an hour less there"
    assert acted == (Acted("max_payback_h", "rig-0", "off", text),)


def test_a_cap_admits_the_best_and_counts_who_is_there() -> None:
    rigs: list[Rig] = [{"on": "b"}, *({"on": "a", "work": {"b": 1.0 + k}} for k in range(4))]
    snapshot = by_hand(rigs, PAYS)[0]
    g = replace(FREE, max_network_rigs={"b": 3})
    out, acted = admit([0, B, B, B, B], g, snapshot)
    assert out == [0, 0, 0, B, B]
    text = "rig-2 holds and does not move to b: 3 rigs there at most"
    assert acted[0] == Acted("max_network_rigs", "rig-2", "b", text)
    assert [one.rig for one in acted] == ["rig-2", "rig-1"]


def test_a_rig_that_leaves_makes_room_only_if_it_leaves() -> None:
    rigs: list[Rig] = [{"on": "b", "work": {"c": 9.0}}, {"on": "a"}]
    snapshot = by_hand(rigs, PAYS)[0]
    g = replace(FREE, max_network_rigs={"b": 1})
    assert admit([C, B], g, snapshot)[0] == [C, B]
    assert admit([0, B], g, snapshot)[0] == [0, 0]
    assert admit([C, B], replace(g, deny=("c",)), snapshot)[0] == [0, 0]
    assert admit([C, B], replace(g, max_moves_h=1), snapshot)[0] == [C, 0]


def test_the_share_of_a_network_is_capped_but_any_share_may_be_off() -> None:
    g = replace(FREE, max_network_share=0.5)
    out, acted = admit([B, B, B, 0], g)
    assert out == [0, B, B, 0]
    text = "rig-0 holds and does not move to b: 2 rigs there at most"
    assert acted == (Acted("max_network_share", "rig-0", "b", text),)
    losing = fleet(4, owned=1.0, power_kw=9.0, tariff_usd_kwh=1.0)
    assert admit([OFF] * 4, g, losing) == ([OFF] * 4, ())
    assert admit([B], replace(FREE, max_network_share=0.01))[0] == [B]  # one rig at least
    assert admit([B], replace(FREE, max_network_share=0.0))[0] == [0]


def test_moves_an_hour_go_to_the_highest_gains() -> None:
    g = replace(FREE, max_moves_share_h=0.5)
    out, acted = admit([B, B, B, C], g)
    assert out == [0, 0, B, C]
    text = "rig-1 holds and does not move to b: 2 moves an hour, and others gain more or came first"
    assert acted[0] == Acted("max_moves_share_h", "rig-1", "b", text)
    assert admit([B, B, B, C], g, recent_moves=1)[0] == [0, 0, 0, C]
    assert admit([B, B, B, C], g, recent_moves=7)[0] == [0, 0, 0, 0]
    out, acted = admit([B, B, B, C], replace(g, max_moves_h=1))
    assert out == [0, 0, 0, C]
    assert {one.guardrail for one in acted} == {"max_moves_h"}
    assert admit([B, B, B, C], replace(FREE, max_moves_share_h=0.01))[0] == [0, 0, 0, C]
    assert admit([B, B, B, C], replace(FREE, max_moves_share_h=0.0))[0] == [0, 0, 0, 0]
    assert admit([B, B, B, C], replace(FREE, max_moves_h=0))[0] == [0, 0, 0, 0]


def test_fresh_and_complete_feeds_bar_nothing() -> None:
    holds, barred, acted = feeds(fed(fleet()), Guardrails(), NOW)
    assert not holds.any()
    assert not barred.any()
    assert acted == ()


@pytest.mark.parametrize(
    ("late_s", "text"),
    [
        (1900.0, "snapshot is 0.53 h old, limit 0.5 h: all rigs hold"),
        (-1900.0, "snapshot is 0.53 h ahead of the clock, limit 0.5 h: all rigs hold"),
    ],
)
def test_a_snapshot_from_the_past_or_the_future_holds_the_fleet(late_s: float, text: str) -> None:
    holds, barred, acted = feeds(fed(fleet()), Guardrails(), NOW + late_s)
    assert holds.all()
    assert not barred.any()
    assert acted == (Acted("max_snapshot_age_h", None, None, text),)
    assert feeds(fed(fleet()), Guardrails(), math.nan)[0].all()


@pytest.mark.parametrize(("hours", "age"), [(-3, "3.00 h old"), (3, "3.00 h ahead of the clock")])
def test_an_old_feed_bars_its_network_and_holds_its_rigs(hours: int, age: str) -> None:
    snapshot = fed(by_hand([{"on": "a"}, {"on": "b"}], PAYS)[0])
    snapshot.observed[1] += hours * 3600
    bars = feeds(snapshot, Guardrails(), NOW)
    assert bars[0].tolist() == [False, True]
    assert bars[1].tolist() == [False, True, False, False]
    text = f"b: feed is {age}, limit 2 h: it is not entered and its rigs hold"
    assert bars[2] == (Acted("max_feed_age_h", None, "b", text),)
    value, rest = valued(snapshot), at_rest(snapshot)
    out, acted = apply(np.array([B, C]), snapshot, value, Bars(*bars[:2]), rest, FREE)
    assert out.tolist() == [0, 0]
    why = "facts of the rig or of a network are missing or old"
    assert acted[0] == Acted("feed", "rig-0", "b", f"rig-0 holds and does not move to b: {why}")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_missing_number_holds_whom_it_concerns(number: float) -> None:
    snapshot = fed(by_hand([{"on": "a"}, {"on": "b"}], PAYS)[0])
    snapshot.networks[1, [*NETWORKS].index("token_usd")] = number
    holds, barred, acted = feeds(snapshot, Guardrails(), NOW)
    assert (holds.tolist(), barred.tolist()) == ([False, True], [False, True, False, False])
    text = "b: no number for token_usd: it is not entered and its rigs hold"
    assert acted == (Acted("missing", None, "b", text),)

    snapshot = fed(fleet(2))
    snapshot.rigs[1, [*RIGS].index("tariff_usd_kwh")] = number
    holds, barred, acted = feeds(snapshot, Guardrails(), NOW)
    assert (holds.tolist(), bool(barred.any())) == ([False, True], False)
    assert acted == (
        Acted("missing", "rig-1", None, "rig-1: no number for tariff_usd_kwh: it holds"),
    )

    snapshot = fed(fleet(2))
    snapshot.work[0, 2] = number
    holds, _, acted = feeds(snapshot, Guardrails(), NOW)
    assert holds.tolist() == [True, False]
    assert acted == (Acted("missing", "rig-0", None, "rig-0: no number for its work: it holds"),)

    snapshot = fed(fleet(2))
    snapshot.market[[*MARKET].index("btc_usd")] = number
    holds, _, acted = feeds(snapshot, Guardrails(), NOW)
    assert holds.all()
    assert acted == (Acted("missing", None, None, "no number for btc_usd: all rigs hold"),)


def test_a_rig_that_would_do_no_work_where_it_is_holds_and_says_so() -> None:
    """By that account it were better switched off, and is not: off saves it energy."""
    rigs: list[Rig] = [{"on": "a", "work": {"a": 0.0}}, {"on": "a"}, {"on": "off"}]
    snapshot = fed(by_hand(rigs, PAYS)[0])
    holds, barred, acted = feeds(snapshot, Guardrails(), NOW)
    assert (holds.tolist(), bool(barred.any())) == ([True, False, False], False)
    text = "rig-0: no work of it is known on a, where it is (its `work` can say it): it holds"
    assert acted == (Acted("missing", "rig-0", None, text),)


def test_an_estimate_beyond_its_history_is_cut() -> None:
    snapshot, memory = by_hand([{"on": "a"}], PAYS)
    memory[1] = [0.1, 1.0, 0.0, 0.0]  # c has never paid: nothing to be cut by
    cut, acted = clip(snapshot, memory, Guardrails(estimate_clip=5.0))
    assert cut.on("estimate_usd").tolist() == [0.5, 2.0, 3.0, 0.0]
    assert snapshot.on("estimate_usd").tolist() == [1.0, 2.0, 3.0, 0.0]
    text = "a: estimate of 1 USD/h cut to 0.5, 5 times its 48-hour average"
    assert acted == (Acted("estimate_clip", None, "a", text),)


@given_settings(max_examples=100, deadline=None)
@given(
    estimate=st.lists(st.floats(), min_size=3, max_size=3),
    average=st.lists(st.floats(), min_size=3, max_size=3),
    most=st.floats(1.0, 1e6),
)
def test_a_cut_never_raises_an_estimate_and_is_final(
    estimate: list[float], average: list[float], most: float
) -> None:
    snapshot, memory = by_hand([{"on": "a"}], PAYS)
    snapshot.networks[:3, [*NETWORKS].index("estimate_usd")] = estimate
    memory[1, :3] = average
    g = Guardrails(estimate_clip=most)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut, _ = clip(snapshot, memory, g)
    before, after = snapshot.on("estimate_usd"), cut.on("estimate_usd")
    for was, now, usual in zip(before, after, [*average, 0.0], strict=True):
        assert now <= was or (math.isnan(was) and math.isnan(now))
        if usual > 0 and not math.isnan(was):
            assert now <= most * usual
    assert clip(cut, memory, g)[1] == ()


def test_the_operator_overrides_the_manifest_name_by_name() -> None:
    maker = {"min_dwell_h": 4, "deny": ["a"], "max_network_rigs": {"a": 3}, "max_moves_h": 5}
    g = settings(maker, {"deny": ["b", "c"], "max_moves_h": None})
    assert g == Guardrails(
        min_dwell_h=4.0, deny=("b", "c"), max_network_rigs={"a": 3}, max_moves_h=None
    )
    assert settings({}) == Guardrails()
    assert settings(dataclasses.asdict(Guardrails())) == Guardrails()


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"min_dwel_h": 1.0}, "guardrails.min_dwel_h"),
        ({"min_dwell_h": "6"}, "guardrails.min_dwell_h"),
        ({"min_dwell_h": True}, "guardrails.min_dwell_h"),
        ({"min_dwell_h": None}, "guardrails.min_dwell_h"),
        ({"min_dwell_h": -1}, "guardrails.min_dwell_h"),
        ({"min_dwell_h": math.nan}, "guardrails.min_dwell_h"),
        ({"max_payback_h": math.inf}, "guardrails.max_payback_h"),
        ({"max_network_share": 1.5}, "guardrails.max_network_share"),
        ({"estimate_clip": 0.5}, "guardrails.estimate_clip"),
        ({"max_moves_h": 2.5}, "guardrails.max_moves_h"),
        ({"max_moves_h": -1}, "guardrails.max_moves_h"),
        ({"max_network_rigs": 3}, "guardrails.max_network_rigs"),
        ({"max_network_rigs": {"a": "3"}}, "guardrails.max_network_rigs.a"),
        ({"max_network_rigs": {1: 3}}, "guardrails.max_network_rigs"),
        ({"deny": "akash"}, "guardrails.deny"),
        ({"deny": ["akash", 3]}, "guardrails.deny"),
        ({4: 1.0}, "guardrails.4"),
        ([], "guardrails"),
    ],
)
def test_a_wrong_setting_is_named(overrides: Any, path: str) -> None:
    for part, given_overrides in (({}, overrides), (overrides, None)):
        with pytest.raises(FieldError) as caught:
            settings(part, given_overrides)
        assert caught.value.path == path
