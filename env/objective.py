"""What an hour is worth: profit, log growth of equity, or profit less a penalty on losses.

Only profit is a sum over rigs. Of the others, f(net of the fleet), each rig gets the part of its
own net: net_r f(net) / net, which sums to f(net) and is the integral of the rig's marginal worth
along the way from nothing to the fleet (Aumann and Shapley, "Values of Non-Atomic Games", 1974;
Euler's principle of capital allocation where f is homogeneous: Tasche, "Capital Allocation to
Business Units and Sub-Portfolios: the Euler Principle", 2007). A rig that loses in a bad hour bears
what its loss costs the fleet; split by nominal cost, it would bear one part in R of that and leave
a risk that the fleet should leave far too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from env.parsing import STRICT, NonNegative, Positive, parse, preset

_RUIN = 1e-3  # of the initial equity: the log of less is not taken


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

    net_usd [B, R], nominal_usd_h [B, R] cost of each rig, equity_usd [B] before the hour.
    """
    nominal = nominal_usd_h.sum(-1, keepdim=True)  # [B, 1]
    own = net_usd / nominal
    if objective.kind == "profit":
        return own
    return own * dollar_worth(objective, net_usd.sum(-1), nominal.squeeze(-1), equity_usd)[:, None]


def dollar_worth(
    objective: Objective, fleet_net_usd: Tensor, nominal_usd_h: Tensor, equity_usd: Tensor
) -> Tensor:
    """f(net) / net: what a dollar of the hour counts on average, [B]; all arguments [B]."""
    if objective.kind == "profit":
        return torch.ones_like(fleet_net_usd)
    if objective.kind == "downside":
        return torch.where(fleet_net_usd < 0, 1 + objective.downside_weight, 1.0)
    start = nominal_usd_h * (24.0 * objective.equity_days)
    before = equity_usd.clamp_min(_RUIN * start)
    growth = torch.maximum(1 + fleet_net_usd / before, _RUIN * start / before)
    # log(growth) / (growth - 1), to its limit of one, in the rounded growth that both share
    slope = torch.log(growth) / torch.where(growth == 1, 1.0, growth - 1)
    return torch.where(growth == 1, 1.0, slope) * start / before
