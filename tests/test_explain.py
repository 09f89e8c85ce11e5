"""Explanations: a worked example of every number, and laws that tie them to the accounting."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from snapshots import Rig, by_hand, even, lived

from agents.rules import BreakEven
from agents.serve.accounting import RULES, Floats, Rule, account, rule_orders, terms
from agents.serve.columns import Paid
from agents.serve.explain import NEAR_MISS, Move, explain
from agents.serve.snapshot import Snapshot


def example() -> tuple[Snapshot, Floats]:
    """The worked example of the accounting, with a third network.

    On akash the rig is paid 5.3 USD/h (energy 0.1); on nosana 6 * 1.5 * 54/60 - 0.1 = 8 USD/h; on
    heurist 3 * 3 * 54/57 - 0.1 = 8.4263 USD/h. Leaving costs 7 USD, entering nosana 5 USD and 3 h
    of 8 USD, entering heurist 300 USD.
    """
    rig: Rig = {"on": "akash", "owned": 1.0, "power_kw": 0.5, "tariff_usd_kwh": 0.2}
    rig |= {"leaving_usd": 7.0, "work": {"akash": 4.0, "nosana": 6.0, "heurist": 3.0}}
    other: Rig = {"on": "akash", "work": {"akash": 6.0, "nosana": 0.0, "heurist": 0.0}}
    akash = {"estimate_usd": 2.0, "lockup": 0.1, "outside_work": 30.0, "lease": 1.0}
    nosana = {"estimate_usd": 1.5, "outside_work": 54.0, "burn_usd": 4.0, "gas_usd": 1.0}
    nosana |= {"provisioning_h": 1.0, "warmup_h": 2.0}
    heurist = {"estimate_usd": 3.0, "outside_work": 54.0, "burn_usd": 300.0, "slots": 64.0}
    return by_hand([rig, other], {"akash": akash, "nosana": nosana, "heurist": heurist})


def explained(
    snapshot: Snapshot, memory: Floats, rule: Rule, orders: list[int]
) -> tuple[tuple[Move, ...], tuple[Move, ...]]:
    found = account(snapshot, memory, rule)
    return explain(snapshot, terms(snapshot, memory, rule), found, np.array(orders, np.int64))


def test_every_number_of_a_move_can_be_worked_out_by_hand() -> None:
    snapshot, memory = example()
    (move,), near = explained(snapshot, memory, even(margin=0.1), [2, 0])
    assert near == ()
    assert (move.rig, move.origin, move.network, move.made) == ("rig-0", "akash", "nosana", True)
    assert move.gain_usd_h == pytest.approx(2.7)
    assert move.entry_usd == pytest.approx(36.0)
    assert move.break_even_h == pytest.approx(36.0 / 2.7)
    # 100 h of 2.7 USD less the margin of 10 % of 5.3 USD, less 36 USD
    assert move.gain_usd == pytest.approx(181.0)
    assert move.horizon_h == 100.0
    # 100 * (8.4263 - 5.3 - 0.53) - 307 = -47.37 USD
    assert move.runner_up == "heurist"
    assert move.runner_up_gain_usd == pytest.approx(-47.368, abs=1e-3)
    # at x times the price nosana pays 8.1 x USD/h gross, and the 3 h lost are 8.1 x - 0.1 each:
    # 100 (8.1 x - 0.1 - 5.3 - 0.53) - 12 - 3 (8.1 x - 0.1) = 785.7 x - 604.7, 0 at x = 0.76963
    assert move.token_usd == 2.0
    assert move.flip_token_usd == pytest.approx(2.0 * 604.7 / 785.7)
    assert move.modelled == ("leases on akash",)
    assert move.text == (
        "rig-0 moves from akash to nosana: +2.70 USD an hour for 36.00 USD of entry, back in "
        "13.3 h, +181.00 USD over 100 h after margin and entry; runner-up heurist with -47.37 USD; "
        "the accounting flips with nosana's token at 1.54 USD (now 2.00 USD); "
        "modelled: leases on akash."
    )


def test_a_move_that_the_accounting_would_not_make_says_so() -> None:
    snapshot, memory = example()
    (move,), _ = explained(snapshot, memory, even(margin=0.1), [3, 0])
    assert move.gain_usd < 0
    assert "; policy and accounting disagree; runner-up nosana with +181.00 USD;" in move.text
    assert move.modelled == ("leases on akash", "the tournament of heurist")
    (other,), _ = explained(snapshot, memory, even(margin=0.1), [2, 0])
    assert "disagree" not in other.text


def test_a_move_to_what_the_accounting_has_second_says_so_though_it_gains() -> None:
    networks = {
        name: {"estimate_usd": usd} for name, usd in zip("abc", (1.0, 2.0, 3.0), strict=True)
    }
    snapshot, memory = by_hand([{"on": "a"}], networks)
    (move,), _ = explained(snapshot, memory, even(), [2])
    assert (move.network, move.runner_up) == ("b", "c")
    assert 0 < move.gain_usd < (move.runner_up_gain_usd or 0.0)
    assert "; policy and accounting disagree; runner-up c with +" in move.text
    (best,), _ = explained(snapshot, memory, even(), [3])
    assert "disagree" not in best.text


def test_a_hold_is_told_when_a_move_gains_or_nearly_does() -> None:
    # b would gain 1 USD an hour: 100 USD over the horizon, for an entry of 100 USD
    def near(burn_usd: float) -> tuple[Move, ...]:
        networks = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 2.0, "burn_usd": burn_usd}}
        deep = {"outside_work": 1e12}
        given_networks = {name: {**columns, **deep} for name, columns in networks.items()}
        snapshot, memory = by_hand([{"on": "a"}], given_networks)
        return explained(snapshot, memory, even(), [0])[1]

    assert NEAR_MISS == 0.2
    assert [move.gain_usd > 0 for move in near(99.0)] == [True]
    assert [move.gain_usd > 0 for move in near(124.0)] == [False]  # short by 24 of 124 USD
    assert near(126.0) == ()  # short by 26 of 126 USD
    (move,) = near(124.0)
    assert not move.made
    assert move.text == (
        "rig-0 stays on a: b would be +1.00 USD an hour for 124.00 USD of entry, back in 124.0 h, "
        "-24.00 USD over 100 h after margin and entry; runner-up off with -100.00 USD; the "
        "accounting flips with b's token at 2.24 USD (now 2.00 USD)."
    )


def test_every_near_miss_of_a_large_fleet_is_told() -> None:
    networks = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 2.0}}
    deep = {name: {**columns, "outside_work": 1e12} for name, columns in networks.items()}
    rigs: list[Rig] = [{"on": "a"}] * 3000
    snapshot, memory = by_hand(rigs, deep)
    orders = [2] + [0] * 2999
    (move,), near = explained(snapshot, memory, even(), orders)
    assert move.rig == "rig-0"
    assert [miss.rig for miss in near] == [f"rig-{k}" for k in range(1, 3000)]


def test_a_hold_without_a_legal_alternative_is_not_told() -> None:
    networks = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 9.0, "open": 0.0}}
    snapshot, memory = by_hand([{"on": "a", "work": {"off": 0.0}}], networks)
    assert explained(snapshot, memory, even(), [0]) == ((), ())


def test_a_move_with_no_way_back_and_no_other_choice_says_so_too() -> None:
    # switching off a rig that earns: nothing comes back, and off has no token that would matter
    snapshot, memory = by_hand([{"on": "a", "work": {"b": 0.0}}], {"a": {"estimate_usd": 1.0}})
    (move,), _ = explained(snapshot, memory, even(), [2])
    assert (move.break_even_h, move.runner_up, move.flip_token_usd) == (None, None, None)
    assert "never back" in move.text
    assert "token" not in move.text
    assert "USD;" not in move.text
    assert "runner-up" not in move.text


@pytest.mark.parametrize(
    ("burn_usd", "text"),
    [
        (12345.6, "12,346 USD"),
        (12.345, "12.35 USD"),
        (0.01234, "0.0123 USD"),
        (0.0, "0 USD"),
        (1e-15, "0.000000000000 USD"),
    ],
)
def test_money_is_written_as_people_write_it(burn_usd: float, text: str) -> None:
    networks = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 2.0, "burn_usd": burn_usd}}
    snapshot, memory = by_hand([{"on": "a"}], networks)
    (move,), _ = explained(snapshot, memory, even(), [2])
    assert f" for {text} of entry" in move.text


def paying(snapshot: Snapshot, **paid: Paid) -> Snapshot:
    """The snapshot, read by a bundle that knows in what these networks pay."""
    return replace(snapshot, columns=replace(snapshot.columns, paid=paid))


def flip_of(network: str, **paid: Paid) -> float | None:
    """Of a move from a to that network, at a token of 2 USD. a pays 1 USD/h, b and c pay 2, and
    to enter costs 50 USD: at x times the price b gains 100 (2 x - 1) - 50, 0 at x = 0.75."""
    networks = {n: {"estimate_usd": usd} for n, usd in (("a", 1.0), ("b", 2.0), ("c", 2.0))}
    burn = {"outside_work": 1e12, "burn_usd": 50.0}
    snapshot, memory = by_hand([{"on": "a"}], {n: of | burn for n, of in networks.items()})
    order = snapshot.network_names.index(network) + 1
    (move,), _ = explained(paying(snapshot, **paid), memory, even(), [order])
    return move.flip_token_usd


def test_what_is_paid_here_in_the_same_token_moves_with_it() -> None:
    ours, other = Paid("RENDER", 1.0), Paid("AKT", 1.0)
    assert flip_of("b", a=other, b=ours) == pytest.approx(2.0 * 0.75)
    # 100 (2 x - x) - 50
    assert flip_of("b", a=ours, b=ours) == pytest.approx(2.0 * 0.5)
    # where half of what b pays is in USD: 100 (1 + x - x) - 50 is never 0
    assert flip_of("b", a=ours, b=Paid("RENDER", 0.5)) is None
    # where half of what a pays is: 100 (2 x - 0.5 - 0.5 x) - 50
    assert flip_of("b", a=Paid("RENDER", 0.5), b=ours) == pytest.approx(2.0 * 2 / 3)
    # what the bundle does not know pays in a token of its own
    assert flip_of("b") == flip_of("b", a=ours) == flip_of("b", b=ours) == pytest.approx(1.5)


@pytest.mark.parametrize("token", [None, "AKT"])
def test_pay_in_usd_has_no_flip_price_and_says_so(token: str | None) -> None:
    networks = {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 2.0}}
    snapshot, memory = by_hand([{"on": "a"}], networks)
    pegged = paying(snapshot, a=Paid("AKT", 1.0), b=Paid(token, 0.0))
    (move,), _ = explained(pegged, memory, even(), [2])
    assert move.flip_token_usd is None
    assert "; pay on b is in USD." in move.text
    assert "token" not in move.text


positive = st.floats(0.01, 100.0)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Snapshot, Floats, Rule]:
    """One rig on a, that could move to b."""
    rig: Rig = {"on": "a", "work": {"a": draw(positive), "b": draw(positive)}, "owned": 1.0}
    rig |= {"power_kw": draw(st.sampled_from([0.0, 1.0, 30.0]))}
    rig |= {"tariff_usd_kwh": draw(st.sampled_from([-0.05, 0.1]))}
    rig |= {"leaving_usd": draw(st.sampled_from([0.0, 5.0]))}
    networks = {
        name: {
            "estimate_usd": draw(positive),
            "outside_work": draw(positive),
            "burn_usd": draw(st.sampled_from([0.0, 1.0, 300.0])),
            "warmup_h": draw(st.sampled_from([0.0, 10.0, 500.0])),
            "token_usd": draw(positive),
            "lockup": 0.1,
        }
        for name in "ab"
    }
    snapshot, memory = by_hand([rig], networks)
    memory[:3, :2] *= np.array([[draw(positive) for _ in "ab"] for _ in range(3)])
    knobs = {"horizon_h": draw(st.sampled_from([10.0, 100.0])), "margin": 0.1, "marginal": 0.7}
    rule = replace(even(**knobs), name=draw(st.sampled_from(RULES)), weights=(0.2, 0.5, 0.3))
    tokens, shares = st.sampled_from(["A", "B"]), st.sampled_from([0.0, 0.3, 1.0])
    paid = {name: Paid(draw(tokens), draw(shares)) for name in "ab"}
    return paying(snapshot, **draw(st.sampled_from([{}, paid]))), memory, rule


def gain_at(snapshot: Snapshot, memory: Floats, rule: Rule, ratio: float) -> tuple[float, float]:
    """(gain_usd of moving to b, the sum it is a difference of) with b's token at ratio times its
    price: the averages recomputed of b, and of a where it pays in that token."""
    scaled, paid = memory.copy(), snapshot.columns.paid
    there = paid.get("b", Paid(None, 1.0))
    for n, name in enumerate("ab"):
        here = paid.get(name, there)
        if name == "b" or (paid and here.token == there.token):
            scaled[:3, n] *= 1.0 - here.share + here.share * ratio
    found = account(snapshot, scaled, rule)
    size = rule.horizon_h * (abs(found.value[0, 1]) + abs(found.here[0])) + found.entry_usd[0, 1]
    return float(found.gain_usd[0, 1]), float(size)


@settings(max_examples=300, deadline=None)
@given(choice=choices())
def test_at_the_flip_price_the_move_gains_nothing(choice: tuple[Snapshot, Floats, Rule]) -> None:
    snapshot, memory, rule = choice
    (move,), _ = explained(snapshot, memory, rule, [2])
    assert move.in_usd == (snapshot.columns.paid.get("b", Paid(None, 1.0)).share == 0.0)
    assert not (move.in_usd and move.flip_token_usd)
    assume(move.flip_token_usd is not None)
    assert move.flip_token_usd is not None
    assert move.flip_token_usd > 0
    gain, size = gain_at(snapshot, memory, rule, move.flip_token_usd / move.token_usd)
    assert abs(gain) <= 1e-9 * size


@settings(max_examples=300, deadline=None)
@given(choice=choices())
def test_no_price_nearer_than_the_flip_price_changes_the_answer(
    choice: tuple[Snapshot, Floats, Rule],
) -> None:
    snapshot, memory, rule = choice
    (move,), _ = explained(snapshot, memory, rule, [2])
    assume(not move.in_usd)
    flip = np.inf if move.flip_token_usd is None else move.flip_token_usd
    reach = min(abs(np.log(flip / move.token_usd)), 12.0) * 0.999
    for step in np.linspace(-reach, reach, 21):
        gain, size = gain_at(snapshot, memory, rule, float(np.exp(step)))
        assert np.sign(gain) == np.sign(move.gain_usd) or abs(gain) <= 1e-9 * size


@pytest.mark.parametrize(("price", "flip"), [(2.0, 2.0 * 1235.0 / 980.0), (1.6, 2.0 * 0.75)])
def test_of_two_prices_the_nearer_one_is_told(price: float, flip: float) -> None:
    # entering takes 500 h, longer than the horizon of 10 h: a dearer token makes it worse. On a the
    # rig loses 1 USD/h; on b it would earn 2 x - 2.5: 10 (2 x - 1.5) - 500 max(2 x - 2.5, 0) is 0
    # at x = 0.75 and, with 980 x = 1235, at x = 1.2602; gained between; the second is nearer
    # to a token of 2 USD and the first to one of 1.6.
    rig: Rig = {"on": "a", "owned": 1.0, "power_kw": 1.0, "tariff_usd_kwh": 1.0, "work": {"a": 0.0}}
    slow = {"estimate_usd": price, "warmup_h": 500.0, "outside_work": 1e12, "load": 2.5}
    slow["token_usd"] = price
    snapshot, memory = by_hand([rig], {"a": {}, "b": slow})
    (move,), _ = explained(snapshot, memory, even(horizon_h=10.0), [2])
    assert move.gain_usd > 0
    assert move.flip_token_usd == pytest.approx(flip)


@pytest.mark.parametrize("networks", ["core", "default"])
def test_on_lived_worlds_the_rules_moves_gain_and_its_runners_up_gain_less(networks: str) -> None:
    rule = replace(even(horizon_h=125.0, margin=0.05, marginal=0.8), attention=0.3)
    told = 0
    for _, _, snapshot, memory in lived("mixed", networks, BreakEven(125.0, 48.0), hours=8):
        found = account(snapshot, memory, rule)
        orders = rule_orders(snapshot, found, rule)
        moves, near = explained(snapshot, memory, rule, orders.tolist())
        assert [move.rig for move in moves] == [f"rig-{r}" for r in np.flatnonzero(orders)]
        assert all(move.gain_usd > 0 for move in moves)
        for move in (*moves, *near):
            told += 1
            if move.runner_up_gain_usd is not None:
                assert move.runner_up_gain_usd <= move.gain_usd
                assert move.runner_up not in (move.network, move.origin)
            assert re.search(r"nan|inf\b|None", move.text) is None
        staying = {move.rig for move in near}
        assert staying.isdisjoint(move.rig for move in moves)
    assert told > 0


def test_an_empty_fleet_has_nothing_to_tell() -> None:
    snapshot, memory = by_hand([], {"a": {}})
    assert explained(snapshot, memory, even(), []) == ((), ())
