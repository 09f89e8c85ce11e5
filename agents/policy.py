"""The policy for Stable-Baselines3: features, network and distribution behind its interface."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from agents.distribution import MaskedCategorical
from agents.features import Features, extract
from agents.network import FleetNetwork, NetworkConfig
from agents.outlook import Observation
from agents.rules import BreakEven


class RigView(NamedTuple):
    """What the policy says of each rig."""

    choices: MaskedCategorical  # over [B, R, N + 1]
    values: Tensor  # [B, R]


class FleetPolicy(ActorCriticPolicy):
    """One policy for fleets and catalogues of any size.

    To SB3 an action is the vector of all rigs' orders: log probability and entropy are sums over
    rigs, the value is the mean over rigs. `FleetPPO` uses the same network rig by rig. The
    deterministic choice is the quantile of each rig's distribution at its own `phase` of the day,
    so that identical rigs can split, and so that over a day a rig follows its distribution.

    bf16: let the layers of `view` multiply in bfloat16. Features, the rule's logits and all that
    follows the layers stay float32, and so does whatever else a policy is asked.
    """

    def __init__(
        self,
        *args: Any,
        network: NetworkConfig,
        rule: BreakEven | None = None,
        bf16: bool = False,
        **kwargs: Any,
    ) -> None:
        self.network_config, self.first_rule, self.bf16 = network, rule or BreakEven(), bf16
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.network = FleetNetwork(self.network_config, self.first_rule)
        rate = lr_schedule(1)
        self.optimizer = self.optimizer_class(self.parameters(), lr=rate, **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"network": self.network_config, "rule": self.first_rule, "bf16": self.bf16}
        return {**super()._get_constructor_parameters(), **own}

    def features(self, observation: Observation) -> Features:
        """What the network sees of an observation of tensors [B, ...]."""
        return extract(observation, self.network.rule)

    def view(self, features: Features, foresight: Tensor | None = None) -> RigView:
        """Choices and values of each rig; foresight as in `FleetNetwork.forward`."""
        with torch.autocast(features.rigs.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.network(features, foresight)
        return RigView(choices(out.logits, features), out.values.float())

    def orders(self, observation: Observation) -> Tensor:
        """The deterministic orders of an observation of tensors: int64 [B, R]."""
        features = self.features(observation)
        return choices(self.network.logits(features), features).at_quantile(features.phase)

    def forward(
        self, obs: PyTorchObs, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(_tensors(obs))
        seen = self.view(features)
        orders = _choose(seen.choices, features, deterministic)
        log_prob = seen.choices.log_prob(orders).sum(-1)
        return orders, seen.values.mean(-1, keepdim=True), log_prob

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        seen = self.view(self.features(_tensors(obs)))
        log_prob = seen.choices.log_prob(actions.long()).sum(-1)
        return seen.values.mean(-1, keepdim=True), log_prob, seen.choices.entropy().sum(-1)

    def get_distribution(self, obs: PyTorchObs) -> MaskedCategorical:  # type: ignore[override]
        """The choices of each rig."""
        features = self.features(_tensors(obs))
        return choices(self.network.logits(features), features)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        return self.view(self.features(_tensors(obs))).values.mean(-1, keepdim=True)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        features = self.features(_tensors(observation))
        return _choose(choices(self.network.logits(features), features), features, deterministic)


def choices(logits: Tensor, features: Features) -> MaskedCategorical:
    """What each rig may choose, from the network's logits [B, R, N + 1]."""
    return MaskedCategorical(logits, features.legal, features.charged)


def _choose(found: MaskedCategorical, features: Features, deterministic: bool) -> Tensor:
    u = features.phase if deterministic else torch.rand_like(features.phase)
    return found.at_quantile(u)


def _tensors(obs: PyTorchObs) -> Observation:
    assert isinstance(obs, dict)
    return {key: value.float() for key, value in obs.items()}
