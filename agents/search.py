"""Random search of a rule's knobs on paired worlds, cut short by successive halving.

Bergstra, Bengio: "Random Search for Hyper-Parameter Optimization" (JMLR 13, 2012); Jamieson,
Talwalkar: "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (AISTATS 2016).
Every setting lives the first few worlds, the better third goes on to three times as many, and so
on until the finalists have lived all. The worlds are the same for all settings, so what differs
between two of them is their knobs and not their luck.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from agents.rules import Policy, Rule
from env.exogenous import Exogenous
from env.scenario import Scenario
from env.world import World, future

Floats = NDArray[np.float64]
FIRST_WORLDS = 2  # lived by every setting
FACTOR = 3  # worlds grow and settings shrink by it from a rung to the next
ROWS = 128  # worlds that live side by side, of one setting or of several


@dataclass(frozen=True)
class Found:
    """The best setting of a rule and how it was found."""

    rule: Rule
    net_usd: float  # per rig-day, mean over `worlds`
    settings: int  # compared, the rule as it is among them
    worlds: int


def draw(rule: Rule, settings: int, seed: int = 0) -> list[Rule]:
    """The rule as it is and `settings` log-uniform draws of its knobs; alone if it has none."""
    kind, rng = type(rule), np.random.default_rng(seed)
    out = [rule]
    for _ in range(settings if kind.KNOBS else 0):
        logs = {knob: rng.uniform(*np.log(limits)) for knob, limits in kind.KNOBS.items()}
        out.append(kind(**{knob: float(np.exp(log)) for knob, log in logs.items()}))
    return out


def tune(rule: Rule, scenario: Scenario, seeds: list[int], settings: int, seed: int = 0) -> Found:
    """The best of the rule as it is and `settings` random ones, by net USD in all the worlds.

    The rule as it is takes part to the end: what is found is never worse there.
    """
    candidates = draw(rule, settings, seed)
    alive = list(range(len(candidates)))
    lived = np.zeros((len(candidates), 0))  # [settings, worlds so far]
    for start, stop in rungs(len(seeds), len(candidates)):
        block = seeds[start:stop]
        more = np.full((len(candidates), len(block)), np.nan)
        more[alive] = score_each([candidates[k] for k in alive], scenario, block)
        lived = np.concatenate((lived, more), 1)
        worth = lived[alive].mean(1)
        keep = -(-len(alive) // FACTOR) if stop < len(seeds) else 1
        order = [alive[k] for k in np.argsort(-worth, kind="stable")]
        best = order[:keep]
        alive = best if 0 in best or stop == len(seeds) else [*best, 0]
    return Found(candidates[alive[0]], float(lived[alive[0]].mean()), len(candidates), len(seeds))


def rungs(worlds: int, settings: int) -> list[tuple[int, int]]:
    """First and last world of each rung; a single setting lives all worlds at once."""
    ends = [FIRST_WORLDS]
    while ends[-1] * FACTOR < worlds:
        ends.append(ends[-1] * FACTOR)
    ends = [worlds] if settings == 1 or worlds <= FIRST_WORLDS else [*ends, worlds]
    return list(zip([0, *ends], ends, strict=False))


def score_each(rules: list[Rule], scenario: Scenario, seeds: list[int]) -> Floats:
    """Net USD per rig-day of each rule in each world, [rules, W].

    An hour's cost is mostly per operation, so few worlds of many settings of a rule live in one
    batch, each world with its own knobs, and cost little more than many worlds of one setting.
    """
    out = np.zeros((len(rules), len(seeds)))
    for first in range(0, len(seeds), ROWS):
        block = seeds[first : first + ROWS]
        shared, size = future(scenario, block), max(1, ROWS // len(block))
        kinds = [list(of_kind) for _, of_kind in groupby(rules, key=type)]
        groups = [kind[k : k + size] for kind in kinds for k in range(0, len(kind), size)]
        done = 0
        for group in groups:
            world = World.start(scenario, block * len(group), repeated(shared, len(group)))
            net = live(world, stacked(group, len(block)))
            rows = slice(done, done := done + len(group))
            out[rows, first : first + len(block)] = net.reshape(len(group), len(block))
    return out


@torch.inference_mode()
def live(world: World, policy: Policy) -> Floats:
    """Live fresh worlds to their end: net USD per rig-day of each, [B]."""
    start = world.state.equity_usd
    while not world.done:
        world.step(policy(world.observe()))
    rig_days = world.scenario.rig_count * world.scenario.horizon_h / 24.0
    return ((world.state.equity_usd - start) / rig_days).cpu().numpy()


def stacked(settings: list[Rule], worlds: int) -> Rule:
    """One rule for `worlds` worlds of each setting in turn; all settings are of one kind."""
    kind = type(settings[0])
    knobs = {knob: torch.tensor([getattr(rule, knob) for rule in settings]) for knob in kind.KNOBS}
    return kind(**{k: v.repeat_interleave(worlds)[:, None, None] for k, v in knobs.items()})


def repeated(exogenous: Exogenous, times: int) -> Exogenous:
    """The same worlds `times` over, along the dimension of worlds."""
    if times == 1:
        return exogenous
    tables = {f.name: getattr(exogenous, f.name) for f in fields(exogenous)}
    return replace(
        exogenous,
        **{name: t.repeat(1, times, *(1,) * (t.ndim - 2)) for name, t in tables.items()},
    )
