"""How long a decision takes for a fleet of a given size, made of a bundle's recorded cases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .decision import Decision
from .runtime import Policy

Json = dict[str, Any]


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
    for hour in range(hours):
        day, of_day = divmod(hour, 24)
        begin = f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}T{of_day:02d}:00:00Z"
        unix_s = float(np.datetime64(begin[:-1]).astype("datetime64[s]").astype(np.int64))
        yield {**recorded, "time": begin, "networks": feeds, "rigs": many}, unix_s


def latency_ms(policy: Policy, rigs: int, networks: int, hours: int) -> tuple[float, float]:
    """Median and 99th percentile of the time of a decision, ms; a policy to be thrown away."""
    taken = []
    for snapshot, now in fleet(policy, rigs, networks, hours + WARM):
        begin = time.perf_counter()
        decision: Decision = policy.decide(snapshot, now)
        taken.append((time.perf_counter() - begin) * 1e3)
        del decision
    middle, late = np.percentile(taken[WARM:], [50, 99])
    return float(middle), float(late)


WARM = 5  # decisions before those that count
