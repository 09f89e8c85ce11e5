"""Policies, learners and worlds for the tests of the agent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.network import NetworkConfig
from agents.outlook import Observation
from agents.policy import FleetPolicy
from agents.ppo import FleetPPO
from agents.rules import BreakEven
from agents.sb3_env import FleetVecEnv
from env.gym_env import action_space, observation_space
from env.scenario import Scenario
from env.vector_env import AllocationVectorEnv
from env.world import World

TINY = NetworkConfig(width=16, pair_width=8, sharpness=4.0)
EAGER = BreakEven(break_even_h=300.0, average_h=24.0, margin=0.01, attention=0.4)  # moves often


def make_policy(
    s: Scenario, rule: BreakEven = EAGER, network: NetworkConfig = TINY, awake: bool = True
) -> FleetPolicy:
    """A policy for the spaces of a scenario; awake has random weights also in its last layers."""
    torch.manual_seed(0)
    policy = FleetPolicy(
        observation_space(s), action_space(s), lambda _: 1e-3, network=network, rule=rule
    )
    return awaken(policy) if awake else policy


@torch.no_grad()
def awaken(policy: FleetPolicy) -> FleetPolicy:
    """Random weights everywhere, so that nothing holds because a layer is zero."""
    draw = torch.Generator().manual_seed(1)
    for weight in policy.parameters():
        if not weight.any():
            weight.normal_(0.0, 0.3, generator=draw)
    return policy


def make_ppo(s: Scenario, worlds: int = 4, groups: int = 1, **kwargs: Any) -> FleetPPO:
    """A small learner on `groups` of `worlds` worlds; kwargs are FleetPPO's."""
    rule, network = kwargs.pop("rule", EAGER), kwargs.pop("network", TINY)
    env = FleetVecEnv([AllocationVectorEnv(worlds, scenario=s) for _ in range(groups)], 5)
    given = {"n_steps": 8, "batch_size": 4 * worlds, "n_epochs": 2, "gamma": 0.98, "seed": 3}
    policy_kwargs = {"network": network, "rule": rule, **kwargs.pop("policy_kwargs", {})}
    return FleetPPO(FleetPolicy, env, policy_kwargs=policy_kwargs, **{**given, **kwargs})


def observations(s: Scenario, hours: int, worlds: int = 3, rule: BreakEven = EAGER) -> Observation:
    """What worlds showed at several hours of life under a rule, as one batch."""
    world = World.start(s, list(range(worlds)))
    seen = []
    for _ in range(hours):
        seen.append(world.observe())
        world.step(rule(seen[-1]))
    return {key: torch.cat([one[key] for one in seen]) for key in seen[0]}


def legal(observation: Observation, orders: Tensor) -> bool:
    """True if the mask allows every order, [B, R]."""
    return bool((observation["action_mask"].gather(2, orders.unsqueeze(-1)) > 0).all())
