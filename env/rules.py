"""The networks' rules as tensors, and the economics that hold for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pydantic.dataclasses
import torch
from torch import Tensor

from env import catalog
from env.catalog import Network, NonNegative, Positive, Share
from env.errors import InputError
from env.networks.vesting import lockup_discount
from env.shocks import name_hashes

OFF = catalog.Network(
    name="off",
    kind="floor",
    token=None,
    reference_gpu="",
    work=catalog.Work(kind="rig"),
    target_margin=0.0,
    load=0.0,
    commitment=catalog.Commitment(provisioning_h=0.0),
    risk=catalog.Risk(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)


@pydantic.dataclasses.dataclass(config=catalog._STRICT)
class Economics:
    """What holds for every network; values and sources in `configs/catalog/economics.yaml`."""

    financing_rate_annual: NonNegative
    capex_life_h: Positive
    idle_power_share: Share
    rented_discount: Positive
    impact_coefficient: NonNegative
    utilisation_cap: Share
    start_level_sd: NonNegative
    soft_failures_per_gpu_year: NonNegative
    soft_repair_mean_h: Positive
    hard_failures_per_gpu_year: NonNegative
    hard_repair_median_h: Positive
    hard_repair_sd: NonNegative
    reclaims_per_year: NonNegative
    reclaim_mean_h: Positive
    spike_mean_h: Positive
    spike_log_size: NonNegative
    stop_mean_h: Positive
    noise_half_life_h: Positive
    launch_mean_h: Positive
    dead_token_share: Share
    lease_demand_half_life_h: Positive


@dataclass(frozen=True)
class Rules:
    """The networks' parameters, float32 [N] unless a shape says otherwise; the last is *off*."""

    index: Tensor  # int64, name hash for the shocks
    token: Tensor  # int64, row in Scenario.token_names
    native: Tensor  # 1 if fees are paid in the token (pegged or not)
    fee_in_token: Tensor  # 1 if the fee's price itself is in tokens
    fee_spread: Tensor
    twap_h: Tensor
    provider_share: Tensor
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


def work_of(network: Network, gpu: str, gpus: Mapping[str, catalog.GpuModel]) -> float:
    """Work units of one GPU of this model, 0 where it is not eligible."""
    model = gpus[gpu]
    if model.vram_gb < network.min_vram_gb or (
        network.gpus is not None and gpu not in network.gpus
    ):
        return 0.0
    kind = network.work.kind
    if kind == "table":
        return network.work.table.get(gpu, 0.0)
    if kind == "rig":
        return 1.0
    column = {
        "fp16": "fp16_tflops",
        "bandwidth": "bandwidth_gb_s",
        "vram": "vram_gb",
        "rent": "rent_usd_h",
        "hashrate": "hashrate_mh_s",
    }[kind]
    reference = getattr(gpus[network.reference_gpu], column)
    return float(getattr(model, column) / reference) if reference else 0.0


def total_vol(tokens: Mapping[str, catalog.Token], name: str) -> float:
    """Total annual volatility, with BTC's share and the quote's."""
    token = tokens[name]
    own = token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2
    if token.quote:
        return float((own + total_vol(tokens, token.quote) ** 2) ** 0.5)
    market = 0.0 if name == "BTC" else token.beta_btc * total_vol(tokens, "BTC")
    return float((own + market**2) ** 0.5)


def reference_cost(
    network: Network,
    gpus: Mapping[str, catalog.GpuModel],
    sites: Mapping[str, catalog.Site],
    tokens: Mapping[str, catalog.Token],
    economics: Economics,
) -> float:
    """Full cost in USD of one work unit and hour on the network's reference GPU at a mean site."""
    if not network.reference_gpu:
        return 1.0
    gpu = gpus[network.reference_gpu]
    energy = np.mean([np.mean(s.tariff_usd_kwh) * s.pue for s in sites.values()])
    hosting = np.mean([s.hosting_usd_gpu_h for s in sites.values()])
    cost = gpu.board_power_w / 1000 * network.load * energy + hosting
    cost += gpu.capex_usd / economics.capex_life_h
    work = work_of(network, network.reference_gpu, gpus)
    locked = network.commitment.collateral_tokens_per_work * work
    locked += network.commitment.collateral_tokens_per_rig
    if network.token:
        token = tokens[network.token]
        price = token.price_usd * (tokens[token.quote].price_usd if token.quote else 1.0)
        cost += locked * price * economics.financing_rate_annual / 8760
    return float(cost / work) * network.supply_cost


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
        "provider_share": e.provider_share if e else 0.0,
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
        "utilisation": _utilisation(n, cost, fee, tokens, economics),
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


def _utilisation(
    network: Network,
    cost: float,
    fee: float,
    tokens: dict[str, catalog.Token],
    economics: Economics,
) -> float:
    """Share of outside work in use at hour 0: given, or what the target margin implies."""
    demand = network.demand
    if demand is None:
        return 0.0
    if network.emission is not None and demand.utilisation is None:
        raise InputError(f"{network.name}.demand.utilisation", "a share, beside an emission", None)
    if demand.utilisation is not None:
        return demand.utilisation
    price = fee
    if demand.paid_in == "token":
        price *= tokens[network.token or "USD"].price_usd
    use = cost / (1 - network.target_margin) / price
    if not 0 < use <= economics.utilisation_cap:
        raise InputError(
            f"{network.name}.demand.price_per_work_h",
            f"a price at which utilisation is in (0, {economics.utilisation_cap}]",
            f"{demand.price_per_work_h} (utilisation {use:.3f})",
        )
    return use
