"""Policies in the same worlds, and what they are measured against: tuned rule and bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from agents.clairvoyant import clairvoyant
from agents.hindsight import Regret, regret
from agents.rules import Policy
from agents.scoring import HOURS_PER_DAY, Path, Score, blocks, follow, join
from agents.statistics import Floats
from agents.tuning import Tuned, best_static
from env.scenario import Scenario
from env.world import World, future

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """Scores of all policies in W paired worlds, USD per rig-day unless said."""

    scenario: Scenario
    seeds: list[int]
    subject: tuple[str, ...]  # the policies that the headline speaks of: one for each training seed
    tuned: Tuned
    scores: dict[str, Score]
    paths: dict[str, Path]  # in the first world alone
    regrets: dict[str, Regret]  # in the first worlds
    bound: Floats  # [W] what perfect foresight cannot exceed
    static: Floats  # [W] the best network of each rig in hindsight, never left

    @property
    def opponent(self) -> str:
        """The one rule that was best on training worlds: J_tuned."""
        return self.tuned.best

    def net(self, name: str) -> Floats:
        """[W]"""
        return self.scores[name].net_usd

    @property
    def ranked(self) -> list[str]:
        """All policies, the most profitable first."""
        return sorted(self.scores, key=lambda name: -self.net(name).mean())

    @property
    def subject_net(self) -> Floats:
        """[S, W], a row for each training seed."""
        return np.stack([self.net(name) for name in self.subject])


def play(
    scenario: Scenario,
    subject: Mapping[str, Policy],
    tuned: Tuned,
    seeds: list[int],
    regret_worlds: int,
    say: Say,
    rules: tuple[str, ...] | None = None,
) -> Comparison:
    """Let the subject, the tuned rules (or only those named) and the bound live the same worlds."""
    named = tuned.rules if rules is None else {name: tuned.rules[name] for name in rules}
    policies: dict[str, Policy] = {**named, **subject}
    scores: dict[str, list[Score]] = {name: [] for name in policies}
    regrets: dict[str, Regret] = {}
    paths: dict[str, Path] = {}
    bound, static, done = [], [], 0
    for block in blocks(scenario, seeds):
        say(f"scoring {len(policies)} policies: {done} of {len(seeds)} worlds done")
        shared = future(scenario, block)
        for name, policy in policies.items():
            world = World.start(scenario, block, shared)
            one, path = follow(world, policy, 0 if name in regrets else regret_worlds)
            scores[name].append(one)
            if regret_worlds and name not in regrets:
                regrets[name], paths[name] = regret(world, path), path.first()
        bound.append(clairvoyant(scenario, block, shared, tuned.rules[tuned.best]))
        static.append(best_static(scenario, block, shared))
        done += len(block)
    rig_days = scenario.rig_count * scenario.horizon_h / HOURS_PER_DAY
    joined = {name: join(parts) for name, parts in scores.items()}
    return Comparison(
        scenario=scenario,
        seeds=seeds,
        subject=tuple(subject),
        tuned=tuned,
        scores=joined,
        paths=paths,
        regrets=regrets,
        bound=np.concatenate(bound) / rig_days,
        static=np.concatenate(static),
    )
