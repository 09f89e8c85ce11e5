"""Stable-Baselines3's own PPO on our worlds, and what it learned as a plain function."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.ppo import MultiInputPolicy
from torch import Tensor

from agents.checkpoint import Checkpoint, Statistics, load_checkpoint, save_checkpoint
from agents.rules import Observation
from agents.sb3_env import FleetVecEnv
from agents.scoring import HOURS_PER_DAY
from agents.tracking import Tracker
from agents.worlds import TRAINING_BLOCK, Split, world_seeds
from env.errors import InputError
from env.gym_env import action_space, observation_space
from env.scenario import Scenario
from env.vector_env import AllocationVectorEnv

NORMALISED = ("rigs", "networks", "pairs", "market")  # the action mask stays as it is
CLIP, EPSILON = 10.0, 1e-8  # of normalised observations, as VecNormalize has them
_LEARNING = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class AgentConfig:
    """Stock PPO; the names are Stable-Baselines3's where it has one."""

    kind: Literal["ppo"]
    total_timesteps: Count
    num_envs: Annotated[int, Field(ge=1, le=TRAINING_BLOCK)]
    n_steps: Count
    batch_size: Count
    n_epochs: Count
    learning_rate: Positive
    gamma: Annotated[float, Field(gt=0, lt=1)]
    gae_lambda: Annotated[float, Field(ge=0, le=1)]
    clip_range: Positive
    ent_coef: Annotated[float, Field(ge=0)]
    max_grad_norm: Positive
    hidden: tuple[Count, ...]
    first_hold: Annotated[float, Field(gt=0, lt=1)]

    def check(self) -> None:
        """Refuse what no single field shows."""
        if self.num_envs * self.n_steps % self.batch_size:
            rollout = f"{self.num_envs} * {self.n_steps} (num_envs * n_steps)"
            raise InputError("agent.batch_size", f"a divisor of {rollout}", self.batch_size)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the user; the message says what is left of it."""


class StockPolicy:
    """A trained policy as a function of the raw observation; it takes the most likely orders."""

    def __init__(self, network: ActorCriticPolicy, statistics: dict[str, Statistics]) -> None:
        self._network = network.eval()
        self._moments = {
            key: (
                torch.as_tensor(s.mean, device=network.device),
                torch.as_tensor(s.var, device=network.device).add(EPSILON).sqrt(),
            )
            for key, s in statistics.items()
        }

    @torch.no_grad()
    def __call__(self, observation: Observation) -> Tensor:
        """Orders int64 [B, R] for an observation of tensors [B, ...]."""
        seen = {key: self._normalise(key, value) for key, value in observation.items()}
        return self._network.get_distribution(seen).get_actions(deterministic=True)

    def _normalise(self, key: str, value: Tensor) -> Tensor:
        if key not in self._moments:
            return value
        mean, deviation = self._moments[key]
        return ((value.double() - mean) / deviation).clamp(-CLIP, CLIP).float()


def train(
    config: AgentConfig,
    scenario: Scenario,
    seed: int,
    run: Path,
    tracker: Tracker,
    show: Callable[[int, float], None],
) -> StockPolicy:
    """Train in the worlds of a run seed, leave a checkpoint, and return the policy.

    `show` is called after each rollout with the steps done and the net USD per rig and day. Ctrl-C
    leaves a checkpoint too, and raises Interrupted.
    """
    set_random_seed(seed)
    worlds = FleetVecEnv(
        AllocationVectorEnv(config.num_envs, scenario=scenario),
        first_seed=world_seeds(Split.TRAIN, 1, seed)[0],
    )
    normalised = VecNormalize(
        worlds, gamma=config.gamma, norm_obs_keys=list(NORMALISED), clip_obs=CLIP, epsilon=EPSILON
    )
    model = make_model(config, normalised, scenario.device)
    report = _Report(worlds, scenario.rig_count, tracker, show)
    try:
        model.learn(
            config.total_timesteps,
            callback=report,
            log_interval=None,  # type: ignore[arg-type] # never: the tracker is the log
        )
    except KeyboardInterrupt:
        path = save_checkpoint(run, model.num_timesteps, _checkpoint(model, normalised))
        raise Interrupted(f"stopped after {model.num_timesteps} steps, checkpoint {path}") from None
    checkpoint = _checkpoint(model, normalised)
    save_checkpoint(run, model.num_timesteps, checkpoint)
    return StockPolicy(model.policy, checkpoint.statistics)


def make_model(config: AgentConfig, worlds: VecNormalize, device: torch.device) -> PPO:
    """Stock PPO with its MultiInputPolicy, whose first policy mostly holds."""
    model = PPO(
        "MultiInputPolicy",
        worlds,
        learning_rate=config.learning_rate,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={"net_arch": list(config.hidden)},
        device=device,
    )
    assert isinstance(worlds.action_space, spaces.MultiDiscrete)
    with torch.no_grad():  # logits [R, N + 1], order 0 = hold
        bias = model.policy.get_submodule("action_net").get_parameter("bias")
        head = bias.view(len(worlds.action_space), -1)
        odds = config.first_hold / (1.0 - config.first_hold)
        head[:, 0] += math.log(odds * (head.shape[1] - 1))
    return model


def load_policy(config: AgentConfig, scenario: Scenario, run: Path) -> StockPolicy:
    """The policy of a run's last checkpoint, for a scenario of the same shape."""
    checkpoint = load_checkpoint(run)
    network = MultiInputPolicy(
        observation_space(scenario),
        action_space(scenario),
        lr_schedule=lambda _: 0.0,
        net_arch=list(config.hidden),
    ).to(scenario.device)
    shape = observation_space(scenario)["pairs"].shape
    trained_on = checkpoint.statistics["pairs"].mean.shape
    if shape != trained_on:
        expected = f"rigs x networks x columns = {trained_on}, which this policy was trained on"
        raise InputError("fleet, network", expected, shape)
    network.load_state_dict(checkpoint.weights)
    return StockPolicy(network, checkpoint.statistics)


def _checkpoint(model: PPO, worlds: VecNormalize) -> Checkpoint:
    statistics = {
        key: Statistics(worlds.obs_rms[key].mean, worlds.obs_rms[key].var) for key in NORMALISED
    }
    return Checkpoint(model.policy.state_dict(), statistics)


class _Report(BaseCallback):
    """One row of metrics for each rollout and the update that follows it."""

    def __init__(
        self, worlds: FleetVecEnv, rigs: int, tracker: Tracker, show: Callable[[int, float], None]
    ) -> None:
        super().__init__()
        self._worlds, self._rigs, self._tracker, self._show = worlds, rigs, tracker, show
        self._row: dict[str, Any] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        totals = self._worlds.take_totals()
        rig_days = totals["hours"] * self._rigs / HOURS_PER_DAY
        self._row = {
            "global_step": self.num_timesteps,
            "rollout/net_usd_rig_day": totals["net_usd"] / rig_days,
            "rollout/reward_hour": totals["reward"] / totals["hours"],
            "rollout/illegal_orders_rig_day": totals["illegal"] / rig_days,
        }
        self._show(self.num_timesteps, self._row["rollout/net_usd_rig_day"])

    def _on_rollout_start(self) -> None:
        self._write()

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._row:
            values = self.logger.name_to_value
            update = {f"train/{name}": float(values[f"train/{name}"]) for name in _LEARNING}
            self._tracker.log({**self._row, **update})
        self._row = {}
