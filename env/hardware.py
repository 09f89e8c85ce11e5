"""The operator's side of the catalogue: GPU models, sites and fleets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from env.parsing import STRICT, NonNegative, Positive


@dataclass(config=STRICT)
class GpuModel:
    """One GPU model; prices are a dated default, see `configs/catalog/gpus.yaml`."""

    vram_gb: Positive
    board_power_w: Positive
    fp16_tflops: Positive  # dense tensor throughput
    bandwidth_gb_s: Positive
    rent_usd_h: Positive  # what a tenant pays to rent one GPU for an hour
    capex_usd: Positive  # purchase price of one GPU with its share of the host
    hashrate_mh_s: NonNegative = 0.0  # KawPow


@dataclass(config=STRICT)
class Site:
    """A place with an energy tariff by hour of day and common-cause outages."""

    tariff_usd_kwh: Annotated[tuple[NonNegative, ...], Field(min_length=24, max_length=24)]
    pue: Annotated[float, Field(ge=1, le=3)]
    hosting_usd_gpu_h: NonNegative  # space, network and hands for an owned GPU
    outages_per_year: NonNegative
    outage_mean_h: Positive


@dataclass(config=STRICT)
class RigGroup:
    """`count` identical rigs of a fleet."""

    gpu: str
    gpu_count: Annotated[int, Field(ge=1, le=64)]
    count: Annotated[int, Field(ge=1)]
    site: str
    owned: bool = True


@dataclass(config=STRICT)
class FleetSpec:
    """A fixed fleet from groups, or (random_rigs > 0) one drawn anew for each world."""

    rigs: tuple[RigGroup, ...] = ()
    random_rigs: Annotated[int, Field(ge=0)] = 0
