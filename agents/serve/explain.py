"""Why a rig moves, or nearly does: money gained, money paid, and the price that would change it.

Closed forms of the numbers in an `Account`, each re-derivable by hand from a snapshot. They are the
tuned rule's accounting and not the network's reasons; where the two disagree the text says so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .accounting import Account, Bools, Floats, Ints, Terms, best_moves
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
    snapshot: Snapshot, terms: Terms, account: Account, orders: Ints
) -> tuple[tuple[Move, ...], tuple[Move, ...]]:
    """(the moves of legal orders [R], the holds that were a near miss).

    A hold is a near miss when the best legal network gains over the horizon, or falls short by less
    than `NEAR_MISS` of its entry cost.
    """
    best, most = best_moves(account)
    moving = orders > 0
    fall_short = NEAR_MISS * account.entry_usd[np.arange(len(best)), best]
    rig = np.flatnonzero(moving | (most > -fall_short))  # [K]
    there = np.where(moving, orders - 1, best)[rig]
    moves = _told(snapshot, terms, account, moving, rig, there)
    return tuple(m for m in moves if m.made), tuple(m for m in moves if not m.made)


def _told(
    snapshot: Snapshot, terms: Terms, account: Account, moving: Bools, rig: Ints, there: Ints
) -> list[Move]:
    """Each rig [K] and its network [K] put in numbers."""
    every, names, horizon_h = np.arange(len(rig)), snapshot.network_names, terms.rule.horizon_h
    gain_h, entry = account.gain_usd_h[rig, there], account.entry_usd[rig, there]
    others = np.where(account.legal[rig], account.gain_usd[rig], -np.inf)  # [K, N]
    others[every, there] = -np.inf
    second = others.argmax(-1)
    with np.errstate(all="ignore"):
        back_h = np.where(gain_h > 0, entry / gain_h, np.nan)
        flip = flip_token_usd(snapshot, terms, account, rig, there)
    behind, origin, models = others[every, second], snapshot.assignment[rig], _models(snapshot)
    columns = (
        [snapshot.rig_names[r] for r in rig.tolist()],
        [names[n] for n in origin.tolist()],
        [names[n] for n in there.tolist()],
        moving[rig].tolist(),
        gain_h.tolist(),
        entry.tolist(),
        _or_none(back_h),
        account.gain_usd[rig, there].tolist(),
        [horizon_h] * len(rig),
        [
            names[n] if usd > -math.inf else None
            for n, usd in zip(second.tolist(), behind.tolist(), strict=True)
        ],
        _or_none(behind),
        snapshot.on("token_usd")[there].tolist(),
        _or_none(flip),
        [models[a] + models[b] for a, b in zip(origin.tolist(), there.tolist(), strict=True)],
    )
    return list(map(Move._make, zip(*columns, strict=True)))


def flip_token_usd(
    snapshot: Snapshot, terms: Terms, account: Account, rig: Ints, there: Ints
) -> Floats:
    """Price of each destination's token at which the move's gain_usd is 0, NaN if none, [K].

    With the price x times today's, and with it the averages of the estimate, a move is worth
    H (a x - e - c - m |c|) - fees - L max(f x - e, 0), where a is the gross yield after dilution, e
    energy, c the value of staying, L the hours lost and f what these are valued at (a, or for one
    rule the undiluted 48-hour average). That is two straight lines with a kink at f x = e; of their
    roots the one nearest to today's price, in logarithms, is the answer.
    """
    horizon_h, lost_h = terms.rule.horizon_h, terms.lost_h[there]
    energy, here = terms.energy[rig, there], account.here[rig]
    gross = account.value[rig, there] + energy
    lost = gross if terms.undiluted is None else terms.undiluted[rig, there]
    fees = terms.fees_usd[there] + snapshot.of("leaving_usd")[rig]
    need = horizon_h * (here + terms.rule.margin * np.abs(here) + energy) + fees
    low = need / (horizon_h * gross)
    high = (need - lost_h * energy) / (horizon_h * gross - lost_h * lost)
    low = np.where(lost * low <= energy, low, np.nan)
    high = np.where(lost * high >= energy, high, np.nan)
    nearer = np.abs(np.log(low)) <= np.abs(np.log(high))
    price = np.where(nearer | np.isnan(high), low, high) * snapshot.on("token_usd")[there]
    return np.where((price > 0) & np.isfinite(price), price, np.nan)


def _models(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """What of each network's pay is a model's average: leases come and go, slots are contested."""
    columns = snapshot.network_names, snapshot.on("lease").tolist(), snapshot.on("slots").tolist()
    return [
        ((f"leases on {name}",) if lease > 0 else ())
        + ((f"the tournament of {name}",) if slots > 0 else ())
        for name, lease, slots in zip(*columns, strict=True)
    ]


def _or_none(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _signed(usd: float) -> str:
    return ("-" if usd < 0 else "+") + _usd(abs(usd))


def _usd(usd: float) -> str:
    """Whole dollars from 1,000 on, cents from 1 on, else three significant digits."""
    if abs(usd) >= 1000.0 or usd == 0.0:
        return f"{usd:,.0f} USD"
    if round(abs(usd), 2) >= 1.0:
        return f"{usd:,.2f} USD"
    return f"{usd:.{min(12, 2 - math.floor(math.log10(abs(usd))))}f} USD"
