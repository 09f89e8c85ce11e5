"""The policy: the same for any order and number of rigs and networks, and for any unit of work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import scenario
from learners import EAGER, TINY, legal, make_policy, observations
from stable_baselines3 import PPO
from torch import Tensor

import env  # noqa: F401
from agents.features import extract
from agents.network import NetworkConfig, rule_logits
from agents.outlook import Observation, Seen, read
from agents.policy import FleetPolicy, choices
from agents.rules import BreakEven
from env.observation import COLUMNS, column
from env.scenario import build_scenario

HOURS = 12
MARGIN = 1e-4  # of probability, beyond which orders must agree
ONE_RIG = {"rigs": [{"gpu": "rtx_4090", "gpu_count": 2, "count": 1, "site": "texas_dc"}]}
THREE = {"names": ["render", "akash", "morpheus"]}
Preset = str | Mapping[str, Any]


def turned(seen: Observation, rigs: Tensor, networks: Tensor) -> Observation:
    """The same observation with rigs and networks in another order."""
    choices = torch.cat((torch.zeros(1, dtype=torch.int64), networks + 1))
    return {
        "rigs": seen["rigs"][:, rigs],
        "networks": seen["networks"][:, networks],
        "pairs": seen["pairs"][:, rigs][:, :, networks],
        "market": seen["market"],
        "action_mask": seen["action_mask"][:, rigs][..., choices],
    }


def margin(policy: FleetPolicy, seen: Observation) -> Tensor:
    """How sure each rig's order is, [B, R]."""
    features = policy.features(seen)
    return choices(policy.network.logits(features), features).margin(features.phase)


@pytest.fixture(scope="module")
def seen() -> Observation:
    return observations(scenario(), HOURS)


@pytest.fixture(scope="module")
def policy() -> FleetPolicy:
    return make_policy(scenario())


@pytest.mark.parametrize("shuffle", range(3))
@torch.no_grad()
def test_turning_rigs_and_networks_turns_logits_values_and_orders(
    shuffle: int, seen: Observation, policy: FleetPolicy
) -> None:
    draw = torch.Generator().manual_seed(shuffle)
    rigs = torch.randperm(seen["rigs"].shape[1], generator=draw)
    networks = torch.randperm(seen["networks"].shape[1], generator=draw)
    choices = torch.cat((torch.zeros(1, dtype=torch.int64), networks + 1))
    other = turned(seen, rigs, networks)
    before, after = (policy.network(policy.features(one)) for one in (seen, other))
    torch.testing.assert_close(after.values, before.values[:, rigs], rtol=1e-5, atol=1e-5)
    possible = other["action_mask"] > 0
    expected = before.logits[:, rigs][..., choices]
    torch.testing.assert_close(after.logits[possible], expected[possible], rtol=1e-5, atol=1e-5)
    clear = margin(policy, seen)[:, rigs] > MARGIN
    orders, orders_2 = policy.orders(seen)[:, rigs], policy.orders(other)
    assert clear.float().mean() > 0.95
    assert torch.equal(choices[orders_2][clear], orders[clear])
    assert 0.02 < (orders > 0).float().mean() < 0.98


@pytest.mark.parametrize(
    ("fleet", "networks"),
    [("small", "default"), (ONE_RIG, THREE), ("random", THREE), ("mixed", "core")],
)
@torch.no_grad()
def test_one_policy_fits_any_fleet_and_catalogue(
    fleet: Preset, networks: Preset, policy: FleetPolicy
) -> None:
    s = build_scenario(fleet, networks, horizon=48)
    shown = observations(s, 3)
    choices, values = policy.view(policy.features(shown))
    assert choices.probs.shape == (9, s.rig_count, s.network_count + 1)
    assert values.shape == (9, s.rig_count)
    assert bool(torch.isfinite(values).all())
    assert legal(shown, policy.orders(shown))


@torch.no_grad()
def test_a_fleet_twice_over_decides_as_the_fleet_once(
    seen: Observation, policy: FleetPolicy
) -> None:
    """Crowds enter as means: facts being equal, the number of rigs alone says nothing."""
    twice = {k: v if k in ("networks", "market") else torch.cat((v, v), 1) for k, v in seen.items()}
    once, out = (policy.network(policy.features(one)) for one in (seen, twice))
    torch.testing.assert_close(out.logits, torch.cat((once.logits,) * 2, 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.values, torch.cat((once.values,) * 2, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("group", ["rigs", "networks", "pairs", "market"])
@pytest.mark.parametrize("cell", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@torch.no_grad()
def test_one_broken_cell_leaves_everything_finite_and_legal(
    group: str, cell: float, seen: Observation, policy: FleetPolicy
) -> None:
    """A world for each cell of a column, all columns: no order is masked, no value is lost."""
    shape = seen[group].shape[1:]
    columns = shape[-1]
    broken = {
        key: value[:1].repeat(columns, *(1,) * (value.ndim - 1)) for key, value in seen.items()
    }
    for k in range(columns):
        place = tuple((5 * k + 1) % size for size in shape[:-1])
        broken[group][(k, *place, k)] = cell
    logits, values = policy.network(policy.features(broken))
    assert bool(torch.isfinite(values).all())
    assert bool(torch.isfinite(logits).all())
    choices = policy.get_distribution(broken)
    assert legal(broken, policy.orders(broken))
    for u in (0.0, 0.999):
        assert legal(broken, choices.at_quantile(torch.full_like(values, u)))


@torch.no_grad()
def test_before_training_the_policy_is_the_smooth_rule(seen: Observation) -> None:
    fresh = make_policy(scenario(), awake=False)
    features = fresh.features(seen)
    start = rule_logits(features, torch.tensor(EAGER.attention), torch.tensor(TINY.sharpness))
    expected = choices(start, features).probs
    found, values = fresh.view(features)
    torch.testing.assert_close(found.probs, expected, rtol=1e-4, atol=1e-6)
    assert bool((values == 0).all())


@torch.no_grad()
def test_a_rule_that_always_looks_makes_a_policy_that_moves_wherever_it_gains(
    seen: Observation,
) -> None:
    rule = BreakEven(attention=1.0)
    sharp = make_policy(scenario(), rule, NetworkConfig(8, 8, 5e3), awake=False)
    gain = torch.where(seen["action_mask"][..., 1:] > 0, rule.gain_usd(seen), -math.inf).amax(-1)
    clear = (gain.abs() > 0.1) & (sharp.features(seen).phase > 1e-3)
    assert torch.equal((sharp.orders(seen) > 0)[clear], (gain > 0)[clear])
    assert bool((gain > 0)[clear].any())


@pytest.mark.parametrize("attention", [0.1, 0.4, 0.9])
@torch.no_grad()
def test_a_sharp_policy_is_the_break_even_rule_at_another_time_of_day(attention: float) -> None:
    """The rule looks in the first hours of a rig's day; the policy, whose first choice is hold, in
    the last ones: shift the day by its attention and they are one."""
    rule = BreakEven(break_even_h=500.0, average_h=30.0, margin=0.01, attention=attention)
    shown = observations(scenario(), 40, rule=rule)
    sharp = make_policy(scenario(), rule, NetworkConfig(8, 8, 5e3), awake=False)
    shifted = {**shown, "rigs": shown["rigs"].clone()}
    own = shifted["rigs"][..., column("rigs", "tiebreak")]
    own.copy_(torch.remainder(own + attention, 1.0))
    orders, expected = sharp.orders(shown), rule(shifted)
    gains = torch.where(shown["action_mask"][..., 1:] > 0, rule.gain_usd(shown), -math.inf)
    first, second = gains.topk(2, -1).values.unbind(-1)
    close = ((first - second) < 1e-2 * first.abs()) | (first.abs() < 1e-2)
    edge = (sharp.features(shown).phase - (1 - attention)).abs() < 1e-3
    agree = (orders == expected) | close | edge
    assert bool(agree.all())
    assert (close | edge).float().mean() < 0.1
    assert int((expected > 0).sum()) >= 10


@torch.no_grad()
def test_the_unit_of_work_of_a_network_changes_nothing(seen: Observation) -> None:
    """Work counted in other units on each network, and yields per unit accordingly."""
    n = seen["networks"].shape[1]
    factor = torch.exp(torch.linspace(-3.0, 3.0, n))
    other = {key: value.clone() for key, value in seen.items()}
    other["pairs"][..., column("pairs", "work")] *= factor
    for c in COLUMNS["networks"]:
        if c.unit == "work":
            other["networks"][..., column("networks", c.name)] *= factor
        if c.name == "estimate_usd" or c.name.startswith("ema_"):
            other["networks"][..., column("networks", c.name)] /= factor
    same_features(extract(seen, EAGER), extract(other, EAGER))


@torch.no_grad()
def test_another_currency_changes_only_what_measures_size(seen: Observation) -> None:
    """Everything quoted in USD times 10: the burn and the token's turnover are logs of an amount,
    the rest are ratios. *Off* earns nothing, so it is left out of what is typical."""
    other = {key: value.clone() for key, value in seen.items()}
    for group, columns in COLUMNS.items():
        for c in columns:
            if c.unit.startswith("USD"):
                other[group][..., column(group, c.name)] *= 10.0
    before, after = extract(seen, EAGER), extract(other, EAGER)
    amounts = {"networks": (23, 24)}
    same_features(before, after, amounts)


def same_features(a: Any, b: Any, apart: Mapping[str, tuple[int, ...]] | None = None) -> None:
    for name, value in a._asdict().items():
        kept = [k for k in range(len(value)) if k not in (apart or {}).get(name, ())]
        # what is small may be a difference of large numbers, as some gains in hours are
        atol = max(1e-4, 1e-6 * float(value.double().abs().max()))
        torch.testing.assert_close(
            getattr(b, name)[kept], value[kept], rtol=1e-4, atol=atol, msg=name
        )


@torch.no_grad()
def test_a_rule_makes_of_columns_by_name_what_it_makes_of_the_observation(
    seen: Observation,
) -> None:
    pairs, networks = (
        {c.name: read(seen, group, c.name) for c in COLUMNS[group]}
        for group in ("pairs", "networks")
    )
    shown = Seen(
        pairs={name: values.mT for name, values in pairs.items()},
        networks={name: values.unsqueeze(-1) for name, values in networks.items()},
        rigs={},
    )
    for rule in (EAGER, BreakEven(average_h=100.0, marginal=0.5)):
        torch.testing.assert_close(rule.gain_usd(shown), rule.gain_usd(seen).mT)


@torch.no_grad()
def test_sb3s_predict_takes_one_observation_or_many(seen: Observation, policy: FleetPolicy) -> None:
    arrays = {key: value.numpy() for key, value in seen.items()}
    many, state = policy.predict(arrays, deterministic=True)
    assert state is None
    np.testing.assert_array_equal(many, policy.orders(seen).numpy())
    one, _ = policy.predict({key: value[4] for key, value in arrays.items()}, deterministic=True)
    np.testing.assert_array_equal(one, many[4])
    torch.manual_seed(0)
    drawn, _ = policy.predict(arrays)
    assert legal(seen, torch.from_numpy(drawn))
    assert not np.array_equal(drawn, many)


@torch.no_grad()
def test_sb3s_views_of_the_policy_are_one(seen: Observation, policy: FleetPolicy) -> None:
    torch.manual_seed(0)
    orders, values, log_prob = policy(seen)
    values_2, log_prob_2, entropy = policy.evaluate_actions(seen, orders.float())
    torch.testing.assert_close(values_2, values)
    torch.testing.assert_close(log_prob_2, log_prob)
    torch.testing.assert_close(policy.predict_values(seen), values)
    assert values.shape == (len(orders), 1)
    assert entropy is not None
    assert entropy.shape == log_prob.shape == (len(orders),)


def test_stock_ppo_trains_the_policy_on_the_plain_environment() -> None:
    plain = gymnasium.make("Nirmaan/Allocation-v0", fleet="small", networks="core", horizon=10)
    model = PPO(
        FleetPolicy,
        plain,
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        seed=0,
        policy_kwargs={"network": TINY},
    )
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    model.learn(16)
    assert model.num_timesteps == 16
    moved = [not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True)]
    assert any(moved)
    assert all(bool(torch.isfinite(weight).all()) for weight in model.policy.parameters())
