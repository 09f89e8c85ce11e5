"""Wrong files and ranges for a replay: one clear line that names the file and the field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from closes import replay, saved, table

from env.errors import InputError


def edit(change: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    return change(table(60).astype(dict.fromkeys(("BTC", "tao", "Akt"), object)))


def put(column: str, value: str | float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(closes: pd.DataFrame) -> pd.DataFrame:
        closes.loc[5, column] = value
        return closes

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("tao", "n/k"), "tao at 2022-01-06 00:00:00: expected a number above 0, got 'n/k'"),
        (put("tao", 0.0), "tao at 2022-01-06 00:00:00: expected a number above 0"),
        (put("Akt", -1.5), "Akt at 2022-01-06 00:00:00: expected a number above 0"),
        (put("Akt", float("inf")), "Akt at 2022-01-06 00:00:00: expected a number above 0"),
        (lambda t: t.iloc[::-1], "date: expected increasing dates without duplicates"),
        (
            lambda t: pd.concat((t.iloc[:9], t.iloc[8:])),
            "expected increasing dates without duplicates, got '2022-01-09",
        ),
        (lambda t: t.assign(date="soon"), "date: expected dates such as 2024-01-31, got 'soon'"),
        (lambda t: t.assign(date=range(60)), "date: expected dates such as 2024-01-31, got"),
        (lambda t: t[["date", "ZZZ"]], "expected a column of prices for one of BTC, TAO, AKT"),
        (lambda t: t.drop(columns="date"), "expected a column `date` or `timestamp`"),
        (lambda t: t.assign(btc=1.0), "btc: expected one column for BTC, got 'two'"),
        (lambda t: t.iloc[:0], "market.prices: expected at least one row"),
        (lambda t: t.iloc[::10], "dates: expected daily or hourly closes, got 'one in 240 hours'"),
        (lambda t: t.iloc[:16], "of burn-in and 72 of episode, got '360 hours'"),
        (lambda t: t.iloc[:1], "of burn-in and 72 of episode, got '0 hours'"),
    ],
)
def test_a_wrong_file_is_one_clear_line(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    path = saved(edit(change), tmp_path)
    with pytest.raises(InputError) as error:
        replay(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"start": "2021-12-31"}, "market.start: expected a date from 2022-01-01 to 2022-03-01"),
        ({"end": "2022-03-02"}, "market.end: expected a date from 2022-01-01 to 2022-03-01"),
        ({"split": "validation"}, "market.split validation: expected closes in a row"),
        ({"split": "test", "embargo_days": 30}, "market.split test: expected closes of a token"),
        ({"turnover": "nowhere.csv"}, "nowhere.csv: market.turnover: expected the path of"),
    ],
)
def test_a_range_without_room_is_one_clear_line(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        replay(saved(table(60), tmp_path), **keys)
    assert message in str(error.value)


def test_a_missing_or_unreadable_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.csv: market.prices: expected the path of a CSV"):
        replay(tmp_path / "nowhere.csv")
    for name, content in (("a.parquet", b"no table"), ("a.csv", b""), ("b.csv", b"\xff\xfe\x00a,")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"market.prices: expected a CSV or Parquet table"
        ) as e:
            replay(path)
        assert "\n" not in str(e.value)
