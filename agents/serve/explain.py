"""Why a rig moves, or nearly does: money gained, money paid, and the price that would change it.

Closed forms of the numbers in an `Account`, each re-derivable by hand from a snapshot. They are the
tuned rule's accounting and not the network's reasons; where the two disagree the text says so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .accounting import Account, Bools, Floats, Ints, Terms, best_moves
from .columns import IN_USD, OFF, UNTOLD, Paid
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
    in_usd: bool  # the network's pay, whatever its token costs

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
        if self.in_usd:
            parts += [f"pay on {self.network} is in USD"] * (self.network != OFF)
        elif self.flip_token_usd is None:
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
    paid = _paid(snapshot)
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
        [paid[n].share == 0.0 for n in there.tolist()],
    )
    return list(map(Move._make, zip(*columns, strict=True)))


def flip_token_usd(
    snapshot: Snapshot, terms: Terms, account: Account, rig: Ints, there: Ints
) -> Floats:
    """Price of each destination's token at which the move's gain_usd is 0, NaN if none, [K].

    With the token at x times today's price, and the averages of the estimates with it, a network
    of whose pay a share s moves with the token pays 1 - s + s x times what it pays now. s is the
    bundle's; a network that it does not know is taken to pay in its token alone, and no other
    network in that one. A move is then worth

        G(x) = H (a(x) - c(x) - m |c(x)|) - fees - L max(f(x), 0)

    a = the yield there after dilution, c = the value of staying, which moves too where it is paid
    in the same token, L = the hours lost, f = what these are valued at (a, or for one rule the
    undiluted 48-hour average), all less energy. Fees (a burn among them) and the price of leaving
    stay as they are. For each sign of c(x) and of f(x), G is a straight line; of the four lines'
    roots, where they have those signs, the one nearest to today's price, in logarithms, is it.
    """
    at, horizon_h = snapshot.assignment[rig], terms.rule.horizon_h
    share, share_here = _token_shares(_paid(snapshot), at, there)
    energy, energy_here = terms.energy[rig, there], terms.energy[rig, at]
    gross, gross_here = account.value[rig, there] + energy, account.here[rig] + energy_here
    lost = gross if terms.undiluted is None else terms.undiluted[rig, there]
    fees = terms.fees_usd[there] + snapshot.of("leaving_usd")[rig]
    a, c = _line(gross, share, energy), _line(gross_here, share_here, energy_here)
    f = _line(lost, share, energy)
    of_c, of_f = np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])[..., None]  # signs
    stay, wait = 1.0 + of_c * terms.rule.margin, (of_f > 0) * terms.lost_h[there]
    level, slope = (horizon_h * (a[k] - stay * c[k]) - wait * f[k] for k in (0, 1))  # [4, K]
    root = (fees - level) / slope
    holds = (of_c * (c[0] + c[1] * root) >= 0) & (of_f * (f[0] + f[1] * root) >= 0)
    far = np.where(holds & (root > 0) & (share > 0), np.abs(np.log(root)), np.inf)
    best = far.argmin(0), np.arange(len(rig))
    return np.where(np.isfinite(far[best]), root[best] * snapshot.on("token_usd")[there], np.nan)


def _line(gross: Floats, share: Floats, energy: Floats) -> tuple[Floats, Floats]:
    """(level, slope) of a yield less energy by the token's price, of which that share moves."""
    return gross * (1.0 - share) - energy, gross * share


def _paid(snapshot: Snapshot) -> list[Paid]:
    """What the pay of each network is counted in, `off` too."""
    known = snapshot.columns.paid
    return [*(known.get(name, UNTOLD) for name in snapshot.network_names[:-1]), IN_USD]


def _token_shares(paid: list[Paid], origin: Ints, there: Ints) -> tuple[Floats, Floats]:
    """The shares that move with the price of each destination's token, of its own pay and of the
    origin's, [K] both."""
    shares = np.array([each.share for each in paid])
    same = [
        paid[b].token is not None and paid[a].token == paid[b].token
        for a, b in zip(origin.tolist(), there.tolist(), strict=True)
    ]
    return shares[there], np.where(same, shares[origin], 0.0)


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
