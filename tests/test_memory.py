"""What the runtime remembers from one snapshot to the next, by name: averages and moves."""

from __future__ import annotations

import copy
import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
from served import (
    LOOSE,
    Hostile,
    Sleeping,
    ask,
    averages,
    fresh,
    later,
    recorded,
    unix_s,
)

from agents.serve.columns import AVERAGES
from agents.serve.model import remember
from agents.serve.snapshot import Ints, Snapshot


def test_the_first_snapshot_without_averages_is_a_hold_that_says_so(bundle: Path) -> None:
    policy, hour = fresh(bundle), recorded(bundle)[0]
    first = ask(policy, later(hour, 0))
    assert (first.source, first.moves) == ("hold", ())
    assert "first snapshot" in first.reason
    assert set(first.holds.values()) == {first.reason}
    assert ask(policy, later(hour, 1)).source == "policy"


def test_averages_in_the_first_snapshot_make_it_decide_at_once(bundle: Path) -> None:
    assert ask(fresh(bundle, **LOOSE), recorded(bundle)[0]).source == "policy"


def test_averages_are_those_that_training_would_have(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    for hour in hours[:24]:
        ask(policy, hour)
    akash = [hour["networks"]["akash"] for hour in hours[:24]]
    ema = akash[0]["ema_48h_usd"]
    for feed in akash[1:]:
        ema += (1 - math.exp(-1 / 48)) * (feed["estimate_usd"] - ema)
    assert averages(policy)["akash"][1] == pytest.approx(ema, rel=1e-6)


def test_after_a_gap_it_holds_once_and_goes_on(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    ask(policy, hours[0])
    late = ask(policy, later(hours[1], 6))
    assert (late.source, late.moves) == ("hold", ())
    assert "nothing seen for 7.0 h" in late.reason
    assert ask(policy, later(hours[2], 6)).source != "hold"


def test_the_same_snapshot_twice_is_answered_alike_and_counts_once(bundle: Path) -> None:
    once, twice = fresh(bundle), fresh(bundle)
    moves = 0
    for hour in recorded(bundle, 1):
        decision = ask(once, hour)
        assert ask(twice, hour) == decision
        assert ask(twice, hour) == decision
        moves += len(decision.moves)
    assert moves > 0
    assert once._memory == twice._memory


def test_a_snapshot_from_before_the_last_one_holds_and_is_not_remembered(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    for hour in hours[:4]:
        ask(policy, hour)
    memory = policy._memory
    old = ask(policy, hours[1])
    assert (old.source, old.moves) == ("hold", ())
    assert "older by 2.00 h" in old.reason
    assert policy._memory is memory


def test_a_process_that_begins_again_decides_as_one_that_went_on(
    bundle: Path, tmp_path: Path
) -> None:
    on = fresh(bundle)
    for hour in recorded(bundle, 1)[:24]:
        again = fresh(bundle, state=tmp_path)
        assert ask(again, hour) == ask(on, hour)
        assert ask(fresh(bundle, state=tmp_path), hour) == ask(on, hour)
    assert again._memory == on._memory


def test_rigs_and_networks_are_known_by_name(bundle: Path) -> None:
    straight, mixed = fresh(bundle), fresh(bundle)
    rng = random.Random(1)
    for hour in recorded(bundle, 1)[:30]:
        other = copy.deepcopy(hour)
        for part in ("rigs", "networks"):
            rows = [*hour[part].items()]
            rng.shuffle(rows)
            other[part] = dict(rows)
        assert ask(mixed, other).orders == ask(straight, hour).orders
    assert averages(mixed)["akash"] == pytest.approx(averages(straight)["akash"])


def test_a_network_that_comes_back_late_begins_anew(bundle: Path) -> None:
    policy, hours = fresh(bundle, max_gap_h=3.0, **LOOSE), recorded(bundle)
    for hour in hours[:10]:
        if hour is not hours[0] and hour is not hours[9]:
            del hour["networks"]["vast"]
            for rig in hour["rigs"].values():
                rig["network"] = "off" if rig["network"] == "vast" else rig["network"]
        ask(policy, hour)
    vast = policy._memory.after.feeds["vast"]
    assert vast.fed_h == 0.0
    assert vast.averages[0] == vast.averages[2] == hours[9]["networks"]["vast"]["estimate_usd"]
    assert policy._memory.after.feeds["akash"].fed_h > 6.0


def test_averages_that_come_with_a_new_network_have_the_hour_in_them_already(bundle: Path) -> None:
    """For the graph too: it is asked with what becomes these averages once the hour is taken in."""
    asked: list[dict[str, list[float]]] = []

    class Watching(Sleeping):
        def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Ints:
            after = remember(memory, seen, dt_h).T.tolist()
            asked.append(dict(zip(seen.network_names, after, strict=True)))
            return super().run(seen, memory, dt_h)

    always, later_on = fresh(bundle, **LOOSE), fresh(bundle, Watching(), **LOOSE)
    hours = [later(hour, 0.0) if h else hour for h, hour in enumerate(recorded(bundle)[:12])]
    for rig in (rig for hour in hours for rig in hour["rigs"].values()):
        rig["network"] = "off"
    for h, hour in enumerate(hours):
        ask(always, hour)
        known = averages(always)["vast"]
        if h < 6:
            del hour["networks"]["vast"]
        elif h == 6:
            hour["networks"]["vast"] |= dict(zip(AVERAGES, known, strict=True))
        ask(later_on, hour)
        if h >= 6:
            assert averages(later_on)["vast"] == pytest.approx(known, rel=1e-12)
            assert asked[-1]["vast"] == pytest.approx(known, rel=1e-12)


def test_a_rig_under_a_new_name_has_no_past(bundle: Path) -> None:
    policy, hours = fresh(bundle, **LOOSE), recorded(bundle)
    ask(policy, hours[0])
    renamed = {**hours[1], "rigs": {f"new-{k}": v for k, v in hours[1]["rigs"].items()}}
    decision = ask(policy, renamed)
    assert {*decision.orders, *decision.holds} == {*renamed["rigs"]}
    assert decision.source == "policy"


def test_a_rig_that_was_ordered_to_move_dwells(bundle: Path) -> None:
    policy = fresh(bundle, Hostile("random", 3), max_payback_h=1e9, max_moves_share_h=1.0, **LOOSE)
    hours = recorded(bundle)
    moved: dict[str, int] = {}
    for h, hour in enumerate(hours):
        for rig in ask(policy, hour).orders:
            assert h - moved.get(rig, -99) >= 6
            moved[rig] = h
    assert moved


def test_another_snapshot_of_the_same_time_orders_nothing(bundle: Path) -> None:
    """So that no order of the first answer is forgotten by the limits on moves and dwell."""
    graph = Sleeping()
    graph.awake = True
    policy = fresh(bundle, graph, max_payback_h=1e9, **LOOSE)
    first, *_ = recorded(bundle)
    orders = ask(policy, first).orders
    assert orders
    other = copy.deepcopy(first)
    rig = next(iter(orders))
    other["rigs"][rig]["network"] = orders[rig]
    again = ask(policy, other)
    assert not again.orders
    assert "same time as another" in again.reason
    assert ask(policy, first).orders == orders


def test_a_rig_on_its_way_takes_room_and_is_no_stray_when_it_arrives_late(bundle: Path) -> None:
    loose = {"max_payback_h": 1e9, "max_moves_share_h": 1.0, **LOOSE}
    first, second, third, *_ = recorded(bundle)
    orders = ask(fresh(bundle, Hostile("random", 3), **loose), first).orders
    at = {name: rig["network"] for name, rig in first["rigs"].items()}
    there, coming = [*at.values()], [*orders.values()]
    caps = {n: there.count(n) + coming.count(n) for n in coming}
    policy = fresh(bundle, Hostile("random", 3), max_network_rigs=caps, **loose)
    assert ask(policy, first).orders == orders != {}
    for hour in (second, third):
        for name, rig in hour["rigs"].items():
            rig["network"] = first["rigs"][name]["network"]
    later = ask(policy, second).orders
    left = [at[name] for name in later]
    for n in coming:  # there is room for those on their way, and for as many as leave
        assert [*later.values()].count(n) <= left.count(n)
    before = policy._memory.after
    for name, network in orders.items():
        third["rigs"][name]["network"] = network
    ask(policy, third)
    after = policy._memory.after
    for name in orders:
        assert name not in before.moves.last
        assert after.moves.last[name] == unix_s(second)  # when it was last seen elsewhere
        assert name not in after.orders


def test_an_order_that_is_not_carried_out_bars_a_rig_for_as_long_as_it_may_be_on_its_way(
    bundle: Path,
) -> None:
    """Though the dwell is far longer: the rig never moved."""
    limits = {"max_payback_h": 1e9, "max_moves_share_h": 1.0, "max_gap_h": 3.0, **LOOSE}
    policy = fresh(bundle, Hostile("random", 3), min_dwell_h=24.0, **limits)
    hours = recorded(bundle)
    again: dict[str, list[int]] = {}
    for h, hour in enumerate(hours[:20]):
        for name, rig in hour["rigs"].items():
            rig |= {"network": hours[0]["rigs"][name]["network"], "tenure_h": 100.0}
        for name in ask(policy, hour).orders:
            again.setdefault(name, []).append(h)
    waits = [b - a for given in again.values() for a, b in itertools.pairwise(given)]
    assert min(waits) == 4  # the first hour in which the order is older than 3 h


def test_a_rig_that_was_away_while_it_moved_dwells_too(bundle: Path) -> None:
    policy = fresh(bundle, Hostile("random", 3), max_payback_h=1e9, **LOOSE)
    first, second, third, *_ = recorded(bundle)
    orders = ask(policy, first).orders
    name, network = next(iter(orders.items()))
    del second["rigs"][name]
    third["rigs"][name]["network"] = network
    ask(policy, second)
    ask(policy, third)
    assert policy._memory.after.moves.last[name] == unix_s(second)


def test_hours_without_a_feed_are_no_history(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    name = next(iter(hours[0]["networks"]))
    known = [feed for feed in hours[0]["networks"][name] if feed.startswith(("ema", "price"))]
    for feed in known:
        del hours[0]["networks"][name][feed]
    ask(policy, hours[0])
    for hour in hours[1:4]:
        hour["networks"][name]["estimate_usd"] = None
        ask(policy, hour)
    assert policy._memory.after.feeds[name].fed_h == 0.0
