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
    gain = gain.masked_fill(~features.legal[..., 1:], -60.0)
    moves = torch.log(attention) + nn.functional.logsigmoid(gain.amax(-1, keepdim=True))
    holds = torch.log1p(-torch.exp(moves).clamp(max=1.0 - 1e-6))
    return torch.cat((holds, moves + torch.log_softmax(gain, -1)), -1)


class FleetNetwork(nn.Module):
    """Logits of every rig's choices and the value of every rig."""

    def __init__(self, config: NetworkConfig, rule: BreakEven) -> None:
        super().__init__()
        width, pair = config.width, config.pair_width
        rig, network = RIG_FEATURES + MARKET_FEATURES, NETWORK_FEATURES + MARKET_FEATURES
        self.rig, self.network = _encoder(rig, width), _encoder(network, width)
        self.actor = _PairHead(width, pair, PAIR_FEATURES)
        self.score = _zeroed(nn.Linear(pair, 1))  # of a move
        self.stay = _zeroed(nn.Linear(pair, 1))  # of holding, from the pool of a rig's pairs
        seen = rig + network - MARKET_FEATURES + PLACE_FEATURES + FORESIGHT_FEATURES
        self.critic = nn.Sequential(_encoder(seen, width), _zeroed(nn.Linear(width, 1)))
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
        rigs = self.rig(_joined(features.rigs, features.market))
        networks = self.network(_joined(features.networks, features.market))
        hidden = self.actor(rigs, networks, features.pairs)  # [B, R, N, pair]
        change = torch.cat((self.stay(_pool(hidden, features)), self.score(hidden).squeeze(-1)), -1)
        return start + change

    def values(self, features: Features, foresight: Tensor | None) -> Tensor:
        """The critic: it sees a rig and the network it stands on."""
        if foresight is None:
            foresight = features.place.new_zeros(*features.place.shape[:-1], FORESIGHT_FEATURES)
        here = torch.matmul(features.pairs[..., 0], features.networks)  # [B, R, NETWORK_FEATURES]
        rigs = _joined(features.rigs, features.market)
        return self.critic(torch.cat((rigs, here, features.place, foresight), -1)).squeeze(-1)


class _PairHead(nn.Module):
    """Hidden layers of each pair, fed by its rig, its network, both crowds and its own features."""

    def __init__(self, width: int, pair: int, own: int) -> None:
        super().__init__()
        self.of_rig = nn.Linear(2 * width, pair)
        self.of_network = nn.Linear(2 * width, pair)
        self.of_pair = nn.Linear(own, pair, bias=False)
        self.second = nn.Linear(pair, pair)

    def forward(self, rigs: Tensor, networks: Tensor, pairs: Tensor) -> Tensor:
        """rigs [B, R, d], networks [B, N, d], pairs [B, R, N, p] -> [B, R, N, pair]."""
        of_rig = self.of_rig(torch.cat((rigs, _crowd(rigs)), -1)).unsqueeze(2)
        of_network = self.of_network(torch.cat((networks, _crowd(networks)), -1)).unsqueeze(1)
        return torch.tanh(self.second(torch.relu(of_rig + of_network + self.of_pair(pairs))))


def _encoder(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


def _zeroed(last: nn.Linear) -> nn.Linear:
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return last


def _joined(rows: Tensor, market: Tensor) -> Tensor:
    """Each row of a set beside the market, [B, M, f + MARKET_FEATURES]."""
    return torch.cat((rows, market.unsqueeze(1).expand(-1, rows.shape[1], -1)), -1)


def _crowd(rows: Tensor) -> Tensor:
    """The mean of a set beside each of its members, [B, M, d]."""
    return rows.mean(1, keepdim=True).expand(-1, rows.shape[1], -1)


def _seen(features: Features) -> Tensor:
    """Pairs that matter to a rig: where it is and where it may go, bool [B, R, N]."""
    return features.legal[..., 1:] | (features.pairs[..., 0] > 0)


def _pool(hidden: Tensor, features: Features) -> Tensor:
    """Mean over the pairs that matter: [B, R, N, p] -> [B, R, p]."""
    weight = _seen(features).to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(-2) / weight.sum(-2).clamp_min(1.0)
