"""Recorded fleets for tests of the runtime, hostile policies, and what every decision must keep."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.serve.accounting import Rule, account
from agents.serve.bundle import Bundle, read_bundle
from agents.serve.guardrails import clip
from agents.serve.limits import SLACK_H, Guardrails, settings
from agents.serve.model import Model, remember
from agents.serve.runtime import Decision, Policy
from agents.serve.snapshot import Ints, Snapshot, parse

Json = dict[str, Any]
LOOSE: Json = {"regret_budget_h": 1e6, "max_novelty": 1e6}  # so that nothing takes over


@cache
def loaded(folder: Path) -> tuple[Bundle, Model]:
    """A bundle and its graph, read once."""
    bundle = read_bundle(folder)
    return bundle, Model(bundle.model)


def recorded(folder: Path, sequence: int = 0) -> list[Json]:
    """The snapshots of a recorded case, hour by hour; the first brings averages."""
    hours = loaded(folder)[0].golden["sequences"][sequence]["hours"]
    return [copy.deepcopy(hour["snapshot"]) for hour in hours]


def fresh(folder: Path, model: Any = None, state: Path | None = None, **limits: Any) -> Policy:
    """A policy that remembers nothing yet, with another graph or other guardrails if given."""
    bundle, own = loaded(folder)
    g = settings(bundle.manifest["guardrails"], limits)
    return Policy(bundle, own if model is None else model, g, state)


def unix_s(snapshot: Json) -> float:
    return datetime.fromisoformat(snapshot["time"]).timestamp()


def ask(policy: Policy, snapshot: Json) -> Decision:
    """The decision at the snapshot's own time."""
    return policy.decide(snapshot, unix_s(snapshot))


def later(snapshot: Json, hours: float) -> Json:
    """The same facts at another time, without averages."""
    time = datetime.fromisoformat(snapshot["time"]) + timedelta(hours=hours)
    moved = copy.deepcopy(snapshot) | {"time": time.astimezone(UTC).isoformat()}
    for feed in moved["networks"].values():
        for name in [n for n in feed if n.startswith(("ema_", "price_"))]:
            del feed[name]
    return moved


def many(snapshot: Json, rigs: int) -> Json:
    """The snapshot with its rigs over and over, until it has that many."""
    kinds = [*snapshot["rigs"].values()]
    rows = {f"rig-{r:04d}": copy.deepcopy(kinds[r % len(kinds)]) for r in range(rigs)}
    return {**copy.deepcopy(snapshot), "rigs": rows}


SCRAP: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e6, -1e9, 1e300, 10**400, math.nan, math.inf, -math.inf),
    *("", "akash", "off", "\ud800", "a\nb", "2026-01-01T00:00:00Z", [], [1.0], {}, {"akash": 1.0}),
)


def spoil(document: Any, rng: random.Random) -> None:
    """Change one thing in place: a value by scrap or a million times itself, a key less or more."""
    at, key = document, rng.choice([*document])
    while isinstance(at[key], dict) and at[key] and rng.random() < 0.9:
        at = at[key]
        key = rng.choice([*at])
    kind = rng.randrange(5)
    if kind == 0:
        del at[key]
    elif kind == 1:
        at[rng.choice(("akash", "work", "nothing", "up", "gpu", ""))] = rng.choice(SCRAP)
    elif kind == 2 and type(at[key]) is float:
        at[key] *= rng.choice((1e6, 1e-6, -1, 0, 1000))
    elif kind == 3:
        at[key] = rng.choice((None, math.nan, math.inf))
    else:
        at[key] = rng.choice(SCRAP)


def check_laws(policy: Policy, source: Any, decision: Decision, g: Guardrails, now: float) -> None:
    """What holds of every decision, worked out again from the snapshot; `policy` made no other
    decision, so that moves and averages that it remembers are known."""
    seen = parse(source, policy.bundle.columns)
    said = json.dumps(decision.to_json(), allow_nan=False)
    assert "internal error" not in said
    orders = decision.orders
    assert orders.keys() | decision.holds.keys() == {*seen.rig_names}
    assert not orders.keys() & decision.holds.keys()
    assert all(decision.holds.values())
    assert all(acted.text for acted in decision.acted)
    assert decision.source in ("policy", "rule", "hold")
    assert bool(decision.reason) == (decision.source != "policy")
    if decision.source == "hold":
        assert not orders
    assert len(orders) <= max(1, int(g.max_moves_share_h * len(seen.rig_names)))
    if orders:
        _check_moves(seen, orders, Rule.read(policy.bundle.manifest["rule"]), g, now)


def _check_moves(
    seen: Snapshot, orders: Mapping[str, str], rule: Rule, g: Guardrails, now: float
) -> None:
    assert abs(now - seen.time) <= g.max_snapshot_age_h * 3600
    assert np.isfinite(seen.market).all()
    before = seen.averages
    cut, _ = clip(seen, before, g)
    worth = account(cut, remember(before, cut, 0.0), rule)
    after = seen.assignment.copy()
    for name, network in orders.items():
        r, n = seen.rig_names.index(name), seen.network_names.index(network)
        here = seen.assignment[r]
        assert n != here
        assert seen.work[r, n] > 0
        assert seen.work[r, here] > 0
        assert seen.on("open")[n] > 0
        assert network not in g.deny
        assert seen.on("up")[n] > 0
        assert seen.of("up")[r] > 0
        for place in (here, n):
            assert np.isfinite(seen.networks[place]).all()
            assert abs(now - seen.observed[place]) <= g.max_feed_age_h * 3600
        assert np.isfinite(seen.rigs[r]).all()
        stood_h, waits_h = seen.of("tenure_h")[r], seen.of("provisioning_h")[r]
        assert waits_h <= 0
        assert stood_h <= 0 or stood_h >= g.min_dwell_h - SLACK_H
        gain_h, entry = worth.gain_usd_h[r, n], worth.entry_usd[r, n]
        assert gain_h >= 0
        assert entry <= g.max_payback_h * gain_h
        assert network == "off" or np.isfinite(before[:, n]).all()  # known for long enough
        after[r] = n
    there = np.bincount(after, minlength=len(seen.network_names))
    share = max(1, int(g.max_network_share * len(after) + 1e-9))
    for n in {seen.network_names.index(network) for network in orders.values()}:
        network = seen.network_names[n]
        assert there[n] <= g.max_network_rigs.get(network, len(after))
        assert network == "off" or there[n] <= share


class Graph:
    """What stands in for a bundle's model: each fleet asks it by itself."""

    def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Ints | None:
        raise NotImplementedError

    def run_all(
        self, fleets: Sequence[Snapshot], memory: Any, dt_h: float
    ) -> tuple[Ints | None, ...]:
        return tuple(self.run(seen, memory, dt_h) for seen in fleets)


class Hostile(Graph):
    """A graph that answers something else: random, not numbers, huge, of wrong shape or kind."""

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._rng = kind, np.random.default_rng(seed)

    def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Ints:
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
        given: Ints = orders
        return given


KINDS = ("random", "nan", "huge", "shape", "text")


class Sleeping(Graph):
    """A policy that leaves rigs switched off, until it wakes and follows the published yield."""

    awake = False

    def __init__(self) -> None:
        self.asked: list[list[int]] = []  # where the rigs stood

    def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Ints:
        self.asked.append(seen.assignment.tolist())
        pay = seen.work * seen.on("estimate_usd") * seen.on("open")
        return pay.argmax(-1) + 1 if self.awake else np.zeros(len(pay), np.int64)


def averages(policy: Policy) -> dict[str, tuple[float, ...]]:
    """What is remembered of each network."""
    return {name: feed.averages for name, feed in policy._memory.after.feeds.items()}
