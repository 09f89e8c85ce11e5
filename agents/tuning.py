"""The tuned rules of a scenario: known ones are loaded, others are searched for and kept.

Knobs belong to the worlds they were found in. They are stored under a hash of everything that
defines these worlds, so a scenario is never scored with another's knobs.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic.dataclasses import dataclass as typed
from torch import Tensor

from agents.rules import RULES, SHIPPED, Rule, make_rule
from agents.run_folder import write_atomic
from agents.search import Found, score_each, tune
from agents.static import best_static
from agents.worlds import Split, world_seeds
from env.errors import InputError
from env.market_spec import FILES
from env.parsing import CONFIG_DIR, STRICT, parse, read_yaml
from env.scenario import Scenario

__all__ = ["Tuned", "best_static", "load_tuned", "scenario_hash", "tuned_rules"]

FOLDER = CONFIG_DIR / "tuned"
DIGITS = 6  # of a number that are stored, and that count in the hash: last bits differ by machine
_LAW = ("beta", "own_sd", "alt_sd", "drift", "jumps_per_h", "jump_sd", "level_sd", "start_usd")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tuned:
    """The rules of a scenario with the knobs that did best in its training worlds."""

    rules: dict[str, Rule]
    best: str  # the one that did best there: the opponent to beat
    net_usd_rig_day: dict[str, float] = field(default_factory=dict)  # of each rule there
    sought: bool = True  # False: nobody looked for better knobs than the defaults


@typed(config=STRICT)
class Row:
    """A rule of a stored search."""

    knobs: dict[str, float]
    net_usd_rig_day: float  # mean over the worlds
    settings: int  # that were compared, its own defaults among them
    worlds: int  # training worlds, from the first on


@typed(config=STRICT)
class Record:
    """What the file of a scenario holds."""

    scenario: str  # in words
    date: str
    command: str
    best: str
    rules: dict[str, Row]


def tuned_rules(
    scenario: Scenario, settings: int, worlds: int, say: Say, folder: Path = FOLDER
) -> Tuned:
    """The rules tuned with `settings` random settings each in `worlds` training worlds, or more.

    scenario: on the training part of its market. A search at least as large that is stored is
    loaded; else it is made and stored. With no settings, what is not stored stays as it is.
    """
    known = _stored(scenario, folder)
    if known is not None and _covers(known, settings, worlds):
        return _tuned(known)
    record = _record(scenario, _search(scenario, settings, worlds, say))
    if settings:
        path = folder / f"{scenario_hash(scenario)}.yaml"
        try:
            write_atomic(path, yaml.safe_dump(asdict(record), sort_keys=False, width=100))
        except OSError as error:
            say(f"knobs not stored: {error.strerror}")
        else:
            say(f"knobs stored in {path.parent.name}/{path.name}")
    return _tuned(record)


def load_tuned(scenario: Scenario, folder: Path = FOLDER) -> Tuned | None:
    """The stored rules of a scenario, None where it is not known."""
    known = _stored(scenario, folder)
    return None if known is None else _tuned(known)


def scenario_hash(scenario: Scenario) -> str:
    """Hash of what defines the worlds, objective and length; not of device, paths, split or seeds.

    Files count by their content.
    """
    text = json.dumps(_facts(scenario), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_words(scenario: Scenario) -> str:
    """One line for a person who finds the knobs."""
    networks = ", ".join(n for n in scenario.network_names if n != "off")
    return (
        f"{scenario.rig_count} rigs; {networks}; {scenario.market.spec.kind} market; "
        f"{scenario.objective.kind}; {scenario.horizon_h} hours"
    )


def _search(scenario: Scenario, settings: int, worlds: int, say: Say) -> dict[str, Found]:
    """Every rule of the file: those without knobs and those as shipped as they are."""
    seeds = world_seeds(Split.TRAIN, worlds)
    start: dict[str, Rule] = {**{name: kind() for name, kind in RULES.items()}, **SHIPPED}
    fixed = {n: r for n, r in start.items() if n in SHIPPED or not r.KNOBS or not settings}
    found = {}
    for name, net in zip(fixed, score_each([*fixed.values()], scenario, seeds), strict=True):
        found[name] = Found(fixed[name], float(net.mean()), 1, worlds)
        say(f"{name}: {found[name].net_usd:.3f} USD per rig-day as it is")
    for name in (n for n in start if n not in fixed):
        found[name] = one = tune(start[name], scenario, seeds, settings)
        say(f"{name}: {one.net_usd:.3f} USD per rig-day, best of {one.settings} in {worlds} worlds")
    return {name: found[name] for name in start}


def _record(scenario: Scenario, found: Mapping[str, Found]) -> Record:
    rows = {
        name: Row(
            {knob: _rounded(value) for knob, value in asdict(one.rule).items()},
            _rounded(one.net_usd),
            one.settings,
            one.worlds,
        )
        for name, one in found.items()
    }
    return Record(
        scenario=in_words(scenario),
        date=datetime.date.today().isoformat(),
        command=_command(),
        best=max(found, key=lambda name: found[name].net_usd),
        rules=rows,
    )


def _command() -> str:
    """The command line, without the folders of this machine."""
    bare = [re.sub(r"[^=\s]*[/\\]", "", argument) for argument in sys.argv]
    return shlex.join(["python", *bare])


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _stored(scenario: Scenario, folder: Path) -> Record | None:
    path = folder / f"{scenario_hash(scenario)}.yaml"
    return parse(Record, read_yaml(path), path.name) if path.is_file() else None


def _covers(record: Record, settings: int, worlds: int) -> bool:
    """Whether a stored search tuned all of today's rules at least as thoroughly as is asked."""
    rows = record.rules
    return set(rows) == {*RULES, *SHIPPED} and all(
        rows[name].worlds >= worlds and (rows[name].settings > settings or not kind.KNOBS)
        for name, kind in RULES.items()
    )


def _tuned(record: Record) -> Tuned:
    if record.best not in record.rules:
        raise InputError("tuned: best", f"one of {', '.join(record.rules)}", record.best)
    rules = {name: make_rule(name, row.knobs, "tuned") for name, row in record.rules.items()}
    nets = {name: row.net_usd_rig_day for name, row in record.rules.items()}
    return Tuned(rules, record.best, nets, any(row.settings > 1 for row in record.rules.values()))


def _facts(scenario: Scenario) -> dict[str, Any]:
    """Everything that makes a world, by name: the order of the catalogue does not matter."""
    s, law, spec = scenario, scenario.market.law, asdict(scenario.market.spec)
    spec.pop("split")
    files = {key: _digest(spec.pop(key)) for key in FILES}
    tokens = [getattr(law, name) for name in _LAW]
    tokens += [s.token_daily_sd, s.token_turnover, s.token_pool_quote]
    sites = [s.tariff, s.pue, s.hosting, s.site_outages_per_h, s.site_outage_mean_h]
    return {
        "networks": {n.name: asdict(n) for n in s.networks},
        "tokens": _by_name(s.token_names, tokens),
        "quotes": {s.token_names[a]: s.token_names[b] for a, b in law.quotes},
        "gpus": _by_name(s.gpu_names, [*s.gpus, s.gpu_rent, s.gpu_capex]),
        "sites": _by_name(s.site_names, sites),
        "fleet": asdict(s.fleet),
        "economics": asdict(s.economics),
        "objective": asdict(s.objective),
        "market": {**spec, "files": files},
        "horizon_h": s.horizon_h,
    }


def _by_name(names: Sequence[str], columns: Sequence[Tensor]) -> dict[str, list[list[str]]]:
    """Rows of tensors [M] or [M, K] by the names of their M, as text of DIGITS digits."""
    tables = [column.cpu().double().reshape(len(names), -1).tolist() for column in columns]
    return {
        name: [[f"{v:.{DIGITS}g}" for v in table[k]] for table in tables]
        for k, name in enumerate(names)
    }


def _digest(file: str | None) -> str | None:
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
