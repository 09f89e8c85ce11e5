"""The fleet that decisions are timed with."""

from __future__ import annotations

from pathlib import Path

from served import ask, fresh

from agents.serve.latency import Fleet


def test_a_rig_that_obeys_provisions_where_it_is_ordered_and_then_works(bundle: Path) -> None:
    fleet = Fleet(fresh(bundle), 8, 16)
    before = fleet.snapshot(0)[0]["rigs"]
    network, name = "akash", next(n for n, rig in before.items() if rig["network"] != "akash")
    fleet.obey({name: network})
    told = []
    for hour in range(1, 12):
        rig = fleet.snapshot(hour)[0]["rigs"][name]
        told.append((rig["network"], rig["provisioning_h"], rig["tenure_h"]))
        fleet.obey({})
    assert {at for at, _, _ in told} == {network}
    waits_h, works_h = [waits for _, waits, _ in told], [works for _, _, works in told]
    assert waits_h == [max(0.0, waits_h[0] - hour) for hour in range(11)]
    assert works_h == [max(0.0, hour - waits_h[0]) for hour in range(11)]
    others = fleet.snapshot(12)[0]["rigs"]
    assert all(others[n] == rig for n, rig in before.items() if n != name)


def test_the_fleet_is_one_that_a_policy_decides_on(bundle: Path) -> None:
    policy = fresh(bundle, max_novelty=1e9)
    fleet = Fleet(policy, 64, 16)
    for hour in range(3):
        snapshot, _ = fleet.snapshot(hour)
        decision = ask(policy, snapshot)
        assert decision.source == "policy"
        fleet.obey(decision.orders)
