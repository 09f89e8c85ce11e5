"""Train a policy: `python train.py`, with Hydra overrides. See README.md for what it leaves."""

from __future__ import annotations

if __name__ == "__main__":
    from agents.stopping import leave_at_once

    leave_at_once()  # the imports below take seconds

import math
import os
import sys
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.checkpoint import load_best, load_training, started
from agents.cli import EarlierRun, guarded, resumed_run
from agents.config import load_config
from agents.evaluation import compare, final_figures, held_out, rivals, validation
from agents.export import export
from agents.lineage import Digests, bundle_files, checkpoint_files, score_files, write_lineage
from agents.outlook import Policy
from agents.parity import ParityError
from agents.recording import Record
from agents.run_folder import start_run
from agents.stopping import leave_in_order
from agents.terminal import plain_warnings, progress, show_table, status
from agents.tracking import Tracker
from agents.training import load_policy, resumable, train
from agents.worlds import Split, make_scenario
from env.catalog import CONFIG_DIR

REFUSED = (HydraException, OmegaConfBaseException)  # what Hydra raises at a bad command line


def run_job(values: dict[str, Any], folder: Path, earlier: EarlierRun) -> float:
    """Train, compare on test worlds, print; returns the gap closed in held-out worlds."""
    plain_warnings()
    config, record = load_config(earlier.apply(values))
    training, test = make_scenario(config, Split.TRAIN), make_scenario(config, Split.TEST)
    resumes = bool(earlier.folders) and started(folder)  # else it was stopped too early: begin anew
    left, best = (load_training(folder), load_best(folder)) if resumes else (None, None)
    if left is None:
        start_run(folder, record)
    tuned = rivals(config, print)
    resumed_at = left["num_timesteps"] if left else None
    with resumable(folder), Tracker(folder, config.tracking, record, print, resumed_at) as tracker:
        with status() as say:
            say("bounding what can be earned in the validation worlds")
            worlds = validation(config, tuned)
        with progress(config.agent.total_timesteps) as show:
            kept = Record(config.agent, folder, tracker, worlds, show, best)
            train(config.agent, training, tuned, config.seed, kept, left)
        best = load_best(folder)
        with status() as say:
            subject: dict[str, Policy] = {config.agent.kind: load_policy(folder, test)}
            steps: dict[str, int] = {config.agent.kind: best.step}
            summary = compare(config, test, subject, tuned, folder / "evaluation", say, steps=steps)
            say("scoring the policy in validation worlds that did not choose it")
            held = held_out(config, tuned, folder)
        digests = write_lineage(folder, config.market)
        publish(tracker, folder, digests)
        tracker.summary(final_figures(summary, best.score, held))
        with status() as say:
            say("exporting the policy, and holding its graph against torch")
            bundle = export(folder, config, record, tuned)
        tracker.artifact("bundle", bundle_files(bundle), digests["evaluation"])
    show_table(summary)
    print(f"report: {folder / 'evaluation' / 'report.html'}")
    print(f"bundle: {bundle}")
    return math.nan if held.gap_closed is None else held.gap_closed


def publish(tracker: Tracker, folder: Path, digests: Digests) -> None:
    """What a finished run leaves, as tables and as artifacts that name what they were made from."""
    for name in ("moves", "accounts"):
        tracker.table(name, folder / "evaluation" / f"{name}.csv")
    tracker.data(digests["data"])
    tracker.artifact("checkpoint", checkpoint_files(folder), digests["data"])
    tracker.artifact("evaluation", score_files(folder), digests["checkpoint"])


def main() -> None:
    """Resolve `resume=` before Hydra composes, then do the job, or each job of a sweep."""
    earlier = resumed_run(sys.argv[1:])
    sys.argv[1:] = earlier.arguments

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
    def task(composed: DictConfig) -> float:
        folder = Path(HydraConfig.get().runtime.output_dir)
        return guarded(
            lambda: run_job(plain(composed), folder, earlier),
            also=REFUSED,
            failed=(ParityError,),
            swept=HydraConfig.get().mode == RunMode.MULTIRUN,
        )

    task()


def plain(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain data; a value that is still missing is refused."""
    data = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return cast(dict[str, Any], data)


def script() -> None:
    """The command line: exit codes are those of `guarded`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it finds wrong; we make it one line
    guarded(main, also=REFUSED)


if __name__ == "__main__":
    leave_in_order()
    script()
