"""Prices, rents and turnover of a whole episode, from a law or from a recorded history.

Both kinds go through `build_market`, which reads and checks files once, and `simulate_prices`, a
function of the seeds alone. A replay applies the log returns of a window of the file to the
catalogue's start prices, and those of recorded rents to its rents; whatever the files lack in that
window follows the law, on the replayed moves of BTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from env.bridge import History, Window, draw_window
from env.catalog import GpuModel, Token
from env.errors import InputError
from env.market_spec import MarketSpec, load_market
from env.rents import simulate_rents
from env.shocks import name_hashes
from env.synthetic import (
    FACTOR,
    TokenLaw,
    draw_regimes,
    factor_path,
    own_paths,
    simulate_turnover,
    start_levels,
    token_law,
)

__all__ = ["BuiltMarket", "MarketSpec", "Prices", "build_market", "load_market", "simulate_prices"]

_LARGEST_LOG_MOVE = 30.0  # keeps any price finite in float32


@dataclass(frozen=True)
class BuiltMarket:
    """A market ready to simulate, for the tokens in use and a length of episode."""

    spec: MarketSpec
    law: TokenLaw
    gpu_index: Tensor  # int64 [G], name hashes
    burn_in_h: int
    horizon_h: int  # what was asked for, or less where the file is too short
    history: History | None = None

    @property
    def token_names(self) -> tuple[str, ...]:
        return self.law.names

    @property
    def hours(self) -> int:
        return self.burn_in_h + self.horizon_h + 1


@dataclass(frozen=True)
class Prices:
    """The market of B worlds, time-major; hour 0 is the start of the burn-in."""

    token_usd: Tensor  # [T, B, P] USD per token
    btc_usd: Tensor  # [T, B]
    rent_ratio: Tensor  # [T, B, G] rent over the catalogue's
    turnover_ratio: Tensor  # [T, B, P] daily turnover over the catalogue's


def build_market(
    spec: MarketSpec,
    tokens: Mapping[str, Token],
    gpus: Mapping[str, GpuModel],
    horizon_h: int,
    burn_in_h: int,
    device: torch.device | str = "cpu",
) -> BuiltMarket:
    """Check and prepare the market of `tokens` (BTC among them) for episodes of `horizon_h`."""
    if FACTOR not in tokens:
        raise InputError("catalog/tokens.yaml", f"the market's factor {FACTOR}", list(tokens))
    place = torch.device(device)
    history = None
    if spec.kind == "replay":
        from env.replay import load_history  # pandas takes half a second to import

        history, horizon_h = load_history(spec, tokens, list(gpus), horizon_h, burn_in_h, place)
    return BuiltMarket(
        spec=spec,
        law=token_law(tokens, spec, place),
        gpu_index=name_hashes(list(gpus), place),
        burn_in_h=burn_in_h,
        horizon_h=horizon_h,
        history=history,
    )


def simulate_prices(market: BuiltMarket, seeds: Tensor) -> Prices:
    """The market of each seed (int64 [B]), burn-in and episode; T = burn-in + horizon + 1.

    At hour `burn_in_h` a price is the catalogue's, times a level drawn from the seed (synthetic) or
    exactly (replay).
    """
    spec, law, hours, anchor = market.spec, market.law, market.hours, market.burn_in_h
    path, z = own_paths(law, seeds, hours)
    btc = factor_path(spec, seeds, draw_regimes(spec.regimes, seeds, hours), z)
    turnover = simulate_turnover(spec.turnover_law, law.index, seeds, hours)
    window = None
    if market.history is not None:
        window = draw_window(
            market.history, seeds, hours, anchor, spec.bridge_dof, spec.bridge_loading
        )
        btc = _recorded_factor(market.history, window, btc)
    path += law.beta * (btc - btc[anchor]).unsqueeze(-1)
    path -= path[anchor].clone()
    if window is None:
        path += start_levels(law, seeds)
    rent = simulate_rents(spec.rent_law, market.gpu_index, seeds, hours, anchor)
    in_usd = torch.zeros(path.shape[1:], dtype=torch.bool, device=seeds.device)
    if market.history is not None and window is not None:
        _record(law, market.history, window, anchor, path, turnover)
        in_usd[:, [law.names.index(name) for name in market.history.names]] = window.known
        rent = _recorded(window.rent, rent)
    # only now, so that a token follows the recorded price of its quote; a close is in USD already
    for token, quote in law.quotes:
        path[..., token] += torch.where(in_usd[:, token], 0.0, path[..., quote])
    token_usd = torch.exp(path.clamp_(-_LARGEST_LOG_MOVE, _LARGEST_LOG_MOVE)).mul_(law.start_usd)
    return Prices(
        token_usd=token_usd,
        btc_usd=token_usd[..., law.names.index(FACTOR)].contiguous(),
        rent_ratio=rent,
        turnover_ratio=turnover,
    )


def _recorded_factor(history: History, window: Window, btc: Tensor) -> Tensor:
    """Log BTC [T, B]: recorded where the window knows it, else as simulated."""
    if FACTOR not in history.names:
        return btc
    column = history.names.index(FACTOR)
    return torch.where(window.known[:, column], window.path[..., column], btc)


def _record(
    law: TokenLaw, history: History, window: Window, anchor: int, path: Tensor, turnover: Tensor
) -> None:
    """Put what is recorded in the place of what was simulated, [T, B, P] both, in place."""
    for column, name in enumerate(history.names):
        token, known = law.names.index(name), window.known[:, column]
        recorded = window.path[..., column]
        path[..., token] = torch.where(known, recorded - recorded[anchor], path[..., token])
        traded = window.turnover[..., column]
        turnover[..., token] = _recorded(traded, turnover[..., token])


def _recorded(series: Tensor, simulated: Tensor) -> Tensor:
    """A recorded series where it covers the whole window, else the simulated one, [T, B, ...]."""
    if not len(series):
        return simulated
    return torch.where(torch.isfinite(series).all(0), series, simulated)
