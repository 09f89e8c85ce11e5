"""The rules that operators use today, and that a policy has to beat; they see what it sees.

A rule is a set of knobs and a function from the observation (tensors [B, ...]) to orders; what is
not worth a move is *hold*, order 0. `KNOBS` names each knob's range for the search in `tuning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from env.catalog import parse
from env.errors import InputError
from env.observation import column

Observation = dict[str, Tensor]
Ranges = Mapping[str, tuple[float, float]]
Policy = Callable[[Observation], Tensor]  # observation [B, ...] -> orders int64 [B, R]


def read(observation: Observation, group: str, name: str) -> Tensor:
    """A named column of the observation: pairs [B, R, N], rigs [B, R], networks [B, N]."""
    return observation[group][..., column(group, name)]


def here(observation: Observation, values: Tensor) -> Tensor:
    """The values [B, R, N] at each rig's own network: [B, R, 1]."""
    return (values * read(observation, "pairs", "here")).sum(-1, keepdim=True)


def move_where(observation: Observation, gain: Tensor) -> Tensor:
    """Order each rig to the legal network of highest gain [B, R, N] where that is above zero."""
    legal = observation["action_mask"][..., 1:] > 0
    best, network = gain.masked_fill(~legal, -torch.inf).max(-1)  # [B, R]
    return torch.where(best > 0, network + 1, 0)


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

    percent: float = 10.0
    KNOBS: ClassVar[Ranges] = {"percent": (1.0, 300.0)}

    def __call__(self, observation: Observation) -> Tensor:
        value = read(observation, "pairs", "estimate_usd_h")
        current = here(observation, value)
        return move_where(observation, value - current - self.percent / 100.0 * current.abs())


@dataclass(frozen=True)
class EmaHysteresis:
    """Move when the average yield gains more in `horizon_h` than entering costs, and a margin.

    gain = horizon_h * (ema - ema here) - (1 + margin) * entry cost, on the 48-hour average after
    the dilution by the fleet's own work. Each rig looks only in `attention` of the day's hours, at
    its own time, so that a fleet does not crowd onto a thin network at once.
    """

    horizon_h: float = 72.0
    margin: float = 0.25
    attention: float = 0.25
    KNOBS: ClassVar[Ranges] = {
        "horizon_h": (6.0, 720.0),
        "margin": (0.03, 3.0),
        "attention": (0.042, 1.0),
    }

    def __call__(self, observation: Observation) -> Tensor:
        value = diluted_ema(observation)
        entry = read(observation, "pairs", "entry_usd")
        gain = self.horizon_h * (value - here(observation, value)) - (1.0 + self.margin) * entry
        day = read(observation, "market", "hour_of_day")[:, None, None] / 24.0
        phase = (read(observation, "rigs", "tiebreak").unsqueeze(-1) + day) % 1.0  # [B, R, 1]
        return move_where(observation, torch.where(phase < self.attention, gain, -torch.inf))


def diluted_ema(observation: Observation) -> Tensor:
    """Yield after energy on the 48-hour average, with the fleet's own work counted: [B, R, N]."""
    kept = 1.0 - read(observation, "networks", "lockup").unsqueeze(1)
    average = read(observation, "networks", "ema_48h_usd").unsqueeze(1)
    gross = average * kept * read(observation, "pairs", "work")
    dilution = read(observation, "pairs", "dilution")
    return read(observation, "pairs", "ema_usd_h") - gross * (1.0 - dilution)


Rule = Hold | Greedy | PercentThreshold | EmaHysteresis
RULES: dict[str, type[Rule]] = {
    "hold": Hold,
    "greedy": Greedy,
    "percent_threshold": PercentThreshold,
    "ema_hysteresis": EmaHysteresis,
}

SHIPPED: dict[str, Rule] = {  # as the common tools ship it, whatever the scenario
    f"percent_{percent:g}": PercentThreshold(percent) for percent in (3.0, 5.0, 10.0, 12.0)
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
