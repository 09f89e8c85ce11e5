"""Token prices and GPU rents of an episode: simulated, or replayed from a file.

Both markets come through `simulate_prices`. Every price at the start of an episode is the
catalogue's (times a spread in a simulated world), so that yields stay comparable over the years.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from env.catalog import (
    _STRICT,
    GpuModel,
    NonNegative,
    Number,
    Positive,
    Share,
    Token,
    parse,
    preset,
)
from env.errors import InputError
from env.events import event_count, jumps
from env.replay import History, load_history, replayed
from env.shocks import Stream, exponential, name_hash, name_hashes, normals, uniform, words

HOURS_PER_YEAR = 8760.0
CHUNK_H = 128  # hours of random words drawn at a time, to bound memory
Three = Annotated[tuple[Number, ...], Field(min_length=3, max_length=3)]


@dataclass(config=_STRICT)
class Regimes:
    """Bear, flat and bull: annual log drift and volatility of Bitcoin, mean length in days."""

    drift_annual: Three
    vol_annual: Three
    mean_days: Positive


@dataclass(config=_STRICT)
class Rents:
    """Listed rents move in steps: per model, for all models at once, and a level per world."""

    steps_per_year: NonNegative
    step_sd: NonNegative
    common_step_sd: NonNegative
    level_sd: NonNegative


@dataclass(config=_STRICT)
class MarketSpec:
    """A market's configuration; the keys from `prices` on are for replay."""

    kind: Literal["synthetic", "replay"]
    regimes: Regimes
    btc_jumps_per_year: NonNegative
    btc_jump_sd: NonNegative
    common_share: Share  # of the tokens' own variance that is one common factor
    level_sd: NonNegative
    turnover_sd: NonNegative
    rents: Rents
    prices: str | None = None
    split: Literal["train", "validation", "test", "all"] = "train"
    shares: Annotated[tuple[Share, ...], Field(min_length=3, max_length=3)] = (0.60, 0.15, 0.25)
    embargo_days: NonNegative = 7.0
    start: str | None = None
    end: str | None = None


@plain(frozen=True)
class BuiltMarket:
    """A market ready to simulate; `horizon_h` may be shorter than asked for on a short history."""

    spec: MarketSpec
    token_names: tuple[str, ...]
    index: Tensor  # int64 [P]
    quote: Tensor  # int64 [P] row of the quote token, itself where there is none
    price: Tensor  # [P] at the catalogue's date, in quote units
    beta: Tensor  # [P]
    vol_h: Tensor  # [P] own diffusion per square root of an hour
    drift_h: Tensor  # [P]
    jump_p: Tensor  # [P] probability of a jump in an hour
    jump_sd: Tensor  # [P]
    btc_corr: Tensor  # [P] correlation of an hour's return with Bitcoin's
    gpu_index: Tensor  # int64 [G]
    horizon_h: int
    burn_in_h: int
    history: History | None


@plain(frozen=True)
class Prices:
    """Prices of a batch of worlds, float32, burn-in first, T = burn_in + horizon + 1."""

    token_usd: Tensor  # [T, B, P]
    btc_usd: Tensor  # [T, B]
    rent_ratio: Tensor  # [T, B, G] over the catalogue's rent
    turnover_ratio: Tensor  # [T, B, P] over the catalogue's daily turnover
    regime: Tensor  # int8 [T, B] 0 bear, 1 flat, 2 bull; -1 in a replay


def load_market(selection: str | Mapping[str, Any]) -> MarketSpec:
    """A preset of `configs/market` by name, or its keys as a mapping (defaults: synthetic's)."""
    data = dict(preset("market", selection) if isinstance(selection, str) else selection)
    data.pop("defaults", None)
    base = preset("market", "synthetic")
    spec = parse(MarketSpec, {**base, **data}, "market")
    if spec.kind == "replay" and spec.prices in (None, "???"):
        raise InputError("market.prices", "the path of a CSV or Parquet file", spec.prices)
    if abs(sum(spec.shares) - 1) > 1e-6:
        raise InputError("market.shares", "three shares that sum to 1", list(spec.shares))
    return spec


def build_market(
    spec: MarketSpec,
    tokens: Mapping[str, Token],
    gpus: Mapping[str, GpuModel],
    horizon_h: int,
    burn_in_h: int,
    device: torch.device,
) -> BuiltMarket:
    """Read and check everything once. `tokens` holds BTC and every quote token."""
    names = list(tokens)
    history = None
    if spec.kind == "replay":
        history = load_history(spec, names, horizon_h, burn_in_h, device)
        horizon_h = history.horizon_h

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    rows = list(tokens.values())
    return BuiltMarket(
        spec=spec,
        token_names=tuple(names),
        index=name_hashes(names, device),
        quote=torch.tensor([names.index(t.quote or n) for n, t in tokens.items()], device=device),
        price=column([t.price_usd for t in rows]),
        beta=column([0.0 if n == "BTC" else t.beta_btc for n, t in tokens.items()]),
        vol_h=column([0.0 if n == "BTC" else t.vol_annual for n, t in tokens.items()])
        / HOURS_PER_YEAR**0.5,
        drift_h=column([0.0 if n == "BTC" else t.drift_annual for n, t in tokens.items()])
        / HOURS_PER_YEAR,
        jump_p=column([0.0 if n == "BTC" else t.jumps_per_year for n, t in tokens.items()])
        / HOURS_PER_YEAR,
        jump_sd=column([t.jump_sd for t in rows]),
        btc_corr=column([_btc_correlation(n, t, tokens) for n, t in tokens.items()]),
        gpu_index=name_hashes(list(gpus), device),
        horizon_h=horizon_h,
        burn_in_h=burn_in_h,
        history=history,
    )


def _btc_correlation(name: str, token: Token, tokens: Mapping[str, Token]) -> float:
    """Of an hour's return with Bitcoin's, from the catalogue's beta and volatilities."""
    if name == "BTC":
        return 1.0
    common = token.beta_btc * tokens["BTC"].vol_annual
    own = token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2
    return float(common / (common**2 + own) ** 0.5)


def simulate_prices(market: BuiltMarket, seeds: Tensor) -> Prices:
    """Prices of each seed (int64 [B]) for a whole episode; the same for any batch and row."""
    hours = market.burn_in_h + market.horizon_h + 1
    regime = _regimes(market, seeds, hours)
    log = _token_returns(market, seeds, hours)  # own part first, [T, B, P]
    btc = market.token_names.index("BTC")
    factor = _btc_returns(market, seeds, regime)  # [T, B]
    recorded = None
    if market.history is not None:
        regime = torch.full_like(regime, -1)
        recorded, known = replayed(market.history, market.index, market.btc_corr, seeds, hours)
        change = torch.diff(recorded[:, :, btc], dim=0, prepend=recorded[:1, :, btc])
        factor = torch.where(known[:, btc], change, factor)
    log.addcmul_(factor.unsqueeze(-1), market.beta)
    log[:, :, btc] = factor
    log = torch.cumsum(log, 0)
    if recorded is not None:
        log = torch.where(known, recorded, log)
    log = log - log[market.burn_in_h].clone()
    if market.history is None:
        log = log + market.spec.level_sd * _spread(market, seeds)[0]
    ratio = market.quote != torch.arange(len(market.quote), device=seeds.device)
    own = torch.exp(log) * market.price
    token_usd = torch.where(ratio, own * own[:, :, market.quote], own)
    turnover = torch.exp(log + market.spec.turnover_sd * _spread(market, seeds)[1])
    return Prices(
        token_usd=token_usd.clamp(1e-30, 1e30),
        btc_usd=token_usd[:, :, btc],
        rent_ratio=_rents(market, seeds, hours),
        turnover_ratio=turnover.clamp(1e-12, 1e12),
        regime=regime.to(torch.int8),
    )


def _spread(market: BuiltMarket, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Level of each token's price and turnover in a world, standard normals [B, P]."""
    zero = torch.zeros_like(market.index)
    w = words(seeds[:, None], Stream.BASIS, market.index, zero)
    price, turnover = normals(w[0], w[1])
    return price * (market.vol_h > 1e-6), turnover


def _regimes(market: BuiltMarket, seeds: Tensor, hours: int) -> Tensor:
    """The regime of each hour, int64 [T, B]: exponential lengths, then one of the other two."""
    mean_h = 24 * market.spec.regimes.mean_days
    count = event_count(1 / mean_h, hours)
    index = torch.tensor(name_hash("regime"), device=seeds.device)
    numbers = torch.arange(count + 1, device=seeds.device)[:, None]
    w = words(seeds, Stream.REGIME, index, numbers)  # [K, B]
    first = (uniform(w[0][0]) * 3).long()
    steps = 1 + (uniform(w[1][1:]) * 2).long()  # one or two states on
    state = torch.cat((first[None], first + torch.cumsum(steps, 0))) % 3
    start = torch.cumsum(exponential(w[2][1:]) * mean_h, 0)
    clock = torch.arange(hours, device=seeds.device)[:, None]
    passed = torch.zeros(hours, len(seeds), dtype=torch.int64, device=seeds.device)
    for k in range(count):
        passed += clock >= start[k]
    return state.gather(0, passed)


def _btc_returns(market: BuiltMarket, seeds: Tensor, regime: Tensor) -> Tensor:
    """Hourly log returns of the simulated Bitcoin, [T, B]."""
    r, spec = market.spec.regimes, market.spec
    drift = torch.tensor(r.drift_annual, device=seeds.device)[regime] / HOURS_PER_YEAR
    vol = torch.tensor(r.vol_annual, device=seeds.device)[regime] / HOURS_PER_YEAR**0.5
    index = torch.tensor(name_hash("BTC"), device=seeds.device)
    hour = torch.arange(len(regime), device=seeds.device)[:, None]
    w = words(seeds, Stream.TOKEN, index, hour)
    z, size = normals(w[0], w[1])
    jump = (uniform(w[2]) < spec.btc_jumps_per_year / HOURS_PER_YEAR) * size * spec.btc_jump_sd
    return drift + vol * z + jump


def _token_returns(market: BuiltMarket, seeds: Tensor, hours: int) -> Tensor:
    """Hourly log returns of each token beside Bitcoin's part, [T, B, P]: diffusion and jumps."""
    out = torch.empty(hours, len(seeds), len(market.index), device=seeds.device)
    common_index = torch.tensor(name_hash("alt-factor"), device=seeds.device)
    shared = market.spec.common_share**0.5
    alone = (1 - market.spec.common_share) ** 0.5
    for start in range(0, hours, CHUNK_H):
        hour = torch.arange(start, min(start + CHUNK_H, hours), device=seeds.device)
        w = words(seeds[:, None], Stream.TOKEN, market.index, hour[:, None, None])
        z, size = normals(w[0], w[1])
        c = words(seeds, Stream.TOKEN, common_index, hour[:, None])
        common = normals(c[0], c[1])[0].unsqueeze(-1)
        jump = (uniform(w[2]) < market.jump_p) * size * market.jump_sd
        part = market.vol_h * (shared * common + alone * z) + jump + market.drift_h
        out[start : start + CHUNK_H] = part
    return out


def _rents(market: BuiltMarket, seeds: Tensor, hours: int) -> Tensor:
    """Rent over the catalogue's, by GPU model: a level per world and steps, [T, B, G]."""
    rents = market.spec.rents
    rate = torch.full((), rents.steps_per_year / HOURS_PER_YEAR, device=seeds.device)
    everyone = name_hashes(["rent-index"], seeds.device)
    sd = torch.ones((), device=seeds.device)
    own = jumps(seeds, Stream.RENT, market.gpu_index, rate, sd * rents.step_sd, hours)
    common = jumps(seeds, Stream.RENT, everyone, rate, sd * rents.common_step_sd, hours)
    w = words(seeds, Stream.BASIS, everyone, torch.zeros_like(everyone))
    level = rents.level_sd * normals(w[0], w[1])[0]
    return torch.exp(own + common + level[:, None])
