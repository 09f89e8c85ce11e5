"""The actor-critic: equivariant to any order of rigs and of networks, for any number of both.

Rigs and networks are encoded apart (O(R d^2) and O(N d^2)); a pair of them meets in a narrow hidden
layer with its own few features (O(R N p)). Logits start from the tuned break-even rule of
`rules.py`, made smooth; the last layer starts at zero, so that before training the policy is it.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import NamedTuple

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from agents.features import (
    MARKET_FEATURES,
    NETWORK_FEATURES,
    PAIR_FEATURES,
    PLACE_FEATURES,
    RIG_FEATURES,
    Features,
    squash,
)
from agents.rules import BreakEven
from env.catalog import Positive

FORESIGHT_FEATURES = 4
_LARGEST = 1e9  # above any gain


@dataclass(config=ConfigDict(extra="forbid", frozen=True))
class NetworkConfig:
    """Size of the network and the rule that it starts from."""

    width: PositiveInt  # of the encoders of rigs and networks
    pair_width: PositiveInt  # of the hidden layers of a pair
    sharpness: Positive  # of the rule it starts from: its logits per e-fold of gain


class Output(NamedTuple):
    """What the network says of a batch."""

    logits: Tensor  # [B, R, N + 1]
    values: Tensor  # [B, R] of each rig, in units of the reward


SOFT_H = 6.0  # gains of this size, in hours of typical yield, are where a rule hesitates


def rule_logits(features: Features, attention: Tensor, sharpness: Tensor) -> Tensor:
    """Log probabilities [B, R, N + 1] of a smooth break-even rule; attention, sharpness scalars.

    With z = sharpness * squash(gain / 6 h), a rig moves with probability `attention * sigmoid(best
    z)`, to network n in proportion to `exp(z_n)`. The logarithm keeps even unlikely moves within
    reach of learning.
    """
    gain = sharpness * squash(features.gain_h / SOFT_H)
    gain = torch.minimum(gain, features.open * _LARGEST - 60.0)  # [B, N, R]
    moves = torch.log(attention) + nn.functional.logsigmoid(gain.amax(-2, keepdim=True))
    holds = torch.log1p(-torch.exp(moves).clamp(max=1.0 - 1e-6))
    return torch.cat((holds, moves + torch.log_softmax(gain, -2)), -2).mT


class Linear(nn.Linear):
    """A linear layer over the first axis: [inputs, M] -> [outputs, M]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias.unsqueeze(-1), self.weight, x)


class FleetNetwork(nn.Module):
    """Logits of every rig's choices and the value of every rig."""

    def __init__(self, config: NetworkConfig, rule: BreakEven) -> None:
        super().__init__()
        width, pair = config.width, config.pair_width
        rig, network = RIG_FEATURES + MARKET_FEATURES, NETWORK_FEATURES + MARKET_FEATURES
        self.rig, self.network = _encoder(rig, width), _encoder(network, width)
        self.actor = _PairHead(width, pair, PAIR_FEATURES)
        self.score = _zeroed(Linear(pair, 1))  # of a move
        self.stay = _zeroed(Linear(pair, 1))  # of holding, from the pool of a rig's pairs
        seen = rig + network - MARKET_FEATURES + PLACE_FEATURES + FORESIGHT_FEATURES
        self.critic = nn.Sequential(_encoder(seen, width), _zeroed(Linear(width, 1)))
        # kept with the weights, so that a policy never meets another rule than its own
        self.knobs: Tensor
        self.register_buffer("knobs", torch.tensor([float(v) for v in astuple(rule)]))
        odds = float(rule.attention) / max(1.0 - float(rule.attention), 1e-3)  # finite at 1
        self.start = nn.Parameter(torch.log(torch.tensor((odds, config.sharpness))))

    @property
    def rule(self) -> BreakEven:
        """The rule that the policy starts from."""
        return BreakEven(*self.knobs.unbind())

    def forward(self, features: Features, foresight: Tensor | None = None) -> Output:
        """foresight [B, R, FORESIGHT_FEATURES] is for the critic alone, in training alone."""
        return Output(self.logits(features), self.values(features, foresight))

    def logits(self, features: Features) -> Tensor:
        """The actor alone: [B, R, N + 1]."""
        odds, sharpness = torch.exp(self.start).unbind()
        start = rule_logits(features, odds / (1.0 + odds), sharpness)
        rigs = self._encoded(self.rig, features.rigs, features.market)
        networks = self._encoded(self.network, features.networks, features.market)
        hidden = self.actor(rigs, networks, features.pairs)  # [pair, B N R]
        weights = torch.cat((self.stay.weight, self.score.weight))
        of_stay, of_move = torch.mm(weights, hidden).unflatten(1, features.here.shape)
        stay = _pool(of_stay, features) + self.stay.bias
        change = torch.cat((stay, of_move + self.score.bias), -2)  # [B, N + 1, R]
        return start + change.mT

    @staticmethod
    def _encoded(encoder: nn.Sequential, rows: Tensor, market: Tensor) -> Tensor:
        """A set [f, B, M] beside the market, encoded: [d, B, M]."""
        return encoder(_joined(rows, market).flatten(1)).unflatten(1, rows.shape[1:])

    def values(self, features: Features, foresight: Tensor | None) -> Tensor:
        """The critic: it sees a rig and the network it stands on."""
        if foresight is None:
            foresight = features.phase.new_zeros(*features.phase.shape, FORESIGHT_FEATURES)
        here = torch.matmul(features.networks.movedim(0, 1), features.here).movedim(1, 0)
        rigs = _joined(features.rigs, features.market)
        seen = torch.cat((rigs, here, features.place, foresight.movedim(-1, 0)))
        return self.critic(seen.flatten(1)).view_as(features.phase)


class _PairHead(nn.Module):
    """Hidden layers of each pair, fed by its rig, its network, both crowds and its own features."""

    def __init__(self, width: int, pair: int, own: int) -> None:
        super().__init__()
        self.of_rig = nn.Linear(2 * width, pair)
        self.of_network = nn.Linear(2 * width, pair)
        self.of_pair = nn.Linear(own, pair, bias=False)
        self.second = Linear(pair, pair)

    def forward(self, rigs: Tensor, networks: Tensor, pairs: Tensor) -> Tensor:
        """rigs [d, B, R], networks [d, B, N], pairs [p, B, N, R] -> [pair, B N R]."""
        of_rig = _beside_crowd(self.of_rig, rigs).unsqueeze(2)
        both = of_rig + _beside_crowd(self.of_network, networks).unsqueeze(3)
        first = torch.addmm(both.flatten(1), self.of_pair.weight, pairs.flatten(1))
        return torch.tanh(self.second(torch.relu(first)))


def _beside_crowd(layer: nn.Linear, rows: Tensor) -> Tensor:
    """A layer that takes each member of a set [d, B, M] beside the set's mean: [outputs, B, M]."""
    own, crowd = layer.weight.chunk(2, 1)
    of_crowd = torch.addmm(layer.bias.unsqueeze(-1), crowd, rows.mean(-1))  # [outputs, B]
    return torch.mm(own, rows.flatten(1)).unflatten(1, rows.shape[1:]) + of_crowd.unsqueeze(-1)


def _encoder(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(Linear(inputs, width), nn.ReLU(), Linear(width, width), nn.ReLU())


def _zeroed(last: Linear) -> Linear:
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return last


def _joined(rows: Tensor, market: Tensor) -> Tensor:
    """Each member of a set [f, B, M] beside the market, [f + MARKET_FEATURES, B, M]."""
    return torch.cat((rows, market.unsqueeze(-1).expand(-1, -1, rows.shape[-1])))


def _pool(of_pair: Tensor, features: Features) -> Tensor:
    """Mean over the pairs that matter to a rig, where it is and where it may go: [B, 1, R]."""
    weight = torch.maximum(features.here, features.open)
    return (of_pair * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp_min(1.0)
