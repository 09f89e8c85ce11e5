"""What moves in a world: frozen dataclasses of tensors, B worlds, R rigs, N networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

LEDGER = (
    "tokens",  # native tokens received
    "gross_usd",  # their market value when earned, and fees paid in USD: the accrual mark
    "lockup_usd",  # discount for lack of marketability: accrual less this is the unlock mark
    "slippage_usd",  # lost in liquidation: unlock less this is the liquidation mark
    "energy_usd",
    "housing_usd",  # hosting of owned rigs, rent of rented rigs
    "burn_usd",  # registration burns and gas
    "penalty_usd",  # slashing, fault fees, broken leases
    "financing_usd",  # cost of capital on collateral, with its unbonding
    "capex_usd",  # depreciation of owned rigs; in the full cost, not in the profit
    "earning_h",  # rig-hours that earned
    "rig_h",  # rig-hours assigned
    "moves",
)
CHARGES = LEDGER[2:9]  # what is taken from gross to give the net profit
ENERGY, CASH, FULL = LEDGER[4:5], LEDGER[4:9], LEDGER[4:10]  # the three cost bases


@dataclass(frozen=True)
class Fleet:
    """The rigs of a batch of worlds; the leading dimension is 1 where all worlds share a fleet."""

    index: Tensor  # int64 [R] hash of the rig's id
    tiebreak: Tensor  # [R] in [0, 1), a hash of the id
    gpu: Tensor  # int64 [1|B, R]
    gpu_count: Tensor  # [1|B, R]
    site: Tensor  # int64 [1|B, R]
    owned: Tensor  # [1|B, R] 1 owned, 0 rented
    power_kw: Tensor  # [1|B, R] at full load, with the site's overhead
    housing_usd_h: Tensor  # [1|B, R] hosting, or rent at the catalogue's date
    capex_usd_h: Tensor  # [1|B, R] depreciation of owned rigs
    nominal_usd_h: Tensor  # [1|B, R] full cost per hour at the catalogue's date
    work: Tensor  # [1|B, R, N] work units supplied, for `rig` networks per rig
    score: Tensor  # [1|B, R, N] log of one GPU's work: the skill in a tournament
    mass: Tensor  # [1|B, R, N] work, in a tournament gpu_count * work_of_one ** concentration
    eligible: Tensor  # bool [1|B, R, N]
    tier: Tensor  # int64 [1|B, R, N]


@dataclass(frozen=True)
class State:
    """What the actions move; everything else is exogenous."""

    assignment: Tensor  # int64 [B, R] network of each rig
    provisioning_h: Tensor  # [B, R] hours until it can work
    tenure_h: Tensor  # [B, R] hours of work since provisioning ended
    score: Tensor  # [B, R] warm-up in [0, 1]
    lease_h: Tensor  # [B, R] hours left of the current lease, 0 = idle
    lease_rate: Tensor  # [B, R] USD or tokens per hour of the current lease
    idle_h: Tensor  # [B, R] hours waited for a lease
    log_surcharge: Tensor  # [B, N] own registrations' mark on the burn
    last_net_usd: Tensor  # [B, R] profit of the last hour
    last_gross_usd: Tensor  # [B, R]
    equity_usd: Tensor  # float64 [B]
    ledger: Tensor  # float64 [B, len(LEDGER), N]
    illegal: Tensor  # int64 [B] orders that were not executed


@dataclass(frozen=True)
class Outcome:
    """What one hour brought each rig, all [B, R]; USD unless said."""

    tokens: Tensor
    gross_usd: Tensor
    lockup_usd: Tensor
    slippage_usd: Tensor
    energy_usd: Tensor
    housing_usd: Tensor
    burn_usd: Tensor
    penalty_usd: Tensor
    financing_usd: Tensor
    capex_usd: Tensor
    earning_h: Tensor
    rig_h: Tensor
    moves: Tensor
    net_usd: Tensor
    network: Tensor  # int64, where it stood
    mass: Tensor  # what it put in that network's pool


@dataclass(frozen=True)
class Posting:
    """Where each rig stands and what it supplies this hour, after the moves; all [B, R]."""

    assignment: Tensor  # int64
    tier: Tensor  # int64 sub-pool
    moved: Tensor  # 1 if it moved this hour
    provisioning_h: Tensor  # left at the start of the hour
    up: Tensor  # 1 if the rig can work
    working: Tensor  # part of the hour it works
    score: Tensor  # warm-up in [0, 1], after this hour
    work: Tensor  # work units offered
    full_mass: Tensor  # mass in the pool if it were up and warm
    mass: Tensor  # mass in the pool


_SHARED = ("index", "tiebreak")  # fields of a fleet without a dimension of worlds


def take(fleet: Fleet, worlds: int) -> Fleet:
    """The same fleet with every shared [1, ...] tensor expanded to `worlds` rows, no copy."""
    return _rows(fleet, lambda t: t.expand(worlds, *t.shape[1:]))


def select(fleet: Fleet, rows: slice) -> Fleet:
    """The fleets of some of the worlds, views."""
    return _rows(fleet, lambda t: t[rows])


def _rows(fleet: Fleet, change: Callable[[Tensor], Tensor]) -> Fleet:
    names = [f.name for f in fields(Fleet) if f.name not in _SHARED]
    return replace(fleet, **{name: change(getattr(fleet, name)) for name in names})


def per_network(values: Tensor, assignment: Tensor, networks: int) -> Tensor:
    """Sum over rigs by network: values [..., B, R], assignment int64 [B, R] -> [..., B, networks].

    CUDA adds atomically in any order, so there the sum is a masked reduction instead.
    """
    index = assignment.expand(values.shape)
    if values.device.type == "cpu":
        out = values.new_zeros(*values.shape[:-1], networks)
        return out.scatter_add_(-1, index, values)
    rows = torch.arange(networks, device=values.device)
    return torch.where(index.unsqueeze(-1) == rows, values.unsqueeze(-1), 0).sum(-2)
