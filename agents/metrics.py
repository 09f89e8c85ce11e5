"""A run's own record of what was measured: rows of CSV files, on disk once they are written."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import IO, Any

from agents.run_folder import write_atomic

METRICS, TIMING = "metrics.csv", "timing.csv"


class Rows:
    """`metrics.csv`, a function of the configuration, and `timing.csv`, what the clock said.

    resumed_at: the step from which an earlier record goes on; later rows are dropped. None begins
    a new one.
    """

    def __init__(self, run: Path, resumed_at: int | None = None) -> None:
        self._run, self._resumed_at = run, resumed_at
        self._files: dict[str, tuple[IO[str], csv.DictWriter[str]]] = {}
        self._start, self._last = time.monotonic(), (0.0, resumed_at or 0)
        if resumed_at is not None:
            for name in (METRICS, TIMING):
                _drop_rows(run / name, resumed_at)

    def close(self) -> None:
        """Close the files."""
        for file, _ in self._files.values():
            file.close()

    def log(self, metrics: dict[str, Any]) -> float:
        """Append a row at `global_step` to each file; returns steps per second since the last."""
        elapsed, step = time.monotonic() - self._start, metrics["global_step"]
        before, last_step = self._last
        speed = round((step - last_step) / max(elapsed - before, 1e-9), 1)
        timing = {"global_step": step, "elapsed_s": round(elapsed, 3), "steps_per_s": speed}
        self._last = (elapsed, step)
        self._append(METRICS, metrics)
        self._append(TIMING, timing)
        return speed

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if name not in self._files:
            path = self._run / name
            goes_on = self._resumed_at is not None and path.is_file()
            stream = path.open("a" if goes_on else "w", newline="", encoding="utf-8")
            self._files[name] = (stream, csv.DictWriter(stream, list(row), lineterminator="\n"))
            if not goes_on:
                self._files[name][1].writeheader()
        file, writer = self._files[name]
        writer.writerow(row)
        file.flush()


def _drop_rows(path: Path, after: int) -> None:
    """Keep the rows of an earlier part of the run, up to the step at which it is resumed."""
    if not path.is_file():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.partition(",")[0]) <= after]
    write_atomic(path, "".join((header, *kept)))
