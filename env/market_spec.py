"""What a market is: the law of simulated prices, and the file that may replace it.

Values with their sources are in `configs/market`; `replay.yaml` builds on `synthetic.yaml`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from env.errors import InputError
from env.parsing import STRICT, NonNegative, Number, Positive, Share, parse, preset

FILES = ("prices", "turnover", "rents", "availability")  # keys of a replay that hold a path
_Part = Annotated[float, Field(gt=0, le=1)]


@dataclass(config=STRICT)
class Regime:
    """A state of the whole market, which lasts an exponential time."""

    drift_annual: Number  # of log BTC
    vol_annual: NonNegative  # of BTC, without its jumps
    mean_days: Positive


@dataclass(config=STRICT)
class Regimes:
    """The three states, in the order of `env.synthetic.draw_regimes`."""

    bear: Regime
    flat: Regime
    bull: Regime


@dataclass(config=STRICT)
class Jumps:
    """Compound Poisson jumps of log BTC, normal with mean zero."""

    per_year: NonNegative
    sd: NonNegative


@dataclass(config=STRICT)
class TurnoverLaw:
    """Daily turnover: lognormal around the catalogue's, mean-reverting, partly in common."""

    log_sd: NonNegative
    half_life_days: Positive
    common_loading: Share


@dataclass(config=STRICT)
class RentLaw:
    """GPU rents: posted anew at random times, own steps on a common cycle."""

    mean_step_days: Positive
    step_sd: NonNegative
    cycle_share: NonNegative  # amplitude: 0.4 swings between 1/1.4 and 1.4 times the mean
    cycle_days: tuple[Positive, Positive]  # shortest and longest period
    level_sd: NonNegative


@dataclass(config=STRICT)
class Fractions:
    """Shares of the file's dates, in this order."""

    train: _Part = 0.60
    validation: _Part = 0.15
    test: _Part = 0.25


@dataclass(config=STRICT)
class MarketSpec:
    """A market; the keys from `prices` on are for a replay."""

    kind: Literal["synthetic", "replay"]
    level_days: NonNegative  # the level at hour 0 is off by so many days of the token's own moves
    alt_loading: Share  # of each token's diffusion on the factor common to all but BTC
    regimes: Regimes
    factor_jumps: Jumps
    turnover_law: TurnoverLaw
    rent_law: RentLaw
    prices: str | None = None
    turnover: str | None = None
    rents: str | None = None
    availability: str | None = None
    split: Literal["train", "validation", "test", "all"] = "all"
    start: datetime.date | None = None
    end: datetime.date | None = None
    fractions: Fractions = Fractions()
    embargo_days: Annotated[int, Field(ge=0)] = 7
    max_gap_days: Annotated[int, Field(ge=0)] = 7
    trailing_days: Annotated[int, Field(ge=5)] = 30
    bridge_dof: Annotated[float, Field(gt=2, le=1000)] = 2.3
    bridge_loading: Share = 0.77


def load_market(selection: str | Mapping[str, Any]) -> MarketSpec:
    """A preset of `configs/market` by name, or its keys; those left out are the preset's."""
    kind = selection if isinstance(selection, str) else str(selection.get("kind", "synthetic"))
    data = _preset(kind) | ({} if isinstance(selection, str) else dict(selection))
    spec = parse(MarketSpec, data, "market")
    f = spec.fractions
    if f.train + f.validation + f.test > 1 + 1e-9:
        raise InputError("market.fractions", "parts that add up to at most 1", vars(f))
    if spec.start and spec.end and spec.start >= spec.end:
        raise InputError("market.end", f"a date after {spec.start}", str(spec.end))
    low, high = spec.rent_law.cycle_days
    if low > high:
        raise InputError("market.rent_law.cycle_days", "the shortest period first", [low, high])
    if spec.kind == "replay" and not spec.prices:
        raise InputError("market.prices", "the path of a CSV or Parquet file", spec.prices)
    for key in FILES:
        if spec.kind == "synthetic" and getattr(spec, key):
            raise InputError(f"market.{key}", "no file in a synthetic market", getattr(spec, key))
    return spec


def _preset(name: str) -> dict[str, Any]:
    """A preset with those named in its `defaults`, as Hydra composes them (`_self_` is last)."""
    data = dict(preset("market", name))
    bases = [base for base in data.pop("defaults", []) if base != "_self_"]
    return {k: v for base in bases for k, v in _preset(base).items()} | data
