"""Networks that nobody may enter this hour, whatever they pay.

They are closed in the snapshot before anybody decides, so that a rig goes to the next best network
and does not ask for the same one hour after hour. `guardrails.apply` stops what enters one still.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .columns import NETWORKS, Bools, Floats
from .guardrails import Acted, Guardrails, known_for_long, room
from .snapshot import Ints, Snapshot

_OPEN = [*NETWORKS].index("open")


def closings(
    snapshot: Snapshot, barred: Bools, history_h: Floats, g: Guardrails
) -> tuple[Bools, tuple[Acted, ...]]:
    """(the networks that no fleet may enter [N], what acted): those on the deny list, those that
    are down, and those not known for long enough. Told is what some rig might have entered.

    barred [N]: of missing or old facts, which were told of already. history_h [N]: for which the
    averages have been fed.
    """
    denied = np.array([name in g.deny for name in snapshot.network_names])
    down = ~(snapshot.on("up") > 0)
    new = ~known_for_long(history_h, g)
    told = []
    if new[:-1].all() and len(new) > 1:
        hours = f"known for {history_h[:-1].max():.1f} h of {g.min_history_h:g} at most"
        told.append(Acted("min_history_h", None, None, f"no network is entered: {hours}"))
    concerned = (denied | down | new & bool(not told)) & ~barred & enterable(snapshot)
    for n in np.flatnonzero(concerned).tolist():
        if denied[n]:
            told.append(_closed(snapshot, n, "deny", "it is on the deny list"))
        elif down[n]:
            told.append(_closed(snapshot, n, "down", "it is down"))
        else:
            known = f"it is known for {history_h[n]:.1f} h of {g.min_history_h:g}"
            told.append(_closed(snapshot, n, "min_history_h", known))
    return denied | down | new | barred, tuple(told)


def full(
    snapshot: Snapshot, arriving: Ints | None, g: Guardrails
) -> tuple[Bools, tuple[Acted, ...]]:
    """(the networks at which a fleet has as many rigs as a cap lets it [N], what acted); arriving
    [N]: rigs that were ordered there and have not moved yet."""
    if g.max_network_share >= 1.0 and not g.max_network_rigs:
        return np.zeros(len(snapshot.network_names), bool), ()
    places = room(snapshot, arriving, g)
    none = places.left <= 0
    told = tuple(
        _closed(snapshot, n, places.limit[n], f"{places.cap[n]} rigs there at most")
        for n in np.flatnonzero(none & enterable(snapshot)).tolist()
    )
    return none, told


def enterable(snapshot: Snapshot) -> Bools:
    """The networks that are open and that a rig which stands elsewhere could work on, [N]."""
    able = snapshot.work > 0
    able[np.arange(len(able)), snapshot.assignment] = False
    return able.any(0) & (snapshot.on("open") > 0)


def close(snapshot: Snapshot, which: Bools) -> Snapshot:
    """The snapshot with networks [N] that take no new rigs."""
    if not (which & (snapshot.on("open") > 0)).any():
        return snapshot
    networks = snapshot.networks.copy()
    networks[which, _OPEN] = 0.0
    return dataclasses.replace(snapshot, networks=networks)


def _closed(snapshot: Snapshot, n: int, guardrail: str, why: str) -> Acted:
    network = snapshot.network_names[n]
    return Acted(guardrail, None, network, f"{network} is not entered: {why}")
