"""From a world's facts to the snapshot of an hour, as an orchestrator would send it.

Names stand in for positions, switches are true or false, times are UTC. What a bundle computes or
knows by itself (see `fields`) is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from agents.fields import AVERAGES, FIELDS, Field
from agents.serve.columns import OFF
from agents.serve.snapshot import SCHEMA
from env.fleet import rig_names
from env.observation import MARKET, NETWORK_FACTS, NETWORK_STATIC, RIG_FACTS, Column, Facts
from env.world import World

Snapshot = dict[str, Any]


class Names(NamedTuple):
    """What the rows of one world's facts are called."""

    rigs: tuple[str, ...]
    gpus: tuple[str, ...]  # model of each rig
    networks: tuple[str, ...]  # *off* last

    @classmethod
    def of(cls, world: World, row: int) -> Names:
        """Those of one world of a batch."""
        s, models = world.scenario, world.fleet.gpu[row].tolist()
        return cls(rig_names(s), tuple(s.gpu_names[k] for k in models), s.network_names)


def to_snapshot(
    known: Facts,
    row: int,
    names: Names,
    time: datetime.datetime,
    averages: Tensor | None = None,
) -> Snapshot:
    """The facts of world `row` of a batch as a snapshot; time is in UTC.

    averages: the memory [B, 5, N] with this hour in it, for a runtime that has none of its own.
    """
    rigs = _rows("rigs", RIG_FACTS, known.rigs[row])
    gone = {c.name for c in NETWORK_STATIC}  # the bundle's catalogue has them
    moving = tuple(c for c in NETWORK_FACTS if c.name not in gone)
    networks = _rows("networks", moving, known.networks[row][:, len(NETWORK_STATIC) :])
    if averages is not None:
        for network, values in zip(networks, shortest(averages[row].T), strict=True):
            network |= zip((a.name for a in AVERAGES), values, strict=True)
    places = [names.networks[k] for k in known.assignment[row].tolist()]
    each = zip(names.rigs, names.gpus, places, rigs, strict=True)
    return {
        "schema": SCHEMA,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "market": _rows("market", MARKET, known.market[row : row + 1])[0],
        "networks": {
            name: facts for name, facts in zip(names.networks, networks, strict=True) if name != OFF
        },
        "rigs": {rig: {"network": at, "gpu": gpu, **facts} for rig, gpu, at, facts in each},
    }


def _rows(group: str, columns: tuple[Column, ...], values: Tensor) -> list[dict[str, Any]]:
    """Each row of values [M, len(columns)] by name, without what a bundle finds by itself."""
    kept = [k for k, c in enumerate(columns) if _is_given(FIELDS[group][c.name])]
    named = tuple(columns[k] for k in kept)
    return [by_name(named, row) for row in shortest(values[:, kept])]


def by_name(columns: Iterable[Column], values: Iterable[float]) -> dict[str, Any]:
    """Values by the names of their columns, switches as true or false."""
    return {
        c.name: value > 0.5 if c.unit == "0/1" else value
        for c, value in zip(columns, values, strict=True)
    }


def _is_given(field: Field) -> bool:
    return field.given == "snapshot" and not field.by_gpu


def shortest(values: Tensor) -> Any:
    """A tensor as lists of the shortest decimals that are its float32 numbers again."""
    return values.float().cpu().numpy().astype(str).astype(np.float64).tolist()
