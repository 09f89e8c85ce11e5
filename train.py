"""Train a policy: `python train.py`, with Hydra overrides. See README.md for what it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.cli import guarded
from agents.config import load_config
from agents.evaluation import compare, final_figures, rivals, validation_gap
from agents.rules import Policy
from agents.run_folder import start_run
from agents.stock import train
from agents.terminal import plain_warnings, progress, show_table, status
from agents.tracking import Tracker
from agents.worlds import Split, make_scenario
from env.catalog import CONFIG_DIR

REFUSED = (HydraException, OmegaConfBaseException)  # what Hydra raises at a bad command line


def run_job(values: dict[str, Any], folder: Path) -> float:
    """Train, compare on test worlds, print; returns validation's gap closed, for sweepers."""
    plain_warnings()
    config, record = load_config(values)
    training, test = make_scenario(config, Split.TRAIN), make_scenario(config, Split.TEST)
    tuned = rivals(config, print)
    start_run(folder, record)
    with Tracker(folder, config.tracking, record) as tracker:
        with progress(config.agent.total_timesteps) as show:
            policy = train(config.agent, training, config.seed, folder, tracker, show)
        with status() as say:
            subject: dict[str, Policy] = {config.agent.kind: policy}
            summary = compare(config, test, subject, tuned, folder / "evaluation", say)
            gap = validation_gap(config, policy, tuned, say)
        tracker.summary(final_figures(summary, gap))
    show_table(summary)
    print(f"run folder: {folder}")
    return gap


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
def main(composed: DictConfig) -> float:
    """One job of the command line, or of a sweep."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    return guarded(lambda: run_job(plain(composed), folder), also=REFUSED)


def plain(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain data; a value that is still missing is refused."""
    data = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return cast(dict[str, Any], data)


def script() -> None:
    """The command line: exit codes are those of `guarded`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it finds wrong; we make it one line
    guarded(main, also=REFUSED)


if __name__ == "__main__":
    script()
