"""Recorded closes from a CSV or Parquet file, checked and laid on a regular grid of time.

The only file of `env` that imports pandas. One column `date` or `timestamp`, then one of USD closes
for each token, daily or hourly. Whatever cannot be used is one line naming the file and the field.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from env.bridge import History, closes_needed
from env.catalog import Token
from env.errors import InputError
from env.market_spec import MarketSpec
from env.rules import total_vol
from env.synthetic import FACTOR

SHORTEST_H = 72  # an episode shorter than this teaches nothing
LEAST_RETURNS = 10  # fewer trailing returns: the catalogue's volatility instead
_TIME_COLUMNS = ("date", "timestamp", "datetime", "time")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Grid:
    """Values by time step and token; NaN where the file has nothing."""

    source: str
    times: pd.DatetimeIndex  # [S]
    step_h: int
    names: tuple[str, ...]
    values: Floats  # [S, F] logs


def load_history(
    spec: MarketSpec,
    tokens: Mapping[str, Token],
    horizon_h: int,
    burn_in_h: int,
    device: torch.device,
) -> tuple[History, int]:
    """The recorded part of a replay and the length of its episodes, at most `horizon_h`."""
    grid = _read(spec.prices or "", "market.prices", tokens, zero_is_missing=False)
    absent = [n for n in tokens if n not in grid.names and not _pegged(tokens[n])]
    if absent:
        _warn(f"{grid.source}: not in the file, simulated on {FACTOR}'s moves: {', '.join(absent)}")
    low, high = _range(spec, grid)
    filled = _fill_gaps(grid, spec.max_gap_days)
    run = _runs(np.isfinite(filled[:high]))  # a window ends within the range
    run[:low] = 0
    horizon_h = _horizon(spec, grid, run, horizon_h, burn_in_h)
    covered = run >= closes_needed(burn_in_h + horizon_h + 1, grid.step_h)
    coins = covered[:, [name != FACTOR for name in grid.names]].any(1)
    starts = np.flatnonzero(coins if coins.any() else covered.any(1))
    variance = _trailing_variance(grid, spec.trailing_days, tokens)
    turnover, level = _turnover(spec, grid, tokens)

    def tensor(array: NDArray[np.generic], kind: torch.dtype) -> torch.Tensor:
        return torch.tensor(array, dtype=kind, device=device)

    history = History(
        names=grid.names,
        step_h=grid.step_h,
        log_close=tensor(np.nan_to_num(filled), torch.float64),
        run=tensor(run, torch.int64),
        variance=tensor(variance, torch.float32),
        starts=tensor(starts, torch.int64),
        log_turnover=tensor(turnover, torch.float32),
        log_turnover_level=tensor(level, torch.float32),
    )
    return history, horizon_h


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)


def _pegged(token: Token) -> bool:
    """A dollar coin has no history worth recording."""
    return token.beta_btc == 0 and token.vol_annual < 1e-6


def _read(file: str, key: str, tokens: Mapping[str, Token], zero_is_missing: bool) -> _Grid:
    """A file's columns of the tokens in use, checked, in logs on a regular grid."""
    table = _table(file, key)
    times = _times(table, file)
    columns = _columns(table, file, tokens)
    values = np.stack([_numbers(table[c], times, file, zero_is_missing) for c in columns.values()])
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
    out[full.get_indexer(slots)] = np.log(values.T)
    return _Grid(file, full, step_h, tuple(columns), out)


def _table(file: str, key: str) -> pd.DataFrame:
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file}: {key}", "the path of a CSV or Parquet file", "no such file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            named = str(table.index.name).lower() in _TIME_COLUMNS
            table = table.reset_index() if named else table
        else:
            table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' and Arrow's parser errors are ValueErrors
        raise InputError(f"{file}: {key}", "a CSV or Parquet table", str(error)[:80]) from None
    if table.empty:
        raise InputError(f"{file}: {key}", "at least one row", "none")
    return table


def _times(table: pd.DataFrame, file: str) -> pd.DatetimeIndex:
    """The rows' times in UTC, strictly increasing."""
    column = next((c for c in table.columns if str(c).lower() in _TIME_COLUMNS), None)
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
    table: pd.DataFrame, file: str, tokens: Mapping[str, Token]
) -> dict[str, str | tuple[str, ...]]:
    """Token in use -> column of the file, matched without regard to case."""
    wanted = {name.upper(): name for name in tokens if not _pegged(tokens[name])}
    found: dict[str, str | tuple[str, ...]] = {}
    for column in table.columns:
        name = wanted.get(str(column).strip().upper())
        if name in found:
            raise InputError(f"{file}: {column}", f"one column for {name}", "two")
        if name is not None and table[column].notna().any():
            found[name] = column
    if not found:
        expected = f"a column of prices for one of {', '.join(wanted.values())}"
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


def _range(spec: MarketSpec, grid: _Grid) -> tuple[int, int]:
    """First row and row after the last of the split's dates."""
    first, last = grid.times[0], grid.times[-1]

    def bound(key: str, day: datetime.date) -> pd.Timestamp:
        at = pd.Timestamp(day)
        if not first.floor("D") <= at <= last:
            inside = f"a date from {first:%Y-%m-%d} to {last:%Y-%m-%d} as in {grid.source}"
            raise InputError(f"market.{key}", inside, str(day))
        return at

    low, high = 0, len(grid.times)
    if spec.start:
        low = int(grid.times.searchsorted(bound("start", spec.start)))
    if spec.end:
        next_day = bound("end", spec.end) + pd.Timedelta(days=1)
        high = int(grid.times.searchsorted(next_day))
    parts, gap = spec.fractions, spec.embargo_days * 24 // grid.step_h
    count = high - low
    cut = [round(f * count) for f in (parts.train, parts.train + parts.validation)]
    stop = round(min(parts.train + parts.validation + parts.test, 1.0) * count)
    part = {
        "all": (0, count),
        "train": (0, cut[0]),
        "validation": (cut[0] + gap, cut[1]),
        "test": (cut[1] + gap, stop),
    }[spec.split]
    return low + part[0], low + part[1]


def _fill_gaps(grid: _Grid, max_gap_days: int) -> Floats:
    """Logs with short gaps interpolated; a gap of more days stays open and splits the series."""
    out, told = grid.values.copy(), []
    rows = np.arange(len(out))
    for column, name in enumerate(grid.names):
        seen = np.flatnonzero(np.isfinite(out[:, column]))
        width = np.diff(seen) - 1  # rows missing between two recorded ones
        short = (width > 0) & (width * grid.step_h <= 24 * max_gap_days)
        if not short.any():
            continue
        line = np.interp(rows, seen, out[seen, column])
        for left, right in zip(seen[:-1][short], seen[1:][short], strict=True):
            out[left:right, column] = line[left:right]
        told.append(f"{name} ({short.sum()} of up to {width[short].max() * grid.step_h} h)")
    if told:
        _warn(f"{grid.source}: gaps interpolated in logs: {', '.join(told)}")
    return out


def _runs(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many valid rows in a row start at each, [S, F]."""
    run = np.zeros(valid.shape, dtype=np.int64)
    count = np.zeros(valid.shape[1], dtype=np.int64)
    for row in range(len(valid) - 1, -1, -1):
        count = np.where(valid[row], count + 1, 0)
        run[row] = count
    return run


def _horizon(
    spec: MarketSpec, grid: _Grid, run: NDArray[np.int64], horizon_h: int, burn_in_h: int
) -> int:
    """The episode's length: what was asked for, or what the longest series in the range allows."""
    longest = int(run.max()) if run.size else 0
    if longest == 0:
        raise InputError(
            f"{grid.source}: market.split {spec.split}", "closes of a token in use", "none"
        )
    possible = (longest - 1) * grid.step_h - burn_in_h
    if possible < min(SHORTEST_H, horizon_h):
        expected = f"closes in a row for {burn_in_h} hours of burn-in and {SHORTEST_H} of episode"
        got = f"{(longest - 1) * grid.step_h} hours"
        raise InputError(f"{grid.source}: market.split {spec.split}", expected, got)
    if possible < horizon_h:
        _warn(f"{grid.source}: {spec.split} allows episodes of {possible} h, not {horizon_h}")
    return min(horizon_h, possible)


def _trailing_variance(grid: _Grid, days: int, tokens: Mapping[str, Token]) -> Floats:
    """Mean squared log return of a step over the trailing days, each row's own included, [S, F]."""
    moves = pd.DataFrame(np.diff(grid.values, axis=0, prepend=np.nan))  # NaN beside a gap
    window = days * 24 // grid.step_h
    variance = (moves**2).rolling(window, min_periods=min(LEAST_RETURNS, window)).mean().to_numpy()
    annual = np.array([total_vol(tokens, name) for name in grid.names])
    return np.where(np.isfinite(variance), variance, annual**2 * grid.step_h / 8760)


def _turnover(spec: MarketSpec, grid: _Grid, tokens: Mapping[str, Token]) -> tuple[Floats, Floats]:
    """Log turnover of the last full day and its trailing median, [S, F] each; NaN: not recorded."""
    if spec.turnover is None:
        return np.zeros((0, len(grid.names))), np.zeros((0, len(grid.names)))
    traded = _read(spec.turnover, "market.turnover", tokens, zero_is_missing=True)
    if traded.step_h != 24:
        raise InputError(f"{spec.turnover}: dates", "one row a day", f"{traded.step_h} hours")
    daily = pd.DataFrame(traded.values, traded.times, list(traded.names))
    daily = daily.reindex(columns=list(grid.names)).ffill(limit=spec.max_gap_days)
    level = daily.rolling(spec.trailing_days, min_periods=LEAST_RETURNS).median()
    # a day's turnover is known with its close; during the day, that of the day before
    known = grid.times.floor("D") - pd.Timedelta(days=0 if grid.step_h == 24 else 1)
    return daily.reindex(known).to_numpy(), level.reindex(known).to_numpy()
