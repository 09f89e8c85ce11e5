"""Why a rig moves, or nearly does: money gained, money paid, and the price that would change it.

Closed forms of the numbers in an `Account`, each re-derivable by hand from a snapshot. They are the
tuned rule's accounting and not the network's reasons; where the two disagree the text says so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .accounting import EMA_48H, UNDILUTED_ENTRY, Account, Bools, Floats, Ints, Rule
from .snapshot import Snapshot

NEAR_MISS = 0.2  # assumption: of its entry cost, that a move may fall short and still be told


class Move(NamedTuple):
    """A move that is made, or one that nearly was. Gains are against staying."""

    rig: str
    origin: str
    network: str  # where the rig moves, or would have
    made: bool
    gain_usd_h: float  # before margin and entry cost
    entry_usd: float
    break_even_h: float | None  # entry cost over gain, None if it never comes back
    gain_usd: float  # over the horizon, less the rule's margin and the entry cost
    horizon_h: float
    runner_up: (
        str | None
    )  # of the other networks that could be entered, the one of highest gain_usd
    runner_up_gain_usd: float | None
    token_usd: float  # of the network's token now
    flip_token_usd: float | None  # its price at which gain_usd is 0, its averages moved alike
    modelled: tuple[str, ...]  # parts of it that are a model's average and not a quoted pay

    @property
    def text(self) -> str:
        """One sentence for people."""
        if self.made:
            parts = [f"{self.rig} moves from {self.origin} to {self.network}: {self._worth()}"]
        else:
            would = f"{self.network} would be {self._worth()}"
            parts = [f"{self.rig} stays on {self.origin}: {would}"]
        if self.made and (self.gain_usd < 0 or (self.runner_up_gain_usd or 0.0) > self.gain_usd):
            parts.append("policy and accounting disagree")
        if self.runner_up is not None and self.runner_up_gain_usd is not None:
            parts.append(f"runner-up {self.runner_up} with {_signed(self.runner_up_gain_usd)}")
        if self.flip_token_usd is None:
            parts.append(f"no price of {self.network}'s token flips the accounting")
        else:
            price = f"{_usd(self.flip_token_usd)} (now {_usd(self.token_usd)})"
            parts.append(f"the accounting flips with {self.network}'s token at {price}")
        if self.modelled:
            parts.append(f"modelled: {', '.join(self.modelled)}")
        return "; ".join(parts) + "."

    def _worth(self) -> str:
        hours = "never back" if self.break_even_h is None else f"back in {self.break_even_h:.1f} h"
        return (
            f"{_signed(self.gain_usd_h)} an hour for {_usd(self.entry_usd)} of entry, {hours}, "
            f"{_signed(self.gain_usd)} over {self.horizon_h:.0f} h after margin and entry"
        )


def explain(
    snapshot: Snapshot, memory: Floats, account: Account, rule: Rule, orders: Ints
) -> tuple[tuple[Move, ...], tuple[Move, ...]]:
    """(the moves of legal orders [R], the holds that were a near miss).

    A hold is a near miss when the best legal network gains over the horizon, or falls short by less
    than `NEAR_MISS` of its entry cost.
    """
    every = np.arange(len(orders))
    gain = np.where(account.legal, account.gain_usd, -np.inf)  # [R, N]
    best = gain.argmax(-1)
    moving = orders > 0
    enough = -NEAR_MISS * account.entry_usd[every, best]
    near = ~moving & account.legal[every, best] & (gain[every, best] > enough)
    rig = np.flatnonzero(moving | near)  # [K]
    there = np.where(moving, orders - 1, best)[rig]
    told = _told(snapshot, memory, account, rule, moving, gain[rig], rig, there)
    return tuple(m for m in told if m.made), tuple(m for m in told if not m.made)


def _told(
    snapshot: Snapshot,
    memory: Floats,
    account: Account,
    rule: Rule,
    moving: Bools,
    gain: Floats,
    rig: Ints,
    there: Ints,
) -> list[Move]:
    """Each rig [K] and its network [K] put in numbers; gain [K, N] is overwritten."""
    every, names = np.arange(len(rig)), snapshot.network_names
    gain_h, entry = account.gain_usd_h[rig, there], account.entry_usd[rig, there]
    with np.errstate(all="ignore"):
        back_h = np.where(gain_h > 0, entry / gain_h, np.nan)
        flip = flip_token_usd(snapshot, memory, account, rule, rig, there)
    gain[every, there] = -np.inf
    second = gain.argmax(-1)
    behind = gain[every, second]
    origin = snapshot.assignment[rig]
    models = _models(snapshot)
    columns = (
        [snapshot.rig_names[r] for r in rig.tolist()],
        [names[n] for n in origin.tolist()],
        [names[n] for n in there.tolist()],
        moving[rig].tolist(),
        gain_h.tolist(),
        entry.tolist(),
        _or_none(back_h),
        account.gain_usd[rig, there].tolist(),
        [rule.horizon_h] * len(rig),
        [names[n] if b > -math.inf else None for n, b in zip(second.tolist(), behind, strict=True)],
        _or_none(behind),
        snapshot.on("token_usd")[there].tolist(),
        _or_none(flip),
        [models[a] + models[b] for a, b in zip(origin.tolist(), there.tolist(), strict=True)],
    )
    return list(map(Move._make, zip(*columns, strict=True)))


def flip_token_usd(
    snapshot: Snapshot, memory: Floats, account: Account, rule: Rule, rig: Ints, there: Ints
) -> Floats:
    """Price of each destination's token at which the move's gain_usd is 0, NaN if none, [K].

    With the price x times today's, and with it the averages of the estimate, a move is worth
    H (a x - e - c - m |c|) - fees - L max(f x - e, 0), where a is the gross yield after dilution, e
    energy, c the value of staying, L the hours lost and f what these are valued at (a, or for one
    rule the undiluted 48-hour average). That is two straight lines with a kink at f x = e; of their
    roots the one nearest to today's price, in logarithms, is the answer.
    """
    on, of = snapshot.on, snapshot.of
    energy = (of("owned") * of("power_kw") * of("tariff_usd_kwh"))[rig] * on("load")[there]
    gross = account.value[rig, there] + energy
    lost = gross
    if rule.name == UNDILUTED_ENTRY:
        lost = snapshot.work[rig, there] * (memory[EMA_48H] * (1.0 - on("lockup")))[there]
    here = account.here[rig]
    fees = (on("gas_usd") + on("burn_usd"))[there] + of("leaving_usd")[rig]
    lost_h = (on("provisioning_h") + on("warmup_h"))[there]
    need = rule.horizon_h * (here + rule.margin * np.abs(here) + energy) + fees
    low = need / (rule.horizon_h * gross)
    high = (need - lost_h * energy) / (rule.horizon_h * gross - lost_h * lost)
    low = np.where(lost * low <= energy, low, np.nan)
    high = np.where(lost * high >= energy, high, np.nan)
    nearer = np.abs(np.log(low)) <= np.abs(np.log(high))
    ratio = np.where(nearer | np.isnan(high), low, high)
    price = ratio * on("token_usd")[there]
    return np.where((price > 0) & np.isfinite(price), price, np.nan)


def _models(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """What of each network's pay is a model's average: leases come and go, slots are contested."""
    lease, slots = snapshot.on("lease") > 0, snapshot.on("slots") > 0
    return [
        (f"leases on {name}",) * bool(a) + (f"the tournament of {name}",) * bool(b)
        for name, a, b in zip(snapshot.network_names, lease, slots, strict=True)
    ]


def _or_none(values: Floats) -> list[float | None]:
    return [None if math.isinf(v) or v != v else v for v in values.tolist()]


def _signed(usd: float) -> str:
    return ("-" if usd < 0 else "+") + _usd(abs(usd))


def _usd(usd: float) -> str:
    """Whole dollars from 1,000 on, cents from 1 on, else three significant digits."""
    if abs(usd) >= 1000.0 or usd == 0.0:
        return f"{usd:,.0f} USD"
    if round(abs(usd), 2) >= 1.0:
        return f"{usd:,.2f} USD"
    return f"{usd:.{min(12, 2 - math.floor(math.log10(abs(usd))))}f} USD"
