"""Laws of the guardrails, whatever is ordered on whatever snapshot."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from snapshots import NOW, Rig, by_hand, fed, valued

from agents.serve.accounting import Account
from agents.serve.feeds import feeds
from agents.serve.guardrails import Bars, Counters, Guardrails, apply
from agents.serve.snapshot import Snapshot

Ints = NDArray[np.int64]


def drawn(seed: int, hostile: bool) -> tuple[Snapshot, Counters, Ints, float]:
    """A random fleet, what is remembered of it, orders of a hostile policy, and the clock."""
    draw = np.random.default_rng(seed)
    rigs, networks = int(draw.integers(0, 13)), int(draw.integers(1, 5))
    names = [f"net-{n}" for n in range(networks)]
    given_rigs: list[Rig] = [
        {
            "on": str(draw.choice([*names, "off"])),
            "work": {n: float(draw.choice([0.0, 1.0, 7.0], p=[0.2, 0.4, 0.4])) for n in names},
            "owned": float(draw.integers(0, 2)),
            "power_kw": draw.uniform(0, 2),
            "tariff_usd_kwh": draw.uniform(0, 1),
            "tenure_h": float(draw.choice([0.0, 3.0, 50.0, 90.0])),
            "provisioning_h": float(draw.choice([0.0, 2.0], p=[0.9, 0.1])),
            "leaving_usd": float(draw.choice([0.0, 5.0])),
            "tiebreak": draw.random(),
            "up": float(draw.random() < 0.9),
        }
        for _ in range(rigs)
    ]
    given_networks = {
        n: {
            "estimate_usd": float(draw.lognormal()),
            "outside_work": float(draw.choice([0.0, 1.0, 100.0])),
            "open": float(draw.random() < 0.8),
            "burn_usd": float(draw.choice([0.0, 0.0, 20.0, 500.0])),
            "warmup_h": float(draw.choice([0.0, 10.0])),
            "up": float(draw.random() < 0.9),
        }
        for n in names
    }
    snapshot = fed(by_hand(given_rigs, given_networks)[0])
    if hostile:
        for table in (snapshot.rigs, snapshot.networks, snapshot.work):
            if table.size and draw.random() < 0.2:
                row, column = draw.integers(len(table)), draw.integers(table.shape[1])
                table[row, column] = draw.choice([np.nan, np.inf, -1e9, 1e300])
    snapshot.observed[draw.random(networks + 1) < 0.05] -= 1e4
    counters = Counters(
        draw.choice([1.0, 8.0, np.inf, np.nan], rigs, p=[0.1, 0.2, 0.65, 0.05]),
        draw.choice([1.0, 8.0, np.inf, np.nan], networks + 1, p=[0.1, 0.2, 0.65, 0.05]),
        int(draw.choice([0, 0, 1, 2])),
    )
    odd = [-(2**63), -1, networks + 2, 2**62]
    orders = np.where(
        draw.random(rigs) < 0.1, draw.choice(odd, rigs), draw.integers(0, networks + 2, rigs)
    )
    return snapshot, counters, orders, NOW + float(draw.choice([0.0, 1e4], p=[0.9, 0.1]))


limits = st.builds(
    Guardrails,
    min_dwell_h=st.sampled_from([0.0, 2.0, 6.0]),
    max_moves_share_h=st.sampled_from([0.0, 0.3, 1.0]),
    max_moves_h=st.sampled_from([None, 0, 1, 3]),
    max_network_share=st.sampled_from([0.0, 0.4, 1.0]),
    max_network_rigs=st.dictionaries(st.sampled_from(["net-0", "net-1", "off"]), st.integers(0, 3)),
    deny=st.lists(st.sampled_from(["net-0", "net-2", "off"]), max_size=1).map(tuple),
    min_history_h=st.sampled_from([0.0, 6.0]),
    max_payback_h=st.sampled_from([0.0, 50.0, 1e4]),
)


def broken(
    out: list[int],
    snapshot: Snapshot,
    value: Account,
    counters: Counters,
    g: Guardrails,
    now: float,
) -> list[str]:
    """What the orders break, by an own reading of each guardrail, rig by rig."""
    found: list[str] = []
    rigs, moves = len(out), [r for r, order in enumerate(out) if order]
    standing = snapshot.assignment.tolist()
    for r in moves:
        n, at = out[r] - 1, standing[r]
        name = snapshot.network_names[n]
        off = n == len(snapshot.network_names) - 1
        if not snapshot.work[r, n] > 0 or n == at or not snapshot.on("open")[n] > 0:
            found.append("not eligible, closed or there already")
        if name in g.deny:
            found.append("denied")
        if not (snapshot.on("up")[n] > 0 and snapshot.of("up")[r] > 0):
            found.append("down")
        if not all(map(math.isfinite, (*snapshot.rigs[r], *snapshot.work[r]))):
            found.append("a rig without a feed")
        if not all(map(math.isfinite, (*snapshot.networks[n], *snapshot.networks[at]))):
            found.append("a network without a feed")
        ages_h = [(now - snapshot.observed[k]) / 3600 for k in (n, at)]
        if max(ages_h) > g.max_feed_age_h or now - snapshot.time > 3600 * g.max_snapshot_age_h:
            found.append("old")
        if not off and not counters.history_h[n] >= g.min_history_h:
            found.append("too little history")
        if not counters.since_move_h[r] >= g.min_dwell_h:
            found.append("moved too recently")
        if 0 < snapshot.of("tenure_h")[r] < g.min_dwell_h:
            found.append("began too recently")
        if snapshot.of("provisioning_h")[r] > 0 and g.min_dwell_h > 0:
            found.append("still provisioning")
        gain_h = value.value[r, n] - value.value[r, at]
        if gain_h < 0 or value.entry_usd[r, n] / max(gain_h, 1e-300) > g.max_payback_h * 1.000001:
            found.append("never paid back")
    after = [out[r] - 1 if out[r] else standing[r] for r in range(rigs)]
    for n in {out[r] - 1 for r in moves}:
        name = snapshot.network_names[n]
        if after.count(n) > g.max_network_rigs.get(name, rigs):
            found.append("too many on a network")
        if name != "off" and after.count(n) > max(1.0, g.max_network_share * rigs):
            found.append("too large a share of a network")
    most = max(1.0, g.max_moves_share_h * rigs)
    if moves and len(moves) + counters.recent_moves > min(most, g.max_moves_h or most):
        found.append("too many moves")
    if moves and g.max_moves_h == 0:
        found.append("moves though none are allowed")
    return found


@settings(max_examples=1500, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), g=limits)
def test_no_orders_break_a_guardrail_or_add_a_move(seed: int, g: Guardrails) -> None:
    snapshot, counters, orders, now = drawn(seed, hostile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = valued(snapshot)
        holds, barred, _ = feeds(snapshot, g, now)
        out, acted = apply(orders, snapshot, value, Bars(holds, barred), counters, g)
    assert broken(out.tolist(), snapshot, value, counters, g, now) == []
    assert all(after in (0, before) for before, after in zip(orders, out, strict=True))
    stopped = {snapshot.rig_names[r] for r in np.flatnonzero((orders != 0) & (out == 0))}
    assert {one.rig for one in acted} == stopped
    assert len(acted) == len(stopped)


def test_the_drawn_fleets_do_move_and_each_guardrail_does_act() -> None:
    moved, acted = 0, set()
    for seed in range(800):
        snapshot, counters, orders, now = drawn(seed, hostile=True)
        g = Guardrails(max_network_rigs={"net-0": 1}, max_network_share=0.4, deny=("net-2",))
        g = replace(g, max_moves_h=None if seed % 2 else 1)
        holds, barred, early = feeds(snapshot, g, now)
        bars = Bars(holds, barred)
        out, late = apply(orders, snapshot, valued(snapshot), bars, counters, g)
        moved += int((out > 0).sum())
        acted |= {one.guardrail for one in (*early, *late)}
    assert moved > 50
    runtime = {"max_gap_h", "max_novelty", "regret_budget_h", "estimate_clip"}
    names = {f.name for f in dataclasses.fields(Guardrails)} - runtime
    assert acted == names | {"legal", "feed", "missing", "down"}


def kept(seed: int, g: Guardrails) -> set[int]:
    """The rigs whose moves g admits on a drawn fleet."""
    snapshot, counters, orders, now = drawn(seed, hostile=False)
    holds, barred, _ = feeds(snapshot, g, now)
    out, _ = apply(orders, snapshot, valued(snapshot), Bars(holds, barred), counters, g)
    return set(np.flatnonzero(out).tolist())


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), g=limits, fewer=st.integers(0, 3))
def test_fewer_moves_an_hour_admit_a_part_of_the_same_moves(
    seed: int, g: Guardrails, fewer: int
) -> None:
    if g.max_moves_h is not None:
        fewer = min(fewer, g.max_moves_h)
    assert kept(seed, replace(g, max_moves_h=fewer)) <= kept(seed, g)


STRICTER: dict[str, Any] = {
    "max_network_rigs": {"net-0": 0, "net-1": 0, "off": 0},
    "max_network_share": 0.0,
}
STRICTER_EACH: dict[str, Any] = {
    "min_dwell_h": 9.0,
    "deny": ("net-0", "net-1", "net-2", "off"),
    "min_history_h": 9.0,
    "max_payback_h": 0.0,
    "max_feed_age_h": 0.0,
}


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), g=limits, name=st.sampled_from(sorted(STRICTER)))
def test_lower_caps_never_admit_more_moves(seed: int, g: Guardrails, name: str) -> None:
    strict = replace(g, **{name: STRICTER[name]})
    assert len(kept(seed, strict)) <= len(kept(seed, g))
    if drawn(seed, hostile=False)[1].recent_moves == 0:  # and where moves an hour do not bind
        strict = replace(strict, max_moves_h=None, max_moves_share_h=1.0)
        assert kept(seed, strict) <= kept(seed, replace(g, max_moves_h=None, max_moves_share_h=1.0))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), g=limits, name=st.sampled_from(sorted(STRICTER_EACH)))
def test_without_caps_a_stricter_limit_on_single_moves_never_admits_more(
    seed: int, g: Guardrails, name: str
) -> None:
    # with caps it may: a rig that must stay out leaves its place to another
    loose = replace(g, max_network_rigs={}, max_network_share=1.0)
    strict = replace(loose, **{name: STRICTER_EACH[name]})
    assert len(kept(seed, strict)) <= len(kept(seed, loose))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), g=limits)
def test_what_was_admitted_is_admitted_again(seed: int, g: Guardrails) -> None:
    snapshot, counters, orders, now = drawn(seed, hostile=True)
    holds, barred, _ = feeds(snapshot, g, now)
    bars, value = Bars(holds, barred), valued(snapshot)
    once, _ = apply(orders, snapshot, value, bars, counters, g)
    twice, acted = apply(once, snapshot, value, bars, counters, g)
    assert twice.tolist() == once.tolist()
    assert acted == ()
