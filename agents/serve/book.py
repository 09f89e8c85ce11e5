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

from .accounting import Account, Floats, Ints
from .columns import NETWORKS, RIGS
from .snapshot import Snapshot

FINANCING_A_YEAR = 0.12  # assumption: cost of capital, as in the simulator's economics
HOURS_A_YEAR = 8760.0
_LEAST_H = 1e-9


@dataclass(frozen=True)
class Book:
    """Where the rigs of a virtual fleet stand, by name, and what they have earned."""

    place: Mapping[str, str] = field(default_factory=dict)  # rig -> network
    usd: float = 0.0


def placed(book: Book, snapshot: Snapshot) -> Snapshot:
    """The snapshot as the virtual fleet would see it: its assignment, own work, own rigs and price
    of leaving (`_leaving_usd`). For the orders that it would be given."""
    at = _places(book, snapshot)
    rigs, networks = snapshot.rigs.copy(), snapshot.networks.copy()
    rigs[:, [*RIGS].index("leaving_usd")] = _leaving_usd(snapshot, at)
    count = len(snapshot.network_names)
    work = snapshot.work[np.arange(len(at)), at]
    networks[:, [*NETWORKS].index("own_work")] = np.bincount(at, work, count)
    networks[:, [*NETWORKS].index("own_rigs")] = np.bincount(at, minlength=count)
    return dataclasses.replace(snapshot, rigs=rigs, networks=networks, assignment=at)


def step(book: Book, snapshot: Snapshot, account: Account, orders: Ints, dt_h: float) -> Book:
    """The book after `dt_h` hours at its places, and then after the orders [R].

    The hours are paid at the present snapshot's `account.now`, an unknown yield as nothing. A move
    costs its entry and the price of leaving (`_leaving_usd`). An order that cannot be carried out
    is a hold. A rig that has vanished earns no more; a new one starts where it really is, unpaid
    for the hours before.
    """
    at = _places(book, snapshot)
    every = np.arange(len(at))
    here = np.fromiter((name in book.place for name in snapshot.rig_names), bool, len(at))
    paid = np.nan_to_num(account.now[every, at], nan=0.0, posinf=0.0, neginf=0.0)
    usd = book.usd + float(paid[here].sum()) * dt_h
    there = np.where(orders > 0, orders - 1, at)
    with np.errstate(invalid="ignore"):
        cost = account.entering_usd[every, there] + _leaving_usd(snapshot, at)
    possible = (snapshot.work[every, there] > 0) & (snapshot.on("open")[there] > 0)
    moves = (there != at) & possible & np.isfinite(cost)
    usd -= float(cost[moves].sum())
    names = snapshot.network_names
    after = [names[n] for n in np.where(moves, there, at).tolist()]
    return Book(dict(zip(snapshot.rig_names, after, strict=True)), usd)


def _leaving_usd(snapshot: Snapshot, at: Ints) -> Floats:
    """Price of leaving each rig's place, [R]: the snapshot's where the rig really stands there.

    Elsewhere it is expected. Of a lease `break_h` hours are lost, at most what is left of it: with
    no memory of its age, mean (1 - exp(-break / mean)) hours, and the published yield is the rate
    times the share of the time that is leased. The collateral costs capital until it is unlocked.
    """
    on = snapshot.on
    with np.errstate(all="ignore"):  # what cannot be computed is no price
        mean_h = np.maximum(on("lease_mean_h"), _LEAST_H)
        lost_h = on("lease") * mean_h * -np.expm1(-on("break_h") / mean_h)
        capital = on("unbonding_h") / HOURS_A_YEAR * FINANCING_A_YEAR  # per USD locked
        by_work = on("estimate_usd") * lost_h + on("collateral_usd") * capital  # [N]
        by_rig = on("rig_collateral_usd") * capital
        work = snapshot.work[np.arange(len(at)), at]
        expected = work * by_work[at] + by_rig[at]
    return np.where(at == snapshot.assignment, snapshot.of("leaving_usd"), expected)


def _places(book: Book, snapshot: Snapshot) -> Ints:
    """Index of the network of each rig, [R]: in the book, or where it is if that is unknown."""
    index = {name: n for n, name in enumerate(snapshot.network_names)}
    real = snapshot.assignment.tolist()
    places = (
        index.get(book.place.get(rig, ""), n)
        for rig, n in zip(snapshot.rig_names, real, strict=True)
    )
    return np.fromiter(places, np.int64, len(real))
