"""The report's pictures: profit, allocation, acquisition cost, regret, money, moves.

Each function takes a comparison and returns an `<svg>` element. Lines differ in their dashes too,
not in colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from agents.comparison import Comparison
from agents.drawing import (
    ABOVE,
    BLUE,
    GREEN,
    GREY,
    INDIGO,
    INK,
    LEMON,
    ORANGE,
    PALE,
    PINK,
    SILVER,
    SKY,
    YELLOW,
    bars,
    name_ends,
    svg,
)
from agents.hindsight import CAUSES
from agents.scoring import ACCOUNTS, HOURS_PER_DAY, Score
from agents.statistics import Floats
from agents.summary import BASES, acquisition_cost
from env.state import CHARGES

OTHERS = (GREEN, PINK, YELLOW, SKY, GREY, "#6B4F1D", "#9A9A9A", INDIGO, "#2F4F4F")
DASHES = ((0, ()), (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
BANDS = {"established": (0.55, 0.75), "emerging": (0.05, 0.12)}  # full cost at accrual
BOUND = "clairvoyant bound"
RARE = 0.002  # share of rig-hours below which a network's figures are hardly more than chance


def colours(compared: Comparison) -> dict[str, str]:
    """The subject blue, the tuned rule orange, the others in the order of their rank."""
    own = dict.fromkeys(compared.subject, BLUE)
    rest = [n for n in compared.ranked if n not in own and n != compared.opponent]
    fixed = {compared.opponent: ORANGE, **own}
    return {**fixed, **{n: OTHERS[k % len(OTHERS)] for k, n in enumerate(rest)}}


def profit(compared: Comparison) -> str:
    """Cumulative net USD per rig, and its paired difference to the tuned rule, by day."""
    totals = {n: _cumulative(compared.scores[n]) for n in compared.ranked}
    rival = totals[compared.opponent]
    paired = {n: t - rival for n, t in totals.items() if n != compared.opponent}

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        best = float(compared.bound.mean()) * compared.scenario.horizon_h / HOURS_PER_DAY
        _fan(left, totals, compared, "net profit so far, USD per rig", best)
        title = f"the same less {compared.opponent}, world by world"
        _fan(right, paired, compared, title, best - float(rival[-1].mean()))
        right.axhline(0.0, color=ORANGE, linewidth=1.4)

    return svg("profit", 4.2, draw)


def _cumulative(one: Score) -> Floats:
    """[D + 1, W] net USD per rig from the start to the end of each day."""
    hours = len(one.hourly_usd)
    ends = np.unique(np.append(np.arange(0, hours, 24), hours))
    total = np.concatenate((np.zeros((1, one.hourly_usd.shape[1])), one.hourly_usd.cumsum(0)))
    return total[ends] / one.fleet


def _fan(
    axes: Axes, series: Mapping[str, Floats], compared: Comparison, title: str, best: float
) -> None:
    """A line and the 95 % interval of its mean over worlds, named at its end; the bound a mark."""
    hues = {BOUND: INK, **colours(compared)}
    ends = {BOUND: best}
    days = np.arange(math.ceil(compared.scenario.horizon_h / HOURS_PER_DAY) + 1)
    for k, (name, values) in enumerate(series.items()):
        mean = values.mean(1)
        half = 1.96 * values.std(1, ddof=1) / np.sqrt(values.shape[1])
        main = name in (*compared.subject, compared.opponent)
        axes.fill_between(days, mean - half, mean + half, color=hues[name], alpha=0.13, lw=0)
        dash = DASHES[0] if main else DASHES[k % len(DASHES)]
        axes.plot(days, mean, color=hues[name], lw=2.2 if main else 1.2, ls=dash)
        ends[name] = float(mean[-1])
    axes.plot([days[-1]], [best], marker="v", color=INK, markersize=6, clip_on=False)
    axes.set_title(title)
    axes.set_xlabel("day")
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_ends(axes, ends, hues)


def acquisition(compared: Comparison, name: str) -> str:
    """Cost over value when earned, by network, with the bands that it is expected to keep to."""
    networks, share = compared.scenario.networks, _shares(compared, name)
    booked = compared.scores[name].accounts.sum(0)  # [len(ACCOUNTS), N]
    order = used_networks(compared, name)
    styles = {"full": ("o", BLUE), "cash": ("D", YELLOW), "energy": ("s", GREEN)}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xscale("log")
        for y, k in enumerate(order):
            band = BANDS.get(networks[k].kind)
            if band:
                axes.barh(y, band[1] - band[0], left=band[0], height=0.92, color=PALE)
            for basis, ratio in zip(BASES, acquisition_cost(booked[:, k])[0], strict=True):
                marker, colour = styles[basis]
                fill = colour if share[k] >= RARE else "white"
                axes.plot([ratio], [y], marker, color=colour, markerfacecolor=fill, markersize=6.5)
        labels = [f"{networks[k].name} ({share[k]:.1%} of rig-hours)" for k in order]
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, 0.004), max(high, 1.5))
        axes.axvline(1.0, color=ORANGE, lw=1.0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlabel(
            "cost over market value when earned; right of the line it costs more than it is worth"
        )
        _kinds(axes, [networks[k].kind for k in order])
        keys = [
            Line2D([], [], marker=m, color=c, ls="", label=f"{b} cost")
            for b, (m, c) in styles.items()
        ]
        band_key = Patch(color=PALE, label="band of full cost")
        axes.legend(handles=[*keys, band_key], **ABOVE)

    return svg("acquisition", 1.2 + 0.27 * max(len(order), 3), draw)


def _shares(compared: Comparison, name: str) -> Floats:
    """Share of a policy's rig-hours on each network, [N]."""
    hours = compared.scores[name].accounts[:, ACCOUNTS.index("rig_h")].sum(0)
    return hours / hours.sum()


def used_networks(compared: Comparison, name: str) -> list[int]:
    """Networks that a policy used, *off* apart: by class, then by rig-hours."""
    networks, share = compared.scenario.networks[:-1], _shares(compared, name)
    kinds = ("established", "emerging", "floor")
    used = [k for k in range(len(networks)) if share[k] > 0]
    return sorted(used, key=lambda k: (kinds.index(networks[k].kind), -share[k]))


def _kinds(axes: Axes, kinds: Sequence[str]) -> None:
    """A thin line between the classes of networks, and their names at the right."""
    place = axes.get_yaxis_transform()
    for kind in dict.fromkeys(kinds):
        first = kinds.index(kind)
        if first:
            axes.axhline(first - 0.5, color=SILVER, lw=0.8)
        axes.text(1.005, first, kind, transform=place, fontsize=8, color="#555555", va="center")


def regrets(compared: Comparison) -> str:
    """Regret of each policy by cause, USD per rig-day."""
    hues = dict(zip(CAUSES, (SKY, ORANGE, YELLOW, GREY), strict=True))
    rows = {}
    for name in compared.ranked:
        found = compared.regrets[name]
        rig_days = compared.scores[name].rig_days[: len(found.own_usd)].sum()
        rows[name] = dict(zip(CAUSES, found.parts_usd.sum(0) / rig_days, strict=True))
    return bars("regrets", rows, hues, "regret against each rig's best path, USD per rig-day")


FLOW = {
    "energy_usd": ("energy", GREEN),
    "housing_usd": ("housing and rent", SKY),
    "burn_usd": ("burns and gas", ORANGE),
    "penalty_usd": ("penalties", INDIGO),
    "financing_usd": ("financing", PINK),
    "slippage_usd": ("slippage", LEMON),
    "lockup_usd": ("lock-up discount", YELLOW),
}


def money(compared: Comparison) -> str:
    """Where each dollar of gross income went, USD per rig-day."""
    assert set(FLOW) == set(CHARGES)
    rows = {}
    for name in compared.ranked:
        one = compared.scores[name]
        days = one.rig_days.sum()
        parts = {label: one.total(a).sum() / days for a, (label, _) in FLOW.items()}
        rows[name] = {"net profit": one.hourly_usd.sum() / days, **parts}
    hues = {"net profit": BLUE, **dict(FLOW.values())}
    return bars("money", rows, hues, "gross income and what became of it, USD per rig-day")


MOVE_COSTS = {
    "burn": ("burns", ORANGE),
    "gas_usd": ("gas", GREY),
    "leaving_usd": ("broken leases, unbonding", PINK),
    "lost_usd": ("yield lost while provisioning", SKY),
}


def moves(compared: Comparison) -> str:
    """Moves into each network by subject and tuned rule, and what one of the subject's costs."""
    scores, names = compared.scores, compared.scenario.network_names
    shown = list(dict.fromkeys((compared.subject[0], compared.opponent)))
    into = {n: scores[n].accounts[:, ACCOUNTS.index("moves")].sum(0) for n in shown}  # [N]
    total = sum(into.values())
    order = [k for k in np.argsort(-total) if total[k] > 0]
    booked = dict(zip(ACCOUNTS, scores[shown[0]].accounts.sum(0), strict=True))
    booked["burn"] = booked["burn_usd"] - booked["gas_usd"]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        height = 0.8 / len(shown)
        for j, (name, colour) in enumerate(zip(shown, (BLUE, ORANGE), strict=False)):
            rate = into[name] / scores[name].rig_days.sum()
            y = np.arange(len(order)) + (j - (len(shown) - 1) / 2) * height
            left.barh(y, rate[order], height=height, color=colour, label=name)
        start = np.zeros(len(order))
        for account, (label, colour) in MOVE_COSTS.items():
            each = booked[account] / np.maximum(booked["moves"], 1.0)
            right.barh(range(len(order)), each[order], left=start, color=colour, label=label)
            start = start + each[order]
        left.set_yticks(range(len(order)), [names[k] for k in order], fontsize=8)
        left.set_ylim(len(order) - 0.4, -0.6)
        left.set_title("moves into a network per rig-day", pad=24)
        right.set_title(f"what a move of {shown[0]} cost, USD", pad=24)
        for axes in (left, right):
            axes.grid(False, axis="y")
            axes.legend(**ABOVE)

    return svg("moves", 1.0 + 0.27 * max(len(order), 3), draw)


def gap_line(low: float, gap: float, high: float, rule: str) -> str:
    """The headline as a line from the opponent, in words the `rule`, (0) to the bound (1)."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_ylim(-1, 1)
        axes.set_xlim(min(-0.05, low - 0.05), max(1.05, high + 0.05))
        axes.axis("off")
        axes.plot([0, 1], [0, 0], color="#C8C8C8", lw=6, solid_capstyle="round")
        axes.plot([low, high], [0, 0], color=BLUE, lw=6, alpha=0.45, solid_capstyle="butt")
        axes.plot([gap], [0], "o", color=BLUE, markersize=10)
        marks = {0.0: rule, 1.0: "clairvoyant bound"}
        for x, label in marks.items():
            axes.plot([x, x], [-0.35, 0.35], color=INK, lw=1.4)
            axes.text(x, -0.95, label, ha="center", fontsize=9, color="#444444")
        axes.text(gap, 0.5, f"{gap:.0%}", ha="center", fontsize=12, color=BLUE, weight="bold")

    return svg("gap", 0.95, draw)
