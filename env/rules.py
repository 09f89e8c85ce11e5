"""The networks' rules as tensors, built from the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from env import catalog
from env.catalog import Network
from env.economics import Economics, reference_cost, total_vol, utilisation, work_of
from env.errors import InputError
from env.networks.vesting import lockup_discount
from env.shocks import name_hashes

__all__ = ["OFF", "Economics", "Rules", "build_rules", "total_vol", "work_of"]

OFF = catalog.Network(
    name=catalog.OFF_NAME,
    kind="floor",
    token=None,
    reference_gpu="",
    work=catalog.Work(kind="rig"),
    target_margin=0.0,
    load=0.0,
    commitment=catalog.Commitment(provisioning_h=0.0),
    risk=catalog.Risk(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)


@dataclass(frozen=True)
class Rules:
    """The networks' parameters, float32 [N] unless a shape says otherwise; the last is *off*."""

    index: Tensor  # int64, name hash for the shocks
    token: Tensor  # int64, row in Scenario.token_names
    native: Tensor  # 1 if fees are paid in the token (pegged or not)
    fee_in_token: Tensor  # 1 if the fee's price itself is in tokens
    fee_spread: Tensor
    twap_h: Tensor
    tier_share: Tensor  # [N, 2] of the pool
    cap_usd: Tensor  # pay per work unit and hour, inf = none
    wallet_free: Tensor
    wallet_decay: Tensor
    wallet_share: Tensor
    concentration: Tensor
    slots: Tensor  # 0 = not a tournament
    score_sd: Tensor
    immunity_h: Tensor
    registrations_per_h: Tensor
    lease: Tensor  # 1 if demand comes as leases
    request: Tensor  # 1 if demand comes as metered requests
    fee: Tensor  # price per work unit and hour in use after the take rate, USD or tokens
    utilisation: Tensor  # of outside work at hour 0
    outside_work: Tensor  # of networks without emission, at hour 0
    demand_sd: Tensor
    lease_mean_h: Tensor
    queue: Tensor  # 1 if waiting shortens the wait (fifo, rotation)
    standby_tokens: Tensor
    break_h: Tensor
    rent_elasticity: Tensor
    provisioning_h: Tensor
    warmup_h: Tensor
    warmup_rate: Tensor  # 1 - exp(-1 h / warmup_h)
    burn_tokens: Tensor
    burn_max_tokens: Tensor  # inf = none
    burn_step: Tensor
    burn_half_life_h: Tensor
    gas_usd: Tensor
    collateral_per_work: Tensor  # tokens
    collateral_per_rig: Tensor  # tokens
    unbonding_h: Tensor
    lockup: Tensor  # Finnerty's discount on tokens received
    slash_per_h: Tensor
    fault_multiple: Tensor
    load: Tensor
    active: Tensor  # 0 for *off*
    reference_cost: Tensor  # USD per work unit and hour of the reference GPU, full cost
    margin: Tensor  # target gross margin of outside work
    entry_per_h: Tensor
    outages_per_h: Tensor
    outage_mean_h: Tensor
    rule_changes_per_h: Tensor
    rule_change_sd: Tensor
    deaths_per_h: Tensor
    unlaunched: Tensor
    lag_h: Tensor
    estimate_sd: Tensor
    spikes_per_h: Tensor
    stops_per_h: Tensor


def build_rules(
    networks: tuple[Network, ...],
    tokens: dict[str, catalog.Token],
    gpus: dict[str, catalog.GpuModel],
    sites: dict[str, catalog.Site],
    economics: Economics,
    device: torch.device,
) -> Rules:
    rows = [_row(n, tokens, gpus, sites, economics) for n in networks]
    columns: dict[str, Tensor] = {
        "index": name_hashes([n.name for n in networks], device),
        "token": torch.tensor([list(tokens).index(n.token or "USD") for n in networks]).to(device),
    }
    for f in fields(Rules):
        if f.name not in columns:
            values = np.array([row[f.name] for row in rows], dtype=np.float64)
            columns[f.name] = torch.tensor(values, dtype=torch.float32, device=device)
    return Rules(**columns)


def _row(
    n: Network,
    tokens: dict[str, catalog.Token],
    gpus: dict[str, catalog.GpuModel],
    sites: dict[str, catalog.Site],
    economics: Economics,
) -> dict[str, Any]:
    """One network's parameters by the names of `Rules`."""
    e, d, c, r = n.emission, n.demand, n.commitment, n.risk
    cost = reference_cost(n, gpus, sites, tokens, economics)
    fee = d.price_per_work_h * (1 - d.take_rate) if d else 0.0
    row: dict[str, Any] = {
        "native": float(d is not None and d.paid_in != "usd"),
        "fee_in_token": float(d is not None and d.paid_in == "token"),
        "fee_spread": d.spread if d else 0.0,
        "twap_h": d.twap_h if d else 1.0,
        "tier_share": _tier_shares(n),
        "cap_usd": e.cap_usd_per_work_h if e and e.cap_usd_per_work_h else np.inf,
        "wallet_free": e.wallet_free_rigs if e else 0.0,
        "wallet_decay": e.wallet_decay if e else 0.0,
        "wallet_share": e.wallet_share if e else 0.0,
        "concentration": e.concentration if e else 1.0,
        "slots": e.miner_slots if e and e.kind == "tournament" else 0.0,
        "score_sd": e.score_sd if e else 0.0,
        "immunity_h": e.immunity_h if e else 0.0,
        "registrations_per_h": e.registrations_per_h if e else 0.0,
        "lease": float(d is not None and d.kind == "lease"),
        "request": float(d is not None and d.kind == "request"),
        "fee": fee,
        "utilisation": utilisation(n, cost, fee, tokens, economics),
        "outside_work": d.outside_work if d and not e else 0.0,
        "demand_sd": d.volatility if d else 0.0,
        "lease_mean_h": d.lease_mean_h if d else 1.0,
        "queue": float(d is not None and d.queue != "auction"),
        "standby_tokens": d.standby_tokens_per_rig_h if d else 0.0,
        "break_h": d.break_penalty_h if d else 0.0,
        "rent_elasticity": d.rent_elasticity if d else 0.0,
        "provisioning_h": c.provisioning_h,
        "warmup_h": c.warmup_h,
        "warmup_rate": 1 - np.exp(-1 / c.warmup_h) if c.warmup_h else 1.0,
        "burn_tokens": c.burn_tokens,
        "burn_max_tokens": c.burn_max_tokens or np.inf,
        "burn_step": c.burn_step,
        "burn_half_life_h": c.burn_half_life_h,
        "gas_usd": c.gas_usd,
        "collateral_per_work": c.collateral_tokens_per_work,
        "collateral_per_rig": c.collateral_tokens_per_rig,
        "unbonding_h": c.unbonding_h,
        "lockup": lockup_discount(c.vesting, total_vol(tokens, n.token)) if n.token else 0.0,
        "slash_per_h": c.slash_per_h,
        "fault_multiple": c.fault_multiple,
        "load": n.load,
        "active": float(n is not OFF),
        "reference_cost": cost,
        "margin": n.target_margin,
        "entry_per_h": n.entry_per_day / 24,
        "outages_per_h": r.outages_per_year / 8760,
        "outage_mean_h": r.outage_mean_h,
        "rule_changes_per_h": r.rule_changes_per_year / 8760,
        "rule_change_sd": r.rule_change_sd,
        "deaths_per_h": r.deaths_per_year / 8760,
        "unlaunched": r.unlaunched_share,
        "lag_h": r.estimate_lag_h,
        "estimate_sd": r.estimate_sd,
        "spikes_per_h": r.spikes_per_year / 8760,
        "stops_per_h": r.stops_per_year / 8760,
    }
    return row


def _tier_shares(network: Network) -> tuple[float, float]:
    tiers = network.emission.tiers if network.emission else ()
    shares = [tier.share for tier in tiers] or [1.0]
    if sum(shares) > 1 + 1e-9:
        raise InputError(f"{network.name}.emission.tiers", "shares that sum to at most 1", shares)
    return shares[0], shares[1] if len(shares) > 1 else 0.0
