"""Rules: worked examples of each, and the laws that hold for all of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.rules import (
    RULES,
    EmaHysteresis,
    Greedy,
    Hold,
    Observation,
    PercentThreshold,
    diluted_ema,
    make_rule,
)
from env.errors import InputError
from env.observation import COLUMNS, column


def observe(
    estimate: list[list[float]],
    at: list[int],
    *,
    ema: list[list[float]] | None = None,
    entry: list[list[float]] | None = None,
    closed: tuple[int, ...] = (),
) -> Observation:
    """One world's observation: estimates [R][N] in USD per hour, the network of each rig."""
    value = torch.tensor(estimate)
    rigs, networks = value.shape
    shapes = {"rigs": (rigs,), "networks": (networks,), "pairs": (rigs, networks), "market": ()}
    seen = {group: torch.zeros(1, *shape, len(COLUMNS[group])) for group, shape in shapes.items()}
    here = torch.nn.functional.one_hot(torch.tensor(at), networks).float()

    def put(group: str, name: str, values: Tensor) -> None:
        seen[group][0, ..., column(group, name)] = values

    put("pairs", "here", here)
    put("pairs", "work", torch.ones(rigs, networks))
    put("pairs", "dilution", torch.ones(rigs, networks))
    put("pairs", "estimate_usd_h", value)
    put("pairs", "ema_usd_h", value if ema is None else torch.tensor(ema))
    put("pairs", "entry_usd", torch.zeros_like(value) if entry is None else torch.tensor(entry))
    legal = 1.0 - here
    legal[:, list(closed)] = 0.0
    seen["action_mask"] = torch.cat((torch.ones(rigs, 1), legal), 1).unsqueeze(0)
    return seen


def test_hold_never_moves() -> None:
    assert Hold()(observe([[1.0, 9.0], [1.0, 9.0]], [0, 0])).tolist() == [[0, 0]]


def test_greedy_takes_the_highest_estimate_however_small_the_gain() -> None:
    seen = observe([[1.00, 1.01, 0.0], [1.0, 0.5, 0.9]], [0, 0], entry=[[0, 1e6, 0], [0, 0, 0]])
    assert Greedy()(seen).tolist() == [[2, 0]]


def test_no_rule_orders_a_closed_network() -> None:
    seen = observe([[1.0, 99.0, 50.0]], [0], closed=(1,))
    assert Greedy()(seen).tolist() == [[3]]


@pytest.mark.parametrize(
    ("current", "other", "order"),
    [
        (10.0, 10.9, 0),  # 9 % better
        (10.0, 11.1, 2),  # 11 % better
        (-10.0, -9.5, 0),  # a loss must shrink by 10 % of itself
        (-10.0, -8.9, 2),
        (0.0, 0.1, 2),  # switched off: anything that pays
    ],
)
def test_percent_threshold_moves_at_ten_percent(current: float, other: float, order: int) -> None:
    assert PercentThreshold(percent=10.0)(observe([[current, other]], [0])).tolist() == [[order]]


@pytest.mark.parametrize(("entry", "order"), [(79.0, 2), (81.0, 0)])
def test_ema_hysteresis_pays_the_entry_cost_back_with_its_margin(entry: float, order: int) -> None:
    # gains 2 USD an hour over 50 hours = 100 USD, against 1.25 times the entry cost
    seen = observe([[1.0, -5.0]], [0], ema=[[1.0, 3.0]], entry=[[0.0, entry]])
    rule = EmaHysteresis(horizon_h=50.0, margin=0.25, attention=1.0)
    assert rule(seen).tolist() == [[order]]


def test_each_rig_attends_its_share_of_the_day_and_not_all_at_once() -> None:
    rigs = 12
    seen = observe([[1.0, 2.0]] * rigs, [0] * rigs)
    seen["rigs"][..., column("rigs", "tiebreak")] = torch.arange(rigs) / rigs
    moves = []
    for hour in range(24):
        seen["market"][..., column("market", "hour_of_day")] = float(hour)
        moves.append(EmaHysteresis(attention=0.25)(seen)[0] > 0)
    table = torch.stack(moves)  # [24, R]
    assert table.sum(0).tolist() == [6] * rigs
    assert table.sum(1).max() <= 3


def test_diluted_ema_counts_own_work_in_the_gross_yield_only() -> None:
    # gross 10 USD/h on average, half of it lost to vesting, energy 1 USD/h: 10 * 0.5 - 1 = 4;
    # with our own work in the pool 80 % of the yield is left: 10 * 0.5 * 0.8 - 1 = 3
    seen = observe([[0.0]], [0], ema=[[4.0]])
    seen["networks"][..., column("networks", "ema_48h_usd")] = 10.0
    seen["networks"][..., column("networks", "lockup")] = 0.5
    seen["pairs"][..., column("pairs", "dilution")] = 0.8
    assert diluted_ema(seen).item() == pytest.approx(3.0)


numbers = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(RULES)))
def test_permuting_rigs_permutes_orders_and_every_order_is_legal(
    data: st.DataObject, name: str
) -> None:
    rigs, networks = 4, 3
    table = st.lists(
        st.lists(numbers, min_size=networks, max_size=networks), min_size=rigs, max_size=rigs
    )
    at = data.draw(st.lists(st.integers(0, networks - 1), min_size=rigs, max_size=rigs))
    seen = observe(data.draw(table), at, ema=data.draw(table), entry=data.draw(table))
    orders = RULES[name]()(seen)
    assert orders.dtype == torch.int64
    assert bool((seen["action_mask"].gather(2, orders.unsqueeze(-1)) > 0).all())
    shuffle = torch.tensor(data.draw(st.permutations(range(rigs))))
    shuffled = {
        k: v[:, shuffle] if k in ("rigs", "pairs", "action_mask") else v for k, v in seen.items()
    }
    assert torch.equal(RULES[name]()(shuffled), orders[:, shuffle])


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("gready", {}, "policy: expected one of hold, greedy"),
        ("percent_threshold", {"percnt": 3.0}, "policy.percent_threshold.percnt: expected a knob"),
        ("percent_threshold", {"percent": "x"}, "policy.percent_threshold: percent: expected"),
    ],
)
def test_an_unknown_rule_or_knob_is_named(name: str, knobs: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        make_rule(name, knobs, "policy")
