"""The evaluation as one page of HTML that needs nothing else: no script, no file, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from string import Template

import numpy as np

from agents import charts
from agents.comparison import Comparison
from agents.headline import NARROW, rule_in_words
from agents.occupancy import allocation
from agents.summary import BASES, MARKS, SPENT, Row, acquisition_cost

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif;
  color: #222; background: #fff; margin: 0 auto; max-width: 1060px; padding: 28px 24px 60px; }
h1 { font-size: 27px; line-height: 1.25; margin: 4px 0 6px; }
h2 { font-size: 18px; margin: 42px 0 6px; padding-top: 14px; border-top: 1px solid #ddd; }
p { margin: 6px 0 12px; max-width: 78ch; }
.over, .note { color: #666; font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 18px 0 6px; }
.tile { border: 1px solid #ddd; border-radius: 6px; padding: 10px 14px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: #666; font-size: 12.5px; }
.warning { border-left: 4px solid #D55E00; background: #FFF6F0; padding: 8px 14px; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; }
td, th { padding: 4px 6px; text-align: right; white-space: nowrap; }
table { font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #555; border-bottom: 1px solid #bbb; vertical-align: bottom; }
td:first-child, th:first-child { text-align: left; }
tr.main td { background: #EEF5FA; font-weight: 600; }
tr.rival td { background: #FDF3ED; }
tr.reference td { color: #666; font-style: italic; }
tbody tr { border-bottom: 1px solid #eee; }
svg { width: 100%; height: auto; display: block; margin: 8px 0; }
svg text { font-family: "DejaVu Sans", Verdana, sans-serif !important; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; font-size: 13px; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
code { font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; }
@media print {
  body { max-width: none; padding: 0; font-size: 11px; }
  h2 { break-after: avoid; } svg, tr, .tiles { break-inside: avoid; }
}
</style>
</head>
<body>
$body
</body>
</html>
""")


def report(compared: Comparison, summary: Row, made: Mapping[str, str]) -> str:
    """The page; `made` says by name what the figures were made with."""
    shown = compared.subject[0]
    parts = (
        _head(compared, summary),
        _section(
            "Policies",
            f"Every policy lived the same worlds. {_knobs(summary)}; "
            "none of the worlds below was seen before.",
            _policies(summary),
        ),
        _section(
            "Profit over time",
            "Mean of the worlds with its 95 % interval. On the right the worlds' own ups and downs "
            "cancel, because both policies lived them.",
            charts.profit(compared),
        ),
        _section(
            "Where the rigs were",
            f"The first test world (seed {compared.seeds[0]}), a row for each rig.",
            allocation(compared),
        ),
        _section(
            "What a token cost to earn",
            f"Acquisition cost of {escape(shown)}: cost of running over market value of what was "
            "earned, by network. The bands are those that full cost at accrual is expected to keep "
            "to for the mean operator: 55 to 75 % on established networks, 5 to 12 % on emerging "
            "ones. Hollow marks: "
            f"under {charts.RARE:.1%} of rig-hours.",
            charts.acquisition(compared, shown) + _acquisition(compared, shown),
        ),
        _section(
            "Regret",
            "Each rig against the best path that it could have taken, all prices known and the "
            "rest of the fleet where it was. <b>Late</b>: we followed the best path afterwards. "
            "<b>Wrong</b>: a move was due, ours went elsewhere. <b>Unneeded</b>: we moved, staying "
            "was best. <b>Missed</b>: a move was due, we made none. The parts sum to the regret; "
            "it is that of single rigs, so not the distance to the bound. "
            f"First {summary['regret_worlds']} worlds.",
            charts.regrets(compared),
        ),
        _section(
            "Where each dollar went",
            "A bar is gross income where the profit is positive; a loss lies left of zero.",
            charts.money(compared),
        ),
        _section(
            "Moves and what they cost",
            "Burn, gas, broken leases and unbonding are booked costs; yield lost provisioning is "
            "valued at the published yield of the network entered and is in no account.",
            charts.moves(compared),
        ),
        _section("How these figures were made", "", _made(compared, summary, made)),
    )
    title = f"{', '.join(compared.subject)}: {summary['verdict']}"
    return _PAGE.substitute(title=escape(title), body="\n".join(parts))


def _section(heading: str, text: str, content: str) -> str:
    said = f"<p>{text}</p>\n" if text else ""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{said}{content}\n</section>"


def _head(compared: Comparison, summary: Row) -> str:
    who = escape(_who(compared))
    rule = rule_in_words(summary["rules_tuned"])
    gap, low, high = (summary[f"gap_closed{end}"] for end in ("", "_low", "_high"))
    line = charts.gap_line(low, gap, high, rule) if None not in (gap, low, high) else ""
    warned = "".join(f'<p class="warning">{escape(w)}</p>' for w in summary["warnings"])
    row, rival = summary["net_usd_rig_day"], summary["policies"][compared.opponent]
    tiles = (
        (_percent(summary["headroom"]), f"headroom: share of the bound that the {rule} leaves"),
        (
            _percent(gap),
            f"of that gap closed; 95 % interval {_percent(low)} to {_percent(high)}",
        ),
        (
            f"{row:.2f} USD",
            f"net per rig-day; the {rule} {rival['net_usd_rig_day']:.2f}, "
            f"the bound {summary['clairvoyant_usd_rig_day']:.2f}",
        ),
        (
            _percent(summary["probability_of_improvement"]),
            f"of worlds better than {escape(compared.opponent)}; a tie counts half",
        ),
    )
    boxes = "".join(f'<div class="tile"><b>{b}</b><span>{t}</span></div>' for b, t in tiles)
    return (
        f'<p class="over">{summary["worlds"]} {escape(str(summary["split"]))} worlds, '
        f"{summary['rigs']} rigs, {summary['horizon_h']} hours each</p>\n"
        f"<h1>{who}: {escape(summary['verdict'])}</h1>\n{warned}\n"
        f'<div class="tiles">{boxes}</div>\n{line}'
    )


def _knobs(summary: Row) -> str:
    if summary["rules_tuned"]:
        return "Knobs of the rules were tuned on training worlds"
    return "The rules have their default knobs, which nobody tuned for these worlds"


def _who(compared: Comparison) -> str:
    names = compared.subject
    return names[0] if len(names) == 1 else f"{len(names)} training seeds ({', '.join(names)})"


def _policies(summary: Row) -> str:
    heading = (
        "policy",
        "net USD<br>per rig-day",
        "IQM",
        "gap closed<br>(95 % interval)",
        "P(better)",
        "moves per<br>rig-day",
        "idle",
        "provi-<br>sioning",
        "realised /<br>estimated",
        "Sharpe",
        "CVaR 5 %,<br>USD/day",
        "draw-<br>down",
    )
    bound = ("clairvoyant bound", f"{summary['clairvoyant_usd_rig_day']:.2f}", "", "100%")
    unknown = f"{summary['bound_expected_usd_rig_day']:.2f}"
    rows = [
        ("reference", (*bound, *[""] * 8)),
        ("reference", ("bound, leases unknown", unknown, *[""] * 10)),
    ]
    for name, row in summary["policies"].items():
        kind = "main" if name in summary["subject"] else ""
        rows.append(
            ("rival" if name == summary["opponent"] and not kind else kind, _line(name, row))
        )
    static = ("best static in hindsight", f"{summary['best_static_usd_rig_day']:.2f}")
    rows.append(("reference", (*static, *[""] * 10)))
    return _table(heading, rows) + (
        f'<p class="note">The rule best on training worlds, {escape(summary["opponent"])}, is the '
        "opponent. IQM: mean of the middle half of the worlds. Sharpe: of daily profit, a year, "
        "median world. CVaR: mean of the worst 5 % of all world-days, per rig. Drawdown: mean of "
        "the worlds' largest falls of equity from its peak.</p>"
    )


def _line(name: str, row: Row) -> tuple[str, ...]:
    time = row["share_of_time"]
    return (
        escape(name),
        f"{row['net_usd_rig_day']:.2f}",
        f"{row['iqm_usd_rig_day']:.2f}",
        _gap(row, "gap_closed"),
        f"{row['probability_of_improvement']:.2f}",
        f"{row['moves_rig_day']:.3f}",
        _percent(time["idle"]),
        f"{time['provisioning']:.1%}",
        _percent(row["realised_over_estimated"]),
        _number(row["sharpe_annual"], 1),
        _number(row["cvar_5_daily_usd_rig"], 2),
        f"{row['max_drawdown_mean']:.1%}",
    )


def _acquisition(compared: Comparison, name: str) -> str:
    """Three marks x three cost bases for every network that the policy used."""
    booked = compared.scores[name].accounts.sum(0)
    heading = ("network", "class", *(f"{mark}:<br>{basis}" for mark in MARKS for basis in BASES))
    rows = []
    for k in charts.used_networks(compared, name):
        network = compared.scenario.networks[k]
        cells = (_percent(v) for v in acquisition_cost(booked[:, k]).ravel())
        rows.append(("", (escape(network.name), escape(network.kind), *cells)))
    return _table(heading, rows)


def _made(compared: Comparison, summary: Row, made: Mapping[str, str]) -> str:
    rule = rule_in_words(summary["rules_tuned"])
    last = summary["first_seed"] + summary["worlds"] - 1
    knobs = "; ".join(
        f"{name} ({', '.join(f'{k} {v:.4g}' for k, v in row['knobs'].items()) or 'no knobs'})"
        for name, row in summary["policies"].items()
        if "knobs" in row
    )
    facts = {
        "worlds": f"seeds {summary['first_seed']} to {last}, the same for every policy",
        "gap closed": f"(policy - {rule}) / (bound - {rule}), a ratio of sums over worlds",
        "intervals": f"95 %, percentiles of {summary['resamples']:,} paired resamples of worlds; "
        "training seeds keep their weight",
        "bound": "no plan exceeds it even with perfect foresight (agents/clairvoyant.py)",
        "bound, leases unknown": "no policy exceeds it on average, even if it knew all "
        f"but which leases come (agents/expected.py); headroom against it "
        f"{_percent(summary['headroom_expected'])}, gap closed "
        f"{_gap(summary, 'gap_closed_expected')}",
        "headroom": f"(bound - {rule}) / bound; below {NARROW:.0%} the page warns",
        "cost of moves": ", ".join(SPENT.values()),
        "rules": knobs,
        **made,
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def _table(heading: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Cells are HTML already; each row comes with its class."""
    head = "".join(f"<th>{h}</th>" for h in heading)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>\n"
        for kind, cells in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _gap(row: Row, name: str) -> str:
    """A gap closed with its interval."""
    value, low, high = (_percent(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


def _percent(value: float | None) -> str:
    return "n/a" if value is None or not np.isfinite(value) else f"{value:.0%}"


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
