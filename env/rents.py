"""GPU rents: they move in steps, when a provider posts a new price, not by daily diffusion.

`log rent = cycle(last posting) + own steps`, where the cycle is common to all models. Listed rents
(RunPod, Lambda) stand still for weeks; over months H100 rents fell by 64 % and rose by 40 %.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from env.events import add_steps, event_times
from env.market_spec import RentLaw
from env.shocks import Stream, name_hash, normals, uniform, words


def simulate_rents(law: RentLaw, index: Tensor, seeds: Tensor, hours: int, anchor: int) -> Tensor:
    """Rent over the catalogue's, float32 [hours, B, G]; near 1 at hour `anchor`.

    index int64 [G]: name hashes of the GPU models; seeds int64 [B].
    """
    rate = torch.full((len(index),), 1 / (24 * law.mean_step_days), device=seeds.device)
    times, own = event_times(seeds, Stream.RENT, index, rate, hours)  # [K, B, G]
    posted = _cycle(law, seeds, times)
    before = torch.cat((_cycle(law, seeds, torch.zeros_like(times[:1])), posted[:-1]))
    log_rent = torch.zeros(hours, len(seeds), len(index), device=seeds.device)
    add_steps(log_rent, times, own * law.step_sd + (posted - before))
    log_rent = torch.cumsum(log_rent, 0)
    w = words(seeds[:, None], Stream.BASIS, index, torch.ones_like(index))
    level = normals(w[0], w[1])[0] * law.level_sd  # [B, G]
    return torch.exp(log_rent - log_rent[anchor] + level)


def _cycle(law: RentLaw, seeds: Tensor, times: Tensor) -> Tensor:
    """Log of the common rent at `times` [K, B, G], a slow wave of random period and phase."""
    index = torch.tensor(name_hash("GPU rents"), device=seeds.device)
    w = words(seeds, Stream.RENT, index, torch.zeros_like(index))
    low, high = law.cycle_days
    period_h = (24 * (low + (high - low) * uniform(w[0])))[:, None]  # [B, 1]
    phase = uniform(w[1])[:, None]
    return math.log1p(law.cycle_share) * torch.sin(2 * math.pi * (times / period_h + phase))
