"""Recorded closes, turnover, rents and availability: what of them an episode may use.

Closes: a column `date` or `timestamp`, then one of USD closes for each token, daily or hourly; they
give the dates, and the other files are read at those dates. This file and `env.tables` alone import
pandas. Whatever cannot be used is one line naming the file and the field.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Mapping, Sequence

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
from env.tables import TIME_COLUMNS, Floats, Grid, read_grid, read_series, read_table, read_times

SHORTEST_H = 72  # an episode shorter than this teaches nothing
LEAST_RETURNS = 10  # fewer trailing returns: the catalogue's volatility instead


def load_history(
    spec: MarketSpec,
    tokens: Mapping[str, Token],
    gpus: Sequence[str],
    horizon_h: int,
    burn_in_h: int,
    device: torch.device,
) -> tuple[History, int]:
    """The recorded part of a replay and the length of its episodes, at most `horizon_h`."""
    coins = [name for name in tokens if not _pegged(tokens[name])]
    grid = read_grid(spec.prices or "", "market.prices", coins)
    if absent := [name for name in coins if name not in grid.names]:
        _warn(f"{grid.source}: not in the file, simulated on {FACTOR}'s moves: {', '.join(absent)}")
    low, high = _range(spec, grid)
    filled = _fill_gaps(grid, spec.max_gap_days)
    run = _runs(np.isfinite(filled[:high]))  # a window ends within the range
    run[:low] = 0
    horizon_h = _horizon(spec, grid, run, horizon_h, burn_in_h)
    covered = run >= closes_needed(burn_in_h + horizon_h + 1, grid.step_h)
    more = covered[:, [name != FACTOR for name in grid.names]].any(1)  # more than BTC
    starts = np.flatnonzero(more if more.any() else covered.any(1))
    variance = _trailing_variance(grid, spec.trailing_days, tokens)
    turnover, level = _turnover(spec, grid, coins)

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
        log_rent=tensor(_rents(spec, grid, (low, high), gpus), torch.float32),
        held=tensor(_held(spec, grid, (low, high)), torch.float32),
    )
    return history, horizon_h


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)


def _pegged(token: Token) -> bool:
    """A dollar coin has no history worth recording."""
    return token.beta_btc == 0 and token.vol_annual < 1e-6


def _range(spec: MarketSpec, grid: Grid) -> tuple[int, int]:
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
    part = _part(spec, high - low, spec.embargo_days * 24 // grid.step_h)
    return low + part[0], low + part[1]


def _part(spec: MarketSpec, count: int, gap: int) -> tuple[int, int]:
    """The split's share of `count` rows, with `gap` of them left out between two parts."""
    f = spec.fractions
    cut = [round(share * count) for share in (f.train, f.train + f.validation)]
    stop = round(min(f.train + f.validation + f.test, 1.0) * count)
    return {
        "all": (0, count),
        "train": (0, cut[0]),
        "validation": (cut[0] + gap, cut[1]),
        "test": (cut[1] + gap, stop),
    }[spec.split]


def _fill_gaps(grid: Grid, max_gap_days: int) -> Floats:
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
    spec: MarketSpec, grid: Grid, run: NDArray[np.int64], horizon_h: int, burn_in_h: int
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


def _trailing_variance(grid: Grid, days: int, tokens: Mapping[str, Token]) -> Floats:
    """Mean squared log return of a step over the trailing days, each row's own included, [S, F]."""
    moves = pd.DataFrame(np.diff(grid.values, axis=0, prepend=np.nan))  # NaN beside a gap
    window = days * 24 // grid.step_h
    variance = (moves**2).rolling(window, min_periods=min(LEAST_RETURNS, window)).mean().to_numpy()
    annual = np.array([total_vol(tokens, name) for name in grid.names])
    return np.where(np.isfinite(variance), variance, annual**2 * grid.step_h / 8760)


def _turnover(spec: MarketSpec, grid: Grid, coins: Sequence[str]) -> tuple[Floats, Floats]:
    """Log turnover of the last full day and its trailing median, [S, F] each; NaN: not recorded."""
    if spec.turnover is None:
        return np.zeros((0, len(grid.names))), np.zeros((0, len(grid.names)))
    traded = read_grid(spec.turnover, "market.turnover", coins, zero_is_missing=True)
    if traded.step_h != 24:
        raise InputError(f"{spec.turnover}: dates", "one row a day", f"{traded.step_h} hours")
    daily = pd.DataFrame(traded.values, traded.times, list(traded.names))
    daily = daily.reindex(columns=list(grid.names)).ffill(limit=spec.max_gap_days)
    level = daily.rolling(spec.trailing_days, min_periods=LEAST_RETURNS).median()
    # a day's turnover is known with its close; during the day, that of the day before
    known = grid.times.floor("D") - pd.Timedelta(days=0 if grid.step_h == 24 else 1)
    return daily.reindex(known).to_numpy(), level.reindex(known).to_numpy()


def _rents(spec: MarketSpec, grid: Grid, rows: tuple[int, int], gpus: Sequence[str]) -> Floats:
    """Log of the last rent posted by each close, [S, G]; NaN: none within `max_gap_days`."""
    if spec.rents is None:
        return np.zeros((0, len(gpus)))
    times, posted = read_series(spec.rents, "market.rents", gpus, "rents")
    # posted before the close: a daily one is that of the end of its day
    known = grid.times + pd.Timedelta(days=int(grid.step_h == 24), nanoseconds=-1)
    age = pd.Timedelta(days=spec.max_gap_days, hours=grid.step_h)
    out = np.full((len(known), len(gpus)), np.nan)
    for name, values in posted.items():
        series = pd.Series(np.log(values), times).dropna()
        out[:, gpus.index(name)] = series.reindex(known, method="ffill", tolerance=age)
    if not np.isfinite(out).any():
        expected = f"dates within {grid.times[0]:%Y-%m-%d} to {grid.times[-1]:%Y-%m-%d}"
        got = f"{times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}"
        raise InputError(f"{spec.rents}: dates", f"{expected} as in {grid.source}", got)
    if not np.isfinite(out[slice(*rows)]).any():
        _warn(f"{spec.rents}: nothing in the dates of {spec.split}, rents are simulated there")
    return out


def _held(spec: MarketSpec, grid: Grid, rows: tuple[int, int]) -> Floats:
    """Part of each hour in which a rented rig could be held, by zone, [H, Z]; the split's own.

    A file with dates gives the hours within the split's dates. One that only counts hours is cut
    by the split's fractions; it shares no date with the closes, so nothing lies between the parts.
    """
    if spec.availability is None:
        return np.zeros((0, 0))
    file = spec.availability
    table = _by_zone(read_table(file, "market.availability"), file)
    hours = _hours(table, file)
    part = table.drop(columns=_clock(table, file))
    for zone in part.columns:
        values = pd.to_numeric(part[zone], errors="coerce")
        bad = np.flatnonzero(~values.between(0, 1))
        if len(bad):
            where = f"{file}: {zone} at {hours[bad[0]]}"
            raise InputError(where, "a part of the hour from 0 to 1", part[zone].iloc[bad[0]])
    low, high = _part(spec, len(part), 0)
    if isinstance(hours, pd.DatetimeIndex):
        low = int(hours.searchsorted(grid.times[rows[0]]))
        high = int(hours.searchsorted(grid.times[rows[1] - 1] + pd.Timedelta(hours=grid.step_h)))
    if high - low < SHORTEST_H:
        raise InputError(f"{file}: market.split {spec.split}", f"{SHORTEST_H} hours", high - low)
    return part.iloc[low:high].to_numpy(dtype=np.float64)


def _clock(table: pd.DataFrame, file: str) -> str:
    """The column of time: `hour`, a count, or one of dates."""
    names = ("hour", *TIME_COLUMNS)
    column = next((c for c in table.columns if str(c).lower() in names), None)
    if column is None or len(table.columns) < 2:
        expected = "a column `hour` or `timestamp` and one a zone"
        raise InputError(file, expected, list(map(str, table.columns))[:8])
    return str(column)


def _by_zone(table: pd.DataFrame, file: str) -> pd.DataFrame:
    """A column of time and one a zone; a long table (time, zone, value) is turned to that."""
    zone = next((c for c in table.columns if str(c).lower() == "zone"), None)
    if zone is None:
        return table
    clock = _clock(table, file)
    values = [c for c in table.columns if c not in (zone, clock)]
    if len(values) != 1:
        raise InputError(file, "one column beside time and zone", list(map(str, values)))
    twice = table.duplicated([clock, zone])
    if twice.any():
        got = f"two of {table[zone][twice].iloc[0]} at {table[clock][twice].iloc[0]}"
        raise InputError(f"{file}: {zone}", "one row an hour and zone", got)
    return table.pivot(index=clock, columns=zone, values=values[0]).reset_index()


def _hours(table: pd.DataFrame, file: str) -> pd.Index:
    """The rows' hours, one after the other: dates, or numbers in a column `hour`."""
    clock = _clock(table, file)
    counted = clock.lower() == "hour"
    hours = pd.Index(table[clock]) if counted else read_times(table, file)
    late = np.flatnonzero(np.diff(hours) != (1 if counted else np.timedelta64(1, "h")))
    if len(late):
        got = f"{hours[late[0] + 1]} after {hours[late[0]]}"
        raise InputError(f"{file}: {clock}", "one hour after the other", got)
    return hours
