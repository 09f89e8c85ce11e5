"""What a person sees: progress while training, and the table of policies."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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


def show_table(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print the policies of a `summary.json` beside their difference to its baseline."""
    console = console or Console()
    baseline = summary["baseline"]
    title = (
        f"Net USD per rig-day, {summary['worlds']} paired {summary['split']} worlds, "
        f"{summary['rigs']} rigs, {summary['horizon_h']} hours"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for heading in ("net USD", f"over {baseline}", "95 % interval", "moves/day"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in summary["policies"].items():
        gain = row[f"over_{baseline}"]
        compared = (
            f"{gain['difference']:+.3f}",
            f"{gain['low_95']:+.3f} to {gain['high_95']:+.3f}",
        )
        table.add_row(
            name,
            f"{row['net_usd_rig_day']:.3f}",
            *(("", "") if name == baseline else compared),
            f"{row['moves_rig_day']:.3f}",
        )
    console.print(table)
