"""Everything fixed during an episode, as tensors, built and validated once from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pydantic.dataclasses
import torch
from torch import Tensor

from env import catalog
from env.catalog import Network, NonNegative, Positive, Share
from env.errors import InputError
from env.market import BuiltMarket, build_market, load_market
from env.networks import emission
from env.networks.vesting import lockup_discount
from env.objective import Objective, load_objective
from env.shocks import name_hashes

BURN_IN_H = 336
START_DAYS = 365  # episodes start on a random day of the year after the catalogue's date
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
    """The networks' parameters, float32 [N] unless a shape says otherwise; the last row is *off*."""

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


@dataclass(frozen=True)
class Scenario:
    """Rules, prices' parameters, GPUs, sites and fleet of one experiment."""

    networks: tuple[Network, ...]  # the last is *off*
    rules: Rules
    emission_tokens_h: Tensor  # [N, days * 24], by hour since the catalogue's date, all providers
    market: BuiltMarket
    token_names: tuple[str, ...]
    token_daily_sd: Tensor  # [P]
    token_turnover: Tensor  # [P] USD per day at the catalogue's date
    token_pool_quote: Tensor  # [P] quote tokens in the pool, 0 = order book
    token_quote: Tensor  # int64 [P] row of the quote token, itself where there is none
    gpu_names: tuple[str, ...]
    gpus: Tensor  # [5, G] vram_gb, fp16_tflops, bandwidth_gb_s, board_power_w, hashrate_mh_s
    gpu_rent: Tensor  # [G] USD per GPU-hour
    gpu_capex: Tensor  # [G] USD
    work: Tensor  # [G, N] work units of one GPU (`rig`: of one rig), 0 = not eligible
    per_rig: Tensor  # [N] 1 where work is counted per rig, not per GPU
    tier: Tensor  # int64 [G, N] sub-pool of each model
    min_gpus: Tensor  # [N]
    site_names: tuple[str, ...]
    tariff: Tensor  # [S, 24] USD per kWh
    pue: Tensor  # [S]
    hosting: Tensor  # [S] USD per GPU-hour
    site_outages_per_h: Tensor  # [S]
    site_outage_mean_h: Tensor  # [S]
    fleet: catalog.FleetSpec
    economics: Economics
    objective: Objective
    horizon_h: int
    device: torch.device

    @cached_property
    def rule_table(self) -> Tensor:
        """The rules that every rig's terms are gathered from, see `env.terms`."""
        from env.terms import rule_table

        return rule_table(self)

    @property
    def network_names(self) -> tuple[str, ...]:
        return tuple(n.name for n in self.networks)

    @property
    def network_count(self) -> int:
        return len(self.networks)

    @property
    def rig_count(self) -> int:
        return self.fleet.random_rigs or sum(g.count for g in self.fleet.rigs)


def build_scenario(
    fleet: str | Mapping[str, Any] = "mixed",
    networks: str | Mapping[str, Any] = "default",
    market: str | Mapping[str, Any] = "synthetic",
    objective: str | Mapping[str, Any] = "profit",
    horizon: int = 720,
    device: str | torch.device = "cpu",
) -> Scenario:
    """Build and validate a scenario from presets or mappings; raises InputError naming the key."""
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise InputError("horizon", "a whole number of hours above 0", horizon)
    place = torch.device(device)
    gpus, sites, tokens = catalog.load_gpus(), catalog.load_sites(), catalog.load_tokens()
    economics = catalog.parse(
        Economics, catalog.preset("catalog", "economics"), "catalog/economics.yaml"
    )
    chosen = (*catalog.load_networks(networks), OFF)
    for network in chosen[:-1]:
        _check_references(network, gpus, tokens)
    used = _used_tokens(chosen, tokens)
    spec = catalog.load_fleet(fleet)
    for group in spec.rigs:
        for kind, known, name in (("gpu", gpus, group.gpu), ("site", sites, group.site)):
            if name not in known:
                raise InputError(f"fleet.rigs.{kind}", f"one of {', '.join(known)}", name)
    built = build_market(load_market(market), used, gpus, horizon, BURN_IN_H, place)
    work = np.array([[_work(n, g, gpus) for n in chosen] for g in gpus])

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=torch.float32, device=place)

    names = list(used)
    hours = np.arange((START_DAYS + 1) * 24 + BURN_IN_H + built.horizon_h + 1) - BURN_IN_H
    return Scenario(
        networks=chosen,
        rules=_rules(chosen, used, gpus, sites, economics, place),
        emission_tokens_h=tensor([_emission(n, hours) for n in chosen]),
        market=built,
        token_names=tuple(names),
        token_daily_sd=tensor([_vol(used, t) / 365**0.5 for t in names]),
        token_turnover=tensor([used[t].turnover_usd_day for t in names]),
        token_pool_quote=tensor([used[t].pool_quote for t in names]),
        token_quote=torch.tensor([names.index(used[t].quote or t) for t in names], device=place),
        gpu_names=tuple(gpus),
        gpus=tensor(
            [
                [g.vram_gb, g.fp16_tflops, g.bandwidth_gb_s, g.board_power_w, g.hashrate_mh_s]
                for g in gpus.values()
            ]
        ).T.contiguous(),
        gpu_rent=tensor([g.rent_usd_h for g in gpus.values()]),
        gpu_capex=tensor([g.capex_usd for g in gpus.values()]),
        work=tensor(work),
        per_rig=tensor([float(n.work.kind == "rig") for n in chosen]),
        tier=torch.tensor([[_tier(n, g) for n in chosen] for g in gpus], device=place),
        min_gpus=tensor([n.min_gpus for n in chosen]),
        site_names=tuple(sites),
        tariff=tensor([s.tariff_usd_kwh for s in sites.values()]),
        pue=tensor([s.pue for s in sites.values()]),
        hosting=tensor([s.hosting_usd_gpu_h for s in sites.values()]),
        site_outages_per_h=tensor([s.outages_per_year / 8760 for s in sites.values()]),
        site_outage_mean_h=tensor([s.outage_mean_h for s in sites.values()]),
        fleet=spec,
        economics=economics,
        objective=load_objective(objective),
        horizon_h=built.horizon_h,
        device=place,
    )


def _check_references(network: Network, gpus: Mapping[str, Any], tokens: Mapping[str, Any]) -> None:
    named = [("reference_gpu", network.reference_gpu), *(("gpus", g) for g in network.gpus or ())]
    named += [("work.table", g) for g in network.work.table]
    if network.emission:
        named += [("emission.tiers.gpus", g) for tier in network.emission.tiers for g in tier.gpus]
        if len(network.emission.tiers) > 2:
            raise InputError(f"{network.name}.emission.tiers", "at most two", network.emission.tiers)
    for key, gpu in named:
        if gpu not in gpus:
            raise InputError(f"{network.name}.{key}", f"one of {', '.join(gpus)}", gpu)
    if network.token is not None and network.token not in tokens:
        raise InputError(f"{network.name}.token", f"one of {', '.join(tokens)}", network.token)
    if network.token is None and (
        network.emission or (network.demand and network.demand.paid_in != "usd")
    ):
        raise InputError(f"{network.name}.token", "a token for emission or token fees", None)
    if network.emission is None and network.demand is None:
        raise InputError(network.name, "an emission, a demand or both", None)
    if _work(network, network.reference_gpu, gpus) <= 0:
        raise InputError(f"{network.name}.reference_gpu", "an eligible GPU", network.reference_gpu)


def _used_tokens(
    networks: tuple[Network, ...], tokens: dict[str, catalog.Token]
) -> dict[str, catalog.Token]:
    """BTC, USD and every token of the networks with its quote, in the catalogue's order."""
    wanted = {"BTC", "USD"} | {n.token for n in networks if n.token}
    for name in list(wanted):
        quote = tokens[name].quote if name in tokens else None
        if quote is not None:
            if quote not in tokens or tokens[quote].quote is not None:
                raise InputError(f"tokens.{name}.quote", "a token priced in USD", quote)
            wanted.add(quote)
    return {name: token for name, token in tokens.items() if name in wanted}


def _vol(tokens: Mapping[str, catalog.Token], name: str) -> float:
    """Total annual volatility, with BTC's share and the quote's."""
    token = tokens[name]
    own = token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2
    if token.quote:
        return float((own + _vol(tokens, token.quote) ** 2) ** 0.5)
    return float((own + (0 if name == "BTC" else token.beta_btc * _vol(tokens, "BTC")) ** 2) ** 0.5)


def _work(network: Network, gpu: str, gpus: Mapping[str, catalog.GpuModel]) -> float:
    """Work units of one GPU of this model, 0 where it is not eligible."""
    model = gpus[gpu]
    if model.vram_gb < network.min_vram_gb or (network.gpus is not None and gpu not in network.gpus):
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


def _tier(network: Network, gpu: str) -> int:
    tiers = network.emission.tiers if network.emission else ()
    return next((k for k, tier in enumerate(tiers) if gpu in tier.gpus), 0)


def _emission(network: Network, hours: np.ndarray) -> np.ndarray:
    """Tokens per hour for all providers, by hour since the catalogue's date less burn-in."""
    if network.emission is None:
        return np.zeros(len(hours))
    total = emission.tokens_per_hour(network.emission.schedule, hours)
    return np.asarray(total * network.emission.provider_share)


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
    work = _work(network, network.reference_gpu, gpus)
    locked = network.commitment.collateral_tokens_per_work * work
    locked += network.commitment.collateral_tokens_per_rig
    if network.token:
        token = tokens[network.token]
        price = token.price_usd * (tokens[token.quote].price_usd if token.quote else 1.0)
        cost += locked * price * economics.financing_rate_annual / 8760
    return float(cost / work)


def _rules(
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
        "lockup": lockup_discount(c.vesting, _vol(tokens, n.token)) if n.token else 0.0,
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
