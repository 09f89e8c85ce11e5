"""Settlement: what a payout is worth once it is money.

Pegged tokens convert at an average price, subnet tokens leave through a constant-product pool,
everything else through an order book with square-root impact. All functions are elementwise and
take floats or tensors.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value", float, Tensor)


def pegged_tokens(usd: Value, twap_usd: Value, spread: float = 0.0) -> Value:
    """Tokens paid for a debt in USD at the oracle's average price, `usd / TWAP (1 - spread)`.

    Akash: AEP-76, "P_settle"; akash-network/AEP@d21edcdf:spec/aep-76/README.md.
    """
    return usd / twap_usd * (1 - spread)


def amm_out(amount: Value, reserve_in: Value, reserve_out: Value) -> Value:
    """What a constant-product pool pays for `amount`: `reserve_out d / (reserve_in + d)`."""
    return reserve_out * amount / (reserve_in + amount)


def amm_impact(amount: Value, reserve: Value) -> Value:
    """Share of a sale lost to price impact, `d / (R + d)`, both in one unit."""
    return amount / (reserve + amount)


def square_root_impact(
    amount_day: Value, turnover_day: Value, sigma_day: Value, coefficient: float
) -> Value:
    """Share of a day's sale lost to impact, `Y sigma_day sqrt(Q / ADV)`, not capped.

    Square-root law: Toth et al., "Anomalous price impact and the critical nature of liquidity in
    financial markets", Physical Review X 1, 021006 (2011). amount and turnover in one unit.
    """
    ratio = amount_day / turnover_day
    root = torch.sqrt(ratio) if isinstance(ratio, Tensor) else ratio**0.5
    return coefficient * sigma_day * root
