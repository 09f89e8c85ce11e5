"""Snapshots for the tests of serving: of lived worlds, and made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from conftest import scenario
from numpy.typing import NDArray
from torch import Tensor

from agents.outlook import Observation
from agents.serve.accounting import Account, Rule, account
from agents.serve.columns import MARKET, NETWORKS, RIGS, Columns, Field, Group
from agents.serve.snapshot import Snapshot
from env.observation import NETWORK_DERIVED, facts
from env.world import World

Floats = NDArray[np.float64]
Rig = dict[str, Any]


def _group(columns: Mapping[str, str]) -> Group:
    fields = tuple(Field(name, unit, -math.inf, math.inf, None) for name, unit in columns.items())
    return Group(fields, {}, np.zeros((1, len(fields))), frozenset(), frozenset())


COLUMNS = Columns(
    rigs=_group(RIGS),
    networks=_group(NETWORKS),
    market=_group(MARKET),
    off=np.zeros(len(NETWORKS)),
    mass=np.zeros((1, 1)),
    per_rig=np.zeros(1, bool),
    min_gpus=np.zeros(1),
)

NOW = 1.8e9  # s since 1970
RIG = {"gpu_count": 1.0, "up": 1.0, "score": 1.0, "tenure_h": 100.0, "tiebreak": 0.5}
NETWORK = {"up": 1.0, "open": 1.0, "load": 1.0, "outside_work": 1000.0, "token_usd": 2.0}
OFF = {"up": 1.0, "open": 1.0, "token_usd": 1.0}


def by_hand(
    rigs: Sequence[Rig], networks: Mapping[str, Mapping[str, float]]
) -> tuple[Snapshot, Floats]:
    """A snapshot and averages that have stood at its values for ever.

    A rig is its columns, `on` (the name of its network) and `work` (units by network, default 1);
    a network its columns. Those left out are as in RIG and NETWORK, else 0; `off` is added.
    """
    table = {**{name: {**NETWORK, **given} for name, given in networks.items()}, "off": OFF}
    names = tuple(table)
    assignment = np.array([names.index(rig["on"]) for rig in rigs], np.int64)
    work = np.array([[rig.get("work", {}).get(n, 1.0) for n in names] for rig in rigs])
    work = work.reshape(len(rigs), len(names))
    columns = np.array([[table[n].get(c, 0.0) for c in NETWORKS] for n in names])
    here = assignment[:, None] == np.arange(len(names))
    columns[:, [*NETWORKS].index("own_work")] = np.where(here, work, 0.0).sum(0)
    columns[:, [*NETWORKS].index("own_rigs")] = here.sum(0)
    snapshot = Snapshot(
        time=0.0,
        rig_names=tuple(f"rig-{k}" for k in range(len(rigs))),
        network_names=names,
        rigs=np.array([[{**RIG, **rig}.get(c, 0.0) for c in RIGS] for rig in rigs]).reshape(-1, 19),
        networks=columns,
        work=work,
        assignment=assignment,
        market=np.ones(len(MARKET)),
        observed=np.zeros(len(names)),
        averages=np.full((5, len(names)), np.nan),
        columns=COLUMNS,
    )
    estimate, token = snapshot.on("estimate_usd"), snapshot.on("token_usd")
    return snapshot, np.stack([estimate] * 3 + [token] * 2)


def valued(snapshot: Snapshot) -> Account:
    """The account of a rule that always looks, on averages that have stood still."""
    estimate, token = snapshot.on("estimate_usd"), snapshot.on("token_usd")
    return account(snapshot, np.stack([estimate] * 3 + [token] * 2), even())


def fed(snapshot: Snapshot, **changes: Any) -> Snapshot:
    """The snapshot as read just now."""
    observed = np.full(len(snapshot.network_names), NOW)
    return replace(snapshot, time=NOW, observed=observed, **changes)


def lived(
    fleet: str,
    networks: str,
    policy: Callable[[Observation], Tensor],
    hours: int,
    seeds: Sequence[int] = (1, 2),
) -> Iterator[tuple[Observation, int, Snapshot, Floats]]:
    """(observation of all worlds, world, its snapshot, its averages [5, N]) hour by hour."""
    world = World.start(scenario(fleet, networks), list(seeds))
    for _ in range(hours):
        seen = world.observe()
        memory = seen["networks"][..., -len(NETWORK_DERIVED) :].movedim(-1, 1).double().numpy()
        for k in range(len(seeds)):
            yield seen, k, snapshot_of(world, k), memory[k]
        world.step(policy(seen))


def snapshot_of(world: World, k: int) -> Snapshot:
    """What world k of a batch would be as a snapshot."""
    known = facts(world.scenario, world.fleet, world.state, world.now, world.static)
    mass = known.mass.expand(len(known.assignment), -1, -1)
    rigs, names = known.assignment.shape[1], world.scenario.network_names
    return Snapshot(
        time=0.0,
        rig_names=tuple(f"rig-{r}" for r in range(rigs)),
        network_names=tuple(names),
        rigs=known.rigs[k].double().numpy(),
        networks=known.networks[k].double().numpy(),
        work=mass[k].double().numpy(),
        assignment=known.assignment[k].numpy().copy(),
        market=known.market[k].double().numpy(),
        observed=np.zeros(len(names)),
        averages=np.full((5, len(names)), np.nan),
        columns=COLUMNS,
    )


def larger(snapshot: Snapshot, rigs: int) -> Snapshot:
    """The same fleet over and over until it has that many rigs, each with a tiebreak of its own."""
    again = np.arange(rigs) % len(snapshot.assignment)
    columns = snapshot.rigs[again]
    columns[:, [*RIGS].index("tiebreak")] = (np.arange(rigs) * (math.sqrt(5) - 1) / 2) % 1.0
    return replace(
        snapshot,
        rig_names=tuple(f"rig-{r}" for r in range(rigs)),
        rigs=columns,
        work=snapshot.work[again],
        assignment=snapshot.assignment[again],
    )


def even(**knobs: float) -> Rule:
    """A break-even rule on the 48-hour average that always looks, with these knobs."""
    given: dict[str, Any] = {"horizon_h": 100.0, "margin": 0.0, "marginal": 0.0, "attention": 1.0}
    return Rule("break_even", (0.0, 1.0, 0.0), **{**given, **knobs})
