"""The runtime: whom it lets decide, and that nothing can make it misbehave.

The laws of `served.check_laws` are held on a few hundred changed snapshots, on 10,000 in the slow
test, and on as many as the environment variable SNAPSHOTS says: SNAPSHOTS=1000000 is the long run.
"""

from __future__ import annotations

import copy
import math
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import (
    KINDS,
    LOOSE,
    Graph,
    Hostile,
    Sleeping,
    ask,
    averages,
    check_laws,
    fresh,
    later,
    many,
    recorded,
    spoil,
    unix_s,
)

from agents.serve.errors import FieldError
from agents.serve.runtime import Policy
from agents.serve.snapshot import Ints, Snapshot

SNAPSHOTS = int(os.environ.get("SNAPSHOTS", "10000"))


TIGHT: dict[str, Any] = {
    "max_network_share": 0.5,
    "max_network_rigs": {"akash": 1},
    "deny": ["morpheus"],
}


@pytest.mark.parametrize("hours", [-1000.0, -1.0, 1.0, 1e6])
def test_a_snapshot_far_from_the_clock_holds_and_is_not_remembered(
    bundle: Path, hours: float
) -> None:
    policy, hour = fresh(bundle), recorded(bundle)[0]
    memory = policy._memory
    decision = policy.decide(hour, unix_s(hour) + hours * 3600)
    assert (decision.source, decision.moves) == ("hold", ())
    assert decision.reason.startswith("snapshot is")
    assert policy._memory is memory


def test_threads_may_ask_at_once(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    answers: list[Any] = []

    def run() -> None:
        answers.extend(ask(policy, hour) for hour in hours)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 * len(hours)
    assert not any("internal" in answer.reason for answer in answers)


def test_far_from_training_the_rule_decides_and_says_why(bundle: Path) -> None:
    policy, hours = fresh(bundle), recorded(bundle)
    ask(policy, hours[0])
    for feed in hours[1]["networks"].values():
        feed["token_usd"] *= 0.2
    decision = ask(policy, hours[1])
    assert decision.source == "rule"
    assert decision.novelty is not None
    assert decision.novelty > 1
    assert decision.reason.startswith("outside of training (novelty")
    assert "token" in decision.reason


def test_a_policy_that_loses_spends_its_budget_and_decides_again_when_it_has_mended(
    bundle: Path,
) -> None:
    """The real fleet stays off throughout: what is compared is on paper."""
    graph = Sleeping()
    policy = fresh(bundle, graph, regret_budget_h=24.0, max_novelty=1e6)
    hours = recorded(bundle, 1)
    for hour in hours:
        for rig in hour["rigs"].values():
            rig |= {"network": "off", "tenure_h": 100.0, "provisioning_h": 0.0}
    sources, lost = [], []
    for h in range(400):
        graph.asked.clear()
        decision = ask(policy, later(hours[h % 48], 48 * (h // 48)) if h else hours[0])
        sources.append(decision.source)
        lost.append(decision.regret_usd)
        if decision.source == "rule":
            assert decision.reason.startswith("regret budget spent (")
            graph.awake = True
        elif graph.awake:
            break
    budget_usd = 24.0 * hours[0]["market"]["nominal_usd_h"]
    spent = sources.index("rule")
    assert sources[:spent] == ["policy"] * spent
    assert max(lost[: spent - 1]) <= budget_usd < lost[spent - 1]
    assert sources[-1] == "policy"
    assert lost[-2] <= budget_usd / 2 < min(lost[spent : len(lost) - 2])
    real, paper = graph.asked  # its fleet on paper stands elsewhere, and goes on being led by it
    assert real != paper


def test_in_fallback_the_rule_orders_under_the_guardrails(bundle: Path) -> None:
    policy = fresh(bundle, Hostile("random", 1), max_novelty=0.0, deny=["vast", "akash"])
    moved = set()
    for hour in recorded(bundle, 1):
        decision = ask(policy, hour)
        assert decision.source == "rule"
        moved |= {*decision.orders.values()}
    assert not moved & {"vast", "akash"}


def changed(base: list[dict[str, Any]], rng: random.Random) -> tuple[dict[str, Any], float]:
    """A snapshot with something wrong in it, or unusual, and the clock."""
    said = copy.deepcopy(rng.choice(base))
    kind = rng.random()
    if kind < 0.02:
        said["rigs"] = {}
    elif kind < 0.3:
        said = many(said, rng.choice((1, 3, 17, 40)))
        for rig in said["rigs"].values():
            rig["network"] = rng.choice([*said["networks"], "off"])
            rig["tenure_h"] = rng.choice((0.0, 2.0, 100.0))
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        spoil(said, rng)
        if not said:
            break
    drift_s = rng.choice((0, 0, 0, 60, -60, 7200, -7200, 1e9, math.nan, math.inf))
    return said, drift_s


def started(bundle: Path) -> list[dict[str, Any]]:
    """Recorded hours, each with averages of its own, so that any may be the first."""
    hours = [hour for k in (0, 1) for hour in recorded(bundle, k)[:12]]
    for hour in hours:
        hour["time"] = hours[0]["time"]
        for feed in hour["networks"].values():
            estimate, token = feed["estimate_usd"], feed["token_usd"]
            feed |= dict.fromkeys(("ema_6h_usd", "ema_48h_usd", "ema_336h_usd"), estimate)
            feed |= dict.fromkeys(("price_24h_usd", "price_168h_usd"), token)
    return hours


def check_changed(bundle: Path, base: list[dict[str, Any]], seed: int) -> str:
    """Decide on a changed snapshot with the policy or a hostile graph; who decided."""
    rng = random.Random(seed)
    said, drift_s = changed(base, rng)
    now = unix_s(base[0]) + drift_s
    kind = rng.choice((None, None, *KINDS))
    limits = {**LOOSE, **(TIGHT if rng.random() < 0.5 else {})}
    if rng.random() < 0.5:
        limits["max_payback_h"] = 1e9
    policy = fresh(bundle, None if kind is None else Hostile(kind, seed), **limits)
    try:
        decision = policy.decide(said, now)
    except FieldError:
        return "refused"
    check_laws(policy, said, decision, policy.limits, now)
    return "moves" if decision.moves else decision.source


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**63))
def test_a_changed_snapshot_breaks_no_law_whoever_decides(bundle: Path, seed: int) -> None:
    check_changed(bundle, BASE.setdefault(bundle, started(bundle)), seed)


BASE: dict[Path, list[dict[str, Any]]] = {}


@pytest.mark.slow
def test_thousands_of_changed_snapshots_break_no_law(bundle: Path) -> None:
    base = started(bundle)
    found = [check_changed(bundle, base, seed) for seed in range(SNAPSHOTS)]
    for kind in ("refused", "moves", "policy", "hold"):
        assert found.count(kind) > SNAPSHOTS / 100


@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_rigs_under_a_hostile_graph_break_no_law(bundle: Path, kind: str) -> None:
    hour = many(recorded(bundle)[0], 5000)
    policy = fresh(bundle, Hostile(kind, 1), **LOOSE)
    decision = ask(policy, hour)
    check_laws(policy, hour, decision, policy.limits, unix_s(hour))
    assert bool(decision.moves) == (kind == "random")


def test_a_hostile_graph_spoils_no_average(bundle: Path) -> None:
    ours, spoilt = fresh(bundle), fresh(bundle, Hostile("random", 1))
    for hour in recorded(bundle)[:10]:
        ask(ours, hour)
        ask(spoilt, hour)
    assert averages(spoilt) == averages(ours) != {}


def test_what_fails_inside_is_a_hold_that_says_so(bundle: Path) -> None:
    class Failing(Graph):
        def run(self, seen: Snapshot, memory: Any, dt_h: float) -> Ints:
            raise RuntimeError("no such thing")

    decision = ask(fresh(bundle, Failing(), **LOOSE), recorded(bundle)[0])
    assert decision.source == "hold"
    assert "internal error" in decision.reason
    assert decision.holds


def test_where_the_graph_gives_no_answer_the_rule_decides_and_it_is_said(bundle: Path) -> None:
    class Dumb(Graph):
        def run(self, seen: Snapshot, memory: Any, dt_h: float) -> None:
            return None

    dumb, rule = fresh(bundle, Dumb(), **LOOSE), fresh(bundle, **{**LOOSE, "max_novelty": 0.0})
    for hour in recorded(bundle)[:24]:
        decision = ask(dumb, hour)
        assert (decision.source, decision.orders) == ("rule", ask(rule, hour).orders)
        assert decision.reason == "the policy's graph gave no answer"


def test_a_state_that_cannot_be_saved_costs_no_decision(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    policy, hours = fresh(bundle, state=folder, **LOOSE), recorded(bundle)
    folder.rmdir()
    assert ask(policy, hours[0]).source == "policy"
    assert "state not saved" in caplog.text
    assert ask(policy, hours[1]).source == "policy"


def test_a_rig_of_a_misspelt_gpu_is_not_switched_off_but_told(bundle: Path) -> None:
    """Its own facts are given, so that nothing else gives the mistake away."""
    policy, hour = fresh(bundle, **LOOSE), recorded(bundle)[0]
    gpus = [*policy.bundle.columns.rigs.catalog]
    own = {
        "gpu": gpus[0].upper().replace("_", " "),
        "vram_gb": 24,
        "fp16_tflops": 80,
        "bandwidth_gb_s": 900,
    }
    for rig in hour["rigs"].values():
        rig |= {**own, "network": "akash", "owned": True, "leaving_usd": 0.0, "tenure_h": 99.0}
    decision = ask(policy, hour)
    assert not decision.orders
    for rig, why in decision.holds.items():
        start = f"{rig}: no work of it is known on akash, where it is ({own['gpu']} is not known"
        start = f"{start}: did you mean {gpus[0]}?)"
        assert why.startswith(start)
        assert [one.text for one in decision.acted].count(why) == 1


def test_a_guardrail_that_names_no_network_is_told(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Policy.load(bundle, guardrails={"deny": ["Akash", "off"], "max_network_rigs": {"akash": 1}})
    assert [record.getMessage() for record in caplog.records] == [
        "guardrails name 'Akash', which is no network of the bundle's"
    ]
