"""A run's training: FleetPPO from the tuned rule on, scored, recorded and kept as it goes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from agents.checkpoint import Nest, last_checkpoint, load_best, load_weights, restore
from agents.collect import Credit
from agents.network import NetworkConfig
from agents.outlook import Policy
from agents.policy import FleetPolicy
from agents.ppo import FleetPPO
from agents.rules import BreakEven
from agents.sb3_env import FleetVecEnv
from agents.tuning import Tuned
from agents.worlds import TRAINING_BLOCK, Split, world_seeds
from env.catalog import Positive
from env.errors import InputError
from env.gym_env import action_space, observation_space
from env.scenario import Scenario
from env.vector_env import AllocationVectorEnv

VALIDATIONS = 8  # of a run, beside that of the start
LAST_RATE = 0.1  # of the first learning rate, which it reaches linearly

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class AgentConfig:
    """FleetPPO and its length; the names are Stable-Baselines3's where it has one."""

    kind: Literal["fleet_ppo"]
    total_timesteps: Count
    groups: Count
    num_envs: Annotated[int, Field(ge=1, le=TRAINING_BLOCK)]  # of all groups together
    n_steps: Count
    batch_size: Count
    n_epochs: Count
    learning_rate: Positive
    gamma: Annotated[float, Field(gt=0, lt=1)]
    gae_lambda: Annotated[float, Field(ge=0, le=1)]
    clip_range: Positive
    ent_coef: NonNegative
    vf_coef: NonNegative
    max_grad_norm: Positive
    credit: Credit
    foresight: bool
    hindsight: NonNegative
    sample_share: Share
    network: NetworkConfig
    compile: bool = False
    bf16: bool = False

    def check(self) -> None:
        """Refuse what no single field shows."""
        if self.num_envs % self.groups:
            raise InputError(
                "agent.num_envs", f"a multiple of groups = {self.groups}", self.num_envs
            )
        if self.rollout % self.batch_size:
            expected = f"a divisor of num_envs * n_steps = {self.rollout}"
            raise InputError("agent.batch_size", expected, self.batch_size)
        if self.batch_size % self.group_envs:
            expected = f"a multiple of num_envs / groups = {self.group_envs}"
            raise InputError("agent.batch_size", expected, self.batch_size)

    @property
    def group_envs(self) -> int:
        """Worlds of one group."""
        return self.num_envs // self.groups

    @property
    def rollout(self) -> int:
        """World-hours of one rollout."""
        return self.num_envs * self.n_steps

    @property
    def validation_every(self) -> int:
        """World-hours from one validation to the next: whole rollouts."""
        rollouts = math.ceil(self.total_timesteps / self.rollout)
        return math.ceil(rollouts / VALIDATIONS) * self.rollout


class Interrupted(KeyboardInterrupt):
    """A run was stopped by the user; the message says how it goes on."""


@contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Say at Ctrl-C with which command the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        command = f"python train.py resume={shlex.quote(str(run))}"
        try:
            step = int(last_checkpoint(run).name.removeprefix("step_"))
        except InputError:
            told = f"stopped before the first checkpoint; `{command}` begins anew"
            raise Interrupted(told) from None
        raise Interrupted(f"stopped after {step} steps; `{command}` goes on") from None


def make_model(
    config: AgentConfig, scenario: Scenario, rule: BreakEven, first_seed: int
) -> FleetPPO:
    """FleetPPO on fresh training worlds, with a policy that is the rule, made smooth."""
    groups = [
        AllocationVectorEnv(config.group_envs, scenario=scenario, output="torch")
        for _ in range(config.groups)
    ]
    model = FleetPPO(
        FleetPolicy,
        FleetVecEnv(groups, first_seed),
        learning_rate=lambda left: config.learning_rate * (LAST_RATE + (1 - LAST_RATE) * left),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        credit=config.credit,
        foresight=config.foresight,
        hindsight=config.hindsight,
        sample_share=config.sample_share,
        compiled=config.compile,
        policy_kwargs={"network": config.network, "rule": rule, "bf16": config.bf16},
        device=scenario.device,
    )
    model.set_logger(Logger(None, []))  # the tracker is the log
    return model


def train(
    config: AgentConfig,
    scenario: Scenario,
    tuned: Tuned,
    seed: int,
    record: BaseCallback,
    left: Nest | None = None,
) -> None:
    """Train in the worlds of a run seed, from the tuned break-even rule on.

    record: keeps what comes of it, and where training stands.
    left: where an earlier job of the same configuration stood (`load_training`), to go on from.
    """
    set_random_seed(seed, using_cuda=scenario.device.type == "cuda")
    rule = tuned.rules["break_even"]
    assert isinstance(rule, BreakEven)
    model = make_model(config, scenario, rule, world_seeds(Split.TRAIN, 1, seed)[0])
    if left is not None:
        restore(model, left)
    model.learn(
        config.total_timesteps - model.num_timesteps,
        callback=record,
        log_interval=None,  # type: ignore[arg-type] # never
        reset_num_timesteps=left is None,
    )


def load_policy(run: Path, scenario: Scenario) -> Policy:
    """The best policy of a run, for any fleet and networks: observation [B, ...] -> orders [B, R].

    InputError without a checkpoint, or with one of another version's network.
    """
    best = load_best(run)
    policy = FleetPolicy(
        observation_space(scenario),
        action_space(scenario),
        lambda _: 0.0,
        network=best.network,
    ).to(scenario.device)
    load_weights(policy, best.weights, run)
    policy.set_training_mode(False)
    return policy.orders
