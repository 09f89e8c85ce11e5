"""Compiled and bfloat16 training against plain eager: same losses, same gradients, same files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import scenario
from hydra import compose, initialize_config_dir
from learners import EAGER, awaken, make_policy, make_ppo, observations
from torch import Tensor

from agents.checkpoint import Best, load_training, restore, save_checkpoint, state
from agents.config import Config, load_config
from agents.features import Features
from agents.policy import FleetPolicy
from agents.ppo import FleetPPO, Loss
from agents.rollout import Sample
from agents.training import make_model
from agents.validation import Validated
from env.catalog import CONFIG_DIR
from env.errors import InputError
from env.scenario import Scenario
from train import plain

HOURS, WORLDS, CLIP = 8, 2, 0.2


def small() -> Scenario:
    return scenario("small", "core", 24)


def learner(compiled: bool = False, bf16: bool = False) -> FleetPPO:
    """A small learner with every part of the loss, its weights the same each time."""
    model = make_ppo(
        small(),
        WORLDS,
        compiled=compiled,
        policy_kwargs={"bf16": bf16},
        credit="marginal",
        hindsight=1.0,
        ent_coef=0.01,
    )
    awaken(model.policy)
    return model


def rollout(model: FleetPPO) -> list[Sample]:
    """Hours lived under the model's sampled orders, in the order of time."""
    model._setup_learn(1)
    torch.manual_seed(0)
    for _ in range(HOURS):
        model.rollout_buffer.add(0, model._groups[0].live(model._actor))
    model.rollout_buffer.finish([model._groups[0].values(model._actor)])
    return model.rollout_buffer.samples[::-1]


def step(model: FleetPPO, samples: list[Sample]) -> tuple[Loss, list[Tensor]]:
    """Loss and clipped gradients of one update; the weights stay as they are."""
    kept = {name: value.clone() for name, value in model.policy.state_dict().items()}
    loss = model.update(samples, CLIP)
    model.policy.load_state_dict(kept)
    gradients = [w.grad.clone() for w in model.policy.parameters() if w.grad is not None]
    return loss, gradients


@pytest.fixture(scope="module")
def compiled() -> FleetPPO:
    """A compiled learner: compiling is what takes these tests their time."""
    return learner(compiled=True)


@pytest.mark.slow
def test_compiled_training_is_eager_training_to_rounding(compiled: FleetPPO) -> None:
    eager = learner()
    lived, expected = rollout(compiled), rollout(eager)
    for ours, theirs in zip(lived, expected, strict=True):
        assert torch.equal(ours.slot.orders, theirs.slot.orders)
        for name in Features._fields:
            a, b = (getattr(sample.slot.features, name) for sample in (ours, theirs))
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.slot.log_probs, theirs.slot.log_probs, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.returns, theirs.returns, rtol=1e-5, atol=1e-5)
    for model in (compiled, eager):  # ratios that differ from one, as after some updates
        shift(model.policy)
    loss, gradients = step(compiled, expected)
    plain, plain_gradients = step(eager, expected)
    for name, value in plain._asdict().items():
        assert float(getattr(loss, name)) == pytest.approx(float(value), rel=1e-5, abs=1e-5), name
    assert len(gradients) == len(list(eager.policy.parameters()))
    assert float(plain.clipped) > 0.01
    for ours_g, theirs_g in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours_g, theirs_g, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def shift(policy: FleetPolicy) -> None:
    draw = torch.Generator().manual_seed(2)
    for weight in policy.parameters():
        weight.add_(0.08 * torch.randn(weight.shape, generator=draw))


@pytest.mark.slow
def test_compiled_and_eager_learners_exchange_files(compiled: FleetPPO, tmp_path: Path) -> None:
    """SB3's zip and our checkpoint, both ways: the same weights under the same names."""
    rollout(compiled)
    compiled.update(compiled.rollout_buffer.samples, CLIP)  # it is compiled, and the optimiser's
    weights = compiled.policy.state_dict()
    best = Best(0, Validated(0.0, 0.0, 0.0), compiled.policy.network_config, weights)
    save_checkpoint(tmp_path, 1, best, state(compiled))
    eager = learner()
    rollout(eager)
    restore(eager, load_training(tmp_path))
    compiled.save(tmp_path / "model.zip")
    unzipped = FleetPPO.load(tmp_path / "model.zip", compiled=False)
    again = FleetPPO.load(tmp_path / "model.zip")
    assert (unzipped.compiled, again.compiled) == (False, True)
    shown = {key: value.numpy() for key, value in observations(small(), 2).items()}
    expected = compiled.predict(shown, deterministic=True)[0]
    for other in (eager, unzipped, again):
        assert other.policy.state_dict().keys() == weights.keys()
        for name, value in other.policy.state_dict().items():
            assert torch.equal(value, weights[name])
        assert (other.predict(shown, deterministic=True)[0] == expected).all()
    eager.save(tmp_path / "eager.zip")
    assert FleetPPO.load(tmp_path / "eager.zip", compiled=True).compiled


def test_bfloat16_touches_the_layers_alone_and_little() -> None:
    plain, half = make_policy(small()), make_policy(small())
    half.bf16 = True
    seen = observations(small(), 24)
    features = plain.features(seen)
    for name in Features._fields:
        assert torch.equal(getattr(half.features(seen), name), getattr(features, name))
    ours, theirs = half.view(features), plain.view(features)
    assert ours.values.dtype == ours.choices.log_probs.dtype == torch.float32
    assert not torch.equal(ours.values, theirs.values)
    torch.testing.assert_close(ours.values, theirs.values, rtol=0.05, atol=0.05)
    torch.testing.assert_close(ours.choices.probs, theirs.choices.probs, rtol=0.1, atol=0.02)
    assert torch.equal(half.network.logits(features), plain.network.logits(features))
    assert torch.equal(half.orders(seen), plain.orders(seen))


def test_a_bfloat16_update_goes_the_way_of_float32() -> None:
    plain, half = learner(), learner(bf16=True)
    samples = rollout(plain)
    for model in (plain, half):
        shift(model.policy)
    (loss, gradients), (expected, plain_gradients) = step(half, samples), step(plain, samples)
    for name in ("policy", "value", "entropy", "hindsight"):
        value = float(getattr(expected, name))
        assert float(getattr(loss, name)) == pytest.approx(value, rel=0.05, abs=0.02), name
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    ours, theirs = (torch.cat([g.flatten() for g in of]) for of in (gradients, plain_gradients))
    assert float(torch.cosine_similarity(ours, theirs, 0)) > 0.99
    assert not torch.equal(ours, theirs)


def test_what_bfloat16_learned_orders_nearly_what_float32_learned() -> None:
    learned = []
    for bf16 in (False, True):
        model = learner(bf16=bf16)
        samples = rollout(learner())
        for _ in range(10):
            model.update(samples, CLIP)
        learned.append(model.policy.orders(observations(small(), 24)))
    start = learner().policy.orders(observations(small(), 24))
    apart, moved = ((learned[0] != other).float().mean() for other in (learned[1], start))
    assert float(apart) < 0.02
    assert float(apart) < 0.5 * float(moved)


def test_precision_survives_a_zip(tmp_path: Path) -> None:
    learner(bf16=True).save(tmp_path / "model.zip")
    assert FleetPPO.load(tmp_path / "model.zip").policy.bf16
    learner().save(tmp_path / "model.zip")
    assert not FleetPPO.load(tmp_path / "model.zip").policy.bf16


def test_a_machine_that_cannot_compile_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"compile: expected a C.. compiler.*'no-such-compiler'"):
        learner(compiled=True)


def composed(*overrides: str) -> Config:
    """What the command line `python train.py` with these overrides would run."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return load_config(plain(compose("train", list(overrides))))[0]


def test_only_the_run_for_a_gpu_compiles_and_takes_bfloat16() -> None:
    default, full = composed(), composed("experiment=full")
    assert (default.device, default.agent.compile, default.agent.bf16) == ("cpu", False, False)
    assert (full.device, full.agent.compile, full.agent.bf16) == ("cuda", True, True)


def test_options_of_the_agent_reach_the_learner() -> None:
    for wanted in (False, True):
        agent = replace(composed("experiment=smoke").agent, compile=wanted, bf16=wanted)
        model = make_model(agent, small(), EAGER, 0)
        assert (model.compiled, model.policy.bf16) == (wanted, wanted)
