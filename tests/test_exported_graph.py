"""The exported graph decides as torch does, whatever it is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import Exported, small_run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents import export, parity
from agents.config import Config
from agents.golden import live, scenario_of
from agents.graph import Inputs
from agents.parity import ParityError, answer
from env.observation import column

MARGIN = 1e-4  # of probability, beyond which orders must agree


@pytest.fixture(scope="module")
def seen(config: Config, both: Exported) -> Inputs:
    """Facts of 3 worlds of 12 rigs after 30 hours under the policy."""
    *_, (_, inputs, _) = live(both[0], scenario_of(config, 12, 30), 3, 30)
    return inputs


def part(seen: Inputs, worlds: Tensor, rigs: Tensor, networks: Tensor) -> Inputs:
    """Some of the worlds, rigs and networks, in that order; a rig whose network is left out is on
    the last one. Of whole numbers, so that a permutation keeps every assignment."""
    place = (seen.assignment[worlds][:, rigs].unsqueeze(-1) == networks).long()
    assignment = torch.where(place.any(-1), place.argmax(-1), len(networks) - 1)
    return Inputs(
        seen.rigs[worlds][:, rigs].contiguous(),
        seen.networks[worlds][:, networks].contiguous(),
        seen.work[worlds][:, rigs][:, :, networks].contiguous(),
        assignment,
        seen.market[worlds].contiguous(),
        seen.memory[worlds][:, :, networks].contiguous(),
        seen.dt_h,
    )


@torch.no_grad()
def agree(both: Exported, inputs: Inputs) -> None:
    """Equal orders where the margin is clear; probabilities and memory nearly equal."""
    graph, exported = both
    expected = [tensor.numpy() for tensor in graph(*inputs)]
    orders, probs, memory = answer(exported, inputs)
    clear = expected[3] > MARGIN
    np.testing.assert_array_equal(orders[clear], expected[0][clear])
    np.testing.assert_allclose(probs, expected[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(memory, expected[2], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_graph_decides_as_torch_for_any_number_of_worlds_rigs_and_networks(
    both: Exported, seen: Inputs, data: st.DataObject
) -> None:
    worlds, rigs, networks = (
        torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=least, max_size=most)))
        for size, least, most in ((3, 1, 3), (12, 1, 20), (seen.networks.shape[1], 2, 24))
    )
    chosen = part(seen, worlds, rigs, networks)
    factor = 2.0 ** data.draw(st.integers(-3, 3))
    shifted = chosen.networks.clone()
    shifted[..., column("networks", "estimate_usd")] *= factor
    dt_h = torch.tensor(data.draw(st.sampled_from([0.0, 0.25, 1.0, 6.0])))
    agree(both, chosen._replace(networks=shifted, dt_h=dt_h))


@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 1, 1), (1, 300, 40), (3, 2, 3)])
def test_the_graph_has_no_size_of_its_own(
    both: Exported, seen: Inputs, sizes: tuple[int, int, int]
) -> None:
    """Also where what it was traced with would let a tracer fix a dimension: one, two, *off*."""
    limits = (3, 12, seen.networks.shape[1])
    agree(
        both, part(seen, *(torch.arange(n) % most for n, most in zip(sizes, limits, strict=True)))
    )


def test_the_policy_itself_and_its_graph_order_the_same(
    exported_run: Path, config: Config, both: Exported
) -> None:
    """What `train.py` scores is `FleetPolicy.orders` on the world's own observation."""
    from agents.training import load_policy

    scenario = scenario_of(config, 12, 24)
    policy = load_policy(exported_run, scenario)
    for world, _, expected in live(both[0], scenario, 4, 24):
        assert torch.equal(policy(world.observe()), expected.orders)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_single_broken_number_makes_the_graph_order_what_is_not_legal(
    both: Exported, seen: Inputs, value: float
) -> None:
    """One cell of each column at a time, as many worlds as there are columns."""
    for group in ("rigs", "networks", "market", "memory", "work"):
        axis = {"memory": 1, "work": 2}.get(group, -1)
        count = getattr(seen, group).shape[axis]
        broken = getattr(seen, group)[:1].repeat_interleave(count, 0)
        columns = broken.movedim(axis, -1)  # a view
        for k in range(count):
            columns[(k, *(1,) * (columns.ndim - 2), k)] = value
        assert int((~torch.isfinite(broken)).sum()) == count
        many = Inputs(
            *(t[:1].repeat(count, *(1 for _ in t.shape[1:])) if t.ndim else t for t in seen)
        )._replace(**{group: broken})
        orders, probs, _ = answer(both[1], many)
        open_ = many.networks[..., column("networks", "open")].numpy()[:, None] > 0
        here = np.eye(many.networks.shape[1], dtype=bool)[many.assignment.numpy()]
        legal = (many.work.numpy() > 0) & open_ & ~here
        moved = orders > 0
        chosen = np.take_along_axis(legal, np.maximum(orders - 1, 0)[..., None], -1)[..., 0]
        assert (chosen | ~moved).all(), group
        assert ((orders >= 0) & (orders <= legal.shape[-1])).all()
        assert (probs[..., 1:][~legal] == 0).all()


@torch.no_grad()
def test_another_order_of_rigs_and_networks_reorders_the_graphs_answers(
    both: Exported, seen: Inputs
) -> None:
    draw = torch.Generator().manual_seed(0)
    rigs = torch.randperm(seen.rigs.shape[1], generator=draw)
    networks = torch.randperm(seen.networks.shape[1], generator=draw)
    orders, probs, memory = answer(both[1], seen)
    turned = answer(both[1], part(seen, torch.arange(3), rigs, networks))
    choices = torch.cat((torch.zeros(1, dtype=torch.int64), networks + 1)).numpy()
    clear = both[0](*seen).margin.numpy()[:, rigs] > MARGIN
    np.testing.assert_array_equal(choices[turned[0]][clear], orders[:, rigs][clear])
    np.testing.assert_allclose(turned[1], probs[:, rigs][:, :, choices], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(turned[2], memory[:, :, networks])
    assert clear.mean() > 0.9


def test_parity_was_measured_on_ten_thousand_decisions_of_each_size(
    manifest: dict[str, Any],
) -> None:
    assert set(manifest["parity"]["rigs"]) == {"1", "32", "1024"}
    for found in manifest["parity"]["rigs"].values():
        assert found["decisions"] >= 10_000
        assert found["compared"] + found["close"] == found["decisions"]
        assert found["compared"] > 0.99 * found["decisions"]
        assert found["differing"] == 0
        assert found["max_logit_difference"] < 1e-4


def test_a_graph_of_other_weights_is_refused_with_one_line_and_nothing_is_written(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = small_run(tmp_path / "run", noise=0.06)
    other = (bundle / "policy.onnx").read_bytes()
    monkeypatch.setattr(export, "to_onnx", lambda graph, example: other)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        export.script([f"run={run}"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: policy.onnx: expected .*, got .*\n", said)
    assert sorted(tmp_path.rglob("*")) == before


Answers = tuple[np.ndarray, ...]


def _shrunk(probs: np.ndarray) -> np.ndarray:
    """Probabilities that are small, a hundredth smaller."""
    return np.where(probs < 1e-3, 0.99 * probs, probs)


WRONG: dict[str, tuple[Callable[[Answers], Answers], str]] = {
    "nan": (lambda a: (a[0], a[1] + np.nan, a[2]), "every probability .* nan away"),
    "half": (lambda a: (a[0], 0.5 * (a[1] > 0), a[2]), "every logit within 0.0001 of torch's"),
    "small": (lambda a: (a[0], _shrunk(a[1]), a[2]), r"every logit .* 0\.01\d* away"),
    "never": (lambda a: (a[0], np.where(a[1] < 0.1, 0.0, a[1]), a[2]), "every probability .* 0"),
    "memory": (lambda a: (a[0], a[1], 1.001 * a[2]), r"every memory .* 0\.001\d* away"),
    "memory_nan": (lambda a: (a[0], a[1], a[2] + np.nan), "every memory .* nan away"),
    "orders": (lambda a: (a[0] * 0, *a[1:]), r"torch's orders .* others for \d+ of \d+"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_graph_whose_orders_or_numbers_are_wrong_is_refused_and_told_by_how_much(
    wrong: str, config: Config, both: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, said = WRONG[wrong]

    def broken(_: Any, inputs: Inputs) -> Answers:
        return spoil(tuple(tensor.numpy() for tensor in both[0](*inputs)[:3]))

    monkeypatch.setattr(parity, "session", lambda model: None)
    monkeypatch.setattr(parity, "answer", torch.no_grad()(broken))
    monkeypatch.setattr(parity, "SIZES", ((2, 16, 24),))
    with pytest.raises(ParityError, match=rf"policy.onnx: expected {said}.*\(fleets of 2 rigs\)"):
        parity.check_parity(b"", both[0], config)
