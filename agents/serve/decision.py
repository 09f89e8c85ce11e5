"""A decision as the orchestrator gets it: moves with their reasons, and why the other rigs hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .explain import Move
from .guardrails import Acted
from .snapshot import Ints, Snapshot

POLICY, RULE, HOLD = "policy", "rule", "hold"
FEEDS = ("missing", "max_feed_age_h")  # what of a network's facts holds the rigs there


class Verdict(NamedTuple):
    """Who decides, and why it is not the policy."""

    source: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What each rig of a snapshot is to do."""

    time: float  # unix s of the snapshot
    bundle: str
    source: str  # who decides: POLICY, RULE, or HOLD for nobody
    reason: str  # why it is not the policy, empty where it is
    moves: tuple[Move, ...] = ()
    near_misses: tuple[Move, ...] = ()  # holds that nearly were moves
    holds: Mapping[str, str] = field(default_factory=dict)  # every other rig -> why it holds
    acted: tuple[Acted, ...] = ()  # guardrails that acted
    novelty: float | None = None  # distance from training, None where nothing was compared
    novelty_of: str = ""  # the statistic that is worst, and its range
    regret_usd: float = 0.0  # by how much the rule would lead over the window

    @property
    def orders(self) -> dict[str, str]:
        """Rig -> network, of the rigs that move."""
        return {move.rig: move.network for move in self.moves}

    def to_json(self) -> dict[str, Any]:
        """Plain values by name, numbers finite or None."""
        return {
            "time": _iso(self.time),
            "bundle": self.bundle,
            "source": self.source,
            "reason": self.reason,
            "moves": [_told(move) for move in self.moves],
            "near_misses": [_told(move) for move in self.near_misses],
            "holds": dict(self.holds),
            "acted": [acted._asdict() for acted in self.acted],
            "novelty": self.novelty,
            "novelty_of": self.novelty_of,
            "regret_usd": self.regret_usd,
        }


def _iso(time: float) -> str:
    """A time in UTC; of years that a date does not have, the first or last second."""
    first, last = (d.replace(tzinfo=UTC).timestamp() for d in (datetime.min, datetime.max))
    date = datetime.fromtimestamp(min(max(time, first), int(last)), UTC)
    return date.isoformat().replace("+00:00", "Z")


def _told(move: Move) -> dict[str, Any]:
    part = move._asdict()
    del part["made"]
    token_usd = move.token_usd if math.isfinite(move.token_usd) else None  # a hold's, without feed
    told = {"token_usd": token_usd, "modelled": list(move.modelled), "text": move.text}
    return {**part, **told}


def why_held(
    seen: Snapshot, orders: Ints, acted: tuple[Acted, ...], verdict: Verdict
) -> dict[str, str]:
    """Each rig that holds, and why: what acted on it first, its network, all rigs, or nothing."""
    of_rig: dict[str | None, str] = {}
    of_network: dict[str | None, str] = {}
    default = verdict.reason if verdict.source == HOLD else f"the {verdict.source} orders no move"
    for one in acted:
        if one.rig is not None:
            of_rig.setdefault(one.rig, one.text)
        elif one.network is None:
            default = verdict.reason if verdict.source == HOLD else one.text
        elif one.guardrail in FEEDS:
            of_network.setdefault(one.network, one.text)
    texts = [of_network.get(name, default) for name in seen.network_names]
    rows = zip(seen.rig_names, seen.assignment.tolist(), orders.tolist(), strict=True)
    return {rig: of_rig.get(rig, texts[n]) for rig, n, order in rows if not order}
