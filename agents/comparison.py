"""Policies in the same worlds, and what they are measured against: tuned rule and bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed

from agents.clairvoyant import clairvoyant
from agents.expected import expected_bound
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
    expected: Floats  # [W] on average, what foresight of all but leases cannot exceed
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


@dataclass(frozen=True)
class Part:
    """What some of the worlds gave, by policy."""

    scores: dict[str, Score]
    paths: dict[str, Path]
    regrets: dict[str, Regret]
    bound_usd: Floats  # [W] of the episode
    expected_usd: Floats  # [W] of the episode
    static: Floats  # [W]


def play(
    scenario: Scenario,
    subject: Mapping[str, Policy],
    tuned: Tuned,
    seeds: list[int],
    regret_worlds: int,
    workers: int,
    say: Say,
    rules: tuple[str, ...] | None = None,
) -> Comparison:
    """Let the subject, the tuned rules (or only those named) and the bound live the same worlds.

    Blocks of worlds are shared among `workers` processes, on a CPU; their number changes nothing.
    """
    named = tuned.rules if rules is None else {name: tuned.rules[name] for name in rules}
    policies: dict[str, Policy] = {**named, **subject}
    rival = tuned.rules[tuned.best]
    done, parts = 0, []
    say(f"scoring {len(policies)} policies in {len(seeds)} worlds")
    threads = torch.get_num_threads()
    jobs = [
        delayed(_part)(scenario, policies, rival, block, 0 if k else regret_worlds, threads)
        for k, block in enumerate(blocks(scenario, seeds))
    ]
    processes = min(workers, len(jobs)) if scenario.device.type == "cpu" else 1
    parallel = Parallel(processes, return_as="generator")
    for part in parallel(jobs):
        parts.append(part)
        done += len(part.static)
        say(f"scoring {len(policies)} policies: {done} of {len(seeds)} worlds done")
    rig_days = scenario.rig_count * scenario.horizon_h / HOURS_PER_DAY
    return Comparison(
        scenario=scenario,
        seeds=seeds,
        subject=tuple(subject),
        tuned=tuned,
        scores={name: join([part.scores[name] for part in parts]) for name in policies},
        paths=parts[0].paths,
        regrets=parts[0].regrets,
        bound=np.concatenate([part.bound_usd for part in parts]) / rig_days,
        expected=np.concatenate([part.expected_usd for part in parts]) / rig_days,
        static=np.concatenate([part.static for part in parts]),
    )


def _part(
    scenario: Scenario,
    policies: Mapping[str, Policy],
    rival: Policy,
    seeds: list[int],
    regret_worlds: int,
    threads: int,
) -> Part:
    """One block of worlds, simulated once for all policies; threads: of torch, as in the parent."""
    torch.set_num_threads(threads)
    shared = future(scenario, seeds)
    scores, paths, regrets = {}, {}, {}
    for name, policy in policies.items():
        world = World.start(scenario, seeds, shared)
        scores[name], path = follow(world, policy, regret_worlds)
        if regret_worlds:
            regrets[name], paths[name] = regret(world, path), path.first()
    return Part(
        scores=scores,
        paths=paths,
        regrets=regrets,
        bound_usd=clairvoyant(scenario, seeds, shared, rival),
        expected_usd=expected_bound(scenario, seeds, shared),
        static=best_static(scenario, seeds, shared),
    )
