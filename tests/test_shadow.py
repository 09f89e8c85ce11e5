"""Laws of shadow mode: how a log is valued, and what the verdict says of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluate
from agents.anytime import FIRST_DAY
from agents.shadow import Fleet, Rehearsal, read_log
from agents.statistics import Floats
from agents.verdict import Verdict, shadow_log
from env.errors import InputError

DATE = datetime(2026, 3, 1, tzinfo=UTC)
STAY = "akash"


@pytest.fixture(scope="session")
def recorded(bundle: Path) -> dict[str, Any]:
    """A recorded snapshot, every rig of it on one network where it can work."""
    golden = json.loads((bundle / "golden.json").read_text())
    snapshot: dict[str, Any] = golden["sequences"][0]["hours"][0]["snapshot"]
    return {**snapshot, "rigs": {n: r | {"network": STAY} for n, r in snapshot["rigs"].items()}}


def _hour(snapshot: dict[str, Any], k: float, **changed: Any) -> dict[str, Any]:
    """A line of the log `k` hours after the start, in which nothing moves unless said."""
    time = (DATE + timedelta(hours=k)).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = {
        "snapshot": {**snapshot, "time": time},
        "bundle": "any",
        "source": "policy",
        "places": {rig: row["network"] for rig, row in snapshot["rigs"].items()},
        "orders": {},
        "since": {},
    }
    return line | changed


def _log(path: Path, manifest: dict[str, Any], lines: list[dict[str, Any]]) -> Path:
    header = {"log": "shadow", "schema": 1, "manifest": manifest}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    return path


def test_fleets_that_do_the_same_earn_the_same(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    found = read_log(_log(tmp_path / "l.jsonl", manifest, [_hour(recorded, k) for k in range(50)]))
    days, ours, theirs = found.full_days()
    assert len(days) == 2
    assert (ours == theirs).all()
    assert (ours != 0).all()
    assert found.ours.moves == found.theirs.moves == 0


def _two_networks(recorded: dict[str, Any], **right: float) -> dict[str, Any]:
    """A snapshot of one rig that is on `left` and could be on `right`."""
    still = {"gas_usd": 1.0, "provisioning_h": 0.0, "warmup_h": 0.0, "unbonding_h": 0.0}
    still |= {"lease": False, "lease_mean_h": 1.0, "break_h": 0.0, "slots": 0.0, "load": 1.0}
    still |= {"immunity_h": 0.0, "concentration": 1.0, "token_daily_sd": 0.05, "token_usd": 1.0}
    still |= {"fault_multiple": 0.0, "turnover_usd": 1e6, "outside_work": 30.0}
    networks = {
        "left": still | {"estimate_usd": 2.0, "lockup": 0.5, "burn_usd": 0.0},
        "right": still | {"estimate_usd": 3.0, "lockup": 0.0, "burn_usd": 11.0} | right,
    }
    facts = {"gpu": "rtx_4090", "gpu_count": 1, "power_kw": 0.5, "owned": True, "up": True}
    facts |= {"tariff_usd_kwh": 0.2, "housing_usd_h": 0.1, "tenure_h": 999.0, "leaving_usd": 0.0}
    facts |= {"last_gross_usd": 7.1, "last_net_usd": 7.0, "work": {"left": 10.0, "right": 10.0}}
    return {**recorded, "networks": networks, "rigs": {"one": facts | {"network": "left"}}}


LEFT_USD = 2.0 * 0.5 * 10 * 30 / 40  # gross an hour, in a pool of 30 outside and 10 own
RIGHT_USD = 3.0 * 10 * 30 / 40
ENERGY_USD = 0.5 * 0.2


def test_pay_and_entry_are_those_of_the_facts(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """By hand: a rig is paid its share of each pool less lock-up and energy, the move costs burn
    and gas."""
    snapshot = _two_networks(recorded)
    first = _hour(snapshot, 0, orders={"one": "right"})
    rest = [_hour(snapshot, k, places={"one": "right"}) for k in range(1, 25)]
    found = read_log(_log(tmp_path / "l.jsonl", manifest, [first, *rest]))
    assert found.theirs.usd.sum() == pytest.approx(24 * (LEFT_USD - ENERGY_USD))
    assert found.ours.usd.sum() == pytest.approx(24 * (RIGHT_USD - ENERGY_USD) - 12.0)
    assert found.ours.usd[0] == pytest.approx(-12.0)
    assert (found.ours.moves, found.theirs.moves) == (1, 0)
    assert found.reported_usd == pytest.approx(24 * 7.1)


def test_leaving_costs_only_what_is_really_left(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """A lease is broken by the orchestrator's rig; the rig on paper was never under it."""
    leased, left = _two_networks(recorded), _two_networks(recorded)
    leased["rigs"]["one"]["leaving_usd"] = 5.0
    left["rigs"]["one"]["network"] = "right"
    first = _hour(leased, 0, places={"one": "off"}, orders={"one": "right"})
    found = read_log(_log(tmp_path / "l.jsonl", manifest, [first, _hour(left, 1)]))
    assert found.theirs.usd[0] == pytest.approx(-17.0)
    assert found.ours.usd[0] == pytest.approx(-12.0)


def test_leaving_on_paper_costs_what_it_is_expected_to(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """By hand: of leases of 24 hours on average, six are lost where so much is left of them,
    24 (1 - exp(-6 / 24)) = 5.3088 hours of 2 USD for ten units of work; 876 USD of collateral are
    locked for 100 hours at 12 % a year, 1.20 USD. What the real rig would pay elsewhere counts for
    nothing here."""
    snapshot = _two_networks(recorded)
    leases = {"lease": True, "lease_mean_h": 24.0, "break_h": 6.0, "unbonding_h": 100.0}
    snapshot["networks"]["left"] |= leases | {"rig_collateral_usd": 876.0}
    snapshot["rigs"]["one"] |= {"network": "right", "leaving_usd": 5.0}
    first = _hour(snapshot, 0, places={"one": "left"}, orders={"one": "right"})
    found = read_log(_log(tmp_path / "l.jsonl", manifest, [first, _hour(snapshot, 1)]))
    assert found.ours.usd[0] == pytest.approx(-(106.1759 + 1.2 + 12.0), abs=1e-3)
    assert found.theirs.usd[0] == 0.0


def test_a_rig_whose_network_has_no_row_waits_unpaid_and_is_there_when_it_is_back(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """By hand, with pay that rises with a time constant of eight hours: it goes on rising."""
    snapshot = _two_networks(recorded, warmup_h=8.0)
    rigs = {"one": snapshot["rigs"]["one"] | {"work": {"left": 10.0}}}
    alone = {**snapshot, "networks": {"left": snapshot["networks"]["left"]}, "rigs": rigs}
    lines = [_hour(snapshot, 0, orders={"one": "right"})]
    lines += [_hour(snapshot, k, places={"one": "right"}) for k in range(1, 6)]
    away = {"places": {"one": "right"}, "away": {"right": 0.0}}
    lines[3] = _hour(alone, 3, **away)
    found = read_log(_log(tmp_path / "l.jsonl", manifest, lines))
    warm = [1 - np.exp(-h / 8) for h in (0.5, 1.5, 2.5, 3.5, 4.5)]
    by_hand = [w * RIGHT_USD - ENERGY_USD for w in warm]
    by_hand[2] = 0.0
    assert found.ours.usd == pytest.approx([-12.0, *by_hand])
    assert (found.ours.moves, found.theirs.moves) == (1, 0)
    assert found.theirs.usd[3] == pytest.approx(LEFT_USD - ENERGY_USD)
    lines[3].pop("away")
    unsaid = _log(tmp_path / "m.jsonl", manifest, lines)
    with pytest.raises(InputError, match=r"places\.one: expected a network of the snapshot"):
        read_log(unsaid)


def test_hours_are_lost_to_a_move_only_as_they_are_lived(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """Two hours of provisioning, then pay that rises with a time constant of eight; who leaves
    after six hours has lost those of six."""
    snapshot = _two_networks(recorded, provisioning_h=2.0, warmup_h=8.0)
    first = _hour(snapshot, 0, orders={"one": "right"})
    rest = [_hour(snapshot, k, places={"one": "right"}) for k in range(1, 7)]
    found = read_log(_log(tmp_path / "l.jsonl", manifest, [first, *rest]))
    warm = [0.0, 0.0, *(1 - np.exp(-h / 8) for h in (0.5, 1.5, 2.5, 3.5))]
    by_hand = [-12.0, *(w * RIGHT_USD - ENERGY_USD for w in warm)]
    assert found.ours.usd == pytest.approx(by_hand)


def test_what_the_orchestrator_did_is_read_from_the_next_snapshot(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """A fleet that does as the paper fleet does, an hour at a time, earns the same."""
    rig = next(iter(recorded["rigs"]))
    moved = {**recorded, "rigs": recorded["rigs"] | {rig: {**recorded["rigs"][rig]}}}
    moved["rigs"][rig]["network"] = "off"
    lines = [_hour(recorded, 0), _hour(recorded, 1, orders={rig: "off"})]
    lines += [_hour(moved, k) for k in range(2, 30)]
    found = read_log(_log(tmp_path / "l.jsonl", manifest, lines))
    assert found.theirs.usd == pytest.approx(found.ours.usd)
    assert found.theirs.moves == found.ours.moves == 1


def test_a_gap_is_left_out_and_a_thin_day_does_not_count(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    hours = [*range(30), *range(45, 72)]
    found = read_log(_log(tmp_path / "l.jsonl", manifest, [_hour(recorded, k) for k in hours]))
    assert found.gaps == 1
    assert found.hours.sum() == len(hours) - 2
    assert found.full_days()[0].tolist() == [20513, 20515]  # 1 and 3 March 2026


def test_what_moves_cost_on_a_thin_day_is_charged_to_the_next_full_one(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    """By hand: a log from noon on, a day with an outage, and a last day without hours enough. Both
    fleets move for 12 USD, on paper at the first noon, the orchestrator at the outage."""
    left, right = _two_networks(recorded), _two_networks(recorded)
    right["rigs"]["one"]["network"] = "right"
    paper = {"places": {"one": "right"}}
    lines = [_hour(left, 12, orders={"one": "right"})]
    lines += [_hour(left, k, **paper) for k in range(13, 54)]
    lines += [_hour(right, k, **paper) for k in range(66, 110)]
    lines[-5]["orders"], lines[-4]["places"] = {"one": "left"}, {"one": "left"}
    lines[-4]["orders"] = {"one": "right"}
    found = read_log(_log(tmp_path / "l.jsonl", manifest, lines))
    days, ours, theirs = found.full_days()
    assert days.tolist() == [20514, 20516]  # 2 and 4 March 2026
    full = 24 * (RIGHT_USD - ENERGY_USD)
    assert ours == pytest.approx([full - 12.0, full])
    assert theirs == pytest.approx([24 * (LEFT_USD - ENERGY_USD), full - 12.0])
    assert (found.ours.moves, found.theirs.moves) == (3, 1)


def test_another_bundle_begins_anew(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any]
) -> None:
    path = _log(tmp_path / "l.jsonl", manifest, [_hour(recorded, k) for k in range(40)])
    other = {"log": "shadow", "schema": 1, "manifest": {**manifest, "bundle": "other"}}
    lines = [other, *(_hour(recorded, k) for k in range(40, 50))]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    found = read_log(path)
    assert (found.bundle, len(found.hours)) == ("other", 10)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "l.jsonl:3: expected a line of JSON"),
        ("[]", "l.jsonl:3: expected a JSON object"),
        ("{}", "l.jsonl:3: expected a line of a shadow log"),
        ('{"manifest": 3}', "l.jsonl:3"),
        ('{"snapshot": {"schema": 2}}', "l.jsonl:3"),
    ],
)
def test_a_broken_line_is_named_in_one_line_with_exit_code_2(
    tmp_path: Path,
    manifest: dict[str, Any],
    recorded: dict[str, Any],
    line: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = _log(tmp_path / "l.jsonl", manifest, [_hour(recorded, 0)])
    with path.open("a") as file:
        file.write(line + "\n")
    monkeypatch.setattr("sys.argv", ["evaluate.py", f"shadow={path}"])
    with pytest.raises(SystemExit) as left:
        evaluate.script()
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert said in error
    assert error.count("\n") == 1


def _verdict(difference: Floats) -> Verdict:
    """The verdict on days with that paired difference."""
    hours = np.full(len(difference), 24.0)
    zero = np.zeros(len(difference))
    rehearsal = Rehearsal(
        "any", np.arange(len(difference)), hours, Fleet(difference, zero, 3, 0.1),
        Fleet(zero, zero, 0, 0.0), 0.0, 0,
    )  # fmt: skip
    return Verdict.of(rehearsal)


def test_the_verdict_is_plain() -> None:
    noise = np.random.default_rng(4).standard_normal(100)
    assert _verdict(noise + 2.0).word == "promote"
    assert _verdict(noise - 2.0).word == "hold"
    assert _verdict(noise).word == "not yet known"
    assert _verdict(noise[:20] + 50.0).word == "not yet known"
    assert "28 are needed" in _verdict(noise[:20]).sentence
    assert "would decide" in _verdict(noise).sentence


def test_the_page_needs_nothing_else_and_the_table_no_terminal(
    tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = _log(tmp_path / "l.jsonl", manifest, [_hour(recorded, k) for k in range(75)])
    monkeypatch.setattr("sys.argv", ["evaluate.py", f"shadow={path}"])
    evaluate.script()
    shown = capsys.readouterr().out
    assert "not yet known" in shown
    assert "\x1b" not in shown
    page = (tmp_path / "l.html").read_text()
    assert "<svg" in page
    assert not re.search(r'(src|href)="(?!#)|<script', page)


@pytest.mark.parametrize(("hours", "days"), [(2, 0), (19, 0), (30, 1)])
def test_a_log_of_no_full_day_has_a_verdict_too(
    hours: int, days: int, tmp_path: Path, manifest: dict[str, Any], recorded: dict[str, Any],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = _log(tmp_path / "l.jsonl", manifest, [_hour(recorded, k) for k in range(hours)])
    monkeypatch.setattr("sys.argv", ["evaluate.py", f"shadow={path}"])
    evaluate.script()
    said = f"{days} full days are logged, and {FIRST_DAY} are needed for a first interval."
    assert f"not yet known: {said}" in capsys.readouterr().out
    page = (tmp_path / "l.html").read_text()
    assert said in page
    assert ("<svg" in page) == (days > 0)
    assert "nan" not in page


def test_no_other_argument_stands_beside_a_log() -> None:
    assert shadow_log(["run=folder", "market=replay"]) is None
    assert shadow_log(["shadow=a.jsonl"]) == Path("a.jsonl")
    with pytest.raises(InputError, match="no other argument"):
        shadow_log(["shadow=a.jsonl", "run=folder"])
