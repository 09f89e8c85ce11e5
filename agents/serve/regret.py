"""The regret budget: what following the policy instead of the tuned rule may cost.

Two fleets on paper start where the real one stands. One follows the policy's orders, the other the
rule's, both under the guardrails and valued by the same accounting; a rig that somebody else moves
is moved in both. When the rule's lead over the trailing `WINDOW_H` hours exceeds the budget, the
rule decides for the real fleet, while the policy goes on on paper. It decides again once the lead
over the window is down to `RELEASE` of the budget: when its losses lie further back than the
window, or it has made up for them on paper.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection
from typing import NamedTuple

from .accounting import Account, Floats, Ints, Terms, value_moves
from .book import Book, Standing, moved, standing, step
from .closings import close, full
from .guardrails import Bars, Guardrails, apply
from .snapshot import Snapshot
from .state import HOUR_S, Paper, Regret

WINDOW_H = 168.0  # assumption: a week
RELEASE = 0.5  # assumption


class Fleet(NamedTuple):
    """A fleet on paper as an hour finds it."""

    paper: Paper
    stands: Standing  # by its book
    apart: bool  # it has other rigs than the real fleet, or they stand elsewhere or wait
    seen: Snapshot  # as it has it
    worth: Account

    @classmethod
    def of(
        cls,
        paper: Paper,
        seen: Snapshot,
        real: Snapshot,
        worth: Account,
        terms: Terms,
        g: Guardrails,
        absent: Collection[str] = (),
    ) -> Fleet:
        """In an hour of a snapshot; real, worth: as the real fleet has it, for which other networks
        may be full; absent: networks waited for."""
        stands = standing(paper.book.place, seen, absent)
        at, known, waits, _ = stands
        others = len(paper.book.place) != len(at) or not known.all() or bool(waits.any())
        others &= bool(paper.book.place)  # one that has no rigs yet begins where the real one is
        if (at == seen.assignment).all():
            return cls(paper, stands, others, real, worth)
        there = moved(seen, at)
        there = close(there, full(there, None, g)[0])
        return cls(paper, stands, True, there, value_moves(there, terms))

    def guarded(self, wanted: Ints, bars: Bars, history_h: Floats, g: Guardrails) -> Ints:
        """Of the orders that it is given, those that break no guardrail."""
        bars = bars._replace(rig_holds=bars.rig_holds | self.stands.waits)
        counters = self.paper.moves.counters(self.seen, history_h)
        return apply(wanted, self.seen, self.worth, bars, counters, g)[0]

    def after(self, orders: Ints, dt_h: float) -> Paper:
        """The fleet after `dt_h` hours at its places and these orders [R]."""
        book = step(self.paper.book, self.stands, self.seen, self.worth, orders, dt_h)
        names, time = self.seen.rig_names, self.seen.time
        ordered = {names[r]: time for r in orders.nonzero()[0].tolist()}
        return Paper(book, self.paper.moves.after(ordered, len(ordered), time))


def follow_real(regret: Regret, strays: dict[str, str]) -> Regret:
    """With the rigs that somebody else moved where they are, in both fleets."""
    if not strays:
        return regret
    policy, rule = (
        Paper(Book({**paper.book.place, **strays}, paper.book.usd), paper.moves)
        for paper in (regret.policy, regret.rule)
    )
    return Regret(policy, rule, regret.lead, regret.spent)


def settle(policy: Paper, rule: Paper, before: Regret, time: float, budget_usd: float) -> Regret:
    """The budget after an hour; a budget that is not known (NaN) changes nothing.

    The first window begins with the lead before the first orders, which cost something too."""
    lead_usd = rule.book.usd - policy.book.usd
    oldest = bisect_left(before.lead, (time - WINDOW_H * HOUR_S, -math.inf))
    lead = before.lead[oldest:] or ((time, before.rule.book.usd - before.policy.book.usd),)
    lost = lead_usd - lead[0][1]
    if time - lead[-1][0] >= HOUR_S:
        lead = (*lead, (time, lead_usd))
    spent = lost > RELEASE * budget_usd if before.spent else lost > budget_usd
    if math.isnan(budget_usd):
        spent = before.spent
    return Regret(policy, rule, lead, spent)


def lost_usd(regret: Regret) -> float:
    """By how much the rule has led over the window."""
    now = regret.rule.book.usd - regret.policy.book.usd
    return now - regret.lead[0][1] if regret.lead else 0.0
