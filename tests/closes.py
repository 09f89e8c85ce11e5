"""Made-up files of closes and the markets that replay them, for the tests of the replay."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from env import catalog
from env.catalog import Token
from env.market import BuiltMarket, build_market, load_market

CLOSES = Path(__file__).resolve().parents[2] / "shared" / "data" / "token_close_usd.csv"
TOKENS, GPUS = catalog.load_tokens(), catalog.load_gpus()
NAMES = ("BTC", "USD", "TAO", "AKT", "HEU", "ALPHA_SN51")
BURN_IN_H = 336


def some(*names: str) -> dict[str, Token]:
    return {name: TOKENS[name] for name in names}


def table(days: int = 400, seed: int = 0, freq: str = "D") -> pd.DataFrame:
    """Closes of BTC, TAO and AKT whose volatility changes by the month, with fat tails."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2022-01-01", periods=days, freq=freq, name="date")
    month = np.repeat(np.exp(rng.normal(0, 0.4, days // 30 + 1)), 30)[:days, None]
    moves = 0.03 * month * rng.standard_t(4, (days, 3))
    closes = pd.DataFrame(100 * np.exp(np.cumsum(moves, 0)), dates, ["BTC", "tao", "Akt"])
    return closes.assign(ZZZ=1.0).reset_index()


def saved(closes: pd.DataFrame, folder: Path, name: str = "closes.csv") -> Path:
    path = folder / name
    if path.suffix == ".parquet":
        closes.to_parquet(path)
    else:
        closes.to_csv(path, index=False)
    return path


def replay(
    path: Path, horizon: int = 96, names: tuple[str, ...] = NAMES, **keys: Any
) -> BuiltMarket:
    spec = load_market({"kind": "replay", "prices": str(path), "split": "all", **keys})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_market(spec, some(*names), GPUS, horizon, BURN_IN_H)


def seeds(start: int, count: int) -> torch.Tensor:
    return torch.arange(start, start + count)
