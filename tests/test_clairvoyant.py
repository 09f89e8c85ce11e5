"""The bound holds in every world, and is tight where the best plan is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import scenario
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix
from torch import Tensor

from agents.clairvoyant import clairvoyant
from agents.rules import EmaHysteresis, Greedy, Hold, Observation, Policy
from agents.statistics import Floats
from env.exogenous import Exogenous, Quotes
from env.scenario import BURN_IN_H, Scenario, build_scenario
from env.world import World, future

POOLS = ["io_net", "heurist", "morpheus", "pow_coin"]  # neither leases nor a tournament
RULE = EmaHysteresis()


class Random:
    """Any legal orders, for a share of the rigs."""

    def __init__(self, seed: int, share: float) -> None:
        self.draws, self.share = torch.Generator().manual_seed(seed), share

    def __call__(self, observation: Observation) -> Tensor:
        mask = observation["action_mask"]
        orders = torch.multinomial(mask.flatten(0, 1), 1, generator=self.draws)
        asked = torch.rand(mask.shape[:2], generator=self.draws) < self.share
        return torch.where(asked, orders.view(mask.shape[:2]), 0)


def live(s: Scenario, seeds: list[int], shared: Exogenous, policy: Policy) -> Floats:
    """Net profit of each world."""
    world = World.start(s, seeds, shared)
    start = world.state.equity_usd
    while not world.done:
        world.step(policy(world.observe()))
    return (world.state.equity_usd - start).numpy()


def check_nobody_exceeds(s: Scenario, seeds: list[int], policies: list[Policy]) -> None:
    shared = future(s, seeds)
    bound = clairvoyant(s, seeds, shared, RULE, steps=2)
    assert bound.dtype == np.float64
    assert bound.shape == (len(seeds),)
    for policy in policies:
        net = live(s, seeds, shared, policy)
        assert np.all(net <= bound + 1e-5 * np.abs(bound)), policy


@pytest.mark.parametrize("networks", ["default", "core"])
@pytest.mark.parametrize("fleet", ["small", "random"])
def test_no_policy_exceeds_the_bound_in_any_world(networks: str, fleet: str) -> None:
    s = scenario(fleet, networks, 72)
    policies: list[Policy] = [Hold(), Greedy(), RULE, Random(0, 0.02), Random(1, 0.5)]
    check_nobody_exceeds(s, list(range(12)), policies)


class Stay:
    """Everyone to one network at once, and never away."""

    def __init__(self, network: int) -> None:
        self.network = network

    def __call__(self, observation: Observation) -> Tensor:
        legal = observation["action_mask"][..., self.network + 1] > 0
        return torch.where(legal, self.network + 1, 0)


@pytest.mark.parametrize("network", ["akash", "render_compute", "nosana", "clore", "vast"])
def test_nobody_exceeds_the_bound_by_the_luck_of_leases(network: str) -> None:
    """On one network of leases the whole episode is spent waiting and leased."""
    s = build_scenario("small", {"names": [network]}, horizon=120)
    check_nobody_exceeds(s, list(range(100, 120)), [Stay(0), RULE])


def test_the_best_of_many_random_plans_stays_below_the_bound() -> None:
    """One rig, two days, hundreds of plans of few moves: a search in place of the optimum."""
    group = {"gpu": "rtx_4090", "gpu_count": 2, "count": 1, "site": "texas_dc"}
    s = build_scenario({"rigs": [group]}, {"names": ["vast", "nosana", "akash"]}, horizon=48)
    for seed in (0, 1, 2):
        shared = _repeated(future(s, [seed]), 400)
        bound = clairvoyant(s, [seed], future(s, [seed]), RULE)[0]
        assert live(s, [seed] * 400, shared, Random(seed, 0.04)).max() <= bound + 1e-4 * abs(bound)


def _repeated(shared: Exogenous, worlds: int) -> Exogenous:
    columns = {name: getattr(shared, name) for name in Exogenous.__dataclass_fields__}
    return Exogenous(
        **{k: v.expand(len(v), worlds, *v.shape[2:]).contiguous() for k, v in columns.items()}
    )


def test_the_bound_of_one_rig_is_its_optimum() -> None:
    s = _pools_of(1, 36)
    seeds = [0, 1, 2]
    shared = future(s, seeds)
    bound = clairvoyant(s, seeds, shared, RULE, steps=40)
    best = np.array([integer_optimum(s, seed) for seed in seeds])
    assert np.all(best <= bound + 1e-4 * np.abs(bound))
    np.testing.assert_allclose(bound, best, rtol=1e-3)


def test_the_integer_optimum_lies_between_policies_and_bound() -> None:
    s = _pools_of(3, 18)
    seeds = [0, 1, 2]
    shared = future(s, seeds)
    bound = clairvoyant(s, seeds, shared, RULE, steps=12)
    best = np.array([integer_optimum(s, seed) for seed in seeds])
    assert np.all(best <= bound + 1e-4 * np.abs(bound))
    for policy in (Hold(), Greedy(), RULE, Random(0, 0.05)):
        net = live(s, seeds, shared, policy)
        assert np.all(net <= best + 0.002 * np.abs(best)), policy  # chords between 30 points of pay
    assert bound.sum() <= best.sum() + 0.01 * abs(best.sum())


def _pools_of(rigs: int, horizon: int) -> Scenario:
    group = {"gpu": "rtx_4090", "gpu_count": 4, "count": rigs, "site": "texas_dc"}
    return build_scenario({"rigs": [group]}, {"names": POOLS}, horizon=horizon)


def test_the_bound_of_a_thin_network_is_near_the_joint_optimum() -> None:
    """20 rigs, outside work of two: at undiluted pay each rig would earn ten times its share."""
    group = {"gpu": "rtx_4090", "gpu_count": 1, "count": 20, "site": "texas_dc"}
    s = build_scenario({"rigs": [group]}, {"names": ["pow_coin"]}, horizon=48)
    s = replace(s, token_turnover=torch.full_like(s.token_turnover, 1e15))  # no slippage
    shared = future(s, [0])
    world = World.start(s, [0], shared)
    columns = ("emission", "outside_work", "token_usd", "up", "open", "fee")
    mass = float(world.fleet.mass[0, 0, 0])
    table = shared.quotes.clone()
    for name, value in zip(columns, (40.0, 2 * mass, 1.0, 1.0, 1.0, 0.0), strict=True):
        table[:, :, Quotes._fields.index(name), 0] = value
    shared = replace(
        shared, quotes=table, rig_up=torch.ones_like(shared.rig_up), tariff=shared.tariff * 0 + 1.0
    )
    bound = clairvoyant(s, [0], shared, RULE, steps=40)[0]
    power = float(world.fleet.power_kw[0, 0])
    fixed = float(world.fleet.housing_usd_h.sum()) * 48
    hourly = max(40.0 * k / (2 + k) - power * k for k in range(21))
    assert 48 * hourly * 0.97 - fixed <= bound <= 48 * hourly * 1.03 - fixed


def integer_optimum(s: Scenario, seed: int) -> float:
    """The best joint plan by HiGHS: each rig's stays are arcs of a flow over the hours.

    A stay on network n from hour s to e is a binary variable; its work by hour follows from the
    rules alone. Fleet's pay is concave in the work on each network, here by chords.
    """
    shared = future(s, [seed])
    world = World.start(s, [seed], shared)
    stays = [stay for rig in range(s.rig_count) for stay in _stays(s, world, rig)]
    hours, networks, points = s.horizon_h, s.network_count, 30
    used = sorted({row for *_, work, _ in stays for row in work})
    most = {p: float(world.fleet.mass[0, :, p % networks].sum()) for p in used}
    pools = len(used)
    columns = len(stays) + pools * points
    gain = np.zeros(columns)
    flow = lil_matrix((s.rig_count * (hours + 1), columns))
    supply = lil_matrix((pools, columns))
    convex = lil_matrix((pools, columns))
    for k, (rig, _, start, end, work, cost) in enumerate(stays):
        gain[k] = -cost
        flow[rig * (hours + 1) + start, k] += 1
        flow[rig * (hours + 1) + end, k] -= 1
        for pool, mass in work.items():
            supply[used.index(pool), k] = -mass / most[pool]
    for row, pool in enumerate(used):
        hour, place = divmod(pool, 2 * networks)
        for j in range(points):
            k = len(stays) + row * points + j
            part = (j / (points - 1)) ** 2  # of the fleet's work
            gain[k] = _pay(s, shared, hour, place, part * most[pool])
            supply[row, k] = part
            convex[row, k] = 1
    balance = np.zeros(flow.shape[0])
    balance[0 :: hours + 1], balance[hours :: hours + 1] = 1, -1
    integral = np.zeros(columns)
    integral[: len(stays)] = 1
    found = milp(
        -gain,
        constraints=[
            LinearConstraint(flow.tocsr(), balance, balance),
            LinearConstraint(supply.tocsr(), 0, 0),
            LinearConstraint(convex.tocsr(), 1, 1),
        ],
        integrality=integral,
        bounds=Bounds(0, np.inf),
        # with presolve HiGHS 1.x called a plan optimal that earned a third less than another
        options={"presolve": False, "mip_rel_gap": 1e-6},
    )
    assert found.success, found.message
    fixed = float(world.fleet.housing_usd_h.sum()) * hours  # the rigs are owned
    return float(-found.fun) - fixed


Stays = list[tuple[int, int, int, int, dict[int, float], float]]


def _stays(s: Scenario, world: World, rig: int) -> Stays:
    """Every stay of a rig: (rig, network, start, end, work by hour and pool, its costs)."""
    found: Stays = []
    for n in range(s.network_count):
        for start in range(s.horizon_h):
            starts_here = start == 0 and int(world.state.assignment[0, rig]) == n
            may_enter = bool(world.fleet.eligible[0, rig, n]) and (
                float(world.exogenous.at(BURN_IN_H + start).quotes.open[0, n]) > 0
            )
            if starts_here:
                found += _stays_from(s, world, rig, n, start, moved=False)
            elif may_enter:
                left = _unbonding(s, world, rig, int(world.state.assignment[0, rig]), 0)
                found += _stays_from(s, world, rig, n, start, moved=True, cost=left * (start == 0))
    return found


def _locked(s: Scenario, world: World, rig: int, n: int, hour: int) -> float:
    price = float(world.exogenous.at(BURN_IN_H + hour).quotes.token_usd[0, n])
    work = float(world.fleet.work[0, rig, n])
    rules = s.rules
    return price * float(rules.collateral_per_work[n] * work + rules.collateral_per_rig[n])


def _unbonding(s: Scenario, world: World, rig: int, n: int, hour: int) -> float:
    """Capital that leaving at that hour still costs, USD."""
    hours = float(s.rules.unbonding_h[n])
    rate = s.economics.financing_rate_annual / 8760
    return _locked(s, world, rig, n, hour) * rate * hours if hour < s.horizon_h else 0.0


def _stays_from(
    s: Scenario, world: World, rig: int, n: int, start: int, moved: bool, cost: float = 0.0
) -> Stays:
    rules, fleet = s.rules, world.fleet
    hourly_rate = s.economics.financing_rate_annual / 8760
    mass, active = float(fleet.mass[0, rig, n]), float(rules.active[n])
    pool = n + s.network_count * int(fleet.tier[0, rig, n])
    left = float(rules.provisioning_h[n]) if moved else 0.0
    score = 0.0 if moved else active
    work, found = dict[int, float](), []
    for hour in range(start, s.horizon_h + 1):
        now = world.exogenous.at(BURN_IN_H + min(hour, s.horizon_h - 1))
        q = now.quotes
        if hour > start:
            leaving = _unbonding(s, world, rig, n, hour)
            found.append((rig, n, start, hour, dict(work), cost + leaving))
        if hour == s.horizon_h:
            break
        locked = _locked(s, world, rig, n, hour)
        if hour == start and moved:
            cost += float(q.burn_usd[0, n] + rules.gas_usd[n])
        up = float(now.rig_up[0, rig])
        works = min(max(1 - left, 0.0), 1.0) * up * active * float(q.up[0, n] * q.open[0, n])
        score += float(rules.warmup_rate[n]) * ((works > 0) - score)
        if works:
            work[hour * 2 * s.network_count + pool] = mass * works * score
        tariff = float(now.tariff[0, int(fleet.site[0, rig])])
        cost += works * float(rules.load[n]) * float(fleet.power_kw[0, rig]) * tariff
        cost += locked * (
            hourly_rate + (1 - up) * (left <= 0) * active * float(rules.slash_per_h[n])
        )
        left = max(left - up, 0.0)
    return found


def _pay(s: Scenario, shared: Exogenous, hour: int, pool: int, work: float) -> float:
    """What the network pays the fleet, USD."""
    tier, n = divmod(pool, s.network_count)
    now = shared.at(BURN_IN_H + hour)
    q, token = now.quotes, int(s.rules.token[n])
    share = float(s.rules.tier_share[n, tier])
    if share == 0 or work == 0:
        return 0.0
    price = float(q.token_usd[0, n])
    rate = share * float(q.emission[0, n]) / (share * float(q.outside_work[0, n]) + work)
    sale = min(rate * price, float(s.rules.cap_usd[n])) * work
    assert float(s.token_pool_quote[token]) == 0  # order books only
    lost = float(s.token_daily_sd[token]) * s.economics.impact_coefficient
    lost *= (24 * sale / float(now.turnover_usd[0, token])) ** 0.5
    return sale * (1 - float(s.rules.lockup[n])) * (1 - min(lost, 1.0))
