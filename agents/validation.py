"""The worlds that checkpoints are chosen on: simulated once, scored often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from agents import statistics
from agents.clairvoyant import clairvoyant
from agents.outlook import Policy
from agents.scoring import Score, blocks, join, score
from agents.statistics import Floats
from agents.tuning import Tuned
from env.exogenous import Exogenous
from env.scenario import Scenario
from env.world import World, future


class Validated(NamedTuple):
    """What a policy did in the validation worlds."""

    net_usd_rig_day: float
    gap_closed: float | None  # None where the bound leaves no room above the tuned rule
    moves_rig_day: float


@dataclass(frozen=True)
class Validation:
    """W worlds, and what a policy is measured against there, USD per rig-day."""

    scenario: Scenario
    futures: list[tuple[list[int], Exogenous]]  # seeds and future of each block of worlds
    tuned: Floats  # [W] the one rule that was best on training worlds
    bound: Floats  # [W] what perfect foresight cannot exceed

    @classmethod
    def prepare(cls, scenario: Scenario, seeds: list[int], tuned: Tuned) -> Self:
        """Simulate the worlds of these seeds, and bound what can be earned in them."""
        rival = tuned.rules[tuned.best]
        futures = [(block, future(scenario, block)) for block in blocks(scenario, seeds)]
        rival_score = _live(scenario, futures, rival)
        bound = np.concatenate([clairvoyant(scenario, *part, rival) for part in futures])
        return cls(scenario, futures, rival_score.net_usd, bound / rival_score.rig_days)

    def score(self, policy: Policy) -> Validated:
        """Let a policy live the worlds."""
        lived = _live(self.scenario, self.futures, policy)
        gap = statistics.gap_closed(lived.net_usd, self.tuned, self.bound)
        return Validated(
            net_usd_rig_day=float(lived.net_usd.mean()),
            gap_closed=None if math.isnan(gap) else gap,
            moves_rig_day=float(lived.total("moves").sum() / lived.rig_days.sum()),
        )


def _live(scenario: Scenario, futures: list[tuple[list[int], Exogenous]], policy: Policy) -> Score:
    return join([score(World.start(scenario, *part), policy) for part in futures])
