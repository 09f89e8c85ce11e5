"""What a person sees: progress while training, and the table of policies."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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


@contextmanager
def progress(total: int, console: Console | None = None) -> Iterator[Callable[[int, float], None]]:
    """Yield `show(step, net_usd_rig_day)`: a bar on a terminal, a line now and then elsewhere."""
    console = console or Console()
    if not console.is_terminal:
        yield _lines(total, console)
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("{task.fields[net]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=total, net="")
        yield lambda step, net: bar.update(task, completed=step, net=f"{net:+.2f} USD/rig-day")


def _lines(total: int, console: Console) -> Callable[[int, float], None]:
    shown = -1

    def show(step: int, net_usd_rig_day: float) -> None:
        nonlocal shown
        part = LINES * step // total
        if part > shown:
            shown = part
            console.print(f"step {step}/{total}: {net_usd_rig_day:+.2f} USD per rig-day")

    return show


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
    table = Table(title="Rules tuned on training worlds", title_justify="left")
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
    say(
        f"headroom: {percent(summary['headroom'])} of the clairvoyant bound "
        f"({bound:.2f} USD per rig-day) lies above the tuned rule ({opponent}, {tuned:.2f})"
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


def _interval(row: dict[str, Any]) -> str:
    return f"{percent(row['gap_closed_low'])} to {percent(row['gap_closed_high'])}"


def percent(share: float | None) -> str:
    """A share as whole percents; what is not known is n/a."""
    return "n/a" if share is None else f"{share:.0%}"
