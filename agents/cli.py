"""What the two scripts share: exit codes, and a run folder as the source of a configuration."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import yaml

from agents.run_folder import read_config
from agents.stopping import INTERRUPTED
from agents.tracking import group_hash
from env.errors import InputError

T = TypeVar("T")

_ADVICE = (
    "To append",
    "Config search path",
    "See https",
    "full_key",
)  # lines of Hydra's that go too far
ELSEWHERE = ("fleet", "network", "market", "horizon", "device", "threads", "evaluation")


class JobError(Exception):
    """A job of a sweep ended with an exit code, its line printed: the others still have their turn.

    Not a SystemExit, which Hydra lets end the whole sweep.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def guarded(
    job: Callable[[], T],
    *,
    also: tuple[type[Exception], ...] = (),
    failed: tuple[type[Exception], ...] = (),
    swept: bool = False,
) -> T:
    """Run a job; bad input leaves with exit code 2, an interrupt with 130, what failed of itself
    with 1, each with one line.

    Called inside Hydra's task too: Hydra adds a line of its own to what passes through it. A job of
    a sweep (`swept`) leaves as JobError, and the sweep with the exit code of its first such job.
    """
    refused: tuple[type[Exception], ...] = (InputError, *also)
    leave = JobError if swept else SystemExit
    try:
        return job()
    except JobError as ended:
        raise SystemExit(ended.code) from None
    except refused as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        raise leave(2) from None
    except failed as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        raise leave(1) from None
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _one_line(error: BaseException) -> str:
    """The message without Hydra's advice on syntax and paths, then its cause: the key's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not isinstance(error, InputError):
        lines = list(takewhile(lambda line: not line.startswith(_ADVICE), lines))
        if error.__cause__ is not None:
            lines += str(error.__cause__).splitlines()[:1]
        if key := getattr(error, "full_key", None):
            lines.insert(0, f"{key}:")
    return " ".join(lines)


@dataclass(frozen=True)
class EarlierRun:
    """`run=` or `resume=` of a command: its folders, their configuration, what else is asked."""

    arguments: list[str]  # for Hydra
    folders: tuple[Path, ...] = ()  # one for each training seed
    config: dict[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()  # top-level keys that the command line sets

    seeds: tuple[int, ...] = ()  # of the folders

    @property
    def part(self) -> Path:
        """Where in the run folder the scores go: those of other worlds beside the run's own."""
        if not self.changed:
            return Path("evaluation")
        asked = " ".join(sorted(self.arguments))
        return Path("evaluation", hashlib.sha256(asked.encode()).hexdigest()[:8])

    def apply(self, composed: Mapping[str, Any]) -> dict[str, Any]:
        """The run's own configuration, with what the command line changed from the composed one."""
        if not self.folders:
            return dict(composed)
        return {**self.config, **{key: composed[key] for key in self.changed}}


def earlier_run(arguments: list[str]) -> EarlierRun:
    """Resolve `run=FOLDER` before Hydra composes; `run=A,B,C` are runs that differ in their seed.

    Scoring elsewhere (other worlds, other evaluation settings) is allowed; what contradicts the run
    is an InputError. The run's own overrides come first, so that `market.prices=` finds its group.
    One run is scored in its own folder, several in one of their own.
    """
    runs = [a.removeprefix("run=") for a in arguments if a.startswith("run=")]
    if not runs or runs[-1] in ("", "null"):
        return EarlierRun(arguments)
    folders = _folders(runs[-1])
    config = read_config(folders[0])
    asked = [a for a in arguments if not a.startswith("run=")]
    changed: list[str] = []
    kept: list[str] = []
    for argument in asked:
        key = argument.lstrip("+~").split("=")[0]
        top = key.split(".")[0].split("@")[0]
        if top in ELSEWHERE:
            changed.append(top)
        elif not argument.startswith("-") and top != "hydra":
            _agrees(config, argument, "run")
            continue
        kept.append(argument)
    own, in_place = _own_overrides(folders[0]), _in_place(folders[0])
    return EarlierRun(
        [*own, *kept, f"run={_quoted(runs[-1])}", *(in_place if len(folders) == 1 else [])],
        folders,
        config,
        tuple(dict.fromkeys(changed)),
        _seeds(folders),
    )


def resumed_run(arguments: list[str]) -> EarlierRun:
    """Resolve `resume=FOLDER` before Hydra composes: the run's own configuration, in its folder.

    Nothing may differ from what the run was made with: an override that does is an InputError.
    """
    named = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    asked = [a for a in arguments if not a.startswith("resume=")]
    if not named or named[-1] in ("", "null"):
        return EarlierRun(asked)
    folder = Path(named[-1])
    config = read_config(folder, "resume")
    kept = [a for a in asked if a.startswith(("-", "hydra."))]
    for argument in asked:
        if argument in ("-m", "--multirun"):
            raise InputError(argument, "one run at a time beside resume=", named[-1])
        if argument not in kept:
            _agrees(config, argument, "resume")
    arguments = [*_own_overrides(folder, "resume"), *kept, *_in_place(folder)]
    return EarlierRun(arguments, (folder,), config)


def _in_place(folder: Path) -> list[str]:
    """What keeps Hydra from making an output folder."""
    return [f"hydra.run.dir={_quoted(str(folder))}", "hydra.output_subdir=null"]


def _folders(value: str) -> tuple[Path, ...]:
    """One folder, or several between commas; a folder whose name has a comma is one."""
    if Path(value).is_dir() or "," not in value:
        return (Path(value),)
    return tuple(Path(part.strip()) for part in value.strip("[]").split(","))


def _seeds(folders: tuple[Path, ...]) -> tuple[int, ...]:
    """The seeds of runs that are alike otherwise, so that their scores may be pooled."""
    configs = [read_config(folder) for folder in folders]
    if len({group_hash(config) for config in configs}) > 1:
        raise InputError("run", "runs that differ in their seed alone", [str(f) for f in folders])
    seeds = tuple(int(config["seed"]) for config in configs)
    if len(set(seeds)) < len(seeds):
        raise InputError("run", "a different seed in each run", list(seeds))
    return seeds


def _agrees(config: dict[str, Any], argument: str, beside: str) -> None:
    """Refuse an override whose value is not the run's own."""
    own: Any = config
    key = argument.lstrip("+~").split("=")[0]
    for part in key.split("."):
        own = own.get(part) if isinstance(own, dict) else None
    value = yaml.safe_load(argument.partition("=")[2] or "null")
    if own is None or own != value:
        expected = f"what the run was made with ({own})" if own is not None else "not to be given"
        raise InputError(key, f"{expected} beside {beside}=", value)


def _own_overrides(folder: Path, key: str = "run") -> list[str]:
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        raise InputError(key, "a run folder (with .hydra/overrides.yaml)", str(folder))
    overrides = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    return [str(a) for a in overrides if not str(a).startswith("hydra.")]


def _quoted(text: str) -> str:
    """A text as a value in Hydra's grammar, whatever characters it has."""
    text = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
