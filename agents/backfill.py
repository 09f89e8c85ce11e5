"""Add to W&B what offline runs could not say there: which artifacts each run was made from.

    wandb sync RUN_DIR/wandb/offline-run-*     # first: upload the runs
    python -m agents.backfill RUN_DIR...       # then: their links, one line each

Exit code 2 with one line where there is no key, no server or no such run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from agents.cli import guarded
from agents.tracking import add_links


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m agents.backfill", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    for run in parser.parse_args(arguments).runs:
        guarded(lambda run=run: add_links(run))  # type: ignore[misc]


if __name__ == "__main__":
    main()
