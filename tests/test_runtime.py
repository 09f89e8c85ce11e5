"""The runtime: what it remembers, whom it lets decide, and that nothing can make it misbehave.

The laws of `served.check_laws` are held on a few hundred changed snapshots, on 10,000 in the slow
test, and on as many as the environment variable SNAPSHOTS says: SNAPSHOTS=1000000 is the long run.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import ask, check_laws, fresh, later, many, recorded, spoil, unix_s

from agents.serve.columns import AVERAGES
from agents.serve.errors import FieldError
from agents.serve.model import Answer, remember
from agents.serve.runtime import Policy
from agents.serve.snapshot import Snapshot

SNAPSHOTS = int(os.environ.get("SNAPSHOTS", "10000"))
TIGHT: dict[str, Any] = {
    "max_network_share": 0.5,
    "max_network_rigs": {"akash": 1},
    "deny": ["morpheus"],
}
LOOSE: dict[str, Any] = {"regret_budget_h": 1e6, "max_novelty": 1e6}


class Hostile:
    """A graph that answers something else: random, not numbers, huge, of wrong shape or kind."""

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._rng = kind, np.random.default_rng(seed)

    def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Answer:
        rigs, networks = seen.work.shape
        orders: Any = self._rng.integers(0, networks + 1, rigs)
        if self._kind == "nan":
            orders = np.full(rigs, np.nan)
        if self._kind == "huge":
            orders = self._rng.choice([2**62, -(2**62), 0, networks + 1], rigs)
        if self._kind == "shape":
            orders = self._rng.integers(0, 5, (rigs + 1, 2))
        if self._kind == "text":
            orders = np.full(rigs, "off")
        anything = np.full((rigs, networks + 1), np.nan)
        return Answer(orders, anything, anything[:, 0], np.full((5, networks), np.inf))


KINDS = ("random", "nan", "huge", "shape", "text")


# -- memory ---------------------------------------------------------------------------------------


def test_the_first_snapshot_without_averages_is_a_hold_that_says_so(bundle: Path) -> None:
    policy, hour = fresh(bundle), recorded(bundle)[0]
    first = ask(policy, later(hour, 0))
    assert (first.source, first.moves) == ("hold", ())
    assert "first snapshot" in first.reason
    assert set(first.holds.values()) == {first.reason}
    assert ask(policy, later(hour, 1)).source == "policy"


def test_averages_in_the_first_snapshot_make_it_decide_at_once(bundle: Path) -> None:
    assert ask(fresh(bundle, **LOOSE), recorded(bundle)[0]).source == "policy"


def averages(policy: Policy) -> dict[str, tuple[float, ...]]:
    """What is remembered of each network."""
    return {name: feed.averages for name, feed in policy._memory.after.feeds.items()}


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


@pytest.mark.parametrize("hours", [-1000.0, -1.0, 1.0, 1e6])
def test_a_snapshot_far_from_the_clock_holds_and_is_not_remembered(
    bundle: Path, hours: float
) -> None:
    policy, hour = fresh(bundle), recorded(bundle)[0]
    memory = policy._memory
    decision = policy.decide(hour, unix_s(hour) + hours * 3600)
    assert (decision.source, decision.moves) == ("hold", ())
    assert decision.reason.startswith("snapshot is")
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
        def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Answer:
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
    policy = fresh(bundle, Hostile("random", 3), max_payback_h=1e9, **LOOSE)
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


def test_the_same_bundle_goes_on_with_its_regret(bundle: Path) -> None:
    old, new = fresh(bundle), fresh(bundle)
    for hour in recorded(bundle)[:5]:
        ask(old, hour)
    new.take_over(old)
    assert new._memory == old._memory


def test_a_new_bundle_takes_over_what_was_remembered_but_no_regret(bundle: Path) -> None:
    old, new = fresh(bundle), fresh(bundle)
    new.bundle = dataclasses.replace(new.bundle, digest="another")
    for hour in recorded(bundle)[:5]:
        ask(old, hour)
    new.take_over(old)
    assert averages(new) == averages(old) != {}
    assert new._memory.after.regret.lead == ()
    assert ask(new, recorded(bundle)[5]).source == "policy"


def test_threads_may_ask_at_once(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    answers: list[Any] = []

    def run() -> None:
        answers.extend(ask(policy, hour) for hour in hours)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 * len(hours)
    assert not any("internal" in answer.reason for answer in answers)


# -- who decides ----------------------------------------------------------------------------------


def test_far_from_training_the_rule_decides_and_says_why(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    ask(policy, hours[0])
    for feed in hours[1]["networks"].values():
        feed["token_usd"] *= 0.2
    decision = ask(policy, hours[1])
    assert decision.source == "rule"
    assert decision.novelty is not None
    assert decision.novelty > 1
    assert decision.reason.startswith("outside of training (novelty")
    assert "token" in decision.reason


class Sleeping:
    """A policy that leaves rigs switched off, until it wakes and follows the published yield."""

    awake = False

    def __init__(self) -> None:
        self.asked: list[list[int]] = []  # where the rigs stood

    def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Answer:
        self.asked.append(seen.assignment.tolist())
        rigs, networks = seen.work.shape
        pay = seen.work * seen.on("estimate_usd") * seen.on("open")
        orders = pay.argmax(-1) + 1 if self.awake else np.zeros(rigs, np.int64)
        return Answer(orders, np.zeros((rigs, networks + 1)), np.zeros(rigs), memory)


def test_a_policy_that_loses_spends_its_budget_and_decides_again_when_it_has_mended(
    bundle: Path,
) -> None:
    """The real fleet stays off throughout: what is compared is on paper."""
    graph = Sleeping()
    policy = fresh(bundle, graph, regret_budget_h=24.0, max_novelty=1e6)
    hours = recorded(bundle, 1)
    for hour in hours:
        for rig in hour["rigs"].values():
            rig |= {"network": "off", "tenure_h": 100.0, "provisioning_h": 0.0}
    sources, lost = [], []
    for h in range(400):
        graph.asked.clear()
        decision = ask(policy, later(hours[h % 48], 48 * (h // 48)) if h else hours[0])
        sources.append(decision.source)
        lost.append(decision.regret_usd)
        if decision.source == "rule":
            assert decision.reason.startswith("regret budget spent (")
            graph.awake = True
        elif graph.awake:
            break
    budget_usd = 24.0 * hours[0]["market"]["nominal_usd_h"]
    spent = sources.index("rule")
    assert sources[:spent] == ["policy"] * spent
    assert max(lost[: spent - 1]) <= budget_usd < lost[spent - 1]
    assert sources[-1] == "policy"
    assert lost[-2] <= budget_usd / 2 < min(lost[spent : len(lost) - 2])
    real, paper = graph.asked  # its fleet on paper stands elsewhere, and goes on being led by it
    assert real != paper


def test_in_fallback_the_rule_orders_under_the_guardrails(bundle: Path) -> None:
    policy = fresh(bundle, Hostile("random", 1), max_novelty=0.0, deny=["vast", "akash"])
    moved = set()
    for hour in recorded(bundle, 1):
        decision = ask(policy, hour)
        assert decision.source == "rule"
        moved |= {*decision.orders.values()}
    assert not moved & {"vast", "akash"}


# -- whatever arrives -----------------------------------------------------------------------------


def changed(base: list[dict[str, Any]], rng: random.Random) -> tuple[dict[str, Any], float]:
    """A snapshot with something wrong in it, or unusual, and the clock."""
    said = copy.deepcopy(rng.choice(base))
    kind = rng.random()
    if kind < 0.02:
        said["rigs"] = {}
    elif kind < 0.3:
        said = many(said, rng.choice((1, 3, 17, 40)))
        for rig in said["rigs"].values():
            rig["network"] = rng.choice([*said["networks"], "off"])
            rig["tenure_h"] = rng.choice((0.0, 2.0, 100.0))
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        spoil(said, rng)
        if not said:
            break
    drift_s = rng.choice((0, 0, 0, 60, -60, 7200, -7200, 1e9, math.nan, math.inf))
    return said, drift_s


def started(bundle: Path) -> list[dict[str, Any]]:
    """Recorded hours, each with averages of its own, so that any may be the first."""
    hours = [hour for k in (0, 1) for hour in recorded(bundle, k)[:12]]
    for hour in hours:
        hour["time"] = hours[0]["time"]
        for feed in hour["networks"].values():
            estimate, token = feed["estimate_usd"], feed["token_usd"]
            feed |= dict.fromkeys(("ema_6h_usd", "ema_48h_usd", "ema_336h_usd"), estimate)
            feed |= dict.fromkeys(("price_24h_usd", "price_168h_usd"), token)
    return hours


def check_changed(bundle: Path, base: list[dict[str, Any]], seed: int) -> str:
    """Decide on a changed snapshot with the policy or a hostile graph; who decided."""
    rng = random.Random(seed)
    said, drift_s = changed(base, rng)
    now = unix_s(base[0]) + drift_s
    kind = rng.choice((None, None, *KINDS))
    limits = {**LOOSE, **(TIGHT if rng.random() < 0.5 else {})}
    if rng.random() < 0.5:
        limits["max_payback_h"] = 1e9
    policy = fresh(bundle, None if kind is None else Hostile(kind, seed), **limits)
    try:
        decision = policy.decide(said, now)
    except FieldError:
        return "refused"
    check_laws(policy, said, decision, policy.limits, now)
    return "moves" if decision.moves else decision.source


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**63))
def test_a_changed_snapshot_breaks_no_law_whoever_decides(bundle: Path, seed: int) -> None:
    check_changed(bundle, BASE.setdefault(bundle, started(bundle)), seed)


BASE: dict[Path, list[dict[str, Any]]] = {}


@pytest.mark.slow
def test_thousands_of_changed_snapshots_break_no_law(bundle: Path) -> None:
    base = started(bundle)
    found = [check_changed(bundle, base, seed) for seed in range(SNAPSHOTS)]
    for kind in ("refused", "moves", "policy", "hold"):
        assert found.count(kind) > SNAPSHOTS / 100


@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_rigs_under_a_hostile_graph_break_no_law(bundle: Path, kind: str) -> None:
    hour = many(recorded(bundle)[0], 5000)
    policy = fresh(bundle, Hostile(kind, 1), **LOOSE)
    decision = ask(policy, hour)
    check_laws(policy, hour, decision, policy.limits, unix_s(hour))
    assert bool(decision.moves) == (kind == "random")


def test_a_hostile_graph_spoils_no_average(bundle: Path) -> None:
    ours, spoilt = fresh(bundle), fresh(bundle, Hostile("random", 1))
    for hour in recorded(bundle)[:10]:
        ask(ours, hour)
        ask(spoilt, hour)
    assert averages(spoilt) == averages(ours) != {}


def test_what_fails_inside_is_a_hold_that_says_so(bundle: Path) -> None:
    class Failing:
        def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Answer:
            raise RuntimeError("no such thing")

    decision = ask(fresh(bundle, Failing(), **LOOSE), recorded(bundle)[0])
    assert decision.source == "hold"
    assert "internal error" in decision.reason
    assert decision.holds


def test_a_rig_that_somebody_else_moves_is_moved_on_paper_too(bundle: Path) -> None:
    policy, hours = fresh(bundle, Sleeping(), **LOOSE), recorded(bundle)
    for hour in hours[:2]:
        for rig in hour["rigs"].values():
            rig["network"] = "off"
    ask(policy, hours[0])
    hours[1]["rigs"]["rig-0001"]["network"] = "vast"
    ask(policy, hours[1])
    regret = policy._memory.after.regret
    assert regret.policy.book.place["rig-0001"] == "vast"
    assert policy._memory.after.moves.last["rig-0001"] == unix_s(hours[1])


def test_a_state_that_cannot_be_saved_costs_no_decision(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    policy, hours = fresh(bundle, state=folder, **LOOSE), recorded(bundle)
    folder.rmdir()
    assert ask(policy, hours[0]).source == "policy"
    assert "state not saved" in caplog.text
    assert ask(policy, hours[1]).source == "policy"


def test_a_rig_of_a_misspelt_gpu_is_not_switched_off_but_told(bundle: Path) -> None:
    """Its own facts are given, so that nothing else gives the mistake away."""
    policy, hour = fresh(bundle, **LOOSE), recorded(bundle)[0]
    gpus = [*policy.bundle.columns.rigs.catalog]
    own = {
        "gpu": gpus[0].upper().replace("_", " "),
        "vram_gb": 24,
        "fp16_tflops": 80,
        "bandwidth_gb_s": 900,
    }
    for rig in hour["rigs"].values():
        rig |= {**own, "network": "akash", "owned": True, "leaving_usd": 0.0, "tenure_h": 99.0}
    decision = ask(policy, hour)
    assert not decision.orders
    for rig, why in decision.holds.items():
        start = f"{rig}: no work of it is known on akash, where it is ({own['gpu']} is not known"
        start = f"{start}: did you mean {gpus[0]}?)"
        assert why.startswith(start)
        assert [one.text for one in decision.acted].count(why) == 1


def test_a_guardrail_that_names_no_network_is_told(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Policy.load(bundle, guardrails={"deny": ["Akash", "off"], "max_network_rigs": {"akash": 1}})
    assert [record.getMessage() for record in caplog.records] == [
        "guardrails name 'Akash', which is no network of the bundle's"
    ]
