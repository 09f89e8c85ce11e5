"""Training: steps per second against stock PPO, where the time goes, compiled and bfloat16.

    python benchmarks/training.py                                          # some five minutes
    python benchmarks/training.py --only stock --minibatch 64 --epochs 10  # as SB3 sets them

Steps are world-hours, and their time is that of collecting and updating together; new episodes are
timed apart. Processor time on one thread, but for what compiling takes. Both learners of the first
table have the same minibatch, epochs and samples in a rollout, at 64 rigs; the other tables are of
`configs/agent/fleet_ppo.yaml` on the default scenario.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

import agents.collect
from agents.distribution import MaskedCategorical
from agents.outlook import Observation
from agents.policy import FleetPolicy, RigView
from agents.ppo import FleetPPO
from agents.rules import BreakEven
from agents.sb3_env import FleetVecEnv
from agents.training import VALIDATIONS, AgentConfig, make_model
from agents.tuning import Tuned
from agents.validation import Validation
from agents.worlds import Split, world_seeds
from env.observation import column
from env.scenario import Scenario, build_scenario
from env.vector_env import AllocationVectorEnv

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FLEET = {"random_rigs": 64}
HORIZON_H = 720
SAMPLES = 1024  # of a rollout
WORLDS = 64  # of ours in a batch


class Pace(BaseCallback):
    """Processor seconds of each rollout with its update, after the worlds have started."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[float] = []

    def _on_rollout_start(self) -> None:
        self.ticks.append(time.process_time())

    def _on_training_end(self) -> None:
        self.ticks.append(time.process_time())

    def _on_step(self) -> bool:
        return True

    @property
    def steps_s(self) -> float:
        return SAMPLES / float(np.diff(self.ticks).min())


class Update(NamedTuple):
    """How both learners update."""

    minibatch: int
    epochs: int

    def settings(self, worlds: int) -> dict[str, Any]:
        """SB3's arguments for a rollout of so many worlds."""
        steps = {"n_steps": SAMPLES // worlds, "device": "cpu"}
        return {**steps, "batch_size": self.minibatch, "n_epochs": self.epochs}


class Flat(NamedTuple):
    """An observation as SB3's flat network takes it, and what choosing needs."""

    everything: Tensor  # [B, F]
    phase: Tensor  # [B, R]
    legal: Tensor  # bool [B, R, N + 1]


class FlatPolicy(FleetPolicy):
    """The layers of SB3's own `MultiInputPolicy` (64 x 64, tanh, actor and critic apart)."""

    def _build(self, lr_schedule: Any) -> None:
        inputs = sum(math.prod(space.shape) for space in self.observation_space.values())  # type: ignore[attr-defined]
        self.mlp = MlpExtractor(inputs, {"pi": [64, 64], "vf": [64, 64]}, nn.Tanh, "cpu")
        self.action_net = nn.Linear(64, int(self.action_space.nvec.sum()))  # type: ignore[attr-defined]
        self.value_net = nn.Linear(64, 1)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr_schedule(1), eps=1e-5)

    def features(self, observation: Observation) -> Any:
        everything = torch.cat([part.flatten(1) for part in observation.values()], 1)
        phase = observation["rigs"][..., column("rigs", "tiebreak")]
        return Flat(everything, phase, observation["action_mask"] > 0)

    def view(self, features: Any, foresight: Tensor | None = None) -> RigView:
        actor, critic = self.mlp(features.everything)
        logits = self.action_net(actor).view(features.legal.shape)
        values = self.value_net(critic).expand_as(features.phase)
        return RigView(MaskedCategorical(logits, features.legal), values)


def stock(policy: Any, update: Update, worlds: int, **policy_kwargs: Any) -> float:
    """Steps per second of SB3's PPO on single environments, wrapped as SB3 does it."""
    environment = make_vec_env(
        "Nirmaan/Allocation-v0", worlds, env_kwargs={"fleet": FLEET, "horizon": HORIZON_H}
    )
    model = PPO(policy, environment, policy_kwargs=policy_kwargs, **update.settings(worlds))
    pace = Pace()
    model.learn(SAMPLES, callback=pace)
    return pace.steps_s


def ours(policy: type[FleetPolicy], update: Update, network: Any, **kwargs: Any) -> float:
    """Steps per second of FleetPPO with the same settings."""
    scenario = build_scenario(FLEET, horizon=HORIZON_H)
    worlds = FleetVecEnv(AllocationVectorEnv(WORLDS, scenario=scenario, output="torch"), 0)
    given = {**update.settings(WORLDS), **kwargs, "policy_kwargs": {"network": network}}
    pace = Pace()
    FleetPPO(policy, worlds, **given).learn(3 * SAMPLES, callback=pace)
    return pace.steps_s


def against_stock(config: AgentConfig, update: Update) -> None:
    """Both learners with one network, at 64 rigs."""
    plain: dict[str, Any] = {"credit": "fleet", "foresight": False}
    full: dict[str, Any] = {"credit": "marginal", "hindsight": config.hindsight}
    size = config.network

    def rows(name: str, theirs: Callable[[int], float], mine: dict[str, Any]) -> None:
        paces = [theirs(1), theirs(8)]
        for worlds, pace in zip((1, 8), paces, strict=True):
            print(f"| {name} | stock PPO | {worlds} | {pace:,.0f} | | |", flush=True)
        for kind, (policy, kwargs) in mine.items():
            pace = ours(policy, update, size, **kwargs)
            ratios = " | ".join(f"{pace / other:.1f}" for other in paces)
            print(f"| {name} | {kind} | {WORLDS} | {pace:,.0f} | {ratios} |", flush=True)

    print(f"{update.minibatch} samples a minibatch, {update.epochs} epochs:\n")
    print("| network | learner | worlds | steps/s | times stock on 1 | times stock on 8 |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    same = {"FleetPPO, plain PPO": (FlatPolicy, plain)}
    rows("SB3's flat one", lambda worlds: stock("MultiInputPolicy", update, worlds), same)
    own = {
        "FleetPPO, plain PPO": (FleetPolicy, plain),
        "FleetPPO as `train.py` has it": (FleetPolicy, full),
    }
    rows("our own", lambda worlds: stock(FleetPolicy, update, worlds, network=size), own)


class Stopwatch:
    """Processor seconds of named calls, each less the watched calls inside it, by outermost one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._open: list[str] = []
        self._inside: list[float] = []

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Time an attribute of a class or module from now on."""
        call = getattr(owner, name)

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._open.append(label)
            self._inside.append(0.0)
            begin = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.process_time() - begin
                self.seconds[self._open[0], label] += took - self._inside.pop()
                self._open.pop()
                if self._inside:
                    self._inside[-1] += took

        setattr(owner, name, timed)


def watched() -> Stopwatch:
    """A stopwatch on the parts of training."""
    watch = Stopwatch()
    watch.watch(FleetPPO, "collect_rollouts", "collect")
    watch.watch(FleetPPO, "train", "update")
    watch.watch(FleetPPO, "loss", "forward: losses")
    watch.watch(FleetPolicy, "features", "features")
    watch.watch(FleetPolicy, "view", "forward: network, distribution")
    watch.watch(MaskedCategorical, "at_quantile", "choosing")
    watch.watch(AllocationVectorEnv, "step", "world step, with observation and crowding")
    for name in ("prospect", "critic_features"):
        watch.watch(agents.collect, name, "foresight and hindsight")
    watch.watch(Tensor, "backward", "backward")
    watch.watch(torch.nn.utils, "clip_grad_norm_", "optimizer")
    watch.watch(torch.optim.Adam, "step", "optimizer")
    return watch


def learner(config: AgentConfig, scenario: Scenario) -> FleetPPO:
    """FleetPPO as `train.py` makes it, in worlds that have started."""
    torch.manual_seed(0)
    model = make_model(config, scenario, BreakEven(), 0)
    model._setup_learn(1)
    return model


def rollout(model: FleetPPO) -> float:
    """Collect and update once; the steps per second."""
    assert model.env is not None
    begin, still = time.process_time(), Pace()
    still.init_callback(model)
    model.collect_rollouts(model.env, still, model.rollout_buffer, model.n_steps)
    model.train()
    return model.n_envs * model.n_steps / (time.process_time() - begin)


def timed(call: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def where_time_goes(config: AgentConfig, scenario: Scenario, rollouts: int) -> None:
    """A whole training by `train.py`, from a few of its rollouts."""
    watch, model = watched(), learner(config, scenario)
    rollout(model)
    watch.seconds.clear()
    for _ in range(rollouts):
        rollout(model)
    whole = math.ceil(config.total_timesteps / config.rollout)
    spent = {key: seconds * whole / rollouts for key, seconds in watch.seconds.items()}
    hours, starts = whole * config.n_steps, 0
    for group in model._groups:  # the first episode of a group is shorter
        starts += 1 + math.ceil((hours - group.first_h) / scenario.horizon_h)
    group = model._groups[0]
    begin = timed(group.worlds.reset) + timed(group._look_ahead)
    spent["collect", "new episodes, with their foresight"] = starts * begin
    evaluation = yaml.safe_load((CONFIGS / "evaluation/default.yaml").read_text())
    seeds = world_seeds(Split.VALIDATION, evaluation["validation_worlds"])
    tuned = Tuned({"break_even": BreakEven()}, "break_even")
    begin = time.process_time()
    validation = Validation.prepare(scenario, seeds, tuned)
    spent["validate", "worlds and their bound"] = time.process_time() - begin
    score = timed(lambda: validation.score(model.policy.orders))
    spent["validate", f"{VALIDATIONS + 1} scores"] = (VALIDATIONS + 1) * score
    total = sum(spent.values())
    print("| phase | part | seconds of a run | share |\n|---|---|--:|--:|")
    for phase in ("collect", "update", "validate"):
        for (of, part), seconds in sorted(spent.items(), key=lambda item: -item[1]):
            if of == phase:
                name = "rest" if part == phase else part
                print(f"| {phase} | {name} | {seconds:.1f} | {seconds / total:.0%} |")
    print(f"| all | | {total:.0f} | |", flush=True)


def options(config: AgentConfig, scenario: Scenario, rollouts: int) -> None:
    """Eager, compiled and bfloat16 learners, turn by turn."""
    kinds: dict[str, dict[str, Any]] = {
        "eager": {},
        "bf16": {"bf16": True},
        "compile": {"compile": True},
        "compile, bf16": {"compile": True, "bf16": True},
    }
    models, first, paces = {}, {}, {name: list[float]() for name in kinds}
    for name, changes in kinds.items():
        say(f"first rollout: {name}")
        models[name] = learner(dataclasses.replace(config, **changes), scenario)
        begin = time.perf_counter()
        rollout(models[name])
        first[name] = time.perf_counter() - begin
    for _ in range(rollouts):
        for name, model in models.items():
            paces[name].append(rollout(model))
    print("| options | steps/s | times eager | first rollout, wall s |\n|---|--:|--:|--:|")
    for name, pace in paces.items():
        ratio = np.median(np.array(pace) / np.array(paces["eager"]))
        print(f"| {name} | {np.median(pace):,.0f} | {ratio:.2f} | {first[name]:.1f} |", flush=True)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training.")
    parser.add_argument("--rollouts", type=int, default=5, help="measured, of the last two tables")
    parser.add_argument("--only", choices=("stock", "options", "parts"), help="one table alone")
    parser.add_argument("--minibatch", type=int, default=128, help="of the first table")
    parser.add_argument("--epochs", type=int, default=2, help="of the first table")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    config = AgentConfig(**yaml.safe_load((CONFIGS / "agent/fleet_ppo.yaml").read_text()))
    scenario = build_scenario(horizon=HORIZON_H)
    tables: dict[str, Callable[[], None]] = {
        "stock": lambda: against_stock(config, Update(chosen.minibatch, chosen.epochs)),
        "options": lambda: options(config, scenario, chosen.rollouts),
        "parts": lambda: where_time_goes(config, scenario, chosen.rollouts),  # leaves its watches
    }
    for name, table in tables.items():
        if chosen.only in (None, name):
            say(f"table: {name}")
            table()
            print()


if __name__ == "__main__":
    main()
