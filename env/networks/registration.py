"""Registration: the price of a slot, which falls with time and jumps with every entry.

Subtensor's rule per subnet: the burn halves every `half_life` blocks, is multiplied by `step` after
each registration and stays between two bounds. opentensor/subtensor@14bc6f9f:
pallets/subtensor/src/subnets/registration.rs (update_registration_prices_for_networks,
bump_registration_price_after_registration). Elementwise, floats or tensors.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value", float, Tensor)

BLOCK_S = 12.0


def blocks_to_hours(blocks: float) -> float:
    """Hours of so many 12-second blocks."""
    return blocks * BLOCK_S / 3600


def decay(burn: Value, hours: float, half_life_h: float) -> Value:
    """The burn after `hours` without a registration."""
    return burn * math.exp(-math.log(2) * hours / half_life_h)


def bump(burn: Value, step: float) -> Value:
    """The burn after one registration."""
    return burn * step


def clamp_burn(burn: Value, lowest: float, highest: float) -> Value:
    """The burn within the subnet's bounds."""
    if isinstance(burn, Tensor):
        return torch.clamp(burn, lowest, highest)
    return min(max(burn, lowest), highest)


def batch_cost(burn: Value, count: int, step: float) -> Value:
    """Price of `count` registrations at once, each `step` times the last."""
    if step == 1:
        return burn * count
    return burn * ((step**count - 1) / (step - 1))


def holding_rate_per_h(step: float, half_life_h: float) -> float:
    """Registrations per hour at which rises and decay balance, `ln 2 / (half life ln step)`."""
    return math.log(2) / (half_life_h * math.log(step))
