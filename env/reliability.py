"""What goes down and when: networks, sites, rigs. Events are times, painted on hours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from env.scenario import Scenario
from env.shocks import Stream, exponential, name_hashes, normals, words
from env.state import Fleet


def event_count(rate_per_h: float, hours: int) -> int:
    """How many events to draw so that missing one is a matter of 1e-8: mean plus six deviations."""
    mean = rate_per_h * hours
    return math.ceil(mean + 6 * math.sqrt(mean)) + 2 if mean else 0


def spells(
    seeds: Tensor,
    stream: Stream,
    index: Tensor,
    rate_per_h: Tensor,
    mean_h: Tensor,
    hours: int,
    lognormal_sd: float | None = None,
) -> Tensor:
    """Alternating renewal: True while down. bool [hours, B, M], every entity up at hour 0.

    seeds [B]; index, rate_per_h and mean_h [M] or [B, M]. Down times are exponential with mean
    `mean_h`, or lognormal with that median. An event shorter than an hour takes the whole hour.
    """
    worlds, entities = seeds.shape[0], index.shape[0]
    down = torch.zeros(hours, worlds, entities, dtype=torch.bool, device=seeds.device)
    count = event_count(float(rate_per_h.max()) if rate_per_h.numel() else 0.0, hours)
    if count == 0:
        return down
    numbers = torch.arange(count, device=seeds.device)[:, None, None]
    w = words(seeds[:, None], stream, index, numbers)  # [K, B, M]
    gap = exponential(w[0]) / rate_per_h.clamp_min(1e-12)
    if lognormal_sd is None:
        length = exponential(w[1]) * mean_h
    else:
        length = torch.exp(normals(w[1], w[2])[0] * lognormal_sd) * mean_h
    end = torch.cumsum(gap + length, 0)
    start = (end - length).floor()
    last = torch.maximum(end.ceil(), start + 1)
    edge = torch.zeros(hours + 1, worlds, entities, dtype=torch.int16, device=seeds.device)
    one = torch.ones(1, dtype=torch.int16, device=seeds.device).expand(start.shape)
    edge.scatter_add_(0, start.clamp_max(hours).long(), one)
    edge.scatter_add_(0, last.clamp_max(hours).long(), -one)
    return torch.cumsum(edge[:hours], 0, dtype=torch.int16) > 0


def jumps(
    seeds: Tensor,
    stream: Stream,
    index: Tensor,
    rate_per_h: Tensor,
    sd: Tensor,
    hours: int,
) -> Tensor:
    """Sum of normal jumps so far, float32 [hours, B, M]: the log of a level that moves in steps."""
    worlds, entities = seeds.shape[0], index.shape[0]
    level = torch.zeros(hours + 1, worlds, entities, device=seeds.device)
    count = event_count(float(rate_per_h.max()) if rate_per_h.numel() else 0.0, hours)
    if count == 0:
        return level[:hours]
    numbers = torch.arange(count, device=seeds.device)[:, None, None]
    w = words(seeds[:, None], stream, index, numbers)
    start = torch.cumsum(exponential(w[0]) / rate_per_h.clamp_min(1e-12), 0).floor()
    level.scatter_add_(0, start.clamp_max(hours).long(), normals(w[1], w[2])[0] * sd)
    return torch.cumsum(level[:hours], 0)


def rig_availability(scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int) -> Tensor:
    """True while a rig can work: bool [hours, B, R]; failures, repairs, reclaims, site outages."""
    e, worlds = scenario.economics, seeds.shape[0]
    count = fleet.gpu_count.expand(worlds, -1)
    one = torch.ones((), device=seeds.device)
    soft = spells(
        seeds,
        Stream.RIG_SOFT,
        fleet.index,
        count * (e.soft_failures_per_gpu_year / 8760),
        one * e.soft_repair_mean_h,
        hours,
    )
    hard = spells(
        seeds,
        Stream.RIG_HARD,
        fleet.index,
        count * (e.hard_failures_per_gpu_year / 8760),
        one * e.hard_repair_median_h,
        hours,
        e.hard_repair_sd,
    )
    reclaimed = spells(
        seeds,
        Stream.RIG_RECLAIM,
        fleet.index,
        (1 - fleet.owned.expand(worlds, -1)) * (e.reclaims_per_year / 8760),
        one * e.reclaim_mean_h,
        hours,
    )
    return ~(soft | hard | reclaimed | site_outages(scenario, fleet, seeds, hours))


def site_outages(scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int) -> Tensor:
    """True while a rig's site is dark: bool [hours, B, R]; common to all rigs of the site."""
    sites = spells(
        seeds,
        Stream.SITE_OUTAGE,
        name_hashes(scenario.site_names, seeds.device),
        scenario.site_outages_per_h,
        scenario.site_outage_mean_h,
        hours,
    )
    where = fleet.site.expand(seeds.shape[0], -1)
    return sites.gather(2, where.expand(hours, *where.shape))
