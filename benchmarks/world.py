"""World-steps per second: single env, batches, threads, compiled, CUDA, and growth with size.

    python benchmarks/world.py                 # the table (about two minutes)
    python benchmarks/world.py --growth        # cost against rigs, up to 4,096

Every row of a table is measured in the same process, so compare rows, not days.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
import torch

import env  # noqa: F401
from env.exogenous import Exogenous
from env.scenario import Scenario, build_scenario
from env.state import Fleet, State
from env.vector_env import AllocationVectorEnv

HORIZON = 96  # long enough to amortise nothing by accident; resets are timed apart


def seconds_per_call(call: Callable[[], Any], at_least: float, device: str = "cpu") -> float:
    """Median of repeated calls over at least `at_least` seconds, after a warm-up."""
    call()
    times: list[float] = []
    while sum(times) < at_least or len(times) < 5:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def single(fleet: str, at_least: float) -> float:
    """Seconds a step of the single env through `gymnasium.make`."""
    world = gymnasium.make("Nirmaan/Allocation-v0", fleet=fleet, horizon=720)
    world.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = [_sparse(world.action_space.sample(), rng) for _ in range(64)]
    turn = iter(range(10**9))

    def step() -> None:
        *_, truncated, _ = world.step(actions[next(turn) % 64])
        if truncated:
            world.reset()

    return seconds_per_call(step, at_least)


def batched(
    scenario: Scenario, worlds: int, at_least: float, compiled: bool = False
) -> tuple[float, float, float]:
    """(seconds a step of the batch, seconds of its reset, bytes a world)."""
    vector = AllocationVectorEnv(worlds, scenario=scenario, output="torch")
    start = time.perf_counter()
    vector.reset(seed=0)
    reset = time.perf_counter() - start
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
    return seconds, reset, memory(vector) / worlds


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


def table(fleet: str, at_least: float, compiled: bool) -> None:
    scenario = build_scenario(fleet, horizon=HORIZON)
    print(f"fleet {fleet}: {scenario.rig_count} rigs, {scenario.network_count} networks")
    print(f"{'what':<34}{'threads':>8}{'worlds':>8}{'world-steps/s':>15}{'us/world-step':>15}")
    torch.set_num_threads(1)
    one = single(fleet, at_least)
    print(f"{'gymnasium.make, NumPy':<34}{1:>8}{1:>8}{1 / one:>15,.0f}{one * 1e6:>15,.1f}")
    for modes in (False, True) if compiled else (False,):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for worlds in (1, 64, 1024, 4096):
                seconds, reset, size = batched(scenario, worlds, at_least, modes)
                each = seconds / worlds
                name = "batched, compiled" if modes else "batched, eager"
                print(
                    f"{name:<34}{threads:>8}{worlds:>8}{1 / each:>15,.0f}{each * 1e6:>15,.2f}"
                    f"   {one / each:6.1f}x the single env; reset "
                    f"{reset / worlds / HORIZON * 1e6:.1f} us/world-hour, {size / 1e6:.2f} MB/world"
                )
    if torch.cuda.is_available():
        cuda = build_scenario(fleet, horizon=HORIZON, device="cuda")
        for worlds in (1, 64, 1024, 4096, 16384):
            seconds, _, _ = batched(cuda, worlds, at_least)
            each = seconds / worlds
            print(f"{'batched, CUDA':<34}{'':>8}{worlds:>8}{1 / each:>15,.0f}{each * 1e6:>15,.2f}")


def growth(at_least: float) -> None:
    """Cost of a world-step against the number of rigs and of networks, one thread, eager."""
    torch.set_num_threads(1)
    print(f"{'rigs':>6}{'networks':>10}{'worlds':>8}{'us/world-step':>15}{'us/rig':>10}")
    for rigs, worlds in ((32, 256), (128, 64), (512, 16), (1024, 8), (4096, 2)):
        scenario = build_scenario({"random_rigs": rigs}, horizon=24)
        seconds, _, _ = batched(scenario, worlds, at_least)
        each = seconds / worlds * 1e6
        print(f"{rigs:>6}{scenario.network_count:>10}{worlds:>8}{each:>15,.1f}{each / rigs:>10.3f}")
    core = build_scenario("mixed", "core", horizon=24)
    seconds, _, _ = batched(core, 256, at_least)
    each = seconds / 256 * 1e6
    print(f"{32:>6}{core.network_count:>10}{256:>8}{each:>15,.1f}{each / 32:>10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fleet", default="mixed")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured per row")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--compiled", action="store_true", help="also the compiled world")
    arguments = parser.parse_args()
    if arguments.growth:
        growth(arguments.seconds)
    else:
        table(arguments.fleet, arguments.seconds, arguments.compiled)


if __name__ == "__main__":
    main()
