"""The part of a world that no action touches, simulated for a whole episode from its seed.

Prices, outside work, demand, outages, estimates: time-major tensors [T, B, ...], so that an hour is
one contiguous slab. Two policies on one seed read the same tensors, which makes every comparison
paired and the perfect-information bound computable.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from env.hour import Exogenous, Hour, Quotes
from env.market import Prices, simulate_prices
from env.quotes import simulate_quotes
from env.reliability import rig_availability
from env.scenario import BURN_IN_H, START_DAYS, Scenario
from env.shocks import Stream, exponential, name_hash, uniform, words
from env.state import Fleet, select

__all__ = ["Exogenous", "Hour", "Quotes", "simulate"]

BLOCK = 128  # worlds simulated at a time on a CPU
CHUNK_H = 128  # hours of random words drawn at a time, to bound memory


def simulate(
    scenario: Scenario,
    fleet: Fleet,
    seeds: Tensor,
    hours: int | None = None,
    prices: Prices | None = None,
) -> Exogenous:
    """The exogenous world of each seed (int64 [B]), burn-in included.

    `hours` after the burn-in default to the horizon. Fewer give the same world cut short, to the
    bit: nothing here looks ahead (interpolated replay prices apart, which `prices` can carry).
    On a CPU large batches are simulated in blocks that fit its caches.
    """
    worlds = len(seeds)
    if worlds <= BLOCK or seeds.device.type != "cpu" or prices is not None:
        return _simulate(scenario, fleet, seeds, hours, prices)
    whole: Exogenous | None = None
    for start in range(0, worlds, BLOCK):
        rows = slice(start, start + BLOCK)
        part = _simulate(scenario, select(fleet, rows), seeds[rows], hours, None)
        whole = _room_for(part, worlds) if whole is None else whole
        for f in fields(part):
            getattr(whole, f.name)[:, rows] = getattr(part, f.name)
    assert whole is not None
    return whole


def _room_for(part: Exogenous, worlds: int) -> Exogenous:
    """Uninitialised tensors like those of `part` for so many worlds."""
    columns = {f.name: getattr(part, f.name) for f in fields(part)}
    return Exogenous(
        **{name: t.new_empty(len(t), worlds, *t.shape[2:]) for name, t in columns.items()}
    )


def _simulate(
    scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int | None, prices: Prices | None
) -> Exogenous:
    total = BURN_IN_H + 1 + (scenario.horizon_h if hours is None else hours)
    full = simulate_prices(scenario.market, seeds) if prices is None else prices
    start_day, start_hour = _start(seeds)
    clock = torch.arange(total, device=seeds.device)
    hour_of_day = (clock[:, None] + start_hour) % 24  # [T, B]
    tariff = scenario.tariff.T.contiguous()[hour_of_day]  # [T, B, S]
    arrival, lease_draw = _rig_draws(fleet, seeds, total)
    token_usd = full.token_usd[:total]
    return Exogenous(
        quotes=simulate_quotes(scenario, seeds, start_day, full, total),
        btc_usd=full.btc_usd[:total],
        rent_ratio=full.rent_ratio[:total],
        turnover_usd=full.turnover_ratio[:total] * scenario.token_turnover,
        quote_usd=token_usd[:, :, scenario.token_quote],
        tariff=tariff,
        hour_of_day=hour_of_day.float(),
        rig_up=rig_availability(scenario, fleet, seeds, total),
        arrival=arrival,
        lease_draw=lease_draw,
    )


def _start(seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Days from the catalogue's date to the episode's start, and its hour of the day, int64 [B]."""
    index = torch.tensor(name_hash("start"), device=seeds.device)
    w = words(seeds, Stream.START, index, torch.zeros_like(index))
    return (uniform(w[0]) * START_DAYS).long(), (uniform(w[1]) * 24).long()


def _rig_draws(fleet: Fleet, seeds: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Arrival uniforms and lease lengths, [T, B, R]; four words make two hours."""
    arrival, length = [], []
    for start in range(0, total, CHUNK_H):
        pairs = torch.arange(start // 2, (start + CHUNK_H) // 2, device=seeds.device)
        w = words(seeds[:, None], Stream.RIG_HOUR, fleet.index, pairs[:, None, None])
        arrival.append(torch.stack((uniform(w[0]), uniform(w[1])), 1).flatten(0, 1))
        length.append(torch.stack((exponential(w[2]), exponential(w[3])), 1).flatten(0, 1))
    return torch.cat(arrival)[:total], torch.cat(length)[:total]
