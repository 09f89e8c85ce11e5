"""An orchestrator's loop, in front of the simulator as if that were live.

    python examples/orchestrator.py --bundle BUNDLE [--hours 72]
    python examples/orchestrator.py --url http://127.0.0.1:8080 [--token-file TOKEN]

The second asks a service, which must take the time from the snapshots, as simulated hours pass
faster: `python -m agents.serve http BUNDLE --clock snapshot`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

from agents.golden import clock
from agents.serve.errors import BundleError
from agents.serve.runtime import Policy
from agents.snapshots import Names, to_snapshot
from env.errors import InputError
from env.observation import column, derive, facts
from env.scenario import build_scenario
from env.world import World

Ask = Callable[[dict[str, Any]], dict[str, Any]]  # snapshot -> decision


def orchestrate(ask: Ask, hours: int, seed: int) -> None:
    """Each hour: look, ask, carry out, and tell the moves; each day: tell the profit."""
    world = World.start(build_scenario(horizon=hours), [seed])
    names, day_usd = Names.of(world, 0), 0.0
    for hour in range(hours):
        known = facts(world.scenario, world.fleet, world.state, world.now, world.static)
        time = clock(float(known.market[0, column("market", "hour_of_day")]), hour)
        # averages to begin with; the policy keeps them from there on
        averages = derive(known, world.memory, 1.0)[1] if hour == 0 else None
        decision = ask(to_snapshot(known, 0, names, time, averages))
        orders = torch.zeros(1, len(names.rigs), dtype=torch.int64)  # 0 = hold
        for move in decision["moves"]:  # none of a service in shadow mode
            orders[0, names.rigs.index(move["rig"])] = names.networks.index(move["network"]) + 1
            print(f"{time:%d %b %H:%M}  {move['text']}")
        _, outcome = world.step(orders)
        day_usd += float(outcome.net_usd.sum())
        if hour % 24 == 23:
            print(f"{time:%d %b}        profit of the day {day_usd:+.2f} USD", flush=True)
            day_usd = 0.0


def in_process(bundle: Path) -> Ask:
    """Ask a policy that lives in this process; its clock is the simulated one."""
    policy = Policy.load(bundle)

    def ask(snapshot: dict[str, Any]) -> dict[str, Any]:
        now = datetime.fromisoformat(snapshot["time"]).timestamp()
        return policy.decide(snapshot, now).to_json()

    return ask


def over_http(url: str, token_file: Path | None) -> Ask:
    """Ask a service."""
    headers = {"Content-Type": "application/json"}
    if token_file:
        headers["Authorization"] = f"Bearer {token_file.read_text().strip()}"

    def ask(snapshot: dict[str, Any]) -> dict[str, Any]:
        try:
            request = Request(f"{url}/v1/decide", json.dumps(snapshot).encode(), headers)
            with urlopen(request, timeout=10) as answer:
                decision: dict[str, Any] = json.load(answer)
        except HTTPError as refused:  # its body says why
            said = " ".join(refused.read(500).decode(errors="replace").split())
            raise ConnectionError(f"{url}: {refused.code} {said}") from None
        except ValueError as error:  # no URL, or no JSON: it is another service
            raise ConnectionError(f"{url}: {error}") from None
        return decision

    return ask


def main() -> int:
    """Exit code 2 and one line where bundle or service cannot be asked, or the world not lived."""
    parser = argparse.ArgumentParser(description="Let a policy lead a simulated fleet.")
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument("--bundle", type=Path, help="a bundle's folder")
    whom.add_argument("--url", help="a service")
    parser.add_argument("--token-file", type=Path, help="bearer token of the service")
    parser.add_argument("--hours", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0, help="of the world")
    options = parser.parse_args()
    try:
        if options.bundle:
            ask = in_process(options.bundle)
        else:
            ask = over_http(options.url, options.token_file)
        orchestrate(ask, options.hours, options.seed)
    except (BundleError, InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
