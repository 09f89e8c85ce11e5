"""Facts that are missing, old or cannot be: whom they hold, before anybody decides."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .columns import MARKET, NETWORKS, RIGS, Bools, Floats
from .document import MOST_HINTS, not_known
from .guardrails import Acted, Guardrails
from .snapshot import Snapshot


def feeds(snapshot: Snapshot, g: Guardrails, now: float) -> tuple[Bools, Bools, tuple[Acted, ...]]:
    """(rigs that hold [R], networks not entered [N], what acted), for facts that are missing or
    old at `now` (unix s). The rigs of a network without a feed hold: what they would leave for a
    better one is not known. Without the market's facts, or an old snapshot, all rigs hold."""
    hours_old = (now - snapshot.time) / 3600.0
    everyone: list[Acted] = []
    if not abs(hours_old) <= g.max_snapshot_age_h:
        text = f"snapshot is {_age(hours_old)}, limit {g.max_snapshot_age_h:g} h: all rigs hold"
        everyone.append(Acted("max_snapshot_age_h", None, None, text))
    if lacking := _lacking(MARKET, snapshot.market):
        everyone.append(Acted("missing", None, None, f"no number for {lacking}: all rigs hold"))
    barred, of_networks = _networks(snapshot, g, now)
    blind, of_rigs = _rigs(snapshot)
    holds = blind | barred[snapshot.assignment] | bool(everyone)
    return holds, barred, (*everyone, *of_networks, *of_rigs)


def _networks(snapshot: Snapshot, g: Guardrails, now: float) -> tuple[Bools, list[Acted]]:
    acted = []
    feed_h = (now - snapshot.observed) / 3600.0  # [N]
    stale = ~(np.abs(feed_h) <= g.max_feed_age_h)
    silent = ~np.isfinite(snapshot.networks).all(-1)
    for n in np.flatnonzero(stale | silent):
        name, kind = snapshot.network_names[n], "missing"
        why = f"no number for {_lacking(NETWORKS, snapshot.networks[n])}"
        if stale[n]:
            kind, why = "max_feed_age_h", f"feed is {_age(feed_h[n])}, limit {g.max_feed_age_h:g} h"
        text = f"{name}: {why}: it is not entered and its rigs hold"
        acted.append(Acted(kind, None, name, text))
    return stale | silent, acted


def _rigs(snapshot: Snapshot) -> tuple[Bools, list[Acted]]:
    """A rig that works where the catalogue knows no work of it is valued at nothing there, and
    would be sent to whatever else it can do, if only to be switched off."""
    names, work = snapshot.rig_names, snapshot.work
    known = np.isfinite(snapshot.rigs).all(-1) & np.isfinite(work).all(-1)
    idle = known & (work[np.arange(len(names)), snapshot.assignment] == 0)
    reasons = _strangers(snapshot, [names[r] for r in np.flatnonzero(idle).tolist()])
    acted = []
    for r in np.flatnonzero(~known | idle).tolist():
        why = f"no number for {_lacking(RIGS, snapshot.rigs[r]) or 'its work'}"
        if idle[r]:
            network = snapshot.network_names[snapshot.assignment[r]]
            reason = reasons.get(names[r], " (its `work` can say it)")
            why = f"no work of it is known on {network}, where it is{reason}"
        acted.append(Acted("missing", names[r], None, f"{names[r]}: {why}: it holds"))
    return ~known | idle, acted


def _strangers(snapshot: Snapshot, rigs: list[str]) -> dict[str, str]:
    """Of rigs whose GPU is in no catalogue: that it is not, and which may be meant."""
    gpus = {rig: snapshot.strangers[rig] for rig in rigs if rig in snapshot.strangers}
    known = snapshot.columns.rigs.catalog
    few = sorted({*gpus.values()})[:MOST_HINTS]
    told = {gpu: f" ({not_known(gpu, known)})" for gpu in few}
    return {rig: told.get(gpu, "") for rig, gpu in gpus.items()}


def _lacking(names: Iterable[str], values: Floats) -> str:
    return ", ".join(name for name, v in zip(names, values, strict=True) if not math.isfinite(v))


def _age(hours: float) -> str:
    return f"{hours:.2f} h old" if hours >= 0 else f"{-hours:.2f} h ahead of the clock"
