"""What train.py and evaluate.py both end with: policies compared on paired worlds, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.config import Config
from agents.rules import Policy, Rule, make_rule
from agents.run_folder import to_json, write_atomic
from agents.scoring import Score, as_csv, score_all, summarise
from agents.tuning import tune
from agents.worlds import Split, make_scenario, world_seeds
from env.scenario import Scenario

BASELINE = "hold"


def rules(config: Config, only: str | None = None) -> dict[str, Policy]:
    """The configured rules, or `only` one of them with the baseline, tuned first if asked for."""
    settings = config.evaluation
    names = dict.fromkeys([BASELINE, *settings.rules] if only is None else [BASELINE, only])
    where = "evaluation.rules" if only is None else "policy"
    chosen = {name: make_rule(name, settings.rules.get(name, {}), where) for name in names}
    if settings.tune_settings:
        scenario = make_scenario(config, Split.TRAIN)
        seeds = world_seeds(Split.TRAIN, settings.tune_worlds)
        chosen = {n: tune(r, scenario, seeds, settings.tune_settings) for n, r in chosen.items()}
    return dict(chosen)


def compare(
    config: Config, scenario: Scenario, policies: Mapping[str, Policy], folder: Path
) -> dict[str, Any]:
    """Score policies on test worlds; write `scores.csv` and `summary.json`, return the latter."""
    seeds = world_seeds(Split.TEST, config.evaluation.worlds)
    scores = score_all(scenario, policies, seeds)
    summary = {
        "split": Split.TEST.value,
        "worlds": len(seeds),
        "first_seed": seeds[0],
        "horizon_h": scenario.horizon_h,
        "rigs": scenario.rig_count,
        "networks": list(scenario.network_names),
        "baseline": BASELINE,
        "policies": _with_knobs(summarise(scores, BASELINE, config.evaluation.resamples), policies),
    }
    write_atomic(folder / "scores.csv", as_csv(scores, seeds))
    write_atomic(folder / "summary.json", to_json(summary))
    return summary


def validation_gain(config: Config, policy: Policy) -> float:
    """Net USD per rig and day over the baseline on validation worlds: what a sweeper may see."""
    scenario = make_scenario(config, Split.VALIDATION)
    seeds = world_seeds(Split.VALIDATION, config.evaluation.validation_worlds)
    scores: dict[str, Score] = score_all(
        scenario, {"policy": policy, **rules(config, BASELINE)}, seeds
    )
    return float((scores["policy"].net_usd - scores[BASELINE].net_usd).mean())


def final_figures(summary: dict[str, Any], validation: float) -> dict[str, float]:
    """The summary's figures by flat names, as a tracker sorts runs by them."""
    figures = {f"validation/over_{BASELINE}": validation}
    for name, row in summary["policies"].items():
        gain = row[f"over_{BASELINE}"]
        figures[f"eval/{name}/net_usd_rig_day"] = row["net_usd_rig_day"]
        figures[f"eval/{name}/over_{BASELINE}"] = gain["difference"]
        figures[f"eval/{name}/over_{BASELINE}_low"] = gain["low_95"]
        figures[f"eval/{name}/over_{BASELINE}_high"] = gain["high_95"]
    return figures


def _with_knobs(figures: dict[str, Any], policies: Mapping[str, Policy]) -> dict[str, Any]:
    """The figures of each policy, and of a rule the knobs that it was scored with."""
    return {
        name: {**figures[name], "knobs": asdict(p)} if isinstance(p, Rule) else figures[name]
        for name, p in policies.items()
    }
