"""Recorded rents and availability: replayed as they are, in their own dates, checked by line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from closes import BURN_IN_H, GPUS, NAMES, replay, saved, seeds, some, table
from torch import Tensor

from env.errors import InputError
from env.fleet import draw_fleet
from env.market import BuiltMarket, build_market, load_market, simulate_prices
from env.reliability import reclaims
from env.scenario import Scenario, build_scenario
from env.state import take

SPOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "spot_availability_hourly.csv"
DAYS = 60
HORIZON = 59 * 24 - BURN_IN_H  # one window fits the closes: every world starts on the first day
RTX_4090, H100 = (list(GPUS).index(name) for name in ("rtx_4090", "h100_sxm"))
RENTED = {
    "rigs": [
        {"gpu": "rtx_4090", "gpu_count": 1, "count": 40, "site": "texas_dc", "owned": False},
        {"gpu": "rtx_4090", "gpu_count": 1, "count": 10, "site": "quebec_dc", "owned": False},
        {"gpu": "rtx_4090", "gpu_count": 1, "count": 10, "site": "texas_dc", "owned": True},
    ]
}


def posted(days: int = DAYS) -> pd.DataFrame:
    """Daily rents: an RTX 4090 that gets dearer every day, an H100 that steps once."""
    dates = pd.date_range("2022-01-01", periods=days, name="date")
    step = np.where(np.arange(days) < 30, 2.0, 3.0)
    rents = {"RTX_4090": 0.3 * 1.01 ** np.arange(days), "h100_sxm": step, "voodoo": 1.0}
    return pd.DataFrame(rents, dates).reset_index()


def with_rents(rents: pd.DataFrame, folder: Path, **keys: Any) -> BuiltMarket:
    keys = {"horizon": HORIZON, "rents": str(saved(rents, folder, "rents.csv")), **keys}
    return replay(saved(table(DAYS), folder), **keys)


def scenario(folder: Path, held: pd.DataFrame, horizon: int = 96, **keys: Any) -> Scenario:
    market = {
        "kind": "replay",
        "prices": str(saved(table(400), folder)),
        "availability": str(saved(held, folder, "held.csv")),
        "split": "all",
        **keys,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_scenario(RENTED, "core", market, horizon=horizon)


def taken(s: Scenario, worlds: int, hours: int) -> Tensor:
    rows = seeds(0, worlds)
    return reclaims(s, take(draw_fleet(s, rows), worlds), rows, hours)


# rents


def test_rents_follow_the_file_from_the_catalogue_s_level(tmp_path: Path) -> None:
    ratio = simulate_prices(with_rents(posted(), tmp_path), seeds(0, 3)).rent_ratio
    day = torch.arange(len(ratio)) // 24 - BURN_IN_H // 24  # the last close known, from the start
    expected = (1.01 ** day.double()).float()[:, None].expand(-1, 3)
    torch.testing.assert_close(ratio[..., RTX_4090], expected, rtol=1e-5, atol=0)
    step = torch.where(day + BURN_IN_H // 24 < 30, 1.0, 1.5)[:, None].expand(-1, 3)
    torch.testing.assert_close(ratio[..., H100], step, rtol=1e-5, atol=0)
    assert (ratio[BURN_IN_H, :, [RTX_4090, H100]] == 1).all()


def test_models_the_file_lacks_or_posts_too_late_follow_the_law(tmp_path: Path) -> None:
    rents = posted()
    rents.loc[:20, "h100_sxm"] = np.nan
    market = with_rents(rents, tmp_path)
    ratio = simulate_prices(market, seeds(0, 3)).rent_ratio
    law = simulate_prices(replay(saved(table(DAYS), tmp_path), horizon=HORIZON), seeds(0, 3))
    others = [k for k in range(len(GPUS)) if k != RTX_4090]
    assert torch.equal(ratio[..., others], law.rent_ratio[..., others])
    assert not torch.equal(ratio[..., RTX_4090], law.rent_ratio[..., RTX_4090])


@pytest.mark.parametrize(("days", "recorded"), [(7, True), (8, False)])
def test_a_rent_stands_for_seven_days(days: int, recorded: bool, tmp_path: Path) -> None:
    rents = posted().drop(index=range(20, 20 + days))
    ratio = simulate_prices(with_rents(rents, tmp_path), seeds(0, 1)).rent_ratio
    assert ((ratio[: BURN_IN_H + 1, 0, H100] == 1).all().item()) is recorded


def test_several_posts_a_day_count_from_the_close_that_knows_them(tmp_path: Path) -> None:
    rents = posted().rename(columns={"date": "timestamp"})
    later = rents.assign(timestamp=rents["timestamp"] + pd.Timedelta(hours=15), RTX_4090=0.5)
    later.loc[30:, "RTX_4090"] = 1.0
    both = pd.concat((rents, later)).sort_values("timestamp")
    ratio = simulate_prices(with_rents(both, tmp_path), seeds(0, 1)).rent_ratio[:, 0, RTX_4090]
    assert set(ratio.tolist()) == {1.0, 2.0}
    assert int((ratio == 1).sum()) == 30 * 24


def test_nothing_posted_later_changes_an_hour(tmp_path: Path) -> None:
    before, rents = posted(), posted()
    rents.loc[40:, "RTX_4090"] *= 3
    one, other = (
        simulate_prices(with_rents(r, tmp_path), seeds(0, 2)).rent_ratio for r in (before, rents)
    )
    assert torch.equal(one[: 40 * 24], other[: 40 * 24])
    assert not torch.equal(one[40 * 24 :], other[40 * 24 :])


def test_a_range_without_rents_says_so_and_is_simulated(tmp_path: Path) -> None:
    path = saved(posted(70), tmp_path, "rents.csv")
    closes = saved(table(400), tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keys = {"kind": "replay", "prices": str(closes), "split": "test", "rents": str(path)}
        build_market(load_market(keys), some(*NAMES), GPUS, 72, BURN_IN_H)
    said = [str(w.message) for w in caught]
    assert f"{path}: nothing in the dates of test, rents are simulated there" in said


# availability


def record(hours: int = 200) -> pd.DataFrame:
    """Zone a: always there; zone b: never; zone c: a day all, a day half, a day none."""
    day = np.arange(hours) // 24
    return pd.DataFrame(
        {"hour": range(hours), "a": 1.0, "b": 0.0, "c": np.array([1.0, 0.5, 0.0])[day % 3]}
    )


def test_a_rented_rig_is_held_while_its_zone_has_room_for_its_rank(tmp_path: Path) -> None:
    down = taken(scenario(tmp_path, record()), 64, 400)
    texas, quebec, owned = down[:, :, :40], down[:, :, 40:50], down[:, :, 50:]
    assert not owned.any()
    share = texas.float().mean(-1)  # [T, B] of the site's rigs
    kinds = {"a": (share == 0).all(0), "b": (share == 1).all(0)}
    kinds["c"] = ~(kinds["a"] | kinds["b"])
    assert all(8 < int(kind.sum()) < 40 for kind in kinds.values())
    levels = share[:, kinds["c"]]
    between = (levels > 0) & (levels < 1)
    assert float(levels[between].mean()) == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(share, quebec.float().mean(-1))  # another zone or another hour


def test_rigs_of_a_site_lose_their_machines_in_one_order(tmp_path: Path) -> None:
    down = taken(scenario(tmp_path, record()), 16, 300)[:, :, :40]
    for world in range(16):
        patterns = {tuple(hour) for hour in down[:, world].int().tolist()}
        assert all(
            all(x <= y for x, y in zip(a, b, strict=True))
            or all(x >= y for x, y in zip(a, b, strict=True))
            for a in patterns
            for b in patterns
        )


def test_a_short_record_begins_anew_and_a_batch_changes_nothing(tmp_path: Path) -> None:
    s = scenario(tmp_path, record(144))
    whole = taken(s, 8, 400)
    assert torch.equal(whole[:256], whole[144:])
    assert torch.equal(whole[:, :3], taken(s, 3, 400))


def test_a_long_table_is_the_wide_one(tmp_path: Path) -> None:
    wide = record()
    long = wide.melt("hour", var_name="zone", value_name="fraction").sample(frac=1, random_state=0)
    one, other = (scenario(tmp_path, held).market.history for held in (wide, long))
    assert one is not None
    assert other is not None
    assert torch.equal(one.held, other.held)


def test_parts_of_a_record_share_no_hour(tmp_path: Path) -> None:
    marked = pd.DataFrame({"hour": range(1000), "a": np.arange(1000) / 1000})
    used = {}
    for split in ("train", "validation", "test"):
        history = scenario(tmp_path, marked, horizon=72, split=split, embargo_days=0).market.history
        assert history is not None
        used[split] = [round(1000 * float(x)) for x in history.held[:, 0]]
    assert used == {
        "train": list(range(600)),
        "validation": list(range(600, 750)),
        "test": list(range(750, 1000)),
    }


def test_a_dated_record_is_cut_by_the_dates_of_the_closes(tmp_path: Path) -> None:
    hours = pd.date_range("2022-01-01", periods=400 * 24, freq="h")
    dated = pd.DataFrame({"timestamp": hours, "a": np.arange(len(hours)) / len(hours)})
    history = scenario(tmp_path, dated, split="validation").market.history
    assert history is not None
    first, last = 240 + 7, 300  # days, as for the closes
    assert len(history.held) == (last - first) * 24
    assert round(float(history.held[0, 0]) * len(hours)) == first * 24


@pytest.mark.skipif(not SPOT.exists(), reason="recorded availability is not here")
def test_the_recorded_spot_market_is_held_as_often_as_recorded(tmp_path: Path) -> None:
    recorded = pd.read_csv(SPOT)
    down = taken(scenario(tmp_path, recorded, horizon=720), 256, 1057)[:, :, :50]
    mean = float(recorded.drop(columns="hour").to_numpy().mean())
    assert 1 - float(down.float().mean()) == pytest.approx(mean, abs=0.05)


# what cannot be used


def long_table() -> pd.DataFrame:
    return posted()[["date", "h100_sxm"]].melt("date", var_name="gpu_model", value_name="price")


def posted_with(**changes: Any) -> pd.DataFrame:
    return posted().assign(**changes)


@pytest.mark.parametrize(
    ("rents", "message"),
    [
        (
            posted_with(h100_sxm=0.0),
            "h100_sxm at 2022-01-01 00:00:00: expected a number above 0",
        ),
        (posted_with(H100_SXM=1.0), "H100_SXM: expected one column for h100_sxm, got 'two'"),
        (posted_with(date="soon"), "date: expected dates such as 2024-01-31, got 'soon'"),
        (posted()[["date", "voodoo"]], "expected a column of rents for one of rtx_3060, rtx_3080"),
        (long_table(), "`date` or `timestamp`, one row a date, got ['date', 'gpu_model', 'price']"),
        (
            long_table().drop(columns="date").assign(provider="x"),
            "expected a column of rents for one of rtx_3060",
        ),
        (posted().iloc[::-1], "date: expected increasing dates without duplicates"),
        (
            posted().assign(date=pd.date_range("2026-01-01", periods=DAYS)),
            "dates: expected dates within 2022-01-01 to 2022-03-01 as in",
        ),
        (posted().iloc[:0], "market.rents: expected at least one row"),
    ],
)
def test_wrong_rents_are_one_clear_line(rents: pd.DataFrame, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        with_rents(rents, tmp_path)
    assert str(error.value).startswith(str(tmp_path / "rents.csv"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (record().assign(b=1.2), "b at 0: expected a part of the hour from 0 to 1, got 1.2"),
        (record().assign(b=np.nan), "b at 0: expected a part of the hour from 0 to 1, got nan"),
        (record().assign(b="x"), "b at 0: expected a part of the hour from 0 to 1, got 'x'"),
        (record().drop(index=7), "hour: expected one hour after the other, got '8 after 6'"),
        (record()[["hour"]], "expected a column `hour` or `timestamp` and one a zone, got"),
        (record().rename(columns={"hour": "when"}), "expected a column `hour` or `timestamp` and"),
        (record(50), "market.split all: expected 72 hours, got 50"),
        (record().rename(columns={"a": "zone"}), "expected one column beside time and zone, got"),
        (
            record().rename(columns={"b": "zone"})[["hour", "zone", "a"]].assign(hour=0),
            "zone: expected one row an hour and zone, got 'two of 0.0 at 0'",
        ),
    ],
)
def test_wrong_availability_is_one_clear_line(
    held: pd.DataFrame, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        scenario(tmp_path, held)
    assert str(error.value).startswith(str(tmp_path / "held.csv"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
