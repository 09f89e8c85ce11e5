"""What a run's results came from, by SHA-256: data, checkpoint, scores and bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from agents.checkpoint import last_checkpoint
from agents.run_folder import to_json, write_atomic
from agents.worlds import data_files

Digests = dict[str, dict[str, str]]


def checkpoint_files(run: Path) -> list[Path]:
    """The policy of a run, and the configuration that made it."""
    folder = last_checkpoint(run)
    return [folder / "policy.safetensors", folder / "policy.json", run / "config.yaml"]


def score_files(run: Path) -> list[Path]:
    """The scores of a run's policy."""
    folder = run / "evaluation"
    return [
        folder / name
        for name in ("summary.json", "scores.csv", "accounts.csv", "moves.csv", "report.html")
    ]


def write_lineage(run: Path, market: dict[str, Any]) -> Digests:
    """Write `lineage.json` of a finished run and return it: by stage, SHA-256 of each file."""
    stages = {
        "data": data_files(market),
        "checkpoint": checkpoint_files(run),
        "evaluation": [path for path in score_files(run) if path.suffix != ".html"],
    }
    digests = {stage: digest(files) for stage, files in stages.items()}
    write_atomic(run / "lineage.json", to_json(digests))
    return digests


def read_lineage(run: Path) -> Digests:
    """What `write_lineage` left; nothing where a run has not got so far."""
    path = run / "lineage.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def add_bundle(run: Path, bundle: Path) -> None:
    """Make a bundle the last link of a run's `lineage.json`."""
    digests = read_lineage(run) | {"bundle": digest(bundle_files(bundle))}
    write_atomic(run / "lineage.json", to_json(digests))


def bundle_files(bundle: Path) -> list[Path]:
    """The files of a bundle."""
    return sorted(bundle.iterdir())


def digest(files: list[Path]) -> dict[str, str]:
    """SHA-256 of each file by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
