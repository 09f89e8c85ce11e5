"""Everything fixed during an episode, as tensors, built and validated once from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from env import catalog
from env.catalog import Network
from env.errors import InputError
from env.market import BuiltMarket, build_market, load_market
from env.networks import emission
from env.objective import Objective, load_objective
from env.rules import OFF, Economics, Rules, build_rules, total_vol, work_of
from env.terms import rule_table

BURN_IN_H = 336
LONGEST_H = 100_000  # assumption: 11 years; nobody plans for longer, and memory grows with it
START_DAYS = 365  # episodes start on a random day of the year after the catalogue's date


@dataclass(frozen=True)
class Scenario:
    """Rules, prices' parameters, GPUs, sites and fleet of one experiment."""

    networks: tuple[Network, ...]  # the last is *off*
    rules: Rules
    emission_tokens_h: Tensor  # [N, hours] for all providers, from the catalogue's date - 336 h
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
        return rule_table(self.rules)

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
    if horizon > LONGEST_H:
        raise InputError("horizon", f"at most {LONGEST_H} hours", horizon)
    place = usable_device(device)
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
    work = np.array([[work_of(n, g, gpus) for n in chosen] for g in gpus])

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=torch.float32, device=place)

    names = list(used)
    hours = np.arange((START_DAYS + 1) * 24 + BURN_IN_H + built.horizon_h + 1) - BURN_IN_H
    return Scenario(
        networks=chosen,
        rules=build_rules(chosen, used, gpus, sites, economics, place),
        emission_tokens_h=tensor([_emission(n, hours) for n in chosen]),
        market=built,
        token_names=tuple(names),
        token_daily_sd=tensor([total_vol(used, t) / 365**0.5 for t in names]),
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


def usable_device(device: str | torch.device) -> torch.device:
    """The device; InputError where torch does not know it or this machine does not have it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        here = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise InputError("device", f"a device of this machine ({here})", str(device)) from None
    return torch.device(device)


def _check_references(network: Network, gpus: Mapping[str, Any], tokens: Mapping[str, Any]) -> None:
    named = [("reference_gpu", network.reference_gpu), *(("gpus", g) for g in network.gpus or ())]
    named += [("work.table", g) for g in network.work.table]
    if network.emission:
        named += [("emission.tiers.gpus", g) for tier in network.emission.tiers for g in tier.gpus]
        if len(network.emission.tiers) > 2:
            raise InputError(
                f"{network.name}.emission.tiers", "at most two", network.emission.tiers
            )
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
    if work_of(network, network.reference_gpu, gpus) <= 0:
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


def _tier(network: Network, gpu: str) -> int:
    tiers = network.emission.tiers if network.emission else ()
    return next((k for k, tier in enumerate(tiers) if gpu in tier.gpus), 0)


def _emission(network: Network, hours: np.ndarray) -> np.ndarray:
    """Tokens per hour for all providers; `hours` [H] since the catalogue's date, or before it."""
    if network.emission is None:
        return np.zeros(len(hours))
    total = emission.tokens_per_hour(network.emission.schedule, hours)
    return np.asarray(total * network.emission.provider_share)
