"""The report: one file that needs nothing else, names everything and says what the figures say."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rich.console import Console

from agents import comparison, scoring
from agents.comparison import Comparison, play
from agents.drawing import apart
from agents.headline import unlearned, verdict
from agents.hindsight import CAUSES
from agents.report import report
from agents.rules import RULES, EmaHysteresis
from agents.run_folder import to_json
from agents.scoring import ACCOUNTS
from agents.summary import (
    BASES,
    MARKS,
    Row,
    accounts_csv,
    acquisition_cost,
    moves_csv,
    scores_csv,
    summarise,
)
from agents.terminal import show_table
from agents.tuning import Tuned
from env.scenario import build_scenario
from env.state import CHARGES

NASTY = '<b>&"$x$'  # a name that must stay text
OPPONENT, OTHERS = "percent_threshold", ("hold", "greedy")
SEEDS = list(range(1 << 21, (1 << 21) + 6))


@cache
def compared(subject: tuple[str, ...] = ("ppo",), bound: float = 2.0) -> Comparison:
    """Two days of six worlds; the bound is a stand-in, the opponent's mean times a factor."""
    tuned = Tuned({n: RULES[n]() for n in (OPPONENT, *OTHERS)}, OPPONENT)
    learned = {name: EmaHysteresis(margin=0.1 + k) for k, name in enumerate(subject)}
    played = play(build_scenario("small", "core", horizon=48), learned, tuned, SEEDS, 2, 1, print)
    worlds = np.full(len(SEEDS), played.net(OPPONENT).mean())
    return replace(played, bound=worlds * bound, expected=worlds * (1 + bound) / 2)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds have tests of their own; here only their place in the figures counts."""
    for bound in ("clairvoyant", "expected_bound"):
        monkeypatch.setattr(comparison, bound, lambda *_: np.zeros(len(SEEDS)))


def page(one: Comparison, made: dict[str, str] | None = None) -> str:
    return report(one, {"split": "test", **summarise(one, 200)}, made or {"command": NASTY})


@cache
def main_page() -> str:
    """The page of a single subject, drawn once."""
    return page(compared())


def row(one: Comparison, name: str) -> Row:
    found: Row = summarise(one, 200)["policies"][name]
    return found


class Links(HTMLParser):
    """Every address that a page refers to, and the names of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = ("href", "xlink:href", "src", "srcset", "data", "action", "poster")
        self.found += [value or "" for key, value in attrs if key in named]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = main_page()
    links = Links()
    links.feed(text)
    assert links.found  # pictures inside the file
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links.found)
    assert not links.tags & {"script", "link", "iframe", "object", "embed", "img"}
    assert "@import" not in text
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))


def test_names_stay_text_wherever_they_stand() -> None:
    text = page(compared((NASTY,)))
    assert "<b>&" not in text
    assert text.count("&lt;b&gt;&amp;") >= 8  # title, headline, table, legends, pictures


def test_the_page_shows_every_policy_network_and_section() -> None:
    one, text = compared(), main_page()
    bounds = ("clairvoyant bound", "bound, leases unknown")
    for name in (*one.scores, *one.scenario.network_names[:-1], *bounds):
        assert f">{name}<" in text, name
    for heading in ("Policies", "Profit over time", "Regret", "Where each dollar went"):
        assert f"<h2>{heading}</h2>" in text
    assert text.count("<svg ") == text.count("</svg>") == 7


def test_a_page_can_be_of_the_best_rule_alone() -> None:
    """`policy=hold` where nothing beats it: there is nobody to compare it with."""
    tuned = Tuned({"hold": RULES["hold"]()}, "hold")
    one = play(compared().scenario, tuned.rules, tuned, SEEDS, 2, 1, lambda _: None)
    text = page(replace(one, bound=one.net("hold") + 1.0, expected=one.net("hold") + 1.0))
    assert ">hold<" in text
    assert text.count("<svg ") == text.count("</svg>") > 0


def test_the_same_figures_give_the_same_page() -> None:
    assert page(compared()) == main_page()


@pytest.mark.parametrize("subject", [("hold",), (OPPONENT,), ("ppo seed 0", "ppo seed 1")])
def test_a_page_is_drawn_for_any_subject(subject: tuple[str, ...]) -> None:
    one = compared(("ppo seed 0", "ppo seed 1")) if len(subject) > 1 else compared()
    text = page(replace(one, subject=subject))
    assert all(name in text for name in subject)


def test_a_narrow_headroom_is_said_before_anything_else() -> None:
    one = compared()
    best = one.ranked[0]
    worlds = np.full(len(SEEDS), one.net(best).mean() / 0.98)
    one = replace(one, bound=worlds, tuned=Tuned(one.tuned.rules, best))
    (said,) = summarise(one, 200)["warnings"]
    assert said.startswith("headroom is 2.0%, below 5%")
    text = page(one)
    assert text.index('class="warning"') < text.index('class="tiles"')
    assert summarise(compared(), 200)["warnings"] == []


def test_rules_that_nobody_tuned_are_called_so_wherever_the_page_speaks_of_them() -> None:
    one = compared()
    one = replace(one, tuned=replace(one.tuned, sought=False))
    summary = summarise(one, 200)
    (said,) = summary["warnings"]
    assert said.startswith("no rule was tuned for these worlds")
    assert not summary["rules_tuned"]
    assert summary["verdict"].endswith("the untuned rule")
    text = page(one)
    assert text.index('class="warning"') < text.index('class="tiles"')
    assert "default knobs, which nobody tuned" in text
    assert not re.search(r"(?<!un)tuned rule|were tuned on training", text)
    console = Console(record=True, width=200)
    show_table({"split": "test", **summary}, console)
    printed = console.export_text()
    assert "warning: no rule was tuned" in printed
    assert not re.search(r"(?<!un)tuned rule", printed)


def test_a_policy_that_is_still_its_start_is_not_said_to_have_learned() -> None:
    (said,) = unlearned({"ppo seed 0": 0, "ppo seed 1": 512, "ppo seed 2": 0})
    assert said.startswith("ppo seed 0, ppo seed 2 are the rule that training started from")
    assert unlearned({"ppo": 512}) == unlearned({}) == []


def test_a_bound_below_a_policy_is_not_kept_quiet() -> None:
    said = summarise(compared(bound=0.5), 200)
    assert any("the bound lies below" in warning for warning in said["warnings"])
    assert said["gap_closed"] is None
    assert "n/a" in page(compared(bound=0.5))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.3, "better than the tuned rule"),
        (-0.3, -0.1, "worse than the tuned rule"),
        (-0.1, 0.3, "not distinguishable from the tuned rule"),
        (0.0, 0.0, "not distinguishable from the tuned rule"),
        (float("nan"), float("nan"), "not distinguishable from the tuned rule"),
    ],
)
def test_the_verdict_is_what_the_interval_allows(low: float, high: float, expected: str) -> None:
    assert verdict(low, high) == expected


def test_the_headline_is_gap_closed_of_the_subject_over_the_opponent() -> None:
    one = compared(("ppo seed 0", "ppo seed 1"))
    said = summarise(one, 500)
    tuned = one.net(OPPONENT).mean()
    ours = np.mean([one.net(name).mean() for name in one.subject])
    assert said["gap_closed"] == pytest.approx((ours - tuned) / (one.bound.mean() - tuned))
    assert said["gap_closed_low"] <= said["gap_closed"] <= said["gap_closed_high"]
    assert said["headroom"] == pytest.approx(1 - tuned / one.bound.mean())
    gap, low, high = (said[f"gap_closed_expected{end}"] for end in ("", "_low", "_high"))
    assert low <= gap <= high
    assert gap == pytest.approx((ours - tuned) / (one.expected.mean() - tuned))
    assert said["headroom_expected"] == pytest.approx(1 - tuned / one.expected.mean())
    assert said["bound_expected_usd_rig_day"] == pytest.approx(one.expected.mean())
    assert said["policies"][OPPONENT]["gap_closed"] == 0.0
    assert said["policies"][OPPONENT]["probability_of_improvement"] == 0.5
    json.loads(to_json(said), parse_constant=lambda word: pytest.fail(word))  # no NaN, no Infinity


def test_the_summary_s_money_adds_up() -> None:
    one = compared()
    for name in one.scores:
        figures = row(one, name)
        money = figures["usd_rig_day"]
        net = money["gross_usd"] - sum(money[charge] for charge in CHARGES)
        assert net == pytest.approx(figures["net_usd_rig_day"], rel=1e-5), name
        assert sum(figures["share_of_time"].values()) == pytest.approx(1.0)
        regret = figures["regret"]
        assert sum(regret[cause] for cause in CAUSES) == pytest.approx(regret["usd_rig_day"])


def test_an_acquisition_cost_is_cost_over_value_at_three_marks() -> None:
    booked = dict.fromkeys(ACCOUNTS, 0.0)
    booked.update(gross_usd=100.0, lockup_usd=20.0, slippage_usd=5.0)
    booked.update(energy_usd=10.0, housing_usd=6.0, burn_usd=2.0, penalty_usd=1.0)
    booked.update(financing_usd=1.0, capex_usd=40.0)
    table = acquisition_cost(np.array(list(booked.values())))
    assert (tuple(MARKS), tuple(BASES)) == (
        ("accrual", "unlock", "liquidation"),
        ("energy", "cash", "full"),
    )
    # energy 10, cash 10 + 6 + 2 + 1 + 1, full 20 + 40; worth 100, 80 unlocked, 75 sold
    assert_allclose(table, np.array([[10.0, 20.0, 60.0]]) / np.array([[100.0], [80.0], [75.0]]))
    assert np.isnan(acquisition_cost(np.zeros(len(ACCOUNTS)))).all()


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def by(rows: list[dict[str, str]], column: str) -> Callable[[str], float]:
    return lambda name: sum(float(r[column]) for r in rows if r["policy"] == name)


def test_the_scores_file_has_a_row_for_each_policy_and_world() -> None:
    one = compared()
    rows = read(scores_csv(one))
    assert [(r["policy"], int(r["seed"])) for r in rows] == [
        (name, seed) for name in one.scores for seed in SEEDS
    ]
    for name in one.scores:
        assert by(rows, "net_usd_rig_day")(name) == pytest.approx(one.net(name).sum())
    assert {r["clairvoyant_usd_rig_day"] for r in rows} == {f"{one.bound[0]:.10g}"}


def test_the_accounts_file_sums_to_the_profit_of_each_policy() -> None:
    one = compared()
    rows = read(accounts_csv(one))
    for name, score in one.scores.items():
        assert by(rows, "net_usd")(name) == pytest.approx(score.hourly_usd.sum(0).mean(), rel=1e-5)
        assert by(rows, "moves")(name) == pytest.approx(score.total("moves").mean())
    unused = [r for r in rows if r["network"] == "off" and r["policy"] == "hold"]
    assert [r["full_cost_at_accrual"] for r in unused] == [""]


def test_the_moves_file_leads_every_rig_where_it_was() -> None:
    one, networks = compared(), compared().scenario.network_names
    rows, path = read(moves_csv(one)), one.paths["ppo"].first()
    assert rows
    assert {(r["policy"], r["world"]) for r in rows} == {("ppo", str(SEEDS[0]))}
    place = [networks[n] for n in path.start[0]]
    for hour, (now, moved) in enumerate(zip(path.assignment[:, 0], path.moved[:, 0], strict=True)):
        for row in (r for r in rows if int(r["hour"]) == hour):
            rig = int(row["rig"])
            assert moved[rig]
            assert (place[rig], row["to"]) == (row["from"], networks[now[rig]])
            place[rig] = row["to"]
        assert all(place[k] == networks[n] or not moved[k] for k, n in enumerate(now))
    assert len(rows) == path.moved.sum()


@pytest.mark.slow
def test_processes_that_share_the_worlds_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = compared()
    monkeypatch.setattr(scoring, "WORLDS_AT_ONCE", 4)  # two blocks
    learned = {"ppo": EmaHysteresis(margin=0.1)}
    two = play(one.scenario, learned, one.tuned, SEEDS, 2, 2, lambda _: None)
    for name in one.scores:
        np.testing.assert_array_equal(two.net(name), one.net(name))
        np.testing.assert_array_equal(two.regrets[name].parts_usd, one.regrets[name].parts_usd)
    assert (two.bound > two.net(OPPONENT)).all()


def test_labels_move_apart_as_little_as_they_must() -> None:
    assert apart([1.0, 5.0, 9.0], 2.0) == [1.0, 5.0, 9.0]
    assert apart([4.0, 4.0, 4.0], 2.0) == [2.0, 4.0, 6.0]
    assert apart([0.0, 4.0, 5.0, 20.0], 2.0) == [0.0, 3.5, 5.5, 20.0]
