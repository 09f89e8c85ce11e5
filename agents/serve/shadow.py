"""Shadow mode: the policy leads a fleet of its own on paper, beside the one that somebody leads.

The paper fleet begins where the real one stands and then follows the policy's orders. Each hour the
policy is asked about the paper fleet, with the guardrails and the memory that it would have live,
and a line of the log holds the snapshot (the next one says what the orchestrator did) beside the
paper fleet before its orders, and these. The log is all that a restart needs to go on.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .accounting import Rule, account
from .book import Book, named, placed
from .columns import AVERAGES, OFF, Floats
from .errors import FieldError
from .runtime import Decision, Policy
from .snapshot import Snapshot, parse
from .state import HOUR_S

LOG = logging.getLogger(__name__)

SCHEMA = 1  # of the log's lines
BEGINS = b'{"log":"shadow"'  # or some space in it, as `_write` has it
LAST_LINES_BYTES = 2**26  # read from the end of a log that is taken up again


@dataclass(frozen=True)
class Fleet:
    """The fleet on paper, by name."""

    places: Mapping[str, str] = field(default_factory=dict)  # rig -> network
    since: Mapping[str, float] = field(default_factory=dict)  # rig -> unix s, it stands there
    away: Mapping[str, float] = field(default_factory=dict)  # network without a row -> last seen

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Fleet:
        """From a line of the log: before its orders."""
        return cls(line.get("places", {}), line.get("since", {}), line.get("away", {}))

    def found(self, real: Snapshot, last: float | None, max_gap_h: float) -> Fleet:
        """The fleet as a snapshot finds it; the one before was taken at `last`, unix s.

        Since when a rig stands where the real one stands too, that one says. A rig whose network
        has no row keeps its place, until the row has been away for longer than `max_gap_h`.
        """
        really = named(real, real.assignment)
        places = {rig: self.places.get(rig, at) for rig, at in really.items()}
        seen = real.time if last is None else last
        missing = {*places.values()}.difference(real.network_names)
        away = {network: self.away.get(network, seen) for network in sorted(missing)}
        gone = {n for n, time in away.items() if real.time - time > max_gap_h * HOUR_S}
        since = {}
        for rig, hours in zip(really, stood_h(real).tolist(), strict=True):
            since[rig] = self.since.get(rig, real.time)
            if places[rig] == really[rig] and math.isfinite(hours):
                since[rig] = real.time - hours * HOUR_S
            if places[rig] in gone:
                places[rig], since[rig] = OFF, real.time
        return Fleet(places, since, {n: time for n, time in away.items() if n not in gone})

    def after(self, orders: Mapping[str, str], time: float) -> Fleet:
        """The fleet after orders that were carried out at `time`, unix s."""
        since = {**self.since, **dict.fromkeys(orders, time)}
        return Fleet({**self.places, **orders}, since, self.away)


class Shadow:
    """The paper fleet and its log; one bundle at a time, in one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Take up a log, or start one; a last line that was not written to its end is cut off."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            begins = os.pread(self._file, len(BEGINS), 0)
            if begins not in (b"", BEGINS):
                raise FieldError("--shadow", "a log of shadow mode, or a new file", str(path))
            self._size, last = _last_line(self._file)
            os.ftruncate(self._file, self._size)
        except OSError as error:
            raise FieldError("--shadow", "a file that can be written", error.strerror) from None
        self._bundle: str | None = last.get("bundle")
        self._time: float | None = last.get("time")
        self._asked = Fleet.read(last)  # as the last snapshot found it
        self._fleet = self._asked.after(last.get("orders", {}), last.get("time", 0.0))

    def begin(self, policy: Policy) -> None:
        """Log the bundle that answers from now on; another bundle starts where the rigs stand."""
        manifest = policy.bundle.manifest
        if manifest["bundle"] != self._bundle:
            self._asked, self._fleet, self._time = Fleet(), Fleet(), None
        self._bundle = manifest["bundle"]
        self._policy, self._rule = policy, Rule.read(manifest["rule"])
        columns = manifest["columns"]["rigs"]
        self._low = {c["name"]: -math.inf if c["low"] is None else c["low"] for c in columns}
        self._high = {c["name"]: math.inf if c["high"] is None else c["high"] for c in columns}
        self._write({"log": "shadow", "schema": SCHEMA, "manifest": manifest})

    def decide(self, source: Mapping[str, Any], real: Snapshot, now: float) -> Decision:
        """Ask the policy about the paper fleet in a snapshot of the real one, and log both.

        source: what `real` was read from. A snapshot that was sent before is answered again, from
        what was known before its orders, and one whose time cannot be right is answered too;
        neither moves anything on paper. Rigs whose network has no row in it are not asked about.
        """
        again = self._time is not None and real.time <= self._time
        before = self._asked if again else self._fleet
        fleet = before.found(real, self._time, self._policy.limits.max_gap_h)
        for network in fleet.away:
            LOG.warning("%s has no row: its rigs on paper wait and earn nothing", network)
        paper = parse(self._on_paper(source, real, fleet), self._policy.bundle.columns)
        decision = self._policy.answer(paper, now)
        waits = {
            rig: f"{rig} waits on paper: {fleet.places[rig]} has no row"
            for rig in real.rig_names
            if fleet.places[rig] in fleet.away
        }
        decision = dataclasses.replace(decision, holds={**decision.holds, **waits})
        mistimed = any(acted.guardrail == "max_snapshot_age_h" for acted in decision.acted)
        if not (again or mistimed):
            self._go_on(source, real.time, fleet, decision)
        return decision

    def _go_on(
        self, source: Mapping[str, Any], time: float, fleet: Fleet, decision: Decision
    ) -> None:
        """Carry out a decision on paper, and log it."""
        self._time, self._asked = time, fleet
        self._fleet = fleet.after(decision.orders, time)
        line = {
            "time": time,
            "bundle": decision.bundle,
            "source": decision.source,
            "places": fleet.places,
            "orders": decision.orders,
            "since": fleet.since,
            "away": fleet.away,
            "snapshot": source,
        }
        self._write(line)

    def _on_paper(self, source: Mapping[str, Any], real: Snapshot, fleet: Fleet) -> dict[str, Any]:
        """The snapshot of the rigs that have a place in it, each that stands elsewhere on paper as
        it would be there."""
        if fleet.away:
            here = {rig for rig, at in fleet.places.items() if at not in fleet.away}
            source = {**source, "rigs": {r: row for r, row in source["rigs"].items() if r in here}}
            real = parse(source, self._policy.bundle.columns)
        paper = placed(Book(fleet.places), real)
        nothing = np.zeros((len(AVERAGES), len(real.network_names)))  # what is paid now needs none
        paid = account(paper, nothing, self._rule).paid_usd_h
        rigs = dict(source["rigs"])
        for r in np.flatnonzero(paper.assignment != real.assignment).tolist():
            rig = real.rig_names[r]
            since_h = max(0.0, (real.time - fleet.since[rig]) / HOUR_S)
            modelled = _elsewhere(paper, r, float(paid[r]), since_h)
            clipped = {k: min(max(v, self._low[k]), self._high[k]) for k, v in modelled.items()}
            rigs[rig] = {**rigs[rig], **clipped, "network": fleet.places[rig]}
        return {**source, "rigs": rigs}

    def _write(self, line: Mapping[str, Any]) -> None:
        """Add a line whole or not at all; a full disk costs the line, not the answer."""
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("no room for the line")
            self._size += len(data)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            LOG.error("shadow line lost", extra={"fields": {"reason": str(error)}})


def _elsewhere(paper: Snapshot, r: int, paid_usd_h: float, since_h: float) -> dict[str, float]:
    """Facts of a rig that has stood alone on paper for `since_h` hours, paid `paid_usd_h` there.

    Modelled, not known: it provisions, warms up, earns its share of the published yield and has no
    lease. To leave costs what it is expected to (`placed`). On `off` there is nothing to work on.
    """

    def on(name: str) -> float:
        return float(paper.on(name)[paper.assignment[r]])

    def of(name: str) -> float:
        return float(paper.of(name)[r])

    active = paper.network_names[paper.assignment[r]] != OFF
    works_h = max(0.0, since_h - on("provisioning_h")) if active else 0.0
    score = -math.expm1(-works_h / max(on("warmup_h"), 1e-9))
    runs = of("up") > 0 and on("up") > 0
    energy_usd = runs * of("owned") * of("power_kw") * of("tariff_usd_kwh") * on("load")
    gross_usd = score * (paid_usd_h + energy_usd)
    return {
        "provisioning_h": max(0.0, on("provisioning_h") - since_h),
        "tenure_h": works_h,
        "score": score,
        "lease_h": 0.0,
        "lease_usd_h": 0.0,
        "idle_h": 0.0,
        "leaving_usd": of("leaving_usd"),
        "last_gross_usd": gross_usd,
        "last_net_usd": gross_usd - energy_usd - of("housing_usd_h"),
    }


def stood_h(snapshot: Snapshot) -> Floats:
    """Hours since each rig went where it really is, by what it says, [R]; NaN if it says nothing.

    The hours that it worked there and those that it provisioned before; not those it was down.
    """
    on, of = snapshot.on, snapshot.of
    provisioned_h = on("provisioning_h")[snapshot.assignment] - of("provisioning_h")
    hours: Floats = np.maximum(of("tenure_h") + provisioned_h, 0.0)
    return hours


def _last_line(file: int) -> tuple[int, dict[str, Any]]:
    """Bytes of the whole lines of a log, and the last line that holds a decision."""
    end = os.fstat(file).st_size
    begin = max(0, end - LAST_LINES_BYTES)
    tail = os.pread(file, end - begin, begin)
    whole = tail[: tail.rfind(b"\n") + 1]
    for line in reversed(whole.splitlines()):
        if b'"places"' not in line:
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        fields = ("places", "orders", "since", "away")
        if isinstance(found, dict) and all(isinstance(found.get(k, {}), dict) for k in fields):
            return begin + len(whole), found
        raise FieldError("--shadow", "a log of shadow mode", line[:40])
    return begin + len(whole), {}
