"""A snapshot as it is decided on: with what is remembered of it, and what its moves are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .accounting import Account, Floats, Rule, Terms, terms, value_moves
from .book import named
from .closings import close, closings, full
from .guardrails import Acted, Bars, Counters, Guardrails, clip
from .model import remember, rewind
from .regret import Fleet, follow_real
from .snapshot import Snapshot
from .state import HOUR_S, Order, State


class Averages(NamedTuple):
    """The moving averages of each network's feed, [5, N]."""

    before: Floats  # up to the last hour, NaN where there are none
    memory: Floats  # with this hour in them
    fed_h: Floats  # [N] for which they were fed


class Case(NamedTuple):
    """What a decision takes of a snapshot and of the state before it."""

    base: State
    told: Snapshot  # as it was sent, with estimates cut
    seen: Snapshot  # with the networks closed that the fleet may not enter
    acted: tuple[Acted, ...]  # what cut and closed
    dt_h: float  # since the last snapshot
    averages: Averages
    terms: Terms
    worth: Account
    bars: Bars
    counters: Counters
    places: Mapping[str, str]  # rig -> network
    moved: Mapping[str, float]  # rig -> unix s, of the moves that the snapshot shows
    pending: Mapping[str, Order]  # by rig, which may be on its way
    led: Fleet  # the policy's on paper
    ruled: Fleet  # the rule's

    @classmethod
    def of(cls, base: State, seen: Snapshot, bars: Bars, rule: Rule, g: Guardrails) -> Case:
        """The case of a snapshot after the state `base`."""
        dt_h = 0.0 if base.time is None else (seen.time - base.time) / HOUR_S
        known, fed_h, brought = base.memory(seen, g.max_gap_h)
        cut, clipped = clip(seen, known, g)
        before, memory = known, remember(known, cut, dt_h)
        if brought.any():  # with this hour in them
            before = np.where(brought, rewind(known, cut, dt_h), known)
            memory = np.where(brought, known, memory)
        fed = np.isfinite(seen.on("estimate_usd")) & np.isfinite(seen.on("token_usd"))
        more_h = dt_h * (fed & (dt_h <= g.max_gap_h))
        fed_h = np.where(np.isfinite(known).all(0), fed_h + more_h, 0.0)
        places = named(cut, cut.assignment)
        moved, strays = base.moved(places, seen.time)
        pending = base.pending(places, seen.time, g.max_gap_h)
        counters = base.moves.counters(cut, fed_h, moved, pending)
        shut, closed = closings(cut, bars.network_barred, fed_h, g)
        of_any = close(cut, shut)
        crowded, filled = full(of_any, counters.arriving, g)
        mine = close(of_any, crowded)
        offered = terms(of_any, memory, rule)
        worth = value_moves(mine, offered)
        regret = follow_real(base.regret, {rig: places[rig] for rig in strays})
        absent = base.absent(seen, g.max_gap_h)
        return cls(
            base=base,
            told=cut,
            seen=mine,
            acted=(*clipped, *closed, *filled),
            dt_h=dt_h,
            averages=Averages(before, memory, fed_h),
            terms=offered,
            worth=worth,
            bars=bars,
            counters=counters,
            places=places,
            moved=moved,
            pending=pending,
            led=Fleet.of(regret.policy, of_any, mine, worth, offered, g, absent),
            ruled=Fleet.of(regret.rule, of_any, mine, worth, offered, g, absent),
        )
