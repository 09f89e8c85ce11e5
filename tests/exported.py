"""A small run and its bundle, for the tests of what is exported and served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock
from hydra import compose, initialize_config_dir
from learners import make_policy

import train
from agents.checkpoint import Best, load_best, save_checkpoint
from agents.config import load_config
from agents.evaluation import rivals
from agents.export import load_graph
from agents.graph import PolicyGraph
from agents.network import NetworkConfig
from agents.parity import session
from agents.rules import BreakEven
from agents.validation import Validated
from agents.worlds import Split, make_scenario
from env.catalog import CONFIG_DIR

ROOT = Path(__file__).resolve().parent.parent
OVERRIDES = ("tracking=disabled", "evaluation.tune_settings=0", "evaluation.tune_worlds=2")
NETWORK = NetworkConfig(width=16, pair_width=8, sharpness=4.0)
NOISE = 0.05  # of the last layers, which are zero before training


def small_run(folder: Path, noise: float = NOISE) -> Path:
    """A default run at its start: the tuned rule made smooth, stirred so that all layers count."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        values: dict[str, Any] = train.plain(compose("train", list(OVERRIDES)))
    config, record = load_config(values)
    rule = rivals(config, lambda _: None).rules["break_even"]
    assert isinstance(rule, BreakEven)
    policy = make_policy(make_scenario(config, Split.TRAIN), rule, NETWORK, awake=False)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(noise * torch.randn(weight.shape, generator=draw))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(record))
    score = Validated(net_usd_rig_day=0.0, gap_closed=None, moves_rig_day=0.0)
    save_checkpoint(folder, 0, Best(0, score, NETWORK, policy.state_dict()), {})
    return folder


Exported = tuple[PolicyGraph, Any]


def both(run: Path, bundle: Path) -> Exported:
    """A run's policy in torch, and as a session of onnxruntime."""
    graph = load_graph(run, load_best(run))
    return graph, session((bundle / "policy.onnx").read_bytes())


def exported(root: Path) -> Path:
    """The folder of a run with its bundle, made once by whichever worker comes first.

    `said.txt` beside the bundle is what the command printed, on both streams.
    """
    run = root / "exported" / "run"
    with FileLock(root / "exported.lock"):
        if not run.exists():
            small_run(run)
            command = [sys.executable, "-m", "agents.export", f"run={run}"]
            done = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            (run / "said.txt").write_text(done.stdout)
            assert done.returncode == 0, done.stdout
    return run
