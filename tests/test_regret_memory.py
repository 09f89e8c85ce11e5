"""What the runtime remembers of its regret, and of the fleets on paper that it is between."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from served import LOOSE, Graph, Sleeping, ask, averages, fresh, recorded, unix_s

from agents.serve.book import Book
from agents.serve.snapshot import Snapshot
from agents.serve.state import Paper, Regret


class Dumb(Graph):
    """A graph that gives no answer."""

    def run(self, seen: Snapshot, memory: Any, dt_h: float) -> None:
        return None


def test_an_export_of_the_same_again_goes_on_with_its_regret(bundle: Path) -> None:
    """It differs in its dates, scores and code only, and would lift a budget that is spent."""
    old, new = fresh(bundle), fresh(bundle)
    manifest = copy.deepcopy(new.bundle.manifest) | {"created": "later", "scores": {}}
    manifest["provenance"] = {"commit": "another"}
    manifest["training"] |= {"worlds": 1, "hours": 1}
    new.bundle = dataclasses.replace(new.bundle, digest="another", manifest=manifest)
    for hour in recorded(bundle)[:5]:
        ask(old, hour)
    assert old._memory.after.regret.lead
    new.take_over(old)
    assert new._memory == old._memory


@pytest.mark.parametrize("what", ["model", "rule", "training"])
def test_a_bundle_that_decides_otherwise_takes_over_what_was_remembered_but_no_regret(
    bundle: Path, what: str
) -> None:
    old, new = fresh(bundle), fresh(bundle)
    manifest, model = copy.deepcopy(new.bundle.manifest), new.bundle.model
    if what == "model":
        model += b"another"
    elif what == "rule":
        manifest["rule"]["margin"] += 0.1
    else:
        manifest["training"]["fleet"]["rigs"][1] += 1.0
    new.bundle = dataclasses.replace(new.bundle, manifest=manifest, model=model)
    for hour in recorded(bundle)[:5]:
        ask(old, hour)
    new.take_over(old)
    assert averages(new) == averages(old) != {}
    assert new._memory.after.regret.lead == ()
    assert ask(new, recorded(bundle)[5]).source == "policy"


def test_a_rig_on_paper_waits_for_its_network_for_as_long_as_a_gap_may_be(bundle: Path) -> None:
    """It is on vast on paper while the real one is off; the fleets are one once it is given up."""
    sleeping, rig = Sleeping(), "rig-0000"
    policy, hours = fresh(bundle, sleeping, max_gap_h=3.0, **LOOSE), recorded(bundle)[:10]
    for row in (row for hour in hours for row in hour["rigs"].values()):
        row["network"] = "off"
    ask(policy, hours[0])
    regret = policy._memory.after.regret
    paper = Paper(Book({**regret.policy.book.place, rig: "vast"}))
    state = dataclasses.replace(policy._memory.after, regret=Regret(paper, regret.rule))
    policy._memory = dataclasses.replace(policy._memory, after=state)
    for h, hour in enumerate(hours[1:], 1):
        if h not in (1, 5):
            del hour["networks"]["vast"]
        sleeping.asked.clear()
        ask(policy, hour)
        given_up = h == 9
        assert policy._memory.after.regret.policy.book.place[rig] == ("off" if given_up else "vast")
        assert len(sleeping.asked) == (1 if given_up else 2)


def test_the_policys_fleet_on_paper_holds_where_the_graph_gives_no_answer(bundle: Path) -> None:
    """While the rule leads the real fleet: what it orders that one is no order of the policy's."""
    policy, hours = fresh(bundle, Dumb(), max_novelty=0.0), recorded(bundle)
    for hour in hours[:2]:
        for row in hour["rigs"].values():
            row["network"] = "off"
    ask(policy, hours[0])
    before = policy._memory.after
    places = {**before.places, "rig-0000": "vast"}
    regret = dataclasses.replace(before.regret, policy=Paper(Book(places)))
    state = dataclasses.replace(before, regret=regret)
    policy._memory = dataclasses.replace(policy._memory, after=state)
    decision = ask(policy, hours[1])
    assert decision.source == "rule"
    assert decision.orders
    assert policy._memory.after.regret.policy.book.place == places


def test_a_rig_that_somebody_else_moves_is_moved_on_paper_too(bundle: Path) -> None:
    policy, hours = fresh(bundle, Sleeping(), **LOOSE), recorded(bundle)
    for hour in hours[:2]:
        for rig in hour["rigs"].values():
            rig["network"] = "off"
    ask(policy, hours[0])
    hours[1]["rigs"]["rig-0001"]["network"] = "vast"
    ask(policy, hours[1])
    regret = policy._memory.after.regret
    assert regret.policy.book.place["rig-0001"] == "vast"
    assert policy._memory.after.moves.last["rig-0001"] == unix_s(hours[1])
