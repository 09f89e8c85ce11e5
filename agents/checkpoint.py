"""Checkpoints without pickle: weights as safetensors, observation statistics as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.run_folder import to_json, write_atomic, write_folder_atomic
from env.errors import InputError

_WEIGHTS, _STATISTICS = "policy.safetensors", "normalisation.json"


class Statistics(NamedTuple):
    """Running mean and variance of one part of the observation, both float64 of its shape."""

    mean: NDArray[np.float64]
    var: NDArray[np.float64]


class Checkpoint(NamedTuple):
    """What a stock policy is made of."""

    weights: dict[str, Tensor]
    statistics: dict[str, Statistics]


def save_checkpoint(run: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write `checkpoints/step_<step>` of a run folder as a whole or not at all; return its path."""
    path = run / "checkpoints" / f"step_{step:012d}"

    def fill(draft: Path) -> None:
        weights = {k: v.detach().cpu().contiguous() for k, v in checkpoint.weights.items()}
        save_file(weights, draft / _WEIGHTS)
        plain = {
            key: {"mean": s.mean.tolist(), "var": s.var.tolist()}
            for key, s in checkpoint.statistics.items()
        }
        write_atomic(draft / _STATISTICS, to_json({"step": step, "observation": plain}))

    if not path.exists():
        write_folder_atomic(path, fill)
    return path


def load_checkpoint(run: Path) -> Checkpoint:
    """Read the last checkpoint of a run folder; a missing or broken one is an input error."""
    paths = sorted((run / "checkpoints").glob("step_*"))
    if not paths:
        raise InputError("run", "a run folder with a checkpoint", str(run))
    try:
        weights = load_file(paths[-1] / _WEIGHTS)
        data = json.loads((paths[-1] / _STATISTICS).read_text(encoding="utf-8"))
        statistics = {
            key: Statistics(np.asarray(s["mean"], np.float64), np.asarray(s["var"], np.float64))
            for key, s in data["observation"].items()
        }
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(paths[-1]), "a readable checkpoint", str(error)) from error
    return Checkpoint(weights, statistics)
