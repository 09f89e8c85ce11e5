"""Rules: worked examples of each, and the laws that hold for all of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.outlook import average_usd, entry_usd, net_usd_h
from agents.rules import (
    RULES,
    SHIPPED,
    BreakEven,
    CertaintyEquivalent,
    EmaHysteresis,
    Greedy,
    Hold,
    Observation,
    PercentThreshold,
    RainbowMiner,
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
    networks_of: dict[str, list[float]] | None = None,
) -> Observation:
    """One world's observation: estimates [R][N] in USD per hour, the network of each rig.

    networks_of: columns of the networks by name; of those left out only outside work is not 0.
    """
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
    put("networks", "outside_work", torch.ones(networks))
    for name, values in (networks_of or {}).items():
        put("networks", name, torch.tensor(values))
    legal = 1.0 - here
    legal[:, list(closed)] = 0.0
    seen["action_mask"] = torch.cat((torch.ones(rigs, 1), legal), 1).unsqueeze(0)
    return seen


def averages(*yields: float) -> dict[str, list[float]]:
    """Networks whose published yields have been constant."""
    names = ("estimate_usd", "ema_6h_usd", "ema_48h_usd", "ema_336h_usd")
    return {name: list(yields) for name in names}


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


@pytest.mark.parametrize(
    ("week", "order"),
    [(10.2, 0), (10.4, 2)],  # 2 and 4 % above what is mined, whose price has a bonus of 3 %
)
def test_rainbow_miner_moves_at_three_percent_of_the_weekly_price(week: float, order: int) -> None:
    seen = observe([[10.0, 99.0]], [0], ema=[[10.0, week]], networks_of=averages(10.0, week))
    assert RainbowMiner()(seen).tolist() == [[order]]


@pytest.mark.parametrize(("tenure", "left", "order"), [(5.0, 0.0, 0), (6.0, 0.0, 2), (6.0, 1.0, 0)])
def test_rainbow_miner_stays_for_its_minimum_time(tenure: float, left: float, order: int) -> None:
    seen = observe([[10.0, 20.0]], [0], networks_of=averages(10.0, 20.0))
    seen["rigs"][..., column("rigs", "tenure_h")] = tenure
    seen["rigs"][..., column("rigs", "provisioning_h")] = left
    assert RainbowMiner(minimum_h=6.0)(seen).tolist() == [[order]]


@pytest.mark.parametrize(("entry", "order"), [(49.0, 2), (51.0, 0)])
def test_ema_hysteresis_pays_the_entry_cost_back_above_its_margin(entry: float, order: int) -> None:
    # gains 2 USD an hour, of which 1 is a quarter of the present 4: 50 USD in 50 hours
    seen = observe([[4.0, -5.0]], [0], ema=[[4.0, 6.0]], entry=[[0.0, entry]])
    rule = EmaHysteresis(horizon_h=50.0, margin=0.25, attention=1.0)
    assert rule(seen).tolist() == [[order]]


@pytest.mark.parametrize(("entry", "order"), [(149.0, 2), (151.0, 0)])
def test_break_even_moves_when_the_cost_is_back_in_time(entry: float, order: int) -> None:
    # 12 USD an hour there and 8 here, 1 of these within the margin: 3 USD * 50 h
    seen = observe([[8.0, 12.0]], [0], entry=[[0.0, entry]], networks_of=averages(8.0, 12.0))
    rule = BreakEven(break_even_h=50.0, average_h=48.0, margin=0.125, attention=1.0)
    assert rule(seen).tolist() == [[order]]


def test_break_even_prefers_the_cheap_entry_to_the_slightly_better_yield() -> None:
    seen = observe(
        [[1.0, 5.0, 5.1]], [0], entry=[[0.0, 10.0, 90.0]], networks_of=averages(1.0, 5.0, 5.1)
    )
    assert BreakEven(break_even_h=100.0, attention=1.0)(seen).tolist() == [[2]]
    assert BreakEven(break_even_h=1000.0, attention=1.0)(seen).tolist() == [[3]]


@pytest.mark.parametrize(("entry", "order"), [(577.0, 2), (578.0, 0)])
def test_certainty_equivalent_sums_the_forecast_hour_by_hour(entry: float, order: int) -> None:
    # the spike of 16 USD decays to 4 with a half-life of 24 h; staying is worth 1 USD an hour:
    # sum over 96 h of 3 + 12 * 2^(-t / 24) = 288 + 12 * 24 / ln 2 * (1 - 1/16) = 677.5; margin 100
    columns = averages(1.0, 4.0)
    columns["ema_6h_usd"] = [1.0, 16.0]
    seen = observe([[1.0, 16.0]], [0], ema=[[1.0, 4.0]], entry=[[0.0, entry]], networks_of=columns)
    rule = CertaintyEquivalent(24.0, 96.0, margin=100.0 / 96.0, attention=1.0)
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


def test_dilution_counts_in_the_gross_yield_only() -> None:
    # gross 10 USD/h on average, half of it lost to vesting, energy 1 USD/h: 10 * 0.5 - 1 = 4;
    # with our own work in the pool 80 % of the yield is left: 10 * 0.5 * 0.8 - 1 = 3
    seen = observe([[0.0]], [0], ema=[[4.0]], networks_of={**averages(10.0), "lockup": [0.5]})
    seen["pairs"][..., column("pairs", "dilution")] = 0.8
    assert net_usd_h(seen, average_usd(seen, 48.0), 0.0).item() == pytest.approx(3.0)


@pytest.mark.parametrize("at", [0, 1])
def test_marginal_pay_is_what_the_fleet_gains_by_the_rig(at: int) -> None:
    # a pool of 30 USD among outside work 2, own 4 of 3 other rigs, and 1 of ours; and a deep one
    others, outside, pool = 4.0, 2.0, 30.0
    present = others + (at == 0)
    columns = averages(pool / outside, 1.0)
    columns |= {"outside_work": [outside, 1e9], "own_work": [present, 0.0]}
    seen = observe([[0.0, 0.0]], [at], ema=[[pool / outside, 1.0]], networks_of=columns)
    share = outside / (outside + others + 1.0)
    seen["pairs"][..., column("pairs", "dilution")] = torch.tensor([share, 1.0])

    def fleet(work: float) -> float:
        return pool * work / (outside + work)

    yield_usd = average_usd(seen, 48.0)
    marginal = net_usd_h(seen, yield_usd, 1.0)[0, 0, 0].item()
    assert marginal == pytest.approx(fleet(others + 1.0) - fleet(others), rel=1e-5)
    average = net_usd_h(seen, yield_usd, 0.0)[0, 0, 0].item()
    assert average == pytest.approx(fleet(others + 1.0) / (others + 1.0), rel=1e-5)
    half = net_usd_h(seen, yield_usd, 0.5)[0, 0, 0].item()
    assert half == pytest.approx((marginal * average) ** 0.5, rel=1e-5)


def test_the_average_of_any_length_lies_between_its_neighbours() -> None:
    columns = {"ema_6h_usd": [1.0], "ema_48h_usd": [3.0], "ema_336h_usd": [7.0]}
    seen = observe([[0.0]], [0], networks_of=columns)
    lengths = [2.0, 6.0, (6.0 * 48.0) ** 0.5, 48.0, (48.0 * 336.0) ** 0.5, 336.0]
    found = [average_usd(seen, length_h).item() for length_h in lengths]
    assert found == pytest.approx([1.0, 1.0, 2.0, 3.0, 5.0, 7.0])


def test_lost_hours_are_worth_what_the_rule_expects_there() -> None:
    # the column counts 5 hours at 10 USD beside 7 USD of fees; diluted they are worth 4 USD each
    seen = observe(
        [[1.0, 10.0]],
        [0],
        entry=[[0.0, 57.0]],
        networks_of={"provisioning_h": [9.0, 2.0], "warmup_h": [9.0, 3.0]},
    )
    assert entry_usd(seen, torch.tensor([[[1.0, 4.0]]])).tolist() == [[[0.0, 27.0]]]


def anything(seed: int, rigs: int = 4, networks: int = 5) -> Observation:
    """An observation full of random numbers, and any legal mask."""
    draw = torch.Generator().manual_seed(seed)
    seen = observe([[0.0] * networks] * rigs, [k % networks for k in range(rigs)])
    here = seen["pairs"][..., column("pairs", "here")].clone()
    for group in ("rigs", "networks", "pairs", "market"):
        scale = 10.0 ** torch.randint(-3, 4, seen[group].shape, generator=draw)
        seen[group] = torch.rand(seen[group].shape, generator=draw) * scale
    seen["market"][..., column("market", "hour_of_day")] = float(seed % 24)
    seen["pairs"][..., column("pairs", "here")] = here
    legal = (torch.rand(here.shape, generator=draw) < 0.7).float() * (1 - here)
    seen["action_mask"] = torch.cat((torch.ones(1, rigs, 1), legal), -1)
    return seen


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000), name=st.sampled_from(sorted(RULES)))
def test_permuting_rigs_and_networks_permutes_orders(
    data: st.DataObject, seed: int, name: str
) -> None:
    seen, rule = anything(seed), RULES[name]()
    orders = rule(seen)
    rigs = torch.tensor(data.draw(st.permutations(range(4))))
    networks = torch.tensor(data.draw(st.permutations(range(5))))
    choices = torch.cat((torch.zeros(1, dtype=torch.int64), networks + 1))
    shuffled = {
        "rigs": seen["rigs"][:, rigs],
        "networks": seen["networks"][:, networks],
        "pairs": seen["pairs"][:, rigs][:, :, networks],
        "market": seen["market"],
        "action_mask": seen["action_mask"][:, rigs][..., choices],
    }
    assert torch.equal(choices[rule(shuffled)], orders[:, rigs])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(RULES)))
def test_a_knob_for_each_world_gives_each_world_the_orders_of_its_own_knob(
    seed: int, name: str
) -> None:
    kind, worlds = RULES[name], 3
    seen = [anything(seed + k) for k in range(worlds)]
    knobs = {knob: torch.linspace(low, high, worlds) for knob, (low, high) in kind.KNOBS.items()}
    together = kind(**{knob: v[:, None, None] for knob, v in knobs.items()})(
        {key: torch.cat([one[key] for one in seen]) for key in seen[0]}
    )
    alone = [kind(**{knob: float(v[k]) for knob, v in knobs.items()})(seen[k]) for k in range(3)]
    assert torch.equal(together, torch.cat(alone))


numbers = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted({*RULES, *SHIPPED})))
def test_every_order_is_legal(data: st.DataObject, name: str) -> None:
    rigs, networks = 3, 3
    row = st.lists(numbers, min_size=networks, max_size=networks)
    table = st.lists(row, min_size=rigs, max_size=rigs)
    at = data.draw(st.lists(st.integers(0, networks - 1), min_size=rigs, max_size=rigs))
    closed = tuple(data.draw(st.sets(st.integers(0, networks - 1))))
    names = ("ema_6h_usd", "ema_48h_usd", "ema_336h_usd", "outside_work", "own_work")
    columns = {column_name: data.draw(row) for column_name in names}
    seen = observe(
        data.draw(table),
        at,
        ema=data.draw(table),
        entry=data.draw(table),
        closed=closed,
        networks_of=columns,
    )
    orders = make_rule(name, {})(seen)
    assert orders.dtype == torch.int64
    assert bool((seen["action_mask"].gather(2, orders.unsqueeze(-1)) > 0).all())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(RULES)))
def test_every_order_is_legal_whatever_the_facts(seed: int, name: str) -> None:
    seen = anything(seed)
    orders = RULES[name]()(seen)
    assert bool((seen["action_mask"].gather(2, orders.unsqueeze(-1)) > 0).all())


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
