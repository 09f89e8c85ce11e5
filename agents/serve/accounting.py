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


class Account(NamedTuple):
    """What staying and moving are worth, float64; here = the network a rig is on."""

    value: Floats  # [R, N] USD/h on the rule's forecast, own work in the pool counted
    now: Floats  # [R, N] USD/h paid on the present estimate, 0 while rig or network is down
    here: Floats  # [R] USD/h, value where the rig is
    entering_usd: Floats  # [R, N] burn, gas and the hours lost, as if the rig were elsewhere
    entry_usd: Floats  # [R, N] the same with the price of leaving, 0 where the rig is
    gain_usd_h: Floats  # [R, N] value less value here
    gain_usd: Floats  # [R, N] over the rule's horizon, less margin and entry cost
    legal: Bools  # [R, N] eligible, open, elsewhere, and all of the above finite


def account(snapshot: Snapshot, memory: Floats, rule: Rule) -> Account:
    """Value every move; memory [5, N] are the averages with this hour's values taken in."""
    with np.errstate(all="ignore"):  # NaN and overflow end as not legal
        return _account(snapshot, memory, rule)


def _account(snapshot: Snapshot, memory: Floats, rule: Rule) -> Account:
    on, of = snapshot.on, snapshot.of
    rows, at = np.arange(len(snapshot.assignment)), snapshot.assignment
    work = snapshot.work  # [R, N]; large arrays are reused in place, to fetch less memory
    mine = work[rows, at]  # [R]
    outside, own = on("outside_work"), on("own_work")
    paid = outside + own + work  # the pool with the rig in it
    paid[rows, at] = (outside + own)[at]  # own work counts the rig already where it is
    np.divide(outside, paid, out=paid, where=paid != 0)  # the share of the yield that is left
    paid *= work  # work that is paid at the published yield
    energy = np.multiply.outer(of("owned") * of("power_kw") * of("tariff_usd_kwh"), on("load"))
    kept = 1.0 - on("lockup")  # [N]
    forecast = np.asarray(rule.weights) @ memory[ESTIMATE_AVERAGES] * kept  # [N]
    left = _left_by_others(outside, own, rule.marginal)  # [N]
    left_here = _left_by_others(outside[at], own[at] - mine, rule.marginal)  # [R]
    value = paid * (forecast * left)
    value[rows, at] = paid[rows, at] * forecast[at] * left_here
    value -= energy
    here = value[rows, at]
    now = paid * (on("estimate_usd") * kept)
    now -= energy
    now[~((of("up") > 0)[:, None] & (on("up") > 0))] = 0.0
    lost = value if rule.name != UNDILUTED_ENTRY else work * (memory[EMA_48H] * kept) - energy
    entering = np.maximum(lost, 0.0)
    entering *= on("provisioning_h") + on("warmup_h")
    entering += on("gas_usd") + on("burn_usd")
    entry = entering + of("leaving_usd")[:, None]
    entry[rows, at] = 0.0
    gain_h = value - here[:, None]
    gain = gain_h - (rule.margin * np.abs(here))[:, None]
    gain *= rule.horizon_h
    gain -= entry
    legal = (work > 0) & (on("open") > 0) & np.isfinite(gain) & np.isfinite(now)
    legal[rows, at] = False
    return Account(value, now, here, entering, entry, gain_h, gain, legal)


def _left_by_others(outside: Floats, others: Floats, marginal: float) -> Floats:
    """What a rig takes from the fleet's other rigs in its pool, as the share that is left: between
    1 for `marginal` 0 and W / (W + others) for `marginal` 1."""
    share = outside / np.maximum(outside + np.maximum(others, 0.0), _LEAST_WORK)
    return share**marginal


def rule_orders(snapshot: Snapshot, account: Account, rule: Rule) -> Ints:
    """The rule's orders, int64 [R]: 0 hold, i + 1 network i.

    Each rig looks in `attention` of the day's hours, at a time of its own, and takes the legal
    network of highest gain where that is above zero.
    """
    with np.errstate(invalid="ignore"):  # a rig or market without the number never looks
        phase = (snapshot.of("tiebreak") + snapshot.at("hour_of_day") / 24.0) % 1.0
    gain = np.where(account.legal, account.gain_usd, -np.inf)
    best = gain.argmax(-1)
    moves = (gain[np.arange(len(best)), best] > 0) & (phase < rule.attention)
    return np.where(moves, best + 1, 0).astype(np.int64)
