"""Shared set-up: one thread, so that runs are comparable, and scenarios built once."""

from functools import cache

import pytest
import torch

from env.scenario import Scenario, build_scenario

torch.set_num_threads(1)


@cache
def scenario(
    fleet: str = "small", networks: str = "default", horizon: int = 48, objective: str = "profit"
) -> Scenario:
    """A preset scenario, built once per session."""
    return build_scenario(fleet, networks, "synthetic", objective, horizon)


@pytest.fixture(scope="session")
def small() -> Scenario:
    """8 rigs on the whole catalogue for two days."""
    return scenario()
