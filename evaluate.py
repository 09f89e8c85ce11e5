"""Score policies: `python evaluate.py run=RUN_DIR`, `bundle=DIR`, or a rule: `policy=greedy`; or
judge what a bundle would have done live: `shadow=LOG.jsonl`."""

from __future__ import annotations

if __name__ == "__main__":
    from agents.stopping import leave_at_once

    leave_at_once()  # the imports below take seconds

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from agents.bundled import bundle_of, bundled
from agents.cli import EarlierRun, earlier_run, guarded
from agents.config import Config, load_config
from agents.evaluation import compare, known_rule, one_rule, rivals, trained
from agents.stopping import leave_in_order
from agents.terminal import plain_warnings, show_rules, show_table, status
from agents.verdict import judge, shadow_log
from agents.worlds import Split, make_scenario
from env.catalog import CONFIG_DIR
from env.scenario import Scenario
from train import REFUSED, plain


def run_job(
    values: dict[str, Any], folder: Path, earlier: EarlierRun, bundle: Path | None = None
) -> None:
    """Tune the rules where they are not known, compare on test worlds, keep the scores, print."""
    plain_warnings()
    rule, only_tune = known_rule(values.pop("policy")), values.pop("tune")
    values.pop("run")
    config, _ = load_config(earlier.apply(values))
    test = make_scenario(config, Split.TEST)
    part, steps = earlier.part, dict[str, int]()
    if bundle is None:
        learned, steps = trained(config, test, earlier.folders, earlier.seeds)
    else:
        learned, part = bundled(bundle, test), part / "bundle"
    if not (learned or rule or only_tune):
        print(
            f"comparing the rules alone, without run=, bundle= or policy=, {_extent(config, test)}"
        )
    tuned = rivals(config, print)
    if only_tune:
        show_rules(tuned)
        return
    subject, rules = (learned, None) if learned else one_rule(tuned, rule)
    with status() as say:
        summary = compare(config, test, subject, tuned, folder / part, say, rules, steps)
    show_table(summary)
    print(f"report: {folder / part / 'report.html'}")


def _extent(config: Config, test: Scenario) -> str:
    worlds, rigs, hours = config.evaluation.worlds, test.rig_count, test.horizon_h
    return f"in {worlds} worlds of {rigs} rigs and {hours} hours"


def main() -> None:
    """Resolve `run=` and `bundle=` before Hydra composes, then do the job; `shadow=` has none of
    them."""
    if log := shadow_log(sys.argv[1:]):
        judge(log)
        return
    bundle, arguments = bundle_of(sys.argv[1:])
    earlier = earlier_run(arguments)
    sys.argv[1:] = earlier.arguments

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="evaluate")
    def task(composed: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        guarded(
            lambda: run_job(plain(composed), folder, earlier, bundle),
            also=REFUSED,
            swept=HydraConfig.get().mode == RunMode.MULTIRUN,
        )

    task()


def script() -> None:
    """The command line: exit codes are those of `guarded`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it finds wrong; we make it one line
    guarded(main, also=REFUSED)


if __name__ == "__main__":
    leave_in_order()
    script()
