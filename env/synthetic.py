"""Simulated prices: one market factor with regimes, and what each token does on its own.

For token i in an hour, in logs: `r_i = beta_i r_BTC + drift_i + sd_i (a z_alt + b z_i) + jumps_i`
with `a^2 + b^2 = 1`. BTC moves with the regime's drift and volatility, plus jumps. A token with a
quote (a subnet's alpha in TAO) follows this law in units of its quote, without the alt factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from env.catalog import Token
from env.events import add_steps, event_count, event_times
from env.market_spec import MarketSpec, Regimes, TurnoverLaw
from env.shocks import Stream, exponential, name_hash, name_hashes, normals, uniform, words

FACTOR = "BTC"
CHUNK_H = 128  # hours of random words drawn at a time, to bound memory
HOURS_PER_YEAR = 8760.0
# A jump is a move beyond 4 MAD, so it has a least size. In daily closes of BTC, TAO, AKT, RENDER
# and FIL to 2025-03-31 that is 0.7 to 0.96 of their root mean square; kurtosis 1.0 to 1.3.
LEAST_JUMP, JUMP_TAIL = 0.698, 0.35
# first counters on Stream.TOKEN beyond those of the hours
_JUMPS, _TURNOVER = 1 << 31, 1 << 30


@dataclass(frozen=True)
class TokenLaw:
    """The tokens' parameters per hour, each [P] in the order of `names`."""

    names: tuple[str, ...]
    index: Tensor  # int64, name hashes
    beta: Tensor
    own_sd: Tensor  # of the hourly log return
    alt_sd: Tensor  # its part on the alt factor
    drift: Tensor  # log per hour
    jumps_per_h: Tensor
    jump_sd: Tensor
    level_sd: Tensor  # of the log price at the start of an episode
    start_usd: Tensor  # price in USD at the catalogue's date
    quotes: tuple[tuple[int, int], ...]  # (token, its quote) by position


def token_law(tokens: Mapping[str, Token], spec: MarketSpec, device: torch.device) -> TokenLaw:
    """Parameters of `tokens`, of which BTC is the factor itself."""
    names, rows = tuple(tokens), [_row(name, tokens, spec) for name in tokens]
    columns = {key: torch.tensor([r[key] for r in rows]).to(device) for key in rows[0]}
    quotes = [(i, names.index(t.quote)) for i, t in enumerate(tokens.values()) if t.quote]
    return TokenLaw(names=names, index=name_hashes(names, device), quotes=tuple(quotes), **columns)


def _row(name: str, tokens: Mapping[str, Token], spec: MarketSpec) -> dict[str, float]:
    token, hour = tokens[name], 1 / HOURS_PER_YEAR
    usd = token.price_usd * (tokens[token.quote].price_usd if token.quote else 1.0)
    loading = 0.0 if token.quote else spec.alt_loading
    factor = name == FACTOR  # nothing of its own: its regimes and jumps are the market's
    sd = 0.0 if factor else token.vol_annual * hour**0.5
    jumps = 0.0 if factor else token.jumps_per_year
    variance = token.vol_annual**2 + jumps * token.jump_sd**2
    return {
        "beta": 1.0 if factor else token.beta_btc,
        "own_sd": sd * (1 - loading**2) ** 0.5,
        "alt_sd": sd * loading,
        "drift": 0.0 if factor else token.drift_annual * hour,
        "jumps_per_h": jumps * hour,
        "jump_sd": token.jump_sd,
        "level_sd": (variance * spec.level_days / 365) ** 0.5,
        "start_usd": usd,
    }


def hourly_normals(seeds: Tensor, stream: Stream, index: Tensor, start: int, count: int) -> Tensor:
    """Standard normals of hours start .. start + count, [count, B, M]; four to a counter.

    seeds [B], index [M]; start and count are multiples of 4.
    """
    counter = torch.arange(start // 4, (start + count) // 4, device=seeds.device)
    w = words(seeds[:, None], stream, index, counter[:, None, None])
    four = (*normals(w[0], w[1]), *normals(w[2], w[3]))
    return torch.stack(four, 1).flatten(0, 1)


def jump_shape(z: Tensor) -> Tensor:
    """Jump in units of its root mean square from a standard normal: a least size and a tail."""
    return LEAST_JUMP * torch.sign(z) + JUMP_TAIL * z


def draw_regimes(law: Regimes, seeds: Tensor, hours: int) -> Tensor:
    """Regime of each hour, int8 [hours, B]: 0 bear, 1 flat, 2 bull; a Markov chain in real time."""
    days = [law.bear.mean_days, law.flat.mean_days, law.bull.mean_days]
    mean_h = torch.tensor(days, device=seeds.device) * 24
    index = torch.tensor(name_hash("regime"), device=seeds.device)
    count = event_count(1 / (24 * min(days)), hours)
    w = words(seeds, Stream.REGIME, index, torch.arange(count + 1, device=seeds.device)[:, None])
    at_start = uniform(w[0][0]) * sum(days)  # shares of time go as the mean durations
    state = (at_start >= days[0]).long() + (at_start >= days[0] + days[1]).long()  # [B]
    clock = torch.arange(hours, device=seeds.device)[:, None]
    regime = state.to(torch.int8).expand(hours, -1)
    time = torch.zeros(len(seeds), device=seeds.device)
    for event in range(1, count + 1):
        time = time + exponential(w[0][event]) * mean_h[state]
        state = (state + 1 + (uniform(w[1][event]) < 0.5).long()) % 3  # either of the other two
        regime = torch.where(clock >= time, state.to(torch.int8), regime)
    return regime


def factor_path(spec: MarketSpec, seeds: Tensor, regime: Tensor, z: Tensor) -> Tensor:
    """Log BTC, [T, B], from its regime and hourly normals z, both [T, B]."""
    states = (spec.regimes.bear, spec.regimes.flat, spec.regimes.bull)
    hour = 1 / HOURS_PER_YEAR
    drift = torch.tensor([s.drift_annual * hour for s in states], device=seeds.device)
    sd = torch.tensor([s.vol_annual * hour**0.5 for s in states], device=seeds.device)
    moves = (drift[regime.long()] + sd[regime.long()] * z).unsqueeze(-1)  # [T, B, 1]
    if spec.factor_jumps.per_year:
        index = torch.tensor([name_hash(FACTOR)], device=seeds.device)
        rate = torch.tensor([spec.factor_jumps.per_year * hour], device=seeds.device)
        times, size = event_times(seeds, Stream.TOKEN, index, rate, len(z), first=_JUMPS)
        add_steps(moves, times, jump_shape(size) * spec.factor_jumps.sd)
    return torch.cumsum(moves.squeeze(-1), 0)


def own_paths(law: TokenLaw, seeds: Tensor, hours: int) -> tuple[Tensor, Tensor]:
    """What the tokens do beside BTC in logs, [hours, B, P], and BTC's normals, [hours, B]."""
    alt = torch.tensor([name_hash("alt factor")], device=seeds.device)
    index = torch.cat((law.index, alt))
    moves = torch.empty(hours, len(seeds), len(law.names), device=seeds.device)
    factor = torch.empty(hours, len(seeds), device=seeds.device)
    for start in range(0, hours, CHUNK_H):
        z = hourly_normals(seeds, Stream.TOKEN, index, start, CHUNK_H)[: hours - start]
        now = slice(start, start + CHUNK_H)
        moves[now] = law.drift + law.own_sd * z[..., :-1] + law.alt_sd * z[..., -1:]
        factor[now] = z[..., law.names.index(FACTOR)]
    if float(law.jumps_per_h.max()) > 0:
        times, size = event_times(
            seeds, Stream.TOKEN, law.index, law.jumps_per_h, hours, first=_JUMPS
        )
        add_steps(moves, times, jump_shape(size) * law.jump_sd)
    return moves.cumsum_(0), factor


def start_levels(law: TokenLaw, seeds: Tensor) -> Tensor:
    """Log of the level of each token at the episode's start over the catalogue's, [B, P]."""
    w = words(seeds[:, None], Stream.BASIS, law.index, torch.ones_like(law.index))
    return normals(w[0], w[1])[0] * law.level_sd


def simulate_turnover(law: TurnoverLaw, index: Tensor, seeds: Tensor, hours: int) -> Tensor:
    """Turnover of the last full day over the catalogue's, [hours, B, P]; a new value each day."""
    days = -(-hours // 96) * 4
    common = torch.tensor([name_hash("turnover")], device=seeds.device)
    z = hourly_normals(seeds, Stream.TOKEN, torch.cat((index, common)), 4 * _TURNOVER, days)
    c = law.common_loading
    z = (1 - c**2) ** 0.5 * z[..., :-1] + c * z[..., -1:]
    keep = 0.5 ** (1 / law.half_life_days)
    level = [z[0]]
    for day in range(1, days):
        level.append(keep * level[-1] + (1 - keep**2) ** 0.5 * z[day])
    return torch.exp(law.log_sd * torch.stack(level)).repeat_interleave(24, 0)[:hours]
