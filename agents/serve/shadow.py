"""Shadow mode: the policy leads a fleet of its own on paper, beside the one that somebody leads.

The paper fleet begins where the real one stands and then follows the policy's orders. Each hour the
policy is asked about the paper fleet, with the guardrails and the memory that it would have live,
and a line of the log holds the snapshot (the next one says what the orchestrator did) beside the
paper fleet's places and orders. The log is all that a restart needs to go on.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .accounting import Rule, account
from .book import Book, placed
from .columns import AVERAGES, OFF
from .errors import FieldError
from .runtime import Decision, Policy
from .snapshot import Snapshot, parse

LOG = logging.getLogger(__name__)

SCHEMA = 1  # of the log's lines
BEGINS = b'{"log":"shadow"'  # or some space in it, as `_write` has it
LAST_LINES_BYTES = 2**26  # read from the end of a log that is taken up again


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
        self._asked: dict[str, str] = last.get("places", {})  # places in the last snapshot
        self._places: dict[str, str] = {**self._asked, **last.get("orders", {})}  # after it
        self._since: dict[str, float] = dict(last.get("since", {}))  # unix s of the last paper move

    def begin(self, policy: Policy) -> None:
        """Log the bundle that answers from now on; another bundle starts where the rigs stand."""
        manifest = policy.bundle.manifest
        if manifest["bundle"] != self._bundle:
            self._places, self._since, self._time = {}, {}, None
        self._bundle = manifest["bundle"]
        self._policy, self._rule = policy, Rule.read(manifest["rule"])
        columns = manifest["columns"]["rigs"]
        self._low = {c["name"]: -math.inf if c["low"] is None else c["low"] for c in columns}
        self._high = {c["name"]: math.inf if c["high"] is None else c["high"] for c in columns}
        self._write({"log": "shadow", "schema": SCHEMA, "manifest": manifest})

    def decide(self, source: Mapping[str, Any], real: Snapshot, now: float) -> Decision:
        """Ask the policy about the paper fleet in a snapshot of the real one, and log both.

        source: what `real` was read from. A snapshot that was sent before is answered again, and
        one whose time cannot be right is answered too; neither moves anything on paper.
        """
        again = self._time is not None and real.time <= self._time
        places = {
            rig: place if (place := self._places.get(rig, at)) in real.network_names else OFF
            for rig, at in _assigned(real).items()
        }
        if again:
            places |= {rig: at for rig, at in self._asked.items() if rig in places}
        paper = parse(self._on_paper(source, real, places), self._policy.bundle.columns)
        decision = self._policy.answer(paper, now)
        mistimed = any(acted.guardrail == "max_snapshot_age_h" for acted in decision.acted)
        if not (again or mistimed):
            self._go_on(source, real, places, decision)
        return decision

    def _go_on(
        self,
        source: Mapping[str, Any],
        real: Snapshot,
        places: dict[str, str],
        decision: Decision,
    ) -> None:
        """Carry out a decision on paper, and log it."""
        orders = decision.orders
        self._asked, self._time = places, real.time
        self._places = places | orders
        self._since = {rig: t for rig, t in self._since.items() if rig in places}
        self._since |= dict.fromkeys(orders, real.time)
        line = {
            "time": real.time,
            "bundle": decision.bundle,
            "source": decision.source,
            "places": places,
            "orders": orders,
            "since": self._since,
            "snapshot": source,
        }
        self._write(line)

    def _on_paper(
        self, source: Mapping[str, Any], real: Snapshot, places: Mapping[str, str]
    ) -> dict[str, Any]:
        """The snapshot with each rig that stands elsewhere on paper as it would be there."""
        paper = placed(Book(places), real)
        nothing = np.zeros((len(AVERAGES), len(real.network_names)))  # what is paid now needs none
        paid = account(paper, nothing, self._rule).paid_usd_h
        rigs = dict(source["rigs"])
        for r in np.flatnonzero(paper.assignment != real.assignment).tolist():
            rig = real.rig_names[r]
            since_h = max(0.0, (real.time - self._since.get(rig, real.time)) / 3600.0)
            modelled = _elsewhere(paper, r, float(paid[r]), since_h)
            clipped = {k: min(max(v, self._low[k]), self._high[k]) for k, v in modelled.items()}
            place = paper.network_names[paper.assignment[r]]
            rigs[rig] = {**rigs[rig], **clipped, "network": place}
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
    """Facts of a rig that moved, on paper, `since_h` hours ago to where it is paid `paid_usd_h`.

    Modelled, not known: it provisions, warms up and earns its share of the published yield, has no
    lease, and leaving costs nothing.
    """

    def on(name: str) -> float:
        return float(paper.on(name)[paper.assignment[r]])

    def of(name: str) -> float:
        return float(paper.of(name)[r])

    works_h = max(0.0, since_h - on("provisioning_h"))
    score = -math.expm1(-works_h / max(on("warmup_h"), 1e-9))
    energy_usd = of("owned") * of("power_kw") * of("tariff_usd_kwh") * on("load")
    gross_usd = score * (paid_usd_h + energy_usd)
    return {
        "provisioning_h": max(0.0, on("provisioning_h") - since_h),
        "tenure_h": works_h,
        "score": score,
        "lease_h": 0.0,
        "lease_usd_h": 0.0,
        "idle_h": 0.0,
        "leaving_usd": 0.0,
        "last_gross_usd": gross_usd,
        "last_net_usd": gross_usd - energy_usd - of("housing_usd_h"),
    }


def _assigned(snapshot: Snapshot) -> dict[str, str]:
    names = snapshot.network_names
    return {
        rig: names[n]
        for rig, n in zip(snapshot.rig_names, snapshot.assignment.tolist(), strict=True)
    }


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
        named = ("places", "orders", "since")
        if isinstance(found, dict) and all(isinstance(found.get(k, {}), dict) for k in named):
            return begin + len(whole), found
        raise FieldError("--shadow", "a log of shadow mode", line[:40])
    return begin + len(whole), {}
