"""What a policy loses on a fleet and networks it has never seen, against one trained there.

    python benchmarks/zero_shot.py HOME AWAY --worlds 16

HOME and AWAY are run folders of `python train.py`, of which AWAY was trained in the scenario of the
comparison, that of its own configuration (`fleet=large network=extended`). Both policies, the best
tuned rule of that scenario and the bound live the same test worlds; the loss is the difference of
their gaps closed, with a bootstrap interval over these paired worlds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from agents.clairvoyant import clairvoyant
from agents.config import load_config
from agents.run_folder import read_config
from agents.scoring import futures, score
from agents.statistics import Floats, gap_closed, gap_interval, percentiles, resamples
from agents.training import load_policy
from agents.tuning import load_tuned
from agents.worlds import Split, make_scenario, world_seeds
from env.errors import InputError

RESAMPLES = 10_000


def scores(home: Path, away: Path, worlds: int) -> dict[str, Floats]:
    """Net USD per rig-day in each test world, [W], of both policies, the tuned rule and the bound.

    InputError where the rules of the scenario are not tuned yet (`evaluate.py tune=true`).
    """
    config, _ = load_config(read_config(away))
    scenario = make_scenario(config, Split.TEST)
    tuned = load_tuned(make_scenario(config, Split.TRAIN))
    if tuned is None:
        raise InputError("run", "a scenario whose rules are tuned", str(away))
    rule = tuned.rules[tuned.best]
    policies = {
        "home": load_policy(home, scenario),
        "away": load_policy(away, scenario),
        "tuned": rule,
        "start": tuned.rules["break_even"],
    }
    seeds = world_seeds(Split.TEST, worlds)
    parts = futures(scenario, seeds)
    found = {name: score(scenario, parts, policy) for name, policy in policies.items()}
    bound = np.concatenate([clairvoyant(scenario, *part, rule) for part in parts])
    return {
        **{name: one.net_usd for name, one in found.items()},
        "bound": bound / found["tuned"].rig_days,
    }


def table(net: dict[str, Floats]) -> str:
    """Each policy's profit and gap closed, and the loss, as Markdown."""
    tuned, bound = net["tuned"], net["bound"]
    draws = resamples(len(tuned), RESAMPLES)
    lines = ["| policy | USD per rig-day | gap closed | 95 % interval |", "|---|--:|--:|--:|"]
    for name in ("home", "away", "start", "tuned", "bound"):
        gap, (low, high) = (
            gap_closed(net[name], tuned, bound),
            gap_interval(net[name], tuned, bound, draws),
        )
        lines.append(f"| {name} | {net[name].mean():.3f} | {gap:.3f} | {low:.3f} to {high:.3f} |")
    lost, room = net["away"] - net["home"], bound - tuned
    low, high = percentiles(lost[draws].sum(1) / room[draws].sum(1))
    loss = float(lost.sum() / room.sum())
    lines += ["", f"loss of gap closed: {loss:.3f} ({low:.3f} to {high:.3f}), {len(tuned)} worlds"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("away", type=Path)
    parser.add_argument("--worlds", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(table(scores(given.home, given.away, given.worlds)))


if __name__ == "__main__":
    main()
