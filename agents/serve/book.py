"""Virtual fleets: what somebody's orders would have earned on the snapshots that were seen.

A book holds where each rig would stand and the profit so far. Books of the policy, the rule and the
orchestrator read the same snapshots and accounts, so they differ by their orders alone: energy is
in the account, housing would be the same for all and is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import numpy as np

from .accounting import Account, Bools, Floats, Ints
from .columns import NETWORKS, RIGS
from .snapshot import Snapshot

FINANCING_A_YEAR = 0.12  # assumption: cost of capital, as in the simulator's economics
HOURS_A_YEAR = 8760.0
_LEAST_H = 1e-9
_NOWHERE, _NEW, _WAITS = -1, -2, -3  # in place of a network's index
_LEAVING = [*RIGS].index("leaving_usd")
_OWN_WORK, _OWN_RIGS = map([*NETWORKS].index, ("own_work", "own_rigs"))


@dataclass(frozen=True)
class Book:
    """Where the rigs of a virtual fleet stand, by name, and what they have earned."""

    place: Mapping[str, str] = field(default_factory=dict)  # rig -> network
    usd: float = 0.0


class Standing(NamedTuple):
    """Where the rigs of a snapshot stand by somebody's book."""

    at: Ints  # [R] network; where the rig really is if that is unknown, `off` for one that waits
    known: Bools  # [R] whether the book has the rig
    waits: Bools  # [R] whether it stands on a network that the snapshot lacks for a while
    left: Mapping[str, str]  # rig -> network, of those that the snapshot lacks meanwhile too


def standing(
    place: Mapping[str, str], snapshot: Snapshot, absent: Collection[str] = ()
) -> Standing:
    """The places of a book, rig -> network, in the order of a snapshot.

    absent: networks that the snapshot lacks and that are waited for; a rig on one keeps its place.
    On any other that is not there, it stands where the real rig does. Rigs that really stand on a
    network without a row are left out with it, so the book keeps the places of those too.
    """
    index: dict[str | None, int] = dict.fromkeys(absent, _WAITS)
    index |= {name: n for n, name in enumerate(snapshot.network_names)}
    index[None] = _NEW
    found = map(index.get, map(place.get, snapshot.rig_names), repeat(_NOWHERE))
    at = np.fromiter(found, np.int64, len(snapshot.rig_names))
    known, waits = at != _NEW, at == _WAITS
    at = np.where(at < 0, snapshot.assignment, at)
    at[waits] = len(snapshot.network_names) - 1
    here = {*snapshot.rig_names} if absent else ()
    left = {rig: network for rig, network in place.items() if rig not in here} if absent else {}
    return Standing(at, known, waits, left)


def placed(book: Book, snapshot: Snapshot) -> Snapshot:
    """The snapshot as the virtual fleet of a book would see it."""
    return moved(snapshot, standing(book.place, snapshot).at)


def moved(snapshot: Snapshot, at: Ints) -> Snapshot:
    """The snapshot as a fleet would see it whose rigs stand at networks [R]: its assignment, own
    work, own rigs and price of leaving. For the orders that it would be given."""
    rigs, networks = snapshot.rigs.copy(), snapshot.networks.copy()
    work, count = snapshot.work[np.arange(len(at)), at], len(networks)
    rigs[:, _LEAVING] = _leaving_usd(snapshot, at, work)
    networks[:, _OWN_WORK] = np.bincount(at, work, count)
    networks[:, _OWN_RIGS] = np.bincount(at, minlength=count)
    return dataclasses.replace(snapshot, rigs=rigs, networks=networks, assignment=at)


def step(
    book: Book, stands: Standing, seen: Snapshot, account: Account, orders: Ints, dt_h: float
) -> Book:
    """The book after `dt_h` hours at its places, and then after the orders [R].

    seen, account: as its fleet has them (`moved`); stands: its `standing`. The hours are paid at
    the present snapshot's `paid_usd_h`, an unknown yield as nothing. A move costs its `entry_usd`.
    An order that cannot be carried out is a hold. A rig that has vanished earns no more; a new one
    starts where it really is, unpaid for the hours before. One that waits keeps its place, unpaid.
    """
    paid = np.where(np.isfinite(account.paid_usd_h), account.paid_usd_h, 0.0)
    paid = paid[stands.known & ~stands.waits]
    usd = book.usd + float(paid.sum()) * dt_h
    rig = (orders * ~stands.waits).nonzero()[0]
    there = orders[rig] - 1
    cost = account.entry_usd[rig, there]
    moves = (seen.work[rig, there] > 0) & (seen.on("open")[there] > 0) & np.isfinite(cost)
    usd -= float(cost[moves].sum())
    after = seen.assignment.copy()
    after[rig[moves]] = there[moves]
    place = {**stands.left, **named(seen, after)}
    for r in stands.waits.nonzero()[0].tolist():
        place[seen.rig_names[r]] = book.place[seen.rig_names[r]]
    return Book(place, usd)


def named(snapshot: Snapshot, at: Ints) -> dict[str, str]:
    """Places [R] by name: rig -> network."""
    places = map(snapshot.network_names.__getitem__, at.tolist())
    return dict(zip(snapshot.rig_names, places, strict=True))


def _leaving_usd(snapshot: Snapshot, at: Ints, work: Floats) -> Floats:
    """Price of leaving each rig's place, [R]: the snapshot's where the rig really stands there.

    Elsewhere it is expected. Of a lease `break_h` hours are lost, at most what is left of it: with
    no memory of its age, mean (1 - exp(-break / mean)) hours, and the published yield is the rate
    times the share of the time that is leased. The collateral costs capital until it is unlocked.
    work [R]: what each rig puts in there.
    """
    on = snapshot.on
    with np.errstate(all="ignore"):  # what cannot be computed is no price
        mean_h = np.maximum(on("lease_mean_h"), _LEAST_H)
        lost_h = on("lease") * mean_h * -np.expm1(-on("break_h") / mean_h)
        capital = on("unbonding_h") / HOURS_A_YEAR * FINANCING_A_YEAR  # per USD locked
        by_work = on("estimate_usd") * lost_h + on("collateral_usd") * capital  # [N]
        by_rig = on("rig_collateral_usd") * capital
        expected = work * by_work[at] + by_rig[at]
    return np.where(at == snapshot.assignment, snapshot.of("leaving_usd"), expected)
