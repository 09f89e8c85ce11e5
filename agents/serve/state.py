"""What is remembered between two decisions, by name.

A state is a value: a decision makes the next one from it. So the same snapshot, sent twice, is
answered twice from the same state, and is remembered once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import numpy as np

from .book import Book
from .columns import AVERAGES, Bools, Floats
from .guardrails import Counters
from .limits import SLACK_H
from .snapshot import Snapshot

FORGET_H = 720.0  # after which a network that is not seen, or a move, is forgotten; assumption
HOUR_S = 3600.0
RECENT_S = HOUR_S * (1.0 - SLACK_H)  # for which a move counts against the limit on moves in an hour


@dataclass(frozen=True)
class Feed:
    """What is remembered of a network."""

    averages: tuple[float, ...]  # rows of `columns.AVERAGES` with the last hour in them
    fed_h: float  # for how long they have been fed
    seen: float  # unix s of the last snapshot that had it


class Order(NamedTuple):
    """A move that was ordered and has not been seen yet."""

    network: str
    time: float  # unix s


@dataclass(frozen=True)
class Moves:
    """What is remembered of the moves of a fleet, real or on paper."""

    last: Mapping[str, float] = field(default_factory=dict)  # rig -> unix s, of moves carried out
    recent: tuple[tuple[float, int], ...] = ()  # (unix s, moves ordered) in the trailing `RECENT_S`

    def counters(
        self,
        snapshot: Snapshot,
        history_h: Floats,
        moved: Mapping[str, float] | None = None,
        pending: Mapping[str, Order] | None = None,
    ) -> Counters:
        """What guardrails ask about the rigs of a snapshot; moved: when those did that it shows
        elsewhere, pending: orders that may be on their way, which count as moves meanwhile."""
        rigs, orders = snapshot.rig_names, pending or {}
        when = {**self.last, **(moved or {}), **{rig: o.time for rig, o in orders.items()}}
        last = np.fromiter(map(when.get, rigs, repeat(-np.inf)), np.float64, len(rigs))
        since_h = (snapshot.time - last) / HOUR_S
        recent = sum(n for time, n in self.recent if snapshot.time - time < RECENT_S)
        place = {name: n for n, name in enumerate(snapshot.network_names)}
        bound = [place[o.network] for o in orders.values() if o.network in place]
        arriving = np.bincount(np.array(bound, np.int64), minlength=len(place))
        on_way = np.fromiter((rig in orders for rig in rigs), bool, len(rigs)) if orders else None
        return Counters(since_h, history_h, recent, arriving, on_way)

    def after(self, moved: Mapping[str, float], ordered: int, time: float) -> Moves:
        """With rigs that moved (unix s), and `ordered` of a fleet's at `time`."""
        oldest = time - FORGET_H * HOUR_S
        last = {**{rig: t for rig, t in self.last.items() if t > oldest}, **moved}
        recent = tuple((t, n) for t, n in self.recent if time - t < RECENT_S)
        return Moves(last, (*recent, (time, ordered)) if ordered else recent)


@dataclass(frozen=True)
class Paper:
    """A fleet on paper: what it earned where it stands, and its moves."""

    book: Book = field(default_factory=Book)
    moves: Moves = field(default_factory=Moves)


@dataclass(frozen=True)
class Regret:
    """The policy's and the rule's fleets on paper, and by how much the rule leads."""

    policy: Paper = field(default_factory=Paper)
    rule: Paper = field(default_factory=Paper)
    lead: tuple[tuple[float, float], ...] = ()  # (unix s, USD) at most hourly, oldest first
    spent: bool = False  # the budget is spent: the rule decides


@dataclass(frozen=True)
class State:
    """What a policy remembers."""

    time: float | None = None  # unix s of the last snapshot
    feeds: Mapping[str, Feed] = field(default_factory=dict)  # by network
    places: Mapping[str, str] = field(default_factory=dict)  # rig -> network, as last seen
    orders: Mapping[str, Order] = field(default_factory=dict)  # by rig, not seen there yet
    moves: Moves = field(default_factory=Moves)
    regret: Regret = field(default_factory=Regret)
    digest: str = ""  # of the last snapshot

    def pending(self, places: Mapping[str, str], time: float, max_gap_h: float) -> dict[str, Order]:
        """Orders that rigs may still be carrying out. One that took longer than `max_gap_h` was not
        carried out, and its rig is as free as if it had never been given."""
        oldest = time - max_gap_h * HOUR_S
        return {
            rig: order
            for rig, order in self.orders.items()
            if places.get(rig, at := self.places.get(rig)) == at != order.network
            and order.time >= oldest
        }

    def moved(
        self, places: Mapping[str, str], time: float
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """(when each rig moved that stands elsewhere than in the last snapshot, unix s; which of
        them were not ordered there).

        An order may have been carried out right after the last snapshot; of another's move nothing
        is known but that it is seen now."""
        if places == self.places:
            return {}, ()
        arrived = {r for r, order in self.orders.items() if places.get(r) == order.network}
        strays = tuple(
            rig
            for rig, at in places.items()
            if self.places.get(rig, at) != at
            if rig not in arrived
        )
        last = time if self.time is None else self.time
        return dict.fromkeys(arrived, last) | dict.fromkeys(strays, time), strays

    def absent(self, snapshot: Snapshot, max_gap_h: float) -> frozenset[str]:
        """The networks that a snapshot lacks and that were seen at most `max_gap_h` before it."""
        oldest = snapshot.time - max_gap_h * HOUR_S
        lately = (name for name, feed in self.feeds.items() if feed.seen >= oldest)
        return frozenset(lately) - {*snapshot.network_names}

    def memory(self, snapshot: Snapshot, max_gap_h: float) -> tuple[Floats, Floats, Bools]:
        """(averages up to the hour before [5, N], NaN where there are none; for how long each
        network's were fed, h [N]; which are the snapshot's own [N]) for its networks.

        A network that was away for longer than `max_gap_h` while others were seen begins anew.
        Averages that the snapshot brings count where there are none, as fed for ever; they have
        this hour in them.
        """
        count = len(snapshot.network_names)
        memory, fed_h = np.full((len(AVERAGES), count), np.nan), np.zeros(count)
        for n, name in enumerate(snapshot.network_names):
            feed = self.feeds.get(name)
            if feed and self.time is not None and self.time - feed.seen <= max_gap_h * HOUR_S:
                memory[:, n], fed_h[n] = feed.averages, feed.fed_h
        given = np.isnan(memory).all(0) & np.isfinite(snapshot.averages).all(0)
        averages = np.where(given, snapshot.averages, memory)
        return averages, np.where(given, FORGET_H, fed_h), given

    def fed(self, snapshot: Snapshot, memory: Floats, fed_h: Floats) -> dict[str, Feed]:
        """The networks' feeds with this hour in them."""
        oldest = snapshot.time - FORGET_H * HOUR_S
        feeds = {name: feed for name, feed in self.feeds.items() if feed.seen > oldest}
        rows = zip(snapshot.network_names, memory.T.tolist(), fed_h.tolist(), strict=True)
        for name, averages, hours in rows:
            if np.isfinite(averages).all():
                feeds[name] = Feed(tuple(averages), hours, snapshot.time)
        return feeds


@dataclass(frozen=True)
class Memory:
    """The state after the last snapshot, and the one before it, for the same snapshot again."""

    after: State = field(default_factory=State)
    before: State = field(default_factory=State)
    bundle: str = ""  # `Bundle.decides` of the policy and rule that the regret is between
    shadow: bool = False  # of a fleet on paper, which is led in shadow mode

    def base(self, time: float, digest: str) -> State:
        """The state that a snapshot is decided from: the earlier one for the last one again."""
        again = time == self.after.time and digest == self.after.digest
        return self.before if again else self.after

    def then(self, base: State, state: State) -> Memory:
        """With the state that a decision from `base` leads to."""
        return dataclasses.replace(self, after=state, before=base)

    def of_bundle(self, decides: str) -> Memory:
        """For the policy of a bundle: the regret of one that decides otherwise is forgotten."""
        if decides == self.bundle:
            return self
        after, before = (dataclasses.replace(s, regret=Regret()) for s in (self.after, self.before))
        return dataclasses.replace(self, after=after, before=before, bundle=decides)

    def made_live(self) -> Memory:
        """For the real fleet after a shadow's: networks are the same, all else was on paper."""
        return Memory(State(time=self.after.time, feeds=self.after.feeds))
