"""FleetPPO: Stable-Baselines3's PPO with one advantage a rig, on tensors of one device.

One reward a world tells a rig little about its own order when thirty others act too. Here value,
advantage and the clipped ratio are each rig's own; `credit` names what a rig is paid with.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple, Self, get_args

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.collect import Credit, Group
from agents.compiled import Actor, CompiledActor, compile_call
from agents.policy import FleetPolicy
from agents.rollout import FleetRollout, Sample
from agents.sb3_env import FleetVecEnv
from env.errors import InputError
from env.gym_env import AllocationEnv
from env.vector_env import AllocationVectorEnv

Worlds = GymEnv | AllocationVectorEnv

LARGEST = 10.0  # standard deviations: a normalised advantage beyond counts as this


class Loss(NamedTuple):
    """The parts of PPO's loss, scalars."""

    policy: Tensor
    value: Tensor
    entropy: Tensor  # minus the mean entropy
    kl: Tensor
    clipped: Tensor
    hindsight: Tensor  # divergence less the expected advantage of the policy's moves


def ppo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    values: Tensor,
    returns: Tensor,
    entropy: Tensor,
    clip: float,
    robust: bool = False,
) -> Loss:
    """Clipped surrogate, value error and entropy as means over any shape, rigs or whole fleets.

    Schulman et al., "Proximal policy optimization algorithms" (2017), equations 7 and 9. robust
    takes Huber's loss for the squared error: a rig that finds a new network rich earns a hundred
    times what others do.
    """
    error = torch.nn.functional.huber_loss if robust else torch.nn.functional.mse_loss
    log_ratio = log_prob - old_log_prob
    ratio = torch.exp(log_ratio)
    surrogate = torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip))
    return Loss(
        policy=-surrogate.mean(),
        value=error(values, returns),
        entropy=-entropy.mean(),
        kl=((ratio - 1) - log_ratio).mean().detach(),
        clipped=((ratio - 1).abs() > clip).float().mean().detach(),
        hindsight=torch.zeros_like(ratio).sum(),
    )


class FleetPPO(PPO):
    """PPO for `FleetPolicy` on our worlds; arguments are SB3's, and some more.

    env: a FleetVecEnv, an AllocationVectorEnv or an AllocationEnv (which becomes a batch of one).
    batch_size counts world-hours and is rounded to whole slots (the worlds of one group, an hour).

    credit: what a rig's reward is.
        rig       its own profit (rewards sum to the fleet's)
        marginal  that less what its work took from the other rigs' pay in the hour
        fleet     one reward, value, advantage and ratio for the world: plain PPO
    foresight: shape rewards by what staying will earn, and show it to the critic (`foresight.py`).
    sample_share: part of a rollout that each epoch learns from, drawn anew.
    hindsight: weight of an auxiliary loss (with foresight): minus the expected advantage of the
        policy's moves, every move of every rig valued by what it would have brought, plus the KL
        divergence from the policy of the rollout (mirror descent; Tomar et al., 2020). Sampled
        moves are rare, so PPO's own gradient is mostly noise; this is its expectation. Fleet credit
        leaves it out.
    compiled: compile what training computes (`compiled.py`).
    """

    policy: FleetPolicy
    rollout_buffer: FleetRollout  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[FleetPolicy],
        env: Worlds | None,
        *args: Any,
        credit: Credit = "rig",
        foresight: bool = True,
        sample_share: float = 1.0,
        hindsight: float = 0.0,
        compiled: bool = False,
        **kwargs: Any,
    ) -> None:
        if credit not in get_args(Credit):
            raise InputError("credit", " or ".join(get_args(Credit)), credit)
        if not 0 <= kwargs.get("gamma", 0.99) < 1:
            raise InputError("gamma", "a number in [0, 1)", kwargs["gamma"])
        if kwargs.get("clip_range_vf") is not None:
            raise InputError(
                "clip_range_vf", "None: values are not clipped", kwargs["clip_range_vf"]
            )
        self.credit, self.foresight = credit, foresight
        self.sample_share, self.hindsight, self.compiled = sample_share, hindsight, compiled
        self._groups: list[Group] = []
        kwargs["rollout_buffer_class"] = FleetRollout
        kwargs["rollout_buffer_kwargs"] = {"joint": credit == "fleet"}
        # SB3's load makes the object before it has an environment
        worlds = None if env is None else in_tensors(env)
        super().__init__(policy, worlds, *args, **kwargs)  # type: ignore[arg-type]

    def _setup_model(self) -> None:
        super()._setup_model()
        self._actor: Actor = CompiledActor(self.policy) if self.compiled else self.policy
        self._loss = compile_call(self.loss) if self.compiled else self.loss

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_groups", "_actor", "_loss"]

    def set_env(self, env: Worlds, force_reset: bool = True) -> None:
        """Go on in other worlds, of whatever fleet and networks."""
        worlds = in_tensors(env)
        self._adopt(worlds)
        super().set_env(worlds, force_reset)
        self._groups = []

    def _adopt(self, worlds: FleetVecEnv) -> None:
        """The policy fits any number of rigs and networks, so the spaces are the environment's."""
        for holder in (self, self.policy):
            holder.observation_space = worlds.observation_space
            holder.action_space = worlds.action_space
        self.n_envs = worlds.num_envs

    @classmethod
    def load(cls, path: Any, env: Worlds | None = None, *args: Any, **kwargs: Any) -> Self:
        """SB3's load, onto an environment of any fleet and networks."""
        model = super().load(path, None, *args, **kwargs)
        if env is not None:
            model.set_env(env)
        return model

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        fresh = self._last_obs is None or not self._groups
        total, callback = super()._setup_learn(*args, **kwargs)
        if fresh or kwargs.get("reset_num_timesteps", args[2] if len(args) > 2 else True):
            self._begin()
        return total, callback

    def _begin(self) -> None:
        """Take over worlds that were just reset."""
        assert isinstance(self.env, FleetVecEnv)
        count = len(self.env.groups)
        self._groups = [
            Group.start(worlds, self.credit, self.gamma, self.foresight, (k + 1) / count)
            for k, worlds in enumerate(self.env.groups)
        ]

    def save_worlds(self) -> list[dict[str, Any]]:
        """Where each group of worlds stands: tensors and plain numbers."""
        return [{**group.worlds.save(), "first_h": group.first_h} for group in self._groups]

    def restore_worlds(self, saved: list[dict[str, Any]]) -> None:
        """Let the next `learn(reset_num_timesteps=False)` go on from what `save_worlds` gave."""
        assert isinstance(self.env, FleetVecEnv)
        for worlds, state in zip(self.env.groups, saved, strict=True):
            worlds.restore(state)
        self._begin()
        for group, state in zip(self._groups, saved, strict=True):
            group.first_h = state["first_h"]
        self._last_obs = {}  # what SB3 would reset the worlds for lacking

    def take_totals(self) -> dict[str, float]:
        """Sums over all worlds since the last call: `net_usd`, `reward`, `illegal`."""
        totals = {"net_usd": 0.0, "reward": 0.0, "illegal": 0.0}
        for group in self._groups:
            for name in totals:
                totals[name] += float(getattr(group, name))
                setattr(group, name, 0.0)
        return totals

    def collect_rollouts(  # type: ignore[override]
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: FleetRollout,
        n_rollout_steps: int,
    ) -> bool:
        """Live `n_rollout_steps` hours in every world."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            for number, group in enumerate(self._groups):
                rollout_buffer.add(number, group.live(self._actor))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
        rollout_buffer.finish([group.values(self._actor) for group in self._groups])
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update the policy from the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        worlds = len(self.rollout_buffer.samples[0].slot.reward)
        slots = min(max(1, round(self.batch_size / worlds)), len(self.rollout_buffer.samples))
        seen: dict[str, list[Tensor]] = defaultdict(list)
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.minibatches(slots, self.sample_share):
                for name, value in self.update(batch, clip)._asdict().items():
                    seen[name].append(value)
            self._n_updates += 1
            if self.target_kl is not None and float(seen["kl"][-1]) > 1.5 * self.target_kl:
                break
        names = {
            "policy": "policy_gradient_loss",
            "value": "value_loss",
            "entropy": "entropy_loss",
            "kl": "approx_kl",
            "clipped": "clip_fraction",
            "hindsight": "hindsight_loss",
        }
        for name, values in seen.items():
            self.logger.record(f"train/{names[name]}", float(torch.stack(values).mean()))
        self.logger.record("train/explained_variance", self._explained())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def update(self, batch: list[Sample], clip: float) -> Loss:
        """One optimiser step on a minibatch, slot by slot; returns the mean loss."""
        mean, deviation = self._scale(batch)
        self.policy.optimizer.zero_grad()
        losses = []
        for sample in batch:
            loss = self._loss(sample, mean, deviation, clip)
            total = loss.policy + self.ent_coef * loss.entropy + self.vf_coef * loss.value
            total = total + self.hindsight * loss.hindsight
            (total / len(batch)).backward()
            losses.append(loss)
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return Loss(*(torch.stack(part).mean().detach() for part in zip(*losses, strict=True)))

    def loss(self, sample: Sample, mean: Tensor, deviation: Tensor, clip: float) -> Loss:
        """The loss of one slot, for each rig or (credit fleet) for each world."""
        slot = sample.slot
        choices, values = self._actor.view(slot.features, slot.foresight)
        log_prob, old = choices.log_prob(slot.orders), slot.log_prob
        entropy = choices.entropy()
        joint = self.credit == "fleet"
        if joint:
            log_prob, old, entropy = log_prob.sum(-1), old.sum(-1), entropy.sum(-1)
            values = values.mean(-1)
        advantage = ((sample.advantage - mean) / deviation).clamp(-LARGEST, LARGEST)
        loss = ppo_loss(
            log_prob, old, advantage, values, sample.returns, entropy, clip, robust=not joint
        )
        if slot.moves is None or not self.hindsight or joint:
            return loss
        worth = (slot.moves / deviation).clamp(-LARGEST, LARGEST)
        gain = (choices.probs[..., 1:] * worth).sum(-1)
        change = slot.log_probs - choices.log_probs
        kl = (torch.exp(slot.log_probs) * change * slot.features.legal).sum(-1)
        return loss._replace(hindsight=(kl - gain).mean())

    def _scale(self, batch: list[Sample]) -> tuple[Tensor, Tensor]:
        """Mean and deviation by which a minibatch's advantages are normalised."""
        every = torch.cat([sample.advantage.flatten() for sample in batch])
        if not self.normalize_advantage:
            return every.new_zeros(()), every.new_ones(())
        return every.mean(), every.std() + 1e-8

    def _explained(self) -> float:
        """Share of the returns' variance that the values explain."""
        returns = torch.stack([s.returns for s in self.rollout_buffer.samples])
        left = torch.stack([s.advantage for s in self.rollout_buffer.samples])
        return float(1 - left.var() / returns.var().clamp_min(1e-12))


def in_tensors(env: Worlds) -> FleetVecEnv:
    """The worlds of any of our environments, as groups of tensors."""
    inner = getattr(env, "unwrapped", env)
    if isinstance(inner, AllocationEnv):
        inner = AllocationVectorEnv(1, scenario=inner.scenario, output="torch")
    if isinstance(inner, AllocationVectorEnv):
        inner = FleetVecEnv(inner)
    if not isinstance(inner, FleetVecEnv):
        raise InputError("env", "a FleetVecEnv or one of our environments", type(env).__name__)
    for group in inner.groups:
        group.output = "torch"
    return inner
