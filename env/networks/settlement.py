"""Settlement: what a payout is worth once it is money.

Pegged tokens convert at an average price, subnet tokens leave through a constant-product pool,
everything else through an order book with square-root impact. All functions are elementwise on
tensors that broadcast.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pegged_value(spot_usd: Tensor, twap_usd: Tensor, spread: Tensor) -> Tensor:
    """USD received for each USD owed: tokens at the oracle's average price, sold at `spot_usd`.

    `(1 - spread) / TWAP` tokens for a dollar. Akash: AEP-76, "P_settle";
    akash-network/AEP@d21edcdf:spec/aep-76/README.md.
    """
    return (1 - spread) * spot_usd / twap_usd


def amm_impact(amount: Tensor, reserve: Tensor) -> Tensor:
    """Share of a sale lost in a constant-product pool, `d / (R + d)`, both in one unit."""
    return amount / (reserve + amount)


def square_root_impact(
    amount_day: Tensor, turnover_day: Tensor, sigma_day: Tensor, coefficient: float
) -> Tensor:
    """Share of a day's sale lost to impact, `Y sigma_day sqrt(Q / ADV)`, not capped.

    Square-root law: Toth et al., "Anomalous price impact and the critical nature of liquidity in
    financial markets", Physical Review X 1, 021006 (2011). amount and turnover in one unit.
    """
    return coefficient * sigma_day * torch.sqrt(amount_day / turnover_day)
