"""Whether a bundle may lead the fleet: the verdict of a shadow log, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from agents.anytime import FIRST_DAY, confidence_sequence, margin
from agents.drawing import ABOVE, BLUE, GREY, ORANGE, svg
from agents.run_folder import write_atomic
from agents.serve.snapshot import Ints
from agents.shadow import FULL_DAY_H, Rehearsal, read_log
from agents.statistics import LEVEL, Floats
from env.errors import InputError

PROMOTE, HOLD, UNKNOWN = "promote", "hold", "not yet known"
FARTHEST_DAY = 3650  # to which the days still needed are reckoned

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #222;
  background: #fff; margin: 0 auto; max-width: 960px; padding: 28px 24px; }
h1 { font-size: 25px; margin: 0 0 6px; }
p { max-width: 78ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; }
dt { color: #666; } dd { margin: 0; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; margin: 14px 0; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$said</p>
$picture
<dl>$facts</dl>
</body>
</html>
""")


@dataclass(frozen=True)
class Verdict:
    """The paired difference of the full days, and what it allows to say."""

    rehearsal: Rehearsal
    days: Ints  # [D] since 1970
    ours: Floats  # [D] USD
    theirs: Floats  # [D] USD
    mean: Floats  # [D] of the difference so far
    low: Floats  # [D]
    high: Floats  # [D]

    @classmethod
    def of(cls, rehearsal: Rehearsal) -> Verdict:
        """Judge a valued log."""
        days, ours, theirs = rehearsal.full_days()
        return cls(rehearsal, days, ours, theirs, *confidence_sequence(ours - theirs))

    @property
    def word(self) -> str:
        """Promote, hold or not yet known, at the level of every interval here."""
        if len(self.days) and self.low[-1] > 0:
            return PROMOTE
        return HOLD if len(self.days) and self.high[-1] < 0 else UNKNOWN

    @property
    def sentence(self) -> str:
        """The verdict's reason, plainly."""
        count = len(self.days)
        if count < FIRST_DAY:
            return f"{count} full days are logged, and {FIRST_DAY} are needed for a first interval."
        known = (
            f"After {count} full days the bundle's fleet on paper earned "
            f"{self.mean[-1]:+.2f} USD a day against the orchestrator's, with {LEVEL:.0%} "
            f"confidence, at whatever day one looks, between {self.low[-1]:+.2f} and "
            f"{self.high[-1]:+.2f}."
        )
        if self.word == UNKNOWN:
            more = self._days_needed() - count
            far = f"about {more} days more" if more <= FARTHEST_DAY else "years more"
            return f"{known} If it goes on like this, {far} would decide."
        return known

    def _days_needed(self) -> int:
        """The first day on which the interval would leave out 0, mean and spread as they are."""
        half, count = (self.high[-1] - self.low[-1]) / 2.0, len(self.days)
        days = np.arange(count, FARTHEST_DAY + count + 2.0)
        decided = half * margin(days) / margin(days[:1]) < abs(self.mean[-1])
        return int(days[decided.argmax()]) if decided.any() else int(days[-1])


def shadow_log(arguments: Sequence[str]) -> Path | None:
    """The log that `shadow=LOG.jsonl` names, which has a command to itself; None without it."""
    named = [a.removeprefix("shadow=") for a in arguments if a.startswith("shadow=")]
    if not named:
        return None
    if len(arguments) > 1:
        raise InputError("shadow", "no other argument beside it", list(arguments))
    return Path(named[0])


def judge(log: Path, console: Console | None = None) -> Verdict:
    """Value a log, print the verdict, and write its page beside the log."""
    verdict = Verdict.of(read_log(log))
    console = console or Console()
    console.print(table(verdict))
    console.print(
        f"{verdict.word}: {verdict.sentence}", style="bold", highlight=False, soft_wrap=True
    )
    page = log.with_suffix(".html")
    try:
        write_atomic(page, html(verdict))
    except OSError as error:
        raise InputError("shadow", "a folder that can be written", error.strerror) from None
    console.print(f"page: {page}", highlight=False, soft_wrap=True)
    return verdict


def table(verdict: Verdict) -> Table:
    """Both fleets on the full days."""
    made = Table(title=f"Shadow of {verdict.rehearsal.bundle}", title_justify="left")
    made.add_column("fleet", no_wrap=True)
    for heading in ("USD a day", "moves", "modelled"):
        made.add_column(heading, justify="right", no_wrap=True)
    sides = (
        ("bundle, on paper", verdict.ours, verdict.rehearsal.ours),
        ("orchestrator", verdict.theirs, verdict.rehearsal.theirs),
    )
    for name, usd, fleet in sides:
        shown = f"{usd.mean():.2f}" if len(usd) else "n/a"
        made.add_row(name, shown, str(fleet.moves), f"{fleet.modelled:.0%}")
    made.add_row("difference", *_difference(verdict), style="bold")
    return made


def _difference(verdict: Verdict) -> tuple[str, str, str]:
    if not len(verdict.days):
        return "n/a", "", ""
    return f"{verdict.mean[-1]:+.2f}", "", ""


def html(verdict: Verdict) -> str:
    """The page: verdict, picture, what the figures rest on; it needs no other file."""
    rehearsal = verdict.rehearsal
    facts = {
        "log": f"{rehearsal.hours.sum():.0f} hours, {len(verdict.days)} days with at least "
        f"{FULL_DAY_H:g} of them, {rehearsal.gaps} gaps left out",
        "moves": f"{rehearsal.ours.moves} on paper, {rehearsal.theirs.moves} by the orchestrator",
        "modelled": f"{rehearsal.ours.modelled:.0%} of rig-hours on paper and "
        f"{rehearsal.theirs.modelled:.0%} of the orchestrator's were on tournaments or leases, "
        "where the share of the published yield is a model",
        "check": f"the orchestrator's rigs reported {rehearsal.reported_usd:,.2f} USD before "
        f"housing; the accounting gives them {rehearsal.theirs.usd.sum():,.2f}",
        "interval": "holds at all days at once: one may look daily and stop at will; "
        "see agents/anytime.py for what it assumes",
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return _PAGE.substitute(
        title=escape(f"{rehearsal.bundle}: {verdict.word}"),
        said=escape(verdict.sentence),
        picture=_picture(verdict) if len(verdict.days) else "",
        facts=items,
    )


def _picture(verdict: Verdict) -> str:
    days = verdict.days.astype("datetime64[D]")
    shown = np.isfinite(verdict.low)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.bar(days, verdict.ours - verdict.theirs, color="#C9DCE9", label="each day")
        axes.plot(days, verdict.mean, color=BLUE, lw=2.0, label="mean so far")
        axes.fill_between(
            days,
            verdict.low,
            verdict.high,
            where=shown.tolist(),
            color=BLUE,
            alpha=0.18,
            lw=0,
            label=f"{LEVEL:.0%} confidence sequence",
        )
        axes.axhline(0.0, color=ORANGE, lw=1.4)
        axes.set_ylabel("bundle less orchestrator, USD a day")
        axes.tick_params(axis="x", labelcolor=GREY)
        axes.legend(**ABOVE)

    return svg("shadow", 3.8, draw)
