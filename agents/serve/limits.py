"""The settings of the guardrails, their defaults, and how a manifest and an operator give them."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import FieldError

SLACK_H = 1.0 / 12.0  # by which calls an hour apart may come earlier; assumption


@dataclass(frozen=True)
class Guardrails:
    """The limits. The defaults are a maker's; the manifest holds its own, an operator overrides.

    For calls that come hourly but not quite, an hour of moves, a dwell and a history may be short
    by `SLACK_H`.
    """

    min_dwell_h: float = 6.0  # from a rig's last move to its next
    max_moves_share_h: float = 0.25  # of the fleet's rigs in a trailing hour, though at least one
    max_moves_h: int | None = None  # rigs in a trailing hour, beside the share
    max_network_share: float = 1.0  # of the fleet's rigs on one network, though at least one
    max_network_rigs: Mapping[str, int] = field(default_factory=dict)  # on a network, by name
    deny: tuple[str, ...] = ()  # networks never entered
    max_feed_age_h: float = 2.0  # of a network's facts
    max_snapshot_age_h: float = 0.5  # of a snapshot against the clock, either way
    max_gap_h: float = 6.0  # between two calls that averages bridge; from an order to its move
    estimate_clip: float = 5.0  # an estimate counts at most as this multiple of its 48-h average
    min_history_h: float = 6.0  # for which a network is known before it is entered
    max_payback_h: float = 720.0  # in which the entry cost must come back
    max_novelty: float = 1.0  # distance from the training worlds beyond which the rule decides
    regret_budget_h: float = 72.0  # of the fleet's nominal cost, lost against the rule


_RANGES: Mapping[str, tuple[float, float]] = {  # of the settings that are one number
    "min_dwell_h": (0.0, math.inf),
    "max_moves_share_h": (0.0, 1.0),
    "max_network_share": (0.0, 1.0),
    "max_feed_age_h": (0.0, math.inf),
    "max_snapshot_age_h": (0.0, math.inf),
    "max_gap_h": (0.0, math.inf),
    "estimate_clip": (1.0, math.inf),
    "min_history_h": (0.0, math.inf),
    "max_payback_h": (0.0, math.inf),
    "max_novelty": (0.0, math.inf),
    "regret_budget_h": (0.0, math.inf),
}


def settings(part: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Guardrails:
    """The manifest's guardrails with an operator's overrides; `FieldError` at `guardrails.<name>`
    for a name that is unknown and a value of the wrong type or out of range."""
    names = [f.name for f in dataclasses.fields(Guardrails)]
    values: dict[str, Any] = {}
    for source in (part, {} if overrides is None else overrides):
        if not isinstance(source, Mapping):
            raise FieldError("guardrails", "a mapping of names to values", source)
        for name, value in source.items():
            if name not in names:
                raise FieldError(f"guardrails.{name}", f"one of {', '.join(names)}", value)
            values[name] = _checked(name, value)
    return Guardrails(**values)


def _checked(name: str, value: Any) -> Any:
    path = f"guardrails.{name}"
    if name == "deny":
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise FieldError(path, "a list of network names", value)
        return tuple(value)
    if name == "max_network_rigs":
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value):
            raise FieldError(path, "a mapping of network names to numbers of rigs", value)
        return {network: _count(f"{path}.{network}", rigs) for network, rigs in value.items()}
    if name == "max_moves_h":
        return None if value is None else _count(path, value)
    low, high = _RANGES[name]
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not (real and low <= value <= min(high, sys.float_info.max)):
        span = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise FieldError(path, f"a finite number {span}", value)
    return float(value)


def _count(path: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FieldError(path, "a whole number, at least 0", value)
    return value
