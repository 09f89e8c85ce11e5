"""The manifest of a bundle: everything a runtime has to know that is not a weight."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from agents.fields import AVERAGES, FACTS, FIELDS
from agents.rules import BreakEven, CertaintyEquivalent, EmaHysteresis, Rule
from agents.serve.bundle import SCHEMA
from agents.serve.columns import GPU, OFF
from agents.serve.limits import Guardrails
from agents.snapshots import by_name, shortest
from agents.tuning import Tuned
from env.errors import InputError
from env.observation import EMA_H, NETWORK_FACTS, NETWORK_STATIC, network_static
from env.scenario import Scenario

Plain = dict[str, Any]


def columns() -> dict[str, list[Plain]]:
    """Every column of the facts in the order of the tensors, with what a snapshot may leave out."""
    return {group: [_column(group, *c) for c in listed] for group, listed in FACTS.items()}


def _column(group: str, name: str, unit: str, meaning: str) -> Plain:
    field = FIELDS[group][name]
    return {
        "name": name,
        "unit": unit,
        "meaning": meaning,
        "default": field.default,
        "low": field.low,
        "high": field.high,
        "given": field.given,
    }


def averages() -> list[Plain]:
    """What the rows of the memory are averages of."""
    return [average._asdict() for average in AVERAGES]


def catalog(scenario: Scenario) -> Plain:
    """The scenario's networks and GPU models: what they say of themselves, and who may work where.

    work: what one GPU (for `per_rig`, one rig) would put in the pool of a network; pool_usd: at the
    catalogue's date.
    """
    s, names = scenario, scenario.network_names
    pool = (s.token_pool_quote * s.market.law.start_usd[s.token_quote])[s.rules.token]
    networks = {
        name: {**by_name(NETWORK_STATIC, values), "pool_usd": pool_usd}
        for name, values, pool_usd in zip(
            names, shortest(network_static(s)[:, 0].T), shortest(pool), strict=True
        )
    }
    off = networks.pop(OFF)
    one = torch.exp(s.rules.concentration * torch.log(s.work.clamp_min(1e-30)))  # [G, N]
    work = zip(names, shortest(torch.where(s.work > 0, one, 0.0).T), strict=True)
    return {
        "networks": networks,
        "off": off | _switched_off(s),
        "gpus": {
            gpu: dict(zip(GPU, values, strict=True))
            for gpu, values in zip(s.gpu_names, shortest(s.gpus[: len(GPU)].T), strict=True)
        },
        "work": {
            network: {gpu: mass for gpu, mass in zip(s.gpu_names, row, strict=True) if mass > 0}
            for network, row in work
        },
        "per_rig": [n for n, rig in zip(names, s.per_rig.tolist(), strict=True) if rig],
        "min_gpus": dict(zip(names, map(int, s.min_gpus.tolist()), strict=True)),
        "paid": _paid(s),
    }


def _paid(scenario: Scenario) -> Plain:
    """By network: its token, and the share of its published pay that moves with that one's price.

    What is minted and fees in tokens move. Fees in USD do not, nor do those pegged to USD: fewer
    tokens settle them when the price is high. The share is that at the catalogue's date, with the
    pay at the networks' target margin as the simulator starts them; that it stays so is an
    assumption.
    """
    rules = scenario.rules
    need = rules.reference_cost / (1 - rules.margin)  # USD a unit of work and hour
    fees = torch.where(rules.fee_in_token > 0, 0.0, rules.utilisation * rules.fee)
    minted = torch.minimum((need - fees).clamp_min(0.05 * need), rules.cap_usd)
    minted = torch.where(scenario.emission_tokens_h[:, 0] > 0, minted, 0.0)
    share = torch.where(fees > 0, minted / (minted + fees), 1.0)
    tokens = [scenario.token_names[k] for k in rules.token.tolist()]
    return {
        name: {"token": None, "share": 0.0} if token == "USD" else {"token": token, "share": part}
        for name, token, part in zip(scenario.network_names, tokens, shortest(share), strict=True)
        if name != OFF
    }


def _switched_off(scenario: Scenario) -> Plain:
    """What changes on other networks and never on *off*, as the simulator has it."""
    turnover = scenario.token_turnover[scenario.rules.token[-1]]
    moving = {
        f.name: False if f.unit == "0/1" else 0.0
        for f in NETWORK_FACTS
        if FIELDS["networks"][f.name].given == "snapshot" and f not in NETWORK_STATIC
    }
    known = {"up": True, "open": True, "token_usd": 1.0, "turnover_usd": shortest(turnover)}
    return moving | known | {"outside_work": NOBODY}


NOBODY = 1e-8  # work of others where nobody works; the simulator keeps it above zero


def linear_rule(name: str, rule: Rule) -> Plain:
    """A tuned rule as weights of the three averages: the one form that serving computes."""
    weights = [0.0] * len(EMA_H)
    if isinstance(rule, EmaHysteresis):
        weights[EMA_H.index(48.0)] = 1.0
        horizon_h, marginal = float(rule.horizon_h), 0.0
    elif isinstance(rule, BreakEven):
        weights = _mixed(float(rule.average_h))
        horizon_h, marginal = float(rule.break_even_h), float(rule.marginal)
    elif isinstance(rule, CertaintyEquivalent):
        ratio = float(rule.horizon_h) / float(rule.half_life_h) * math.log(2.0)
        weights[0] = -math.expm1(-ratio) / ratio
        weights[-1] = 1.0 - weights[0]
        horizon_h, marginal = float(rule.horizon_h), float(rule.marginal)
    else:
        raise InputError("rule", f"one of {', '.join(LINEAR)}", name)
    return {
        "name": name,
        "weights": weights,
        "horizon_h": horizon_h,
        "margin": float(rule.margin),
        "marginal": marginal,
        "attention": float(rule.attention),
    }


LINEAR = ("break_even", "certainty_equivalent", "ema_hysteresis")


def fallback(tuned: Tuned) -> Plain:
    """The best of the tuned rules that have the linear form."""
    known = [name for name in LINEAR if name in tuned.rules]
    name = max(known, key=lambda one: tuned.net_usd_rig_day.get(one, -math.inf))
    return linear_rule(name, tuned.rules[name])


def _mixed(average_h: float) -> list[float]:
    """Weights of the averages as `outlook.average_usd` mixes them, by the log of the length."""
    parts = [1.0]
    for shorter, longer in pairwise(EMA_H):
        part = math.log(average_h / shorter) / math.log(longer / shorter)
        parts.append(min(max(part, 0.0), 1.0))
    parts.append(0.0)
    return [parts[k] - parts[k + 1] for k in range(len(EMA_H))]


def scores(summary: Plain | None) -> Plain:
    """What the run's own evaluation says of the policy; empty without one."""
    if summary is None:
        return {}
    (subject,) = summary["subject"]
    rows = summary["policies"]
    return {
        **{key: summary[key] for key in _HEADLINE},
        "policy_usd_rig_day": rows[subject]["net_usd_rig_day"],
        "opponent_usd_rig_day": rows[summary["opponent"]]["net_usd_rig_day"],
        "moves_rig_day": rows[subject]["moves_rig_day"],
    }


_HEADLINE = (
    "split",
    "worlds",
    "rigs",
    "horizon_h",
    "verdict",
    "gap_closed",
    "gap_closed_low",
    "gap_closed_high",
    "opponent",
    "clairvoyant_usd_rig_day",
    "gap_closed_expected",
    "gap_closed_expected_low",
    "gap_closed_expected_high",
    "bound_expected_usd_rig_day",
)


class Made(NamedTuple):
    """When and from what a bundle was made, and what was measured of it."""

    name: str
    created: str  # UTC, ISO 8601
    network: Plain  # configuration of the policy's network
    training: Plain  # what training worlds showed, see `serve.novelty`
    scores: Plain
    parity: Plain
    provenance: Plain


def manifest(made: Made, scenario: Scenario, tuned: Tuned) -> Plain:
    """The whole manifest of a policy that was trained in a scenario."""
    return {
        "schema": SCHEMA,
        "bundle": made.name,
        "created": made.created,
        "columns": columns(),
        "averages": averages(),
        "catalog": catalog(scenario),
        "rule": fallback(tuned),
        "guardrails": asdict(Guardrails()),
        "training": made.training,
        "policy": {"network": made.network},
        "scores": made.scores,
        "parity": made.parity,
        "provenance": made.provenance,
    }
