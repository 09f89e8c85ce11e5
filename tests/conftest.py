"""Shared set-up: one thread, so that runs are comparable, and what is dear is built once."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from env.scenario import Scenario, build_scenario

if TYPE_CHECKING:  # with these come Hydra and the learner
    from exported import Exported

    from agents.config import Config

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
    from exported import exported

    own = tmp_path_factory.getbasetemp()
    return exported(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def bundle(exported_run: Path) -> Path:
    """The bundle of that run; only to be read."""
    return exported_run / "bundle"


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> dict[str, Any]:
    """The manifest of that bundle; only to be read."""
    return json.loads((bundle / "manifest.json").read_text())


@pytest.fixture(scope="session")
def config(exported_run: Path) -> Config:
    """What that run was configured with."""
    from agents.config import load_config
    from agents.run_folder import read_config

    return load_config(read_config(exported_run))[0]


@pytest.fixture(scope="session")
def both(exported_run: Path, bundle: Path) -> Exported:
    """The policy of that run in torch, and as it was exported."""
    from exported import both

    return both(exported_run, bundle)
