"""Paired scores: policies on the same worlds, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from agents.rules import Policy
from env.scenario import Scenario
from env.world import World, future

HOURS_PER_DAY = 24.0
TAIL_H = 120  # results are also reported without the episode's last hours
Floats = NDArray[np.float64]


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class EvaluationConfig:
    """How many worlds policies are compared on, and the knobs of the rules to compare with."""

    worlds: Annotated[int, Field(ge=2)]
    validation_worlds: Annotated[int, Field(ge=2)]
    resamples: Annotated[int, Field(ge=100)]
    tune_settings: Annotated[int, Field(ge=0)]
    tune_worlds: Annotated[int, Field(ge=2)]
    rules: dict[str, dict[str, float]]


@plain_dataclass(frozen=True)
class Score:
    """One policy on W worlds, each array float64 [W], per rig and day."""

    net_usd: Floats
    early_net_usd: Floats  # without the last TAIL_H hours
    moves: Floats
    illegal: Floats  # orders that the world did not carry out


def score_all(
    scenario: Scenario, policies: Mapping[str, Policy], seeds: list[int]
) -> dict[str, Score]:
    """Every policy in the same worlds: the exogenous part is simulated once and shared."""
    shared = future(scenario, seeds)
    return {
        name: score(World.start(scenario, seeds, shared), policy)
        for name, policy in policies.items()
    }


@torch.no_grad()
def score(world: World, policy: Policy) -> Score:
    """Live the fresh worlds of a batch to their end under a policy."""
    net, moves = [], torch.zeros(len(world.seeds), dtype=torch.float64, device=world.seeds.device)
    while not world.done:
        _, outcome = world.step(policy(world.observe()))
        net.append(outcome.net_usd.double().sum(-1))
        moves += outcome.moves.sum(-1)
    hourly = torch.stack(net).cpu().numpy()  # [T, W] USD
    early = hourly[: len(hourly) - TAIL_H] if len(hourly) > TAIL_H else hourly
    rigs = world.scenario.rig_count
    rig_days = len(hourly) / HOURS_PER_DAY * rigs
    return Score(
        net_usd=hourly.mean(0) * HOURS_PER_DAY / rigs,
        early_net_usd=early.mean(0) * HOURS_PER_DAY / rigs,
        moves=moves.cpu().numpy() / rig_days,
        illegal=world.state.illegal.double().cpu().numpy() / rig_days,
    )


def paired_interval(
    difference: Floats, resamples: int, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the mean of paired differences [W], over worlds.

    Efron: "Bootstrap methods: another look at the jackknife" (Annals of Statistics, 1979).
    """
    draws = np.random.default_rng(seed).integers(len(difference), size=(resamples, len(difference)))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(difference[draws].mean(1), (tail, 1.0 - tail))
    return float(low), float(high)


def summarise(scores: Mapping[str, Score], baseline: str, resamples: int) -> dict[str, Any]:
    """Figures of each policy, with its paired difference to the baseline, as plain data."""
    summary: dict[str, Any] = {}
    for name, one in scores.items():
        difference = one.net_usd - scores[baseline].net_usd
        low, high = paired_interval(difference, resamples)
        summary[name] = {
            "net_usd_rig_day": float(one.net_usd.mean()),
            f"net_usd_rig_day_without_last_{TAIL_H}_h": float(one.early_net_usd.mean()),
            "moves_rig_day": float(one.moves.mean()),
            "illegal_orders_rig_day": float(one.illegal.mean()),
            f"over_{baseline}": {
                "difference": float(difference.mean()),
                "low_95": low,
                "high_95": high,
            },
        }
    return summary


def as_csv(scores: Mapping[str, Score], seeds: list[int]) -> str:
    """One row for each policy and world."""
    lines = ["policy,seed,net_usd_rig_day,moves_rig_day,illegal_orders_rig_day"]
    for name, one in scores.items():
        rows = zip(seeds, one.net_usd, one.moves, one.illegal, strict=True)
        lines += [f"{name},{s},{n:.10g},{m:.10g},{i:.10g}" for s, n, m, i in rows]
    return "\n".join(lines) + "\n"
