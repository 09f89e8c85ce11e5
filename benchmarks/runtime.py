"""A bundle in operation: cold start beside an SB3 zip with torch, time of a decision, memory.

    python benchmarks/runtime.py BUNDLE               # two minutes on a quiet machine

Each start is a process of its own, ours and SB3's in turn: import, load (ours replays its recorded
cases), first decision for the default fleet. Both networks have the bundle's own size. Decisions
are timed with snapshots as Python values: validation, policy, guardrails, reasons and books are in
the figures, the text of JSON is not. A fleet that obeys goes where it is ordered and provisions
there, as that of a live orchestrator; one that never does is led on paper beside the real one, and
each hour is as full of orders as the first. Compare figures of one run, not of two days.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((64, 1000), (1024, 200), (4096, 100))  # rigs, decisions
NETWORKS = 16
OURS = """
import json, sys
from agents.serve.runtime import Policy
snapshot = json.load(open(sys.argv[2]))
policy = Policy.load(sys.argv[1])
assert policy.decide(snapshot, float(sys.argv[3])).source != "hold"
"""
THEIRS = """
import sys
import numpy as np
from stable_baselines3 import PPO
model = PPO.load(sys.argv[1], device="cpu")
model.predict(dict(np.load(sys.argv[2])), deterministic=True)
"""
DECIDE = """
import json, sys, time
from agents.serve.latency import latency_ms
from agents.serve.runtime import Policy
rigs, networks, hours, obeys = map(int, sys.argv[2:])
free = {"max_novelty": 1e9, "regret_budget_h": 1e9}  # the policy decides, whatever the size
def measure(clock):
    policy = Policy.load(sys.argv[1], guardrails=free)
    return latency_ms(policy, rigs, networks, hours, clock, obeys=bool(obeys))

wall = measure(time.perf_counter)
with open("/proc/self/status") as status:  # before a second policy is loaded
    kb = {line.split(":")[0]: line.split()[1] for line in status if line.startswith("Vm")}
cpu = measure(time.process_time)
print(json.dumps([wall, cpu, int(kb["VmRSS"]) / 1024, int(kb["VmHWM"]) / 1024]))
"""


class Taken(NamedTuple):
    """Of a process from its start to its end."""

    wall_s: float
    cpu_s: float


def run(script: str, *arguments: object) -> tuple[Taken, str]:
    """A script in a fresh process on one thread."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    before, begin = os.times(), time.perf_counter()
    ended = subprocess.run(command, cwd=ROOT, env=one, check=True, capture_output=True, text=True)
    wall_s, after = time.perf_counter() - begin, os.times()
    cpu_s = sum(after[2:4]) - sum(before[2:4])
    return Taken(wall_s, cpu_s), ended.stdout


def prepare(bundle: Path, folder: Path) -> tuple[list[object], list[object]]:
    """Arguments of both starts: the same hour of the default fleet as snapshot and observation,
    and an SB3 zip of an untrained policy of the bundle's size."""
    import torch
    from stable_baselines3 import PPO

    from agents.golden import DATE
    from agents.network import NetworkConfig
    from agents.policy import FleetPolicy
    from agents.sb3_env import FleetVecEnv
    from agents.snapshots import Names, to_snapshot
    from env.observation import derive, facts
    from env.scenario import build_scenario
    from env.vector_env import AllocationVectorEnv
    from env.world import World

    scenario = build_scenario()
    world = World.start(scenario, [0])
    known = facts(scenario, world.fleet, world.state, world.now, world.static)
    averages = derive(known, world.memory, 1.0)[1]
    snapshot = folder / "snapshot.json"
    snapshot.write_text(json.dumps(to_snapshot(known, 0, Names.of(world, 0), DATE, averages)))
    seen = {key: value[0].numpy() for key, value in world.observe().items()}
    np.savez(folder / "observation.npz", **seen)  # type: ignore[arg-type] # arrays by name
    size = json.loads((bundle / "manifest.json").read_text())["policy"]["network"]
    torch.manual_seed(0)
    worlds = FleetVecEnv(AllocationVectorEnv(1, scenario=scenario), 0)
    model = PPO(FleetPolicy, worlds, policy_kwargs={"network": NetworkConfig(**size)})
    model.save(folder / "model.zip")
    ours: list[object] = [bundle.absolute(), snapshot, DATE.timestamp()]
    return ours, [folder / "model.zip", folder / "observation.npz"]


def told(name: str, taken: Sequence[Taken]) -> Taken:
    """Print the medians, and return them."""
    wall_s, cpu_s = np.median(taken, 0)
    print(f"cold start, {name:<20} {wall_s:7.3f} s   (processor {cpu_s:.3f} s)", flush=True)
    return Taken(float(wall_s), float(cpu_s))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a bundle in operation.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--starts", type=int, default=5, help="of each kind")
    options = parser.parse_args()
    # decisions first: what torch leaves behind disturbs whoever comes next
    for rigs, hours in SIZES:
        for how, obeys in (("obeying", True), ("never obeying", False)):
            _, said = run(DECIDE, options.bundle.absolute(), rigs, NETWORKS, hours, int(obeys))
            wall, cpu, resident, peak = json.loads(said)
            print(
                f"{rigs:>5} rigs x {NETWORKS} networks, {how:>13}: "
                f"p50 {wall[0]:6.2f} ms, p99 {wall[1]:6.2f} ms "
                f"(processor {cpu[0]:.2f}, {cpu[1]:.2f}), resident {resident:.0f} MiB, "
                f"peak {peak:.0f}",
                flush=True,
            )
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = prepare(options.bundle, Path(folder))
        started: tuple[list[Taken], list[Taken]] = ([], [])
        for _ in range(options.starts):
            started[0].append(run(OURS, *ours)[0])
            started[1].append(run(THEIRS, *theirs)[0])
    mine, other = told("bundle", started[0]), told("SB3 zip with torch", started[1])
    print(f"ratio {other.wall_s / mine.wall_s:.1f} (processor {other.cpu_s / mine.cpu_s:.1f})")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
