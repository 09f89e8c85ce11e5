"""The whole configuration of a job, typed: each part stands beside the code it configures."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from agents.scoring import EvaluationConfig
from agents.tracking import TrackingConfig
from agents.training import AgentConfig
from agents.worlds import RUN_SEEDS, WorldConfig, absolute_files
from env.catalog import parse


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class Config(WorldConfig):
    """What `configs/train.yaml` composes to."""

    seed: Annotated[int, Field(ge=0, lt=RUN_SEEDS)]
    threads: Annotated[int, Field(ge=1)]
    agent: AgentConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig


def load_config(composed: dict[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The typed configuration and the plain data to record; sets the number of torch threads."""
    plain = {**composed, "market": absolute_files(composed["market"])}
    config = parse(Config, plain, "config")
    config.agent.check()
    torch.set_num_threads(config.threads)
    return config, plain
