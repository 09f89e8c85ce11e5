"""What a person sees: progress while training, and the table of policies."""

from __future__ import annotations

import datetime
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from agents.headline import rule_in_words
from agents.recording import Show
from agents.tuning import Tuned

LINES = 10  # of progress where there is no terminal


def plain_warnings() -> None:
    """Show a warning as one line, and the same one only once, however many scenarios it is of."""
    said: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in said:
            said.add(text)
            print(f"warning: {text}", file=sys.stderr)

    warnings.showwarning = show
    # joblib's comment on results that nobody fetched: whoever stopped the scoring knows
    warnings.filterwarnings(
        "ignore", r"(\d+| Additionally, \d+) tasks (have been succ|which were st)"
    )


@contextmanager
def progress(total: int, console: Console | None = None) -> Iterator[Show]:
    """Yield `show(step, net USD per rig-day, gap closed)`: a bar on a terminal, else some lines."""
    console = console or Console()
    if not console.is_terminal:
        yield _lines(total, console)
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task, pace = bar.add_task("training", total=total, said=""), Pace(total)
        yield lambda step, net, gap: bar.update(
            task, completed=min(step, total), said=pace.said(step, net, gap)
        )


def _lines(total: int, console: Console) -> Show:
    shown, pace = -1, Pace(total)

    def show(step: int, net_usd_rig_day: float, gap_closed: float | None) -> None:
        nonlocal shown
        said, part = pace.said(step, net_usd_rig_day, gap_closed), LINES * step // total
        if part > shown:
            shown = part
            console.print(f"step {step}/{total}: {said}", highlight=False, soft_wrap=True)

    return show


class Pace:
    """How fast training goes, from its own first step on."""

    def __init__(self, total: int) -> None:
        self._total, self._begin = total, monotonic()
        self._first: int | None = None  # step at which this process began

    def said(self, step: int, net_usd_rig_day: float, gap_closed: float | None) -> str:
        """What is worth knowing after a rollout that ended at `step`."""
        now = monotonic()
        parts = [f"{net_usd_rig_day:+.2f} USD per rig-day"]
        if gap_closed is not None:
            parts.append(f"validation gap closed {gap_closed:.1%}")
        if self._first is None:
            self._first, self._begin = step, now
        else:
            speed = (step - self._first) / max(now - self._begin, 1e-9)
            left = datetime.timedelta(seconds=round(max(self._total - step, 0) / speed))
            parts += [f"{speed:,.0f} steps/s", f"{left} left"]
        return ", ".join(parts)


@contextmanager
def status(console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Yield `say(text)`: what is being done, in one line that changes on a terminal."""
    console = console or Console()
    if not console.is_terminal:
        yield lambda text: console.print(text, highlight=False, soft_wrap=True)
        return
    with console.status("starting") as line:
        yield line.update


def show_rules(tuned: Tuned, console: Console | None = None) -> None:
    """Print the knobs of a scenario's rules; the best one is the opponent."""
    title = "Rules tuned on training worlds" if tuned.sought else "Rules as they are, none tuned"
    table = Table(title=title, title_justify="left")
    table.add_column("rule", no_wrap=True)
    table.add_column("knobs")
    for name, rule in tuned.rules.items():
        knobs = ", ".join(f"{knob} {value:.4g}" for knob, value in asdict(rule).items())
        table.add_row(name, knobs or "none", style="bold" if name == tuned.best else None)
    (console or Console()).print(table)


def show_table(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print a `summary.json`: headroom, policies, what may be said of the subject."""
    console = console or Console()

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, soft_wrap=True)

    opponent, bound = summary["opponent"], summary["clairvoyant_usd_rig_day"]
    tuned = summary["policies"][opponent]["net_usd_rig_day"]
    rule = rule_in_words(summary["rules_tuned"])
    say(
        f"headroom: {percent(summary['headroom'])} of the clairvoyant bound "
        f"({bound:.2f} USD per rig-day) lies above the {rule} ({opponent}, {tuned:.2f})"
    )
    say(
        "without foresight of leases, on average: headroom "
        f"{percent(summary['headroom_expected'])} of the bound "
        f"({summary['bound_expected_usd_rig_day']:.2f}), gap closed "
        f"{percent(summary['gap_closed_expected'])}, 95 % interval "
        f"{_interval(summary, 'gap_closed_expected')}"
    )
    for warning in summary["warnings"]:
        say(f"warning: {warning}", "bold red")
    console.print(_policies(summary))
    say(
        f"{', '.join(summary['subject'])}: {summary['verdict']} (gap closed "
        f"{percent(summary['gap_closed'])}, 95 % interval {_interval(summary)})",
        "bold",
    )


def _policies(summary: dict[str, Any]) -> Table:
    title = (
        f"Net USD per rig-day, {summary['worlds']} paired {summary['split']} worlds, "
        f"{summary['rigs']} rigs, {summary['horizon_h']} hours"
    )
    table = Table(title=title, title_justify="left", pad_edge=False, collapse_padding=True)
    table.add_column("policy", no_wrap=True)
    for heading in ("net USD", "gap closed", "95 % interval", "moves/day"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in summary["policies"].items():
        main = name in summary["subject"]
        table.add_row(
            name,
            f"{row['net_usd_rig_day']:.3f}",
            percent(row["gap_closed"]),
            _interval(row),
            f"{row['moves_rig_day']:.3f}",
            style="bold" if main else None,
        )
    return table


def _interval(row: dict[str, Any], gap: str = "gap_closed") -> str:
    return f"{percent(row[f'{gap}_low'])} to {percent(row[f'{gap}_high'])}"


def percent(share: float | None) -> str:
    """A share as whole percents; what is not known is n/a."""
    return "n/a" if share is None else f"{share:.0%}"
