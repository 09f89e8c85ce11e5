"""What the runtime remembers of its regret, and of the fleets on paper that it is between."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from served import LOOSE, Sleeping, ask, fresh, recorded

from agents.serve.book import Book
from agents.serve.state import Paper, Regret


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
