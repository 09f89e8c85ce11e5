"""Virtual fleets: what somebody's orders would have earned on the snapshots that were seen.

A book holds where each rig would stand and the profit so far. Books of the policy, the rule and the
orchestrator read the same snapshots and accounts, so they differ by their orders alone: energy is
in the account, housing would be the same for all and is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .accounting import Account, Ints
from .columns import NETWORKS, RIGS
from .snapshot import Snapshot


@dataclass(frozen=True)
class Book:
    """Where the rigs of a virtual fleet stand, by name, and what they have earned."""

    place: Mapping[str, str] = field(default_factory=dict)  # rig -> network
    usd: float = 0.0


def placed(book: Book, snapshot: Snapshot) -> Snapshot:
    """The snapshot as the virtual fleet would see it: its assignment, own work and own rigs, no
    price of leaving where a rig really is elsewhere. For the orders that it would be given."""
    at = _places(book, snapshot)
    rigs, networks = snapshot.rigs.copy(), snapshot.networks.copy()
    rigs[at != snapshot.assignment, [*RIGS].index("leaving_usd")] = 0.0
    count = len(snapshot.network_names)
    work = snapshot.work[np.arange(len(at)), at]
    networks[:, [*NETWORKS].index("own_work")] = np.bincount(at, work, count)
    networks[:, [*NETWORKS].index("own_rigs")] = np.bincount(at, minlength=count)
    return dataclasses.replace(snapshot, rigs=rigs, networks=networks, assignment=at)


def step(book: Book, snapshot: Snapshot, account: Account, orders: Ints, dt_h: float) -> Book:
    """The book after `dt_h` hours at its places, and then after the orders [R].

    The hours are paid at the present snapshot's `account.now`, an unknown yield as nothing. A move
    costs its entry; leaving costs what the snapshot says where the rig really stands there, and
    nothing elsewhere, as it is not known (assumption). An order that cannot be carried out is a
    hold. A rig that has vanished earns no more; a new one starts where it really is, unpaid for
    the hours before.
    """
    at = _places(book, snapshot)
    every = np.arange(len(at))
    here = np.fromiter((name in book.place for name in snapshot.rig_names), bool, len(at))
    paid = np.nan_to_num(account.now[every, at], nan=0.0, posinf=0.0, neginf=0.0)
    usd = book.usd + float(paid[here].sum()) * dt_h
    there = np.where(orders > 0, orders - 1, at)
    leaving = np.where(at == snapshot.assignment, snapshot.of("leaving_usd"), 0.0)
    cost = account.entering_usd[every, there] + leaving
    possible = (snapshot.work[every, there] > 0) & (snapshot.on("open")[there] > 0)
    moves = (there != at) & possible & np.isfinite(cost)
    usd -= float(cost[moves].sum())
    names = snapshot.network_names
    after = [names[n] for n in np.where(moves, there, at).tolist()]
    return Book(dict(zip(snapshot.rig_names, after, strict=True)), usd)


def _places(book: Book, snapshot: Snapshot) -> Ints:
    """Index of the network of each rig, [R]: in the book, or where it is if that is unknown."""
    index = {name: n for n, name in enumerate(snapshot.network_names)}
    real = snapshot.assignment.tolist()
    places = (
        index.get(book.place.get(rig, ""), n)
        for rig, n in zip(snapshot.rig_names, real, strict=True)
    )
    return np.fromiter(places, np.int64, len(real))
