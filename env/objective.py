"""What an hour is worth: profit, log growth of equity, or profit less a penalty on losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from env.parsing import STRICT, NonNegative, Positive, parse, preset


@dataclass(config=STRICT)
class Objective:
    """profit; log_growth: growth of log equity; downside: profit less a penalty on losses."""

    kind: Literal["profit", "log_growth", "downside"] = "profit"
    equity_days: Positive = 90.0  # initial equity in days of nominal cost
    downside_weight: NonNegative = 0.0  # extra weight of each dollar lost below zero


def load_objective(selection: str | Mapping[str, Any]) -> Objective:
    """A preset of `configs/objective` by name, or the same keys as a mapping."""
    data = preset("objective", selection) if isinstance(selection, str) else selection
    return parse(Objective, data, "objective")


def rewards(
    objective: Objective, net_usd: Tensor, nominal_usd_h: Tensor, equity_usd: Tensor
) -> Tensor:
    """Reward of each rig in units of the fleet's nominal hourly cost; their sum is the reward.

    net_usd [B, R], nominal_usd_h [B, R] cost of each rig, equity_usd [B] before the hour. For
    objectives that are not a sum over rigs, the difference to profit is a fleet term, split over
    the rigs in proportion to nominal cost.
    """
    nominal = nominal_usd_h.sum(-1, keepdim=True)  # [B, 1]
    own = net_usd / nominal
    if objective.kind == "profit":
        return own
    fleet_net = net_usd.sum(-1, keepdim=True)
    if objective.kind == "downside":
        term = -objective.downside_weight * torch.relu(-fleet_net) / nominal
    else:
        start = nominal * (24.0 * objective.equity_days)
        before = equity_usd.unsqueeze(-1).clamp_min(1e-3 * start)
        after = (before + fleet_net).clamp_min(1e-3 * start)
        term = (torch.log(after / before) * start - fleet_net) / nominal
    return own + term * (nominal_usd_h / nominal)
