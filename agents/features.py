"""From physical units to what a network can learn from: ratios, logs and break-even values.

Part of the policy, so part of its export: training and serving compute features with this code.
Yields of a rig are measured against what the rig could typically earn, so that a rig of one small
GPU and a rig of eight large ones look alike where their choices are alike. No rig and no network
has an identity here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agents.outlook import Observation
from agents.rules import BreakEven
from env.observation import column

YIELDS = ("estimate_usd", "ema_6h_usd", "ema_48h_usd", "ema_336h_usd")
PAYBACK_H = (24.0, 72.0, 168.0, 336.0)  # horizons over which a move is valued
_LEAST_USD_H = 1e-3  # a rig's typical yield is at least this
_LARGEST = 1e9  # stands for an infinite quantity

RIG_FEATURES, NETWORK_FEATURES, PAIR_FEATURES, MARKET_FEATURES = 18, 26, 19, 4
PLACE_FEATURES = 8


class Features(NamedTuple):
    """Inputs of the network, float32, and what a rule would decide by."""

    rigs: Tensor  # [B, R, RIG_FEATURES]
    networks: Tensor  # [B, N, NETWORK_FEATURES]
    pairs: Tensor  # [B, R, N, PAIR_FEATURES]
    market: Tensor  # [B, MARKET_FEATURES]
    place: Tensor  # [B, R, PLACE_FEATURES] where the rig stands
    gain_h: Tensor  # [B, R, N] worth of a move by a rule, in hours of typical yield
    phase: Tensor  # [B, R] in [0, 1): moves through the day, apart for each rig
    legal: Tensor  # bool [B, R, N + 1]


def squash(value: Tensor) -> Tensor:
    """`sign(x) log(1 + |x|)`: keeps the order and the sign, tames the size."""
    return torch.sign(value) * torch.log1p(value.abs())


def extract(observation: Observation, rule: BreakEven) -> Features:
    """Features of an observation (tensors [B, ...]) and a rule's view; NaN counts as zero."""
    seen = {k: torch.nan_to_num(v, 0.0, _LARGEST, -_LARGEST) for k, v in observation.items()}
    seen["networks"] = seen["networks"].clamp_min(0.0)  # as every column of it is

    def of(name: str) -> Tensor:
        return seen["rigs"][..., column("rigs", name)]  # [B, R]

    def on(name: str) -> Tensor:
        return seen["networks"][..., column("networks", name)]  # [B, N]

    def pair(name: str) -> Tensor:
        return seen["pairs"][..., column("pairs", name)]  # [B, R, N]

    here, mass = pair("here"), pair("work")
    kept = mass * (1 - on("lockup")).unsqueeze(1)
    gross = [kept * on(name).unsqueeze(1) for name in YIELDS]
    energy = gross[0] - pair("estimate_usd_h")
    scale = _typical(gross[3], mass)  # [B, R, 1]
    dilution = pair("dilution")
    values = [(g * dilution - energy) / scale for g in gross]  # in typical yields
    gains = [v - (v * here).sum(-1, keepdim=True) for v in values]
    crowded = (gross[2] * dilution * dilution - energy) / scale  # pay less what it takes from ours
    entry_h = pair("entry_usd") / scale
    phase = torch.remainder(of("tiebreak") + _hour(seen) / 24.0, 1.0)
    legal = seen["action_mask"] > 0
    gain_h = rule.gain_usd(seen) / scale
    paybacks = [(h * gains[2] - entry_h) / 24.0 for h in PAYBACK_H]
    pairs = (
        here,
        legal[..., 1:].to(here.dtype),
        *(squash(v) for v in values),
        *(squash(g) for g in gains[1:]),
        squash(crowded - (crowded * here).sum(-1, keepdim=True)),
        torch.log1p(entry_h.clamp_min(0.0)) / 3.0,
        *(squash(p) for p in paybacks),
        squash((PAYBACK_H[2] * gains[1] - entry_h) / 24.0),
        squash((PAYBACK_H[2] * gains[3] - entry_h) / 24.0),
        torch.log(dilution.clamp_min(1e-3)),
        squash(gain_h / 24.0),
    )
    best = gain_h.masked_fill(~legal[..., 1:], -_LARGEST).amax(-1)
    place = (
        *(squash((v * here).sum(-1)) for v in values),
        squash(best.clamp_min(-PAYBACK_H[3]) / 24.0),
        torch.sigmoid(best.clamp(-PAYBACK_H[3], PAYBACK_H[3]) / 12.0),
        squash((crowded * here).sum(-1)),
        (torch.log(dilution.clamp_min(1e-3)) * here).sum(-1),
    )
    return Features(
        rigs=_rigs(of, scale.squeeze(-1), phase),
        networks=_networks(on),
        pairs=torch.stack(pairs, -1),
        market=_market(seen),
        place=torch.stack(place, -1),
        gain_h=gain_h,
        phase=phase,
        legal=torch.cat((torch.ones_like(legal[..., :1]), legal[..., 1:]), -1),
    )


def _typical(gross: Tensor, mass: Tensor) -> Tensor:
    """Geometric mean of the 336-hour yields of the networks that pay a rig, USD/h, [B, R, 1]."""
    fits = ((mass > 0) & (gross > 0)).to(gross.dtype)
    logs = torch.log(gross.clamp_min(_LEAST_USD_H)) * fits
    return torch.exp(logs.sum(-1, keepdim=True) / fits.sum(-1, keepdim=True).clamp_min(1.0))


def _hour(seen: Observation) -> Tensor:
    return seen["market"][..., column("market", "hour_of_day")].unsqueeze(-1)  # [B, 1]


def _log_ratio(value: Tensor, base: Tensor) -> Tensor:
    """Log of a ratio of two quantities that may be zero, within [-5, 5]."""
    return torch.log((value.clamp_min(0.0) + 1e-9) / (base.clamp_min(0.0) + 1e-9)).clamp(-5.0, 5.0)


def _rigs(of, scale: Tensor, phase: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """[B, R, RIG_FEATURES]; scale and phase [B, R]."""
    cost = of("housing_usd_h") + of("owned") * of("power_kw") * of("tariff_usd_kwh")
    turn = 6.2831853 * phase
    columns = (
        torch.log(of("gpu_count").clamp_min(1.0)),
        torch.log(of("vram_gb").clamp_min(1.0)) / 3.0,
        torch.log(of("fp16_tflops").clamp_min(1.0)) / 5.0,
        torch.log(of("bandwidth_gb_s").clamp_min(1.0)) / 7.0,
        of("owned"),
        of("up"),
        torch.log1p(of("provisioning_h").clamp_min(0.0)),
        torch.log1p(of("tenure_h").clamp_min(0.0)) / 5.0,
        of("score"),
        torch.log1p(of("lease_h").clamp_min(0.0)) / 3.0,
        squash(of("lease_usd_h") / scale),
        torch.log1p(of("idle_h").clamp_min(0.0)) / 3.0,
        squash(of("leaving_usd") / scale),
        squash(of("last_gross_usd") / scale),
        squash(of("last_net_usd") / scale),
        squash(cost / scale),
        torch.sin(turn),
        torch.cos(turn),
    )
    return torch.stack(columns, -1)


def _networks(on) -> Tensor:  # type: ignore[no-untyped-def]
    """[B, N, NETWORK_FEATURES]."""
    work = on("outside_work") + on("own_work")
    columns = (
        torch.log1p(on("provisioning_h")),
        torch.log1p(on("warmup_h")) / 3.0,
        torch.log1p(on("unbonding_h")) / 6.0,
        on("lockup") * 3.0,
        on("lease"),
        on("lease") * torch.log1p(on("lease_mean_h")) / 3.0,
        torch.log1p(on("break_h")),
        (on("slots") > 0).to(work.dtype),
        torch.log1p(on("immunity_h")) / 3.0,
        on("concentration") - 1.0,
        on("token_daily_sd") * 10.0,
        on("load"),
        on("fault_multiple"),
        _log_ratio(on("estimate_usd"), on("ema_6h_usd")),
        _log_ratio(on("ema_6h_usd"), on("ema_48h_usd")),
        _log_ratio(on("ema_48h_usd"), on("ema_336h_usd")),
        torch.log1p(on("estimate_age_h")),
        10.0 * _log_ratio(on("token_usd"), on("price_24h_usd")),
        10.0 * _log_ratio(on("price_24h_usd"), on("price_168h_usd")),
        on("own_work") / work.clamp_min(1e-9),
        torch.log1p(on("own_rigs")),
        on("up"),
        on("open"),
        torch.log1p(on("burn_usd").clamp_min(0.0)) / 3.0,
        torch.log(on("turnover_usd").clamp_min(1.0)) / 12.0 - 1.0,
        (on("pool_usd") > 0).to(work.dtype),
    )
    return torch.stack(columns, -1)


def _market(seen: Observation) -> Tensor:
    """[B, MARKET_FEATURES]."""

    def at(name: str) -> Tensor:
        return seen["market"][..., column("market", name)]

    turn = 6.2831853 / 24.0 * at("hour_of_day")
    days = at("equity_usd") / (24.0 * at("nominal_usd_h")).clamp_min(1e-9)
    columns = (
        torch.sin(turn),
        torch.cos(turn),
        torch.log(at("rent_index").clamp_min(1e-6)),
        squash(days) / 4.0,
    )
    return torch.stack(columns, -1)
