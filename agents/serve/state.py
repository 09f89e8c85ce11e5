"""What is remembered between two decisions, by name, and how it outlives the process.

A state is a value: a decision makes the next one from it. So the same snapshot, sent twice, is
answered twice from the same state, and is remembered once.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .book import Book
from .columns import AVERAGES, Floats
from .document import check_keys, entries, join, load, number
from .errors import FieldError
from .guardrails import Counters
from .snapshot import Snapshot

SCHEMA = 2
FILE = "state.json"
LOCK = "lock"
FORGET_H = 720.0  # after which a network that is not seen, or a move, is forgotten; assumption
HOUR_S = 3600.0
_LATEST = 1e12  # s since 1970


@dataclass(frozen=True)
class Feed:
    """What is remembered of a network."""

    averages: tuple[float, ...]  # rows of `columns.AVERAGES` with the last hour in them
    fed_h: float  # for how long they have been fed
    seen: float  # unix s of the last snapshot that had it


@dataclass(frozen=True)
class Moves:
    """What is remembered of the moves of a fleet, real or on paper."""

    last: Mapping[str, float] = field(default_factory=dict)  # rig -> unix s
    recent: tuple[tuple[float, int], ...] = ()  # (unix s, moves ordered) in the trailing hour

    def counters(
        self, snapshot: Snapshot, history_h: Floats, pending: Mapping[str, str] | None = None
    ) -> Counters:
        """What guardrails ask about the rigs of a snapshot; pending: orders not carried out yet."""
        never = -np.inf
        last = [self.last.get(rig, never) for rig in snapshot.rig_names] if self.last else never
        since_h = np.broadcast_to(snapshot.time - np.array(last), len(snapshot.rig_names)) / HOUR_S
        recent = sum(n for time, n in self.recent if snapshot.time - time < HOUR_S)
        place = {name: n for n, name in enumerate(snapshot.network_names)}
        bound = [place[name] for name in (pending or {}).values() if name in place]
        arriving = np.bincount(np.array(bound, np.int64), minlength=len(place))
        return Counters(since_h, history_h, recent, arriving)

    def after(self, moved: list[str], ordered: int, time: float) -> Moves:
        """With rigs that moved or were ordered to, `ordered` of them by us."""
        oldest = time - FORGET_H * HOUR_S
        last = {rig: t for rig, t in self.last.items() if t > oldest} | dict.fromkeys(moved, time)
        recent = tuple((t, n) for t, n in self.recent if time - t < HOUR_S)
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
    orders: Mapping[str, str] = field(default_factory=dict)  # rig -> network, not seen there yet
    moves: Moves = field(default_factory=Moves)
    regret: Regret = field(default_factory=Regret)
    digest: str = ""  # of the last snapshot

    def pending(self, places: Mapping[str, str], time: float, max_gap_h: float) -> dict[str, str]:
        """Orders that the rigs of a snapshot may still be carrying out: rig -> network."""
        oldest = time - max_gap_h * HOUR_S
        return {
            rig: network
            for rig, network in self.orders.items()
            if places.get(rig) == self.places.get(rig, "") != network
            and self.moves.last.get(rig, -np.inf) >= oldest
        }

    def memory(self, snapshot: Snapshot, max_gap_h: float) -> tuple[Floats, Floats]:
        """(averages up to the hour before [5, N], NaN where there are none; for how long each
        network's were fed, h [N]) for the networks of a snapshot.

        A network that was away for longer than `max_gap_h` while others were seen begins anew.
        Averages that the snapshot brings count where there are none, as fed for ever.
        """
        count = len(snapshot.network_names)
        memory, fed_h = np.full((len(AVERAGES), count), np.nan), np.zeros(count)
        for n, name in enumerate(snapshot.network_names):
            feed = self.feeds.get(name)
            if feed and self.time is not None and self.time - feed.seen <= max_gap_h * HOUR_S:
                memory[:, n], fed_h[n] = feed.averages, feed.fed_h
        given = np.isnan(memory).all(0) & np.isfinite(snapshot.averages).all(0)
        return np.where(given, snapshot.averages, memory), np.where(given, FORGET_H, fed_h)

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
    bundle: str = ""  # digest of the bundle whose policy and rule the regret is between

    def base(self, time: float, digest: str) -> State:
        """The state that a snapshot is decided from: the earlier one for the last one again."""
        again = time == self.after.time and digest == self.after.digest
        return self.before if again else self.after

    def then(self, base: State, state: State) -> Memory:
        """With the state that a decision from `base` leads to."""
        return Memory(state, base, self.bundle)

    def of_bundle(self, digest: str) -> Memory:
        """For the policy of a bundle: the regret of another one's is forgotten."""
        if digest == self.bundle:
            return self
        after, before = (dataclasses.replace(s, regret=Regret()) for s in (self.after, self.before))
        return Memory(after, before, digest)


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """Keep a state folder to this process: two that shared it would each have the full limits."""
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FieldError("--state-dir", "a folder that can be written", str(error)) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            wanted = "a folder that no other process uses"
            raise FieldError("--state-dir", wanted, str(folder)) from None
        yield
    finally:
        os.close(descriptor)


def save(folder: Path, memory: Memory) -> None:
    """Write a memory to its folder, whole or not at all; OSError where that cannot be."""
    content = {"schema": SCHEMA, **dataclasses.asdict(memory)}
    draft = folder / f".{FILE}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, folder / FILE)


def read(folder: Path) -> Memory:
    """The memory in a folder, which is made if it is not there; empty where nothing was saved.

    `FieldError` with the path of what is wrong in a file that this code did not write.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        source = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise FieldError("state", "a folder that can be read", f"{error}") from None
    part = entries(load(source, "state"), "state")
    check_keys(part, "state", *2 * (("schema", "after", "before", "bundle"),))
    if type(part["schema"]) is not int or part["schema"] != SCHEMA:
        raise FieldError("state.schema", str(SCHEMA), part["schema"])
    after, before = (_state(part[key], f"state.{key}") for key in ("after", "before"))
    return Memory(after, before, _text(part["bundle"], "state.bundle"))


def _fields(part: Any, path: str, kind: type) -> dict[str, Any]:
    found = entries(part, path)
    names = tuple(f.name for f in dataclasses.fields(kind))
    check_keys(found, path, names, names)
    return found


def _state(part: Any, path: str) -> State:
    p = _fields(part, path, State)
    time = p["time"]
    return State(
        None if time is None else number(time, f"{path}.time", -_LATEST, _LATEST),
        {
            name: _feed(feed, join(f"{path}.feeds", name))
            for name, feed in entries(p["feeds"], f"{path}.feeds").items()
        },
        _texts(p["places"], f"{path}.places"),
        _texts(p["orders"], f"{path}.orders"),
        _moves(p["moves"], f"{path}.moves"),
        _regret(p["regret"], f"{path}.regret"),
        _text(p["digest"], f"{path}.digest"),
    )


def _feed(part: Any, path: str) -> Feed:
    p = _fields(part, path, Feed)
    averages = _listed(p["averages"], f"{path}.averages")
    if len(averages) != len(AVERAGES):
        raise FieldError(f"{path}.averages", f"{len(AVERAGES)} numbers", averages)
    return Feed(
        tuple(_usd(value, f"{path}.averages") for value in averages),
        number(p["fed_h"], f"{path}.fed_h", 0, _LATEST),
        number(p["seen"], f"{path}.seen", -_LATEST, _LATEST),
    )


def _moves(part: Any, path: str) -> Moves:
    p = _fields(part, path, Moves)
    last = entries(p["last"], f"{path}.last")
    recent = [_pair(pair, f"{path}.recent") for pair in _listed(p["recent"], f"{path}.recent")]
    return Moves(
        {rig: number(t, join(f"{path}.last", rig), -_LATEST, _LATEST) for rig, t in last.items()},
        tuple((time, int(count)) for time, count in recent),
    )


def _regret(part: Any, path: str) -> Regret:
    p = _fields(part, path, Regret)
    if not isinstance(p["spent"], bool):
        raise FieldError(f"{path}.spent", "true or false", p["spent"])
    lead = tuple(_pair(pair, f"{path}.lead") for pair in _listed(p["lead"], f"{path}.lead"))
    policy, rule = (_paper(p[key], f"{path}.{key}") for key in ("policy", "rule"))
    return Regret(policy, rule, lead, p["spent"])


def _paper(part: Any, path: str) -> Paper:
    p = _fields(part, path, Paper)
    book = _fields(p["book"], f"{path}.book", Book)
    places, usd = _texts(book["place"], f"{path}.book.place"), _usd(book["usd"], f"{path}.book.usd")
    return Paper(Book(places, usd), _moves(p["moves"], f"{path}.moves"))


def _texts(part: Any, path: str) -> dict[str, str]:
    found = entries(part, path)
    for name, value in found.items():
        if not isinstance(value, str):
            raise FieldError(join(path, name), "a network's name", value)
    return found


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise FieldError(path, "a text", value)
    return value


def _listed(part: Any, path: str) -> list[Any]:
    if not isinstance(part, list):
        raise FieldError(path, "a list", part)
    return part


def _pair(part: Any, path: str) -> tuple[float, float]:
    pair = _listed(part, path)
    if len(pair) != 2:
        raise FieldError(path, "pairs of numbers", pair)
    return number(pair[0], path, -_LATEST, _LATEST), _usd(pair[1], path)


def _usd(value: Any, path: str) -> float:
    return number(value, path, -1e300, 1e300)
