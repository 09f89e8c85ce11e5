"""Replay: closes met exactly, hours between them that tell nothing, ranges that are apart."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from closes import BURN_IN_H, CLOSES, GPUS, NAMES, TOKENS, replay, saved, seeds, some, table

from env.bridge import draw_window
from env.market import BuiltMarket, Prices, build_market, load_market, simulate_prices


def window_start(market: BuiltMarket, seed: int, closes: pd.DataFrame) -> int:
    """The row of the file at which a world starts, found by its BTC returns."""
    btc = torch.log(simulate_prices(market, seeds(seed, 1)).btc_usd[::24, 0]).diff().numpy()
    recorded = np.log(closes["BTC"].to_numpy())
    fits = [
        row
        for row in range(len(closes) - len(btc))
        if np.allclose(np.diff(recorded[row : row + len(btc) + 1]), btc, atol=1e-4)
    ]
    assert len(fits) == 1
    return fits[0]


# what comes out


@pytest.mark.parametrize("name", ["closes.csv", "closes.parquet"])
def test_every_close_is_met_and_the_catalogue_s_price_at_the_start(
    name: str, tmp_path: Path
) -> None:
    closes = table()
    market = replay(saved(closes, tmp_path, name))
    prices = simulate_prices(market, seeds(0, 4))
    for world in range(4):
        row = window_start(market, world, closes)
        for token, column in (("TAO", "tao"), ("AKT", "Akt")):
            recorded = closes[column].to_numpy()[row : row + 19]
            replayed = prices.token_usd[::24, world, NAMES.index(token)].numpy()
            np.testing.assert_allclose(replayed / replayed[0], recorded / recorded[0], rtol=1e-4)
    start = torch.tensor([TOKENS[n].price_usd for n in NAMES])
    start[-1] *= TOKENS["TAO"].price_usd
    torch.testing.assert_close(prices.token_usd[BURN_IN_H], start.expand(4, -1))


def test_an_hourly_file_is_replayed_as_it_is(tmp_path: Path) -> None:
    closes = table(24 * 60, freq="h").rename(columns={"date": "timestamp"})
    prices = simulate_prices(replay(saved(closes, tmp_path)), seeds(0, 2))
    moves = np.diff(np.log(closes["BTC"].to_numpy()))
    seen = torch.log(prices.btc_usd[:, 0]).diff().numpy()
    assert any(
        np.allclose(moves[k : k + len(seen)], seen, atol=1e-4)
        for k in range(len(moves) - len(seen))
    )


@pytest.mark.parametrize(("first", "count"), [(5, 1), (3, 7), (0, 64)])
def test_a_world_is_the_same_in_any_batch_and_row(first: int, count: int, tmp_path: Path) -> None:
    market = replay(saved(table(), tmp_path))
    whole, part = (simulate_prices(market, s) for s in (seeds(0, 64), seeds(first, count)))
    for f in fields(Prices):
        assert torch.equal(getattr(whole, f.name)[:, first : first + count], getattr(part, f.name))


def test_nothing_after_the_next_close_changes_an_hour(tmp_path: Path) -> None:
    """The volatility looks back: other closes later on leave the hours before them alone."""
    closes = table(60)
    keys: dict[str, Any] = {"horizon": 59 * 24 - BURN_IN_H}  # one window fits: all start alike
    before = simulate_prices(replay(saved(closes, tmp_path), **keys), seeds(0, 4))
    closes.iloc[31:, 1:4] *= np.array([1.5, 0.5, 2.0])
    after = simulate_prices(replay(saved(closes, tmp_path, "other.csv"), **keys), seeds(0, 4))
    recorded = [NAMES.index(n) for n in ("BTC", "TAO", "AKT", "HEU")]
    same = 30 * 24 + 1
    one, other = before.token_usd[..., recorded], after.token_usd[..., recorded]
    torch.testing.assert_close(one[:same], other[:same], rtol=1e-5, atol=0)
    assert not torch.allclose(one[same:], other[same:])


def test_tokens_the_file_lacks_follow_its_btc(tmp_path: Path) -> None:
    market = replay(saved(table(), tmp_path), horizon=24 * 90)
    moves = torch.log(simulate_prices(market, seeds(0, 64)).token_usd[::24]).diff(dim=0)
    btc, heu = (moves[..., NAMES.index(n)].flatten() for n in ("BTC", "HEU"))
    slope = float((btc * heu).mean() / (btc * btc).mean())
    assert slope == pytest.approx(TOKENS["HEU"].beta_btc, abs=0.1)


def test_a_subnet_token_follows_its_recorded_quote_and_their_ratio_the_law(tmp_path: Path) -> None:
    """No TAO but the recorded one: the ratio has the catalogue's volatility and ignores TAO."""
    prices = simulate_prices(replay(saved(table(), tmp_path), 24 * 60), seeds(0, 64)).token_usd
    tao, alpha = (torch.log(prices[..., NAMES.index(n)]) for n in ("TAO", "ALPHA_SN51"))
    token = TOKENS["ALPHA_SN51"]
    annual = (token.vol_annual**2 + token.jumps_per_year * token.jump_sd**2) ** 0.5
    ratio, quote = ((alpha - tao).diff(dim=0).flatten(), tao.diff(dim=0).flatten())
    assert float(ratio.std()) * 8760**0.5 == pytest.approx(annual, rel=0.08)
    assert abs(float(torch.corrcoef(torch.stack((ratio, quote)))[0, 1])) < 0.02


def test_a_subnet_token_that_is_recorded_itself_does_not_get_its_quote_again(
    tmp_path: Path,
) -> None:
    """It is in the file for the later half: worlds that start before it follow the law."""
    closes = table(400)
    own = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.03, 400)))
    closes["ALPHA_SN51"] = np.where(np.arange(400) < 200, np.nan, own)
    prices = simulate_prices(replay(saved(closes, tmp_path)), seeds(0, 24)).token_usd
    begins = [window_start(replay(saved(closes, tmp_path)), k, closes) for k in range(24)]
    recorded = [k for k, row in enumerate(begins) if row >= 200]
    assert 4 < len(recorded) < 20
    for world in recorded:
        replayed = prices[::24, world, NAMES.index("ALPHA_SN51")].numpy()
        meant = own[begins[world] : begins[world] + 19]
        np.testing.assert_allclose(replayed / replayed[0], meant / meant[0], rtol=1e-4)
    rest = [k for k in range(24) if k not in recorded]
    ratio = prices[:, rest, NAMES.index("ALPHA_SN51")] / prices[:, rest, NAMES.index("TAO")]
    assert float(torch.log(ratio).diff(dim=0).std()) < 0.012  # 0.9 a year, without TAO's moves


def test_a_token_without_data_in_a_window_is_simulated_there(tmp_path: Path) -> None:
    """AKT is listed half-way: worlds that start before follow the law, later ones the file."""
    closes = table(400)
    closes.loc[:199, "Akt"] = np.nan
    closes.loc[200:, "tao"] = np.nan
    market = replay(saved(closes, tmp_path))
    assert market.history is not None
    window = draw_window(market.history, seeds(0, 200), market.hours, BURN_IN_H, 2.3, 0.77)
    names = market.history.names
    known = {n: window.known[:, names.index(n)] for n in ("BTC", "TAO", "AKT")}
    assert known["BTC"].all()
    assert 0.2 < float(known["AKT"].float().mean()) < 0.8
    assert not (known["TAO"] & known["AKT"]).any()
    assert (known["TAO"] | known["AKT"]).all()  # a window holds more than BTC where one can
    prices = simulate_prices(market, seeds(0, 200)).token_usd
    assert torch.isfinite(prices).all()
    assert (prices.diff(dim=0)[..., NAMES.index("AKT")] != 0).all(1).float().mean() > 0.9


def test_without_btc_in_the_file_the_factor_is_simulated(tmp_path: Path) -> None:
    market = replay(saved(table().drop(columns="BTC"), tmp_path), horizon=24 * 60)
    btc = torch.log(simulate_prices(market, seeds(0, 64)).btc_usd).diff(dim=0)
    assert float(btc.std()) * 8760**0.5 == pytest.approx(0.55, abs=0.05)


def test_turnover_of_a_file_is_over_its_trailing_median(tmp_path: Path) -> None:
    closes = table(60)
    traded = closes.assign(BTC=np.arange(60) + 100.0, tao=7.0, Akt=0.0)
    market = replay(
        saved(closes, tmp_path),
        horizon=45 * 24 - BURN_IN_H,
        start=closes["date"][14].date(),
        turnover=str(saved(traded, tmp_path, "traded.csv")),
    )
    ratio = simulate_prices(market, seeds(0, 2)).turnover_ratio
    days = np.arange(14, 60) + 100.0
    median = np.median(np.arange(0, 29) + 100.0)  # up to the episode's start, 14 days in
    expected = torch.tensor(np.repeat(days, 24)[: len(ratio)] / median, dtype=torch.float32)
    torch.testing.assert_close(ratio[:, 0, 0], expected, rtol=1e-4, atol=0)
    assert (ratio[..., NAMES.index("TAO")] == 1).all()
    assert float(torch.log(ratio[..., NAMES.index("AKT")]).std()) > 0.3  # zeros: simulated


# the bridge


def halves(market: BuiltMarket, token: str, worlds: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns of the first and the second half of each recorded day, [days, worlds]."""
    prices = simulate_prices(market, seeds(0, worlds)).token_usd[
        ..., market.token_names.index(token)
    ]
    half = torch.log(prices[::12].double()).diff(dim=0).numpy()
    return half[0::2], half[1::2]


def calm_and_wild(market: BuiltMarket, token: str, worlds: int) -> list[float]:
    """Correlation of a day's halves in calm and in wild months, by what happened and by what was
    known at the start of the day (30 trailing days)."""
    first, second = halves(market, token, worlds)
    day = first + second
    months = len(day) // 30
    realised = day[: months * 30].reshape(months, 30, -1).std(1).repeat(30, 0)
    trailing = np.stack([day[k - 30 : k].std(0) for k in range(30, len(day))])
    out = []
    for level, begin in ((realised, 0), (trailing, 30)):
        a, b = first[begin : begin + len(level)], second[begin : begin + len(level)]
        for chosen in (level < np.median(level), level >= np.median(level)):
            out.append(float(np.corrcoef(a[chosen], b[chosen])[0, 1]))
    return out


def test_a_morning_tells_nothing_of_its_afternoon(tmp_path: Path) -> None:
    """Generated file: volatility doubles or halves from month to month, Student tails."""
    market = replay(saved(table(4 * 365), tmp_path), horizon=24 * 700)
    for token in ("BTC", "TAO", "AKT"):
        assert max(map(abs, calm_and_wild(market, token, 48))) < 0.1, token


@pytest.mark.skipif(not CLOSES.exists(), reason="recorded closes are not here")
@pytest.mark.parametrize("token", ["BTC", "TAO", "AKT", "RENDER", "FIL", "LPT"])
def test_recorded_mornings_tell_nothing_of_their_afternoons(token: str) -> None:
    market = replay(CLOSES, horizon=24 * 200, names=("BTC", token))
    assert max(map(abs, calm_and_wild(market, token, 64))) < 0.1


def test_the_hours_have_the_days_volatility(tmp_path: Path) -> None:
    market = replay(saved(table(4 * 365), tmp_path), horizon=24 * 700)
    log = torch.log(simulate_prices(market, seeds(0, 16)).btc_usd.double())
    hourly = float((log.diff(dim=0) ** 2).mean()) * 24
    assert hourly == pytest.approx(float((log[::24].diff(dim=0) ** 2).mean()), rel=0.1)


# ranges


def test_training_validation_and_test_share_no_day(tmp_path: Path) -> None:
    closes = table(600)
    path, used = saved(closes, tmp_path), {}
    for split in ("train", "validation", "test"):
        market = replay(path, horizon=72, split=split)
        starts = {window_start(market, seed, closes) for seed in range(24)}
        used[split] = (min(starts), max(starts) + market.hours // 24)
        assert len(starts) > 4
    assert used["train"][1] <= 360
    assert used["validation"][0] >= 360 + 7
    assert used["validation"][1] <= 450
    assert used["test"][0] >= 450 + 7


@pytest.mark.parametrize("key", ["start", "end"])
def test_dates_outside_a_chosen_range_are_not_used(key: str, tmp_path: Path) -> None:
    closes = table(200)
    market = replay(saved(closes, tmp_path), **{key: closes["date"][100].date()})
    rows = [window_start(market, seed, closes) for seed in range(12)]
    if key == "start":
        assert min(rows) >= 100
    else:
        assert max(rows) + market.hours // 24 <= 100


def warned(path: Path, horizon: int = 96, **keys: Any) -> tuple[BuiltMarket, str]:
    spec = load_market({"kind": "replay", "prices": str(path), "split": "all", **keys})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        market = build_market(spec, some(*NAMES), GPUS, horizon, BURN_IN_H)
    return market, "\n".join(str(w.message) for w in caught)


def test_absent_tokens_are_listed(tmp_path: Path) -> None:
    _, said = warned(saved(table(), tmp_path))
    assert said.endswith("not in the file, simulated on BTC's moves: HEU, ALPHA_SN51")


def test_a_short_gap_is_filled_and_a_long_one_splits_the_series(tmp_path: Path) -> None:
    asked = 110 * 24
    closes = table(120)[["date", "BTC"]]
    closes.loc[40:46, "BTC"] = np.nan  # seven days
    market, said = warned(saved(closes, tmp_path), horizon=asked)
    assert "gaps interpolated in logs: BTC (1 of up to 168 h)" in said
    assert market.horizon_h == 119 * 24 - BURN_IN_H
    closes.loc[47, "BTC"] = np.nan
    market, said = warned(saved(closes, tmp_path), horizon=asked)
    assert "gaps" not in said
    assert market.horizon_h == 71 * 24 - BURN_IN_H  # the longer piece, rows 48 to 119
    assert f"all allows episodes of {71 * 24 - BURN_IN_H} h, not {asked}" in said
    missing_rows = table(120).drop(index=range(30, 34))
    assert "BTC (1 of up to 96 h)" in warned(saved(missing_rows, tmp_path))[1]
