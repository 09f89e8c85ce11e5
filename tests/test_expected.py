"""The bound without foresight of leases holds on average, and is tight where the mean is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import scenario
from test_clairvoyant import POOLS, RULE, Random, Stay, live
from torch import Tensor

from agents.arrivals import Arrivals, arrivals, chance, idle_work, new_leases
from agents.clairvoyant import block, clairvoyant
from agents.expected import expected_bound
from agents.lagrangian import by_hour, pay, pools
from agents.rules import Greedy, Hold
from agents.sequences import rigs
from agents.statistics import Floats
from agents.worth import expect, priced
from env.exogenous import Exogenous, Quotes
from env.hour import Hour
from env.scenario import BURN_IN_H, Scenario, build_scenario
from env.world import World, future


def redrawn(s: Scenario, seed: int, worlds: int) -> Exogenous:
    """One world many times over, each time with other leases."""
    one = future(s, [seed])
    columns = {name: getattr(one, name) for name in Exogenous.__dataclass_fields__}
    same = {k: v.expand(len(v), worlds, *v.shape[2:]).contiguous() for k, v in columns.items()}
    draws = torch.Generator().manual_seed(seed)
    same["arrival"] = torch.rand(same["arrival"].shape, generator=draws)
    length = torch.rand(same["lease_draw"].shape, generator=draws)
    return Exogenous(**{**same, "lease_draw": -torch.log1p(-length)})


def far_from(mean: Floats, known: float) -> float:
    """How many standard errors the mean of the values lies above what it should be."""
    return float((mean.mean() - known) / (mean.std(ddof=1) / math.sqrt(len(mean))))


@pytest.mark.parametrize("network", ["akash", "bittensor_compute", "aethir", "vast", "clore"])
def test_what_leases_cost_is_on_average_what_listing_pays(network: str) -> None:
    """Outages of rigs and of the network, leases from before and the end of the episode included"""
    s = build_scenario("small", {"names": [network, "pow_coin"]}, horizon=96)
    paid, due = _paid_and_due(s, 300)
    assert abs(far_from(paid - due, 0.0)) < 4
    assert due.mean() > 0


@pytest.mark.parametrize("network", ["render_compute", "nosana"])
def test_what_lengths_cost_in_a_queue_is_nothing_on_average(network: str) -> None:
    s = build_scenario("small", {"names": [network, "pow_coin"]}, horizon=96)
    paid, due = _paid_and_due(s, 300)
    assert not due.any()
    assert paid.std() > 0
    assert abs(far_from(paid, 0.0)) < 4


def _paid_and_due(s: Scenario, worlds: int) -> tuple[Floats, Floats]:
    """Of a rig on each network that is leased whenever it can be: [W] USD both."""
    world = World.start(s, [5] * worlds, redrawn(s, 5, worlds))
    q = by_hour(world.exogenous, s.horizon_h)
    rig, market = rigs(world, q), arrivals(world, q)
    _, price = pay(pools(s, world.exogenous, q), torch.zeros(s.horizon_h, 2 * len(q.up[0]), worlds))
    worth = expect(rig, market, price, chance(market, torch.zeros_like(market.outside)))
    offered, hope = priced(rig.leases, market, worth)
    at = offered.cell % worlds
    cost = torch.zeros(worlds).index_add_(0, at, offered.price_usd)
    share = s.rules.warmup_rate * (1 - s.rules.provisioning_h % 1)
    least = rig.mass[market.networks] * share[market.networks, None, None]
    likely = torch.stack([chance(market, least[:, r]) for r in range(s.rig_count)], 2)
    return cost.double().numpy(), (hope * likely).double().sum((0, 1, 2)).numpy()


def test_the_bound_of_one_rig_on_one_network_is_its_exact_mean() -> None:
    """Prices stand still and the rig never fails, so its mean profit is a recursion over hours."""
    group = {"gpu": "rtx_4090", "gpu_count": 4, "count": 1, "site": "texas_dc"}
    s = build_scenario({"rigs": [group]}, {"names": ["vast"]}, horizon=72)
    shared = _still(redrawn(s, 3, 400), fee=0.5)
    seeds = [3] * 400
    known = _mean_of_staying(s, seeds, shared)
    assert abs(far_from(live(s, seeds, shared, Stay(0)), known)) < 4
    bound = expected_bound(s, seeds, shared)
    np.testing.assert_allclose(bound, known, rtol=5e-3)  # however lucky the world


def _still(shared: Exogenous, fee: float) -> Exogenous:
    """No outage, no change of any price; half of the supply is in use, and entering is dear."""
    table = shared.quotes.clone()
    columns = {"emission": 0.0, "outside_work": 1e4, "demand_work": 5e3, "fee": fee, "fee_usd": 1.0}
    for name, value in {**columns, "up": 1.0, "open": 1.0, "burn_usd": 100.0}.items():
        table[:, :, Quotes._fields.index(name), 0] = value
    return replace(
        shared, quotes=table, rig_up=torch.ones_like(shared.rig_up), tariff=shared.tariff * 0 + 0.1
    )


def _mean_of_staying(s: Scenario, seeds: list[int], shared: Exogenous) -> float:
    """Backward over hours; a lease of mean m goes on with probability exp(-1 / m)."""
    world = World.start(s, seeds[:1], block(shared, slice(0, 1)))
    now: Hour = shared.at(BURN_IN_H)
    work, power = float(world.fleet.work[0, 0, 0]), float(world.fleet.power_kw[0, 0])
    m, supply = float(s.rules.lease_mean_h[0]), 1e4 + work
    hazard = 5e3 / (supply - 5e3) / m
    likely, lasts = hazard / (1 + hazard), math.exp(-1 / m)
    full_usd = float(s.rules.load[0]) * power * 0.1 * float(world.fleet.owned[0, 0])
    idle_usd = full_usd * s.economics.idle_power_share
    fee = float(now.quotes.fee[0, 0]) * work
    served = lasts + (1 - lasts) * (m - lasts / (1 - lasts))
    idle = [0.0]  # value of waiting, from the end backward
    leased = 0.0
    for _ in range(s.horizon_h):
        after = lasts * leased + (1 - lasts) * idle[-1]
        begins = fee - full_usd + after
        idle.append(likely * begins + (1 - likely) * (idle[-1] - idle_usd))
        leased = fee * served - full_usd + after
    left_h = float(world.state.lease_h[0, 0])  # of the lease it starts with
    first = fee * left_h - full_usd * math.ceil(left_h)
    housing = float(world.fleet.housing_usd_h.sum()) * s.horizon_h
    return first + idle[s.horizon_h - math.ceil(left_h)] - housing


@pytest.mark.parametrize("networks", ["default", "core"])
def test_no_policy_earns_more_than_the_bound_on_average(networks: str) -> None:
    s = scenario("small", networks, 96)
    seeds = list(range(40))
    shared = future(s, seeds)
    bound = expected_bound(s, seeds, shared, steps=6)
    assert bound.dtype == np.float64
    assert bound.shape == (40,)
    for policy in (Hold(), Greedy(), RULE, Random(0, 0.02)):
        assert far_from(bound - live(s, seeds, shared, policy), 0.0) > -2, policy


@pytest.mark.parametrize("network", ["akash", "render_compute", "aethir", "clore", "vast"])
def test_nobody_earns_more_on_average_by_the_luck_of_leases(network: str) -> None:
    """The whole fleet waits on one network, where its own work makes leases rarer."""
    s = build_scenario("small", {"names": [network]}, horizon=96)
    seeds = [1] * 150
    shared = redrawn(s, 1, 150)
    bound = expected_bound(s, seeds, shared, steps=6)
    for policy in (Stay(0), RULE):
        assert far_from(bound - live(s, seeds, shared, policy), 0.0) > -3, policy


def test_foresight_of_leases_is_worth_something() -> None:
    s = scenario("small", "default", 96)
    seeds = list(range(40))
    shared = future(s, seeds)
    known, unknown = clairvoyant(s, seeds, shared, RULE), expected_bound(s, seeds, shared)
    assert unknown.mean() < known.mean()


def test_without_leases_both_bounds_are_one() -> None:
    group = {"gpu": "rtx_4090", "gpu_count": 4, "count": 1, "site": "texas_dc"}
    s = build_scenario({"rigs": [group]}, {"names": POOLS}, horizon=36)
    seeds = [0, 1, 2]
    shared = future(s, seeds)
    known = clairvoyant(s, seeds, shared, RULE, steps=40)
    np.testing.assert_allclose(expected_bound(s, seeds, shared, steps=40), known, rtol=1e-3)


def _market(s: Scenario) -> tuple[Arrivals, Tensor]:
    """The networks of leases of a world, and own work from none to thrice the outside's."""
    world = World.start(s, [0])
    market = arrivals(world, by_hour(world.exogenous, s.horizon_h))
    return market, market.outside * torch.linspace(0, 3, s.horizon_h)[:, None, None]


def test_new_leases_are_concave_and_no_fewer_than_come() -> None:
    market, work = _market(scenario("small", "default", 48))
    tight = replace(market, demand=market.outside * torch.linspace(0, 3, 48)[:, None, None].flip(0))
    for one in (market, tight):
        come, slope = new_leases(one, work)
        assert (come >= work * chance(one, work) * (1 - 1e-5)).all()
        for other in (work * 0, work * 0.5, work * 2, work + one.outside):
            there, _ = new_leases(one, other)
            tangent = come + slope * (other - work)
            assert (there <= tangent + 1e-4 * (come + there)).all()


def test_idle_work_is_part_of_the_work() -> None:
    s = scenario("small", "default", 48)
    market, _ = _market(s)
    own = torch.rand(48, 2 * s.network_count, 1, generator=torch.Generator().manual_seed(0))
    idle = idle_work(market, own)
    both = (own[:, : s.network_count] + own[:, s.network_count :])[:, market.networks]
    assert (idle <= both).all()
    assert (idle > 0).all()
