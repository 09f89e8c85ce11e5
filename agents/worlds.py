"""Which worlds are for what: training, validation and test never share a seed or a date."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from env.market_spec import FILES
from env.scenario import Scenario, build_scenario

WORLDS_PER_SPLIT = 1 << 20
TRAINING_BLOCK = 4096  # training worlds of one run before those of the next run's seed
RUN_SEEDS = WORLDS_PER_SPLIT // TRAINING_BLOCK  # of runs whose training worlds differ


class Split(Enum):
    """A use of worlds; the value is the name of its date range on replay."""

    TRAIN = "train"  # seeds 0 .. 2^20 - 1: policies are trained and rules are tuned here
    VALIDATION = "validation"  # 2^20 .. 2^21 - 1: what a sweeper may look at
    TEST = "test"  # from 2^21: results, never looked at before


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class WorldConfig:
    """The worlds: fleet, networks, market, objective and length, as the environment takes them."""

    fleet: dict[str, Any]
    network: dict[str, Any]
    market: dict[str, Any]
    objective: dict[str, Any]
    horizon: Annotated[int, Field(ge=1)]
    device: str


def world_seeds(split: Split, count: int, run_seed: int = 0) -> list[int]:
    """Seeds of `count` worlds; only the training worlds depend on the run's own seed, which is
    under RUN_SEEDS."""
    first = list(Split).index(split) * WORLDS_PER_SPLIT
    assert 0 <= run_seed < RUN_SEEDS  # those beyond are validation worlds
    if split is Split.TRAIN:
        first += run_seed * TRAINING_BLOCK
    return list(range(first, first + count))


def make_scenario(config: WorldConfig, split: Split) -> Scenario:
    """The scenario on the market's part for this split; its seeds come from `world_seeds`."""
    replayed = config.market.get("kind") == "replay"
    market = {**config.market, "split": split.value} if replayed else config.market
    return build_scenario(
        config.fleet, config.network, market, config.objective, config.horizon, config.device
    )


def absolute_files(market: dict[str, Any]) -> dict[str, Any]:
    """The market with its files' paths made absolute, so that a run can be scored from anywhere."""
    return {
        key: str(Path(value).resolve()) if key in FILES and isinstance(value, str) else value
        for key, value in market.items()
    }


def data_files(market: dict[str, Any]) -> list[Path]:
    """The files that a market is read from."""
    return [Path(market[key]) for key in FILES if isinstance(market.get(key), str)]
