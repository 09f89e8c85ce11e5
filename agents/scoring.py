"""What a policy did in each of many worlds: profit by the hour, accounts by network, moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from agents.rules import Observation, Policy, read
from agents.statistics import Floats
from env.exogenous import Exogenous, Hour
from env.scenario import Scenario
from env.state import LEDGER, Outcome, per_network
from env.terms import at
from env.world import World, future

HOURS_PER_DAY = 24.0
TAIL_H = 120  # results are also reported without the episode's last hours
WORLDS_AT_ONCE, RIGS_AT_ONCE = 128, 8192  # that live together, to bound memory
MEASURED = (
    "provisioning_h",  # rig-hours between an order and the first work
    "down_h",  # rig-hours in which the rig, its site or its network was down or closed
    "idle_h",  # the other rig-hours without pay: waiting for a lease, warming up, switched off
    "estimated_usd",  # what the published yields promised the rigs, gross, for all their hours
    "gas_usd",  # the part of burn_usd that is transaction fees
    "leaving_usd",  # the part of penalty_usd and financing_usd that leaving cost: lease, unbonding
    "lost_usd",  # published net yield of the network entered x provisioning hours; in no account
)
ACCOUNTS = (*LEDGER, *MEASURED)


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class EvaluationConfig:
    """How many worlds policies are compared on, and how the rules to compare with are tuned."""

    worlds: Annotated[int, Field(ge=2)]
    validation_worlds: Annotated[int, Field(ge=2)]
    regret_worlds: Annotated[int, Field(ge=1, le=WORLDS_AT_ONCE)]
    workers: Annotated[int, Field(ge=1)]
    resamples: Annotated[int, Field(ge=100)]
    tune_settings: Annotated[int, Field(ge=0)]
    tune_worlds: Annotated[int, Field(ge=2)]


@plain_dataclass(frozen=True)
class Score:
    """One policy in W worlds of T hours with R rigs and N networks."""

    hourly_usd: Floats  # [T, W] net profit of the fleet
    accounts: Floats  # [W, len(ACCOUNTS), N] of the episode
    illegal: Floats  # [W] orders that the world did not carry out
    start_usd: Floats  # [W] equity at hour 0
    fleet: Floats  # [W] rigs

    def total(self, account: str) -> Floats:
        """An account over all networks, [W]."""
        return self.accounts[:, ACCOUNTS.index(account)].sum(-1)

    @property
    def rig_days(self) -> Floats:
        """[W]"""
        return self.fleet * (len(self.hourly_usd) / HOURS_PER_DAY)

    @property
    def net_usd(self) -> Floats:
        """Net USD per rig-day, [W]."""
        return self.hourly_usd.mean(0) * HOURS_PER_DAY / self.fleet

    @property
    def early_net_usd(self) -> Floats:
        """The same without the last TAIL_H hours, [W]."""
        hours = len(self.hourly_usd)
        early = self.hourly_usd[: hours - TAIL_H if hours > TAIL_H else hours]
        return early.mean(0) * HOURS_PER_DAY / self.fleet


@plain_dataclass(frozen=True)
class Path:
    """Where each rig was: what a regret is computed from."""

    start: NDArray[np.int64]  # [W, R] network before hour 0
    assignment: NDArray[np.uint8]  # [T, W, R] during the hour, after its moves
    moved: NDArray[np.bool_]  # [T, W, R] True where an order put it there in this hour

    def first(self) -> Path:
        """The path in the first world alone."""
        return Path(self.start[:1], self.assignment[:, :1].copy(), self.moved[:, :1].copy())


def blocks(scenario: Scenario, seeds: list[int]) -> list[list[int]]:
    """The seeds in parts whose worlds fit in memory together."""
    size = max(min(WORLDS_AT_ONCE, RIGS_AT_ONCE // scenario.rig_count), 1)
    return [seeds[k : k + size] for k in range(0, len(seeds), size)]


Future = tuple[list[int], Exogenous]  # seeds of a block of worlds, and what happens there


def futures(scenario: Scenario, seeds: list[int]) -> list[Future]:
    """The worlds of these seeds in blocks, simulated once for all policies that live them."""
    return [(block, future(scenario, block)) for block in blocks(scenario, seeds)]


def score(scenario: Scenario, worlds: Sequence[Future], policy: Policy) -> Score:
    """What a policy does in the worlds of `futures`, lived from hour 0 to their end."""
    return join([follow(World.start(scenario, *part), policy)[0] for part in worlds])


def join(parts: list[Score]) -> Score:
    """Scores of the same policy in several blocks of worlds as one."""
    return Score(
        hourly_usd=np.concatenate([p.hourly_usd for p in parts], 1),
        **{
            f.name: np.concatenate([getattr(p, f.name) for p in parts])
            for f in fields(Score)
            if f.name != "hourly_usd"
        },
    )


@torch.no_grad()
def follow(world: World, policy: Policy, worlds: int = 0) -> tuple[Score, Path]:
    """The score of a policy in fresh worlds, and the path of its rigs in the first of them."""
    rows, networks = len(world.seeds), world.scenario.network_count
    start = world.state
    hourly, places, moves = [], [], []
    measured = torch.zeros(
        rows, len(MEASURED), networks, dtype=torch.float64, device=world.seeds.device
    )
    while not world.done:
        seen = world.observe()
        before, lived = world.state, world.now
        _, outcome = world.step(policy(seen))
        placed = outcome.network  # not the state's: there a pruned rig is already out
        hourly.append(outcome.net_usd.double().sum(-1))
        spent = _measure(world, seen, placed, before.provisioning_h, outcome, lived)
        measured += per_network(spent.double(), placed.unsqueeze(1), networks)
        places.append(placed[:worlds].to(torch.uint8))
        moves.append(outcome.moves[:worlds] > 0)
    result = Score(
        hourly_usd=torch.stack(hourly).cpu().numpy(),
        accounts=torch.cat((world.state.ledger, measured), 1).cpu().numpy(),
        illegal=world.state.illegal.double().cpu().numpy(),
        start_usd=start.equity_usd.cpu().numpy(),
        fleet=np.full(rows, float(world.scenario.rig_count)),
    )
    path = Path(
        start=start.assignment[:worlds].cpu().numpy(),
        assignment=torch.stack(places).cpu().numpy(),
        moved=torch.stack(moves).cpu().numpy(),
    )
    return result, path


def _measure(
    world: World,
    seen: Observation,
    placed: Tensor,
    waited_h: Tensor,
    outcome: Outcome,
    lived: Hour,
) -> Tensor:
    """The hour's entries of MEASURED for each rig on its network `placed`, [B, len, R]."""
    quotes, rules, moved = lived.quotes, world.scenario.rules, outcome.moves
    runs = (quotes.up * quotes.open).gather(1, placed) * lived.rig_up
    left = torch.where(moved > 0, rules.provisioning_h[placed], waited_h)
    provisioning = runs * left.clamp(max=1.0)
    promised = read(seen, "pairs", "estimate_usd_h").gather(2, placed.unsqueeze(-1)).squeeze(-1)
    rows = (
        provisioning,
        1.0 - runs,
        (runs - provisioning - outcome.earning_h).clamp_min(0.0),
        quotes.estimate.gather(1, placed) * at(world.fleet.mass, placed),
        moved * rules.gas_usd[placed],
        moved * read(seen, "rigs", "leaving_usd"),
        provisioning * promised.clamp_min(0.0),
    )
    return torch.stack(rows, 1)
