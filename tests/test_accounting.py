"""The accounting of serving is that of the torch rules, and worked examples of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import Rig, by_hand, even, lived

from agents.outlook import Observation, net_usd_h, read
from agents.rules import BreakEven, CertaintyEquivalent, EmaHysteresis
from agents.serve.accounting import (
    RULES,
    Floats,
    Rule,
    account,
    rule_orders,
    terms,
    value_moves,
)
from agents.serve.closings import close
from agents.serve.errors import FieldError
from agents.serve.snapshot import Snapshot


def forecast(half_life_h: float, horizon_h: float) -> tuple[float, float, float]:
    """Weights of the averages of 6, 48 and 336 h in the mean of a decay over the horizon."""
    ratio = horizon_h / half_life_h * math.log(2.0)
    short = (1.0 - math.exp(-ratio)) / ratio
    return short, 0.0, 1.0 - short


PAIRS: dict[str, tuple[Callable[[Observation], torch.Tensor], Rule]] = {
    "break_even": (
        BreakEven(125.0, 6.0 * 8.0**0.25, 0.043, 0.86, 0.6),
        Rule("break_even", (0.75, 0.25, 0.0), 125.0, 0.043, 0.86, 0.6),
    ),
    "certainty_equivalent": (
        CertaintyEquivalent(24.7, 182.0, 0.05, 0.69, 0.6),
        Rule("certainty_equivalent", forecast(24.7, 182.0), 182.0, 0.05, 0.69, 0.6),
    ),
    "ema_hysteresis": (
        EmaHysteresis(154.0, 0.17, 0.6),
        Rule("ema_hysteresis", (0.0, 1.0, 0.0), 154.0, 0.17, 0.0, 0.6),
    ),
}


@pytest.mark.parametrize("networks", ["core", "default"])
@pytest.mark.parametrize("fleet", ["small", "mixed", "random"])
@pytest.mark.parametrize("name", RULES)
def test_orders_are_those_of_the_torch_rule(name: str, fleet: str, networks: str) -> None:
    torch_rule, rule = PAIRS[name]
    moves = 0
    for seen, k, snapshot, memory in lived(fleet, networks, torch_rule, hours=16):
        found = rule_orders(snapshot, account(snapshot, memory, rule), rule)
        assert found.tolist() == torch_rule(seen)[k].tolist()
        moves += int((found > 0).sum())
    assert moves > 0


@pytest.mark.parametrize("networks", ["core", "default"])
@pytest.mark.parametrize("fleet", ["small", "mixed", "random"])
def test_gains_and_present_pay_are_those_of_the_torch_rule(fleet: str, networks: str) -> None:
    torch_rule, rule = (
        BreakEven(125.0, 48.0, 0.043, 0.86, 0.6),
        even(horizon_h=125.0, margin=0.043, marginal=0.86),
    )
    for seen, k, snapshot, memory in lived(fleet, networks, torch_rule, hours=6):
        found = account(snapshot, memory, rule)
        legal = seen["action_mask"][k, :, 1:].numpy() > 0
        assert np.array_equal(found.legal, legal)
        # a gain is a difference of values: compared on the scale of what is subtracted
        worth = np.abs(found.value) + np.abs(found.here[:, None])
        scale = rule.horizon_h * worth + found.entry_usd + 1e-6
        torch_gain = torch_rule.gain_usd(seen)[k].numpy()
        assert np.abs(found.gain_usd - torch_gain).max(initial=0.0, where=legal) > 0.0
        assert (np.abs(found.gain_usd - torch_gain) / scale)[legal].max() < 1e-4
        estimate, here = read(seen, "networks", "estimate_usd").unsqueeze(1), snapshot.assignment
        paid = net_usd_h(seen, estimate, 0.0)[k].numpy()[np.arange(len(here)), here]
        runs = (snapshot.of("up") > 0) & (snapshot.on("up") > 0)[here]
        assert found.paid_usd_h[runs] == pytest.approx(paid[runs], rel=1e-4, abs=1e-6)
        assert (found.paid_usd_h[~runs] == 0.0).all()


def test_a_worked_example() -> None:
    # akash pays 2 USD a unit and hour, a tenth of it lost to vesting, and has 30 units of others
    # and 10 of ours, of which this rig has 4; nosana pays 1.5 USD for 6 units beside 54 of others.
    # Energy is 0.5 kW at 0.2 USD, 0.1 USD/h. On akash the rig is paid 4 * 2 * 0.9 * 30/40 - 0.1 =
    # 5.3 USD/h, there it would be paid 6 * 1.5 * 54/60 - 0.1 = 8 USD/h: a gain of 2.7 USD/h.
    # Entering takes 3 h worth 8 USD each, 5 USD of burn and gas, and leaving 7 USD: 36 USD.
    # Over 100 h, with 10 % of 5.3 USD/h as a margin: 100 * (2.7 - 0.53) - 36 = 181 USD.
    rig: Rig = {
        "on": "akash",
        "owned": 1.0,
        "power_kw": 0.5,
        "tariff_usd_kwh": 0.2,
        "leaving_usd": 7.0,
    }
    other: Rig = {"on": "akash", "work": {"akash": 6.0, "nosana": 0.0}}
    akash = {"estimate_usd": 2.0, "lockup": 0.1, "outside_work": 30.0}
    nosana = {"estimate_usd": 1.5, "outside_work": 54.0, "burn_usd": 4.0, "gas_usd": 1.0}
    nosana |= {"provisioning_h": 1.0, "warmup_h": 2.0}
    work = {"akash": 4.0, "nosana": 6.0}
    snapshot, memory = by_hand([{**rig, "work": work}, other], {"akash": akash, "nosana": nosana})
    found = account(snapshot, memory, even(margin=0.1))
    assert found.here[0] == pytest.approx(5.3)
    assert found.value[0] == pytest.approx([5.3, 8.0, 0.0])
    assert found.paid_usd_h[0] == pytest.approx(5.3)
    assert found.gain_usd_h[0] == pytest.approx([0.0, 2.7, -5.3])
    assert found.entry_usd[0] == pytest.approx([0.0, 36.0, 7.0])
    assert found.gain_usd[0, 1] == pytest.approx(181.0)
    assert found.legal.tolist() == [[False, True, True], [False, False, True]]
    assert rule_orders(snapshot, found, even(margin=0.1)).tolist() == [2, 0]


def test_marginal_value_is_what_the_fleet_gains_by_the_rig() -> None:
    # a pool of 30 USD/h among 2 units of others, 4 of our other rig and 1 of this one
    def fleet(work: float) -> float:
        return 30.0 * work / (2.0 + work)

    rigs: list[Rig] = [{"on": "thin"}, {"on": "thin", "work": {"thin": 4.0}}]
    snapshot, memory = by_hand(rigs, {"thin": {"estimate_usd": 15.0, "outside_work": 2.0}})
    marginal = account(snapshot, memory, even(marginal=1.0)).value[0, 0]
    assert marginal == pytest.approx(fleet(5.0) - fleet(4.0))
    average = account(snapshot, memory, even(marginal=0.0)).value[0, 0]
    assert average == pytest.approx(fleet(5.0) / 5.0)
    away, memory = by_hand([{"on": "off"}, rigs[1]], {"thin": {"estimate_usd": 15.0}})
    away.networks[0] = snapshot.networks[0]
    away.networks[0, list(away.networks[0]).index(5.0)] = 4.0  # own work without the rig
    assert account(away, memory, even(marginal=1.0)).value[0, 0] == pytest.approx(marginal)


def test_the_hours_lost_count_at_the_undiluted_average_for_ema_hysteresis_alone() -> None:
    # 2 h at 10 USD; with our own unit beside one of others half of it is paid: 5 USD
    thin = {"estimate_usd": 10.0, "outside_work": 1.0, "warmup_h": 2.0}
    snapshot, memory = by_hand([{"on": "off"}], {"thin": thin})
    assert account(snapshot, memory, even()).entry_usd[0, 0] == pytest.approx(10.0)
    rule = replace(even(), name="ema_hysteresis")
    assert account(snapshot, memory, rule).entry_usd[0, 0] == pytest.approx(20.0)


def test_a_rig_or_network_that_is_down_is_paid_nothing_now() -> None:
    pays = {"estimate_usd": 1.0}
    rigs: list[Rig] = [{"on": "a"}, {"on": "a", "up": 0.0}, {"on": "b"}]
    snapshot, memory = by_hand(rigs, {"a": pays, "b": {**pays, "up": 0.0}})
    found = account(snapshot, memory, even())
    assert found.paid_usd_h[0] > 0
    assert found.paid_usd_h[1:].tolist() == [0.0, 0.0]
    assert found.value[1, 0] > 0  # it will be up again


def test_a_network_without_an_estimate_now_is_not_legal_whatever_its_averages() -> None:
    pays = {"estimate_usd": 1.0}
    snapshot, memory = by_hand([{"on": "a"}], {"a": pays, "b": pays})
    snapshot.on("estimate_usd")[1] = math.nan
    assert account(snapshot, memory, even()).legal.tolist() == [[False, False, True]]


def test_a_fleet_may_enter_no_network_that_it_finds_full_though_others_may() -> None:
    """What networks offer is shared by fleets, of which one may have more rigs there."""
    pays = {"estimate_usd": 1.0}
    snapshot, memory = by_hand([{"on": "off"}], {"a": pays, "b": pays})
    offered = terms(snapshot, memory, even())
    crowded = close(snapshot, np.array([True, False, False]))
    assert value_moves(snapshot, offered).legal.tolist() == [[True, True, False]]
    assert value_moves(crowded, offered).legal.tolist() == [[False, True, False]]


def test_finite_facts_make_a_finite_account_even_of_an_empty_pool() -> None:
    networks = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 1.0, "outside_work": 0.0}}
    snapshot, memory = by_hand([{"on": "a", "work": {"b": 0.0}}], networks)
    for part in account(snapshot, memory, even(marginal=0.8)):
        assert np.isfinite(part).all()


def test_a_rig_looks_in_its_share_of_the_day() -> None:
    rigs: list[Rig] = [{"on": "off", "tiebreak": k / 12} for k in range(12)]
    snapshot, memory = by_hand(rigs, {"a": {"estimate_usd": 1.0}})
    rule = even(attention=0.25)
    found = account(snapshot, memory, rule)
    looks = np.zeros(12)
    for hour in range(24):
        market = snapshot.market.copy()
        market[2] = hour
        looks += rule_orders(replace(snapshot, market=market), found, rule) > 0
    assert looks.tolist() == [6.0] * 12


broken = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(RULES), marginal=st.sampled_from([0.0, 0.69, 1.0]))
def test_what_cannot_be_computed_is_not_legal_and_warns_nobody(
    data: st.DataObject, name: str, marginal: float
) -> None:
    rigs: list[Rig] = [{"on": "a"}, {"on": "b", "owned": 1.0, "power_kw": 1.0}, {"on": "off"}]
    pays = {"estimate_usd": 1.0, "warmup_h": 1.0}
    snapshot, memory = by_hand(rigs, {"a": pays, "b": pays})
    tables = (snapshot.rigs, snapshot.networks, snapshot.work, snapshot.market[None], memory)
    for _ in range(data.draw(st.integers(1, 4))):
        table = data.draw(st.sampled_from(range(len(tables))))
        row = data.draw(st.integers(0, len(tables[table]) - 1))
        column = data.draw(st.integers(0, tables[table].shape[1] - 1))
        tables[table][row, column] = data.draw(broken)
    rule = replace(even(marginal=marginal), name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = account(snapshot, memory, rule)
        orders = rule_orders(snapshot, found, rule)
    for part in (found.value, found.entry_usd, found.gain_usd_h, found.gain_usd):
        assert np.isfinite(part[found.legal]).all()
    for r, order in enumerate(orders.tolist()):
        assert order == 0 or found.legal[r, order - 1]


@cache
def lived_once() -> tuple[Snapshot, Floats]:
    _, _, snapshot, memory = next(lived("small", "core", PAIRS["break_even"][0], hours=1))
    return snapshot, memory


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(8)), name=st.sampled_from(RULES))
def test_permuting_the_rigs_permutes_the_account(order: list[int], name: str) -> None:
    snapshot, memory = lived_once()
    rule = PAIRS[name][1]
    shuffled = replace(
        snapshot,
        rigs=snapshot.rigs[order],
        work=snapshot.work[order],
        assignment=snapshot.assignment[order],
    )
    before, after = account(snapshot, memory, rule), account(shuffled, memory, rule)
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a[order], b)


def test_an_empty_fleet_is_an_empty_account() -> None:
    snapshot, memory = by_hand([], {"a": {"estimate_usd": 1.0}})
    found = account(snapshot, memory, even())
    assert found.value.shape == (0, 2)
    assert rule_orders(snapshot, found, even()).tolist() == []


GIVEN: dict[str, Any] = {
    "name": "certainty_equivalent",
    "weights": [0.2, 0.0, 0.8],
    "horizon_h": 182.0,
    "margin": 0.05,
    "marginal": 0.69,
    "attention": 0.27,
}


def test_a_rule_is_read_from_a_manifest() -> None:
    rule = Rule.read(GIVEN)
    assert rule == Rule("certainty_equivalent", (0.2, 0.0, 0.8), 182.0, 0.05, 0.69, 0.27)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": "greedy"}, "rule.name"),
        ({"weights": [0.5, 0.5]}, "rule.weights"),
        ({"weights": [0.5, "x", 0.5]}, "rule.weights.1"),
        ({"horizon_h": math.nan}, "rule.horizon_h"),
        ({"margin": -0.1}, "rule.margin"),
        ({"horizon_h": 10**400}, "rule.horizon_h"),
        ({"attention": True}, "rule.attention"),
        ({"patience": 1.0}, "rule.patience"),
    ],
)
def test_a_wrong_field_of_a_rule_is_named(change: dict[str, Any], path: str) -> None:
    with pytest.raises(FieldError) as caught:
        Rule.read({**GIVEN, **change})
    assert caught.value.path == path


def test_a_missing_field_of_a_rule_is_named() -> None:
    with pytest.raises(FieldError, match=r"rule\.margin"):
        Rule.read({name: value for name, value in GIVEN.items() if name != "margin"})
