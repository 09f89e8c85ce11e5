"""Learning is real: from a starting rule that is wrong to what a closed form says is right.

Two networks that pay for metered requests, in USD and at constant prices, without outages, warm-up
or noise: what a move is worth can be written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from learners import make_ppo
from torch import Tensor

from agents.network import NetworkConfig
from agents.outlook import Policy
from agents.ppo import FleetPPO
from agents.rules import BreakEven
from env.scenario import Scenario, build_scenario
from env.world import World

HORIZON_H, GAMMA = 48, 0.98  # what comes after the horizon counts as if it went on
NEVER = [
    "outages_per_year",
    "rule_changes_per_year",
    "rule_change_sd",
    "estimate_lag_h",
    "estimate_sd",
    "spikes_per_year",
    "stops_per_year",
]
POOR, RICH = 0, 1


def network(folder: Path, name: str, usd_h: float, entry_usd: float, size: float) -> str:
    """A catalogue file: each rig is a unit of work, and a network without us pays it `usd_h`."""
    path = folder / f"{name}.yaml"
    rules: dict[str, Any] = {
        "kind": "established",
        "token": None,
        "reference_gpu": "rtx_4090",
        "work": {"kind": "rig"},
        "target_margin": 0.3,
        "entry_per_day": 0.0,
        "demand": {
            "kind": "request",
            "price_per_work_h": usd_h / 0.8,
            "utilisation": 0.8,
            "volatility": 0.0,
            "rent_elasticity": 0.0,
            "outside_work": size,
        },
        "commitment": {"gas_usd": entry_usd, "provisioning_h": 0.0},
        "risk": dict.fromkeys(NEVER, 0.0),
    }
    path.write_text(yaml.safe_dump(rules), encoding="utf-8")
    return str(path)


def two_networks(
    folder: Path, rigs: int, entry_usd: float, other_usd_h: float, size: float
) -> Scenario:
    """Identical rigs, a deep network that pays 1 USD/h, and another."""
    names = [
        network(folder, "deep", 1.0, entry_usd, 1e6),
        network(folder, "other", other_usd_h, entry_usd, size),
    ]
    group = {"gpu": "rtx_3060", "gpu_count": 1, "count": rigs, "site": "quebec_dc"}
    return build_scenario({"rigs": [group]}, {"names": names}, horizon=HORIZON_H)


def learner(s: Scenario, rule: BreakEven, sharpness: float, **kwargs: Any) -> FleetPPO:
    network_config = NetworkConfig(16, 8, sharpness)
    sizes: dict[str, Any] = {"n_steps": 16, "batch_size": 128, "n_epochs": 4, "learning_rate": 3e-3}
    return make_ppo(s, 32, rule=rule, network=network_config, gamma=GAMMA, **sizes, **kwargs)


@torch.no_grad()
def places(s: Scenario, policy: Policy) -> tuple[World, Tensor]:
    """Fresh worlds lived to their end, and where the rigs stood each hour, [T, B, R]."""
    world, stood = World.start(s, list(range(1000, 1016))), []
    stood.append(world.state.assignment)
    while not world.done:
        world.step(policy(world.observe()))
        stood.append(world.state.assignment)
    return world, torch.stack(stood)


def moved(s: Scenario, policy: Policy) -> float:
    """Share of the rigs that began on the poor network and ended on the rich one."""
    _, stood = places(s, policy)
    return float((stood[-1] == RICH)[stood[0] == POOR].float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry_usd", "break_even_h", "move", "kwargs"),
    [
        (10.0, 0.25, True, {"foresight": True}),
        (200.0, 1000.0, False, {"hindsight": 1.0}),
    ],
)
def test_a_wrong_sense_of_what_a_move_is_worth_is_unlearned(
    entry_usd: float, break_even_h: float, move: bool, kwargs: dict[str, Any], tmp_path: Path
) -> None:
    """A move gains 1 USD/h for 48 hours (50 discounted ones): at 10 USD all should go, at 200 none.
    The first policy asks for its money back in a quarter of an hour, or is content with 1000."""
    s = two_networks(tmp_path, rigs=4, entry_usd=entry_usd, other_usd_h=2.0, size=1e6)
    rule = BreakEven(break_even_h=break_even_h, average_h=48.0, margin=0.01, attention=0.3)
    model = learner(s, rule, sharpness=3.0, **kwargs)
    before = moved(s, model.policy.orders)
    assert before < 0.5 if move else before > 0.9
    model.learn(32 * 16 * 18)
    after = moved(s, model.policy.orders)
    assert after > 0.9 if move else after < 0.1


@pytest.mark.slow
def test_rigs_paid_by_their_margin_split_where_rigs_paid_by_the_average_crowd(
    tmp_path: Path,
) -> None:
    """Twenty identical rigs, and a thin network that shares F = 20 USD/h among outside work W = 5
    and theirs, w: F w / (W + w) + 20 - w is largest at w = sqrt(F W) - W = 5, while the average pay
    F / (W + w) beats 1 USD/h up to w = F - W = 15. W varies from world to world."""
    s = two_networks(tmp_path, rigs=20, entry_usd=0.2, other_usd_h=4.0, size=5.0)
    q = World.start(s, list(range(1000, 1016))).now.quotes
    outside, shared = q.outside_work[:, RICH], (q.demand_work * q.fee)[:, RICH]
    best, crowded = torch.sqrt(shared * outside) - outside, shared - outside

    def profit(own: Tensor) -> float:
        return float((shared * own / (outside + own) + 20.0 - own).mean())

    rule = BreakEven(break_even_h=48.0, average_h=48.0, margin=0.01, marginal=0.0, attention=0.2)
    earned, least = {}, profit(crowded)
    for credit in ("marginal", "rig"):
        model = learner(s, rule, sharpness=2.0, credit=credit)
        model.learn(32 * 16 * 12)
        own = (places(s, model.policy.orders)[1][24:] == RICH).float().sum(-1)  # [T, B]
        hourly = torch.tensor([profit(one) for one in own])
        earned[credit] = float((hourly.mean() - least) / (profit(best) - least))
        expected = float((best if credit == "marginal" else crowded).mean())
        assert abs(float(own.mean()) - expected) < 3.5, credit
    assert earned["marginal"] > 0.85  # of what there is between crowd and optimum
    assert earned["rig"] < 0.3
