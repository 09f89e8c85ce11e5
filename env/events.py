"""Rare events, drawn as times: when they happen, spells of downtime, levels that move in steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from env.shocks import Stream, exponential, normals, words


def event_count(rate_per_h: float, hours: int) -> int:
    """How many events to draw so that missing one is a matter of 1e-8: mean plus six deviations."""
    mean = rate_per_h * hours
    return math.ceil(mean + 6 * math.sqrt(mean)) + 2 if mean else 0


def event_times(
    seeds: Tensor, stream: Stream, index: Tensor, rate_per_h: Tensor, hours: int, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Hours at which a Poisson process fires and a standard normal for each event, [K, B, M].

    seeds [B]; index and rate_per_h [M]. Counters run from `first`; events past the end are there.
    """
    count = event_count(float(rate_per_h.max()), hours)
    numbers = torch.arange(first, first + count, device=seeds.device)[:, None, None]
    w = words(seeds[:, None], stream, index, numbers)
    times = torch.cumsum(exponential(w[0]) / rate_per_h.clamp_min(1e-12), 0)
    return times, normals(w[1], w[2])[0]


def add_steps(increments: Tensor, times: Tensor, sizes: Tensor) -> None:
    """Add each event's size at its hour, in place: increments [T, B, M], the others [K, B, M]."""
    last = increments.shape[0] - 1
    inside = torch.where(times < last + 1, sizes, 0.0)
    increments.scatter_add_(0, times.clamp_max(last).long(), inside)


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
