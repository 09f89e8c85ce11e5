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
from collections.abc import Callable

from .accounting import Account, Floats, Ints, Rule, account, rule_orders
from .book import Book, placed, step
from .guardrails import Bars, Guardrails, apply
from .snapshot import Snapshot
from .state import HOUR_S, Paper, Regret

WINDOW_H = 168.0  # assumption: a week
RELEASE = 0.5  # assumption
Ask = Callable[[Snapshot, Account], Ints]  # the orders of somebody for a fleet on paper


class Papers:
    """The papers of an hour: what both fleets saw, and how they go on."""

    def __init__(
        self, snapshot: Snapshot, memory: Floats, seen: Account, rule: Rule, dt_h: float
    ) -> None:
        """Of the real fleet's snapshot and account, `dt_h` hours after the last one."""
        self._snapshot, self._memory, self._seen = snapshot, memory, seen
        self._rule, self._dt_h = rule, dt_h
        self._places = places(snapshot)

    def follow(self, paper: Paper, ask: Ask, bars: Bars, history_h: Floats, g: Guardrails) -> Paper:
        """The fleet after the hours at its places and the orders that it is given."""
        there, worth = self._look(paper)
        counters = paper.moves.counters(there, history_h)
        orders, _ = apply(ask(there, worth), there, worth, bars, counters, g)
        return self._after(paper, there, worth, orders)

    def obey(self, paper: Paper, orders: Ints) -> Paper:
        """The fleet after the hours at its places and these orders [R]."""
        return self._after(paper, *self._look(paper), orders)

    def _look(self, paper: Paper) -> tuple[Snapshot, Account]:
        """Snapshot and account as a fleet on paper has them."""
        if paper.book.place == self._places:
            return self._snapshot, self._seen
        there = placed(paper.book, self._snapshot)
        return there, account(there, self._memory, self._rule)

    def _after(self, paper: Paper, there: Snapshot, worth: Account, orders: Ints) -> Paper:
        book = step(paper.book, there, worth, orders, self._dt_h)
        names = there.rig_names
        moved = {names[r]: there.time for r in orders.nonzero()[0].tolist()}
        return Paper(book, paper.moves.after(moved, len(moved), there.time))

    def rule(self, there: Snapshot, worth: Account) -> Ints:
        """The rule's orders for a fleet on paper."""
        return rule_orders(there, worth, self._rule)


def places(snapshot: Snapshot) -> dict[str, str]:
    """Where each rig really is."""
    names = snapshot.network_names
    at = snapshot.assignment.tolist()
    return {rig: names[n] for rig, n in zip(snapshot.rig_names, at, strict=True)}


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
    """The budget after an hour; a budget that is not known (NaN) changes nothing."""
    lead_usd = rule.book.usd - policy.book.usd
    oldest = time - WINDOW_H * HOUR_S
    lead = tuple(entry for entry in before.lead if entry[0] >= oldest)
    lost = lead_usd - lead[0][1] if lead else 0.0
    if not lead or time - lead[-1][0] >= HOUR_S:
        lead = (*lead, (time, lead_usd))
    spent = lost > RELEASE * budget_usd if before.spent else lost > budget_usd
    if math.isnan(budget_usd):
        spent = before.spent
    return Regret(policy, rule, lead, spent)


def lost_usd(regret: Regret) -> float:
    """By how much the rule has led over the window."""
    now = regret.rule.book.usd - regret.policy.book.usd
    return now - regret.lead[0][1] if regret.lead else 0.0
