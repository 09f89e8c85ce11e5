"""What train.py and evaluate.py both end with: policies compared on test worlds, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.checkpoint import load_best
from agents.comparison import Say, play
from agents.config import Config
from agents.headline import unlearned
from agents.report import report
from agents.rules import RULES, SHIPPED, Policy
from agents.run_folder import environment, to_json, write_atomic
from agents.summary import Row, accounts_csv, moves_csv, scores_csv, summarise
from agents.tracking import group_hash
from agents.training import load_policy
from agents.tuning import Tuned, tuned_rules
from agents.validation import Validated, Validation
from agents.worlds import Split, make_scenario, world_seeds
from env.errors import InputError
from env.scenario import Scenario

REFERENCE = "hold"  # scored beside a rule alone: what doing nothing brings


def rivals(config: Config, say: Say) -> Tuned:
    """The rules as they are best on this scenario's training worlds; tuned once, then stored."""
    settings = config.evaluation
    scenario = make_scenario(config, Split.TRAIN)
    return tuned_rules(scenario, settings.tune_settings, settings.tune_worlds, say)


def trained(
    config: Config, scenario: Scenario, runs: tuple[Path, ...], seeds: tuple[int, ...]
) -> tuple[dict[str, Policy], dict[str, int]]:
    """The policies of run folders by name, and the steps at which they were kept.

    The name is the agent's, with its seed where there are several.
    """
    kind = config.agent.kind
    names = [kind] if len(runs) == 1 else [f"{kind} seed {seed}" for seed in seeds]
    named = dict(zip(names, runs, strict=True))
    policies = {name: load_policy(run, scenario) for name, run in named.items()}
    return policies, {name: load_best(run).step for name, run in named.items()}


def known_rule(name: str | None) -> str | None:
    """The name as it is; one that no rule has is refused before anything is tuned."""
    if name is not None and name not in (names := (*RULES, *SHIPPED)):
        raise InputError("policy", f"one of {', '.join(names)}", name)
    return name


def one_rule(tuned: Tuned, name: str | None) -> tuple[dict[str, Policy], tuple[str, ...] | None]:
    """A tuned rule as the subject of a comparison, and the names of those it is compared with.

    Without a name the opponent itself, beside all others (None).
    """
    if name is None:
        return {tuned.best: tuned.rules[tuned.best]}, None
    return {name: tuned.rules[name]}, tuple(dict.fromkeys((tuned.best, REFERENCE)))


def compare(
    config: Config,
    scenario: Scenario,
    subject: Mapping[str, Policy],
    tuned: Tuned,
    folder: Path,
    say: Say,
    rules: tuple[str, ...] | None = None,
    steps: Mapping[str, int] | None = None,
) -> Row:
    """Score the subject on test worlds against the rules and the bound; keep what was found.

    subject: the policies that the headline speaks of, one for each training seed; rules: names of
    those to score beside it, all where None; steps: at which each learned policy was kept. Writes
    `summary.json`, `scores.csv`, `accounts.csv`, `moves.csv` and `report.html`, and returns the
    summary.
    """
    settings = config.evaluation
    seeds = world_seeds(Split.TEST, settings.worlds)
    compared = play(
        scenario, subject, tuned, seeds, settings.regret_worlds, settings.workers, say, rules
    )
    summary = {"split": Split.TEST.value, **summarise(compared, settings.resamples)}
    summary["warnings"] += unlearned(steps or {})
    write_atomic(folder / "summary.json", to_json(summary))
    write_atomic(folder / "scores.csv", scores_csv(compared))
    write_atomic(folder / "accounts.csv", accounts_csv(compared))
    write_atomic(folder / "moves.csv", moves_csv(compared))
    say("drawing the report")
    write_atomic(folder / "report.html", report(compared, summary, made(config)))
    return summary


def made(config: Config) -> dict[str, str]:
    """With what the figures were made, by name, as the report lists it."""
    place = environment()
    versions = ", ".join(f"{name} {v}" for name, v in place["versions"].items())
    changed = " with uncommitted changes" if place["git_changes"] else ""
    script, *arguments = place["argv"]
    return {
        "command": " ".join(("python", Path(script).name, *arguments)),
        "configuration": f"{group_hash(asdict(config))} (hash without seed and tracking)",
        "code": f"commit {place['git_commit'] or 'unknown'}{changed}",
        "versions": f"Python {place['python']}, {versions}",
        "machine": f"{place['platform']}, {place['cuda'] or 'CPU'}, torch threads: "
        f"{place['torch_threads']}",
    }


def validation(config: Config, tuned: Tuned) -> Validation:
    """The worlds that checkpoints are chosen on."""
    return _validation(config, tuned, 0)


def held_out(config: Config, tuned: Tuned, run: Path) -> Validated:
    """Score a run's policy in as many validation worlds again, which chose nothing.

    The best of several checkpoints looks better in the worlds that chose it than it is, and the
    more so the more they differ: a sweeper that ranked runs by that figure would reward noise. On
    replay these worlds share the others' dates, so only part of the luck is another. Both figures
    go to `validation.json`.
    """
    worlds = _validation(config, tuned, config.evaluation.validation_worlds)
    held = worlds.score(load_policy(run, worlds.scenario))
    chosen = load_best(run).score
    both = {"chosen": chosen._asdict(), "held_out": held._asdict()}
    write_atomic(run / "validation.json", to_json(both))
    return held


def _validation(config: Config, tuned: Tuned, first: int) -> Validation:
    scenario, count = make_scenario(config, Split.VALIDATION), config.evaluation.validation_worlds
    seeds = world_seeds(Split.VALIDATION, first + count)[first:]
    return Validation.prepare(scenario, seeds, tuned)


def final_figures(
    summary: Mapping[str, Any], chosen: Validated, held: Validated
) -> dict[str, float | None]:
    """The summary's figures by flat names, as a tracker sorts runs by them.

    chosen, held: of the kept policy in the worlds that chose it and in those held out.
    """
    figures: dict[str, float | None] = {
        f"{part}/{name}": value
        for part, validated in (("validation", chosen), ("held_out", held))
        for name, value in validated._asdict().items()
    }
    for key in _HEADLINE:
        figures[f"eval/{key}"] = summary[key]
    for name, row in summary["policies"].items():
        for key in _EACH:
            figures[f"eval/{name}/{key}"] = row[key]
    return figures


_HEADLINE = (
    "gap_closed",
    "gap_closed_low",
    "gap_closed_high",
    "gap_closed_expected",
    "gap_closed_expected_low",
    "gap_closed_expected_high",
    "headroom",
    "headroom_expected",
    "net_usd_rig_day",
    "iqm_usd_rig_day",
    "probability_of_improvement",
)
_EACH = ("net_usd_rig_day", "gap_closed", "gap_closed_low", "gap_closed_high", "moves_rig_day")
