"""The figures of a comparison as plain data: `summary.json` and the two CSV files beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from agents import statistics
from agents.comparison import Comparison
from agents.headline import headroom, rule_in_words, verdict, warnings
from agents.hindsight import CAUSES
from agents.scoring import ACCOUNTS, TAIL_H, Score
from agents.statistics import Floats, Whole
from env.state import CASH, CHARGES, ENERGY, FULL

TAIL_SHARE = 0.05  # of world-days, in the conditional value at risk
SPENT = {  # the parts of what moves cost, by account
    "burn_usd": "registration burns",
    "gas_usd": "gas",
    "leaving_usd": "broken leases and unbonding",
    "lost_usd": "yield lost while provisioning",
}
MARKS = {  # of the tokens earned: what has been taken from the value when they were earned
    "accrual": (),
    "unlock": ("lockup_usd",),
    "liquidation": ("lockup_usd", "slippage_usd"),
}
BASES = {"energy": ENERGY, "cash": CASH, "full": FULL}
Row = dict[str, Any]


def summarise(compared: Comparison, resamples: int) -> Row:
    """Headline, references and one row for each policy; figures in USD are per rig-day."""
    draws = statistics.resamples(len(compared.seeds), resamples)
    subject, tuned, bound = compared.subject_net, compared.net(compared.opponent), compared.bound
    low, high = statistics.gap_interval(subject, tuned, bound, draws)
    return {
        **_gap_closed("gap_closed", subject, tuned, bound, draws),
        "verdict": verdict(low, high, rule_in_words(compared.tuned.sought)),
        "headroom": _finite(headroom(tuned, bound)),
        "bound_expected_usd_rig_day": float(compared.expected.mean()),
        "headroom_expected": _finite(headroom(tuned, compared.expected)),
        **_gap_closed("gap_closed_expected", subject, tuned, compared.expected, draws),
        "warnings": warnings(compared),
        "subject": list(compared.subject),
        "opponent": compared.opponent,
        "rules_tuned": compared.tuned.sought,
        **_robust(subject, tuned, draws),
        "net_usd_rig_day": float(subject.mean()),
        "clairvoyant_usd_rig_day": float(bound.mean()),
        "best_static_usd_rig_day": float(compared.static.mean()),
        "worlds": len(compared.seeds),
        "first_seed": compared.seeds[0],
        "regret_worlds": len(next(iter(compared.regrets.values())).own_usd),
        "resamples": resamples,
        "horizon_h": compared.scenario.horizon_h,
        "rigs": compared.scenario.rig_count,
        "networks": list(compared.scenario.network_names),
        "policies": {name: _policy(compared, name, draws) for name in compared.ranked},
    }


def _gap_closed(name: str, policy: Floats, tuned: Floats, bound: Floats, draws: Whole) -> Row:
    low, high = statistics.gap_interval(policy, tuned, bound, draws)
    return {
        name: _finite(statistics.gap_closed(policy, tuned, bound)),
        f"{name}_low": _finite(low),
        f"{name}_high": _finite(high),
    }


def _policy(compared: Comparison, name: str, draws: Whole) -> Row:
    one, tuned = compared.scores[name], compared.net(compared.opponent)
    over_low, over_high = statistics.paired_interval(one.net_usd - tuned, draws)
    rule = compared.tuned.rules.get(name)
    return {
        "net_usd_rig_day": float(one.net_usd.mean()),
        f"net_usd_rig_day_without_last_{TAIL_H}_h": float(one.early_net_usd.mean()),
        **_gap_closed("gap_closed", one.net_usd, tuned, compared.bound, draws),
        "over_opponent": float((one.net_usd - tuned).mean()),
        "over_opponent_low": over_low,
        "over_opponent_high": over_high,
        **_robust(one.net_usd, tuned, draws),
        **_activity(one),
        **_risk(one),
        "acquisition_cost": {
            kind: _ratios(_kind_accounts(compared, one, kind)) for kind in _kinds(compared)
        },
        "regret": _regret(compared, name),
        "usd_rig_day": {a: _per_day(one, a) for a in ("gross_usd", *CHARGES)},
        **({"knobs": asdict(rule)} if rule is not None else {}),
    }


def _robust(net: Floats, tuned: Floats, draws: Whole) -> Row:
    low, high = statistics.iqm_interval(net, draws)
    return {
        "iqm_usd_rig_day": statistics.iqm(net),
        "iqm_usd_rig_day_low": low,
        "iqm_usd_rig_day_high": high,
        "probability_of_improvement": statistics.probability_of_improvement(net, tuned),
    }


def _activity(one: Score) -> Row:
    hours = one.total("rig_h").sum()
    promised = one.total("estimated_usd").sum()
    return {
        "moves_rig_day": _per_day(one, "moves"),
        "moves_cost_usd_rig_day": {account: _per_day(one, account) for account in SPENT}
        | {"burn_usd": _per_day(one, "burn_usd") - _per_day(one, "gas_usd")},
        "share_of_time": {
            state: float(one.total(f"{state}_h").sum() / hours)
            for state in ("earning", "idle", "provisioning", "down")
        },
        "realised_over_estimated": _finite(one.total("gross_usd").sum() / promised),
        "illegal_orders_rig_day": float((one.illegal / one.rig_days).mean()),
    }


def _risk(one: Score) -> Row:
    """Sharpe and Sortino as the median of worlds, the tail over all world-days, of one rig."""
    days = statistics.daily(one.hourly_usd)
    fall = statistics.drawdown(one.hourly_usd, one.start_usd)
    return {
        "sharpe_annual": _finite(float(np.median(statistics.sharpe(days)))),
        "sortino_annual": _finite(float(np.median(statistics.sortino(days)))),
        "cvar_5_daily_usd_rig": statistics.cvar(days / one.fleet, TAIL_SHARE),
        "max_drawdown_mean": float(fall.mean()),
        "max_drawdown_worst": float(fall.max()),
    }


def _regret(compared: Comparison, name: str) -> Row:
    found, one = compared.regrets[name], compared.scores[name]
    rig_days = one.rig_days[: len(found.own_usd)].sum()
    parts = found.parts_usd.sum(0) / rig_days
    return {
        "usd_rig_day": float((found.best_usd - found.own_usd).sum() / rig_days),
        **{cause: float(part) for cause, part in zip(CAUSES, parts, strict=True)},
    }


def acquisition_cost(accounts: Floats) -> Floats:
    """Cost over market value of what was earned, [marks, bases], from accounts [len(ACCOUNTS)].

    Not a number where nothing was earned.
    """
    booked = dict(zip(ACCOUNTS, accounts, strict=True))
    values = [booked["gross_usd"] - sum(booked[a] for a in taken) for taken in MARKS.values()]
    costs = [sum(booked[a] for a in basis) for basis in BASES.values()]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(costs)[None] / np.asarray(values)[:, None]
    return np.where(np.asarray(values)[:, None] > 0, ratio, np.nan)


def _ratios(accounts: Floats) -> Row:
    table = acquisition_cost(accounts)
    return {
        mark: {basis: _finite(v) for basis, v in zip(BASES, row, strict=True)}
        for mark, row in zip(MARKS, table, strict=True)
    }


def _kinds(compared: Comparison) -> list[str]:
    return list(dict.fromkeys(n.kind for n in compared.scenario.networks))


def _kind_accounts(compared: Comparison, one: Score, kind: str) -> Floats:
    of = np.array([n.kind == kind for n in compared.scenario.networks])
    return one.accounts[..., of].sum((0, 2))


def _per_day(one: Score, account: str) -> float:
    return float(one.total(account).sum() / one.rig_days.sum())


def _finite(value: float) -> float | None:
    """JSON has no infinity and no not-a-number."""
    return float(value) if np.isfinite(value) else None


def scores_csv(compared: Comparison) -> str:
    """One row for each policy and world, with the references in the same worlds."""
    heading = (
        "policy",
        "seed",
        "net_usd_rig_day",
        f"net_usd_rig_day_without_last_{TAIL_H}_h",
        "moves_rig_day",
        "illegal_orders_rig_day",
        "sharpe_annual",
        "sortino_annual",
        "max_drawdown",
        "tuned_usd_rig_day",
        "clairvoyant_usd_rig_day",
        "best_static_usd_rig_day",
    )
    references = (compared.net(compared.opponent), compared.bound, compared.static)

    def rows() -> Iterable[tuple[Any, ...]]:
        for name, one in compared.scores.items():
            days = statistics.daily(one.hourly_usd)
            columns = (
                one.net_usd,
                one.early_net_usd,
                one.total("moves") / one.rig_days,
                one.illegal / one.rig_days,
                statistics.sharpe(days),
                statistics.sortino(days),
                statistics.drawdown(one.hourly_usd, one.start_usd),
                *references,
            )
            for seed, *values in zip(compared.seeds, *columns, strict=True):
                yield (name, seed, *values)

    return _csv(heading, rows())


def accounts_csv(compared: Comparison) -> str:
    """One row for each policy and network: accounts as the mean of worlds, acquisition costs."""
    ratios = [f"{basis}_cost_at_{mark}" for mark in MARKS for basis in BASES]
    networks = compared.scenario.networks

    def rows() -> Iterable[tuple[Any, ...]]:
        for name, one in compared.scores.items():
            for k, network in enumerate(networks):
                booked = one.accounts[..., k].mean(0)
                net = booked[ACCOUNTS.index("gross_usd")]
                net -= sum(booked[ACCOUNTS.index(a)] for a in CHARGES)
                costs = acquisition_cost(booked).ravel()
                yield (name, network.name, network.kind, *booked, net, *costs)

    return _csv(("policy", "network", "kind", *ACCOUNTS, "net_usd", *ratios), rows())


def moves_csv(compared: Comparison) -> str:
    """One row for each move of the subject in the first world; rigs in the fleet's order from 0.

    A rig comes from where it worked in the hour before, also where it lost its slot there.
    """
    names = compared.scenario.network_names

    def rows() -> Iterable[tuple[Any, ...]]:
        for subject in compared.subject:
            path = compared.paths[subject]
            before = np.concatenate((path.start[None], path.assignment[:-1]))
            for hour, world, rig in zip(*np.nonzero(path.moved), strict=True):
                came, goes = (names[at[hour, world, rig]] for at in (before, path.assignment))
                yield (subject, hour, compared.seeds[world], rig, came, goes)

    return _csv(("policy", "hour", "world", "rig", "from", "to"), rows())


def _csv(heading: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> str:
    """Numbers with ten digits; what is not finite stays empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.10g}" if np.isfinite(value) else ""
