r"""What shadow mode says of a bundle beside the truth, in simulated worlds.

    python -m benchmarks.shadow BUNDLE FOLDER                              # that of docs/shadow.png
    python -m benchmarks.shadow BUNDLE FOLDER --orchestrator rule --fleet mixed --hours 480 \
        --worlds 8

An orchestrator leads the fleet of a world, and the bundle watches in shadow mode: its log goes to
FOLDER, for `evaluate.py shadow=`. In truth, the bundle leads the same world: so much more it earns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.cli import guarded
from agents.golden import clock
from agents.rules import PercentThreshold
from agents.serve.bundle import read_bundle
from agents.serve.errors import BundleError, FieldError
from agents.serve.runtime import Policy
from agents.serve.service import Service
from agents.serve.shadow import Shadow
from agents.shadow import Rehearsal, read_log
from agents.snapshots import Names, to_snapshot
from env.observation import column, derive, facts
from env.scenario import Scenario, build_scenario
from env.world import World

LEAST_H = 2  # a log pays from its first line to its last

Snapshot = dict[str, Any]
Lead = Callable[[World, Snapshot], Tensor]  # the orders of an hour, int64 [1, R]


def live(scenario: Scenario, seed: int, lead: Lead) -> float:
    """Net profit of a world under somebody's lead, USD a day."""
    world, usd = World.start(scenario, [seed]), 0.0
    names = Names.of(world, 0)
    for hour in range(scenario.horizon_h):
        known = facts(scenario, world.fleet, world.state, world.now, world.static)
        time = clock(float(known.market[0, column("market", "hour_of_day")]), hour)
        averages = None if hour else derive(known, world.memory, 1.0)[1]
        _, outcome = world.step(lead(world, to_snapshot(known, 0, names, time, averages)))
        usd += float(outcome.net_usd.sum())
    return 24.0 * usd / scenario.horizon_h


def led_by(policy: Policy) -> Lead:
    """A bundle's policy, guardrails and all."""

    def lead(world: World, snapshot: Snapshot) -> Tensor:
        time = datetime.fromisoformat(snapshot["time"]).timestamp()
        decided, names = policy.decide(snapshot, time).orders, Names.of(world, 0)
        place = {network: n + 1 for n, network in enumerate(names.networks)}
        return torch.tensor([[place[decided[r]] if r in decided else 0 for r in names.rigs]])

    return lead


def watched(lead: Lead, bundle: Path, log: Path) -> Lead:
    """An orchestrator whose snapshots a bundle in shadow mode sees, as they are sent."""
    log.unlink(missing_ok=True)
    service = Service(lambda: Policy.load(bundle, shadow=True), Shadow(log), simulated=True)

    def both(world: World, snapshot: Snapshot) -> Tensor:
        service.decide(json.loads(json.dumps(snapshot)))
        return lead(world, snapshot)

    return both


def compare(bundle: Path, log: Path, scenario: Scenario, seed: int, who: str) -> tuple[float, ...]:
    """What the bundle earns more than the orchestrator, USD a day: in truth, and by the log."""

    def orchestrator() -> Lead:
        if who == "rule":  # a bundle that is beyond its training at once
            return led_by(Policy.load(bundle, guardrails={"max_novelty": 0.0}))
        threshold = PercentThreshold(10.0)
        return lambda world, _: threshold(world.observe())

    theirs = live(scenario, seed, watched(orchestrator(), bundle, log))
    ours = live(scenario, seed, led_by(Policy.load(bundle)))
    return ours - theirs, told_usd_day(read_log(log))


def told_usd_day(told: Rehearsal) -> float:
    """What a log says that its bundle earns more, USD a day of the hours that it knows of: nobody
    is paid for those before its first line."""
    return 24.0 * float((told.ours.usd - told.theirs.usd).sum() / told.hours.sum())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Compare what shadow mode says with what a bundle earns where it leads."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, help="for the logs, shadow-SEED.jsonl")
    parser.add_argument("--orchestrator", choices=("threshold", "rule"), default="threshold")
    parser.add_argument("--fleet", default="small")
    parser.add_argument("--hours", type=int, default=960)
    parser.add_argument("--worlds", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.hours < LEAST_H:
        parser.error(f"--hours: expected at least {LEAST_H}, got {options.hours}")
    if options.worlds < 1:
        parser.error(f"--worlds: expected at least 1, got {options.worlds}")
    guarded(lambda: run(options), also=(BundleError, FieldError, OSError))


def run(options: argparse.Namespace) -> None:
    """Compare world after world, and print a line for each and the means."""
    torch.set_num_threads(1)
    read_bundle(options.bundle)  # before a world is led for nothing
    options.folder.mkdir(parents=True, exist_ok=True)
    scenario, told = build_scenario(options.fleet, horizon=options.hours), []
    for seed in range(options.worlds):
        log = options.folder / f"shadow-{seed}.jsonl"
        told.append(compare(options.bundle, log, scenario, seed, options.orchestrator))
        truth, shadow = told[-1]
        print(f"world {seed}: truth {truth:+8.1f}, shadow {shadow:+8.1f} USD a day", flush=True)
    truth, shadow = np.array(told).T
    apart = np.abs(truth - shadow).mean()
    print(f"mean: truth {truth.mean():+.1f}, shadow {shadow.mean():+.1f}, apart by {apart:.1f}")


if __name__ == "__main__":
    main()
