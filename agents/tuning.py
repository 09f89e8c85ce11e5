"""Random search of a rule's knobs on training worlds, so that the opponent is an honest one.

Bergstra, Bengio: "Random Search for Hyper-Parameter Optimization" (JMLR 13, 2012).
"""

from __future__ import annotations

import numpy as np

from agents.rules import Rule
from agents.scoring import score
from env.scenario import Scenario
from env.world import World, future


def tune(rule: Rule, scenario: Scenario, seeds: list[int], settings: int, seed: int = 0) -> Rule:
    """The best of the rule as it is and `settings` log-uniform draws of its knobs, by net USD."""
    kind = type(rule)
    rng = np.random.default_rng(seed)
    candidates: list[Rule] = [rule]
    for _ in range(settings if kind.KNOBS else 0):
        logs = {knob: rng.uniform(*np.log(limits)) for knob, limits in kind.KNOBS.items()}
        candidates.append(kind(**{knob: float(np.exp(log)) for knob, log in logs.items()}))
    if len(candidates) == 1:
        return rule
    shared = future(scenario, seeds)
    worth = [score(World.start(scenario, seeds, shared), one).net_usd.mean() for one in candidates]
    return candidates[int(np.argmax(worth))]
