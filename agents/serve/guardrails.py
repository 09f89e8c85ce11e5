"""What no policy may do, whatever it answers: limits in NumPy that act after the network.

`clip` looks at a snapshot before the policy does, as `feeds` does, `apply` at its orders, always
last. None of them adds a move: what breaks a guardrail becomes a hold, and an `Acted` says so. The
limits on gaps, novelty and regret are settings here too; they act in the runtime, which remembers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .accounting import EMA_48H, Account, Bools, Floats, Ints
from .columns import NETWORKS
from .limits import SLACK_H, Guardrails, settings
from .snapshot import Snapshot

__all__ = [
    "Acted",
    "Bars",
    "Counters",
    "Guardrails",
    "apply",
    "clip",
    "settings",
]


class Acted(NamedTuple):
    """A guardrail that acted: which, on what, and a line for the log."""

    guardrail: str  # a field of Guardrails, "missing" for absent numbers, "down", "legal" or "feed"
    rig: str | None
    network: str | None
    text: str


class Bars(NamedTuple):
    """What the feeds forbid."""

    rig_holds: Bools  # [R] the rig stays where it is
    network_barred: Bools  # [N] nobody enters


@dataclass(frozen=True)
class Counters:
    """What the runtime remembers of the rigs and networks of a snapshot."""

    since_move_h: Floats  # [R] since the rig last moved, inf where no move is remembered
    history_h: Floats  # [N] for which the network's averages have been fed
    recent_moves: int  # ordered in the trailing hour
    arriving: Ints | None = None  # [N] rigs that were ordered there and have not moved yet
    on_way: Bools | None = None  # [R] those rigs


def clip(snapshot: Snapshot, memory: Floats, g: Guardrails) -> tuple[Snapshot, tuple[Acted, ...]]:
    """Cut estimates that are too good for their history, before policy and averages see them.

    memory [5, N]: the averages before this hour. A network that has never paid has no history to
    be cut by; it waits for `min_history_h`.
    """
    estimate, average = snapshot.on("estimate_usd"), memory[EMA_48H]
    with np.errstate(all="ignore"):
        most = g.estimate_clip * average
        high = (average > 0) & (estimate > most)
    if not high.any():
        return snapshot, ()
    networks = snapshot.networks.copy()
    networks[high, [*NETWORKS].index("estimate_usd")] = most[high]
    acted = (
        Acted(
            "estimate_clip",
            None,
            network := snapshot.network_names[n],
            f"{network}: estimate of {estimate[n]:.4g} USD/h cut to {most[n]:.4g}, "
            f"{g.estimate_clip:g} times its 48-hour average",
        )
        for n in np.flatnonzero(high)
    )
    return dataclasses.replace(snapshot, networks=networks), tuple(acted)


def apply(
    orders: Ints,
    snapshot: Snapshot,
    account: Account,
    bars: Bars,
    counters: Counters,
    g: Guardrails,
) -> tuple[Ints, tuple[Acted, ...]]:
    """The orders that break no guardrail, int64 [R], the others turned to hold; and what acted.

    Moves are admitted from the highest expected gain on. A cap counts the rigs that are on the
    network; one that leaves makes room once its own move is admitted.
    """
    rigs, networks = snapshot.work.shape
    given = _whole(orders, rigs, networks)
    wrong = np.flatnonzero(given < 0).tolist()
    acted = [_stopped(snapshot, "legal", r, None, "not an order") for r in wrong]
    rig = np.flatnonzero(given > 0)
    if not len(rig):
        return np.zeros(rigs, np.int64), tuple(acted)
    there = given[rig] - 1
    checks = _of_entering(snapshot, account, bars, counters, g)
    checks += _of_moving(snapshot, account, counters, g)
    for name, blocks, why in checks:
        stop = blocks(rig, there)
        if stop.any():
            for r, n in zip(rig[stop].tolist(), there[stop].tolist(), strict=True):
                acted.append(_stopped(snapshot, name, r, n, why(r, n)))
            rig, there = rig[~stop], there[~stop]
    tiebreak = snapshot.of("tiebreak")[rig]
    first = np.lexsort((tiebreak, -account.gain_usd[rig, there]))
    rig, there, full = _within_caps(rig[first], there[first], snapshot, counters, g)
    acted += full
    limit, most = _most_moves(rigs, g)
    left = max(0, most - counters.recent_moves)
    for r, n in zip(rig[left:].tolist(), there[left:].tolist(), strict=True):
        text = f"{most} moves an hour, and others gain more or came first"
        acted.append(_stopped(snapshot, limit, r, n, text))
    out = np.zeros(rigs, np.int64)
    out[rig[:left]] = there[:left] + 1
    return out, tuple(acted)


Blocks = Callable[[Ints, Ints], Bools]  # moves as rigs [K] and networks [K] -> those blocked [K]
Why = Callable[[int, int], str]  # a rig and a network -> the reason


Check = tuple[str, Blocks, Why]


def _of_entering(
    snapshot: Snapshot, account: Account, bars: Bars, counters: Counters, g: Guardrails
) -> tuple[Check, ...]:
    """The guardrails that look at one move at a time, in order: may its network be entered now?"""
    denied = np.array([name in g.deny for name in snapshot.network_names])
    known = known_for_long(counters.history_h, g)
    runs, works = snapshot.on("up") > 0, snapshot.of("up") > 0
    return (
        ("deny", lambda r, n: denied[n], lambda r, n: "it is on the deny list"),
        (
            "feed",
            lambda r, n: bars.rig_holds[r] | bars.network_barred[n],
            lambda r, n: "facts of the rig or of a network are missing or old",
        ),
        (
            "min_history_h",
            lambda r, n: ~known[n],
            lambda r, n: f"known for {counters.history_h[n]:.1f} h of {g.min_history_h:g}",
        ),
        (
            "down",
            lambda r, n: ~(runs[n] & works[r]),
            lambda r, n: "it is down" if runs[n] else "that network is down",
        ),
        ("legal", lambda r, n: ~account.legal[r, n], lambda r, n: _illegal(snapshot, r, n)),
    )


def _of_moving(
    snapshot: Snapshot, account: Account, counters: Counters, g: Guardrails
) -> tuple[Check, ...]:
    """And then: may the rig move so soon, and for so little?"""
    stood_h = _stood_h(snapshot, counters)
    on_way = np.zeros(len(stood_h), bool) if counters.on_way is None else counters.on_way
    entry, gain_h = account.entry_usd, account.gain_usd_h

    def unpaid(r: Ints, n: Ints) -> Bools:
        entry_usd, gain_usd_h = entry[r, n], gain_h[r, n]
        return ~((gain_usd_h >= 0) & (entry_usd <= g.max_payback_h * gain_usd_h))

    def late(r: int, n: int) -> str:
        return f"ordered {stood_h[r]:.1f} h ago and not seen there yet, of {g.max_gap_h:g}"

    return (
        ("max_gap_h", lambda r, n: on_way[r], late),
        (
            "min_dwell_h",
            lambda r, n: ~(stood_h[r] >= g.min_dwell_h - SLACK_H),
            lambda r, n: f"{stood_h[r]:.1f} h since its last move, of {g.min_dwell_h:g}",
        ),
        (
            "max_payback_h",
            unpaid,
            lambda r, n: _unpaid(entry[r, n], gain_h[r, n], g.max_payback_h),
        ),
    )


def known_for_long(history_h: Floats, g: Guardrails) -> Bools:
    """Whether networks [N] have been known for long enough to enter them; off needs no history."""
    known = history_h >= g.min_history_h - SLACK_H
    known[-1] = True
    return known


def _whole(orders: Any, rigs: int, networks: int) -> Ints:
    """Orders as integers in 0..N, -1 for whatever is none."""
    given = np.asarray(orders)
    if given.shape != (rigs,) or given.dtype.kind not in "iuf":
        return np.full(rigs, -1, np.int64)
    with np.errstate(invalid="ignore"):
        whole = given.astype(np.int64)
        return np.where((whole == given) & (whole >= 0) & (whole <= networks), whole, -1)


def _stopped(snapshot: Snapshot, name: str, r: int, n: int | None, why: str) -> Acted:
    rig = snapshot.rig_names[r]
    network = None if n is None else snapshot.network_names[n]
    to = "" if network is None else f" and does not move to {network}"
    return Acted(name, rig, network, f"{rig} holds{to}: {why}")


def _illegal(snapshot: Snapshot, r: int, n: int) -> str:
    if n == snapshot.assignment[r]:
        return "it is there already"
    if not snapshot.work[r, n] > 0:
        return "it is not eligible"
    return "its value is unknown" if snapshot.on("open")[n] > 0 else "closed to new rigs"


def _unpaid(entry_usd: float, gain_usd_h: float, most_h: float) -> str:
    if gain_usd_h < 0:
        return f"it would earn {-gain_usd_h:.4f} USD an hour less there"
    return f"{entry_usd:.2f} USD of entry, at {gain_usd_h:.4f} an hour not back in {most_h:g} h"


def _stood_h(snapshot: Snapshot, counters: Counters) -> Floats:
    """Hours since each rig began where it is, [R]: by our memory and by what the rig says, the
    shorter of the two. A rig that never worked there says nothing."""
    tenure = snapshot.of("tenure_h")
    said = np.where(tenure > 0, tenure, np.inf)
    said = np.where(snapshot.of("provisioning_h") > 0, 0.0, said)
    return np.minimum(counters.since_move_h, said)


def _within_caps(
    rig: Ints, there: Ints, snapshot: Snapshot, counters: Counters, g: Guardrails
) -> tuple[Ints, Ints, list[Acted]]:
    """Moves [K], best first -> those for which there is room, and what acted."""
    places = room(snapshot, counters.arriving, g)
    arriving = np.bincount(there, minlength=len(places.left))
    if not ((arriving > 0) & (arriving > places.left)).any():
        return rig, there, []
    acted, kept = [], np.ones(len(rig), bool)
    left = places.left.tolist()
    origin = snapshot.assignment[rig].tolist()
    for k, (r, n) in enumerate(zip(rig.tolist(), there.tolist(), strict=True)):
        if left[n] > 0:
            left[n], left[origin[k]] = left[n] - 1, left[origin[k]] + 1
            continue
        kept[k] = False
        why = f"{places.cap[n]} rigs there at most"
        acted.append(_stopped(snapshot, places.limit[n], r, n, why))
    return rig[kept], there[kept], acted


class Room(NamedTuple):
    """How many rigs networks may have, [N]."""

    cap: list[int]
    limit: list[str]  # the setting that binds
    left: Ints  # for how many more there is room


def room(snapshot: Snapshot, arriving: Ints | None, g: Guardrails) -> Room:
    """Room on each network; arriving [N]: rigs that were ordered there and have not moved yet."""
    rigs, names = len(snapshot.assignment), snapshot.network_names
    share = _share(g.max_network_share, rigs)
    by_share = [share] * (len(names) - 1) + [rigs]  # any share of a fleet may be off
    cap = [min(g.max_network_rigs.get(n, rigs), k) for n, k in zip(names, by_share, strict=True)]
    limit = [
        "max_network_rigs" if most < k else "max_network_share"
        for most, k in zip(cap, by_share, strict=True)
    ]
    left = np.array(cap) - np.bincount(snapshot.assignment, minlength=len(names))
    left -= 0 if arriving is None else arriving
    left[np.array(cap) >= rigs] = rigs  # where no limit binds
    return Room(cap, limit, left)


def _share(share: float, rigs: int) -> int:
    """A share of the rigs, of which at least one unless it is zero."""
    return max(1, int(share * rigs + 1e-9)) if share > 0 else 0


def _most_moves(rigs: int, g: Guardrails) -> tuple[str, int]:
    """The limit on moves in a trailing hour that binds, and its number."""
    share = _share(g.max_moves_share_h, rigs)
    if g.max_moves_h is not None and g.max_moves_h < share:
        return "max_moves_h", g.max_moves_h
    return "max_moves_share_h", share
