"""What a network is to a supplier: its work, its cost, the use of its supply that pays for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic.dataclasses import dataclass

from env.catalog import GpuModel, Network, Site, Token
from env.errors import InputError
from env.parsing import STRICT, NonNegative, Positive, Share


@dataclass(config=STRICT)
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


def work_of(network: Network, gpu: str, gpus: Mapping[str, GpuModel]) -> float:
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


def total_vol(tokens: Mapping[str, Token], name: str) -> float:
    """Total annual volatility, with BTC's share and the quote's."""
    token = tokens[name]
    own = token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2
    if token.quote:
        return float((own + total_vol(tokens, token.quote) ** 2) ** 0.5)
    market = 0.0 if name == "BTC" else token.beta_btc * total_vol(tokens, "BTC")
    return float((own + market**2) ** 0.5)


def reference_cost(
    network: Network,
    gpus: Mapping[str, GpuModel],
    sites: Mapping[str, Site],
    tokens: Mapping[str, Token],
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


def utilisation(
    network: Network,
    cost: float,
    fee: float,
    tokens: dict[str, Token],
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
