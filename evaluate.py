"""Score policies: `python evaluate.py run=RUN_DIR`, or a rule alone: `policy=greedy`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from agents.cli import EarlierRun, earlier_run, guarded
from agents.config import load_config
from agents.evaluation import compare, rules
from agents.stock import load_policy
from agents.terminal import plain_warnings, show_table
from agents.worlds import Split, make_scenario
from env.catalog import CONFIG_DIR
from train import REFUSED, plain


def run_job(values: dict[str, Any], folder: Path, earlier: EarlierRun) -> None:
    """Compare on test worlds, keep the scores, print."""
    plain_warnings()
    only = values.pop("policy")
    values.pop("run")
    config, _ = load_config(earlier.apply(values))
    test = make_scenario(config, Split.TEST)
    policies = rules(config, only)
    if earlier.folder is not None:
        trained = load_policy(config.agent, test, earlier.folder)
        policies = {config.agent.kind: trained, **policies}
    show_table(compare(config, test, policies, folder / earlier.part))


def main() -> None:
    """Resolve `run=` before Hydra composes, then do the job."""
    earlier = earlier_run(sys.argv[1:])
    sys.argv[1:] = earlier.arguments

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="evaluate")
    def task(composed: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        guarded(lambda: run_job(plain(composed), folder, earlier), also=REFUSED)

    task()


def script() -> None:
    """The command line: exit codes are those of `guarded`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it finds wrong; we make it one line
    guarded(main, also=REFUSED)


if __name__ == "__main__":
    script()
