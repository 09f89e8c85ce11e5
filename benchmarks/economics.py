"""What it costs to acquire a dollar of tokens on each network, and what it costs to move there.

    python benchmarks/economics.py             # the table of the README, and a verdict on each band

One rig at a time goes to a network at hour 0 and stays for the whole episode, so that the fleet
does not dilute itself: in turn every kind of owned rig that suits the network, which are the better
half of the eligible kinds by cost over published yield. The figures are those of the median kind.
Cost is the full cost (energy, hosting, depreciation, fees, penalties, financing), at hour 0 with
the energy of full load; a pruned rig registers again. All rigs and worlds live in one batch.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from env.exogenous import Exogenous, simulate
from env.fleet import draw_fleet
from env.hour import Hour, Quotes
from env.scenario import BURN_IN_H, Scenario, build_scenario
from env.state import FULL, LEDGER, Fleet, State, take
from env.transition import step
from env.world import initial_state

ESTABLISHED = (0.55, 0.75)  # band of cost over value on every established network
EMERGING, EMERGING_COUNT = 0.12, 2  # so many emerging networks are below
ENTRY_H = (1.0, 48.0)  # entry costs in hours of yield reach from below to above
START_WORLDS = 256  # hour 0 alone is cheap, and its median needs many worlds
RIG_DRAWS = ("rig_up", "arrival", "lease_draw")  # columns of an hour that belong to a rig


@dataclass(frozen=True)
class Acquisition:
    """Cost over value of one network's tokens for its median suited rig."""

    name: str
    kind: str
    at_start: float  # full cost over published yield at hour 0, median of the worlds
    accrual: float  # over the episode: summed cost over summed value of all worlds
    error: float  # its standard error
    best: float  # accrual of the other suited kinds of rig
    worst: float
    unlock: float
    liquidation: float
    entry_h: float  # burn, gas, provisioning and warm-up in hours of the published yield


@dataclass(frozen=True)
class Pairs:
    """Which rig goes to which network, int64 [P] each, and what it finds there at hour 0."""

    rig: Tensor
    network: Tensor
    at_start: Tensor  # [P] full cost over published yield
    entry_h: Tensor  # [P]


def acquisitions(scenario: Scenario, seeds: Tensor) -> list[Acquisition]:
    """Every network of a fixed fleet's scenario; seeds int64 [W]."""
    fleet = draw_fleet(scenario, seeds)
    pairs = suited_pairs(scenario, fleet, published(scenario))
    exogenous = simulate(scenario, take(fleet, len(seeds)), seeds)
    books = stay(scenario, fleet, exogenous, pairs, seeds)  # [W, P, len(LEDGER)]
    return [
        _median_rig(scenario, k, pairs, books)
        for k in range(scenario.network_count - 1)
        if (pairs.network == k).any()
    ]


def published(scenario: Scenario) -> Quotes:
    """The networks at hour 0 of START_WORLDS worlds."""
    seeds = torch.arange(START_WORLDS)
    fleet = take(draw_fleet(scenario, seeds), START_WORLDS)
    return simulate(scenario, fleet, seeds, hours=1).at(BURN_IN_H).quotes


def suited_pairs(scenario: Scenario, fleet: Fleet, quotes: Quotes) -> Pairs:
    """The better half of the kinds of owned rig on each network, at the published yield."""
    columns = (fleet.gpu[0], fleet.gpu_count[0], fleet.site[0], fleet.owned[0])
    kinds: dict[tuple[float, ...], int] = {}
    for place, kind in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        if kind[-1] > 0:
            kinds.setdefault(kind, place)
    rigs = torch.tensor(list(kinds.values()))
    rows = []
    for k in range(scenario.network_count - 1):
        launched = quotes.estimate[:, k] > 0
        if not launched.any():
            continue
        fits = rigs[fleet.eligible[0, rigs, k]]
        yield_usd_h = quotes.estimate[launched, k].median() * fleet.mass[0, fits, k]
        ratio = fleet.nominal_usd_h[0, fits] / yield_usd_h
        fee_usd = quotes.burn_usd[launched, k].median() + scenario.rules.gas_usd[k]
        lost_h = scenario.rules.provisioning_h[k] + scenario.rules.warmup_h[k]
        best = ratio.argsort()[: max(1, len(fits) // 2)]
        at = torch.full_like(fits, k)
        rows.append(torch.stack((fits, at, ratio, lost_h + fee_usd / yield_usd_h), -1)[best])
    rig, network, at_start, entry_h = torch.cat(rows).unbind(-1)
    return Pairs(rig.long(), network.long(), at_start, entry_h)


def stay(
    scenario: Scenario, fleet: Fleet, exogenous: Exogenous, pairs: Pairs, seeds: Tensor
) -> Tensor:
    """The account of each pair's rig on its network, alone in each world: [W, P, len(LEDGER)]."""
    worlds, count = len(seeds), len(pairs.rig)
    row = torch.arange(worlds).repeat_interleave(count)  # world of each row, [W * P]
    rig, network = pairs.rig.repeat(worlds), pairs.network.repeat(worlds)
    alone = _alone(fleet, rig)
    state = _switched_off(scenario, alone, seeds[row], _lone_hour(exogenous, 0, row, rig))
    home = network.unsqueeze(1)
    for t in range(scenario.horizon_h):
        orders = torch.where(state.assignment == home, 0, home + 1)
        state, _ = step(scenario, alone, state, orders, _lone_hour(exogenous, t, row, rig))
    books = state.ledger[torch.arange(len(row)), :, network]
    return books.unflatten(0, (worlds, count))


def _alone(fleet: Fleet, rig: Tensor) -> Fleet:
    """One rig a row from a fleet that all worlds share."""
    columns = {f.name: getattr(fleet, f.name) for f in fields(Fleet)}
    shared = {"index": fleet.index[:1], "tiebreak": fleet.tiebreak[:1]}  # of no effect in a step
    rest = {name: t[0, rig].unsqueeze(1) for name, t in columns.items() if name not in shared}
    return Fleet(**shared, **rest)


def _lone_hour(exogenous: Exogenous, t: int, row: Tensor, rig: Tensor) -> Hour:
    """Hour `t` of the episode for rows of one rig each."""
    hour = exogenous.at(BURN_IN_H + t)
    table = hour.table[row]
    rest = {
        name: value[row, rig].unsqueeze(1) if name in RIG_DRAWS else value[row]
        for name, value in zip(hour._fields[2:], hour[2:], strict=True)
    }
    return Hour(Quotes(*table.unbind(1)), table, **rest)


def _switched_off(scenario: Scenario, fleet: Fleet, seeds: Tensor, hour: Hour) -> State:
    """Fresh worlds whose rigs are off, with no lease to break."""
    state = initial_state(scenario, fleet, seeds, hour)
    off = torch.full_like(state.assignment, scenario.network_count - 1)
    idle = torch.zeros_like(state.lease_h)
    return replace(state, assignment=off, lease_h=idle, lease_rate=idle)


def _median_rig(scenario: Scenario, k: int, pairs: Pairs, books: Tensor) -> Acquisition:
    """The rig of median cost over value at accrual marks (the cheaper of two in the middle)."""
    mine = (pairs.network == k).nonzero().flatten()
    book = dict(zip(LEDGER, books[:, mine].unbind(-1), strict=True))  # [W, P of k] each
    cost = torch.stack([book[name] for name in FULL]).sum(0)
    value = book["gross_usd"]
    ratio = cost.sum(0) / value.sum(0)
    middle = int(ratio.argsort()[(len(mine) - 1) // 2])
    unlocked = value - book["lockup_usd"]
    sold = unlocked - book["slippage_usd"]
    # standard error of a ratio of sums, by linearisation
    residual = cost[:, middle] - ratio[middle] * value[:, middle]
    error = residual.square().sum().sqrt() / value[:, middle].sum()
    spent = cost[:, middle].sum()
    return Acquisition(
        name=scenario.networks[k].name,
        kind=scenario.networks[k].kind,
        at_start=float(pairs.at_start[mine].median()),
        accrual=float(ratio[middle]),
        error=float(error),
        best=float(ratio.min()),
        worst=float(ratio.max()),
        unlock=float(spent / unlocked[:, middle].sum()),
        liquidation=float(spent / sold[:, middle].sum()),
        entry_h=float(pairs.entry_h[mine].median()),
    )


def verdicts(rows: list[Acquisition]) -> dict[str, tuple[bool, str]]:
    """Of each band whether it holds, and what was measured."""
    low, high = ESTABLISHED
    solid = [r for r in rows if r.kind == "established"]
    young = [r for r in rows if r.kind == "emerging"]
    found = {}
    for when in ("at_start", "accrual"):
        out = [r.name for r in solid if not low <= getattr(r, when) <= high]
        thin = [r.name for r in young if getattr(r, when) < EMERGING]
        label = "at hour 0" if when == "at_start" else "over the episode"
        found[f"established {low:.0%} to {high:.0%} {label}"] = (
            not out,
            f"outside: {', '.join(out) or 'none'}",
        )
        found[f"at least {EMERGING_COUNT} emerging below {EMERGING:.0%} {label}"] = (
            len(thin) >= EMERGING_COUNT,
            ", ".join(thin) or "none",
        )
    entries = [r.entry_h for r in rows]
    found[f"entry from below {ENTRY_H[0]:g} to above {ENTRY_H[1]:g} hours of yield"] = (
        min(entries) < ENTRY_H[0] and max(entries) > ENTRY_H[1],
        f"{min(entries):.1f} to {max(entries):.1f}",
    )
    return found


def table(rows: list[Acquisition], worlds: int, horizon_h: int) -> str:
    """The rows as Markdown, with a caption that says how they came about."""
    lines = [
        "| network | class | at hour 0 | accrual | suited rigs | unlock | liquidation | entry, h |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        accrual = f"{r.accrual:.0%} ± {r.error:.1%} | {r.best:.0%} to {r.worst:.0%}"
        rest = f"{r.unlock:.0%} | {r.liquidation:.0%} | {r.entry_h:.1f}"
        lines.append(f"| {r.name} | {r.kind} | {r.at_start:.0%} | {accrual} | {rest} |")
    caption = (
        f"*Full cost over value of tokens, {worlds} worlds of {horizon_h} hours "
        f"(`python benchmarks/economics.py --worlds {worlds}`): one owned rig at a time enters at "
        "hour 0 and stays; the median of the better half of the eligible kinds of rig, its "
        "standard error over worlds, and the range of that half. Hour 0: published yield of "
        f"{START_WORLDS} worlds. Entry: burn, gas, provisioning and warm-up in hours of it.*"
    )
    return "\n".join((*lines, "", caption))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=64)
    worlds = parser.parse_args().worlds
    torch.set_num_threads(1)
    scenario = build_scenario("mixed")
    rows = acquisitions(scenario, torch.arange(worlds))
    print(table(rows, worlds, scenario.horizon_h), end="\n\n")
    found = verdicts(rows)
    for band, (holds, measured) in found.items():
        print(f"{'holds ' if holds else 'missed'}  {band} ({measured})")
    raise SystemExit(0 if all(holds for holds, _ in found.values()) else 1)


if __name__ == "__main__":
    main()
