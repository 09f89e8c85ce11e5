"""What is exported: from facts and memory to orders, as one pure module of tensors.

It is the code that training ran, joined: `derive`, the features, the actor and the choice of each
rig at its own phase. So all that decides has no second implementation that could drift from the
first. The averages have one, `agents.serve.model.remember`, for networks that do not go through the
graph; a test holds it against `env.observation.remember`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.features import extract
from agents.network import FleetNetwork
from agents.policy import choices
from env.observation import Facts, derive


class Inputs(NamedTuple):
    """Facts of an hour and what is remembered; the names are those of the exported graph."""

    rigs: Tensor  # [B, R, len(RIG_FACTS)]
    networks: Tensor  # [B, N, len(NETWORK_FACTS)]
    work: Tensor  # [B, R, N] that a rig would put in a network's pool, 0 = not eligible
    assignment: Tensor  # int64 [B, R]
    market: Tensor  # [B, len(MARKET)]
    memory: Tensor  # [B, 5, N] averages up to the last hour that was seen
    dt_h: Tensor  # [] hours since then

    @classmethod
    def of(cls, known: Facts, memory: Tensor, dt_h: float = 1.0) -> Inputs:
        """The facts of B worlds, each tensor whole in memory."""
        worlds, rigs, networks = *known.assignment.shape, known.networks.shape[1]
        work = known.mass.expand(worlds, rigs, networks)
        return cls(
            known.rigs.contiguous(),
            known.networks.contiguous(),
            work.contiguous(),
            known.assignment,
            known.market,
            memory,
            torch.tensor(dt_h),
        )

    @property
    def known(self) -> Facts:
        """The facts alone."""
        return Facts(*self[:5])


class Answer(NamedTuple):
    """What the policy says; all but the margin are outputs of the exported graph."""

    orders: Tensor  # int64 [B, R], 0 = hold, i + 1 = move to network i
    probs: Tensor  # [B, R, N + 1], 0 where a choice is not legal
    memory_out: Tensor  # [B, 5, N] averages with this hour in them
    margin: Tensor  # [B, R] by how much probabilities may change before the order does


OUTPUTS = Answer._fields[:-1]


class PolicyGraph(nn.Module):
    """The deterministic policy of a trained network, without its critic."""

    def __init__(self, network: FleetNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        rigs: Tensor,
        networks: Tensor,
        work: Tensor,
        assignment: Tensor,
        market: Tensor,
        memory: Tensor,
        dt_h: Tensor,
    ) -> Answer:
        """Arguments as in `Inputs`."""
        known = Facts(rigs, networks, work, assignment, market)
        observation, remembered = derive(known, memory, dt_h)  # type: ignore[arg-type] # traced
        features = extract(observation, self.network.rule)
        found = choices(self.network.logits(features), features)
        orders, margin = found.at_quantile(features.phase), found.margin(features.phase)
        return Answer(orders, found.probs, remembered, margin)
