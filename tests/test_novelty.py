"""Novelty: shifted worlds fall to the rule, others do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scenario
from snapshots import by_hand, larger, snapshot_of, valued

from agents.ranges import as_hour
from agents.rules import BreakEven
from agents.serve.columns import AVERAGES, NETWORKS, RIGS
from agents.serve.errors import FieldError
from agents.serve.model import remember
from agents.serve.novelty import OF_FLEET, OF_NETWORKS, Floats, Hour, Training, fit, statistics
from agents.serve.snapshot import Snapshot
from agents.worlds import Split, world_seeds
from env.observation import facts
from env.world import World

HOURS = 240
DOLLARS = ("token_usd", "estimate_usd", "burn_usd", "collateral_usd", "rig_collateral_usd")
COLUMN = {name: k for k, name in enumerate(NETWORKS)}
RIG = {name: k for k, name in enumerate(RIGS)}
LENGTHS_H = np.array([hours for _, hours in AVERAGES.values()])[:, None]


@dataclass(frozen=True)
class Lived:
    """W worlds under a rule, hour by hour."""

    names: tuple[str, ...]
    hours: list[Hour]


@cache
def lived(split: Split, count: int) -> Lived:
    place = scenario("small", "default", HOURS)
    world, rule, seen = World.start(place, world_seeds(split, count)), BreakEven(), []
    with torch.no_grad():
        while not world.done:
            seen.append(
                as_hour(facts(place, world.fleet, world.state, world.now, world.static), world)
            )
            world.step(rule(world.observe()))
    return Lived(place.network_names, seen)


@cache
def ranges() -> dict[str, Any]:
    worlds = lived(Split.TRAIN, 64)
    return fit(worlds.names, worlds.hours)


def distances(hours: list[Hour], names: tuple[str, ...]) -> tuple[Floats, list[list[str]]]:
    """(distance, what it is of) of every world and hour, [T, W]."""
    training, template = Training(ranges()), by_hand([{"on": "off"}], {})[0]
    found = [
        [
            training.distance(_seen(template, hour, names, w), hour.memory[w])
            for w in range(len(hour.market))
        ]
        for hour in hours
    ]
    return np.array([[d for d, _ in row] for row in found]), [[s for _, s in row] for row in found]


def _seen(template: Snapshot, hour: Hour, names: tuple[str, ...], w: int) -> Snapshot:
    return replace(
        template,
        rig_names=("rig",) * hour.rigs.shape[1],
        network_names=names,
        rigs=hour.rigs[w],
        networks=hour.networks[w],
        work=np.repeat(hour.mine[w][:, None], len(names), 1),
        assignment=hour.assignment[w],
        market=hour.market[w],
    )


@pytest.mark.slow
def test_hardly_a_test_world_is_novel_but_where_a_network_dies_under_the_fleet() -> None:
    worlds = lived(Split.TEST, 128)
    far, of = distances(worlds.hours, worlds.names)
    novel = far > 1
    assert novel.mean() <= 0.01
    # a network's death under a fifth of the fleet is no false alarm, though training has deaths
    false = [
        any(novel[t, w] and not of[t][w].startswith("stranded") for t in range(HOURS))
        for w in range(novel.shape[1])
    ]
    assert np.mean(false) <= 0.01


Shift = Callable[[Hour], Hour]  # networks are its own, to change in place


def prices_down(hour: Hour) -> Hour:
    """All tokens lose 80 %, and with them what is paid in them."""
    hour.networks[..., [COLUMN[name] for name in DOLLARS]] *= 0.2
    return hour


def main_network_dead(hour: Hour) -> Hour:
    """The network of most rigs pays nothing, its token is worth nothing, and it is down."""
    for networks in hour.networks:
        dead = networks[:-1, COLUMN["own_rigs"]].argmax()
        networks[dead, COLUMN["estimate_usd"]] = 0.0
        networks[dead, COLUMN["token_usd"]] *= 1e-3
        networks[dead, COLUMN["up"]] = 0.0
    return hour


def dear_energy(hour: Hour) -> Hour:
    """Each rig is the operator's, at twice what it is paid for its energy."""
    rigs = hour.rigs.copy()
    worlds = np.arange(len(rigs))[:, None]
    paid_usd, load = (
        hour.networks[worlds, hour.assignment, COLUMN[name]] for name in ("estimate_usd", "load")
    )
    rigs[..., RIG["owned"]] = 1.0
    rigs[..., RIG["tariff_usd_kwh"]] = (
        2 * hour.mine * paid_usd / (rigs[..., RIG["power_kw"]] * load)
    )
    return hour._replace(rigs=rigs)


def ten_times_the_fleet(hour: Hour) -> Hour:
    return _times(hour, 10)


def three_times_the_fleet(hour: Hour) -> Hour:
    return _times(hour, 3)


def _times(hour: Hour, factor: int) -> Hour:
    hour.networks[..., [COLUMN["own_work"], COLUMN["own_rigs"]]] *= factor
    return hour._replace(
        rigs=np.tile(hour.rigs, (1, factor, 1)),
        mine=np.tile(hour.mine, (1, factor)),
        assignment=np.tile(hour.assignment, (1, factor)),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "shift", [prices_down, main_network_dead, dear_energy, ten_times_the_fleet]
)
def test_a_shifted_world_is_novel_within_a_day(shift: Shift) -> None:
    assert _noticed(shift, lived(Split.TEST, 128)).mean() >= 0.95


@pytest.mark.slow
def test_a_fleet_three_times_larger_is_not_novel_for_that_alone() -> None:
    assert _noticed(three_times_the_fleet, lived(Split.TEST, 128)).mean() <= 0.05


def _noticed(shift: Shift, worlds: Lived) -> Any:
    """Whether each world is novel in the day after it shifts in its middle, averages with it."""
    begin = HOURS // 2
    memory, hours = worlds.hours[begin - 1].memory.copy(), []
    for hour in worlds.hours[begin : begin + 24]:
        shifted = shift(hour._replace(networks=hour.networks.copy()))
        now = np.stack([shifted.networks[..., COLUMN[of]] for of, _ in AVERAGES.values()], 1)
        memory = memory - np.expm1(-1.0 / LENGTHS_H) * (now - memory)
        hours.append(shifted._replace(memory=memory))
    return (distances(hours, worlds.names)[0] > 1).any(0)


def hour(**rig: float) -> tuple[Snapshot, Floats]:
    """A fleet on a network of training and one that training did not have."""
    networks = {
        "akash": {"estimate_usd": 0.2, "token_usd": 1.1},
        "new": {"estimate_usd": 0.2, "token_usd": 1.1},
    }
    snapshot, memory = by_hand([{"on": "akash", **rig}] * 4, networks)
    values = np.array([8e4, 1.0, 0.0, 90 * 24 * 5.0, 5.0])
    return replace(snapshot, market=values), memory


def wide() -> dict[str, Any]:
    """Ranges in which only a fleet's size and a new network's token can lie outside."""
    return {
        "worlds": 1,
        "hours": 1,
        "fleet": {key: [-100.0, 100.0] for key in OF_FLEET} | {"rigs": [-2.0, 2.0]},
        "any": {key: [-100.0, 100.0] for key in OF_NETWORKS} | {"token_trend": [-0.5, 0.5]},
        "networks": {"akash": {key: [-100.0, 100.0] for key in OF_NETWORKS}},
    }


def test_a_hand_made_hour_is_as_far_as_its_ranges_say() -> None:
    training = wide()
    snapshot, memory = hour()
    assert Training(training).distance(snapshot, memory)[0] == pytest.approx(np.log(4) / 2)
    memory[4] *= 4.0  # the 168-hour averages of the tokens' prices
    far, of = Training(training).distance(snapshot, memory)
    assert far == pytest.approx(np.log(4) / 0.5)
    assert of == "token_trend of new is -1.39, range -0.5 to 0.5"
    eight = larger(snapshot, 16)
    memory[4] /= 4.0
    assert Training(training).distance(eight, memory)[0] == pytest.approx(np.log(16) / 2)


LOSING = [*OF_FLEET].index("losing")


def share_losing(snapshot: Snapshot, memory: Floats) -> float:
    return statistics(Hour.of(snapshot, memory))[1].item(0, LOSING)


def test_the_losing_share_is_that_of_the_running_rigs_paid_less_than_their_energy() -> None:
    # each of akash's is paid 3 * 0.2 * (1 - 0.1) * 36 / (36 + 18) = 0.36 USD/h
    akash = {"estimate_usd": 0.2, "lockup": 0.1, "outside_work": 36.0, "load": 0.5}
    at = {"on": "akash", "work": {"akash": 3.0}, "owned": 1.0, "power_kw": 2.0}
    down = {"on": "render", "owned": 1.0, "power_kw": 2.0, "tariff_usd_kwh": 9.0}
    rigs = [
        at | {"tariff_usd_kwh": 0.35},  # 0.35 USD/h for energy at half load
        at | {"tariff_usd_kwh": 0.37},
        at | {"tariff_usd_kwh": 0.37, "owned": 0.0},  # the lessor pays
        at | {"tariff_usd_kwh": 0.37, "up": 0.0},
        at | {"tariff_usd_kwh": np.nan},
        at | {"tariff_usd_kwh": 0.37, "work": {"akash": 0.0}},  # whose work nobody knows
        at | {"tariff_usd_kwh": 0.37, "lease_usd_h": 0.38},
        down,
        down | {"on": "off"},
    ]
    snapshot, memory = by_hand(rigs, {"akash": akash, "render": {"up": 0.0}})
    assert share_losing(snapshot, memory) == 1 / 5


def test_no_share_of_a_fleet_that_is_switched_off_is_losing() -> None:
    snapshot, memory = by_hand([{"on": "off", "owned": 1.0, "power_kw": 9.0}], {"akash": {}})
    assert share_losing(snapshot, memory) == 0.0


def test_on_lived_worlds_the_losing_share_is_the_accountings() -> None:
    world, shares = World.start(scenario("mixed", "default"), [1, 2, 3]), []
    for _ in range(8):
        known = facts(world.scenario, world.fleet, world.state, world.now, world.static)
        found = statistics(as_hour(known, world))[1][:, LOSING]
        for k in range(3):
            snapshot = snapshot_of(world, k)
            at = snapshot.assignment
            runs = (snapshot.of("up") > 0) & (snapshot.on("up")[at] > 0)
            runs &= at < len(snapshot.network_names) - 1
            fee = ("owned", "power_kw", "tariff_usd_kwh")
            energy_usd_h = np.prod([snapshot.of(c) for c in fee], 0) * snapshot.on("load")[at]
            losing = (valued(snapshot).paid_usd_h < 0) & (snapshot.of("lease_usd_h") < energy_usd_h)
            shares.append(losing.sum() / runs.sum())
            assert found[k] == shares[-1]
        world.step(BreakEven()(world.observe()))
    assert max(shares) > 0


def test_a_bundle_that_tells_no_range_of_losing_has_the_least_one() -> None:
    part = ranges()
    told = part | {"fleet": {k: v for k, v in part["fleet"].items() if k != "losing"}}
    snapshot, memory = hour(owned=1.0, power_kw=1.0, tariff_usd_kwh=1.0)
    assert Training(told).distance(snapshot, memory) == (2.0, "losing is 1, range -0.5 to 0.5")


def test_a_network_that_is_denied_is_judged_no_further_though_it_works() -> None:
    ranges_ = wide()
    ranges_["fleet"]["working"] = [0.8, 1.2]  # both are up and open
    training, (snapshot, memory) = Training(ranges_), hour()
    memory[4] *= 4.0
    far, of = training.distance(snapshot, memory)
    assert far > 1
    assert "token_trend of new" in of
    assert training.distance(snapshot, memory, deny=("another",)) == (far, of)
    assert training.distance(snapshot, memory, deny=("new",))[0] <= 1


def test_what_has_no_number_or_is_closed_is_not_judged() -> None:
    snapshot, memory = hour()
    training = {
        "worlds": 1,
        "hours": 1,
        "fleet": {key: [-100.0, 100.0] for key in OF_FLEET},
        "any": {key: [-1e-06, 1e-06] for key in OF_NETWORKS},
        "networks": {},
    }
    assert Training(training).distance(snapshot, memory)[0] > 1
    for column, value in (("estimate_usd", np.nan), ("open", 0.0), ("token_usd", np.inf)):
        networks = snapshot.networks.copy()
        networks[:, COLUMN[column]] = value
        assert Training(training).distance(replace(snapshot, networks=networks), memory)[0] < 1


def test_no_networks_and_no_rigs_are_judged_by_the_rest() -> None:
    snapshot, memory = by_hand([], {})
    market = np.array([1e8, 1.0, 0.0, 1.0, 1.0])
    far, of = Training(ranges()).distance(replace(snapshot, market=market), memory)
    assert far > 1
    assert of.startswith("btc is 18.4")


def test_averages_are_read_as_the_runtime_keeps_them() -> None:
    snapshot, memory = hour()
    assert np.array_equal(remember(memory, snapshot, 1.0), memory)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fleet.rigs", [1.0]),
        ("fleet.rigs", [2.0, 1.0]),
        ("fleet.rigs", [float("nan"), 1.0]),
        ("any.token", None),
        ("networks.akash", {}),
        ("nothing", 1),
    ],
)
def test_ranges_that_are_none_are_refused(path: str, value: Any) -> None:
    part = {key: dict(v) if isinstance(v, dict) else v for key, v in ranges().items()}
    *parts, last = path.split(".")
    at = part
    for key in parts:
        at = at[key]
    at[last] = value
    with pytest.raises(FieldError) as refused:
        Training(part)
    assert refused.value.path.startswith(f"training.{path}")
