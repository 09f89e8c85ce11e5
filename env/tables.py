"""Recorded series from CSV or Parquet: times, columns and numbers, each checked.

Whatever cannot be used is one line naming the file and the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from env.errors import InputError

TIME_COLUMNS = ("date", "timestamp", "datetime", "time")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Values by time step and name; NaN where the file has nothing."""

    source: str
    times: pd.DatetimeIndex  # [S]
    step_h: int
    names: tuple[str, ...]
    values: Floats  # [S, F] logs


def read_grid(file: str, key: str, names: Sequence[str], zero_is_missing: bool = False) -> Grid:
    """The columns of `names` in logs, on a regular daily or hourly grid."""
    times, columns = read_series(file, key, names, "prices", zero_is_missing)
    median_h = float(np.median(np.diff(times)) / np.timedelta64(1, "h")) if len(times) > 1 else 24.0
    step_h = round(median_h)
    if not 1 <= step_h <= 24 or 24 % step_h:
        raise InputError(f"{file}: dates", "daily or hourly closes", f"one in {median_h:g} hours")
    slots = times.floor(f"{step_h}h")
    if slots.has_duplicates:
        at = times[slots.duplicated()][0]
        raise InputError(f"{file}: dates", f"at most one row in {step_h} hours", str(at))
    full = pd.date_range(slots[0], slots[-1], freq=f"{step_h}h")
    out = np.full((len(full), len(columns)), np.nan)
    out[full.get_indexer(slots)] = np.log(np.stack(list(columns.values()), 1))
    return Grid(file, full, step_h, tuple(columns), out)


def read_series(
    file: str, key: str, names: Sequence[str], what: str, zero_is_missing: bool = False
) -> tuple[pd.DatetimeIndex, dict[str, Floats]]:
    """The rows' times and the columns of `names` (above 0, NaN where empty), those in the file."""
    table = read_table(file, key)
    columns = _columns(table, file, names, what)  # before the dates, which a long table repeats
    times = read_times(table, file)
    return times, {n: _numbers(table[c], times, file, zero_is_missing) for n, c in columns.items()}


def read_table(file: str, key: str) -> pd.DataFrame:
    """A CSV or Parquet file with at least one row."""
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file}: {key}", "the path of a CSV or Parquet file", "no such file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            named = str(table.index.name).lower() in TIME_COLUMNS
            table = table.reset_index() if named else table
        else:
            table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' and Arrow's parser errors are ValueErrors
        raise InputError(f"{file}: {key}", "a CSV or Parquet table", str(error)[:80]) from None
    if table.empty:
        raise InputError(f"{file}: {key}", "at least one row", "none")
    return table


def read_times(table: pd.DataFrame, file: str) -> pd.DatetimeIndex:
    """The rows' times in UTC, strictly increasing."""
    column = next((c for c in table.columns if str(c).lower() in TIME_COLUMNS), None)
    if column is None:
        raise InputError(file, "a column `date` or `timestamp`", list(map(str, table.columns))[:8])
    raw = table[column]
    if pd.api.types.is_numeric_dtype(raw):
        raise InputError(f"{file}: {column}", "dates such as 2024-01-31", raw.iloc[0])
    parsed = pd.to_datetime(raw, errors="coerce", utc=True, format="ISO8601")
    if parsed.isna().any():
        bad = raw[parsed.isna()].iloc[0]
        raise InputError(f"{file}: {column}", "dates such as 2024-01-31", bad)
    times = pd.DatetimeIndex(parsed).tz_localize(None)
    late = np.flatnonzero(np.diff(times) <= np.timedelta64(0))
    if len(late):
        got = f"{times[late[0] + 1]} after {times[late[0]]}"
        raise InputError(f"{file}: {column}", "increasing dates without duplicates", got)
    return times


def _columns(
    table: pd.DataFrame, file: str, names: Sequence[str], what: str
) -> dict[str, str | tuple[str, ...]]:
    """Name -> column of the file, matched without regard to case."""
    wanted = {name.upper(): name for name in names}
    found: dict[str, str | tuple[str, ...]] = {}
    for column in table.columns:
        name = wanted.get(str(column).strip().upper())
        if name in found:
            raise InputError(f"{file}: {column}", f"one column for {name}", "two")
        if name is not None and table[column].notna().any():
            found[name] = column
    if not found:
        wide = "beside `date` or `timestamp`, one row a date"
        expected = f"a column of {what} for one of {', '.join(names)}, {wide}"
        raise InputError(file, expected, list(map(str, table.columns))[:8])
    return found


def _numbers(
    column: pd.Series, times: pd.DatetimeIndex, file: str, zero_is_missing: bool
) -> Floats:
    """A column as float64, NaN where empty; every number finite and above 0."""
    numbers = pd.to_numeric(column, errors="coerce")
    filled = column.notna() & ~(zero_is_missing & (numbers == 0))
    values = numbers.where(filled).to_numpy(dtype=np.float64)
    bad = np.flatnonzero(filled & ~((values > 0) & np.isfinite(values)))
    if len(bad):
        where = f"{file}: {column.name} at {times[bad[0]]}"
        raise InputError(where, "a number above 0", column.iloc[bad[0]])
    return values
