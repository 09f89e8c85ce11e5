"""The columns of a snapshot: names, units and order in the tensors are part of this code, limits,
defaults and the catalogue's entries are the bundle's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .document import span
from .errors import FieldError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

OFF = "off"  # the network of a rig that is switched off, always the last
BOOLEAN = "0/1"
LARGEST = float(np.finfo(np.float32).max)  # the graph computes in float32

RIGS = {
    "gpu_count": "1",
    "vram_gb": "GB",
    "fp16_tflops": "TFLOPS",
    "bandwidth_gb_s": "GB/s",
    "power_kw": "kW",
    "owned": BOOLEAN,
    "tiebreak": "1",
    "tariff_usd_kwh": "USD/kWh",
    "housing_usd_h": "USD/h",
    "up": BOOLEAN,
    "provisioning_h": "h",
    "tenure_h": "h",
    "score": "1",
    "lease_h": "h",
    "lease_usd_h": "USD/h",
    "idle_h": "h",
    "leaving_usd": "USD",
    "last_gross_usd": "USD",
    "last_net_usd": "USD",
}
NETWORKS = {
    "gas_usd": "USD",
    "provisioning_h": "h",
    "warmup_h": "h",
    "unbonding_h": "h",
    "lockup": "1",
    "lease": BOOLEAN,
    "lease_mean_h": "h",
    "break_h": "h",
    "slots": "1",
    "immunity_h": "h",
    "concentration": "1",
    "token_daily_sd": "1",
    "load": "1",
    "fault_multiple": "1",
    "estimate_usd": "USD/h",
    "estimate_age_h": "h",
    "token_usd": "USD",
    "outside_work": "work",
    "own_work": "work",
    "own_rigs": "1",
    "up": BOOLEAN,
    "open": BOOLEAN,
    "burn_usd": "USD",
    "collateral_usd": "USD",
    "rig_collateral_usd": "USD",
    "turnover_usd": "USD/day",
    "pool_usd": "USD",
}
MARKET = {
    "btc_usd": "USD",
    "rent_index": "1",
    "hour_of_day": "h",
    "equity_usd": "USD",
    "nominal_usd_h": "USD/h",
}
AVERAGES = {  # rows of the memory [5, N]: the column that is averaged, over how many hours
    "ema_6h_usd": ("estimate_usd", 6.0),
    "ema_48h_usd": ("estimate_usd", 48.0),
    "ema_336h_usd": ("estimate_usd", 336.0),
    "price_24h_usd": ("token_usd", 24.0),
    "price_168h_usd": ("token_usd", 168.0),
}
COMPUTED = frozenset({"tiebreak", "own_work", "own_rigs", "hour_of_day"})  # never in a snapshot
GPU = ("vram_gb", "fp16_tflops", "bandwidth_gb_s")  # known from the GPU's model


class Field(NamedTuple):
    """A number or boolean that a snapshot may give; null there means that nobody knows it now."""

    name: str
    unit: str
    low: float  # outside low to high the unit must be wrong
    high: float
    default: float | None  # None = must be given

    def check(self, value: Any, path: str) -> None:
        """`FieldError` unless value may stand in this field."""
        if value is None:
            return
        if self.unit == BOOLEAN:
            right = isinstance(value, bool)
        else:  # an infinite number is no feed, so no limit binds it
            right = isinstance(value, int | float) and not isinstance(value, bool)
            right = right and not (abs(value) < np.inf and not self.low <= value <= self.high)
        if not right:
            raise FieldError(path, self.wanted, value)

    @property
    def wanted(self) -> str:
        if self.unit == BOOLEAN:
            return "true or false"
        limits = "" if self.high >= LARGEST <= -self.low else f" {span(self.low, self.high)}"
        return f"a number in {self.unit}{limits}" if self.unit != "1" else f"a number{limits}"


@dataclass(frozen=True, eq=False)
class Group:
    """The columns of rigs, networks or market, and the entries that the catalogue fills in."""

    fields: tuple[Field, ...]  # in tensor order; of networks, the averages after them
    catalog: dict[str, int]  # row of `base` of each GPU model or network that is known
    base: Floats  # [K + 1, C] values where a snapshot gives none; the last row for unknown names
    supplied: frozenset[str]  # the columns that the catalogue gives of every name it knows
    extra: frozenset[str]  # fields that are no column

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each column in the tensor."""
        return {field.name: k for k, field in enumerate(self.fields)}

    @cached_property
    def given(self) -> frozenset[str]:
        """The columns that a snapshot may hold."""
        return frozenset(self.index) - COMPUTED

    @cached_property
    def allowed(self) -> frozenset[str]:
        """All that a row of a snapshot may hold."""
        return self.given | self.extra

    @cached_property
    def limits(self) -> Floats:
        """Lowest and highest value of each column, [2, C]."""
        return np.array([[f.low for f in self.fields], [f.high for f in self.fields]])

    @cached_property
    def types(self) -> tuple[frozenset[type], ...]:
        """The types that JSON gives the values of each column."""
        numbers: frozenset[type] = frozenset({int, float, type(None)})
        booleans: frozenset[type] = frozenset({bool, type(None)})
        return tuple(booleans if f.unit == BOOLEAN else numbers for f in self.fields)

    @cached_property
    def required(self) -> tuple[frozenset[str], frozenset[str]]:
        """The columns that a row must give: of a known name, and of any other."""
        least = {f.name for f in self.fields if f.default is None} & self.given
        return frozenset(least - self.supplied), frozenset(least)


class Paid(NamedTuple):
    """What a network's pay is counted in."""

    token: str | None  # its token, None = it pays in none, or nobody says in which
    share: float  # of its pay that moves with the token's price; the rest is in USD


IN_USD = Paid(None, 0.0)
UNTOLD = Paid(None, 1.0)  # of a network that the bundle does not know: all its pay moves


@dataclass(frozen=True, eq=False)
class Columns:
    """What reading a snapshot takes, compiled once from a bundle's manifest."""

    rigs: Group  # 19 columns
    networks: Group  # 27 columns, then the 5 averages
    market: Group  # 5 columns
    off: Floats  # [27] the network `off`
    mass: Floats  # [G + 1, K + 1] work of one GPU; the last row and column, of unknown ones, 0
    per_rig: Bools  # [K + 1] the work of a rig is that of one GPU
    min_gpus: Floats  # [K + 1]
    paid: Mapping[str, Paid] = field(default_factory=dict)  # by network
