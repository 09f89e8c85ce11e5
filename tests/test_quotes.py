"""What networks charge and pay in a simulated world, against their documents' rules in float64."""

from __future__ import annotations

import ast
import math
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
from env.market import simulate_prices
from env.quotes import _twap
from env.scenario import BURN_IN_H, Scenario, build_scenario
from env.state import take

ENV = Path(env.__file__).parent
SUBNETS = ("bittensor_subnet", "bittensor_compute", "bittensor_serverless")


def quoted(s: Scenario, network: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Quotes of one network in four worlds, float64 [T, B] each."""
    seeds = torch.arange(4)
    table = simulate(s, take(draw_fleet(s, seeds), 4), seeds).quotes[..., index(network)]
    return {name: table[:, :, Quotes._fields.index(name)].double().numpy() for name in names}


def mortal(**rules: float) -> tuple[Scenario, Quotes]:
    """A scenario with these rules for all networks, and quotes of 16 worlds, [T, B, N] each."""
    calm = scenario()
    changed = {name: torch.full_like(getattr(calm.rules, name), v) for name, v in rules.items()}
    s = replace(calm, rules=replace(calm.rules, **changed))
    rows = torch.arange(16)
    return s, Quotes(*simulate(s, take(draw_fleet(s, rows), 16), rows).quotes.unbind(2))


def test_a_token_keeps_a_fiftieth_of_its_value_once_its_network_is_dead() -> None:
    s, q = mortal(deaths_per_h=1 / 24, unlaunched=0.0)
    alive = simulate_prices(s.market, torch.arange(16)).token_usd[..., s.rules.token]
    dead = q.open == 0
    assert not dead[: BURN_IN_H + 1].any()
    assert 0.5 < float(dead[-1].float().mean()) < 0.99
    torch.testing.assert_close(q.token_usd, torch.where(dead, 0.02 * alive, alive))


def test_outside_work_waits_for_a_launch_and_stays_on_a_network_that_is_dead() -> None:
    """Without the rule it would fall by three kappa an hour, for a unit of it earns nothing."""
    s, q = mortal(deaths_per_h=1 / 24, unlaunched=0.5)
    moved, open_ = q.outside_work[1:] != q.outside_work[:-1], q.open[:-1] > 0
    assert 0.2 < float(open_.float().mean()) < 0.8
    assert not moved[~open_].any()
    assert float(moved[open_ & (s.rules.entry_per_h > 0)].float().mean()) > 0.95


def test_a_spike_makes_an_estimate_e_times_the_truth_for_as_long_as_it_stands() -> None:
    """Without lag, noise and stops; every two days for three hours and parts of two more."""
    plain = {"estimate_sd": 0.0, "lag_h": 0.0, "stops_per_h": 0.0}
    (_, calm), (_, wild) = (mortal(spikes_per_h=rate, **plain) for rate in (0.0, 1 / 48))
    shown = calm.estimate > 0
    ratio = wild.estimate[shown] / calm.estimate[shown]
    spiked = ratio > 2.0
    torch.testing.assert_close(ratio, torch.where(spiked, math.e, 1.0), rtol=1e-5, atol=0.0)
    assert float(spiked.float().mean()) == pytest.approx(4 / 51, rel=0.1)
    assert torch.equal(wild.outside_work, calm.outside_work)  # suppliers know the truth


def test_a_feed_that_stops_shows_its_last_estimate_and_how_old_it_is() -> None:
    """Every day for twelve hours: a third of the time, and what is counted whole."""
    _, q = mortal(stops_per_h=1 / 24)
    age, stopped = q.estimate_age_h[1:], q.estimate_age_h[1:] > 0
    assert float(stopped.float().mean()) == pytest.approx(13 / 36, rel=0.1)
    assert torch.equal(age, torch.where(stopped, q.estimate_age_h[:-1] + 1, 0.0))
    assert torch.equal(q.estimate[1:][stopped], q.estimate[:-1][stopped])
    assert (q.estimate[1:] != q.estimate[:-1])[~stopped & (q.open[1:] > 0)].float().mean() > 0.9


YOUNG = """\
kind: emerging
token: IO
reference_gpu: rtx_4090
work: {kind: fp16}
target_margin: 0.5
emission:
  schedule: {kind: linear, tokens_per_day: 20000, decay_per_day: 50, start_date: "2026-11-23"}
  provider_share: 1.0
"""


def test_suppliers_wait_for_a_launch_in_the_numbers_that_the_day_s_emission_pays(
    tmp_path: Path,
) -> None:
    """An emission that falls by nine tenths in the year in which worlds start."""
    outside = []
    for late in (0.0, 1.0):
        path = tmp_path / str(late) / "young.yaml"
        path.parent.mkdir()
        risk = f"risk: {{unlaunched_share: {late}, rule_changes_per_year: 0}}\n"
        path.write_text(YOUNG + risk, encoding="utf-8")
        s = build_scenario("small", {"names": ["vast", str(path)]}, horizon=1)
        rows = torch.arange(32)
        q = Quotes(*simulate(s, take(draw_fleet(s, rows), 32), rows).quotes[0].unbind(1))
        assert bool((q.open[:, 1] == 1 - late).all())
        outside.append(q.outside_work[:, 1] / q.token_usd[:, 1])
    assert torch.equal(*outside)
    assert float(outside[0].amax() / outside[0].amin()) > 5.0


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
