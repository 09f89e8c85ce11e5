"""The rules that operators use today, and that a policy has to beat; they see what it sees.

A rule is a set of knobs and a function from the observation (tensors [B, ...]) to orders; what is
not worth a move is *hold*, order 0. `KNOBS` names each knob's range for the search in `search`.
Rules keep no memory of their own: the observation's averages are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.outlook import (
    Knob,
    Observation,
    Policy,
    Shown,
    attending,
    average_usd,
    energy_usd_h,
    entry_usd,
    gross_usd_h,
    here,
    move_where,
    net_usd_h,
    read,
)
from env.catalog import parse
from env.errors import InputError
from env.observation import EMA_H

__all__ = ["RULES", "SHIPPED", "Observation", "Policy", "Rule", "make_rule", "read"]

Ranges = Mapping[str, tuple[float, float]]
PERCENT = (1.0, 300.0)
AVERAGE_H = (EMA_H[0], EMA_H[-1])
HORIZON_H = (24.0, 720.0)
MARGIN = (0.01, 1.0)  # of the present yield, below which a gain is taken for noise
MARGINAL = (0.25, 1.0)
ATTENTION = (0.042, 1.0)  # from one hour of the day to all


@dataclass(frozen=True)
class Hold:
    """Stay, whatever happens."""

    KNOBS: ClassVar[Ranges] = {}

    def __call__(self, observation: Observation) -> Tensor:
        mask = observation["action_mask"]
        return torch.zeros(mask.shape[:2], dtype=torch.int64, device=mask.device)


@dataclass(frozen=True)
class Greedy:
    """Every hour, take the highest published estimate after energy, at any entry cost."""

    KNOBS: ClassVar[Ranges] = {}

    def __call__(self, observation: Observation) -> Tensor:
        value = read(observation, "pairs", "estimate_usd_h")
        return move_where(observation, value - here(observation, value))


@dataclass(frozen=True)
class PercentThreshold:
    """Move when the best published estimate beats the current one by `percent`."""

    percent: Knob = 10.0
    KNOBS: ClassVar[Ranges] = {"percent": PERCENT}

    def __call__(self, observation: Observation) -> Tensor:
        value = read(observation, "pairs", "estimate_usd_h")
        current = here(observation, value)
        return move_where(observation, value - current - self.percent / 100.0 * current.abs())


@dataclass(frozen=True)
class RainbowMiner:
    """RainbowMiner's switcher: the highest week's average, with a bonus for what is being mined.

    The price of the present network is raised by PoolSwitchingHysteresis (3 %), prices are moving
    averages of PoolStatAverageStable (a week), the cost of power is taken off, and nothing is left
    before MinimumMiningIntervals (one, of 60 s: shorter than our hour). Its discount on prices
    that fluctuate fades within an hour of the last switch, so it is left out here.
    RainbowMiner/RainbowMiner@3fe3632:README.md, "The Profit Switcher Beast"; Modules/Core.psm1.
    """

    percent: Knob = 3.0
    average_h: Knob = 168.0
    minimum_h: Knob = 1.0
    KNOBS: ClassVar[Ranges] = {
        "percent": PERCENT,
        "average_h": AVERAGE_H,
        "minimum_h": (1.0, 168.0),
    }

    def __call__(self, observation: Observation) -> Tensor:
        bonus = 1.0 + self.percent / 100.0 * read(observation, "pairs", "here")
        price = gross_usd_h(observation, average_usd(observation, self.average_h)) * bonus
        profit = price - energy_usd_h(observation)
        tenure_h = read(observation, "rigs", "tenure_h").unsqueeze(-1)
        young = (tenure_h > 0) & (tenure_h < self.minimum_h)
        young |= read(observation, "rigs", "provisioning_h").unsqueeze(-1) > 0
        gain = profit - here(observation, profit)
        return move_where(observation, gain.masked_fill(young, -torch.inf))


@dataclass(frozen=True)
class EmaHysteresis:
    """Move when the 48-hour average gains more in `horizon_h` than entering costs, and a margin.

    gain = horizon_h (ema - ema here - margin |ema here|) - entry cost, after average dilution.
    """

    horizon_h: Knob = 72.0
    margin: Knob = 0.05
    attention: Knob = 0.25
    KNOBS: ClassVar[Ranges] = {
        "horizon_h": HORIZON_H,
        "margin": MARGIN,
        "attention": ATTENTION,
    }

    def __call__(self, observation: Observation) -> Tensor:
        value = net_usd_h(observation, average_usd(observation, 48.0), 0.0)
        current = here(observation, value)
        entry = read(observation, "pairs", "entry_usd")
        gain = self.horizon_h * (value - current - self.margin * current.abs()) - entry
        return move_where(observation, attending(observation, self.attention, gain))


@dataclass(frozen=True)
class BreakEven:
    """Move to where the gain over staying pays each network's own entry cost back soonest enough.

    gain = break_even_h (value - value here - margin |value here|) - entry cost, on an average of
    any length, after marginal dilution, the hours lost in entering valued likewise.
    """

    break_even_h: Knob = 168.0
    average_h: Knob = 168.0
    margin: Knob = 0.05
    marginal: Knob = 0.8
    attention: Knob = 0.1
    KNOBS: ClassVar[Ranges] = {
        "break_even_h": HORIZON_H,
        "average_h": AVERAGE_H,
        "margin": MARGIN,
        "marginal": MARGINAL,
        "attention": ATTENTION,
    }

    def gain_usd(self, shown: Shown) -> Tensor:
        """What a move to each network is worth over the horizon, [B, R, N]; of `Seen` [B, N, R]."""
        average = average_usd(shown, self.average_h)
        value = net_usd_h(shown, average, self.marginal)
        current = here(shown, value)
        gain = self.break_even_h * (value - current - self.margin * current.abs())
        return gain - entry_usd(shown, value)

    def __call__(self, observation: Observation) -> Tensor:
        gain = self.gain_usd(observation)
        return move_where(observation, attending(observation, self.attention, gain))


@dataclass(frozen=True)
class CertaintyEquivalent:
    """Model-predictive control on a point forecast: the plan of one move that is worth most.

    Each yield goes from its 6-hour average to its 336-hour average with `half_life_h`; over
    `horizon_h` that is long + (short - long) (tau / H) (1 - exp(-H / tau)) on average. A move is
    worth the difference in the sum over the horizon less the entry cost, and is made when that
    exceeds `margin` of what staying is worth.
    """

    half_life_h: Knob = 48.0
    horizon_h: Knob = 240.0
    margin: Knob = 0.05
    marginal: Knob = 0.8
    attention: Knob = 0.1
    KNOBS: ClassVar[Ranges] = {
        "half_life_h": (6.0, 720.0),
        "horizon_h": HORIZON_H,
        "margin": MARGIN,
        "marginal": MARGINAL,
        "attention": ATTENTION,
    }

    def __call__(self, observation: Observation) -> Tensor:
        short, long = (average_usd(observation, length_h) for length_h in AVERAGE_H)
        ratio = torch.as_tensor(self.horizon_h / self.half_life_h * math.log(2.0))
        forecast = long + (short - long) * (-torch.expm1(-ratio) / ratio)
        value = net_usd_h(observation, forecast, self.marginal)
        stay = self.horizon_h * here(observation, value)
        gain = self.horizon_h * value - stay - self.margin * stay.abs()
        gain = gain - entry_usd(observation, value)
        return move_where(observation, attending(observation, self.attention, gain))


Rule = (
    Hold
    | Greedy
    | PercentThreshold
    | RainbowMiner
    | EmaHysteresis
    | BreakEven
    | CertaintyEquivalent
)
RULES: dict[str, type[Rule]] = {
    "hold": Hold,
    "greedy": Greedy,
    "percent_threshold": PercentThreshold,
    "rainbow_miner": RainbowMiner,
    "ema_hysteresis": EmaHysteresis,
    "break_even": BreakEven,
    "certainty_equivalent": CertaintyEquivalent,
}
SHIPPED: dict[str, Rule] = {  # as the common tools ship it, whatever the scenario
    "percent_3": PercentThreshold(3.0),
    "percent_5": PercentThreshold(5.0),
    "percent_10": PercentThreshold(10.0),  # MegaMiner 5.1, PERCENTTOSWITCH
    "percent_12": PercentThreshold(12.0),  # Hash Auger, minimum switch percent
    "rainbow_miner_shipped": RainbowMiner(),
}


def make_rule(name: str, knobs: Mapping[str, float], where: str = "rules") -> Rule:
    """The rule of that name with these knobs; an unknown rule or knob is an input error."""
    if name in SHIPPED:
        return SHIPPED[name]
    if name not in RULES:
        raise InputError(where, f"one of {', '.join((*RULES, *SHIPPED))}", name)
    kind = RULES[name]
    unknown = sorted(set(knobs) - set(kind.KNOBS))
    if unknown:
        raise InputError(f"{where}.{name}.{unknown[0]}", f"a knob ({', '.join(kind.KNOBS)})", None)
    return kind(**parse(dict[str, float], dict(knobs), f"{where}.{name}"))
