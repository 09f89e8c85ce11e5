"""A policy made for the default fleet and networks runs on 256 rigs and networks it never saw."""

from __future__ import annotations

import torch
from conftest import scenario
from learners import EAGER, legal, make_policy, observations

from agents.outlook import Observation
from env.gym_env import action_space, observation_space
from env.scenario import Scenario

MARGIN = 1e-4  # of probability; below it rounding may decide


def elsewhere() -> tuple[Scenario, Observation]:
    """The large fleet on the extended networks, and some hours of two worlds there."""
    s = scenario("large", "extended", 24)
    return s, observations(s, hours=6, worlds=2)


def permuted(observation: Observation, rigs: torch.Tensor, networks: torch.Tensor) -> Observation:
    """The same fleet and networks in another order."""
    choices = torch.cat((torch.zeros(1, dtype=torch.int64), networks + 1))
    return {
        "rigs": observation["rigs"][:, rigs],
        "networks": observation["networks"][:, networks],
        "pairs": observation["pairs"][:, rigs][:, :, networks],
        "market": observation["market"],
        "action_mask": observation["action_mask"][:, rigs][:, :, choices],
    }


@torch.no_grad()
def test_a_policy_of_the_default_scenario_orders_256_rigs_on_unseen_networks_in_any_order() -> None:
    policy = make_policy(scenario("mixed"), rule=EAGER)
    s, seen = elsewhere()
    assert policy.observation_space != observation_space(s)
    assert policy.action_space != action_space(s)
    orders = policy.orders(seen)
    assert orders.shape == (12, 256)
    assert legal(seen, orders)
    assert (orders > 0).any()
    new = [s.network_names.index(name) + 1 for name in ("hyperbolic", "nodexo")]
    assert all((orders == network).any() for network in new)

    draw = torch.Generator().manual_seed(0)
    rigs = torch.randperm(s.rig_count, generator=draw)
    networks = torch.randperm(s.network_count, generator=draw)
    mixed = policy.orders(permuted(seen, rigs, networks))
    back = torch.where(mixed > 0, networks[(mixed - 1).clamp_min(0)] + 1, 0)
    features = policy.features(seen)
    certain = policy.view(features).choices.margin(features.phase)[:, rigs] > MARGIN
    assert certain.float().mean() > 0.9
    assert torch.equal(back[certain], orders[:, rigs][certain])
