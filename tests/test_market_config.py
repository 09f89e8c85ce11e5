"""The market's configuration: sources, presets as Hydra composes them, clear errors."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from env.catalog import CONFIG_DIR
from env.errors import InputError
from env.market import load_market


@pytest.mark.parametrize("name", ["synthetic", "replay"])
def test_every_number_of_a_market_names_its_source(name: str) -> None:
    for line in (CONFIG_DIR / "market" / f"{name}.yaml").read_text().splitlines():
        value, _, comment = line.partition("#")
        if any(c.isdigit() for c in value):
            assert len(comment.strip()) > 8, line


def test_hydra_and_the_plain_loader_read_a_preset_alike() -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base=None):
        composed = compose("train", ["market=replay", "market.prices=closes.csv"])
    data = OmegaConf.to_container(composed.market, resolve=True)
    assert isinstance(data, dict)
    spec = load_market({str(k): v for k, v in data.items()})
    assert spec == load_market({"kind": "replay", "prices": "closes.csv", "split": "train"})
    assert spec.alt_loading == load_market("synthetic").alt_loading


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("alt_loadign: 0.5", "market: alt_loadign: no such key"),
        ("alt_loading: 1.5", "market: alt_loading: expected"),
        ("regimes: {bear: 1}", "market: regimes.bear: expected"),
        ("kind: history", "market: expected one of replay, synthetic, got 'history'"),
        ("kind: replay", "market.prices: expected the path of a CSV or Parquet file, got None"),
        ("fractions: {train: 0.9, validation: 0.2}", "market.fractions: expected parts that add"),
        ("fractions: {train: 0}", "market: fractions.train: expected greater than 0, got 0"),
        ("start: yesterday", "market: start: expected"),
        ("{start: 2024-05-01, end: 2024-04-01}", "market.end: expected a date after 2024-05-01"),
        ("rent_law: {mean_step_days: 0}", "market: rent_law.mean_step_days: expected"),
        ("turnover: a.csv", "market.turnover: expected no file in a synthetic market, got 'a.csv'"),
    ],
)
def test_a_wrong_key_is_one_clear_line(change: str, message: str) -> None:
    data: dict[str, Any] = yaml.safe_load(change)
    with pytest.raises(InputError) as error:
        load_market(data)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
