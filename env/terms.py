"""The terms each rig works under: its network's rules and quotes, gathered once an hour."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from env.hour import Hour, Quotes
from env.rules import Rules


class Terms(NamedTuple):
    """Rules and quotes of the network each rig is on, float32 [B, R]; see `Rules` and `Quotes`."""

    active: Tensor
    provisioning_h: Tensor
    warmup_rate: Tensor
    concentration: Tensor
    lease: Tensor
    request: Tensor
    queue: Tensor
    lease_mean_h: Tensor
    standby_tokens: Tensor
    native: Tensor
    break_h: Tensor
    unbonding_h: Tensor
    collateral_per_work: Tensor
    collateral_per_rig: Tensor
    gas_usd: Tensor
    slash_per_h: Tensor
    fault_multiple: Tensor
    lockup: Tensor
    load: Tensor
    slots: Tensor
    score_sd: Tensor
    immunity_h: Tensor
    token_usd: Tensor
    outside_work: Tensor
    fee: Tensor
    fee_usd: Tensor
    up: Tensor
    open: Tensor
    registrations: Tensor


_FROM_QUOTES = tuple(name for name in Terms._fields if name in Quotes._fields)
_FROM_RULES = tuple(name for name in Terms._fields if name not in Quotes._fields)


def rule_table(rules: Rules) -> Tensor:
    """The rules that `terms` gathers, one row each: [len, N]."""
    return torch.stack([getattr(rules, name) for name in _FROM_RULES])


def terms(rule_table: Tensor, hour: Hour, assignment: Tensor) -> Terms:
    """Gather the terms of every rig; rule_table [len, N], assignment int64 [B, R]."""
    table = rule_table.unsqueeze(1).expand(-1, *hour.table.shape[::2])  # [len, B, N]
    rules = table.gather(2, assignment.expand(len(table), *assignment.shape)).unbind(0)
    index = assignment.unsqueeze(1).expand(-1, hour.table.shape[1], -1)
    quotes = Quotes(*hour.table.gather(2, index).unbind(1))
    return Terms(*rules, *(getattr(quotes, name) for name in _FROM_QUOTES))


def at(pairs: Tensor, assignment: Tensor) -> Tensor:
    """The entry of each rig's network: pairs [B, R, N], assignment [B, R] -> [B, R]."""
    return pairs.gather(2, assignment.unsqueeze(-1)).squeeze(-1)
