"""A batch of worlds that live hour by hour: the one holder of state, used by both environments."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from env.errors import InputError
from env.exogenous import Exogenous, Hour, simulate
from env.fleet import draw_fleet
from env.market import Prices, simulate_prices
from env.networks.allocation import use_of_supply
from env.objective import rewards
from env.observation import derive, facts, network_static, remember, rig_static
from env.scenario import BURN_IN_H, Scenario
from env.shocks import Stream, exponential, uniform, words
from env.state import CHARGES, LEDGER, Fleet, Outcome, State, take
from env.transition import step

Observation = dict[str, Tensor]
TENURE_H = 336.0  # assumption: mean hours a rig has been where it is at hour 0


@dataclass
class World:
    """B worlds of one scenario. `reset` starts them from seeds, `step` moves them by an hour."""

    scenario: Scenario
    seeds: Tensor  # int64 [B]
    fleet: Fleet
    exogenous: Exogenous
    state: State
    memory: Tensor  # [B, 5, N] moving averages up to the hour before
    hour: int = 0  # hours since the episode's start
    _now: tuple[int, Hour] | None = None  # the hour it is of, and its views

    @classmethod
    def start(
        cls, scenario: Scenario, seeds: list[int] | Tensor, exogenous: Exogenous | None = None
    ) -> World:
        """Fresh worlds at hour 0, after the burn-in that warms the averages."""
        rows = torch.as_tensor(seeds, dtype=torch.int64, device=scenario.device)
        if rows.ndim != 1 or len(rows) == 0:
            raise InputError("seeds", "a list of at least one seed", seeds)
        fleet = take(draw_fleet(scenario, rows), len(rows))
        future = simulate(scenario, fleet, rows) if exogenous is None else exogenous
        memory: Tensor | None = None
        for t in range(BURN_IN_H):
            q = future.at(t).quotes
            memory = remember(memory, q.estimate, q.token_usd, 1.0)
        assert memory is not None
        state = initial_state(scenario, fleet, rows, future.at(BURN_IN_H))
        return cls(scenario, rows, fleet, future, state, memory)

    @cached_property
    def static(self) -> tuple[Tensor, Tensor]:
        """The columns of the observation that never change within an episode."""
        return rig_static(self.scenario, self.fleet), network_static(self.scenario)

    @property
    def now(self) -> Hour:
        """The hour about to be lived, which the observation describes."""
        if self._now is None or self._now[0] != self.hour:
            self._now = self.hour, self.exogenous.at(BURN_IN_H + self.hour)
        return self._now[1]

    @property
    def done(self) -> bool:
        return self.hour >= self.scenario.horizon_h

    def observe(self) -> Observation:
        """What the agent sees now; looking changes nothing."""
        known = facts(self.scenario, self.fleet, self.state, self.now, self.static)
        return derive(known, self.memory, 1.0)[0]

    def step(self, orders: Tensor) -> tuple[Tensor, Outcome]:
        """Live an hour: orders int64 [B, R] in 0..N -> (reward of each rig [B, R], outcome)."""
        if self.done:
            raise InputError("step", f"an hour before the episode's end at {self.hour}", self.hour)
        equity, now = self.state.equity_usd.float(), self.now
        self.state, outcome = step(self.scenario, self.fleet, self.state, orders, now)
        self.memory = remember(self.memory, now.quotes.estimate, now.quotes.token_usd, 1.0)
        self.hour += 1
        nominal = self.fleet.nominal_usd_h
        return rewards(self.scenario.objective, outcome.net_usd, nominal, equity), outcome

    def ledger(self) -> dict[str, Tensor]:
        """Cumulative account by name, float64 [B, N] each, with the net profit."""
        table = dict(zip(LEDGER, self.state.ledger.unbind(1), strict=True))
        net = table["gross_usd"].clone()
        for name in CHARGES:
            net = net - table[name]
        return {**table, "net_usd": net}

    def save(self) -> dict[str, Any]:
        """Everything that cannot be recomputed from the seeds: tensors and the hour."""
        state = {f.name: getattr(self.state, f.name).clone() for f in fields(State)}
        return {"seeds": self.seeds.clone(), "hour": self.hour, "memory": self.memory, **state}

    @classmethod
    def restore(cls, scenario: Scenario, saved: dict[str, Any]) -> World:
        """The world as it was when saved; its exogenous part comes from the seeds again."""
        world = cls.start(scenario, saved["seeds"])
        world.state = State(**{f.name: saved[f.name].clone() for f in fields(State)})
        world.memory, world.hour = saved["memory"].clone(), saved["hour"]
        return world


def initial_state(scenario: Scenario, fleet: Fleet, seeds: Tensor, hour: Hour) -> State:
    """Where the rigs stand at hour 0: on a random eligible network, some of them leased."""
    rules, q = scenario.rules, hour.quotes
    zero = torch.zeros_like(fleet.index)
    w = words(seeds[:, None], Stream.INITIAL, fleet.index, zero)  # [B, R]
    allowed = (fleet.eligible & (q.open.unsqueeze(1) > 0) & (rules.active > 0)).float()
    # a uniform choice that does not depend on the networks' order: the largest hashed key wins
    tag = words(seeds[:, None, None], Stream.INITIAL, rules.index, fleet.index[:, None])[0]
    assignment = torch.where(allowed > 0, uniform(tag) + 1.0, 0.0).argmax(-1)
    nowhere = allowed.sum(-1) == 0
    assignment = torch.where(nowhere, scenario.network_count - 1, assignment)
    pick = assignment.unsqueeze(-1)
    use = use_of_supply(q.demand_work, q.outside_work, scenario.economics.utilisation_cap)
    use, fee = (
        torch.stack((use, q.fee), 1).gather(2, assignment.unsqueeze(1).expand(-1, 2, -1)).unbind(1)
    )
    leased = (uniform(w[0]) < use) & (rules.lease[assignment] > 0)
    left = (exponential(w[1]) * rules.lease_mean_h[assignment]).clamp_min(1.0)
    rate = fee * fleet.work.gather(2, pick).squeeze(-1)
    nothing = torch.zeros_like(rate)
    worlds, n = len(seeds), scenario.network_count
    nominal = fleet.nominal_usd_h.sum(-1).expand(worlds).double()
    return State(
        assignment=assignment,
        provisioning_h=nothing,
        tenure_h=exponential(w[2]) * TENURE_H,
        score=rules.active[assignment],
        lease_h=torch.where(leased, left, nothing),
        lease_rate=torch.where(leased, rate, nothing),
        idle_h=nothing,
        log_surcharge=torch.zeros(worlds, n, device=seeds.device),
        last_net_usd=nothing,
        last_gross_usd=nothing,
        equity_usd=nominal * 24.0 * scenario.objective.equity_days,
        ledger=torch.zeros(worlds, len(LEDGER), n, dtype=torch.float64, device=seeds.device),
        illegal=torch.zeros(worlds, dtype=torch.int64, device=seeds.device),
    )


def future(scenario: Scenario, seeds: list[int] | Tensor) -> Exogenous:
    """The exogenous future of given seeds: perfect information, for bounds and research only."""
    rows = torch.as_tensor(seeds, dtype=torch.int64, device=scenario.device)
    return simulate(scenario, take(draw_fleet(scenario, rows), len(rows)), rows)


def observe_from_history(
    scenario: Scenario, seeds: list[int] | Tensor, orders: list[Tensor]
) -> Observation:
    """The observation after `orders`, from a history that ends there.

    Nothing later than the present hour is ever computed, prices apart: they are realised for the
    whole episode (a replay fills the hours between recorded closes) and then cut. Equality with the
    observation of a running world proves that no observation looks ahead.
    """
    rows = torch.as_tensor(seeds, dtype=torch.int64, device=scenario.device)
    fleet = take(draw_fleet(scenario, rows), len(rows))
    prices = simulate_prices(scenario.market, rows)
    cut = BURN_IN_H + len(orders) + 1
    known = Prices(**{f.name: getattr(prices, f.name)[:cut].clone() for f in fields(Prices)})
    past = simulate(scenario, fleet, rows, hours=len(orders), prices=known)
    world = World.start(scenario, rows, exogenous=past)
    observation = world.observe()
    for order in orders:
        world.step(order)
        observation = world.observe()
    return observation
