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
from snapshots import by_hand, larger

from agents.rules import BreakEven
from agents.serve.columns import AVERAGES, NETWORKS
from agents.serve.errors import FieldError
from agents.serve.model import remember
from agents.serve.novelty import OF_FLEET, OF_NETWORKS, Floats, Hour, Training, fit
from agents.serve.snapshot import Snapshot
from agents.worlds import Split, world_seeds
from env.world import World

HOURS = 240
DOLLARS = ("token_usd", "estimate_usd", "burn_usd", "collateral_usd", "rig_collateral_usd")
COLUMN = {name: k for k, name in enumerate(NETWORKS)}
LENGTHS_H = np.array([hours for _, hours in AVERAGES.values()])[:, None]


@dataclass(frozen=True)
class Lived:
    """Worlds under a rule: networks [T, W, N, 27], market [T, W, 5], memory [T, W, 5, N]."""

    names: tuple[str, ...]
    rigs: int
    networks: Floats
    market: Floats
    memory: Floats

    def hours(self) -> list[Hour]:
        rows = zip(self.networks, self.market, self.memory, strict=True)
        return [Hour(*row, self.rigs) for row in rows]


@cache
def lived(split: Split, count: int) -> Lived:
    place = scenario("small", "default", HOURS)
    world, rule, seen = World.start(place, world_seeds(split, count)), BreakEven(), []
    with torch.no_grad():
        while not world.done:
            observation = world.observe()
            networks, averages = np.split(observation["networks"].double().numpy(), [27], -1)
            market = observation["market"].double().numpy()
            seen.append((networks, market, averages.swapaxes(-1, -2)))
            world.step(rule(observation))
    columns = (np.stack(column) for column in zip(*seen, strict=True))
    return Lived(place.network_names, place.rig_count, *columns)


@cache
def ranges() -> dict[str, Any]:
    worlds = lived(Split.TRAIN, 64)
    return fit(worlds.names, worlds.hours())


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
        rig_names=("rig",) * hour.rigs,
        network_names=names,
        networks=hour.networks[w],
        market=hour.market[w],
    )


@pytest.mark.slow
def test_hardly_a_test_world_is_novel_but_where_a_network_dies_under_the_fleet() -> None:
    worlds = lived(Split.TEST, 128)
    far, of = distances(worlds.hours(), worlds.names)
    novel = far > 1
    assert novel.mean() <= 0.01
    # a network's death under a fifth of the fleet is no false alarm, though training has deaths
    false = [
        any(novel[t, w] and not of[t][w].startswith("stranded") for t in range(HOURS))
        for w in range(novel.shape[1])
    ]
    assert np.mean(false) <= 0.01


Shift = Callable[[Floats, int], int]  # networks [N, 27] in place, rigs -> rigs


def prices_down(networks: Floats, rigs: int) -> int:
    """All tokens lose 80 %, and with them what is paid in them."""
    networks[:, [COLUMN[name] for name in DOLLARS]] *= 0.2
    return rigs


def main_network_dead(networks: Floats, rigs: int) -> int:
    """The network of most rigs pays nothing, its token is worth nothing, and it is down."""
    dead = networks[:-1, COLUMN["own_rigs"]].argmax()
    networks[dead, COLUMN["estimate_usd"]] = 0.0
    networks[dead, COLUMN["token_usd"]] *= 1e-3
    networks[dead, COLUMN["up"]] = 0.0
    return rigs


def ten_times_the_fleet(networks: Floats, rigs: int) -> int:
    networks[:, [COLUMN["own_work"], COLUMN["own_rigs"]]] *= 10.0
    return 10 * rigs


def three_times_the_fleet(networks: Floats, rigs: int) -> int:
    networks[:, [COLUMN["own_work"], COLUMN["own_rigs"]]] *= 3.0
    return 3 * rigs


@pytest.mark.slow
@pytest.mark.parametrize("shift", [prices_down, main_network_dead, ten_times_the_fleet])
def test_a_shifted_world_is_novel_within_a_day(shift: Shift) -> None:
    assert _noticed(shift, lived(Split.TEST, 128)).mean() >= 0.95


@pytest.mark.slow
def test_a_fleet_three_times_larger_is_not_novel_for_that_alone() -> None:
    assert _noticed(three_times_the_fleet, lived(Split.TEST, 128)).mean() <= 0.05


def _noticed(shift: Shift, worlds: Lived) -> Any:
    """Whether each world is novel in the day after it shifts in its middle, averages with it."""
    begin = HOURS // 2
    memory, hours = worlds.memory[begin - 1].copy(), []
    for t in range(begin, begin + 24):
        networks = worlds.networks[t].copy()
        (rigs,) = {shift(one, worlds.rigs) for one in networks}  # each world is shifted
        now = np.stack([networks[..., COLUMN[of]] for of, _ in AVERAGES.values()], 1)
        memory = memory - np.expm1(-1.0 / LENGTHS_H) * (now - memory)
        hours.append(Hour(networks, worlds.market[t], memory, rigs))
    return (distances(hours, worlds.names)[0] > 1).any(0)


def hour(memory_of: Floats | None = None, **market: float) -> tuple[Snapshot, Floats]:
    """A fleet on a network of training and one that training did not have."""
    networks = {
        "akash": {"estimate_usd": 0.2, "token_usd": 1.1},
        "new": {"estimate_usd": 0.2, "token_usd": 1.1},
    }
    snapshot, memory = by_hand([{"on": "akash"}] * 4, networks)
    values = np.array([8e4, 1.0, 0.0, 90 * 24 * 5.0, 5.0])
    return replace(snapshot, market=values), memory


def test_a_hand_made_hour_is_as_far_as_its_ranges_say() -> None:
    training = {
        "worlds": 1,
        "hours": 1,
        "fleet": {key: [-100.0, 100.0] for key in OF_FLEET} | {"rigs": [-2.0, 2.0]},
        "any": {key: [-100.0, 100.0] for key in OF_NETWORKS} | {"token_trend": [-0.5, 0.5]},
        "networks": {"akash": {key: [-100.0, 100.0] for key in OF_NETWORKS}},
    }
    snapshot, memory = hour()
    assert Training(training).distance(snapshot, memory)[0] == pytest.approx(np.log(4) / 2)
    memory[4] *= 4.0  # the 168-hour averages of the tokens' prices
    far, of = Training(training).distance(snapshot, memory)
    assert far == pytest.approx(np.log(4) / 0.5)
    assert of == "token_trend of new is -1.39, range -0.5 to 0.5"
    eight = larger(snapshot, 16)
    memory[4] /= 4.0
    assert Training(training).distance(eight, memory)[0] == pytest.approx(np.log(16) / 2)


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
