"""Experience of many worlds, kept as tensors on the device that made it.

Worlds come in groups that share a clock; a slot is one hour of one group. Slots are also the pieces
in which an update is computed: one fits a processor's cache, many at once do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.features import Features


class Slot(NamedTuple):
    """One hour of one group of b worlds."""

    features: Features
    foresight: Tensor | None  # [b, R, .] for the critic
    orders: Tensor  # int64 [b, R]
    log_probs: Tensor  # [b, R, N + 1] of every choice
    values: Tensor  # [b, R]
    reward: Tensor  # [b, R]
    share: Tensor  # [b, R] of the fleet's nominal cost
    moves: Tensor | None  # [b, R, N] advantage of every move in hindsight
    end_values: Tensor | None  # [b, R] value of the state in which an episode was cut off

    @property
    def log_prob(self) -> Tensor:
        """Of the orders that were given, [b, R]."""
        return self.log_probs.gather(-1, self.orders.unsqueeze(-1)).squeeze(-1)


class Sample(NamedTuple):
    """A slot with what is learned from it; [b, R], or [b] under `fleet` credit."""

    slot: Slot
    advantage: Tensor
    returns: Tensor


class FleetRollout:
    """The slots of one rollout, by group and hour; SB3's constructor signature."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: Any,
        action_space: Any,
        device: torch.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
        joint: bool = False,
    ) -> None:
        self.gamma, self.gae_lambda, self.joint = gamma, gae_lambda, joint
        self.groups: list[list[Slot]] = []
        self.samples: list[Sample] = []

    def reset(self) -> None:
        """Forget everything."""
        self.groups, self.samples = [], []

    def add(self, group: int, slot: Slot) -> None:
        """Append an hour to a group."""
        while len(self.groups) <= group:
            self.groups.append([])
        self.groups[group].append(slot)

    def finish(self, last_values: list[Tensor]) -> None:
        """Compute advantages and returns; last_values [b, R] are of the hour after the rollout."""
        self.samples = []
        for slots, last in zip(self.groups, last_values, strict=True):
            self.samples += self._estimate(slots, last)

    def _estimate(self, slots: list[Slot], last: Tensor) -> list[Sample]:
        """Generalised advantage estimation (Schulman et al., ICLR 2016) of each rig or fleet.

        An episode that was cut off goes on in thought: its last state's value is bootstrapped, and
        nothing flows back over the cut.
        """
        samples: list[Sample] = []
        following, advantage = self._value(last), torch.zeros_like(self._value(last))
        for slot in reversed(slots):
            value, reward = self._value(slot.values), self._reward(slot)
            if slot.end_values is not None:
                following, advantage = self._value(slot.end_values), torch.zeros_like(advantage)
            delta = reward + self.gamma * following - value
            advantage = delta + self.gamma * self.gae_lambda * advantage
            samples.append(Sample(slot, advantage, advantage + value))
            following = value
        return samples

    def _value(self, values: Tensor) -> Tensor:
        return values.mean(-1) if self.joint else values

    def _reward(self, slot: Slot) -> Tensor:
        """Rewards are per nominal cost of the rig; the fleet's is their mean weighted by cost."""
        return (slot.share * slot.reward).sum(-1) if self.joint else slot.reward

    def minibatches(self, slots: int, share: float) -> Iterator[list[Sample]]:
        """A random `share` of the samples in random order, `slots` at a time."""
        order = torch.randperm(len(self.samples)).tolist()
        order = order[: max(slots, round(share * len(order)))]
        for start in range(0, len(order) - slots + 1, slots):
            yield [self.samples[i] for i in order[start : start + slots]]
