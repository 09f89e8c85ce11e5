"""The record of a run: our own flushed CSV first, Weights & Biases as a sink that never hurts.

wandb is imported here and nowhere else, and only when it is used.
"""

from __future__ import annotations

import csv
import hashlib
import json
import netrc
import os
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from agents.run_folder import to_json, write_atomic

Mode = Literal["online", "offline", "disabled"]
_JOB_TYPE = "train"
_INIT_TIMEOUT_S = 20.0  # for a server that does not answer


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class TrackingConfig:
    """Where W&B sends to; auto = online with a key, else offline."""

    mode: Literal["auto", "online", "offline", "disabled"]
    project: str
    entity: str | None
    name: str | None


def has_key() -> bool:
    """True if this machine has a W&B key, in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        login = netrc.netrc(os.environ.get("NETRC")).authenticators(
            urllib.parse.urlparse(address).hostname or ""
        )
    except (OSError, netrc.NetrcParseError):
        return False
    return login is not None


def choose_mode(config: TrackingConfig, say: Callable[[str], None]) -> Mode:
    """The mode to use; *auto* says in one line what it came to."""
    if config.mode != "auto":
        return config.mode
    if has_key():
        say("W&B: online")
        return "online"
    say("W&B: no key found, so this run is recorded offline (`wandb sync` uploads it)")
    return "offline"


def group_hash(plain: dict[str, Any]) -> str:
    """Short hash of a configuration without its seed: runs that differ in the seed share it."""
    rest = {key: value for key, value in plain.items() if key not in ("seed", "tracking")}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:8]


class Tracker:
    """One job's record: `metrics.csv` (a function of the configuration), `timing.csv`, W&B.

    resumed_at: the step from which an earlier job's record goes on; None begins a new one.
    """

    def __init__(
        self,
        run: Path,
        config: TrackingConfig,
        plain: dict[str, Any],
        say: Callable[[str], None] = print,
        resumed_at: int | None = None,
    ) -> None:
        self._run, self._config, self._plain, self._say = run, config, plain, say
        self._resumed_at = resumed_at
        self._wandb: Any = None
        self._files: dict[str, tuple[IO[str], csv.DictWriter[str]]] = {}
        self._start, self._last = time.monotonic(), (0.0, resumed_at or 0)

    def __enter__(self) -> Self:
        if self._resumed_at is not None:
            for name in ("metrics.csv", "timing.csv"):
                _drop_rows(self._run / name, self._resumed_at)
        mode = choose_mode(self._config, self._say)
        if mode != "disabled":
            self._open(mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file, _ in self._files.values():
            file.close()
        self._safely(lambda: self._wandb.finish(exit_code=0 if kind is None else 1))

    def log(self, metrics: dict[str, Any]) -> None:
        """Record a row of metrics at `global_step`; the clock's figures go to their own file."""
        elapsed, step = time.monotonic() - self._start, metrics["global_step"]
        before, last_step = self._last
        timing = {
            "global_step": step,
            "elapsed_s": round(elapsed, 3),
            "steps_per_s": round((step - last_step) / max(elapsed - before, 1e-9), 1),
        }
        self._last = (elapsed, step)
        self._append("metrics.csv", metrics)
        self._append("timing.csv", timing)
        both = {**metrics, "time/steps_per_s": timing["steps_per_s"]}
        known = {name: value for name, value in both.items() if value is not None}
        self._safely(lambda: self._wandb.log(known))

    def summary(self, figures: Mapping[str, float | None]) -> None:
        """Final figures, by name, for the W&B run's summary."""
        self._safely(lambda: self._wandb.summary.update(figures))

    def artifact(self, kind: str, files: Iterable[Path], made_from: Mapping[str, Any]) -> None:
        """Files of the run as a W&B artifact `KIND-ID`; made_from: hashes of their sources."""
        self._safely(lambda: self._log_artifact(kind, files, dict(made_from)))

    def _log_artifact(self, kind: str, files: Iterable[Path], made_from: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self._wandb.id}", kind, metadata=made_from)
        for file in files:
            artifact.add_file(str(file), name=file.name)
        self._wandb.log_artifact(artifact)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if name not in self._files:
            path = self._run / name
            goes_on = self._resumed_at is not None and path.is_file()
            stream = path.open("a" if goes_on else "w", newline="", encoding="utf-8")
            self._files[name] = (stream, csv.DictWriter(stream, list(row), lineterminator="\n"))
            if not goes_on:
                self._files[name][1].writeheader()
        file, writer = self._files[name]
        writer.writerow(row)
        file.flush()

    def _open(self, mode: Mode) -> None:
        """Start W&B, offline where online fails; whatever its trouble, the run goes on."""
        modes: tuple[Mode, ...] = (mode, "offline") if mode == "online" else (mode,)
        identity = self._identity()
        for attempt in modes:
            try:
                self._wandb = self._init(attempt, identity)
            except Exception as error:
                self._say(f"W&B: could not start {attempt} ({_first_line(error)})")
                identity["id"] = secrets.token_hex(4)  # the other stays taken in this process
            else:
                record = {**identity, "job_type": _JOB_TYPE, "mode": attempt}
                write_atomic(self._run / "wandb.json", to_json(record))
                return

    def _identity(self) -> dict[str, str]:
        """Ours, so that a resumed run goes on under the same name."""
        path = self._run / "wandb.json"
        if self._resumed_at is not None and path.is_file():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            return {key: str(earlier[key]) for key in ("id", "name", "group")}
        return {
            "id": secrets.token_hex(4),
            "name": self._config.name or "_".join(self._run.resolve().parts[-2:]),
            "group": group_hash(self._plain),
        }

    def _init(self, mode: Mode, identity: dict[str, str]) -> Any:
        import wandb

        quiet = wandb.Settings(silent=True, console="off", save_code=False)
        wandb.setup(quiet)  # the process too: else it comments on other modules' names at the end
        run = wandb.init(
            id=identity["id"],
            name=identity["name"],
            group=identity["group"],
            job_type=_JOB_TYPE,
            project=self._config.project,
            entity=self._config.entity,
            dir=self._run,
            mode=mode,
            resume="allow",
            config=self._plain,
            settings=wandb.Settings(init_timeout=_INIT_TIMEOUT_S),
        )
        run.define_metric("*", step_metric="global_step")
        return run

    def _safely(self, call: Callable[[], Any]) -> None:
        """Run a W&B call; the first failure is said once and ends the use of W&B."""
        if self._wandb is None:
            return
        try:
            call()
        except Exception as error:
            self._wandb = None
            self._say(f"W&B: stopped recording there ({_first_line(error)})")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _drop_rows(path: Path, after: int) -> None:
    """Keep the rows of an earlier part of the run, up to the step at which it is resumed."""
    if not path.is_file():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.partition(",")[0]) <= after]
    write_atomic(path, "".join((header, *kept)))
