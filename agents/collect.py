"""Living the worlds with the policy that is being trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from agents.compiled import Actor
from agents.distribution import MaskedCategorical
from agents.features import Features
from agents.foresight import Foresight, critic_features, foresee, prospect
from agents.outlook import Observation
from agents.rollout import Slot
from env.vector_env import AllocationVectorEnv
from env.world import World

Credit = Literal["rig", "marginal", "fleet"]


class Look(NamedTuple):
    """What an hour shows to the actor, and to training alone."""

    features: Features
    phi: Tensor | None  # [b, R] the potential, in units of the reward
    ahead: Tensor | None  # [b, R, FORESIGHT_FEATURES] for the critic


@dataclass
class Group:
    """Worlds that share a clock, and where they stand."""

    worlds: AllocationVectorEnv
    credit: Credit
    gamma: float
    foresee: bool
    first_h: int  # hours of the first episode, so that groups are at different hours of theirs
    observation: Observation
    future: Foresight | None = None
    look: Look | None = None  # of now; computed when it is first asked for
    net_usd: Tensor | float = 0.0  # sums since `take_totals`, which alone waits for the device
    illegal: Tensor | float = 0.0
    reward: Tensor | float = 0.0

    @classmethod
    def start(
        cls,
        worlds: AllocationVectorEnv,
        credit: Credit,
        gamma: float,
        foresight: bool,
        part: float,
    ) -> Group:
        """A group whose worlds were just reset; its first episode lasts `part` of the horizon."""
        worlds.crowding = credit == "marginal"
        first_h = max(1, round(part * worlds.scenario.horizon_h))
        group = cls(worlds, credit, gamma, foresight, first_h, worlds.world.observe())
        group._look_ahead()
        return group

    @torch.no_grad()
    def live(self, policy: Actor) -> Slot:
        """One hour under the policy's sampled orders."""
        world, now = self.worlds.world, self._now(policy)
        choices, values = policy.view(now.features, now.ahead)
        moves = self._moves(world, now, choices, values)
        orders = choices.at_quantile(torch.rand_like(now.features.phase))
        nominal = world.fleet.nominal_usd_h
        share = nominal / nominal.sum(-1, keepdim=True)
        after, reward, _, _, info = self.worlds.step(orders)
        self._add(info, reward)
        own = info["reward_rig"]
        if self.credit == "marginal":
            own = own - info["crowding_rig"]
        over, end_values = "final_obs" in info, None
        then = self._look(policy, world, info["final_obs"] if over else after)
        reward_rig = own / share * (1 - self.gamma)
        if now.phi is not None and then.phi is not None:
            reward_rig = reward_rig + self.gamma * then.phi - now.phi
        self.observation, self.look = after, then
        if over or world.hour == self.first_h:
            end_values = policy.view(then.features, then.ahead).values
            self._next_episode(over)
        return Slot(
            now.features,
            now.ahead,
            orders,
            choices.log_probs,
            values,
            reward_rig,
            share,
            moves,
            end_values,
        )

    @torch.no_grad()
    def values(self, policy: Actor) -> Tensor:
        """Values of where the worlds stand now, [b, R]."""
        now = self._now(policy)
        return policy.view(now.features, now.ahead).values

    def _now(self, policy: Actor) -> Look:
        if self.look is None:
            self.look = self._look(policy, self.worlds.world, self.observation)
        return self.look

    def _look(self, policy: Actor, world: World, observation: Observation) -> Look:
        features = policy.features(observation)
        if self.future is None:
            return Look(features, None, None)
        seen = prospect(self.future, world, observation, self.credit == "marginal")
        unit = world.fleet.nominal_usd_h / (1 - self.gamma)
        gain, phi = seen.gain / unit.unsqueeze(-1), seen.phi / unit
        return Look(features, phi, critic_features(gain, phi, features.legal[..., 1:]))

    def _moves(
        self, world: World, now: Look, choices: MaskedCategorical, values: Tensor
    ) -> Tensor | None:
        """Advantage of every move in hindsight, beside what the others do on average, [b, R, N].

        What moving later may bring is worth nothing at the least: a policy that moves too much
        expects losses, and must not take them for a reason to move. Moves are valued in dollars: an
        objective that weighs dollars by the hour they come in learns from sampled moves alone.
        """
        if self.future is None or world.scenario.objective.kind != "profit":
            return None
        here = now.features.here.mT
        going = choices.probs[..., 1:] + choices.probs[..., :1] * here
        marginal = self.credit == "marginal"
        gain = prospect(self.future, world, self.observation, marginal, going).gain
        unit = world.fleet.nominal_usd_h / (1 - self.gamma)
        return gain / unit.unsqueeze(-1) - values.clamp_min(0.0).unsqueeze(-1)

    def _next_episode(self, over: bool) -> None:
        """Over or cut short, the worlds go on with new episodes."""
        self.first_h, self.look = -1, None
        if not over:
            self.observation = self.worlds.reset()[0]
        self._look_ahead()

    def _look_ahead(self) -> None:
        if self.foresee:
            self.future = foresee(self.worlds.scenario, self.worlds.world, self.gamma)

    def _add(self, info: dict[str, Tensor], reward: Tensor) -> None:
        self.net_usd = self.net_usd + info["net_usd"].sum().double()
        self.illegal = self.illegal + info["illegal"].sum().double()
        self.reward = self.reward + reward.sum().double()
