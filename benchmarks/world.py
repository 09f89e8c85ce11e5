"""World-steps per second: single env, batches, threads, compiled, CUDA, and growth with size.

    python benchmarks/world.py                        # one and two threads (about a minute)
    python benchmarks/world.py --growth --compiled    # the table of RESULTS.md (some minutes)

Every row of the table is measured in one process, so compare rows, not days. Compilation takes
about a minute a batch size and is not in the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

import env  # noqa: F401
from env.exogenous import Exogenous
from env.scenario import BURN_IN_H, Scenario, build_scenario
from env.state import Fleet, State
from env.vector_env import AllocationVectorEnv

HORIZON = 96  # long enough to amortise nothing by accident; resets are timed apart


class Measured(NamedTuple):
    """What a batch costs."""

    step: float  # seconds an hour of all worlds
    reset: float  # seconds to start them
    memory: int  # bytes of all of them


def clock() -> float:
    """Seconds: of the processor on one thread, where other work then does not count, else wall."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def seconds_per_call(call: Callable[[], Any], at_least: float, device: str = "cpu") -> float:
    """Median of repeated calls over at least `at_least` seconds, after a warm-up."""
    call()
    times: list[float] = []
    while sum(times) < at_least or len(times) < 5:
        start = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return float(np.median(times))


def single(fleet: str) -> Callable[[], None]:
    """A step of the single env through `gymnasium.make`, NumPy in and out."""
    world = gymnasium.make("Nirmaan/Allocation-v0", fleet=fleet, horizon=720)
    world.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = [_sparse(world.action_space.sample(), rng) for _ in range(64)]
    turn = iter(range(10**9))

    def step() -> None:
        *_, truncated, _ = world.step(actions[next(turn) % 64])
        if truncated:
            world.reset()

    return step


def batched(scenario: Scenario, worlds: int, at_least: float, compiled: bool = False) -> Measured:
    """Step and start a batch of worlds."""
    vector = AllocationVectorEnv(worlds, scenario=scenario, output="torch")
    start = clock()
    vector.reset(seed=0)
    reset = clock() - start
    if compiled:
        compile_world()
    rng = np.random.default_rng(0)
    shape = (worlds, scenario.rig_count)
    draws = [rng.integers(0, scenario.network_count + 1, shape) for _ in range(4)]
    device = scenario.device
    actions = [torch.as_tensor(_sparse(d, rng), device=device) for d in draws]
    turn = iter(range(10**9))

    def step() -> None:
        if vector.world.hour >= scenario.horizon_h - 1:  # never time a reset
            vector.world.hour = 0
        vector.step(actions[next(turn) % 4])

    seconds = seconds_per_call(step, at_least, device.type)
    return Measured(seconds, reset, memory(vector))


def compile_world() -> None:
    """Replace the two pure functions of a step by their compiled forms, for this process."""
    import env.world

    for name in ("step", "derive", "facts"):
        function = getattr(env.world, name)
        if not hasattr(function, "_torchdynamo_orig_callable"):
            setattr(env.world, name, torch.compile(function, dynamic=False))


def memory(vector: AllocationVectorEnv) -> int:
    """Bytes of every tensor that a batch holds."""
    world = vector.world
    held = [(world.exogenous, Exogenous), (world.state, State), (world.fleet, Fleet)]
    tensors = [getattr(owner, f.name) for owner, kind in held for f in fields(kind)]
    return sum(t.untyped_storage().nbytes() for t in [*tensors, world.memory])


def _sparse(orders: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Orders of which one in twenty moves, as a working policy gives."""
    return np.where(rng.random(orders.shape) < 0.05, orders, 0)


HEAD = (
    "| what | threads | rigs | networks | worlds | us a world-step | single env, us | ratio "
    "| start, us a world-hour | MB a world |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def row(what: str, scenario: Scenario, worlds: int, alone: Callable[[], None], m: Measured) -> None:
    """Print a line of the table; the single env's step is timed anew beside each."""
    one, each = seconds_per_call(alone, 0.2), m.step / worlds
    start = m.reset / worlds / (BURN_IN_H + scenario.horizon_h) * 1e6
    size = f"{scenario.rig_count} | {scenario.network_count} | {worlds:,}"
    print(
        f"| {what} | {torch.get_num_threads()} | {size} | {each * 1e6:,.1f} | {one * 1e6:,.0f} "
        f"| {one / each:,.1f} | {start:,.1f} | {m.memory / worlds / 1e6:.2f} |",
        flush=True,
    )


def batches(
    scenario: Scenario,
    alone: Callable[[], None],
    at_least: float,
    threads: list[int],
    compiled: bool,
) -> None:
    """Batches of each size on each number of threads, eager or compiled."""
    for count in threads:
        torch.set_num_threads(count)
        for worlds in (1024, 4096, 64, 1):
            measured = batched(scenario, worlds, at_least, compiled)
            row("compiled" if compiled else "eager", scenario, worlds, alone, measured)


def growth(alone: Callable[[], None], at_least: float) -> None:
    """Cost of a world-step against the number of rigs and of networks, one thread, eager."""
    torch.set_num_threads(1)
    for rigs, worlds in ((32, 256), (128, 64), (512, 16), (1024, 8), (4096, 2)):
        scenario = build_scenario({"random_rigs": rigs}, horizon=24)
        row("growth, rigs", scenario, worlds, alone, batched(scenario, worlds, at_least))
    for networks in ("core", "default"):
        scenario = build_scenario("mixed", networks, horizon=24)
        row("growth, networks", scenario, 256, alone, batched(scenario, 256, at_least))
    whole = build_scenario("mixed", horizon=720)
    row("whole episode of 720 h", whole, 16, alone, batched(whole, 16, at_least))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fleet", default="mixed")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured per row")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--growth", action="store_true", help="also cost against size")
    parser.add_argument("--compiled", action="store_true", help="also the compiled world")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scenario = build_scenario(arguments.fleet, horizon=HORIZON)
    alone = single(arguments.fleet)
    print(HEAD, flush=True)
    batches(scenario, alone, arguments.seconds, arguments.threads, compiled=False)
    if arguments.growth:
        growth(alone, arguments.seconds)
    if torch.cuda.is_available():
        cuda = build_scenario(arguments.fleet, horizon=HORIZON, device="cuda")
        for worlds in (1, 64, 1024, 4096, 16384):
            row("eager, CUDA", cuda, worlds, alone, batched(cuda, worlds, arguments.seconds))
    if arguments.compiled:
        batches(scenario, alone, arguments.seconds, arguments.threads, compiled=True)


if __name__ == "__main__":
    main()
