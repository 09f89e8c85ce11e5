"""The tuned rule in the manifest: in its one form it is what the rules themselves are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.manifest import fallback, linear_rule
from agents.outlook import average_usd, read
from agents.rules import BreakEven, CertaintyEquivalent, EmaHysteresis, Greedy
from agents.rules import Rule as Rules
from agents.serve.accounting import Rule
from agents.tuning import Tuned
from env.observation import COLUMNS


@given(st.floats(6.0, 336.0))
def test_the_weights_of_break_even_are_its_own_average(average_h: float) -> None:
    rule = linear_rule("break_even", BreakEven(average_h=average_h))
    draw = torch.Generator().manual_seed(0)
    networks = torch.rand(1, 6, len(COLUMNS["networks"]), generator=draw)
    observation = {"networks": networks}
    averages = [read(observation, "networks", f"ema_{h}h_usd") for h in (6, 48, 336)]
    mixed = sum(w * a for w, a in zip(rule["weights"], averages, strict=True))
    expected = average_usd(observation, average_h)[:, 0]
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-6)
    assert sum(rule["weights"]) == pytest.approx(1.0)
    Rule.read(rule)


@pytest.mark.parametrize(("half_life_h", "horizon_h"), [(6.0, 24.0), (48.0, 240.0), (700.0, 30.0)])
def test_the_weights_of_the_mpc_are_the_mean_of_its_path(
    half_life_h: float, horizon_h: float
) -> None:
    """From the short average to the long one with the half-life, summed hour by hour."""
    rule = linear_rule("mpc", CertaintyEquivalent(half_life_h=half_life_h, horizon_h=horizon_h))
    hours = (np.arange(100_000) + 0.5) * horizon_h / 100_000
    assert rule["weights"][0] == pytest.approx(np.mean(0.5 ** (hours / half_life_h)), rel=1e-6)
    assert rule["weights"][1] == 0.0
    assert sum(rule["weights"]) == pytest.approx(1.0)


def test_hysteresis_reads_the_48_hour_average_undiluted_by_its_margin() -> None:
    rule = linear_rule("ema_hysteresis", EmaHysteresis(horizon_h=90.0, margin=0.2, attention=0.3))
    assert rule == {
        "name": "ema_hysteresis",
        "weights": [0.0, 1.0, 0.0],
        "horizon_h": 90.0,
        "margin": 0.2,
        "marginal": 0.0,
        "attention": 0.3,
    }


def test_the_fallback_is_the_best_rule_that_serving_can_compute() -> None:
    rules: dict[str, Rules] = {
        "greedy": Greedy(),
        "break_even": BreakEven(break_even_h=77.0),
        "certainty_equivalent": CertaintyEquivalent(),
    }
    nets = {"greedy": 9.0, "break_even": 2.0, "certainty_equivalent": 1.0}
    found = fallback(Tuned(rules, "greedy", nets))
    assert (found["name"], found["horizon_h"]) == ("break_even", 77.0)
