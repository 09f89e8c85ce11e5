"""From physical units to what a network can learn from: ratios, logs and break-even values.

Part of the policy, so part of its export: training and serving compute features with this code.
Yields of a rig are measured against what the rig could typically earn, so that a rig of one small
GPU and a rig of eight large ones look alike where their choices are alike. No rig and no network
has an identity here.

Tensors have their features first and rigs last: features of one kind are computed together, and
what is said of a network holds along a whole row of rigs.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from agents.outlook import Observation, Seen
from agents.rules import BreakEven
from env.observation import COLUMNS, column

YIELDS = ("estimate_usd", "ema_6h_usd", "ema_48h_usd", "ema_336h_usd")
PAYBACK_H = (24.0, 72.0, 168.0, 336.0)  # horizons over which a move is valued
_LEAST_USD_H = 1e-3  # a rig's typical yield is at least this
_LARGEST = 1e9  # stands for an infinite quantity

PAIR_FEATURES, MARKET_FEATURES, PLACE_FEATURES = 19, 4, 8
Kind = Literal["as it is", "above 0", "log", "log1p", "ratio", "typical", "own"]


class Feature(NamedTuple):
    """A feature of a rig or a network: `weight * kind(column) + shift`."""

    name: str  # a column, or a quantity of its own
    kind: Kind
    weight: float = 1.0
    shift: float = 0.0
    base: str = ""  # the column that a ratio is to


RIGS = (
    Feature("gpu_count", "log"),
    Feature("vram_gb", "log", 1 / 3),
    Feature("fp16_tflops", "log", 1 / 5),
    Feature("bandwidth_gb_s", "log", 1 / 7),
    Feature("owned", "as it is"),
    Feature("up", "as it is"),
    Feature("provisioning_h", "log1p"),
    Feature("tenure_h", "log1p", 1 / 5),
    Feature("score", "as it is"),
    Feature("lease_h", "log1p", 1 / 3),
    Feature("lease_usd_h", "typical"),
    Feature("idle_h", "log1p", 1 / 3),
    Feature("leaving_usd", "typical"),
    Feature("last_gross_usd", "typical"),
    Feature("last_net_usd", "typical"),
    Feature("cost per typical yield", "own"),
    Feature("sine of the phase", "own"),
    Feature("cosine of the phase", "own"),
)
NETWORKS = (
    Feature("provisioning_h", "log1p"),
    Feature("warmup_h", "log1p", 1 / 3),
    Feature("unbonding_h", "log1p", 1 / 6),
    Feature("lockup", "as it is", 3.0),
    Feature("lease", "as it is"),
    Feature("log of lease_mean_h where leased", "own", 1 / 3),
    Feature("break_h", "log1p"),
    Feature("slots", "above 0"),
    Feature("immunity_h", "log1p", 1 / 3),
    Feature("concentration", "as it is", 1.0, -1.0),
    Feature("token_daily_sd", "as it is", 10.0),
    Feature("load", "as it is"),
    Feature("fault_multiple", "as it is"),
    Feature("estimate_usd", "ratio", base="ema_6h_usd"),
    Feature("ema_6h_usd", "ratio", base="ema_48h_usd"),
    Feature("ema_48h_usd", "ratio", base="ema_336h_usd"),
    Feature("estimate_age_h", "log1p"),
    Feature("token_usd", "ratio", 10.0, base="price_24h_usd"),
    Feature("price_24h_usd", "ratio", 10.0, base="price_168h_usd"),
    Feature("own share of the work", "own"),
    Feature("own_rigs", "log1p"),
    Feature("up", "as it is"),
    Feature("open", "as it is"),
    Feature("burn_usd", "log1p", 1 / 3),
    Feature("turnover_usd", "log", 1 / 12, -1.0),
    Feature("pool_usd", "above 0"),
)
RIG_FEATURES, NETWORK_FEATURES = len(RIGS), len(NETWORKS)


class _Plan:
    """Where the columns of each kind are, and how features by kind are put in order."""

    def __init__(self, group: str, shown: tuple[Feature, ...], kinds: tuple[Kind, ...]) -> None:
        self._shown, self._group = shown, group
        by_kind = [feature for kind in kinds for feature in shown if feature.kind == kind]
        self._columns: dict[Kind, Tensor] = {
            kind: self._of(kind, "name") for kind in kinds if kind != "own"
        }
        self._bases = self._of("ratio", "base")
        self._order = torch.tensor([by_kind.index(feature) for feature in shown])
        self._weight = torch.tensor([f.weight for f in shown])[:, None, None]
        self._shift = torch.tensor([f.shift for f in shown])[:, None, None]

    def _of(self, kind: Kind, end: str) -> Tensor:
        names = [getattr(f, end) for f in self._shown if f.kind == kind]
        return torch.tensor([column(self._group, name) for name in names], dtype=torch.int64)

    def columns(self, table: Tensor, kind: Kind) -> Tensor:
        """Those of a kind, [columns, B, M]."""
        return _pick(table, self._columns[kind])

    def bases(self, table: Tensor) -> Tensor:
        """What the ratios are to, [columns, B, M]."""
        return _pick(table, self._bases)

    def arrange(self, *by_kind: Tensor) -> Tensor:
        """Features given kind by kind, in order and weighted."""
        device = by_kind[0].device
        ordered = _pick(torch.cat(by_kind), self._order)
        return ordered * self._weight.to(device) + self._shift.to(device)


def _pick(rows: Tensor, positions: Tensor) -> Tensor:
    return rows.index_select(0, positions.to(rows.device))


_RIG_PLAN = _Plan("rigs", RIGS, ("log", "log1p", "as it is", "typical", "own"))
_NETWORK_PLAN = _Plan("networks", NETWORKS, ("log", "log1p", "ratio", "as it is", "above 0", "own"))
_YIELDS = torch.tensor([column("networks", name) for name in YIELDS])
_PAID_BACK = torch.tensor([2] * len(PAYBACK_H) + [1, 3])  # of which yield the gain is
_PAYBACK_DAYS = torch.tensor([*PAYBACK_H, *PAYBACK_H[2:3] * 2])[:, None, None, None] / 24.0


class Features(NamedTuple):
    """Inputs of the network, float32, and what a rule would decide by."""

    rigs: Tensor  # [RIG_FEATURES, B, R]
    networks: Tensor  # [NETWORK_FEATURES, B, N]
    pairs: Tensor  # [PAIR_FEATURES, B, N, R] the first are `here` and `open`
    market: Tensor  # [MARKET_FEATURES, B]
    place: Tensor  # [PLACE_FEATURES, B, R] where the rig stands
    gain_h: Tensor  # [B, N, R] worth of a move by a rule, in hours of typical yield
    phase: Tensor  # [B, R] in [0, 1): moves through the day, apart for each rig
    legal: Tensor  # bool [B, R, N + 1]
    charged: Tensor  # [B, N] 1 where entering takes a registration that has its price

    @property
    def here(self) -> Tensor:
        """1 where a rig stands, [B, N, R]."""
        return self.pairs[0]

    @property
    def open(self) -> Tensor:
        """1 where a rig may go, [B, N, R]."""
        return self.pairs[1]


def squash(value: Tensor) -> Tensor:
    """`sign(x) log(1 + |x|)`: keeps the order and the sign, tames the size."""
    return torch.sign(value) * torch.log1p(value.abs())


def extract(observation: Observation, rule: BreakEven) -> Features:
    """Features of an observation (tensors [B, ...]) and a rule's view; NaN counts as zero."""
    tables = {group: _tame(observation[group].movedim(-1, 0)) for group in COLUMNS}
    tables["networks"] = tables["networks"].clamp_min(0.0)  # as every column of it is
    seen = Seen(
        _by_name("pairs", tables["pairs"].mT),
        _by_name("networks", tables["networks"].unsqueeze(-1)),
        _by_name("rigs", tables["rigs"].unsqueeze(-2)),
    )
    market = _by_name("market", tables["market"])
    moves = observation["action_mask"][..., 1:] > 0  # [B, R, N]
    open_ = moves.mT.to(tables["pairs"].dtype)
    worth = _worth(seen, tables["networks"], rule)
    thinned = torch.log(seen.pairs["dilution"].clamp_min(1e-3))
    hour = market["hour_of_day"].unsqueeze(-1)  # [B, 1]
    phase = torch.remainder(tables["rigs"][column("rigs", "tiebreak")] + hour / 24.0, 1.0)
    return Features(
        rigs=_rigs(tables["rigs"], seen.rigs, worth.scale, phase),
        networks=_networks(tables["networks"]),
        pairs=_pairs(seen.pairs["here"], open_, worth, thinned),
        market=_market(market),
        place=_place(worth, moves.mT, (thinned * seen.pairs["here"]).sum(-2)),
        gain_h=worth.gain_h,
        phase=phase,
        legal=nn.functional.pad(moves, (1, 0), value=True),
        charged=(tables["networks"][column("networks", "burn_usd")] > 0).to(open_.dtype),
    )


class _Worth(NamedTuple):
    """What each rig would earn on each network, in its typical yields."""

    scale: Tensor  # [B, 1, R] a rig's typical yield, USD/h
    net: Tensor  # [5, B, N, R] by the YIELDS; the last by one of them, less what it takes from ours
    at: Tensor  # [5, B, 1, R] where the rig is
    gains: Tensor  # [5, B, N, R] beyond that
    entry_h: Tensor  # [B, N, R] cost of entering
    gain_h: Tensor  # [B, N, R] of a move, by the rule


def _worth(seen: Seen, networks: Tensor, rule: BreakEven) -> _Worth:
    """networks [columns, B, N]."""
    pairs = seen.pairs
    kept = pairs["work"] * (1 - seen.networks["lockup"])
    gross = kept * _pick(networks, _YIELDS).unsqueeze(-1)  # [4, B, N, R]
    energy, scale = gross[0] - pairs["estimate_usd_h"], _typical(gross[3])
    left = gross * pairs["dilution"]
    crowded = left[2] * pairs["dilution"]
    net = (torch.cat((left, crowded[None])) - energy) / scale
    at = (net * pairs["here"]).sum(-2, keepdim=True)
    return _Worth(scale, net, at, net - at, pairs["entry_usd"] / scale, rule.gain_usd(seen) / scale)


def _typical(gross: Tensor) -> Tensor:
    """Geometric mean of the yields [B, N, R] of the networks that pay a rig, USD/h, [B, 1, R]."""
    fits = (gross > 0).to(gross.dtype)
    logs = torch.log(gross.clamp_min(_LEAST_USD_H)) * fits
    return torch.exp(logs.sum(-2, keepdim=True) / fits.sum(-2, keepdim=True).clamp_min(1.0))


def _by_name(group: str, table: Tensor) -> dict[str, Tensor]:
    """The columns of a group, which come first in its table."""
    return {c.name: table[k] for k, c in enumerate(COLUMNS[group])}


def _tame(table: Tensor) -> Tensor:
    return torch.nan_to_num(table, 0.0, _LARGEST, -_LARGEST)


def _pairs(here: Tensor, open_: Tensor, worth: _Worth, thinned: Tensor) -> Tensor:
    """[PAIR_FEATURES, B, N, R]; here, open_ and thinned [B, N, R]."""
    paid_back = _pick(worth.gains, _PAID_BACK) * _PAYBACK_DAYS.to(here.device)
    paybacks = paid_back - worth.entry_h / 24.0
    days = worth.gain_h[None] / 24.0
    shown = squash(torch.cat((worth.net[:4], worth.gains[1:], paybacks, days)))
    entry = torch.log1p(worth.entry_h.clamp_min(0.0))[None] / 3.0
    return torch.cat(
        (here[None], open_[None], shown[:8], entry, shown[8:14], thinned[None], shown[14:])
    )


def _rigs(table: Tensor, of: dict[str, Tensor], scale: Tensor, phase: Tensor) -> Tensor:
    """[RIG_FEATURES, B, R]; columns and scale [B, 1, R], phase [B, R]."""
    plan = _RIG_PLAN
    cost_usd_h = of["housing_usd_h"] + of["owned"] * of["power_kw"] * of["tariff_usd_kwh"]
    turn = 2 * math.pi * phase
    usd_h = torch.cat((plan.columns(table, "typical"), cost_usd_h.movedim(1, 0)))
    return plan.arrange(
        torch.log(plan.columns(table, "log").clamp_min(1.0)),
        torch.log1p(plan.columns(table, "log1p").clamp_min(0.0)),
        plan.columns(table, "as it is"),
        squash(usd_h / scale.squeeze(-2)),
        torch.stack((torch.sin(turn), torch.cos(turn))),
    )


def _networks(table: Tensor) -> Tensor:
    """[NETWORK_FEATURES, B, N]."""
    plan = _NETWORK_PLAN

    def on(name: str) -> Tensor:
        k = column("networks", name)
        return table[k : k + 1]  # [1, B, N]

    leased = on("lease") * torch.log1p(on("lease_mean_h"))
    share = on("own_work") / (on("outside_work") + on("own_work")).clamp_min(1e-9)
    ratio = (plan.columns(table, "ratio") + 1e-9) / (plan.bases(table) + 1e-9)  # both may be zero
    return plan.arrange(
        torch.log(plan.columns(table, "log").clamp_min(1.0)),
        torch.log1p(plan.columns(table, "log1p")),
        torch.log(ratio).clamp(-5.0, 5.0),
        plan.columns(table, "as it is"),
        (plan.columns(table, "above 0") > 0).to(table.dtype),
        leased,
        share,
    )


def _market(at: dict[str, Tensor]) -> Tensor:
    """[MARKET_FEATURES, B]."""
    turn = 2 * math.pi / 24.0 * at["hour_of_day"]
    days = at["equity_usd"] / (24.0 * at["nominal_usd_h"]).clamp_min(1e-9)
    rent = torch.log(at["rent_index"].clamp_min(1e-6))
    return torch.stack((torch.sin(turn), torch.cos(turn), rent, squash(days) / 4.0))


def _place(worth: _Worth, moves: Tensor, thinned: Tensor) -> Tensor:
    """[PLACE_FEATURES, B, R]; moves bool [B, N, R], thinned [B, R] log share."""
    most_h, best_h = PAYBACK_H[3], worth.gain_h.masked_fill(~moves, -_LARGEST).amax(-2)
    chance = torch.sigmoid(best_h.clamp(-most_h, most_h) / 12.0)
    days = best_h.clamp_min(-most_h)[None] / 24.0
    shown = squash(torch.cat((worth.at.squeeze(-2), days)))
    return torch.cat((shown[:4], shown[5:], chance[None], shown[4:5], thinned[None]))
