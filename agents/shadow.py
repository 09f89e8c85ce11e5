"""What a shadow log says in money: the paper fleet of a bundle beside the orchestrator's own.

Both fleets are valued by the same accounting on the same snapshots, hour by hour, so that what the
accounting gets wrong is wrong for both. Pay is each rig's share of the published yield, own work in
the pool counted; on tournaments and leases that is a model and not a fact (a rig may be pushed out,
or find no customer), so the share of rig-hours there is told beside the result. Housing is the same
for both and left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.serve.accounting import Rule, account
from agents.serve.book import Book, named, placed
from agents.serve.catalog import read_columns
from agents.serve.columns import AVERAGES, OFF, Bools, Columns
from agents.serve.errors import FieldError
from agents.serve.shadow import stood_h
from agents.serve.snapshot import Ints, Snapshot, parse
from agents.statistics import Floats
from env.errors import InputError

FULL_DAY_H = 20.0  # logged hours with which a day counts
MAX_GAP_H = 6.0  # between two lines, beyond which nobody knows what went on

Line = dict[str, Any]


class Fleet(NamedTuple):
    """One of the two fleets, over the hours of a log."""

    usd: Floats  # [K] profit of each interval before housing, less what the moves at its end cost
    moved_usd: Floats  # [K] what these cost
    moves: int
    modelled: float  # share of rig-hours on tournaments and leases


@dataclass(frozen=True)
class Rehearsal:
    """The last bundle of a log, on K intervals between its lines."""

    bundle: str
    day: Ints  # [K] days since 1970, UTC
    hours: Floats  # [K] of each interval, 0 where it is a gap
    ours: Fleet
    theirs: Fleet
    reported_usd: float  # what the orchestrator's rigs said they earned, housing added back
    gaps: int

    def full_days(self) -> tuple[Ints, Floats, Floats]:
        """The days with hours enough, [D], profit on paper and profit of the orchestrator.

        What moves cost on a day without hours enough is charged to the next full day, whose hours
        they bought: else a fleet that moves on its first day, which seldom is full, moves free.
        """
        days, at = np.unique(self.day, return_inverse=True)
        full = np.bincount(at, self.hours, len(days)) >= FULL_DAY_H
        ours, theirs = (_by_full_day(fleet, at, full) for fleet in (self.ours, self.theirs))
        return days[full], ours, theirs


def _by_full_day(fleet: Fleet, day: Ints, full: Bools) -> Floats:
    """Profit of a fleet on each full day, [D]; day [K] of each interval, full [days]."""
    usd = np.zeros(int(full.sum()) + 1)  # the last is of the days after the last full one
    place: Ints = np.cumsum(full) - full
    np.add.at(usd, place[day], np.where(full[day], fleet.usd, -fleet.moved_usd))
    return usd[:-1]


def read_log(path: Path) -> Rehearsal:
    """Value a log; an InputError names the line that is broken, and what is wrong in it."""
    walked = _Walked("")
    for bundle, hour in _hours(path):
        if bundle != walked.bundle:
            walked = _Walked(bundle)
        walked.take(hour)
    if walked.hours < 2:
        raise InputError(str(path), "at least two hours of one bundle", walked.hours)
    return walked.rehearsal()


def _hours(path: Path) -> Iterator[tuple[str, _Hour]]:
    """The hours of a log, each with the name of the bundle that led the paper fleet."""
    bundle, columns, rule = "", None, None
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            if "manifest" in line:
                manifest = line["manifest"]
                columns, rule = read_columns(manifest), Rule.read(manifest["rule"])
                bundle = str(manifest["bundle"])
            elif columns is None or rule is None:
                raise FieldError("manifest", "the bundle's line before any hour", sorted(line))
            else:
                yield bundle, _Hour.read(line, columns, rule)
        except FieldError as error:
            raise InputError(f"{where}: {error.path}", error.expected, error.got) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(where, "a line of a shadow log", repr(error)) from None


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    """The lines that hold something, with their numbers."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    line = json.loads(raw)
                except (ValueError, RecursionError):
                    raise InputError(f"{path}:{number}", "a line of JSON", raw[:40]) from None
                if not isinstance(line, dict):
                    raise InputError(f"{path}:{number}", "a JSON object", raw[:40])
                yield number, line
    except OSError as error:
        raise InputError("shadow", "a log that can be read", f"{path}: {error.strerror}") from None


@dataclass(frozen=True)
class _Hour:
    """A line, read: what was seen, and where the paper fleet stood and went."""

    snapshot: Snapshot
    rule: Rule
    places: Mapping[str, str]
    orders: Mapping[str, str]

    @classmethod
    def read(cls, line: Line, columns: Columns, rule: Rule) -> _Hour:
        snapshot = parse(line["snapshot"], columns)
        places, orders, there = line["places"], line["orders"], {*snapshot.network_names}
        or_away = there.union(line.get("away", ()))  # a place may have no row
        for key, given, known in (("places", places, or_away), ("orders", orders, there)):
            for rig, network in given.items():
                if network not in known:
                    raise FieldError(f"{key}.{rig}", "a network of the snapshot", network)
        return cls(snapshot, rule, places, orders)

    def orders_of_others(self, before: _Hour) -> dict[str, str]:
        """What the orchestrator did in the hour before: where each rig is now."""
        there, seen = before.snapshot.network_names, self.snapshot
        return {rig: at for rig, at in named(seen, seen.assignment).items() if at in there}


class _Walked:
    """Both fleets of one bundle. What the orchestrator did in an hour, the next one tells: so an
    hour waits for it, and the orders of the last one count for nobody."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self._ours, self._theirs = _Walk(), _Walk()
        self._waiting: tuple[_Hour, float] | None = None  # and the hours before it
        self._middle: list[float] = []  # of each interval, unix s
        self._known_h: list[float] = []
        self._latest, self._reported_usd, self._gaps = 0.0, 0.0, 0

    @property
    def hours(self) -> int:
        """Hours taken."""
        return len(self._known_h)

    def take(self, hour: _Hour) -> None:
        """Value the hour before, now that its moves are known."""
        time = max(hour.snapshot.time, self._latest)
        span_h = (time - self._latest) / 3600.0 if self._waiting else 0.0
        known_h = span_h if span_h <= MAX_GAP_H else 0.0
        self._gaps += known_h < span_h
        if self._waiting is not None:
            self._value(*self._waiting, hour.orders_of_others(self._waiting[0]))
        self._waiting, self._latest = (hour, span_h), time
        self._known_h.append(known_h)
        # an hour that ends at midnight is of the day before
        self._middle.append(time - known_h * 1800.0)
        seen = hour.snapshot
        if known_h > 0:
            earned = seen.of("last_net_usd") + seen.of("housing_usd_h") * known_h
            self._reported_usd += float(np.nansum(earned))

    def rehearsal(self) -> Rehearsal:
        """What it came to."""
        if self._waiting is not None:
            hour, span_h = self._waiting
            self._value(dataclasses.replace(hour, orders={}), span_h, {})
        return Rehearsal(
            bundle=self.bundle,
            day=(np.array(self._middle) // 86_400).astype(np.int64),
            hours=np.array(self._known_h),
            ours=self._ours.fleet(),
            theirs=self._theirs.fleet(),
            reported_usd=self._reported_usd,
            gaps=self._gaps,
        )

    def _value(self, hour: _Hour, span_h: float, done: Mapping[str, str]) -> None:
        self._ours.step(hour, hour.places, hour.orders, span_h)
        seen = hour.snapshot
        self._theirs.step(hour, named(seen, seen.assignment), done, span_h)


class _Walk:
    """One fleet through the hours, from the places that the log says."""

    def __init__(self) -> None:
        self._usd: list[float] = []
        self._moved_usd: list[float] = []
        self._moves = 0
        self._rig_hours = self._modelled = 0.0
        self._there: dict[str, tuple[str, float]] = {}  # rig -> network, hours since it went there

    def step(
        self, hour: _Hour, places: Mapping[str, str], orders: Mapping[str, str], span_h: float
    ) -> None:
        """Pay the `span_h` hours before, none across a gap, and then carry out the orders.

        A rig whose network has no row is not paid, and stands there when the row is back.
        """
        seen = placed(Book(places), _with_rows(hour.snapshot, places))
        known_h = span_h if span_h <= MAX_GAP_H else 0.0
        stood_h = self._stood_h(seen, span_h)
        usd = float(_pay_usd_h(seen, stood_h - known_h / 2.0, hour.rule).sum()) * known_h
        names, at = seen.network_names, seen.assignment
        index = {name: n for n, name in enumerate(names)}
        wanted = [
            index[orders.get(rig, names[n])] for rig, n in zip(seen.rig_names, at, strict=True)
        ]
        there = np.array(wanted, dtype=np.int64)
        moved = there != at
        entry_usd = seen.of("leaving_usd") + (seen.on("gas_usd") + seen.on("burn_usd"))[there]
        self._moved_usd.append(float(np.nansum(entry_usd[moved])))
        self._usd.append(usd - self._moved_usd[-1])
        self._moves += int(moved.sum())
        stood_h[moved] = 0.0
        waiting = {*hour.snapshot.rig_names}.difference(seen.rig_names)
        self._there = {r: (n, h + span_h) for r, (n, h) in self._there.items() if r in waiting}
        self._there |= {
            rig: (names[n], h)
            for rig, n, h in zip(seen.rig_names, there.tolist(), stood_h.tolist(), strict=True)
        }
        modelled = (seen.on("slots") > 0) | (seen.on("lease") > 0)
        self._modelled += float(modelled[at].sum()) * known_h
        self._rig_hours += len(at) * known_h

    def _stood_h(self, seen: Snapshot, span_h: float) -> Floats:
        """Hours since each rig went where it is, [R]; of a new one, what the snapshot tells."""
        hours = np.nan_to_num(stood_h(seen))
        for r, (rig, n) in enumerate(zip(seen.rig_names, seen.assignment.tolist(), strict=True)):
            network, before_h = self._there.get(rig, ("", 0.0))
            if network == seen.network_names[n]:
                hours[r] = before_h + span_h
            elif rig in self._there:  # its network was gone for long, or the log was cut
                hours[r] = 0.0
        return hours

    def fleet(self) -> Fleet:
        """What the walk came to."""
        share = self._modelled / self._rig_hours if self._rig_hours else 0.0
        return Fleet(np.array(self._usd), np.array(self._moved_usd), self._moves, share)


def _pay_usd_h(seen: Snapshot, stood_h: Floats, rule: Rule) -> Floats:
    """What each rig is paid less energy, [R], `stood_h` hours after it went where it is: nothing
    while it provisions, then its share of the published yield times the warm-up reached."""
    at = seen.assignment
    nothing = np.zeros((len(AVERAGES), len(seen.network_names)))  # the present pay needs no average
    net = account(seen, nothing, rule).paid_usd_h
    energy = (
        seen.of("owned") * seen.of("power_kw") * seen.of("tariff_usd_kwh") * seen.on("load")[at]
    )
    works_h = np.maximum(stood_h - seen.on("provisioning_h")[at], 0.0)
    warm = 1.0 - np.exp(-works_h / np.maximum(seen.on("warmup_h")[at], 1e-9))
    runs = (seen.of("up") > 0) & (seen.on("up")[at] > 0)
    return np.nan_to_num(np.where(runs, warm * (net + energy) - energy, 0.0))


def _with_rows(snapshot: Snapshot, places: Mapping[str, str]) -> Snapshot:
    """The snapshot of the rigs whose place has a row in it."""
    names = {*snapshot.network_names}
    kept = [r for r, rig in enumerate(snapshot.rig_names) if places.get(rig, OFF) in names]
    return dataclasses.replace(
        snapshot,
        rig_names=tuple(snapshot.rig_names[r] for r in kept),
        rigs=snapshot.rigs[kept],
        work=snapshot.work[kept],
        assignment=snapshot.assignment[kept],
    )
