"""What a snapshot must say of each fact, what it may leave out, and what is plausible.

Names, units and meanings are those of `env.observation`. Limits only catch wrong units (watts for
kilowatts, cents for dollars): they are wide, and every one is an assumption. A fact whose omission
would change a move in silence has no default.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from env.observation import EMA_H, MARKET, NETWORK_FACTS, PRICE_EMA_H, RIG_FACTS, Column

Given = Literal["snapshot", "computed"]


class Field(NamedTuple):
    """How a column of the facts is filled."""

    default: float | bool | None = None  # None = required
    low: float | None = None  # assumption
    high: float | None = None  # assumption
    given: Given = "snapshot"
    by_gpu: bool = False  # taken from the catalogue where the rig names its GPU


class Average(NamedTuple):
    """One row of the memory."""

    name: str
    of: str  # the fact that is averaged
    hours: float


COMPUTED = Field(given="computed")
_HOURS = 1e5  # eleven years: longer is a time stamp, or seconds
_USD = 1e9
RIGS: dict[str, Field] = {
    "gpu_count": Field(low=1, high=1024),
    "vram_gb": Field(low=1, high=2048, by_gpu=True),
    "fp16_tflops": Field(low=0.1, high=1e5, by_gpu=True),
    "bandwidth_gb_s": Field(low=1, high=1e5, by_gpu=True),
    "power_kw": Field(low=0, high=200),
    "owned": Field(),
    "tiebreak": COMPUTED,
    "tariff_usd_kwh": Field(low=-1, high=2),  # above: cents; nothing pays at 2 USD either
    "housing_usd_h": Field(low=0, high=1e4),
    "up": Field(),
    "provisioning_h": Field(default=0.0, low=0, high=_HOURS),
    "tenure_h": Field(low=0, high=_HOURS),
    "score": Field(default=1.0, low=0, high=1),
    "lease_h": Field(default=0.0, low=0, high=_HOURS),
    "lease_usd_h": Field(default=0.0, low=0, high=1e5),
    "idle_h": Field(default=0.0, low=0, high=_HOURS),
    "leaving_usd": Field(low=0, high=1e7),
    "last_gross_usd": Field(low=0, high=1e6),
    "last_net_usd": Field(low=-1e6, high=1e6),
}
NETWORKS: dict[str, Field] = {
    "gas_usd": Field(low=0, high=1e4),
    "provisioning_h": Field(low=0, high=_HOURS),
    "warmup_h": Field(low=0, high=_HOURS),
    "unbonding_h": Field(low=0, high=_HOURS),
    "lockup": Field(low=0, high=1),
    "lease": Field(),
    "lease_mean_h": Field(low=0, high=_HOURS),
    "break_h": Field(low=0, high=_HOURS),
    "slots": Field(low=0, high=1e6),
    "immunity_h": Field(low=0, high=_HOURS),
    "concentration": Field(low=0, high=20),
    "token_daily_sd": Field(low=0, high=5),
    "load": Field(low=0, high=2),
    "fault_multiple": Field(low=0, high=1e4),
    "estimate_usd": Field(low=0, high=1e6),
    "estimate_age_h": Field(default=0.0, low=0, high=_HOURS),
    "token_usd": Field(low=0, high=1e7),
    "outside_work": Field(low=0, high=1e15),
    "own_work": COMPUTED,
    "own_rigs": COMPUTED,
    "up": Field(default=True),
    "open": Field(default=True),
    "burn_usd": Field(low=0, high=1e7),
    "collateral_usd": Field(default=0.0, low=0, high=_USD),
    "rig_collateral_usd": Field(default=0.0, low=0, high=_USD),
    "turnover_usd": Field(low=0, high=1e15),
    "pool_usd": Field(default=0.0, low=0, high=1e12),
}
MARKETS: dict[str, Field] = {
    "btc_usd": Field(low=100, high=1e8),
    "rent_index": Field(default=1.0, low=0.001, high=1000),
    "hour_of_day": COMPUTED,
    "equity_usd": Field(low=-1e12, high=1e12),
    "nominal_usd_h": Field(low=0, high=1e7),
}
FIELDS = {"rigs": RIGS, "networks": NETWORKS, "market": MARKETS}
FACTS: dict[str, tuple[Column, ...]] = {
    "rigs": RIG_FACTS,
    "networks": NETWORK_FACTS,
    "market": MARKET,
}
AVERAGES = (
    *(Average(f"ema_{hours:g}h_usd", "estimate_usd", hours) for hours in EMA_H),
    *(Average(f"price_{hours:g}h_usd", "token_usd", hours) for hours in PRICE_EMA_H),
)
