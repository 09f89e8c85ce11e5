"""Allocation: who earns how much. Pools, tournaments, leases and metered requests as formulas.

All functions are elementwise on tensors that broadcast; none draws or keeps anything.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TINY = 1e-20


def pool_rate(emission: Tensor, outside_work: Tensor, own_work: Tensor) -> Tensor:
    """Tokens per unit of work: `E / (W + w)`, so that the shares sum to at most the emission."""
    return emission / (outside_work + own_work).clamp_min(_TINY)


def wallet_factor(rigs: Tensor, free: Tensor, decay: Tensor, share: Tensor) -> Tensor:
    """What is left of a pool's pay when one wallet runs many rigs.

    The penalised part keeps `1` up to `free` rigs and `exp(-decay (rigs - free))` above; for Render
    `exp(-0.65 (x - 3))`, RNP-015.
    """
    return 1 - share * (1 - torch.exp(-decay * torch.relu(rigs - free)))


def use_of_supply(demand: Tensor, supply: Tensor, cap: float) -> Tensor:
    """Share of the supplied work that customers use, at most `cap`."""
    return (demand / supply.clamp_min(_TINY)).clamp(max=cap)


def lease_hazard(use: Tensor, lease_mean_h: Tensor) -> Tensor:
    """Arrivals per idle hour that keep the share `use` of supply leased.

    An idle time of mean 1/hazard alternates with leases of mean m: use = m / (m + 1/hazard).
    """
    return use / ((1 - use) * lease_mean_h)


def lease_probability(hazard: Tensor, idle_h: Tensor, queue: Tensor) -> Tensor:
    """Probability that an idle rig gets a lease this hour.

    An auction forgets how long a rig has waited: geometric idle hours of mean (1 - p) / p =
    1/hazard. In a queue or rotation the hazard rises linearly with the wait (a Weibull law of
    shape 2), `(pi / 2) hazard^2 t`, at the same mean.
    """
    waited = 1 - torch.exp((-math.pi / 2) * hazard * hazard * idle_h)
    return torch.where(queue > 0, waited, hazard / (1 + hazard))


def competitors_below(
    score: Tensor, outside_mass: Tensor, slots: Tensor, concentration: Tensor, score_sd: Tensor
) -> Tensor:
    """How many of the `slots` competitors score below `score` (a log) in a tournament.

    Competitors' scores are lognormal; their mass `sum score^a` is the outside work, which fixes
    the level: `log level = (log(W / slots) - a^2 sd^2 / 2) / a`.
    """
    spread = concentration * score_sd
    level = torch.log((outside_mass / slots.clamp_min(1.0)).clamp_min(_TINY))
    level = (level - 0.5 * spread * spread) / concentration
    z = (score - level) / score_sd.clamp_min(1e-3)
    return slots * 0.5 * (1 + torch.erf(z * (1 / math.sqrt(2))))
