"""What no action touches: the networks' quotes, one hour of a world, and all its hours."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from torch import Tensor


class Quotes(NamedTuple):
    """The networks in one hour, each [B, N] (or [T, B, N] for all hours)."""

    token_usd: Tensor  # price of the network's token
    emission: Tensor  # tokens per hour for all providers; 0 while dead or unlaunched
    outside_work: Tensor  # work units supplied by everyone else
    demand_work: Tensor  # work units that customers would use
    fee: Tensor  # price per work unit and hour in use, after the take rate, USD or tokens
    fee_usd: Tensor  # USD received per unit of fee
    up: Tensor  # 1 while the network works
    open: Tensor  # 1 while it exists: launched and not dead
    burn_usd: Tensor  # registration burn of a rig, without our own mark on it
    burn_token_usd: Tensor  # price of the token it is paid in
    registrations: Tensor  # by others in this hour
    estimate: Tensor  # published USD per work unit and hour
    estimate_age_h: Tensor


class Hour(NamedTuple):
    """Everything exogenous in one hour."""

    quotes: Quotes  # [B, N] each
    table: Tensor  # [B, len(Quotes), N] the same as one tensor
    btc_usd: Tensor  # [B]
    rent_ratio: Tensor  # [B, G]
    turnover_usd: Tensor  # [B, P] daily turnover
    quote_usd: Tensor  # [B, P] price of each token's quote token, 1 for USD
    tariff: Tensor  # [B, S] USD per kWh
    hour_of_day: Tensor  # [B] UTC
    rig_up: Tensor  # bool [B, R]
    arrival: Tensor  # [B, R] uniform: a lease arrives where it is below the probability
    lease_draw: Tensor  # [B, R] standard exponential: length of a lease that starts now


@dataclass(frozen=True)
class Exogenous:
    """The exogenous world; hour 0 is the start of the burn-in, `burn_in_h` that of the episode."""

    quotes: Tensor  # [T, B, len(Quotes), N] in the order of Quotes
    btc_usd: Tensor  # [T, B]
    rent_ratio: Tensor  # [T, B, G]
    turnover_usd: Tensor  # [T, B, P]
    quote_usd: Tensor  # [T, B, P]
    tariff: Tensor  # [T, B, S]
    hour_of_day: Tensor  # [T, B]
    rig_up: Tensor  # bool [T, B, R]
    arrival: Tensor  # [T, B, R]
    lease_draw: Tensor  # [T, B, R]

    @property
    def hours(self) -> int:
        return self.quotes.shape[0]

    def at(self, hour: int) -> Hour:
        """Views of one hour; no copy."""
        rest = (getattr(self, f.name)[hour] for f in fields(self)[1:])
        table = self.quotes[hour]
        return Hour(Quotes(*table.unbind(1)), table, *rest)

    def until(self, hour: int) -> Exogenous:
        """The same world cut after `hour`: what is known then."""
        return replace(self, **{f.name: getattr(self, f.name)[: hour + 1] for f in fields(self)})
