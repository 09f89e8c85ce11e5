"""What an hour is worth: shares that sum to the fleet's, and a fleet that leaves a risk it should.

The learning test has two networks and four identical rented rigs that cost c an hour. `steady` pays
1.2 c. `volatile` pays 2.5 c while it is up, and nothing while it is down, which it is for a part
d = 0.33 of the hours; an outage hits all rigs on it at once. With k rigs on `volatile`, the fleet
earns in the mean 4 * 0.2 c + k (2.3 - 2.5 d - 1) c = (0.8 + 0.48 k) c: profit wants k = 4. In the
hours of an outage the fleet's net is (0.8 - 1.2 k) c, below zero from k = 1 on; at a weight of 3
the penalty takes 3 d (1.2 k - 0.8) c = (1.19 k - 0.79) c, so every rig that leaves wins 0.71 c an
hour: the risk-averse fleet wants k = 1 at most. A move costs 4 c: worth it either way within the
48 hours (0.48 * 48 and 0.71 * 48), but not to dodge an outage of some hours and come back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from learners import make_ppo
from torch import Tensor

from agents.network import NetworkConfig
from agents.outlook import Policy
from agents.rules import BreakEven
from env.objective import Objective, rewards
from env.scenario import Scenario, build_scenario
from env.world import World

RISK_AVERSE = {"kind": "downside", "downside_weight": 3.0}
COST_USD_H, RIGS, HORIZON_H = 0.06, 4, 48  # rent of an interruptible RTX 3060
STEADY, VOLATILE = 0, 1
NEVER = (
    "rule_changes_per_year",
    "rule_change_sd",
    "estimate_lag_h",
    "estimate_sd",
    "spikes_per_year",
    "stops_per_year",
)
nets = st.lists(st.floats(-2.0, 2.0, width=32), min_size=1, max_size=6)
kinds = st.sampled_from(
    [Objective(), Objective("log_growth"), Objective("downside", downside_weight=2.0)]
)


def share(objective: Objective, net: list[float], equity_usd: float = 2000.0) -> Tensor:
    """The rewards [R] of rigs of a dollar's nominal cost each."""
    net_usd = torch.tensor([net])
    return rewards(objective, net_usd, torch.ones_like(net_usd), torch.tensor([equity_usd]))[0]


@given(nets, kinds)
def test_the_rigs_rewards_sum_to_the_fleets(net: list[float], objective: Objective) -> None:
    total = sum(net)
    start = 24.0 * objective.equity_days * len(net)
    fleet = {
        "profit": total,
        "log_growth": start * float(torch.log1p(torch.tensor(total / 2000.0).double())),
        "downside": total + 2.0 * min(total, 0.0),
    }[objective.kind]
    assert float(share(objective, net).sum()) == pytest.approx(
        fleet / len(net), abs=2e-3 if objective.kind == "log_growth" else 1e-5
    )


def test_a_rig_bears_all_of_what_its_loss_costs_the_fleet() -> None:
    """Fleet net -4 at weight 2: worth -12. One rig less of -1: -3, worth -9. It bears those 3."""
    averse = Objective("downside", downside_weight=2.0)
    assert share(averse, [-1.0] * 4).tolist() == [-0.75] * 4  # 3 over the nominal cost of 4


def test_rigs_that_earn_nothing_are_charged_for_nothing() -> None:
    for objective in (Objective("log_growth"), Objective("downside", downside_weight=2.0)):
        assert float(share(objective, [0.0, -3.0])[0]) == 0.0


@pytest.mark.parametrize("loss_usd", [0.0, 1999.0, 2000.0, 1e6])
def test_ruin_is_finite_and_a_larger_loss_is_never_better(loss_usd: float) -> None:
    growth = Objective("log_growth")
    less, more = (float(share(growth, [-x]).sum()) for x in (loss_usd, loss_usd + 1.0))
    assert more < less < 1e-6


def two_networks(folder: Path, objective: str | dict[str, Any]) -> Scenario:
    """The steady and the volatile network of this file's first lines."""
    outages = {"outages_per_year": 1400.0, "outage_mean_h": 2.0}
    calm = {"outages_per_year": 0.0}
    names = []
    for name, pay, risk in (("steady", 1.2, calm), ("volatile", 2.5, outages)):
        rules: dict[str, Any] = {
            "kind": "established",
            "token": None,
            "reference_gpu": "rtx_4090",
            "work": {"kind": "rig"},
            "target_margin": 0.3,
            "entry_per_day": 0.0,
            "demand": {
                "kind": "request",
                "price_per_work_h": pay * COST_USD_H / 0.8,
                "utilisation": 0.8,
                "volatility": 0.0,
                "rent_elasticity": 0.0,
                "outside_work": 1e6,
            },
            "commitment": {"gas_usd": 4 * COST_USD_H, "provisioning_h": 0.0},
            "risk": {**dict.fromkeys(NEVER, 0.0), **risk},
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(rules), encoding="utf-8")
        names.append(str(path))
    group = {"gpu": "rtx_3060", "gpu_count": 1, "count": RIGS, "site": "quebec_dc", "owned": False}
    fleet = {"rigs": [group]}
    return build_scenario(fleet, {"names": names}, objective=objective, horizon=HORIZON_H)


@torch.no_grad()
def time_at_risk(s: Scenario, policy: Policy) -> float:
    """Part of the rig-hours on the volatile network, in fresh worlds, after half a day."""
    world, there = World.start(s, list(range(1000, 1032))), []
    while not world.done:
        _, outcome = world.step(policy(world.observe()))
        there.append((outcome.network == VOLATILE).float().mean())
    return float(torch.stack(there[12:]).mean())


@pytest.mark.slow
def test_a_risk_averse_fleet_learns_to_hold_less_of_a_volatile_network(tmp_path: Path) -> None:
    rule = BreakEven(break_even_h=48.0, average_h=48.0, margin=0.01, marginal=0.0, attention=0.2)
    held = {}
    for name, objective, rollouts in (("profit", "profit", 8), ("averse", RISK_AVERSE, 16)):
        s = two_networks(tmp_path, objective)
        model = make_ppo(
            s,
            32,
            rule=rule,
            network=NetworkConfig(16, 8, 2.0),
            credit="marginal",
            gamma=0.98,
            n_steps=16,
            batch_size=128,
            n_epochs=4,
            learning_rate=3e-3,
        )
        model.learn(32 * 16 * rollouts)
        held[name] = time_at_risk(s, model.policy.orders)
    assert held["profit"] > 0.9
    assert held["averse"] < 0.7
