"""What networks charge and pay in a simulated world, against their documents' rules in float64."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scenario
from simulated import index, rule

import env
from env.exogenous import Quotes, simulate
from env.fleet import draw_fleet
from env.quotes import _twap
from env.scenario import Scenario
from env.state import take

ENV = Path(env.__file__).parent
SUBNETS = ("bittensor_subnet", "bittensor_compute", "bittensor_serverless")


def quoted(s: Scenario, network: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Quotes of one network in four worlds, float64 [T, B] each."""
    seeds = torch.arange(4)
    table = simulate(s, take(draw_fleet(s, seeds), 4), seeds).quotes[..., index(network)]
    return {name: table[:, :, Quotes._fields.index(name)].double().numpy() for name in names}


@pytest.mark.parametrize("network", SUBNETS)
def test_a_burn_halves_in_72_minutes_and_rises_by_26_percent_a_registration(network: str) -> None:
    """subtensor: DefaultBurnHalfLife 360 blocks of 12 s, DefaultBurnIncreaseMult 1.26."""
    calm = scenario()
    often = torch.full_like(calm.rules.registrations_per_h, 4.0)
    busy = replace(calm, rules=replace(calm.rules, registrations_per_h=often))
    q = quoted(busy, network, ("burn_usd", "burn_token_usd", "registrations"))
    lowest = rule(network, "burn_tokens")
    burn = np.full(q["burn_usd"].shape[1], lowest)
    dear = 0
    for hour, count in enumerate(q["registrations"]):
        tokens = q["burn_usd"][hour] / q["burn_token_usd"][hour]
        np.testing.assert_allclose(tokens, burn, rtol=1e-4)
        burn = np.maximum(burn * 1.26**count * 0.5 ** (300 / 360), lowest)
        dear += int((burn > lowest).sum())
    assert dear > 200  # world-hours above its floor


def test_a_dollar_owed_in_tokens_is_paid_at_the_average_price_of_the_hour() -> None:
    """AEP-76: `ACT / TWAP` tokens, then sold at the price of the hour; no spread on Akash."""
    q = quoted(scenario(), "akash", ("fee_usd", "token_usd"))
    token, before = q["token_usd"], np.concatenate((q["token_usd"][:1], q["token_usd"][:-1]))
    np.testing.assert_allclose(q["fee_usd"], token / ((token + before) / 2), rtol=1e-5)


def test_every_formula_of_the_mechanisms_runs_in_the_simulator() -> None:
    """A formula that only tests call proves nothing about the worlds."""
    sources = {path: path.read_text(encoding="utf-8") for path in ENV.rglob("*.py")}
    calls = [
        node.func
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    ]
    called = {
        f.attr if isinstance(f, ast.Attribute) else f.id
        for f in calls
        if isinstance(f, ast.Attribute | ast.Name)
    }
    defined = {
        node.name
        for path in (ENV / "networks").glob("*.py")
        for node in ast.parse(sources[path]).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert len(defined) > 15
    assert defined - called == set()


def test_the_average_price_is_the_mean_of_a_line_through_the_hours() -> None:
    """Windows of half an hour, an hour and a day against the integral of the line, written out."""
    price = 1.0 + torch.rand(60, 2, 3, generator=torch.Generator().manual_seed(0))
    average = _twap(price, torch.tensor([0.5, 1.0, 24.0]))
    now, before = price[40], price[39]
    torch.testing.assert_close(average[40, :, 0], (0.75 * now + 0.25 * before)[:, 0])
    torch.testing.assert_close(average[40, :, 1], (0.5 * now + 0.5 * before)[:, 1])
    day = price[16:41, :, 2]  # 25 prices, 24 hours
    torch.testing.assert_close(average[40, :, 2], (day.sum(0) - (day[0] + day[-1]) / 2) / 24)
    still = _twap(price[:1].expand(60, -1, -1), torch.tensor([0.5, 1.0, 24.0]))
    torch.testing.assert_close(still, price[:1].expand(60, -1, -1))
