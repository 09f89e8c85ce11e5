"""Laws that hold in every world, hour and for every sequence of orders."""

from dataclasses import fields, replace

import pytest
import torch
from conftest import scenario
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from env.exogenous import Exogenous
from env.networks.allocation import lease_hazard, lease_probability, pool_rate, wallet_factor
from env.payout import market
from env.rules import Rules
from env.scenario import Scenario
from env.state import CHARGES, LEDGER, Fleet, State, per_network
from env.transition import step
from env.world import World

seeds = st.integers(0, 2**62)
order_seeds = st.integers(0, 2**31)
few = settings(max_examples=15, deadline=None)


def orders(s: Scenario, worlds: int, seed: int, share: float = 0.4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (worlds, s.rig_count)
    drawn = torch.randint(0, s.network_count + 1, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < share, drawn, 0)


@few
@given(seed=seeds, order_seed=order_seeds, fleet=st.sampled_from(["small", "random"]))
def test_money_balances_every_hour(seed: int, order_seed: int, fleet: str) -> None:
    s = scenario(fleet)
    world = World.start(s, [seed, seed + 1])
    for hour in range(12):
        before, equity = world.state.ledger, world.state.equity_usd
        reward, outcome = world.step(orders(s, 2, order_seed + hour))
        entry = dict(zip(LEDGER, (world.state.ledger - before).unbind(1), strict=True))
        spent = sum((entry[name] for name in CHARGES), torch.zeros_like(entry["gross_usd"]))
        net = (entry["gross_usd"] - spent).sum(-1)
        size = entry["gross_usd"].sum(-1) + spent.sum(-1) + 1e-9
        assert bool(((net - (world.state.equity_usd - equity)).abs() <= 1e-5 * size).all())
        paid = (reward.double().sum(-1)) * world.fleet.nominal_usd_h.double().sum(-1)
        assert bool(((net - paid).abs() <= 1e-5 * size).all())
        for name in CHARGES:
            assert bool((getattr(outcome, name) >= 0).all()), name
        assert bool((entry["rig_h"].sum(-1) == s.rig_count).all())


@few
@given(seed=seeds, order_seed=order_seeds)
def test_the_ledger_books_what_the_token_price_says(seed: int, order_seed: int) -> None:
    """Tokens times price is the part of gross that is not paid in USD."""
    s = scenario()
    world = World.start(s, [seed])
    for hour in range(6):
        price = world.now.quotes.token_usd
        before = world.state.ledger
        world.step(orders(s, 1, order_seed + hour))
        entry = dict(zip(LEDGER, (world.state.ledger - before).unbind(1), strict=True))
        native = entry["tokens"] * price.double()
        cash = entry["gross_usd"] - native
        assert bool((cash >= -1e-4 * (1 + native)).all())
        in_tokens_only = (s.rules.request + s.rules.lease == 0) | (s.rules.native > 0)
        assert bool((cash[:, in_tokens_only].abs() <= 1e-4 * (1 + native[:, in_tokens_only])).all())


@few
@given(seed=seeds, order_seed=order_seeds, fleet=st.sampled_from(["small", "mixed", "random"]))
def test_a_pool_pays_at_most_its_emission(seed: int, order_seed: int, fleet: str) -> None:
    s = scenario(fleet)
    world = World.start(s, [seed])
    for hour in range(4):
        now = world.now
        before = world.state
        _, outcome = world.step(orders(s, 1, order_seed + hour, 0.8))
        # what leases and standby may add to the tokens is bounded by demand, not by emission
        emission_only = (s.rules.request + s.rules.lease) == 0
        where = torch.where(before.assignment >= 0, world.state.assignment, 0)
        tokens = per_network(outcome.tokens, where, s.network_count)
        allowed = now.quotes.emission * (1 + 1e-5)
        assert bool((tokens <= allowed)[:, emission_only & (s.rules.slots == 0)].all())


@few
@given(
    emission=st.floats(0, 1e9),
    outside=st.floats(1e-6, 1e9),
    own=st.lists(st.floats(0, 1e9), min_size=1, max_size=8),
)
def test_pool_shares_sum_to_at_most_the_emission(
    emission: float, outside: float, own: list[float]
) -> None:
    work = torch.tensor(own)
    rate = pool_rate(torch.tensor(emission), torch.tensor(outside), work.sum())
    assert float((rate * work).sum()) <= emission * (1 + 1e-5)


@few
@given(seed=seeds, factor=st.floats(1.0, 100.0))
def test_more_own_work_never_raises_the_yield_of_a_unit(seed: int, factor: float) -> None:
    s = scenario()
    world = World.start(s, [seed])
    now, state = world.now, world.state
    hold = torch.zeros(1, s.rig_count, dtype=torch.int64)
    _, once = step(s, world.fleet, state, hold, now)
    bigger = replace(world.fleet, mass=world.fleet.mass * factor)
    post_small = _posting(s, world.fleet, state, world)
    post_big = _posting(s, bigger, state, world)
    small_met, big_met = market(s, now, post_small), market(s, now, post_big)
    slack = 1 + 1e-5
    assert bool((big_met.pool_tokens <= small_met.pool_tokens * slack).all())
    assert bool((big_met.use <= small_met.use * slack).all())
    assert bool((once.gross_usd >= 0).all())


def _posting(s: Scenario, fleet: Fleet, state: State, world: World):  # type: ignore[no-untyped-def]
    from env.terms import terms
    from env.transition import _post

    here = terms(s.rule_table, world.now, state.assignment)
    return _post(fleet, state, world.now, here, state.assignment, torch.zeros_like(state.score))


def test_a_second_rig_lowers_the_yield_of_the_first() -> None:
    one = pool_rate(torch.tensor(10.0), torch.tensor(5.0), torch.tensor(1.0))
    two = pool_rate(torch.tensor(10.0), torch.tensor(5.0), torch.tensor(2.0))
    assert float(one) == pytest.approx(10 / 6)
    assert float(two) == pytest.approx(10 / 7)
    penalty = wallet_factor(
        torch.tensor([3.0, 5.0]), torch.tensor(3.0), torch.tensor(0.65), torch.tensor(1.0)
    )
    assert penalty.tolist() == pytest.approx([1.0, 0.2725318], rel=1e-5)  # exp(-1.3)


def test_lease_hazards_keep_the_share_in_use() -> None:
    use, mean = torch.tensor(0.7), torch.tensor(24.0)
    hazard = lease_hazard(use, mean)
    idle = 1 / float(hazard)
    assert 24 / (24 + idle) == pytest.approx(0.7, rel=1e-5)
    for queue in (0.0, 1.0):
        survival, wait = 1.0, 0.0
        for hour in range(3000):
            p = lease_probability(hazard, torch.tensor(float(hour)), torch.tensor(queue))
            survival *= 1 - float(p)
            wait += survival
        assert wait == pytest.approx(idle, rel=0.01)


@few
@given(seed=seeds, order_seed=order_seeds, shuffle=st.integers(0, 2**31))
def test_permuting_rigs_permutes_everything(seed: int, order_seed: int, shuffle: int) -> None:
    s = scenario()
    world = World.start(s, [seed])
    turn = torch.randperm(s.rig_count, generator=torch.Generator().manual_seed(shuffle))
    given_orders = orders(s, 1, order_seed, 0.8)
    state, outcome = step(s, world.fleet, world.state, given_orders, world.now)
    fleet = Fleet(
        **{
            f.name: (v[turn] if v.ndim == 1 else v[:, turn])
            for f in fields(Fleet)
            for v in [getattr(world.fleet, f.name)]
        }
    )
    per_rig = {f.name for f in fields(State)} - {"log_surcharge", "equity_usd", "ledger", "illegal"}
    turned = replace(world.state, **{n: getattr(world.state, n)[:, turn] for n in per_rig})
    now = world.now._replace(
        rig_up=world.now.rig_up[:, turn],
        arrival=world.now.arrival[:, turn],
        lease_draw=world.now.lease_draw[:, turn],
    )
    state_2, outcome_2 = step(s, fleet, turned, given_orders[:, turn], now)
    for name in per_rig:
        torch.testing.assert_close(getattr(state_2, name), getattr(state, name)[:, turn])
    for f in fields(outcome):
        torch.testing.assert_close(
            getattr(outcome_2, f.name), getattr(outcome, f.name)[:, turn], rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(state_2.ledger, state.ledger, rtol=1e-5, atol=1e-4)


def _permuted(s: Scenario, turn: Tensor) -> Scenario:
    """The same scenario with its networks in another order; *off* stays last."""
    rules = {f.name: getattr(s.rules, f.name)[turn] for f in fields(Rules)}
    return replace(
        s,
        networks=tuple(s.networks[i] for i in turn.tolist()),
        rules=Rules(**rules),
        emission_tokens_h=s.emission_tokens_h[turn],
        work=s.work[:, turn],
        per_rig=s.per_rig[turn],
        tier=s.tier[:, turn],
        min_gpus=s.min_gpus[turn],
    )


@few
@given(seed=seeds, order_seed=order_seeds, shuffle=st.integers(0, 2**31))
def test_permuting_networks_permutes_everything(seed: int, order_seed: int, shuffle: int) -> None:
    s = scenario()
    n = s.network_count
    generator = torch.Generator().manual_seed(shuffle)
    turn = torch.cat((torch.randperm(n - 1, generator=generator), torch.tensor([n - 1])))
    back = torch.argsort(turn)
    world, other = World.start(s, [seed]), World.start(_permuted(s, turn), [seed])
    assert torch.equal(other.state.assignment, back[world.state.assignment])
    seen, seen_2 = world.observe(), other.observe()
    torch.testing.assert_close(seen_2["networks"], seen["networks"][:, turn])
    torch.testing.assert_close(seen_2["pairs"], seen["pairs"][:, :, turn])
    for hour in range(5):
        given_orders = orders(s, 1, order_seed + hour, 0.8)
        moved = torch.where(given_orders > 0, back[(given_orders - 1).clamp_min(0)] + 1, 0)
        reward, _ = world.step(given_orders)
        reward_2, _ = other.step(moved)
        torch.testing.assert_close(reward_2, reward, rtol=1e-4, atol=1e-4)


@few
@given(
    seed=seeds,
    order_seed=order_seeds,
    fleet=st.sampled_from(["small", "random"]),
    scale=st.sampled_from([1e-9, 1e-3, 1.0, 1e4, 1e9]),
)
def test_nothing_is_ever_nan_or_infinite(
    seed: int, order_seed: int, fleet: str, scale: float
) -> None:
    s = scenario(fleet)
    world = World.start(s, [seed])
    world.exogenous = _scaled(world.exogenous, scale)
    for hour in range(10):
        reward, outcome = world.step(orders(s, 1, order_seed + hour, 0.9))
        assert bool(torch.isfinite(reward).all())
        for f in fields(outcome):
            assert bool(torch.isfinite(getattr(outcome, f.name)).all()), f.name
        for name, value in world.observe().items():
            assert bool(torch.isfinite(value).all()), name


def _scaled(exogenous: Exogenous, scale: float) -> Exogenous:
    """Token prices (and what is quoted in them) times `scale`."""
    from env.exogenous import Quotes

    quotes = exogenous.quotes.clone()
    for name in ("token_usd", "burn_usd", "burn_token_usd", "fee_usd", "estimate"):
        quotes[:, :, Quotes._fields.index(name)] *= scale
    return replace(
        exogenous,
        quotes=quotes,
        btc_usd=exogenous.btc_usd * scale,
        quote_usd=exogenous.quote_usd * scale,
    )


@few
@given(seed=seeds, order_seed=order_seeds)
def test_no_rig_is_ever_where_it_cannot_work(seed: int, order_seed: int) -> None:
    s = scenario("random")
    world = World.start(s, [seed])
    for hour in range(8):
        mask = world.observe()["action_mask"]
        given_orders = orders(s, 1, order_seed + hour, 0.9)
        legal = mask.gather(2, given_orders.unsqueeze(-1)).squeeze(-1) > 0
        before, illegal = world.state.assignment, world.state.illegal
        _, outcome = world.step(given_orders)
        after = world.state.assignment
        moved = outcome.moves > 0
        assert bool((moved == (legal & (given_orders > 0))).all())
        assert int((world.state.illegal - illegal)[0]) == int((~legal).sum())
        fits = world.fleet.eligible.gather(2, after.unsqueeze(-1)).squeeze(-1)
        assert bool(fits.all())
        off = s.network_count - 1
        assert bool(((after == before) | moved | (after == off)).all())
