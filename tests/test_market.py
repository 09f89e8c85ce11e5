"""The market: the same from a seed in any batch, at its levels, and with the calibrated law."""

from __future__ import annotations

import csv
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from env import catalog
from env.catalog import Token
from env.errors import InputError
from env.market import BuiltMarket, Prices, build_market, load_market, simulate_prices
from env.synthetic import draw_regimes, jump_shape

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TOKENS, GPUS = catalog.load_tokens(), catalog.load_gpus()
SPEC = load_market("synthetic")
BURN_IN_H = 336
CALIBRATED = ("BTC", "TAO", "AKT", "RENDER")
ALTS = ("TAO", "AKT", "RENDER", "FIL", "IO", "LPT", "ATH")


def some(*names: str) -> dict[str, Token]:
    return {name: TOKENS[name] for name in names}


def market(tokens: dict[str, Token] = TOKENS, horizon: int = 96) -> BuiltMarket:
    return build_market(SPEC, tokens, GPUS, horizon, BURN_IN_H)


def seeds(start: int, count: int) -> Tensor:
    return torch.arange(start, start + count)


def equal(one: Prices, other: Prices, rows: slice = slice(None)) -> bool:
    return all(
        torch.equal(getattr(one, f.name)[:, rows], getattr(other, f.name)) for f in fields(Prices)
    )


@cache
def years() -> tuple[BuiltMarket, Prices]:
    """48 worlds of a year, for statistics."""
    long = market(some("BTC", *ALTS), 24 * 365)
    return long, simulate_prices(long, seeds(0, 48))


@cache
def daily(name: str) -> Tensor:
    """Daily log returns of a token in `years`, float64 [days * worlds]."""
    long, prices = years()
    column = torch.log(prices.token_usd[BURN_IN_H::24, :, long.token_names.index(name)].double())
    return column.diff(dim=0).flatten()


def kurtosis(x: Tensor) -> float:
    x = x - x.mean()
    return float((x**4).mean() / (x**2).mean() ** 2 - 3)


def beta(name: str) -> float:
    btc = daily("BTC")
    return float((daily(name) * btc).mean() / (btc * btc).mean())


def partial_correlation(matrix: Tensor) -> Tensor:
    """Of the rows after the first, given the first; the pairs above the diagonal."""
    rest, given = matrix[1:, 1:], matrix[0, 1:]
    left = torch.sqrt(1 - given * given)
    pairs = torch.triu_indices(len(rest), len(rest), 1)
    return ((rest - given[:, None] * given) / (left[:, None] * left))[pairs[0], pairs[1]]


# the same world from the same seed


@pytest.mark.parametrize(("first", "count"), [(5, 1), (3, 7), (0, 64)])
def test_a_world_is_the_same_in_any_batch_and_row(first: int, count: int) -> None:
    whole = simulate_prices(market(), seeds(0, 64))
    part = simulate_prices(market(), seeds(first, count))
    assert equal(whole, part, slice(first, first + count))


def test_a_longer_episode_begins_like_a_shorter_one() -> None:
    short, long = (simulate_prices(market(horizon=h), seeds(0, 3)) for h in (50, 500))
    for f in fields(Prices):
        assert torch.equal(getattr(long, f.name)[: BURN_IN_H + 51], getattr(short, f.name)), f.name


def test_other_tokens_and_their_order_leave_a_token_alone() -> None:
    few, many = some("BTC", "AKT"), dict(reversed(TOKENS.items()))
    one, other = (simulate_prices(market(t), seeds(0, 4)) for t in (few, many))
    for name, small in (("BTC", 0), ("AKT", 1)):
        large = list(many).index(name)
        assert torch.equal(one.token_usd[..., small], other.token_usd[..., large])
        assert torch.equal(one.turnover_ratio[..., small], other.turnover_ratio[..., large])
    assert torch.equal(one.rent_ratio, other.rent_ratio)


def test_shapes_and_types() -> None:
    prices = simulate_prices(market(), seeds(0, 2))
    hours, p, g = BURN_IN_H + 97, len(TOKENS), len(GPUS)
    assert prices.token_usd.shape == prices.turnover_ratio.shape == (hours, 2, p)
    assert prices.rent_ratio.shape == (hours, 2, g)
    assert prices.btc_usd.shape == (hours, 2)
    assert {getattr(prices, f.name).dtype for f in fields(Prices)} == {torch.float32}
    assert torch.equal(prices.btc_usd, prices.token_usd[..., list(TOKENS).index("BTC")])


# levels


def test_prices_start_around_the_catalogue_and_a_dollar_stays_a_dollar() -> None:
    built = market()
    prices = simulate_prices(built, seeds(0, 2000))
    level = torch.log(prices.token_usd[BURN_IN_H] / built.law.start_usd)  # [B, P]
    for column, name in enumerate(TOKENS):
        spread = float(level[:, column].std())
        assert abs(float(level[:, column].mean())) < 0.02, name
        assert spread == 0 if name == "USD" else 0.08 < spread < 0.3, name
    assert (prices.token_usd[..., list(TOKENS).index("USD")] == 1).all()


def test_a_subnet_token_is_its_ratio_times_its_quote() -> None:
    """The ratio's moves do not depend on its quote's; in USD it moves with both."""
    tokens = some("BTC", "TAO", "ALPHA_SN64")
    prices = simulate_prices(market(tokens, 24 * 60), seeds(0, 64)).token_usd
    ratio = torch.log(prices[..., 2] / prices[..., 1]).diff(dim=0).flatten()
    quote = torch.log(prices[..., 1]).diff(dim=0).flatten()
    alpha = TOKENS["ALPHA_SN64"]
    annual = (alpha.vol_annual**2 + alpha.jumps_per_year * alpha.jump_sd**2) ** 0.5
    assert abs(float(torch.corrcoef(torch.stack((ratio, quote)))[0, 1])) < 0.02
    assert float(ratio.std()) * 8760**0.5 == pytest.approx(annual, rel=0.08)
    half = {**tokens, "ALPHA_SN64": replace(alpha, price_usd=alpha.price_usd / 2)}
    halved = simulate_prices(market(half, 24), seeds(0, 2)).token_usd
    assert torch.equal(halved * torch.tensor([1, 1, 2]), prices[: len(halved), :2])


@pytest.mark.parametrize("price", [1e-9, 1e9])
def test_extreme_prices_stay_finite_and_positive(price: float) -> None:
    wild = {
        n: replace(t, price_usd=price, vol_annual=max(t.vol_annual, 8.0)) for n, t in TOKENS.items()
    }
    prices = simulate_prices(market(wild, 720), seeds(0, 16))
    for f in fields(Prices):
        values = getattr(prices, f.name)
        assert torch.isfinite(values).all(), f.name
        assert (values > 0).all(), f.name


# the law, against the figures of the configuration


@pytest.mark.parametrize("name", CALIBRATED)
def test_volatility_and_beta_are_those_of_the_configuration(name: str) -> None:
    token, r, j = TOKENS[name], SPEC.regimes, SPEC.factor_jumps
    days = [s.mean_days for s in (r.bear, r.flat, r.bull)]
    square = [s.vol_annual**2 for s in (r.bear, r.flat, r.bull)]
    btc = sum(d * s for d, s in zip(days, square, strict=True)) / sum(days) + j.per_year * j.sd**2
    assert btc**0.5 == pytest.approx(TOKENS["BTC"].vol_annual, rel=0.02)  # one figure, two places
    own = token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2
    total = btc if name == "BTC" else token.beta_btc**2 * btc + own
    assert float(daily(name).std()) * 365**0.5 == pytest.approx(total**0.5, rel=0.04)
    assert beta(name) == pytest.approx(token.beta_btc, abs=0.06)


@pytest.mark.parametrize("name", ["TAO", "AKT", "RENDER"])
def test_the_tails_are_those_of_the_jumps(name: str) -> None:
    """Excess kurtosis of a compound Poisson: rate E J^4 over the squared daily variance."""
    token = TOKENS[name]
    rest = daily(name) - beta(name) * daily("BTC")
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shape = float((jump_shape(z) ** 4).mean())
    variance = (token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2) / 365
    expected = token.jumps_per_year / 365 * shape * token.jump_sd**4 / variance**2
    assert kurtosis(rest) == pytest.approx(expected, rel=0.3)
    assert float((jump_shape(z) ** 2).mean()) == pytest.approx(1, abs=0.01)


def test_tokens_share_the_alt_factor() -> None:
    """Correlation given BTC is the squared loading times the diffusion's part of the variance."""
    matrix = torch.corrcoef(torch.stack([daily(n) for n in ("BTC", *ALTS)]))
    own = [(t.vol_annual, t.jumps_per_year * t.jump_sd**2) for t in map(TOKENS.get, ALTS) if t]
    part = torch.tensor([v / (v * v + jumps) ** 0.5 for v, jumps in own])
    pairs = torch.triu_indices(len(ALTS), len(ALTS), 1)
    expected = SPEC.alt_loading**2 * part[pairs[0]] * part[pairs[1]]
    torch.testing.assert_close(partial_correlation(matrix).float(), expected, atol=0.06, rtol=0.0)


def test_hours_are_independent() -> None:
    """Neighbours share a Philox counter but no word; no lag within a day correlates."""
    moves = torch.log(years()[1].token_usd[: 24 * 100, :, 1]).diff(dim=0)
    for lag in (1, 2, 3, 4, 24):
        pair = torch.stack((moves[lag:].flatten(), moves[:-lag].flatten()))
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.01, lag


def test_regimes_last_and_drift_as_configured() -> None:
    long, prices = years()
    states = [SPEC.regimes.bear, SPEC.regimes.flat, SPEC.regimes.bull]
    days = sum(s.mean_days for s in states)
    regime = draw_regimes(SPEC.regimes, seeds(0, 48), long.hours)  # as of these prices
    moves = torch.log(prices.btc_usd).diff(dim=0)
    spread = []
    for code, state in enumerate(states):
        here = regime == code
        assert float(here.float().mean()) == pytest.approx(state.mean_days / days, abs=0.08)
        left = (here[:-1] & ~here[1:]).sum()
        assert float(here.sum() / left / 24) == pytest.approx(state.mean_days, rel=0.3)
        spread.append(float(moves[here[1:]].mean()) * 8760)
    assert spread[0] < spread[1] < spread[2]
    assert regime.shape == prices.btc_usd.shape


def test_rents_stand_still_and_move_in_steps() -> None:
    _, prices = years()
    rent = torch.log(prices.rent_ratio)
    moved = rent.diff(dim=0) != 0
    assert float(moved.float().mean()) * 24 * SPEC.rent_law.mean_step_days == pytest.approx(
        1, rel=0.1
    )
    assert float(rent[BURN_IN_H].std()) == pytest.approx(SPEC.rent_law.level_sd, rel=0.15)
    swing = (rent.amax(0) - rent.amin(0)).mean()
    assert 0.4 < float(swing) < 1.0  # +-40 % in 6 to 18 months, and each model's own steps
    between = torch.corrcoef((rent[-1] - rent[BURN_IN_H]).T)
    assert float(between[0, 1]) > 0.3  # the models share the cycle


def test_turnover_is_one_figure_a_day_around_the_catalogue() -> None:
    _, prices = years()
    log = torch.log(prices.turnover_ratio[:, :, 1])
    assert (log.diff(dim=0) != 0).nonzero()[:, 0].add(1).remainder(24).eq(0).all()
    day = log[::24]
    keep = 0.5 ** (1 / SPEC.turnover_law.half_life_days)
    pair = torch.stack((day[1:].flatten(), day[:-1].flatten()))
    assert float(day.std()) == pytest.approx(SPEC.turnover_law.log_sd, rel=0.05)
    assert abs(float(day.mean())) < 0.05
    assert float(torch.corrcoef(pair)[0, 1]) == pytest.approx(keep, abs=0.03)


# the law, against recorded closes


@pytest.mark.skipif(not DATA.exists(), reason="recorded statistics are not here")
@pytest.mark.parametrize("name", CALIBRATED)
def test_the_law_is_near_the_recorded_statistics(name: str) -> None:
    """Oracle: statistics of daily closes to 2025-03-31. BTC's figure has 2018 to 2020 in it."""
    with (DATA / "token_return_stats.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["token"] == name)
    rest = daily(name) - beta(name) * daily("BTC")
    vol = float(daily(name).std()) * 365**0.5
    assert beta(name) == pytest.approx(float(row["beta_btc"]), abs=0.06)
    if name == "BTC":
        assert 0.42 < vol < 0.68
    else:
        assert vol == pytest.approx(float(row["vol_annual"]), rel=0.06)
        own = float(row["idiosyncratic_vol_annual"])
        assert float(rest.std()) * 365**0.5 == pytest.approx(own, rel=0.06)
        assert kurtosis(daily(name)) == pytest.approx(float(row["excess_kurtosis"]), abs=1.2)


@pytest.mark.skipif(not DATA.exists(), reason="recorded statistics are not here")
def test_correlations_are_near_the_recorded_table() -> None:
    with (DATA / "token_return_corr.csv").open() as file:
        table = {row[""]: row for row in csv.DictReader(file)}
    names = list(table)
    recorded = torch.tensor([[float(table[a][b]) for b in names] for a in names])
    simulated = torch.corrcoef(torch.stack([daily(n) for n in ("BTC", *ALTS)]))
    given_btc = float(partial_correlation(recorded).mean())
    assert float(partial_correlation(simulated).mean()) == pytest.approx(given_btc, abs=0.05)
    order = [names.index(n) for n in ("BTC", *ALTS)]
    difference = simulated - recorded[order][:, order]
    assert float(difference.abs().mean()) < 0.15  # the table is five months with a dear BTC


def test_a_market_needs_its_factor() -> None:
    with pytest.raises(InputError, match="the market's factor BTC"):
        market(some("AKT"))
