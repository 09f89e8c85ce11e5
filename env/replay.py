"""Recorded token prices: a wide CSV or Parquet of closes, hours filled by a seeded bridge.

The only file that imports pandas. `replayed` returns log prices on the hours of each world's
window; what the file does not hold in a window, the market simulates on the recorded Bitcoin.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from env.errors import InputError
from env.shocks import Stream, name_hash, normals, uniform, words

if TYPE_CHECKING:
    from env.market import MarketSpec

GAP_DAYS = 7  # closes further apart than this split the series
TREND_DAYS = 30  # trailing days behind the bridge's volatility
SHORTEST_H = 72
CHUNK_H = 128
PAD_H = 24 * GAP_DAYS + 1  # a segment between closes may begin this long before a window

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """A file on an hourly grid; P tokens in the market's order, NaN-free where `known`."""

    line: Tensor  # [H, P] straight line between the logs of the closes
    known: Tensor  # bool [H, P]
    first: Tensor  # int64 [H, P] hour of the close before
    last: Tensor  # int64 [H, P] hour of the close after
    sd_h: Tensor  # [H, P] volatility of an hour from the trailing days
    start_h: int  # first hour of the split
    end_h: int  # last hour of the split
    first_day: pd.Timestamp
    horizon_h: int


def load_history(
    spec: MarketSpec, names: list[str], horizon_h: int, burn_in_h: int, device: torch.device
) -> History:
    """Read, check and lay the file on hours; raises InputError naming the file and the field."""
    path = Path(spec.prices or "")
    closes = _in_range(_read(path), spec, path)
    columns = {str(c).upper(): c for c in closes.columns}
    present = [n for n in names if n.upper() in columns and n != "USD"]
    present = [n for n in present if closes[columns[n.upper()]].notna().sum() > 1]
    if not present:
        raise InputError(str(path), f"a column for one of {', '.join(names)}", list(columns))
    absent = [n for n in names if n not in present and n != "USD"]
    if absent:
        warnings.warn(f"{path.name}: simulated, not in the file: {', '.join(absent)}", stacklevel=2)
    table = pd.DataFrame(
        {n: closes[columns[n.upper()]] if n in present else np.nan for n in names},
        index=closes.index,
    )
    table["USD"] = 1.0
    start_h, end_h = _split_hours(spec, table.index, path)
    room = end_h - start_h - burn_in_h
    if room < SHORTEST_H:
        raise InputError(
            f"market.split={spec.split} of {path.name}",
            f"at least {SHORTEST_H} hours after {burn_in_h} of burn-in",
            f"{end_h - start_h} hours",
        )
    if room < horizon_h:
        warnings.warn(
            f"{path.name}: the {spec.split} range allows {room} hours an episode, not {horizon_h}",
            stacklevel=2,
        )
    line, known, first, last, sd_h = (torch.as_tensor(a, device=device) for a in _grid(table, path))
    return History(
        line=line,
        known=known,
        first=first,
        last=last,
        sd_h=sd_h,
        start_h=start_h,
        end_h=end_h,
        first_day=table.index[0],
        horizon_h=min(room, horizon_h),
    )


def _read(path: Path) -> pd.DataFrame:
    """Closes by time, checked: numbers above zero, sorted unique dates."""
    if not path.is_file():
        raise InputError("market.prices", "the path of a CSV or Parquet file", str(path))
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise InputError(str(path), "a CSV or Parquet table", str(error).split("\n")[0]) from None
    if table.index.name in ("date", "timestamp"):
        table = table.reset_index()
    named = [c for c in table.columns if str(c).lower() in ("date", "timestamp")]
    if not named:
        raise InputError(str(path), "a column `date` or `timestamp`", list(table.columns)[:5])
    try:
        when = pd.to_datetime(table.pop(named[0]), utc=True).dt.tz_localize(None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {named[0]}", "dates", str(error).split("\n")[0]) from None
    for one, after in itertools.pairwise(when):
        if not after > one:
            raise InputError(
                f"{path}: {named[0]}", "rising dates, each once", f"{after} after {one}"
            )
    for column in table.columns:
        values = pd.to_numeric(table[column], errors="coerce")
        wrong = (values.isna() & table[column].notna()) | ~(values.fillna(1.0) > 0)
        wrong |= np.isinf(values.fillna(1.0))
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            where = f"{path}: {column} on {when[row]:%Y-%m-%d %H:%M}"
            raise InputError(where, "a price above 0", table[column].iloc[row])
        table[column] = values
    table.index = pd.DatetimeIndex(when)
    return table


def _in_range(table: pd.DataFrame, spec: MarketSpec, path: Path) -> pd.DataFrame:
    for key, value in (("start", spec.start), ("end", spec.end)):
        if value is None:
            continue
        try:
            day = pd.Timestamp(value)
        except ValueError:
            raise InputError(f"market.{key}", "a date as YYYY-MM-DD", value) from None
        if not table.index[0] <= day <= table.index[-1]:
            span = f"a day of {path.name}, {table.index[0]:%Y-%m-%d} to {table.index[-1]:%Y-%m-%d}"
            raise InputError(f"market.{key}", span, value)
        table = table.loc[day:] if key == "start" else table.loc[: day + pd.Timedelta(hours=23)]
    if len(table) < 2:
        raise InputError("market.end", f"at least two closes of {path.name} after start", spec.end)
    return table


def _split_hours(spec: MarketSpec, index: pd.Index, path: Path) -> tuple[int, int]:
    """First and last hour of the split, from the file's first close; disjoint, with an embargo."""
    total = _hours(index)[-1]
    if spec.split == "all":
        return 0, int(total)
    edges = np.concatenate(([0.0], np.cumsum(spec.shares))) * total
    place = ("train", "validation", "test").index(spec.split)
    start = edges[place] + (24 * spec.embargo_days if place else 0)
    if start >= edges[place + 1]:
        raise InputError(
            f"market.shares of {path.name}", f"room for {spec.split}", list(spec.shares)
        )
    return int(np.ceil(start)), int(edges[place + 1])


def _hours(index: pd.Index) -> NDArray[np.int64]:
    seconds = (index - index[0]) / pd.Timedelta(hours=1)
    return np.round(np.asarray(seconds)).astype(np.int64)


def _grid(table: pd.DataFrame, path: Path) -> tuple[NDArray[np.generic], ...]:
    """(line, known, first, last, sd_h) on hours, from closes at uneven times."""
    at = _hours(table.index)
    total, count = int(at[-1]) + 1, table.shape[1]
    line = np.zeros((total, count), np.float32)
    known = np.zeros((total, count), bool)
    first = np.zeros((total, count), np.int64)
    last = np.zeros((total, count), np.int64)
    sd_h = np.zeros((total, count), np.float32)
    hours = np.arange(total)
    bridged = []
    for k, name in enumerate(table.columns):
        rows = table[name].notna().to_numpy()
        if rows.sum() < 2:
            continue
        times, logs = at[rows], np.log(table[name].to_numpy(np.float64)[rows])
        before = np.clip(np.searchsorted(times, hours, side="right") - 1, 0, len(times) - 2)
        width = np.diff(times)
        inside = (hours >= times[0]) & (hours <= times[-1])
        known[:, k] = inside & (width[before] <= 24 * GAP_DAYS)
        share = (hours - times[before]) / width[before]
        line[:, k] = np.where(known[:, k], logs[before] + share * np.diff(logs)[before], 0.0)
        first[:, k], last[:, k] = times[before], times[before + 1]
        sd_h[:, k] = _trailing(times, logs)[before]
        usual = int(np.median(width))
        if ((width > usual) & (width <= 24 * GAP_DAYS)).any():
            bridged.append(str(name))
    if bridged:
        warnings.warn(
            f"{path.name}: gaps of up to 7 days filled: {', '.join(bridged)}", stacklevel=3
        )
    return line, known, first, last, sd_h


def _trailing(times: NDArray[np.int64], logs: Floats) -> Floats:
    """Volatility per square root of an hour over the closes of the trailing days, before each."""
    width = np.diff(times)
    squared = np.concatenate(([0.0], np.cumsum(np.diff(logs) ** 2)))  # up to close i
    begin = np.searchsorted(times, times - 24 * TREND_DAYS, side="left")
    elapsed = times - times[begin]
    variance = (squared - squared[begin]) / np.maximum(elapsed, 1)
    enough = elapsed >= 24 * 5
    overall = squared[-1] / max(int(width.sum()), 1)
    early = np.where(enough, variance, overall)
    return np.sqrt(early)


def replayed(
    history: History, token_index: Tensor, btc_corr: Tensor, seeds: Tensor, hours: int
) -> tuple[Tensor, Tensor]:
    """(log prices [T, B, P], whether the file holds the whole window, bool [B, P]).

    Each world starts at a random hour of the split. Between two closes the path is a Brownian
    bridge whose volatility is that of the trailing days, seeded by world, token and recorded hour;
    bridges of different tokens share Bitcoin's noise in the proportion `btc_corr` [P].
    """
    room = history.end_h - history.start_h - hours + 1
    index = torch.tensor(name_hash("replay"), device=seeds.device)
    w = words(seeds, Stream.REPLAY, index, torch.zeros_like(index))
    start = history.start_h + (uniform(w[0]) * max(room + 1, 1)).long()  # [B]
    row = start + torch.arange(hours, device=seeds.device)[:, None]  # [T, B]
    row = row.clamp(max=len(history.line) - 1)
    noise = _noise(token_index, btc_corr, seeds, start, hours)  # [T + 2 PAD, B, P] cumulative
    base = start - PAD_H
    first, last = history.first[row], history.last[row]  # [T, B, P]
    length = (last - first).clamp_min(1)
    share = (row.unsqueeze(-1) - first) / length
    low = noise.gather(0, (first - base[:, None]).clamp(0, len(noise) - 1))
    high = noise.gather(0, (last - base[:, None]).clamp(0, len(noise) - 1))
    bridge = noise[PAD_H : PAD_H + hours] - low - share * (high - low)
    path = history.line[row] + history.sd_h[row] * bridge
    return path.float(), history.known[row].all(0)


def _noise(
    token_index: Tensor, btc_corr: Tensor, seeds: Tensor, start: Tensor, hours: int
) -> Tensor:
    """Cumulative normals by recorded hour, from PAD_H before each window to PAD_H after it."""
    btc = torch.tensor(name_hash("BTC"), device=seeds.device)
    alone = torch.sqrt(1 - btc_corr * btc_corr)
    total = hours + 2 * PAD_H
    out = torch.empty(total, len(seeds), len(token_index), device=seeds.device)
    for begin in range(0, total, CHUNK_H):
        step = torch.arange(begin, min(begin + CHUNK_H, total), device=seeds.device)
        recorded = (start - PAD_H + step[:, None]).unsqueeze(-1)  # [t, B, 1], may be negative
        w = words(seeds[:, None], Stream.BRIDGE, token_index, recorded)
        b = words(seeds[:, None], Stream.BRIDGE, btc, recorded)
        shared = normals(b[0], b[1])[0]
        own = normals(w[0], w[1])[0]
        out[begin : begin + CHUNK_H] = btc_corr * shared + alone * own
    return torch.cumsum(out.double(), 0)
