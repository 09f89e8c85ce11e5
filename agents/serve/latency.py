"""How long a decision takes for a fleet of a given size, made of a bundle's recorded cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .runtime import Policy

Json = dict[str, Any]
Clock = Callable[[], float]  # s

WARM = 5  # decisions before those that count


def fleet(policy: Policy, rigs: int, networks: int, hours: int) -> Iterator[tuple[Json, float]]:
    """(snapshot, its unix time) of some hours of a fleet of `rigs` on at most `networks`, `off`
    counted: the rigs of the first recorded case, over and over. Each hour brings averages."""
    recorded = policy.bundle.golden["sequences"][0]["hours"][0]["snapshot"]
    feeds = dict([*recorded["networks"].items()][: networks - 1])
    kinds = [
        rig if rig["network"] in feeds else {**rig, "network": "off"}
        for rig in recorded["rigs"].values()
    ]
    many = {f"rig-{r:05d}": kinds[r % len(kinds)] for r in range(rigs)}
    begin = np.datetime64("2026-01-01T00:00:00")
    for hour in range(hours):
        now = begin + np.timedelta64(hour, "h")
        snapshot = {**recorded, "time": f"{now}Z", "networks": feeds, "rigs": many}
        yield snapshot, float(now.astype(np.int64))


def latency_ms(
    policy: Policy, rigs: int, networks: int, hours: int, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Median and 99th percentile of the time of a decision, ms; a policy to be thrown away."""
    taken = []
    for snapshot, now in fleet(policy, rigs, networks, hours + WARM):
        begin = clock()
        policy.decide(snapshot, now)
        taken.append((clock() - begin) * 1e3)
    middle, late = np.percentile(taken[WARM:], [50, 99])
    return float(middle), float(late)
