"""The worlds that checkpoints are chosen on: simulated once, scored often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from agents import statistics
from agents.clairvoyant import clairvoyant
from agents.outlook import Policy
from agents.scoring import Future, futures, score
from agents.statistics import Floats
from agents.tuning import Tuned
from env.scenario import Scenario


class Validated(NamedTuple):
    """What a policy did in the validation worlds."""

    net_usd_rig_day: float
    gap_closed: float | None  # None where the bound leaves no room above the tuned rule
    moves_rig_day: float


@dataclass(frozen=True)
class Validation:
    """W worlds, and what a policy is measured against there, USD per rig-day."""

    scenario: Scenario
    futures: list[Future]
    tuned: Floats  # [W] the one rule that was best on training worlds
    bound: Floats  # [W] what perfect foresight cannot exceed

    @classmethod
    def prepare(cls, scenario: Scenario, seeds: list[int], tuned: Tuned) -> Self:
        """Simulate the worlds of these seeds, and bound what can be earned in them."""
        rival = tuned.rules[tuned.best]
        worlds = futures(scenario, seeds)
        lived = score(scenario, worlds, rival)
        bound = np.concatenate([clairvoyant(scenario, *part, rival) for part in worlds])
        return cls(scenario, worlds, lived.net_usd, bound / lived.rig_days)

    def score(self, policy: Policy) -> Validated:
        """Let a policy live the worlds."""
        lived = score(self.scenario, self.futures, policy)
        gap = statistics.gap_closed(lived.net_usd, self.tuned, self.bound)
        return Validated(
            net_usd_rig_day=float(lived.net_usd.mean()),
            gap_closed=None if math.isnan(gap) else gap,
            moves_rig_day=float(lived.total("moves").sum() / lived.rig_days.sum()),
        )
