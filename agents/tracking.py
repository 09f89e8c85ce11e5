"""The record of a run: our own rows first, and Weights & Biases as a sink that never hurts.

wandb is imported here and nowhere else, and only when it is used.
"""

from __future__ import annotations

import csv
import hashlib
import json
import netrc
import os
import secrets
import shlex
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from agents.metrics import Rows
from agents.run_folder import read_config, to_json, write_atomic
from env.errors import InputError

Mode = Literal["online", "offline", "disabled"]
_JOB_TYPE = "train"
_INIT_TIMEOUT_S = 20.0  # for a server that does not answer
# where `wandb login` leaves a key; wandb 0.31 knows its server by both (wandb/sdk/lib/urls.py)
_SERVERS = ("https://api.wandb.ai", "https://api.forge.coreweave.com")


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
    own = os.environ.get("WANDB_BASE_URL")
    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    servers = (own,) if own else _SERVERS
    hosts = [urllib.parse.urlparse(server).hostname or "" for server in servers]
    return any(logins.authenticators(host) is not None for host in hosts)


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
    return _short({key: value for key, value in plain.items() if key not in ("seed", "tracking")})


def artifact_name(stage: str, run_id: str, digests: Mapping[str, str]) -> str:
    """Data is named by its content, which many runs share; what a run makes is named by the run."""
    return f"{stage}-{_short(dict(digests)) if stage == 'data' else run_id}"


def add_links(run: Path, say: Callable[[str], None] = print) -> None:
    """Mark in W&B what a synced run used: its data, and of its own stages all but the last.

    One line for each link. InputError names what is missing: the run's record, a key, the server,
    the run there or an artifact of it.
    """
    identity, lineage = _read(run, "wandb.json"), _read(run, "lineage.json")
    stages = [(stage, digests) for stage, digests in lineage.items() if digests]
    if not has_key():
        raise InputError("WANDB_API_KEY", "a W&B key, there or from `wandb login`", "none")
    import wandb

    wandb.setup(_quiet())
    kept = read_config(run)["tracking"]
    place = "/".join(part for part in (kept["entity"], kept["project"]) if part)
    try:
        api = wandb.Api(timeout=round(_INIT_TIMEOUT_S))
        user = api.run(f"{place}/{identity['id']}")
        for stage, digests in stages[:-1]:
            name = artifact_name(stage, identity["id"], digests)
            user.use_artifact(api.artifact(f"{place}/{name}:latest"))
            say(f"W&B: run {identity['name']} ({identity['id']}) uses {name}")
    except Exception as error:  # of several families, from wandb's own to those of its transport
        expected = f"a server with the synced run {place}/{identity['id']} and its artifacts"
        raise InputError("W&B", expected, _first_line(error)) from error


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
        self._online = False

    def __enter__(self) -> Self:
        self._rows = Rows(self._run, self._resumed_at)
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
        self._rows.close()
        self._safely(lambda: self._wandb.finish(exit_code=0 if kind is None else 1))
        if kind is None and self._online and (self._run / "lineage.json").is_file():
            self._link()

    def _link(self) -> None:
        """Add the links of a run whose artifacts are uploaded; training is not hurt without."""
        try:
            add_links(self._run, self._say)
        except InputError as error:
            self._say(
                f"{error}; `python -m agents.backfill {shlex.quote(str(self._run))}` tries again"
            )

    def log(self, metrics: dict[str, Any]) -> None:
        """Record a row of metrics at `global_step`; the clock's figures go to their own file."""
        both = {**metrics, "time/steps_per_s": self._rows.log(metrics)}
        known = {name: value for name, value in both.items() if value is not None}
        self._safely(lambda: self._wandb.log(known))

    def summary(self, figures: Mapping[str, float | None]) -> None:
        """Final figures, by name, for the W&B run's summary."""
        self._safely(lambda: self._wandb.summary.update(figures))

    def table(self, name: str, source: Path) -> None:
        """A CSV file of the run as a W&B table."""
        self._safely(lambda: self._log_table(name, source))

    def data(self, digests: Mapping[str, str]) -> None:
        """What the run was made from, by hashes: the files themselves stay where they are."""
        if digests:
            self._safely(lambda: self._log_artifact("data", (), {}, digests))

    def artifact(self, kind: str, files: Iterable[Path], made_from: Mapping[str, Any]) -> None:
        """Files of the run as a W&B artifact `KIND-ID`; made_from: hashes of their sources."""
        self._safely(lambda: self._log_artifact(kind, files, made_from, {}))

    def _log_artifact(
        self,
        kind: str,
        files: Iterable[Path],
        made_from: Mapping[str, Any],
        digests: Mapping[str, str],
    ) -> None:
        import wandb

        name = artifact_name(kind, self._wandb.id, digests)
        artifact = wandb.Artifact(name, kind, metadata=dict(made_from))
        for file in files:
            artifact.add_file(str(file), name=file.name)
        if digests:
            with artifact.new_file("sha256.json") as stream:
                stream.write(to_json(dict(digests)))
        self._wandb.log_artifact(artifact)

    def _log_table(self, name: str, source: Path) -> None:
        import wandb

        with source.open(newline="", encoding="utf-8") as stream:
            heading, *rows = csv.reader(stream)
        table = wandb.Table(columns=list(heading))
        for row in rows:
            table.add_data(*(_value(cell) for cell in row))
        self._wandb.log({f"tables/{name}": table})

    def _open(self, mode: Mode) -> None:
        """Start W&B, offline where online fails; whatever its trouble, the run goes on."""
        modes: tuple[Mode, ...] = (mode, "offline") if mode == "online" else (mode,)
        identity = self._identity()
        for attempt in modes:
            try:
                self._wandb, self._online = self._init(attempt, identity), attempt == "online"
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

        wandb.setup(_quiet())  # the process: else it comments on other modules' names at the end
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


def _quiet() -> Any:
    import wandb

    return wandb.Settings(silent=True, console="off", save_code=False)


def _read(run: Path, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("run", f"a finished run folder (with {name})", str(run)) from error
    return found


def _short(plain: dict[str, Any]) -> str:
    """The first digits of a hash of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def _value(cell: str) -> str | float | None:
    """A cell of a CSV file: a number where it is one, nothing where it is empty."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
