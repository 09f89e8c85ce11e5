"""What each rig would earn on each network, what entering costs, what a rule would order.

The one home of these formulas in serving: explanations, guardrails, books and the fallback rule
read an `Account`. The formulas are those of the simulator's observation and of its tuned rules, in
float64 and in one form: the rule's forecast is a fixed weighting of the three averages of the
estimate. Whatever cannot be computed (a feed without a number) comes out as not legal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import FieldError
from .snapshot import Snapshot

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

ESTIMATE_AVERAGES = slice(0, 3)  # rows of the memory [5, N]: 6, 48 and 336 h of the estimate
EMA_48H = 1
UNDILUTED_ENTRY = "ema_hysteresis"  # whose lost hours count at the undiluted 48-hour average
RULES = ("break_even", "certainty_equivalent", UNDILUTED_ENTRY)
_LEAST_WORK = 1e-9


@dataclass(frozen=True)
class Rule:
    """A tuned rule: move where horizon (value - here - margin |here|) exceeds the entry cost."""

    name: str  # one of RULES
    weights: tuple[float, float, float]  # of the averages of 6, 48 and 336 h in the forecast
    horizon_h: float
    margin: float  # of the present value, below which a gain is taken for noise
    marginal: float  # 0 counts what a rig is paid, 1 what the fleet gains by it
    attention: float  # share of the day's hours in which a rig looks

    @classmethod
    def read(cls, part: Mapping[str, Any]) -> Rule:
        """From the manifest's `rule`; a field that is wrong is a `FieldError` at `rule.<name>`."""
        names = tuple(cls.__dataclass_fields__)
        for name in sorted({*part} ^ {*names}):
            raise FieldError(f"rule.{name}", f"the fields {', '.join(names)}", part.get(name))
        if part["name"] not in RULES:
            raise FieldError("rule.name", f"one of {', '.join(RULES)}", part["name"])
        weights = part["weights"]
        if not isinstance(weights, list | tuple) or len(weights) != 3:
            raise FieldError("rule.weights", "three numbers", weights)
        numbers = {f"weights.{k}": weight for k, weight in enumerate(weights)}
        numbers |= {name: part[name] for name in names[2:]}
        for name, value in numbers.items():
            real = isinstance(value, int | float) and not isinstance(value, bool)
            if not (real and 0 <= value <= sys.float_info.max):
                raise FieldError(f"rule.{name}", "a finite number, at least 0", value)
        rest = {name: float(part[name]) for name in names[2:]}
        short, middle, long = map(float, weights)
        return cls(name=part["name"], weights=(short, middle, long), **rest)


class Terms(NamedTuple):
    """What networks offer the rigs of a snapshot, wherever these stand."""

    energy: Floats  # [R, N] USD/h
    open: Bools  # [R, N] eligible, open and not of unknown pay
    forecast: Floats  # [N] USD/h a unit of work, by the rule, after what vests for nobody
    quoted: Floats  # [N] the same at the present estimate
    undiluted: Floats | None  # [R, N] USD/h before energy that a lost hour counts, None: the value
    lost_h: Floats  # [N] until a rig that enters works fully
    fees_usd: Floats  # [N] burn and gas
    rule: Rule


class Account(NamedTuple):
    """What staying and moving are worth, float64; here = the network a rig is on."""

    paid_usd_h: Floats  # [R] here on the present estimate, 0 while rig or network is down
    here: Floats  # [R] USD/h, value where the rig is
    value: Floats  # [R, N] USD/h on the rule's forecast, own work in the pool counted
    entry_usd: Floats  # [R, N] burn, gas, the hours lost and the price of leaving, here 0
    gain_usd_h: Floats  # [R, N] value less value here
    gain_usd: Floats  # [R, N] over the rule's horizon, less margin and entry cost
    legal: Bools  # [R, N] eligible, open, elsewhere, and all of the above finite


def account(snapshot: Snapshot, memory: Floats, rule: Rule) -> Account:
    """Value every move; memory [5, N] are the averages with this hour's values taken in."""
    return value_moves(snapshot, terms(snapshot, memory, rule))


def terms(snapshot: Snapshot, memory: Floats, rule: Rule) -> Terms:
    """The part of an account that fleets on the same rigs share."""
    on, of, work = snapshot.on, snapshot.of, snapshot.work
    with np.errstate(all="ignore"):  # NaN and overflow end as not legal
        energy = np.multiply.outer(of("owned") * of("power_kw") * of("tariff_usd_kwh"), on("load"))
        kept = 1.0 - on("lockup")
        quoted = on("estimate_usd") * kept
        known = np.isfinite(quoted) | ~(on("up") > 0)  # of a network or rig that is down, by rule
        whole = work * (memory[EMA_48H] * kept) if rule.name == UNDILUTED_ENTRY else None
        return Terms(
            energy=energy,
            open=(work > 0) & (on("open") > 0) & (known | ~(of("up") > 0)[:, None]),
            forecast=np.asarray(rule.weights) @ memory[ESTIMATE_AVERAGES] * kept,
            quoted=quoted,
            undiluted=whole,
            lost_h=on("provisioning_h") + on("warmup_h"),
            fees_usd=on("gas_usd") + on("burn_usd"),
            rule=rule,
        )


def value_moves(snapshot: Snapshot, terms: Terms) -> Account:
    """The account of a fleet that stands where the snapshot says."""
    with np.errstate(all="ignore"):  # NaN and overflow end as not legal
        return _account(snapshot, terms)


def _account(snapshot: Snapshot, terms: Terms) -> Account:
    on, of, rule = snapshot.on, snapshot.of, terms.rule
    rows, at = np.arange(len(snapshot.assignment)), snapshot.assignment
    work, forecast = snapshot.work, terms.forecast
    outside, own = on("outside_work"), on("own_work")
    mine, energy = work[rows, at], terms.energy[rows, at]  # [R]
    # Own work counts a rig already where it is.
    works = mine * _share(outside, outside + own)[at]  # [R] units paid at the published yield
    left = _left_by_others(outside[at], own[at] - mine, rule.marginal)
    here = works * forecast[at] * left - energy
    runs = (of("up") > 0) & (on("up") > 0)[at]
    paid = np.where(runs, works * terms.quoted[at] - energy, 0.0)
    # Of [R, N] there are few, each changed in place: fetching memory takes longer than computing.
    value = _share(outside, (outside + own) + work)
    value *= work
    value *= forecast * _left_by_others(outside, own, rule.marginal)
    value -= terms.energy
    value[rows, at] = here
    lost = value if terms.undiluted is None else terms.undiluted - terms.energy
    entry = np.maximum(lost, 0.0)
    entry *= terms.lost_h
    entry += terms.fees_usd
    entry += of("leaving_usd")[:, None]
    entry[rows, at] = 0.0
    gain_h = value - here[:, None]
    gain = gain_h - (rule.margin * np.abs(here))[:, None]
    gain *= rule.horizon_h
    gain -= entry
    legal = np.isfinite(gain)
    legal &= terms.open
    legal &= on("open") > 0  # a fleet may find networks full that others do not
    legal[rows, at] = False
    return Account(paid, here, value, entry, gain_h, gain, legal)


def _share(outside: Floats, pool: Floats) -> Floats:
    """The share of a network's yield that is left for a pool; pool is overwritten."""
    return np.divide(outside, pool, out=pool, where=pool != 0)


def _left_by_others(outside: Floats, others: Floats, marginal: float) -> Floats:
    """What a rig takes from the fleet's other rigs in its pool, as the share that is left: between
    1 for `marginal` 0 and W / (W + others) for `marginal` 1."""
    share = outside / np.maximum(outside + np.maximum(others, 0.0), _LEAST_WORK)
    return share**marginal


def best_moves(account: Account) -> tuple[Ints, Floats]:
    """(the legal network of highest gain of each rig [R], that gain [R], -inf where none is)."""
    gain = np.where(account.legal, account.gain_usd, -np.inf)
    best = gain.argmax(-1)
    return best, gain[np.arange(len(best)), best]


def rule_orders(snapshot: Snapshot, account: Account, rule: Rule) -> Ints:
    """The rule's orders, int64 [R]: 0 hold, i + 1 network i.

    Each rig looks in `attention` of the day's hours, at a time of its own, and takes the legal
    network of highest gain where that is above zero.
    """
    with np.errstate(invalid="ignore"):  # a rig or market without the number never looks
        phase = (snapshot.of("tiebreak") + snapshot.at("hour_of_day") / 24.0) % 1.0
    best, gain = best_moves(account)
    return np.where((gain > 0) & (phase < rule.attention), best + 1, 0)
