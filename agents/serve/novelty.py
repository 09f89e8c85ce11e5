"""How far a snapshot is from the worlds that the policy was trained in.

Statistics of what the policy sees, each against a range: what training worlds met, widened. The
distance is that of the statistic which is worst: 0 in the middle of its range, 1 at the edge, and
so on in the same unit. `fit` makes the ranges, when a bundle is exported, and calibrates them: no
world of a part that they were not made of may come nearer to the edge than `SPARE`.

A network that is closed is judged no further, for nobody enters it. One that training did not have
is held against the widest range of any. A feed without a number is left to the guardrails.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .closings import close
from .columns import AVERAGES, LARGEST, MARKET, NETWORKS, RIGS
from .document import check_keys, entries, join, number
from .errors import FieldError
from .snapshot import Snapshot

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLLAPSED = 0.1  # of its 336-hour average, under which a network's pay has collapsed; assumption
WIDER = 0.5  # of the range that was met, on either side; assumption
SPARE = 1.1  # from the furthest world that calibrates to the edge; assumption
FACTOR = math.log(5.0)  # by which a fleet may be larger than in training; assumption
DRIFT = math.log(2.0)  # by which levels may have moved since the catalogue's date; assumption
TINY = 1e-9  # stands for zero in a logarithm
HELD_OUT = 4  # one world in so many calibrates


class Statistic(NamedTuple):
    """What is compared, and how its range is made from what was met."""

    meaning: str
    least: float = 0.5  # half of the range at least; assumption, of logarithms
    more: float = 0.0  # added on either side
    up_to: bool = False  # any value from zero up to the edge is as good
    edge: float | None = None  # whatever was met


OF_NETWORKS = {
    "estimate_trend": Statistic("log of the estimate over its 336-hour average"),
    "token_trend": Statistic("log of the token's price over its 168-hour average"),
    "estimate": Statistic("log of the estimate in USD/h", more=DRIFT),
    "token": Statistic("log of the token's price in USD", more=DRIFT),
    "own_work": Statistic("log of all work in the pool over others'", more=FACTOR, up_to=True),
}
OF_FLEET = {
    "estimates_trend": Statistic("mean of estimate_trend over the networks"),
    "tokens_trend": Statistic("mean of token_trend over the networks"),
    "working": Statistic("share of networks that are up and open", least=0.25),
    "rigs": Statistic("log of the number of rigs", more=FACTOR, up_to=True),
    # Deaths of networks are part of training, but losing that much at once is a crisis: assumption
    "stranded": Statistic("share of rigs where pay has just collapsed", up_to=True, edge=0.2),
    "btc": Statistic("log of Bitcoin's price in USD", more=DRIFT),
    "rent": Statistic("log of the rent index", more=DRIFT),
    "equity_days": Statistic("log of the equity in days of the fleet's nominal cost", more=FACTOR),
    # Training hardly shows a rig that is better off, so its policy knows little of it
    "losing": Statistic("share of running rigs paid less than their energy", 0.25, up_to=True),
}
UNTOLD = {"losing": [-0.5, 0.5]}  # of a bundle older than the statistic: its range at least
_WORKING = [*OF_FLEET].index("working")
_COLUMN = {name: k for k, name in enumerate(NETWORKS)}
_FEEDS = [_COLUMN["estimate_usd"], _COLUMN["token_usd"]]
_LONG = [[*AVERAGES].index(name) for name in ("ema_336h_usd", "price_168h_usd")]  # of these feeds
_SHORT = [*AVERAGES].index("ema_6h_usd")
_MARKET = {name: k for k, name in enumerate(MARKET)}
_OF_RIG = ("owned", "power_kw", "tariff_usd_kwh", "up", "lease_usd_h")
_RIG = [[*RIGS].index(name) for name in _OF_RIG]


class Hour(NamedTuple):
    """W worlds at an hour; `off` is the last network."""

    networks: Floats  # [W, N, 27]
    market: Floats  # [W, 5]
    memory: Floats  # [W, 5, N] with this hour in it
    rigs: Floats  # [W, R, 19]
    mine: Floats  # [W, R] work of each rig where it is
    assignment: Ints  # [W, R] where that is

    @classmethod
    def of(cls, snapshot: Snapshot, memory: Floats) -> Hour:
        """A snapshot as one world; memory [5, N] with its hour in it."""
        at = snapshot.assignment
        mine = snapshot.work[np.arange(len(at)), at][None]
        facts = snapshot.networks[None], snapshot.market[None], memory[None], snapshot.rigs[None]
        return cls(*facts, mine, at[None])


def statistics(hour: Hour) -> tuple[Floats, Floats]:
    """([W, N - 1, len(OF_NETWORKS)], [W, len(OF_FLEET)]) of an hour; NaN where not judged."""
    with np.errstate(all="ignore"):  # what is not finite ends as not judged
        each = _of_networks(hour)
        return each, _of_fleet(hour, each)


def _of_networks(hour: Hour) -> Floats:
    networks = hour.networks[..., :-1, :]
    now = networks[..., _FEEDS]  # [W, N - 1, 2]
    past = hour.memory[..., _LONG, :-1].swapaxes(-1, -2)
    crowd = _on(networks, "own_work") / np.maximum(_on(networks, "outside_work"), TINY)
    trends = _log(now + TINY) - _log(past + TINY)
    each = np.concatenate((trends, _log(now), np.log1p(crowd)[..., None]), -1)
    each[~((_on(networks, "open") > 0) & np.isfinite(each).all(-1))] = np.nan
    return each


def _of_fleet(hour: Hour, each: Floats) -> Floats:
    networks, market = hour.networks[..., :-1, :], hour.market
    rigs = max(hour.rigs.shape[-2], 1)
    short, long = hour.memory[..., _SHORT, :-1], hour.memory[..., _LONG[0], :-1]
    judged = np.isfinite(each[..., 0])
    trends = np.where(judged[..., None], each[..., :2], 0.0).sum(-2)
    working = (_on(networks, "open") > 0) & (_on(networks, "up") > 0)
    least = COLLAPSED * long
    fallen = (_on(networks, "estimate_usd") < least) & (short > least)
    cost_usd = np.maximum(24.0 * market[..., _MARKET["nominal_usd_h"]], TINY)  # a day
    fleet = np.empty((*market.shape[:-1], len(OF_FLEET)))
    fleet[..., :2] = trends / np.maximum(judged.sum(-1), 1)[..., None]
    fleet[..., 2] = working.mean(-1) if working.shape[-1] else np.nan
    fleet[..., 3] = math.log(rigs)
    fleet[..., 4] = (fallen * _on(networks, "own_rigs")).sum(-1) / rigs
    fleet[..., 5:7] = _log(market[..., [_MARKET["btc_usd"], _MARKET["rent_index"]]])
    fleet[..., 7] = _log(market[..., _MARKET["equity_usd"]] / cost_usd, 1.0)
    fleet[..., 8] = _losing(hour)
    return fleet


def _losing(hour: Hour) -> Floats:
    """[W] of the rigs that run, the share for which energy is more than their lease pays, or their
    part of the published yield.

    A rig that is switched off runs no more, so that what is left of a fleet is judged alike. What
    has no number, or no work that is known, does not count as losing.
    """
    networks, rigs = hour.networks, hour.rigs
    outside = _on(networks, "outside_work")
    paid = _on(networks, "estimate_usd") * (1.0 - _on(networks, "lockup")) * outside  # [W, N]
    paid /= np.maximum(outside + _on(networks, "own_work"), TINY)  # USD/h a unit of work
    paid[~(_on(networks, "up") > 0)] = np.nan
    paid[:, -1] = np.nan
    here = hour.assignment + networks.shape[-2] * np.arange(len(paid))[:, None]
    paid, load = paid.take(here), _on(networks, "load").take(here)  # [W, R]
    owned, power_kw, tariff_usd_kwh, up, lease_usd_h = (rigs[..., k] for k in _RIG)
    runs = (up > 0) & (hour.mine > 0) & ~np.isnan(paid)
    most = np.fmax(hour.mine * paid, lease_usd_h)
    losing = runs & (most < owned * power_kw * tariff_usd_kwh * load)
    share: Floats = losing.sum(-1) / np.maximum(runs.sum(-1), 1)
    return share


def _on(networks: Floats, name: str) -> Floats:
    column: Floats = networks[..., _COLUMN[name]]
    return column


def _log(value: Floats, least: float = TINY) -> Floats:
    logs: Floats = np.log(np.maximum(value, least))
    return logs


class Training:
    """The ranges of a bundle: what its policy was trained in."""

    def __init__(self, part: Mapping[str, Any]) -> None:
        """From the manifest's `training`; `FieldError` at a field that is wrong."""
        keys = ("worlds", "hours", "fleet", "any", "networks")
        check_keys(part, "training", keys, keys)
        fleet = entries(part["fleet"], "training.fleet")
        self._fleet = _read(UNTOLD | fleet, "training.fleet", OF_FLEET)
        self._any = _read(part["any"], "training.any", OF_NETWORKS)
        known = entries(part["networks"], "training.networks")
        self._networks = {
            name: _read(ranges, join("training.networks", name), OF_NETWORKS)
            for name, ranges in known.items()
        }
        self._last: tuple[tuple[str, ...], Floats] = ((), self._fleet)

    def distance(
        self, snapshot: Snapshot, memory: Floats, deny: Collection[str] = ()
    ) -> tuple[float, str]:
        """(distance, which statistic it is of and its range); memory with this hour in it. deny:
        networks that the operator does not want, which are judged like closed ones."""
        names = snapshot.network_names[:-1]
        each, fleet = statistics(Hour.of(snapshot, memory))
        denied = np.array([name in deny for name in snapshot.network_names])
        if denied.any():
            working = fleet[:, _WORKING]  # whatever the operator wants
            each, fleet = statistics(Hour.of(close(snapshot, denied), memory))
            fleet[:, _WORKING] = working
        values, ranges = np.concatenate((fleet.ravel(), each.ravel())), self._ranges(names)
        far = _far(values, ranges)
        k = int(far.argmax())
        low, high = ranges[:, k].tolist()
        of = f"{_statistic(k, names)} is {values.item(k):.3g}, range {low:.3g} to {high:.3g}"
        return far.item(k), of

    def _ranges(self, networks: tuple[str, ...]) -> Floats:
        """Those of the fleet and of each network, [2, S]; found once for networks that stay."""
        if networks != self._last[0]:
            parts = [self._fleet, *(self._networks.get(name, self._any) for name in networks)]
            self._last = networks, np.concatenate(parts, 1)
        return self._last[1]


def _statistic(k: int, networks: tuple[str, ...]) -> str:
    """The name of one of the statistics of a fleet and its networks."""
    if k < len(OF_FLEET):
        return [*OF_FLEET][k]
    network, statistic = divmod(k - len(OF_FLEET), len(OF_NETWORKS))
    return f"{[*OF_NETWORKS][statistic]} of {networks[network]}"


def _far(values: Floats, ranges: Floats) -> Floats:
    """How far values [..., S] are from the middle of their ranges [2, ..., S]; NaN counts as 0."""
    middle, half = (ranges[0] + ranges[1]) / 2, (ranges[1] - ranges[0]) / 2
    far: Floats = np.fmax(np.abs(values - middle) / half, 0.0)
    return np.minimum(far, np.finfo(np.float64).max)


def _read(part: Any, path: str, statistics: Mapping[str, Statistic]) -> Floats:
    """Low and high of each statistic, [2, S]."""
    ranges = entries(part, path)
    check_keys(ranges, path, statistics, statistics)
    read = []
    for name in statistics:
        here, edges = join(path, name), ranges[name]
        if not isinstance(edges, list) or len(edges) != 2:
            raise FieldError(here, "a low and a high number", edges)
        low, high = (number(edge, here, -LARGEST, LARGEST) for edge in edges)
        if not low < high:
            raise FieldError(here, "a low number below the high one", edges)
        read.append((low, high))
    return np.array(read).T


def fit(names: tuple[str, ...], hours: Iterable[Hour]) -> dict[str, Any]:
    """The manifest's `training`, from what at least two training worlds met, hour by hour.

    names: of the networks, `off` last.
    """
    each, fleet = map(np.stack, zip(*map(statistics, hours), strict=True))  # [T, W, ...]
    held = np.arange(each.shape[1]) % HELD_OUT == 1
    of_networks = _ranges(each[:, ~held], OF_NETWORKS)
    of_fleet = _ranges(fleet[:, ~held], OF_FLEET)
    _calibrate(of_networks, each[:, held], OF_NETWORKS)
    _calibrate(of_fleet, fleet[:, held], OF_FLEET)
    widest = np.stack((of_networks[0].min(0), of_networks[1].max(0)))
    return {
        "worlds": int(each.shape[1]),
        "hours": int(each.shape[0]),
        "fleet": _named(OF_FLEET, of_fleet),
        "any": _named(OF_NETWORKS, widest),
        "networks": {
            name: _named(OF_NETWORKS, of_networks[:, k]) for k, name in enumerate(names[:-1])
        },
    }


def _ranges(values: Floats, statistics: Mapping[str, Statistic]) -> Floats:
    """Low and high of each statistic of values [T, W, ..., S], widened: [2, ..., S]."""
    low = np.where(np.isnan(values), np.inf, values).min((0, 1))
    high = np.where(np.isnan(values), -np.inf, values).max((0, 1))
    never = low > high  # of a network that was always closed
    low, high = np.where(never, 0.0, low), np.where(never, 0.0, high)
    wider = WIDER * (high - low)
    for k, statistic in enumerate(statistics.values()):
        low[..., k] -= wider[..., k] + statistic.more
        high[..., k] += wider[..., k] + statistic.more
        if statistic.edge is not None:
            high[..., k] = statistic.edge
        elif (spare := statistic.least - (high - low)[..., k] / 2).max() > 0:
            low[..., k] -= np.maximum(spare, 0.0)
            high[..., k] += np.maximum(spare, 0.0)
        if statistic.up_to:
            low[..., k] = -high[..., k]
    return np.stack((low, high))


def _calibrate(ranges: Floats, held: Floats, statistics: Mapping[str, Statistic]) -> None:
    """Widen the ranges of a statistic, of all networks alike, for worlds [T, W, ..., S]."""
    furthest = _far(held, ranges).reshape(-1, len(statistics)).max(0)
    for k, statistic in enumerate(statistics.values()):
        factor = SPARE * furthest[k]
        if statistic.edge is None and factor > 1:
            middle, half = ranges[..., k].mean(0), (ranges[1] - ranges[0])[..., k] / 2
            ranges[0][..., k], ranges[1][..., k] = middle - factor * half, middle + factor * half


def _named(statistics: Iterable[str], ranges: Floats) -> dict[str, list[float]]:
    return dict(zip(statistics, np.round(ranges, 4).T.tolist(), strict=True))
