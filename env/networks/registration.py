"""Registration: the price of a slot, which falls with time and jumps with every entry.

Subtensor's rule per subnet: the burn halves every `half_life` blocks, is multiplied by `step` after
each registration and stays between two bounds. opentensor/subtensor@14bc6f9f:
pallets/subtensor/src/subnets/registration.rs (update_registration_prices_for_networks,
bump_registration_price_after_registration). `log_burn` is the natural log of the burn over its
lower bound, so it is at least 0. Elementwise on tensors that broadcast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bump(log_burn: Tensor, count: Tensor, step: Tensor) -> Tensor:
    """Log of the burn after `count` registrations, each `step` times dearer than the last."""
    return log_burn + torch.log(step) * count


def decay(log_burn: Tensor, hours: float, half_life_h: Tensor) -> Tensor:
    """Log of the burn after `hours` without a registration, not below the lower bound."""
    return (log_burn - math.log(2) * hours / half_life_h).clamp_min(0.0)


def burn(log_burn: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """The burn itself, `lowest e^log_burn` and at most `highest`."""
    return torch.minimum(lowest * torch.exp(log_burn), highest)


def mean_burn(first: Tensor, count: Tensor, step: Tensor) -> Tensor:
    """Mean price of `count` registrations in one hour of which the first costs `first`.

    The geometric sum over the count, `first (step^k - 1) / ((step - 1) k)`; without any, `first`.
    """
    grown = torch.exp(torch.log(step) * count) - 1
    mean = grown / ((step - 1).clamp_min(1e-9) * count.clamp_min(1e-9))
    return first * torch.where((step > 1) & (count > 0), mean, 1.0)


def fading(hours: float, half_life_h: Tensor) -> Tensor:
    """What is left after `hours` of our own mark (a log) on the burn: half every half-life."""
    return torch.exp(-math.log(2) * hours / half_life_h)
