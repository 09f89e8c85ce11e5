"""How long a decision takes for a fleet of a given size, made of a bundle's recorded cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from .runtime import Policy

Json = dict[str, Any]
Clock = Callable[[], float]  # s

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)  # any day
WARM = 5  # decisions before those that count


class Fleet:
    """The rigs of the first recorded case over and over, in its hours over and over."""

    def __init__(self, policy: Policy, rigs: int, networks: int) -> None:
        """On at most so many networks, `off` counted."""
        self._hours = [h["snapshot"] for h in policy.bundle.golden["sequences"][0]["hours"]]
        self._networks = [*self._hours[0]["networks"]][: networks - 1]
        kinds = [
            rig if rig["network"] in self._networks else {**rig, "network": "off"}
            for rig in self._hours[0]["rigs"].values()
        ]
        self._rigs = {f"rig-{r:05d}": kinds[r % len(kinds)] for r in range(rigs)}
        self._known = policy.bundle.columns.networks
        self._moved: set[str] = set()

    def snapshot(self, hour: int) -> tuple[Json, float]:
        """(what an orchestrator would send, its unix time); the first brings averages."""
        said, now = self._hours[hour % len(self._hours)], BEGIN + timedelta(hours=hour)
        feeds = {name: said["networks"][name] for name in self._networks}
        sent = {**said, "time": now.isoformat(), "networks": feeds, "rigs": self._rigs}
        return sent, now.timestamp()

    def obey(self, orders: Mapping[str, str]) -> None:
        """Let an hour pass in which rigs go where they are ordered; there they provision first."""
        for name in self._moved:
            rig = self._rigs[name]
            waits_h = rig["provisioning_h"] - 1.0
            worked_h = rig["tenure_h"] + min(1.0, -waits_h) if waits_h < 0 else 0.0
            self._rigs[name] = {**rig, "provisioning_h": max(0.0, waits_h), "tenure_h": worked_h}
        gone = dict.fromkeys(("tenure_h", "lease_h", "lease_usd_h", "leaving_usd"), 0.0)
        for name, network in orders.items():
            there = {"network": network, "provisioning_h": self._provisioning_h(network)}
            self._rigs[name] = {**self._rigs[name], **gone, **there}
        self._moved |= orders.keys()

    def _provisioning_h(self, network: str) -> float:
        row = self._known.catalog.get(network, -1)
        return float(self._known.base[row, self._known.index["provisioning_h"]])


def latency_ms(
    policy: Policy,
    rigs: int,
    networks: int,
    hours: int,
    clock: Clock = time.perf_counter,
    *,
    obeys: bool = True,
) -> tuple[float, float]:
    """Median and 99th percentile of the time of a decision, ms; a policy to be thrown away.

    A fleet that never `obeys` is the dearest: it stands apart from the one on paper for ever.
    """
    fleet, taken = Fleet(policy, rigs, networks), []
    for hour in range(hours + WARM):
        snapshot, now = fleet.snapshot(hour)
        begin = clock()
        orders = policy.decide(snapshot, now).orders
        taken.append((clock() - begin) * 1e3)
        if obeys:
            fleet.obey(orders)
    middle, late = np.percentile(taken[WARM:], [50, 99])
    return float(middle), float(late)
