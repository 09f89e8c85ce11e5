"""FleetPPO: stock PPO where it claims to be, SB3's manners, and what each credit pays."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import scenario
from gymnasium import spaces
from learners import EAGER, TINY, awaken, legal, make_ppo, observations
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import Tensor

import env  # noqa: F401
from agents.collect import Credit, Group
from agents.outlook import Observation
from agents.policy import FleetPolicy
from agents.ppo import FleetPPO
from agents.rollout import Sample
from agents.sb3_env import FleetVecEnv
from env.errors import InputError
from env.scenario import Scenario, build_scenario
from env.vector_env import AllocationVectorEnv

WORLDS, HOURS, CLIP = 4, 8, 0.2
ONE_RIG = {"rigs": [{"gpu": "rtx_4090", "gpu_count": 2, "count": 1, "site": "texas_dc"}]}
SGD = {"optimizer_class": torch.optim.SGD}  # Adam's first step knows only signs


def small() -> Scenario:
    return scenario("small", "core", 24)


def lived(model: FleetPPO, hours: int = HOURS) -> tuple[list[Sample], list[Observation]]:
    """A rollout with the observation of each of its hours, both in the order of time."""
    model._setup_learn(1)
    (group,) = model._groups
    shown, slots = [], []
    for _ in range(hours):
        shown.append(group.observation)
        slots.append(group.live(model.policy))
        model.rollout_buffer.add(0, slots[-1])
    model.rollout_buffer.finish([group.values(model.policy)])
    by_slot = {id(sample.slot): sample for sample in model.rollout_buffer.samples}
    return [by_slot[id(slot)] for slot in slots], shown


@torch.no_grad()
def nudge(policy: FleetPolicy) -> None:
    """As after some updates: ratios that differ from one, some of them clipped."""
    draw = torch.Generator().manual_seed(2)
    for weight in policy.parameters():
        weight.add_(0.08 * torch.randn(weight.shape, generator=draw))


def in_stock(model: FleetPPO, samples: list[Sample], shown: list[Observation]) -> PPO:
    """Stock PPO with the same weights, and the same experience in its own buffer."""
    worlds = FleetVecEnv(AllocationVectorEnv(WORLDS, scenario=small()), 5)
    stock = PPO(
        FleetPolicy,
        worlds,
        n_steps=HOURS,
        batch_size=HOURS * WORLDS,
        n_epochs=1,
        ent_coef=model.ent_coef,
        policy_kwargs={"network": TINY, "rule": EAGER, **SGD},
    )
    stock.policy.load_state_dict(model.policy.state_dict())
    stock.set_logger(configure(None, []))
    buffer = stock.rollout_buffer
    assert isinstance(buffer, DictRolloutBuffer)
    for hour, (sample, seen) in enumerate(zip(samples, shown, strict=True)):
        slot = sample.slot
        for key, value in seen.items():
            buffer.observations[key][hour] = value.numpy()
        buffer.actions[hour] = slot.orders.numpy()
        buffer.values[hour] = slot.values.mean(-1).numpy()
        buffer.log_probs[hour] = slot.log_prob.sum(-1).numpy()
        buffer.advantages[hour] = sample.advantage.numpy()
        buffer.returns[hour] = sample.returns.numpy()
    buffer.full = True
    return stock


def test_fleet_credit_is_stock_ppo_to_the_weights() -> None:
    """One update of SB3's own `PPO.train` on the same rollout: same losses, same new weights."""
    model = make_ppo(
        small(), WORLDS, credit="fleet", foresight=False, ent_coef=0.01, policy_kwargs=SGD
    )
    awaken(model.policy)
    samples, shown = lived(model)
    nudge(model.policy)
    stock = in_stock(model, samples, shown)
    stock.train()
    loss = model.update(samples, CLIP)
    logged = stock.logger.name_to_value
    assert float(loss.policy) == pytest.approx(logged["train/policy_gradient_loss"], abs=1e-5)
    assert float(loss.value) == pytest.approx(logged["train/value_loss"], rel=1e-5, abs=1e-5)
    assert float(loss.entropy) == pytest.approx(logged["train/entropy_loss"], rel=1e-5)
    assert float(loss.kl) == pytest.approx(logged["train/approx_kl"], abs=1e-5)
    assert float(loss.clipped) == pytest.approx(logged["train/clip_fraction"], abs=1e-6)
    assert logged["train/clip_fraction"] > 0.05
    for ours, theirs in zip(model.policy.parameters(), stock.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def gradient(model: FleetPPO, sample: Sample) -> tuple[Tensor, ...]:
    """Of the policy's and the entropy's loss."""
    model.policy.zero_grad()
    loss = model.loss(sample, torch.zeros(()), torch.ones(()), CLIP)
    actor = [w for w in model.policy.network.parameters() if w.requires_grad]
    return torch.autograd.grad(loss.policy + 0.1 * loss.entropy, actor, allow_unused=True)


def test_for_a_single_rig_every_credit_is_the_same_gradient() -> None:
    s = build_scenario(ONE_RIG, "core", horizon=24)
    names: list[Credit] = ["rig", "marginal", "fleet"]
    found = []
    for credit in names:
        model = make_ppo(s, WORLDS, credit=credit, foresight=False)
        awaken(model.policy)
        torch.manual_seed(0)
        samples, _ = lived(model)
        nudge(model.policy)
        found.append(gradient(model, samples[3]))
    assert any(g is not None and bool(g.any()) for g in found[0])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def lifetimes(names: list[Credit], hours: int) -> Iterator[list[tuple[Group, Any]]]:
    """Hour by hour the groups of models that differ in credit alone, in the same worlds."""
    groups = []
    for credit in names:
        model = make_ppo(small(), WORLDS, credit=credit, foresight=False)
        model._setup_learn(1)
        groups.append((model.policy, model._groups[0]))
    for hour in range(hours):
        slots = []
        for policy, group in groups:
            torch.manual_seed(hour)
            slots.append((group, group.live(policy)))
        yield slots


def test_the_rigs_credits_weighted_by_cost_are_the_fleets_reward() -> None:
    brought, credited = 0.0, 0.0
    for ((group, slot),) in lifetimes(["rig"], 12):
        torch.testing.assert_close(slot.share.sum(-1), torch.ones(WORLDS))
        credited += float((slot.share * slot.reward).sum())
        brought = float(group.reward)
    assert credited == pytest.approx(brought * (1 - 0.98), rel=1e-4)


def test_marginal_credit_is_never_above_a_rigs_own() -> None:
    less = 0.0
    for (_, rig), (_, marginal) in lifetimes(["rig", "marginal"], 12):
        assert torch.equal(rig.orders, marginal.orders)
        assert bool((marginal.reward <= rig.reward + 1e-7).all())
        less += float((rig.reward - marginal.reward).sum())
    assert less > 0


@torch.no_grad()
def worth_of_moves(model: FleetPPO, samples: list[Sample]) -> float:
    """Expected advantage in hindsight of what the policy would order, over a rollout."""
    total = 0.0
    for sample in samples:
        assert sample.slot.moves is not None
        probs = model.policy.view(sample.slot.features, sample.slot.foresight).choices.probs
        total += float((probs[..., 1:] * sample.slot.moves).sum(-1).mean())
    return total


def test_hindsight_raises_the_worth_of_the_policys_moves() -> None:
    found = []
    for hindsight in (0.0, 3.0):
        model = make_ppo(small(), WORLDS, hindsight=hindsight, learning_rate=1e-3)
        torch.manual_seed(0)
        samples, _ = lived(model)
        before = worth_of_moves(model, samples)
        for _ in range(5):
            model.update(samples, CLIP)
        found.append(worth_of_moves(model, samples) - before)
    assert found[1] > max(found[0], 0.0)


def weights(model: FleetPPO) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.policy.parameters()])


@pytest.mark.parametrize("kwargs", [{}, {"credit": "marginal", "hindsight": 1.0}, {"groups": 2}])
def test_two_runs_of_one_seed_end_in_identical_weights(kwargs: dict[str, Any]) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(random.randrange(1000))
        model = make_ppo(small(), 2, **kwargs)
        start = weights(model)
        model.learn(2 * 8 * model.n_envs)
        assert model.num_timesteps == 2 * 8 * model.n_envs
        assert not torch.equal(start, weights(model))
        runs.append(weights(model))
    assert torch.equal(*runs)
    assert bool(torch.isfinite(runs[0]).all())


def test_another_seed_ends_elsewhere() -> None:
    first, second = (make_ppo(small(), 2, seed=seed) for seed in (3, 4))
    for model in (first, second):
        model.learn(16)
    assert not torch.equal(weights(first), weights(second))


def test_a_saved_model_predicts_and_learns_on(tmp_path: Path) -> None:
    model = make_ppo(small(), 2, credit="marginal", hindsight=0.5, sample_share=0.5)
    model.learn(16)
    model.save(tmp_path / "model.zip")
    loaded = FleetPPO.load(tmp_path / "model.zip")
    assert torch.equal(weights(loaded), weights(model))
    assert (loaded.credit, loaded.hindsight, loaded.sample_share) == ("marginal", 0.5, 0.5)
    shown = {k: v.numpy() for k, v in observations(small(), 4).items()}
    expected, _ = model.predict(shown, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(shown, deterministic=True)[0], expected)
    loaded.set_env(AllocationVectorEnv(2, scenario=small()))
    loaded.learn(16, reset_num_timesteps=False)
    assert loaded.num_timesteps == 32
    assert not torch.equal(weights(loaded), weights(model))


@pytest.mark.parametrize(
    ("fleet", "networks"), [(ONE_RIG, "core"), ("random", {"names": ["render", "akash"]})]
)
def test_a_saved_model_goes_on_with_other_fleets_and_networks(
    fleet: Any, networks: Any, tmp_path: Path
) -> None:
    model = make_ppo(small(), 2)
    model.learn(16)
    model.save(tmp_path / "model.zip")
    s = build_scenario(fleet, networks, horizon=24)
    loaded = FleetPPO.load(tmp_path / "model.zip", AllocationVectorEnv(3, scenario=s))
    assert torch.equal(weights(loaded), weights(model))
    shown = observations(s, 2)
    orders, _ = loaded.predict({k: v.numpy() for k, v in shown.items()}, deterministic=True)
    assert legal(shown, torch.from_numpy(orders))
    loaded.learn(24)
    assert not torch.equal(weights(loaded), weights(model))


def test_sampled_predictions_repeat_after_a_seed() -> None:
    model = make_ppo(small(), 2)
    shown = {k: v.numpy() for k, v in observations(small(), 8).items()}
    drawn = []
    for seed in (1, 1, 2):
        model.set_random_seed(seed)
        drawn.append(model.predict(shown)[0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


class Count(BaseCallback):
    """Counts its calls, and stops the learning after so many steps."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.rollouts = most, 0

    def _on_step(self) -> bool:
        return self.n_calls < self.most

    def _on_rollout_end(self) -> None:
        self.rollouts += 1


def test_callbacks_are_called_each_step_and_can_stop() -> None:
    count = Count(10_000)
    make_ppo(small(), 2).learn(32, callback=count)
    assert (count.n_calls, count.rollouts) == (16, 2)
    model, stopping = make_ppo(small(), 2), Count(11)
    model.learn(10_000, callback=stopping)
    assert (stopping.n_calls, stopping.rollouts, model.num_timesteps) == (11, 1, 22)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_a_batch_beyond_the_rollout_is_the_whole_rollout() -> None:
    model = make_ppo(small(), 2, batch_size=10_000, n_epochs=1)
    start = weights(model)
    model.learn(16)
    assert not torch.equal(start, weights(model))


@pytest.mark.parametrize("given", ["plain", "vector", "adapter"])
def test_it_learns_on_any_of_our_environments(given: str) -> None:
    vector = AllocationVectorEnv(2, scenario=small())
    worlds: Any = {
        "plain": gymnasium.make("Nirmaan/Allocation-v0", fleet="small", networks="core", horizon=6),
        "vector": vector,
        "adapter": FleetVecEnv(vector),
    }[given]
    model = FleetPPO(
        FleetPolicy, worlds, n_steps=8, batch_size=8, n_epochs=1, policy_kwargs={"network": TINY}
    )
    model.learn(8 * model.n_envs)
    assert isinstance(model.action_space, spaces.MultiDiscrete)
    assert bool(torch.isfinite(weights(model)).all())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"credit": "rigs"}, "credit: expected rig or marginal or fleet, got 'rigs'"),
        ({"clip_range_vf": 0.2}, "clip_range_vf: expected None"),
        ({"gamma": 1.0}, r"gamma: expected a number in \[0, 1\), got 1.0"),
    ],
)
def test_a_wrong_argument_is_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_ppo(small(), 2, **kwargs)


def test_a_foreign_environment_is_refused() -> None:
    with pytest.raises(InputError, match="env: expected a FleetVecEnv or one of our environments"):
        FleetPPO(FleetPolicy, gymnasium.make("CartPole-v1"), policy_kwargs={"network": TINY})
