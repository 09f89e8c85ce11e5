"""Shared set-up: one thread, so that runs are comparable, and what is dear is built once."""

import os
from functools import cache
from pathlib import Path

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


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that was exported; one for all workers, so only to be read."""
    from exported import exported  # with it come Hydra and the learner

    own = tmp_path_factory.getbasetemp()
    return exported(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def bundle(exported_run: Path) -> Path:
    """The bundle of that run; only to be read."""
    return exported_run / "bundle"
