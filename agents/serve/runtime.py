"""From a snapshot to a decision: the bundle's policy, what it remembers, and what holds it back.

The order of things: feeds that are missing or old, estimates too good to be true, averages, policy
or rule, guardrails, reasons. Whatever arrives is answered; only a snapshot that is wrong in a field
is refused, with a `FieldError`.
"""

from __future__ import annotations

import logging
import threading
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .accounting import Ints, Rule, rule_orders
from .bundle import Bundle, read_bundle
from .case import Case
from .columns import OFF
from .decision import HOLD, POLICY, RULE, Decision, Verdict, why_held
from .errors import NOTHING, FieldError
from .explain import explain
from .feeds import feeds
from .guardrails import Acted, Bars, Guardrails, apply, settings
from .model import Model
from .novelty import Training
from .regret import WINDOW_H, lost_usd, settle
from .rehearsal import rehearse
from .signature import verify
from .snapshot import Snapshot, parse
from .state import HOUR_S, Memory, Order, Regret, State
from .state_file import read, save

__all__ = ["Decision", "Policy"]

LOG = logging.getLogger(__name__)


class Policy:
    """A bundle's policy with its guardrails and its memory; safe to use from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        limits: Guardrails,
        folder: Path | None,
        *,
        shadow: bool = False,
    ):
        """Takes what `load` has checked; a FieldError is that of a saved state or the manifest."""
        self.bundle, self.limits = bundle, limits
        self._model, self._folder = model, folder
        self._rule = Rule.read(bundle.manifest["rule"])
        self._training = Training(bundle.manifest["training"])
        memory = Memory() if folder is None else read(folder, shadow=shadow)
        self._memory = memory.of_bundle(bundle.decides)
        self.unsaved = 0  # states that could not be saved
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        state_dir: Path | str | None = None,
        guardrails: Mapping[str, Any] | None = None,
        public_key: Path | str | None = None,
        signature: Path | str | None = None,
        *,
        shadow: bool = False,
    ) -> Policy:
        """Read, verify and rehearse a bundle.

        guardrails: the operator's, over the manifest's. public_key: verify the bundle's signature,
        by default in `<bundle>.sig` beside it. shadow: lead a fleet on paper. `BundleError` for a
        bundle that is not what its maker wrote or does not decide as it did there, `FieldError` for
        the other arguments.
        """
        read_in = read_bundle(bundle)
        if public_key is not None:
            beside = f"{str(bundle).rstrip('/')}.sig"
            verify(read_in.sums, Path(beside if signature is None else signature), Path(public_key))
        elif signature is not None:
            raise FieldError("signature", "a public key to verify it with", NOTHING)
        limits = settings(read_in.manifest["guardrails"], guardrails)
        for name in {*limits.deny, *limits.max_network_rigs} - {*read_in.columns.networks.catalog}:
            if name != OFF:  # it may come in a snapshot, or be misspelt
                LOG.warning("guardrails name %r, which is no network of the bundle's", name)
        model = Model(read_in.model)
        rehearse(read_in, model)
        folder = None if state_dir is None else Path(state_dir)
        return cls(read_in, model, limits, folder, shadow=shadow)

    def decide(
        self, snapshot: Mapping[str, Any] | str | bytes, now: float | None = None
    ) -> Decision:
        """What the fleet of a snapshot is to do; `FieldError` names the field that is wrong in it.

        now: unix s, by default the system's clock. A snapshot sent again is answered again, and
        counts once.
        """
        seen = parse(snapshot, self.bundle.columns)
        return self.answer(seen, clock.time() if now is None else now)

    def answer(self, seen: Snapshot, now: float) -> Decision:
        """The decision on a snapshot that was read; it raises nothing."""
        with self._lock:
            try:
                decision, state = self._decide(seen, now)
            except Exception as error:  # whatever it is, a fleet must not be left without an answer
                LOG.exception("decision failed")
                return self._held(seen, f"internal error: {error!r}", ())
            if state is not None:
                self._remember(state, seen)
            return decision

    def take_over(self, old: Policy) -> None:
        """Go on from what an earlier policy remembers; another bundle's regret starts anew."""
        with old._lock, self._lock:
            self._memory = old._memory.of_bundle(self.bundle.decides)
            self.unsaved = old.unsaved

    @property
    def regret(self) -> Regret:
        """As of the last decision."""
        return self._memory.after.regret

    def _remember(self, state: State, seen: Snapshot) -> None:
        self._memory = self._memory.then(self._memory.base(seen.time, seen.digest), state)
        if self._folder is not None:
            try:
                save(self._folder, self._memory)
            except OSError as error:  # the decision stands; a restart will hold for an hour
                self.unsaved += 1
                LOG.error("state not saved: %s", error)

    def _decide(self, seen: Snapshot, now: float) -> tuple[Decision, State | None]:
        """The decision and the state after it, None where the snapshot must not be remembered."""
        limits, base = self.limits, self._memory.base(seen.time, seen.digest)
        rig_holds, barred, acted = feeds(seen, limits, now)
        age_h = (now - seen.time) / HOUR_S
        if not abs(age_h) <= limits.max_snapshot_age_h:
            return self._held(seen, acted[0].text, acted), None
        if base.time is not None and seen.time <= base.time:
            late_h = (base.time - seen.time) / HOUR_S
            late = f"older by {late_h:.2f} h than one" if late_h else "of the same time as another"
            return self._held(seen, f"{late} that was seen before", acted), None
        case = Case.of(base, seen, Bars(rig_holds, barred), self._rule, limits)
        told, memory = case.told, case.averages.memory
        novelty, novelty_of = self._training.distance(told, memory, limits.deny)
        verdict = self._judge(case, novelty, novelty_of)
        verdict, wanted, asked = self._orders(verdict, case)
        orders, stopped = apply(wanted, case.seen, case.worth, case.bars, case.counters, limits)
        moves, near = explain(case.seen, case.terms, case.worth, orders)
        acted = (*acted, *case.acted, *stopped)
        regret = self._regret(case, orders, asked, verdict)
        state = self._next(case, seen.digest, orders, regret)
        decision = Decision(
            time=seen.time,
            bundle=self.bundle.manifest["bundle"],
            source=verdict.source,
            reason=verdict.reason,
            moves=moves,
            near_misses=near,
            holds=why_held(seen, orders, acted, verdict),
            acted=acted,
            novelty=novelty,
            novelty_of=novelty_of,
            regret_usd=lost_usd(state.regret),
        )
        return decision, state

    def _judge(self, case: Case, novelty: float, novelty_of: str) -> Verdict:
        """Who decides."""
        limits, base = self.limits, case.base
        before = case.averages.before[:, :-1]
        if before.size and not np.isfinite(before).any():
            return Verdict(HOLD, "first snapshot, and it brings no averages: all rigs hold")
        if case.dt_h > limits.max_gap_h:
            gap = f"nothing seen for {case.dt_h:.1f} h, limit {limits.max_gap_h:g}"
            return Verdict(HOLD, f"{gap}: all rigs hold")
        if novelty > limits.max_novelty:
            far = f"novelty {novelty:.2f}, limit {limits.max_novelty:g}: {novelty_of}"
            return Verdict(RULE, f"outside of training ({far})")
        if base.regret.spent:
            lost = f"{lost_usd(base.regret):.2f} USD behind the rule in {WINDOW_H:g} h"
            return Verdict(RULE, f"regret budget spent ({lost})")
        return Verdict(POLICY, "")

    def _orders(self, verdict: Verdict, case: Case) -> tuple[Verdict, Ints, Ints | None]:
        """(who orders, what for the real fleet, what the policy orders its fleet on paper) in spite
        of all guardrails; None where that one obeys the orders of the real fleet."""
        # While the rule leads, and after it has led, the policy's fleet stands elsewhere.
        apart = verdict.source != HOLD and (case.base.regret.spent or case.led.apart)
        fleets = [case.seen] * (verdict.source == POLICY) + [case.led.seen] * apart
        answers = self._model.run_all(fleets, case.averages.before, case.dt_h)
        nothing = np.zeros(len(case.seen.rig_names), np.int64)
        asked = None if not apart else nothing if answers[-1] is None else answers[-1]
        if verdict.source == POLICY:
            wanted = answers[0]
            if wanted is not None:
                return verdict, wanted, asked
            verdict = Verdict(RULE, "the policy's graph gave no answer")
        if verdict.source == RULE:
            return verdict, rule_orders(case.seen, case.worth, self._rule), asked
        return verdict, nothing, asked

    def _next(self, case: Case, digest: str, orders: Ints, regret: Regret) -> State:
        """What is remembered of a snapshot and its orders."""
        seen, base = case.seen, case.base
        names, networks = seen.rig_names, seen.network_names
        ordered = {
            names[r]: Order(networks[orders[r] - 1], seen.time)
            for r in orders.nonzero()[0].tolist()
        }
        return State(
            time=seen.time,
            feeds=base.fed(seen, case.averages.memory, case.averages.fed_h),
            places=case.places,
            orders={**case.pending, **ordered},
            moves=base.moves.after(case.moved, len(ordered), seen.time),
            regret=regret,
            digest=digest,
        )

    def _regret(self, case: Case, orders: Ints, asked: Ints | None, verdict: Verdict) -> Regret:
        """The two fleets on paper after this hour; time that nobody saw is not paid."""
        g, seen = self.limits, case.seen
        of_policy = of_rule = orders
        if asked is not None:
            of_policy = case.led.guarded(asked, case.bars, case.averages.fed_h, g)
        if verdict.source != HOLD:
            wanted = rule_orders(case.ruled.seen, case.ruled.worth, self._rule)
            of_rule = case.ruled.guarded(wanted, case.bars, case.averages.fed_h, g)
        seen_h = case.dt_h if case.dt_h <= g.max_gap_h else 0.0
        budget_usd = g.regret_budget_h * seen.at("nominal_usd_h")
        papers = case.led.after(of_policy, seen_h), case.ruled.after(of_rule, seen_h)
        return settle(*papers, case.base.regret, seen.time, budget_usd)

    def _held(self, seen: Snapshot, reason: str, acted: tuple[Acted, ...]) -> Decision:
        """Every rig holds, for one reason."""
        return Decision(
            time=seen.time,
            bundle=self.bundle.manifest["bundle"],
            source=HOLD,
            reason=reason,
            holds=dict.fromkeys(seen.rig_names, reason),
            acted=acted,
            regret_usd=lost_usd(self._memory.after.regret),
        )
