"""`python -m agents.serve check|decide|http BUNDLE`: a bundle from the command line.

Exit codes: 0 done, 1 a bundle that is not trusted or does not decide as its maker's, 2 wrong input;
each failure in one line on stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from .errors import BundleError, FieldError
from .latency import latency_ms
from .logs import log_json_lines
from .model import Model
from .overrides import read_overrides
from .rehearsal import rehearse
from .runtime import Policy
from .state_file import claimed

LOG = logging.getLogger(__name__)

RIGS, NETWORKS, HOURS = 64, 16, 500  # of the fleet whose decisions `check` times


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit code."""
    try:
        options = _parsed(arguments)
        with claimed(options.state_dir):
            return int(options.run(options))
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except FieldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options. After others argparse takes a snapshot for one argument too many, for by then
    it has gone without."""
    parser = _parser(arguments[:1] == ["http"])
    options, left = parser.parse_known_args(arguments)
    left = [argument for argument in left if argument != "--"]
    late = len(left) == 1 and (left == ["-"] or not left[0].startswith("-"))
    if late and options.run is _decide and options.snapshot is None:
        options.snapshot = left.pop()
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return options


def _parser(http: bool) -> argparse.ArgumentParser:
    """The command line; the options of `http` only if asked for, as they need its packages."""
    parser = _Parser(prog="serve", description="Serve an exported policy.")
    commands = parser.add_subparsers(required=True, metavar="check|decide|http")
    check = commands.add_parser("check", help="verify a bundle, replay its cases, time it")
    check.set_defaults(run=_check, state_dir=None)
    decide = commands.add_parser("decide", help="decide on one snapshot, in JSON")
    decide.set_defaults(run=_decide)
    serve = commands.add_parser("http", help="answer requests")
    serve.set_defaults(run=_http)
    for command in (check, decide, serve):
        command.add_argument("bundle", type=Path, metavar="BUNDLE", help="its folder")
        command.add_argument("--guardrails", type=Path, metavar="FILE.yaml", help="overrides")
        command.add_argument("--public-key", type=Path, metavar="PEM", help="verify the signature")
        command.add_argument("--signature", type=Path, help="by default BUNDLE.sig")
    for command in (decide, serve):
        command.add_argument("--state-dir", type=Path, help="where the memory outlives the process")
    decide.add_argument("snapshot", nargs="?", metavar="FILE", help="default: stdin")
    decide.add_argument("--now", metavar="TIME", help="instead of the clock, in a replay")
    if http:
        _http_module().add_arguments(serve)
    return parser


def _check(options: argparse.Namespace) -> int:
    policy = _load(options)
    bundle, said = policy.bundle, policy.bundle.manifest
    _tell(f"bundle     {said['bundle']}, made {said['created']}")
    _tell(f"files      as SHA256SUMS says, which is {bundle.digest}")
    _tell(f"signature  {'verified' if options.public_key else 'not asked for'}")
    _tell(f"schema     {said['schema']}")
    compared = rehearse(bundle, Model(bundle.model))
    _tell(f"recorded   {compared} orders replayed, all as torch ordered")
    middle, late = latency_ms(policy, RIGS, NETWORKS, HOURS)
    _tell(f"latency    {RIGS} rigs x {NETWORKS} networks: p50 {middle:.2f} ms, p99 {late:.2f} ms")
    return 0


def _decide(options: argparse.Namespace) -> int:
    log_json_lines()
    now = None if options.now is None else _time(options.now)
    snapshot = "-" if options.snapshot is None else options.snapshot
    decision = _load(options).decide(_read(snapshot), now)
    for acted in decision.acted:
        LOG.info(acted.text, extra={"fields": {"guardrail": acted.guardrail}})
    if decision.reason:
        LOG.info(decision.reason, extra={"fields": {"source": decision.source}})
    _tell(json.dumps(decision.to_json()))
    return 0


def _tell(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError as error:  # nobody reads, or the disk is full; what is left must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise FieldError("stdout", "somewhere to write to", error.strerror) from None


def _http(options: argparse.Namespace) -> int:
    return int(_http_module().serve(options))


def _http_module() -> Any:
    try:
        from . import http
    except ImportError as error:
        wanted = "FastAPI, uvicorn and prometheus_client to be installed"
        raise FieldError("http", wanted, str(error)) from None
    return http


def _load(options: argparse.Namespace) -> Policy:
    return Policy.load(
        options.bundle,
        state_dir=options.state_dir,
        guardrails=read_overrides(options.guardrails),
        public_key=options.public_key,
        signature=options.signature,
    )


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise FieldError(name, "a file that can be read", str(error)) from None


def _time(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise FieldError("--now", "a time such as 2026-11-25T18:00:00Z", text)
    return time.timestamp()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
