"""What the runtime remembers: written whole, read strictly, forgotten in time."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import by_hand

from agents.serve.book import Book
from agents.serve.errors import FieldError
from agents.serve.limits import SLACK_H
from agents.serve.state import (
    FORGET_H,
    HOUR_S,
    RECENT_S,
    Feed,
    Memory,
    Moves,
    Order,
    Paper,
    Regret,
    State,
)
from agents.serve.state_file import FILE, LOCK, claimed, read, save

FEED = Feed((1.0, 2.0, 3.0, 4.0, 5.0), 12.0, 1000.0)
MOVES = Moves({"rig-0": 900.0}, ((900.0, 1),))
REGRET = Regret(
    Paper(Book({"rig-0": "a"}, -1.5), MOVES), Paper(), ((0.0, 0.0), (1000.0, 2.5)), True
)
STATE = State(1000.0, {"a": FEED}, {"rig-0": "a"}, {"rig-0": Order("b", 900.0)}, MOVES, REGRET)
HOUR = by_hand([{"on": "a"}], {"a": {"estimate_usd": 1.0}, "b": {"estimate_usd": 2.0}})


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    memory = Memory(STATE, State())
    save(tmp_path, memory)
    assert read(tmp_path) == memory
    assert os.listdir(tmp_path) == [FILE]


def test_an_empty_folder_is_no_memory_and_is_made(tmp_path: Path) -> None:
    assert read(tmp_path / "new" / "folder") == Memory()
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, Memory(STATE))

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, Memory())
    assert read(tmp_path) == Memory(STATE)
    assert os.listdir(tmp_path) == [FILE]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 4),
        ("shadow", 1),
        ("after", []),
        ("after.time", "now"),
        ("after.nothing", 1),
        ("after.feeds.a", None),
        ("after.feeds.a.averages", [1.0]),
        ("after.feeds.a.fed_h", -1.0),
        ("after.places.rig-0", 3),
        ("after.orders.rig-0", "b"),
        ("after.orders.rig-0", ["b"]),
        ("after.orders.rig-0", [3, 900.0]),
        ("after.orders.rig-0", ["b", None]),
        ("after.moves.last.rig-0", True),
        ("after.moves.recent", [[1.0]]),
        ("after.regret.spent", 1),
        ("after.regret.lead", [1.0]),
        ("after.regret.policy.book.usd", float("nan")),
    ],
)
def test_a_file_of_another_make_is_refused_with_the_field(
    tmp_path: Path, path: str, value: Any
) -> None:
    save(tmp_path, Memory(STATE))
    content = json.loads((tmp_path / FILE).read_text())
    *parts, last = path.split(".")
    at = content
    for part in parts:
        at = at[part]
    at[last] = value
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(FieldError) as refused:
        read(tmp_path)
    assert refused.value.path.startswith(f"{tmp_path / FILE}.{path}")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00"])
def test_a_file_that_is_broken_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(FieldError, match="expected") as refused:
        read(tmp_path)
    assert refused.value.path.startswith(str(tmp_path / FILE))


def test_networks_that_are_not_seen_are_forgotten_after_a_month() -> None:
    snapshot, memory = HOUR
    state = replace(STATE, feeds={"old": FEED, "a": FEED})
    for hours, kept in ((FORGET_H - 1, {"old", "a", "b", "off"}), (FORGET_H, {"a", "b", "off"})):
        now = replace(snapshot, time=FEED.seen + hours * HOUR_S)
        assert set(state.fed(now, memory, np.zeros(3))) == kept


def test_a_network_that_a_snapshot_lacks_is_absent_until_it_was_not_seen_for_the_longest_gap() -> (
    None
):
    state = replace(STATE, feeds={"a": FEED, "gone": FEED})
    for hours, absent in ((0.0, {"gone"}), (6.0, {"gone"}), (6.01, set())):
        snapshot = replace(HOUR[0], time=FEED.seen + hours * HOUR_S)
        assert state.absent(snapshot, 6.0) == absent


def test_moves_are_counted_for_almost_an_hour_and_dated_for_a_month() -> None:
    snapshot, _ = HOUR
    moves = Moves().after({"rig-0": 0.0}, 1, 0.0)
    for since_s, recent in ((0.0, 1), (RECENT_S - 1, 1), (RECENT_S, 0)):
        counters = moves.counters(replace(snapshot, time=since_s), np.zeros(3))
        assert counters.recent_moves == recent
        assert counters.since_move_h.tolist() == [since_s / HOUR_S]
    assert moves.after({}, 0, RECENT_S).recent == ()
    assert moves.after({}, 0, FORGET_H * HOUR_S).last == {}
    assert Moves().counters(snapshot, np.zeros(3)).since_move_h.tolist() == [np.inf]


def asked(times: list[float], most: int) -> list[tuple[float, int]]:
    """(unix s, moves) of a fleet that always moves as many rigs as it still may."""
    moves, made = Moves(), []
    for time in times:
        counted = moves.counters(replace(HOUR[0], time=time), np.zeros(3)).recent_moves
        made.append((time, most - counted))
        moves = moves.after({}, most - counted, time)
    return made


@given(waits=st.lists(st.floats(1.0, 1200.0), max_size=60), most=st.integers(1, 5))
def test_however_often_it_asks_no_hour_less_the_slack_has_more_moves(
    waits: list[float], most: int
) -> None:
    made = asked([*itertools.accumulate(waits)], most)
    for begin, _ in made:
        assert sum(n for time, n in made if begin <= time < begin + RECENT_S) <= most


@given(
    late=st.lists(st.floats(-SLACK_H / 2, SLACK_H / 2, exclude_min=True), min_size=2, max_size=20)
)
def test_an_hourly_loop_that_is_not_punctual_moves_as_many_as_one_that_is(
    late: list[float],
) -> None:
    made = asked([(hour + h) * HOUR_S for hour, h in enumerate(late)], 4)
    assert [n for _, n in made] == [4] * len(late)


def test_averages_that_a_snapshot_brings_count_only_where_none_are_remembered() -> None:
    snapshot, memory = HOUR
    brought = replace(snapshot, time=2000.0, averages=memory + 7.0)
    before, fed_h, given = STATE.memory(brought, 6.0)
    assert given.tolist() == [False, True, True]
    assert before[:, 0].tolist() == [*FEED.averages]
    assert before[:, 1].tolist() == (memory[:, 1] + 7.0).tolist()
    assert fed_h.tolist() == [12.0, FORGET_H, FORGET_H]


def test_the_same_time_is_decided_from_the_state_before() -> None:
    memory = Memory(STATE, State(1.0))
    assert memory.base(1000.0, STATE.digest) == State(1.0)
    assert memory.base(1000.0, "another") is STATE
    assert memory.base(1000.5, STATE.digest) is STATE


def test_a_shadow_does_not_go_on_with_a_live_memory(tmp_path: Path) -> None:
    save(tmp_path, Memory(STATE))
    with pytest.raises(FieldError, match="a folder for the shadow alone") as refused:
        read(tmp_path, shadow=True)
    assert refused.value.path == "--state-dir"
    assert read(tmp_path) == Memory(STATE)


def test_of_a_shadow_only_what_it_knows_of_networks_goes_live(tmp_path: Path) -> None:
    shadow = Memory(STATE, STATE, "digest", shadow=True)
    save(tmp_path, shadow)
    assert read(tmp_path, shadow=True) == shadow
    assert read(tmp_path) == Memory(State(time=STATE.time, feeds=STATE.feeds))
    assert read(tmp_path / "new", shadow=True) == Memory(shadow=True)


def test_a_folder_is_one_processs_at_a_time(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "new"),
        pytest.raises(FieldError, match="no other process uses"),
        claimed(tmp_path / "new"),
    ):
        raise AssertionError("both have it")
    with claimed(tmp_path / "new"), claimed(None):
        assert (tmp_path / "new").is_dir()


def test_whoever_claims_a_folder_removes_the_drafts_of_the_dead_and_of_nobody_who_lives(
    tmp_path: Path,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = [ended.pid, os.getpid(), 10**30]  # the second: of the last process of this number
    kept = [f".{FILE}.{os.getppid()}", f".{FILE}.copy", "notes"]
    for name in (*(f".{FILE}.{pid}" for pid in dead), *kept):
        (tmp_path / name).touch()
    with claimed(tmp_path):
        assert {*os.listdir(tmp_path)} == {*kept, LOCK}
