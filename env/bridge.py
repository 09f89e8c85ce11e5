"""A window of recorded closes as hourly paths: a Brownian bridge between each two closes.

Within a step from one close to the next the path is `x0 + f D + s (W_f - f W_1)`, where D is the
step's log return, f the part of the step gone by and W a Brownian motion drawn from the seed. A
bridge of the right variance is a Brownian motion again: nothing in the morning tells the afternoon.
With the trailing volatility alone it is too wide in calm days and too narrow in wild ones, and the
halves of a day correlate by up to 0.25 on recorded closes. So s is the mean of the step's variance
given what is known of it, the trailing variance v and its own return, where returns have a
Student's t of nu degrees of freedom: `s^2 = ((nu - 2) v + D^2) / (nu - 1)`. No later close enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from env.shocks import Stream, name_hash, name_hashes, uniform, words
from env.synthetic import hourly_normals

CHUNK_STEPS = 8  # steps filled at a time, to bound memory


@dataclass(frozen=True)
class History:
    """Recorded closes on a regular grid, gaps filled; F tokens of the file, S steps of time."""

    names: tuple[str, ...]  # of the tokens, as in the catalogue
    step_h: int  # hours from a close to the next
    log_close: Tensor  # float64 [S, F]; where nothing is recorded: any finite number
    run: Tensor  # int64 [S, F]: closes in a row from here on, this one included, within the range
    variance: Tensor  # [S, F] of the log return of a step, over the trailing days up to here
    starts: Tensor  # int64 [K]: where a window may start
    log_turnover: Tensor  # [S, F] of the last full day, or [0, F] without a file
    log_turnover_level: Tensor  # [S, F] its trailing median
    log_rent: Tensor  # [S, G] last posted by then, or [0, G] without a file; NaN: none
    held: Tensor  # [H, Z] part of each hour a rented rig could be held, by zone, or [0, 0]


@dataclass(frozen=True)
class Window:
    """What the history says about B worlds; where `known` is false it says nothing."""

    path: Tensor  # log price over that at the window's start, [T, B, F]
    known: Tensor  # bool [B, F]: recorded in the whole window
    turnover: Tensor  # daily turnover over its trailing median at hour `anchor`, [T or 0, B, F]
    rent: Tensor  # over that at hour `anchor`, [T or 0, B, G]


def closes_needed(hours: int, step_h: int) -> int:
    """Closes in a row that cover so many hours, both ends included."""
    return -(-(hours - 1) // step_h) + 1


def draw_window(
    history: History, seeds: Tensor, hours: int, anchor: int, dof: float, loading: float
) -> Window:
    """A window of each seed (int64 [B]), its start uniform over those possible."""
    index = torch.tensor(name_hash("window"), device=seeds.device)
    u = uniform(words(seeds, Stream.REPLAY, index, torch.zeros_like(index))[0])
    count = len(history.starts)
    start = history.starts[(u * count).long().clamp_max(count - 1)]  # [B]
    closes = closes_needed(hours, history.step_h)
    rows = start + torch.arange(closes, device=seeds.device)[:, None]  # [closes, B]
    known = history.run[start] >= closes
    log_close = history.log_close[rows]
    level = (log_close - log_close[0]).float()  # [closes, B, F]
    variance = history.variance[rows[:-1]]
    path = _fill(history, seeds, level, variance, dof, loading)[:hours]
    turnover, rent = (
        _over(log, level, start, history.step_h, hours, anchor)
        for log, level in (
            (history.log_turnover, history.log_turnover_level),
            (history.log_rent, history.log_rent),
        )
    )
    return Window(path, known, turnover, rent)


def _fill(
    history: History, seeds: Tensor, level: Tensor, variance: Tensor, dof: float, loading: float
) -> Tensor:
    """The hours between the closes `level` [closes, B, F], each close met exactly."""
    step, steps = history.step_h, len(level) - 1
    if step == 1:
        return level
    index = name_hashes([*history.names, "bridge factor"], seeds.device)
    part = torch.arange(1, step + 1, device=seeds.device)[:, None, None] / step
    own = (1 - loading**2) ** 0.5
    words_h = -(-step // 4) * 4  # hours of random words come in fours
    pieces = [level[:1]]
    for first in range(0, steps, CHUNK_STEPS):
        count = min(CHUNK_STEPS, steps - first)
        z = hourly_normals(seeds, Stream.BRIDGE, index, first * words_h, count * words_h)
        z = z.unflatten(0, (count, words_h))[:, :step]  # [count, step, B, F + 1]
        walk = torch.cumsum(own * z[..., :-1] + loading * z[..., -1:], 1)
        low, high = level[first : first + count, None], level[first + 1 : first + count + 1, None]
        move, v = high - low, variance[first : first + count, None]
        sd = torch.sqrt(((dof - 2) * v + move * move) / ((dof - 1) * step))
        hours = low + part * move + sd * (walk - part * walk[:, -1:])
        hours[:, -1:] = high
        pieces.append(hours.flatten(0, 1))
    return torch.cat(pieces)


def _over(log: Tensor, level: Tensor, start: Tensor, step: int, hours: int, anchor: int) -> Tensor:
    """What a series [S, M] was in each hour over its level at hour `anchor`, [hours, B, M]."""
    if not len(log):
        return log[:, None]
    rows = start + torch.arange(hours, device=start.device)[:, None] // step
    return torch.exp(log[rows] - level[start + anchor // step])
