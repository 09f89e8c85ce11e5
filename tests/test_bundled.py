"""A bundle scored in simulated worlds: the same decisions as live, legal, and a world's own."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from conftest import scenario
from served import fresh, unix_s

from agents.bundled import Bundled, bundle_of
from agents.golden import clock
from agents.outlook import Observation
from agents.snapshots import Names, to_snapshot
from env.errors import InputError
from env.observation import column, derive, facts
from env.world import World

HOURS = 30


def lived(policy: Bundled, seeds: list[int], hours: int) -> list[torch.Tensor]:
    """The orders [B, R] of each hour, every one of which the worlds can carry out."""
    world, orders = World.start(scenario(horizon=HOURS), seeds), []
    for _ in range(hours):
        seen: Observation = world.observe()
        orders.append(policy(seen))
        assert (seen["action_mask"].gather(-1, orders[-1].unsqueeze(-1)) > 0).all()
        world.step(orders[-1])
    return orders


def subject(bundle: Path) -> Bundled:
    return Bundled.of(bundle, scenario(horizon=HOURS))


def test_worlds_are_scored_each_by_a_runtime_of_its_own(bundle: Path) -> None:
    both = lived(subject(bundle), [7, 8], HOURS)
    alone = lived(subject(bundle), [8], HOURS)
    assert all(torch.equal(a[1], b[0]) for a, b in zip(both, alone, strict=True))
    assert any((order > 0).any() for order in both)


def test_new_worlds_begin_without_a_memory_and_so_does_another_process(bundle: Path) -> None:
    policy = subject(bundle)
    first = lived(policy, [7], HOURS)
    assert all(map(torch.equal, lived(policy, [7], HOURS), first))
    assert all(map(torch.equal, lived(pickle.loads(pickle.dumps(policy)), [7], HOURS), first))


def test_a_scored_world_decides_as_the_snapshots_of_its_hours(bundle: Path) -> None:
    scored, live = subject(bundle), fresh(bundle)
    world = World.start(scenario(horizon=HOURS), [7])
    names = Names.of(world, 0)
    for hour in range(HOURS):
        orders = scored(world.observe())
        known = facts(world.scenario, world.fleet, world.state, world.now, world.static)
        time = clock(float(known.market[0, column("market", "hour_of_day")]), hour)
        averages = derive(known, world.memory, 1.0)[1] if hour == 0 else None
        snapshot = to_snapshot(known, 0, names, time, averages)
        sent = live.decide(snapshot, unix_s(snapshot)).orders
        expected = [names.networks.index(sent[rig]) + 1 if rig in sent else 0 for rig in names.rigs]
        assert orders[0].tolist() == expected
        world.step(orders)


def test_a_bundle_is_scored_in_the_worlds_of_the_run_around_it(
    bundle: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "bundle"
    shutil.copytree(bundle, alone)
    assert bundle_of(["horizon=48"]) == (None, ["horizon=48"])
    assert bundle_of([f"bundle={alone}", "horizon=48"]) == (alone, ["horizon=48"])
    assert bundle_of([f"bundle={bundle}"]) == (bundle, [f"run={bundle.parent}"])


def test_a_bundle_beside_another_subject_or_one_that_was_changed_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="policy"):
        bundle_of([f"bundle={bundle}", "policy=greedy"])
    with pytest.raises(InputError, match="bundle"):
        Bundled.of(tmp_path, scenario())
