"""The rigs: a fixed fleet from the config, or one drawn anew for each world."""

from __future__ import annotations

import torch
from torch import Tensor

from env.scenario import Scenario
from env.shocks import Stream, name_hashes, uniform, words
from env.state import Fleet

_COUNTS = (1, 2, 4, 8)  # assumption: GPUs per rig of the random fleet, equally likely
_OWNED_SHARE = 0.8  # assumption: of the random fleet, the rest is rented


def rig_names(scenario: Scenario) -> tuple[str, ...]:
    """Stable ids: what a rig is and its number within its group."""
    if scenario.fleet.random_rigs:
        return tuple(f"rig-{k:04d}" for k in range(scenario.fleet.random_rigs))
    seen: dict[str, int] = {}
    names = []
    for group in scenario.fleet.rigs:
        kind = f"{group.gpu}-x{group.gpu_count}-{group.site}" + ("" if group.owned else "-rented")
        for _ in range(group.count):
            seen[kind] = seen.get(kind, 0) + 1
            names.append(f"{kind}-{seen[kind]}")
    return tuple(names)


def draw_fleet(scenario: Scenario, seeds: Tensor) -> Fleet:
    """The fleet of each seed (int64 [B]): [1, R] for a fixed fleet, [B, R] for a random one."""
    index = name_hashes(rig_names(scenario), seeds.device)
    if scenario.fleet.random_rigs:
        w = words(seeds[:, None], Stream.FLEET, index, torch.zeros_like(index))
        gpu, size, site = (
            (uniform(word) * n).to(torch.int64)
            for word, n in zip(
                w, (len(scenario.gpu_names), len(_COUNTS), len(scenario.site_names)), strict=False
            )
        )
        count = torch.tensor(_COUNTS, dtype=torch.float32, device=seeds.device)[size]
        owned = (uniform(w[3]) < _OWNED_SHARE).float()
    else:
        groups = [g for g in scenario.fleet.rigs for _ in range(g.count)]

        def row(values: list[float]) -> Tensor:
            return torch.tensor([values], dtype=torch.float32, device=seeds.device)

        gpu = row([scenario.gpu_names.index(g.gpu) for g in groups]).long()
        site = row([scenario.site_names.index(g.site) for g in groups]).long()
        count = row([float(g.gpu_count) for g in groups])
        owned = row([float(g.owned) for g in groups])
    return _tables(scenario, index, gpu, count, site, owned)


def _tables(
    scenario: Scenario, index: Tensor, gpu: Tensor, count: Tensor, site: Tensor, owned: Tensor
) -> Fleet:
    """Everything that follows from what a rig is."""
    rules, economics = scenario.rules, scenario.economics
    power_kw = scenario.gpus[3][gpu] * count / 1000 * scenario.pue[site]
    rent = scenario.gpu_rent[gpu] * count * economics.rented_discount
    housing = torch.where(owned > 0, scenario.hosting[site] * count, rent)
    capex = owned * scenario.gpu_capex[gpu] * count / economics.capex_life_h
    energy = power_kw * owned * scenario.tariff.mean(1)[site]
    one = scenario.work[gpu]  # [., R, N] of one GPU
    eligible = (one > 0) & (count.unsqueeze(-1) >= scenario.min_gpus)
    score = torch.where(eligible, torch.log(one.clamp_min(1e-30)), 0.0)
    number = torch.where(scenario.per_rig > 0, 1.0, count.unsqueeze(-1))
    mass = torch.where(eligible, number * torch.exp(rules.concentration * score), 0.0)
    return Fleet(
        index=index,
        tiebreak=(index.to(torch.float64) / 2**32).float().clamp_max(1 - 2**-24),
        gpu=gpu,
        gpu_count=count,
        site=site,
        owned=owned,
        power_kw=power_kw,
        housing_usd_h=housing,
        capex_usd_h=capex,
        nominal_usd_h=energy + housing + capex,
        work=torch.where(eligible, number * one, 0.0),
        score=score,
        mass=mass,
        eligible=eligible,
        tier=scenario.tier[gpu],
    )
